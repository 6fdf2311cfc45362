//! Inline extended attributes of one inode.
//!
//! ```text
//! header, 12 bytes: name filter u32 (unused) | shared count u8 (0) | reserved
//! entry: name length u8 | prefix index u8 | value length u16 | name without its prefix | value | to 4 bytes
//! ```

/// Name prefixes that have a number (erofs_fs.h, EROFS_XATTR_INDEX_*).
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Whole names that have a number.
const NAMES: [(&[u8], u8); 2] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
];

/// Encodes attributes; empty when there are none. What no EROFS can hold (`system.…` other than ACLs) is dropped, as on any
/// file system that does not support it.
pub(super) fn encode<'a>(xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in xattrs {
        let Some((index, suffix)) = split(name) else {
            continue;
        };
        let (Ok(name_len), Ok(value_len)) =
            (u8::try_from(suffix.len()), u16::try_from(value.len()))
        else {
            continue;
        };
        if out.is_empty() {
            out.resize(12, 0);
        }
        out.extend_from_slice(&[name_len, index]);
        out.extend_from_slice(&value_len.to_le_bytes());
        out.extend_from_slice(suffix);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// What the inode's `i_xattr_icount` says for an encoding of some bytes.
pub(super) fn count(bytes: usize) -> u16 {
    if bytes == 0 {
        return 0;
    }
    u16::try_from(1 + (bytes - 12) / 4).expect("the tree limits attributes to 240 KiB an inode")
}

fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    if let Some((_, index)) = NAMES.iter().find(|(whole, _)| *whole == name) {
        return Some((*index, &[]));
    }
    PREFIXES
        .iter()
        .find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)))
        .filter(|(_, suffix)| !suffix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_counted() {
        let pairs: [(&[u8], &[u8]); 3] = [
            (b"user.a", b"xyz"),
            (b"system.posix_acl_access", b"\x02\0\0\0"),
            (b"system.nfs4", b"-"),
        ];
        let bytes = encode(pairs.into_iter());
        assert_eq!(bytes.len(), 12 + 8 + 8);
        assert_eq!(&bytes[12..20], b"\x01\x01\x03\0axyz");
        assert_eq!(count(bytes.len()), 5);
        assert_eq!(count(encode(std::iter::empty()).len()), 0);
    }
}
