//! The local driver's options (moby `volume/local/local_unix.go`): what is mounted on a volume's directory, and how.
//!
//! `type`, `device` and `o` are those of mount(8); words of `o` that mount(8) knows as flags become attributes of the mount,
//! the rest goes to the file system. Texts of refusals are Docker's.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoist_model::quantity;
use hoist_sys::mount_attributes::{
    MountAttributes, NO_ACCESS_TIME, NO_DEV, NO_DIRECTORY_ACCESS_TIME, NO_EXEC, NO_SUID, READ_ONLY,
    STRICT_ATIME, set_attributes,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Finds the address of a host name; may block for seconds.
pub type ResolveName = dyn Fn(&str) -> io::Result<IpAddr> + Send + Sync;

/// What a volume with options is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DriverOptions {
    kind: String,
    device: String,
    words: String,
}

/// A word of `o` that is a flag of mount(8): its bit in mount(2), whether it clears it, its attribute of a mount, and its
/// name as a flag of the file system.
struct Flag {
    name: &'static str,
    clear: bool,
    bit: u64,
    attribute: u64,
    file_system: &'static str,
}

const fn flag(name: &'static str, bit: u64, attribute: u64, file_system: &'static str) -> Flag {
    Flag {
        name,
        clear: false,
        bit,
        attribute,
        file_system,
    }
}

const fn unset(name: &'static str, bit: u64, attribute: u64) -> Flag {
    Flag {
        name,
        clear: true,
        bit,
        attribute,
        file_system: "",
    }
}

const MS_BIND: u64 = 0x1000;
const MS_REC: u64 = 0x4000;

/// As `moby/sys/mount` reads them, bits of mount(2).
const FLAGS: [Flag; 25] = [
    unset("defaults", 0, 0),
    flag("ro", 0x1, READ_ONLY, "ro"),
    unset("rw", 0x1, READ_ONLY),
    flag("nosuid", 0x2, NO_SUID, ""),
    unset("suid", 0x2, NO_SUID),
    flag("nodev", 0x4, NO_DEV, ""),
    unset("dev", 0x4, NO_DEV),
    flag("noexec", 0x8, NO_EXEC, ""),
    unset("exec", 0x8, NO_EXEC),
    flag("sync", 0x10, 0, "sync"),
    unset("async", 0x10, 0),
    flag("mand", 0x40, 0, "mand"),
    unset("nomand", 0x40, 0),
    flag("dirsync", 0x80, 0, "dirsync"),
    flag("noatime", 0x400, NO_ACCESS_TIME, ""),
    unset("atime", 0x400, NO_ACCESS_TIME),
    flag("nodiratime", 0x800, NO_DIRECTORY_ACCESS_TIME, ""),
    unset("diratime", 0x800, NO_DIRECTORY_ACCESS_TIME),
    flag("relatime", 0x20_0000, 0, ""),
    unset("norelatime", 0x20_0000, 0),
    flag("strictatime", 0x100_0000, STRICT_ATIME, ""),
    unset("nostrictatime", 0x100_0000, STRICT_ATIME),
    flag("bind", MS_BIND, 0, ""),
    flag("rbind", MS_BIND | MS_REC, 0, ""),
    unset("nofail", 0, 0),
];

/// The words of `o` sorted out.
#[derive(Debug, Default)]
struct Sorted {
    bits: u64,
    attributes: u64,
    file_system: Vec<&'static str>,
    data: Vec<String>,
}

fn sorted(words: &str) -> Sorted {
    let mut sorted = Sorted::default();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == word) else {
            sorted.data.push(word.to_owned());
            continue;
        };
        if flag.clear {
            sorted.bits &= !flag.bit;
            sorted.attributes &= !flag.attribute;
            let same = |name: &&str| {
                let of = FLAGS.iter().find(|flag| flag.file_system == *name);
                of.is_none_or(|of| of.bit != flag.bit)
            };
            sorted.file_system.retain(same);
        } else {
            sorted.bits |= flag.bit;
            sorted.attributes |= flag.attribute;
            if !flag.file_system.is_empty() {
                sorted.file_system.push(flag.file_system);
            }
        }
    }
    sorted
}

