//! A machine of its own for one test: a network namespace that plays the host, and another that plays the outside.
//!
//! Everything of `Networks` runs in the first, because its threads are started from a thread that is there: the
//! machine that runs the tests is never touched.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use hoist_model::container::PortRequest;
use hoist_model::network::{GatewayMode, PlaceRequest, Segment, SegmentKind, Subnet};
use hoist_model::{ContainerId, NetworkId};
use hoist_net::{AttachRequest, Attachment, Instance, Networks, Settings};
use hoist_sys::netns;
use rustix::event::{PollFd, PollFlags, poll};

pub(crate) const HOST_V4: &str = "198.51.100.1";
pub(crate) const OUTSIDE_V4: &str = "198.51.100.2";
pub(crate) const HOST_V6: &str = "2001:db8::1";
pub(crate) const OUTSIDE_V6: &str = "2001:db8::2";

/// How long anything that has to come may take, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a datagram is waited for before it is sent again.
const AGAIN: Duration = Duration::from_millis(800);
/// How long a connection is tried that must not come about.
const VAIN: Duration = Duration::from_millis(2400);
/// Held, for writing, from a fork until the program runs: meanwhile the child has twins of all that this process has open.
static FORKS: RwLock<()> = RwLock::new(());

/// The host and the outside.
pub(crate) struct World {
    pub(crate) outside: OwnedFd,
    pub(crate) host: OwnedFd,
}

/// Runs a test in a world of its own; skips it where that cannot be made.
pub(crate) fn with_world(test: impl FnOnce(&World) + Send + 'static) {
    if !hoist_testkit::is_root() {
        return hoist_testkit::skip("network namespaces need root");
    }
    if output(Command::new("ip").arg("-V")).is_err()
        || output(Command::new("nft").arg("-v")).is_err()
    {
        return hoist_testkit::skip(
            "iproute2 and nftables build the world around the network under test",
        );
    }
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let done = std::thread::Builder::new()
        .name(name)
        .spawn(|| {
            netns::enter_new().unwrap();
            let world = World {
                outside: netns::create().unwrap(),
                host: netns::current().unwrap(),
            };
            world.connect();
            test(&world);
        })
        .unwrap()
        .join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command in the calling thread's namespace.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = output(Command::new(words.next().unwrap()).args(words)).unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command in the calling thread's namespace, to its end.
pub(crate) fn output(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command, |child| {
        let pipes = [
            child.stdout.as_ref()?.as_fd(),
            child.stderr.as_ref()?.as_fd(),
        ];
        let mut heard = pipes.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN));
        // Its end is heard as well.
        poll(&mut heard, None).ok().filter(|count| *count > 0)
    })?;
    child.wait_with_output()
}

