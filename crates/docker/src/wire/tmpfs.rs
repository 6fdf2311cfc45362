//! Options of a tmpfs, checked as Docker checks them (moby `pkg/mount`, `MergeTmpfsOptions`; `daemon/volume/mounts`).

use crate::error::ApiError;

/// Words that are flags of the mount.
const FLAGS: [&str; 30] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "rbind",
    "relatime",
    "remount",
    "ro",
    "rprivate",
    "rshared",
    "rslave",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
];

/// Names of what has a value.
const VALUES: [&str; 7] = [
    "gid",
    "mode",
    "mpol",
    "nr_blocks",
    "nr_inodes",
    "size",
    "uid",
];

/// Refuses what neither mount(8) nor tmpfs(5) knows of `--tmpfs`.
pub(crate) fn check(options: &str) -> Result<(), ApiError> {
    let mut words = options.split(',').filter(|word| !word.is_empty());
    let unknown = words.find(|word| match word.split_once('=') {
        Some((name, _)) => !VALUES.contains(&name),
        None => !FLAGS.contains(word),
    });
    match unknown {
        Some(word) => Err(ApiError::invalid(format!("invalid tmpfs option {word:?}"))),
        None => Ok(()),
    }
}

/// `TmpfsOptions.Options`: of all the words Docker takes two here.
pub(crate) fn words(options: Vec<Vec<String>>) -> Result<String, String> {
    let mut words = Vec::with_capacity(options.len());
    for option in options {
        match option.first().map(String::as_str) {
            Some("exec" | "noexec") if option.len() <= 2 => words.push(option.join("=")),
            Some(name) if option.len() <= 2 => return Err(format!("invalid option: {name}")),
            _ => return Err("invalid option array length".to_owned()),
        }
    }
    Ok(words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_or_named() {
        assert!(check("").is_ok());
        assert!(check("rw,size=64m,mode=1777,uid=7,noexec,noatime").is_ok());
        for (options, word) in [
            ("rw,nope", "nope"),
            ("sizes=1", "sizes=1"),
            ("exec=1", "exec=1"),
        ] {
            let refused = check(options).unwrap_err().message;
            assert_eq!(refused, format!("invalid tmpfs option {word:?}"));
        }
    }

    #[test]
    fn mounts_have_two_words() {
        let of = |option: &[&str]| words(vec![option.iter().map(|&w| w.to_owned()).collect()]);
        assert_eq!(of(&["noexec"]).as_deref(), Ok("noexec"));
        assert_eq!(of(&["suid"]).unwrap_err(), "invalid option: suid");
        assert_eq!(of(&[]).unwrap_err(), "invalid option array length");
        assert_eq!(
            of(&["exec", "a", "b"]).unwrap_err(),
            "invalid option array length"
        );
    }
}