impl DriverOptions {
    /// Reads and checks options; `None` where nothing is mounted.
    pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
        if let Some(option) = options.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(format!("invalid option: {option:?}"));
        }
        let option = |name: &str| options.get(name).cloned().unwrap_or_default();
        if let Some(size) = options.get("size") {
            let bytes = quantity::bytes(size).ok_or_else(|| format!("invalid size: '{size}'"))?;
            if bytes > 0 {
                // Quotas of projects, which Docker has on XFS with pquota alone.
                return Err("quota size requested but no quota support".to_owned());
            }
        }
        for (name, needs) in [
            ("device", "type"),
            ("type", "device"),
            ("o", "device"),
            ("o", "type"),
        ] {
            if options.contains_key(name) && !options.contains_key(needs) {
                return Err(format!("missing required option: {needs:?}"));
            }
        }
        let (kind, device) = (option("type"), option("device"));
        if kind == "cifs" && has_port(&device) {
            return Err("port not allowed in CIFS device URL, include 'port' in 'o='".to_owned());
        }
        // Empty values are as good as none.
        if kind.is_empty() && device.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            kind,
            device,
            words: option("o"),
        }))
    }

    /// Mounts on `target`. Blocking, for a file system of the network for as long as the kernel tries.
    pub(super) fn mount(&self, target: &Path, resolve: &ResolveName) -> Result<(), String> {
        if self.device.is_empty() {
            return Err("missing device in volume options".to_owned());
        }
        let (device, words) = self.with_addresses(resolve)?;
        let sorted = sorted(&words);
        let mounted = if sorted.bits & MS_BIND != 0 {
            bind(&device, &sorted).map_err(|error| (error, String::new()))
        } else {
            file_system(&self.kind, &device, &sorted)
        };
        let placed = mounted.and_then(|mount| {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&mount, "", CWD, target, flags)
                .map_err(|error| (io::Error::from(error), String::new()))
        });
        placed.map_err(|(error, said)| {
            let mut text = format!(
                "failed to mount local volume: mount {device}:{}",
                target.display()
            );
            if sorted.bits != 0 {
                text += &format!(", flags: 0x{:x}", sorted.bits);
            }
            if !sorted.data.is_empty() {
                let data = sorted.data.iter().map(|word| hide_password(word));
                text += &format!(", data: {}", data.collect::<Vec<_>>().join(","));
            }
            text += &format!(": {}", hoist_model::in_words(&error.to_string()));
            if !said.is_empty() {
                text += &format!(" ({said})");
            }
            text
        })
    }

    /// Device and options with host names replaced by addresses, which is what the kernel understands.
    fn with_addresses(&self, resolve: &ResolveName) -> Result<(String, String), String> {
        let failed =
            |error: io::Error| format!("error resolving passed in network volume address: {error}");
        let (mut device, mut words) = (self.device.clone(), self.words.clone());
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok((device, words));
        }
        let address = words.split(',').find_map(|word| word.strip_prefix("addr="));
        if let Some(name) = address.filter(|name| !name.is_empty()) {
            if name.parse::<Ipv4Addr>().is_err() {
                let found = resolve(name).map_err(failed)?;
                words = words.replacen(&format!("addr={name}"), &format!("addr={found}"), 1);
            }
        } else if self.kind == "cifs"
            && let Some((host, rest)) = cifs_host(&device)
            && host.parse::<IpAddr>().is_err()
        {
            let found = resolve(host).map_err(failed)?;
            device = format!("//{found}{rest}");
        }
        Ok((device, words))
    }
}

/// `//host/share` in two.
fn cifs_host(device: &str) -> Option<(&str, &str)> {
    let rest = device.strip_prefix("//")?;
    let end = rest.find('/').unwrap_or(rest.len());
    Some(rest.split_at(end)).filter(|(host, _)| !host.is_empty())
}

fn has_port(device: &str) -> bool {
    cifs_host(device).is_some_and(|(host, _)| {
        let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
        after.contains(':')
    })
}

fn bind(device: &str, sorted: &Sorted) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if sorted.bits & MS_REC != 0 {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = open_tree(CWD, device, flags)?;
    if sorted.attributes != 0 {
        let attributes = MountAttributes::new(sorted.attributes, 0, 0);
        set_attributes(mount.as_fd(), false, &attributes)?;
    }
    Ok(mount)
}

