//! seccomp(2): a filter on the calling thread, for tests and for threads that confine themselves.
//!
//! rustix and libc offer no safe call; seccompiler would bring its own compiler along.

use std::io;

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

/// Sets `no_new_privs` and installs `program` (`struct sock_filter` records, eight bytes each, native byte order) on
/// the calling thread and all it will start. There is no way back.
///
/// Errors: `EINVAL` where the kernel refuses the program or a flag.
pub fn install_filter(program: &[u8], flags: u32) -> io::Result<()> {
    let filters: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|record| libc::sock_filter {
            code: u16::from_ne_bytes([record[0], record[1]]),
            jt: record[2],
            jf: record[3],
            k: u32::from_ne_bytes([record[4], record[5], record[6], record[7]]),
        })
        .collect();
    let length = u16::try_from(filters.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: filters.as_ptr().cast_mut(),
    };
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: `program` and the records it points to live until the call returns; the kernel copies and never writes
    // them, so casting away const is sound; `len` is the number of records.
    // JUSTIFICATION: neither std nor rustix wraps seccomp(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(code: u16, jumps: [u8; 2], k: u32) -> Vec<u8> {
        [&code.to_ne_bytes()[..], &jumps, &k.to_ne_bytes()].concat()
    }

    #[test]
    fn a_filter_holds_for_its_thread_alone() {
        // Load the number; sethostname fails with EACCES; all else is allowed.
        let number = u32::try_from(libc::SYS_sethostname).unwrap();
        let program = [
            record(0x20, [0, 0], 0),
            record(0x15, [0, 1], number),
            record(0x06, [0, 0], 0x0005_0000 | libc::EACCES.cast_unsigned()),
            record(0x06, [0, 0], 0x7fff_0000),
        ]
        .concat();
        // A name too long is EINVAL, or EPERM without root, where nothing filters.
        let name = [b'x'; 100];
        let filtered = std::thread::spawn(move || {
            install_filter(&program, 0).unwrap();
            rustix::system::sethostname(&name)
        });
        assert_eq!(filtered.join().unwrap(), Err(rustix::io::Errno::ACCESS));
        assert_ne!(
            rustix::system::sethostname(&name),
            Err(rustix::io::Errno::ACCESS)
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let refused = std::thread::spawn(|| install_filter(&record(0xffff, [0, 0], 0), 0));
        let error = refused.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
