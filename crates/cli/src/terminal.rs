//! The terminal: raw mode that is undone on every way out, its size, and its detach keys.

use std::io::IsTerminal;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::failure::Failure;

/// Standard input in raw mode; restored when dropped.
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode if standard input is a terminal.
    pub(crate) fn enter() -> Result<Option<Self>, Failure> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(None);
        }
        let failed = |e: rustix::io::Errno| Failure::new(format!("cannot set the terminal: {e}"));
        let before = tcgetattr(&input).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone, and there is nobody to tell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Rows and columns of the terminal, if there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdout())
        .or_else(|_| tcgetwinsize(std::io::stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Rows and columns of one terminal.
pub(crate) fn size_of(terminal: impl std::os::fd::AsFd) -> Option<(u16, u16)> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Columns of the terminal that output goes to, if it goes to one; 0 where that does not know.
pub(crate) fn columns() -> Option<u16> {
    Some(tcgetwinsize(std::io::stdout()).ok()?.ws_col)
}

/// The keys that detach, as `--detach-keys` writes them: `ctrl-p,ctrl-q`, `a,b`.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>, Failure> {
    let key = |word: &str| -> Option<u8> {
        let code = match word.strip_prefix("ctrl-") {
            Some(letter) => {
                let [letter] = letter.as_bytes() else {
                    return None;
                };
                match letter {
                    b'a'..=b'z' => letter - b'a' + 1,
                    b'@' => 0,
                    b'[' | b'\\' | b']' | b'^' | b'_' => letter - b'A' + 1,
                    _ => return None,
                }
            }
            None => match word.as_bytes() {
                [letter] => *letter,
                _ => return None,
            },
        };
        Some(code)
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| {
        Failure::with_code(125, format!("invalid --detach-keys {text:?}: expected a letter or ctrl-LETTER, separated by commas"))
    })
}

/// Notices when the detach keys are typed. The engine acts on them; this only remembers why the stream ended.
pub(crate) struct DetachWatch {
    keys: Vec<u8>,
    matched: usize,
    seen: bool,
}

impl DetachWatch {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self {
            keys,
            matched: 0,
            seen: false,
        }
    }

    /// Looks at typed bytes.
    pub(crate) fn typed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.matched = match () {
                () if self.keys.get(self.matched) == Some(byte) => self.matched + 1,
                () if self.keys.first() == Some(byte) => 1,
                () => 0,
            };
            if self.matched == self.keys.len() && !self.keys.is_empty() {
                self.seen = true;
                self.matched = 0;
            }
        }
    }

    /// Whether the sequence was typed.
    pub(crate) const fn seen(&self) -> bool {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_noticed_across_reads() {
        assert_eq!(detach_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-@,x,ctrl-]").unwrap(), [0, b'x', 29]);
        assert!(detach_keys("ctrl-").is_err() && detach_keys("meta").is_err());
        let mut watch = DetachWatch::new(vec![16, 17]);
        watch.typed(&[16, 16]);
        assert!(!watch.seen());
        watch.typed(&[17, b'x']);
        assert!(watch.seen());
    }
}
