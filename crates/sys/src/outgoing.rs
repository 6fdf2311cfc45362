//! What became of bytes that were sent.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How many bytes (of kernel memory, so at least those of the data) sent on this socket its other end has not read yet; on
/// TCP: has not acknowledged (SIOCOUTQ: unix(7), tcp(7)).
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one int where the pointer points, and the int outlives it.
    // JUSTIFICATION: rustix has FIONREAD, not this one.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_was_read_is_no_longer_counted() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
        here.write_all(b"head").unwrap();
        assert!(unread(here.as_fd()).unwrap() >= 4);
        there.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
    }
}