/// A new file system, or why not and what the kernel said of it.
fn file_system(kind: &str, device: &str, sorted: &Sorted) -> Result<OwnedFd, (io::Error, String)> {
    let plain = |error: Errno| (io::Error::from(error), String::new());
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(plain)?;
    let context = context.as_fd();
    let made = || -> Result<OwnedFd, Errno> {
        fsconfig_set_string(context, "source", device)?;
        for name in &sorted.file_system {
            fsconfig_set_flag(context, *name)?;
        }
        for word in &sorted.data {
            match word.split_once('=') {
                Some((name, value)) => fsconfig_set_string(context, name, value)?,
                None => fsconfig_set_flag(context, word.as_str())?,
            }
        }
        fsconfig_create(context)?;
        let bits = u32::try_from(sorted.attributes).unwrap_or_default();
        let attributes = MountAttrFlags::from_bits_retain(bits);
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    made().map_err(|error| (io::Error::from(error), said(context)))
}

/// What the kernel left in the log of a file system in the making.
fn said(context: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
        // Begins with its weight: "e " error, "w " warning, "i " information.
        lines.push(line.get(2..).unwrap_or_default().to_owned());
        if lines.len() == 8 {
            break;
        }
    }
    lines.join("; ")
}

fn hide_password(word: &str) -> String {
    match word.strip_prefix("password=") {
        Some(_) => "password=********".to_owned(),
        None => word.to_owned(),
    }
}

/// Whether something is mounted on a directory.
pub(super) fn is_mounted(path: &Path) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(&opened, "", flags, rustix::fs::StatxFlags::BASIC_STATS)?;
    let root = rustix::fs::StatxAttributes::MOUNT_ROOT;
    Ok(stat.stx_attributes.contains(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> BTreeMap<String, String> {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn options_are_taken_or_refused_in_dockers_words() {
        for (text, expected) in [
            ("", "Ok(None)"),
            ("type=none o=bind device=/srv", "device: \"/srv\""),
            (
                "type=tmpfs device=tmpfs o=size=100m",
                "words: \"size=100m\"",
            ),
            (
                "type=none o=bind",
                "missing required option: \\\"device\\\"",
            ),
            ("device=/srv", "missing required option: \\\"type\\\""),
            (
                "o=bind type=none",
                "missing required option: \\\"device\\\"",
            ),
            ("size=1g", "quota size requested but no quota support"),
            ("size=x", "invalid size: 'x'"),
            ("size=0", "Ok(None)"),
            ("colour=red", "invalid option: \\\"colour\\\""),
            ("type=cifs device=//h:445/x", "port not allowed"),
        ] {
            let found = format!("{:?}", DriverOptions::parse(&options(text)));
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn words_are_flags_or_the_file_systems() {
        let sorted = sorted("ro,nosuid,size=1m,sync,rw,async,uid=7");
        assert_eq!(sorted.bits, 0x2);
        assert_eq!(sorted.attributes, NO_SUID);
        assert!(sorted.file_system.is_empty(), "{sorted:?}");
        assert_eq!(sorted.data, ["size=1m", "uid=7"]);
        assert_eq!(super::sorted("ro,rbind").bits, 0x5001);
    }

    #[test]
    fn names_of_servers_become_addresses() {
        let resolve = |name: &str| match name {
            "nas" => Ok(IpAddr::from([10, 0, 0, 7])),
            _ => Err(io::Error::other("no such host")),
        };
        let of = |text: &str| {
            let parsed = DriverOptions::parse(&options(text)).unwrap().unwrap();
            parsed.with_addresses(&resolve)
        };
        let (device, words) = of("type=nfs o=addr=nas,rw,vers=4 device=:/x").unwrap();
        assert_eq!(
            (device.as_str(), words.as_str()),
            (":/x", "addr=10.0.0.7,rw,vers=4")
        );
        let (device, _) = of("type=cifs o=username=u device=//nas/share").unwrap();
        assert_eq!(device, "//10.0.0.7/share");
        let (_, words) = of("type=nfs o=addr=1.2.3.4 device=:/x").unwrap();
        assert_eq!(words, "addr=1.2.3.4");
        assert!(
            of("type=nfs o=addr=nope device=:/x")
                .unwrap_err()
                .contains("no such host")
        );
    }
}