/// Starts a command in the calling thread's namespace and waits for what shows that its program runs.
///
/// Only then are the twins closed that it has of everything here: the kernel lets the parent go on in the middle of exec,
/// before it closes them.
pub(crate) fn spawn<T>(
    command: &mut Command,
    mut shows: impl FnMut(&mut Child) -> Option<T>,
) -> std::io::Result<Child> {
    let _forking = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    let mut child = command.spawn()?;
    let end = Instant::now() + PATIENCE;
    while shows(&mut child).is_none() {
        assert!(Instant::now() < end, "{command:?} does nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

/// Does what closes sockets: when it returns they are closed, and what they were bound to is free. Must not `run` anything.
pub(crate) fn closing<T>(work: impl FnOnce() -> T) -> T {
    let _no_fork = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Runs something in another namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(netns: impl AsFd, work: impl FnOnce() -> T + Send) -> T {
    let netns = netns.as_fd();
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                netns::enter(netns).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

impl World {
    fn connect(&self) {
        // A new namespace inherits the machine's.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        run("ip link set lo up");
        run("ip link add up0 type veth peer name up1");
        let pid = std::process::id();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.outside);
        run(&format!("ip link set up1 netns /proc/{pid}/fd/{fd}"));
        run(&format!("ip addr add {HOST_V4}/24 dev up0"));
        run(&format!("ip -6 addr add {HOST_V6}/64 dev up0 nodad"));
        std::fs::write("/proc/sys/net/ipv6/conf/up0/accept_dad", "0").unwrap();
        run("ip link set up0 up");
        inside(&self.outside, || {
            run("ip link set lo up");
            run(&format!("ip addr add {OUTSIDE_V4}/24 dev up1"));
            run(&format!("ip -6 addr add {OUTSIDE_V6}/64 dev up1 nodad"));
            std::fs::write("/proc/sys/net/ipv6/conf/up1/accept_dad", "0").unwrap();
            run("ip link set up1 up");
        });
    }
}

/// Networks of an engine, ready.
pub(crate) fn start(change: impl FnOnce(&mut Settings)) -> Networks {
    let mut settings = Settings::new(Instance::default_engine());
    settings.pool_size = 2;
    change(&mut settings);
    let networks = Networks::start(settings).unwrap();
    networks.sweep().unwrap();
    networks
}

pub(crate) fn container() -> ContainerId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    ContainerId::from_bytes(&bytes)
}

/// `[ip:]host:container[/protocol]`, IPv6 in brackets.
pub(crate) fn port(text: &str) -> PortRequest {
    let (host, container) = text.rsplit_once(':').unwrap();
    let (ip, host) = host.rsplit_once(':').map_or((None, host), |(ip, port)| {
        (Some(ip.trim_matches(['[', ']']).parse().unwrap()), port)
    });
    let host: u16 = host.parse().unwrap();
    PortRequest {
        container: container.parse().unwrap(),
        host_ip: ip,
        host_ports: (host, host),
    }
}

pub(crate) fn request(ports: &[&str]) -> AttachRequest {
    AttachRequest {
        container: container(),
        ports: ports.iter().map(|text| port(text)).collect(),
        places: vec![PlaceRequest::default()],
        servers: Vec::new(),
        ndots_set: false,
    }
}

/// A user's network as a plain `docker network create` wants it.
pub(crate) fn segment(name: &str) -> Segment {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Segment {
        id: NetworkId::from_bytes(&bytes),
        name: name.to_owned(),
        kind: SegmentKind::Bridge,
        interface: String::new(),
        adopted: false,
        ipv4: true,
        ipv6: false,
        subnets: Vec::new(),
        internal: false,
        inter_container: true,
        masquerade: true,
        inhibit_ipv4: false,
        mtu: None,
        host_binding: None,
        gateway_mode_v4: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        interface_prefix: String::new(),
    }
}

/// The same with these subnets, of either family.
pub(crate) fn with_subnets(name: &str, subnets: &[&str]) -> Segment {
    let subnet = |text: &&str| Subnet {
        subnet: text.parse().unwrap(),
        gateway: None,
        range: None,
        auxiliary: [].into(),
        configured: true,
    };
    Segment {
        ipv6: subnets.iter().any(|text| text.contains("::")),
        subnets: subnets.iter().map(subnet).collect(),
        ..segment(name)
    }
}

/// A wish for a place on a network.
pub(crate) fn place(network: &Segment) -> PlaceRequest {
    PlaceRequest {
        network: Some(network.id.clone()),
        ..PlaceRequest::default()
    }
}

/// A container on these networks.
pub(crate) fn join(networks: &Networks, of: &[&Segment], ports: &[&str]) -> Attachment {
    let mut attachment = networks
        .attach(&AttachRequest {
            places: of.iter().map(|network| place(network)).collect(),
            ..request(ports)
        })
        .unwrap();
    closing(|| attachment.reserving.clear());
    attachment
}

pub(crate) fn attach(networks: &Networks, ports: &[&str]) -> Attachment {
    let mut attachment = networks.attach(&request(ports)).unwrap();
    closing(|| attachment.reserving.clear());
    attachment
}

/// A server in the namespace of a container: answers every connection with the address it came from and then
/// everything it hears, to the end.
pub(crate) fn serve_tcp(netns: impl AsFd, address: &str) {
    let listener = inside(netns, || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let from = stream.peer_addr().unwrap().ip().to_canonical();
                let _ = writeln!(stream, "{from}");
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
}

/// The same for datagrams: the address they came from, a line end, and what they held.
pub(crate) fn serve_udp(netns: impl AsFd, address: &str) {
    let socket = inside(netns, || UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{}\n", from.ip().to_canonical()).into_bytes();
            answer.extend(&buffer[..length]);
            let _ = socket.send_to(&answer, from);
        }
    });
}

/// Connects from a namespace, sends a line, half-closes, reads to the end; answers the address the server saw.
pub(crate) fn ask_tcp(netns: impl AsFd, to: &str) -> Result<IpAddr, String> {
    try_tcp(netns, to, true)
}

/// Whether the same brings nothing, in the time that is given to what must not come about.
pub(crate) fn in_vain(netns: impl AsFd, to: &str) -> bool {
    try_tcp(netns, to, false).is_err()
}

/// How long is waited for what has to come about, or must not.
fn patience(wanted: bool) -> Duration {
    if wanted { PATIENCE } else { VAIN }
}

/// As `ask_tcp`, where it has to come about; else with little patience.
pub(crate) fn try_tcp(netns: impl AsFd, to: &str, wanted: bool) -> Result<IpAddr, String> {
    let to: SocketAddr = to.parse().unwrap();
    inside(netns, || {
        let fail = |error: std::io::Error| error.to_string();
        // Where the kernel is busy, a link just made may carry nothing for longer than a neighbour is asked for.
        let end = Instant::now() + patience(wanted);
        let mut stream = loop {
            let tried = TcpStream::connect_timeout(&to, patience(wanted));
            match tried {
                Err(error) if is_unreachable(&error) && wanted && Instant::now() < end => {}
                tried => break tried.map_err(fail)?,
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
        stream.write_all(b"hello\n").map_err(fail)?;
        stream.shutdown(std::net::Shutdown::Write).map_err(fail)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(fail)?;
        let (from, echo) = answer.split_once('\n').ok_or("no answer")?;
        assert_eq!(echo, "hello\n");
        from.parse().map_err(|_| answer.clone())
    })
}

fn is_unreachable(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::HostUnreachable
}

/// Sends a datagram from a namespace; answers the address the server saw. The socket is connected, so the answer
/// must come from where the question went.
pub(crate) fn ask_udp(netns: impl AsFd, to: &str) -> Result<IpAddr, String> {
    try_udp(netns, to, true)
}

/// As `ask_udp`, where it has to come about; else with little patience.
pub(crate) fn try_udp(netns: impl AsFd, to: &str, wanted: bool) -> Result<IpAddr, String> {
    let to: SocketAddr = to.parse().unwrap();
    inside(netns, || {
        let fail = |error: std::io::Error| error.to_string();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).map_err(fail)?;
        socket.set_read_timeout(Some(AGAIN)).map_err(fail)?;
        socket.connect(to).map_err(fail)?;
        let mut buffer = [0; 2048];
        // As TCP does by itself: a first packet may come before a link just made carries any.
        let end = Instant::now() + patience(wanted);
        let length = loop {
            let tried = socket.send(b"hello").and_then(|_| socket.recv(&mut buffer));
            match tried {
                Err(_) if Instant::now() < end => {}
                tried => break tried.map_err(fail)?,
            }
        };
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (from, echo) = answer.split_once('\n').ok_or("no answer")?;
        assert_eq!(echo, "hello");
        from.parse().map_err(|_| answer.clone())
    })
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
