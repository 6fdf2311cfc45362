//! What a container has in the exec-root: a directory with the monitor's socket and the slot for the exit record.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::exit_record;
use crate::monitor::{LogOrder, Order};
use crate::plan::Plan;
use crate::spec::{LogSpec, Process, Streams};

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// The slot for the exit record, filled with zeros, its blocks allocated.
pub(super) fn record_slot(directory: &Path) -> io::Result<OwnedFd> {
    use std::io::Write;
    let mut file = fs::File::create(directory.join("exit"))?;
    file.write_all(&[0; exit_record::LENGTH])?;
    Ok(file.into())
}

/// An address below a directory however deep that is: sun_path ends at 108 bytes.
fn short_address(directory: &fs::File) -> io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}/monitor.sock", directory.as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

fn packet_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

pub(super) fn listener(directory: &Path) -> io::Result<OwnedFd> {
    let _ = fs::remove_file(directory.join("monitor.sock"));
    let directory = fs::File::open(directory)?;
    let socket = packet_socket()?;
    // Before there is a name: a socket's mode is what its file gets.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &short_address(&directory)?)?;
    listen(&socket, 4)?;
    Ok(socket)
}

pub(super) fn connect_monitor(directory: &Path) -> io::Result<OwnedFd> {
    let directory = fs::File::open(directory)?;
    let socket = packet_socket()?;
    connect(&socket, &short_address(&directory)?)?;
    Ok(socket)
}

/// The slot of a container that runs, as it is.
pub(super) fn open_slot(directory: &Path) -> io::Result<OwnedFd> {
    let file = fs::File::options()
        .write(true)
        .open(directory.join("exit"))?;
    Ok(file.into())
}

/// What a monitor is told of a process.
pub(super) fn order(
    plan: Plan,
    process: &Process,
    log: Option<LogOrder>,
    attached: &[(Streams, UnixStream)],
    lasting: bool,
) -> Order {
    Order {
        plan,
        has_listener: lasting,
        has_record: lasting,
        log,
        attached: attached.iter().map(|(streams, _)| *streams).collect(),
        kept: 0,
        terminal: process.terminal.is_some(),
        open_stdin: process.open_stdin,
        stdin_once: process.stdin_once,
    }
}

/// Where a log is, for the monitor that writes it.
pub(super) fn log_order(log: &LogSpec) -> LogOrder {
    LogOrder {
        name: log
            .path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default(),
        max_size: log.max_size,
        max_files: log.max_files,
        format: log.format,
        attributes: log.attributes.clone(),
        buffer: log.buffer,
    }
}

pub(super) fn open_log_directory(log: &LogSpec) -> io::Result<OwnedFd> {
    let directory = log.path.parent().unwrap_or(Path::new("/"));
    Ok(fs::File::open(directory)?.into())
}
