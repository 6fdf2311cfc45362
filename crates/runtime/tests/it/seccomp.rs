//! The compiled default profile in force on a real kernel, on a thread that ends with the test.

use std::time::Instant;

use hoist_runtime::capabilities::CapabilitySet;
use hoist_runtime::seccomp::{Profile, Seccomp};
use rustix::io::Errno;

#[test]
fn the_default_profile_loads_and_holds() {
    let seccomp = Seccomp::new();
    let capabilities = CapabilitySet::DOCKER_DEFAULT;
    let started = Instant::now();
    let program = seccomp
        .program(Profile::docker_default(), capabilities)
        .unwrap();
    let compiled = started.elapsed();
    let started = Instant::now();
    let again = seccomp
        .program(Profile::docker_default(), capabilities)
        .unwrap();
    let remembered = started.elapsed();
    assert!(std::sync::Arc::ptr_eq(&program, &again));

    let confined = std::thread::spawn(move || {
        let started = Instant::now();
        hoist_sys::seccomp::install_filter(program.bytes(), program.flags()).unwrap();
        let loaded = started.elapsed();
        // What a container does all day.
        assert!(rustix::process::getpid().as_raw_nonzero().get() > 0);
        assert!(std::fs::read("/proc/self/status").is_ok());
        assert!(
            std::process::Command::new("/bin/true")
                .status()
                .unwrap()
                .success()
        );
        // What it must not do: both would otherwise fail in other ways, or succeed.
        let flags = rustix::mount::MountFlags::empty();
        let mount = rustix::mount::mount(c"none", c"/no/such/place", c"tmpfs", flags, None);
        assert_eq!(mount, Err(Errno::PERM));
        assert_eq!(rustix::system::sethostname(b"x"), Err(Errno::PERM));
        let opened = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty());
        assert_eq!(opened.err(), Some(Errno::PERM));
        let alg = rustix::net::AddressFamily::from_raw(38);
        let socket = rustix::net::socket(alg, rustix::net::SocketType::SEQPACKET, None);
        assert_eq!(socket.err(), Some(Errno::PERM));
        println!(
            "{} instructions: compiled in {compiled:?}, remembered in {remembered:?}, loaded in {loaded:?}",
            program.instructions()
        );
    });
    confined.join().unwrap();
}
