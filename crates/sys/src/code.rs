//! The pages of a program's own code.

use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// Takes the code that this program has run so far out of its memory. What runs again is mapped again from the page cache, a
/// stretch at a time; what only the start needed stays out, and the kernel may have its pages back.
///
/// # Errors
/// When /proc/self/maps cannot be read or the kernel refuses the advice; nothing is lost then.
pub fn let_go_of_code() -> io::Result<()> {
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some((start, length)) = code(line) {
            let start = std::ptr::with_exposed_provenance_mut(start);
            // SAFETY: the range is a private mapping of a file, readable and executable and never writable (proc(5), maps), so
            // none of its pages differs from the file's: what the kernel drops here it reads again, the same bytes, at
            // the next access. That holds for the code that is running now, too.
            // JUSTIFICATION: rustix, the safe crate for this, marks the call unsafe because of writable memory.
            unsafe { madvise(start, length, Advice::LinuxDontNeed) }?;
        }
    }
    Ok(())
}

/// Start and length of a mapping of a file's code, from its line in /proc/self/maps.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, _offset, _device, inode) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    if permissions != "r-xp" || inode == "0" {
        return None;
    }
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_a_file_is_taken_for_it() {
        let line = |permissions: &str, inode: u32| {
            code(&format!("7f00-8f00 {permissions} 0001 00:28 {inode}  /a"))
        };
        assert_eq!(line("r-xp", 7), Some((0x7f00, 0x1000)));
        for other in ["r--p", "rw-p", "rwxp", "r-xs"] {
            assert_eq!(line(other, 7), None);
        }
        assert_eq!(line("r-xp", 0), None);
        assert_eq!(
            code("ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]"),
            None
        );
        assert_eq!(code(""), None);
    }

    #[test]
    fn the_program_goes_on() {
        let before = fs::read_to_string("/proc/self/status").unwrap();
        let_go_of_code().unwrap();
        let after = fs::read_to_string("/proc/self/status").unwrap();
        let file_pages = |status: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with("RssFile:"));
            let field = line.and_then(|line| line.split_ascii_whitespace().nth(1));
            field.unwrap().parse().unwrap()
        };
        assert!(file_pages(&after) < file_pages(&before));
    }
}
