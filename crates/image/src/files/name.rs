//! Paths of containers as texts, by Go's rules: what Docker does to a path before it asks the kernel.

/// Absolute and tidy, with a `/` or `/.` at its end kept: both mean what is inside a directory, or behind a link
/// (moby `archive.PreserveTrailingDotOrSeparator`).
pub(super) fn clean(path: &str) -> String {
    let mut cleaned = hoist_model::path::clean(path);
    let tail = path.trim_end_matches('/').rsplit('/').next();
    let is_inside = tail == Some(".") && path.ends_with('.');
    if (is_inside || path.ends_with('/')) && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    if is_inside {
        cleaned.push('.');
    }
    cleaned
}

/// The last part: Go's `filepath.Base`.
pub(super) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some(last) if !last.is_empty() => last,
        _ => "/",
    }
}

/// All before the last part, and the last part.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_tidied_as_go_does() {
        for (path, cleaned, last) in [
            ("", "/", "/"),
            ("/", "/", "/"),
            (".", "/.", "."),
            ("a", "/a", "a"),
            ("/a//b/../c/", "/a/c/", "c"),
            ("/a/.", "/a/.", "."),
            ("/../..", "/", "/"),
            ("a/./b", "/a/b", "b"),
            ("/a/b.", "/a/b.", "b."),
        ] {
            let got = clean(path);
            assert_eq!((got.as_str(), base(&got)), (cleaned, last), "{path:?}");
        }
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }
}
