//! Settings under /proc/sys/net; they are those of the calling thread's network namespace.

use std::fs;
use std::io::Write;

use crate::error::NetError;

/// Reads a setting, without its line end.
pub(crate) fn read(name: &str) -> Result<String, NetError> {
    fs::read_to_string(path(name))
        .map(|text| text.trim_end().to_owned())
        .map_err(|source| NetError::kernel(format!("read sysctl {name}"), source))
}

/// Writes a setting; never makes a file.
pub(crate) fn write(name: &str, value: &str) -> Result<(), NetError> {
    fs::OpenOptions::new()
        .write(true)
        .open(path(name))
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|source| NetError::kernel(format!("set sysctl {name} to {value}"), source))
}

/// Opens a setting for writing; whoever writes later does so where it was opened. `None` where there is no such setting.
pub(crate) fn open(name: &str) -> Option<fs::File> {
    fs::OpenOptions::new().write(true).open(path(name)).ok()
}

/// Whether a setting exists and is 1.
pub(crate) fn is_on(name: &str) -> bool {
    read(name).is_ok_and(|value| value == "1")
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}
