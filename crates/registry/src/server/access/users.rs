//! Users and their passwords, from a file as htpasswd writes it: `name:bcrypt`, one a line.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;

/// How long a password that was right is known to be: bcrypt takes some 50 ms of a processor, and clients send it each time.
const REMEMBERED: Duration = Duration::from_secs(600);
/// More than so many are forgotten all at once.
const MOST_REMEMBERED: usize = 4096;
/// The users of a registry.
pub(crate) struct Users {
    hashes: HashMap<String, String>,
    /// Under it what was right is remembered; of this process alone.
    key: hmac::Key,
    /// Held for a look-up.
    right: Mutex<HashMap<[u8; 32], Instant>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("count", &self.hashes.len())
            .finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a file; the error says the line, and no password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = number + 1;
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| format!("line {number}: expected name:bcrypt"))?;
            if name.is_empty() || name.starts_with('@') || name.contains(char::is_whitespace) {
                return Err(format!("line {number}: {name:?} is no name of a user"));
            }
            let is_bcrypt = ["$2y$", "$2a$", "$2b$"]
                .iter()
                .any(|kind| hash.starts_with(kind))
                && hash.len() == 60;
            if !is_bcrypt {
                return Err(format!(
                    "line {number}: the password of {name:?} is not bcrypt (htpasswd -B makes it)"
                ));
            }
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(format!("line {number}: {name:?} is there twice"));
            }
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| error.to_string())?;
        Ok(Self {
            hashes,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            right: Mutex::default(),
        })
    }

    /// Whether the password is known to be right without asking bcrypt.
    pub(crate) fn remembers(&self, name: &str, password: &str) -> bool {
        let Some(mark) = self.mark(name, password) else {
            return false;
        };
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right
            .get(&mark)
            .is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    /// Whether this is the user's password. Blocking, for as long as bcrypt takes, whoever is asked for.
    pub(crate) fn verify(&self, name: &str, password: &str) -> bool {
        // Where there is no such user another's is compared with, so that it takes as long.
        let hash = self
            .hashes
            .get(name)
            .or_else(|| self.hashes.values().next());
        let Some(hash) = hash else {
            return false;
        };
        let is_right =
            bcrypt::verify(password, hash).unwrap_or(false) && self.hashes.contains_key(name);
        if is_right && let Some(mark) = self.mark(name, password) {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= MOST_REMEMBERED {
                right.clear();
            }
            right.insert(mark, Instant::now());
        }
        is_right
    }

    fn mark(&self, name: &str, password: &str) -> Option<[u8; 32]> {
        let hash = self.hashes.get(name)?;
        let text = format!("{name}\0{hash}\0{password}");
        hmac::sign(&self.key, text.as_bytes())
            .as_ref()
            .try_into()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "alice:$2y$04$SAs2IzJT0mu1KE6jqPSI/.WZRNGSjbWHcKEunt8.Ir6FpHsR3Bp2e\n";

    #[test]
    fn passwords_are_bcrypts() {
        let users = Users::parse(ALICE).unwrap();
        assert!(!users.remembers("alice", "wonderland"));
        assert!(users.verify("alice", "wonderland"));
        assert!(users.remembers("alice", "wonderland"));
        for (name, password) in [
            ("alice", "Wonderland"),
            ("alice", ""),
            ("bob", "wonderland"),
            ("", ""),
        ] {
            assert!(
                !users.verify(name, password) && !users.remembers(name, password),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_no_line_is_named() {
        for (text, part) in [
            ("alice", "line 1: expected name:bcrypt"),
            (
                "# comment\n\nalice:secret",
                "line 3: the password of \"alice\" is not bcrypt",
            ),
            ("@users:$2y$", "\"@users\" is no name"),
            (
                &format!("{ALICE}{ALICE}"),
                "line 2: \"alice\" is there twice",
            ),
        ] {
            let error = Users::parse(text).unwrap_err();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
