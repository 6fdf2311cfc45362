//! Directories made before anybody asks for them.
//!
//! On ext4 making a directory costs many times what renaming one does, the more so soon after many were deleted (without a
//! journal it looks at every recently freed inode before it takes the next). So a few lie ready; making them is off the way of
//! whoever creates a container.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many lie ready at most.
const READY: usize = 8;

/// The names of those that lie ready.
#[derive(Debug, Default)]
pub struct Blanks {
    /// Short sections only.
    ready: Mutex<Vec<String>>,
    made: AtomicU64,
    /// Held while some are made, so that a burst of requests makes no more than are wanted.
    filling: Mutex<()>,
}

impl Blanks {
    /// Begins the name of each; who finds one at the start of an engine may delete it.
    pub const PREFIX: &str = ".blank-";

    /// One that is ready, no longer known here.
    pub fn take(&self) -> Option<String> {
        self.ready().pop()
    }

    /// Has `make` make directories of these names until enough lie ready. Returns at once when somebody is at it. Blocking.
    ///
    /// # Errors
    /// The first failure of `make`; what it left under that name is the caller's to sweep.
    pub fn fill(&self, make: impl Fn(&str) -> io::Result<()>) -> io::Result<()> {
        let Ok(_turn) = self.filling.try_lock() else {
            return Ok(());
        };
        while self.ready().len() < READY {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}{number}", Self::PREFIX);
            make(&name)?;
            self.ready().push(name);
        }
        Ok(())
    }

    fn ready(&self) -> MutexGuard<'_, Vec<String>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_names_never_come_again() {
        let blanks = Blanks::default();
        assert_eq!(blanks.take(), None);
        let made = Mutex::new(Vec::new());
        let make = |name: &str| {
            made.lock().unwrap().push(name.to_owned());
            Ok(())
        };
        blanks.fill(make).unwrap();
        let first = blanks.take().unwrap();
        blanks.fill(make).unwrap();
        let mut seen: Vec<String> = std::iter::from_fn(|| blanks.take()).collect();
        assert_eq!(seen.len(), READY);
        assert!(!seen.contains(&first));
        seen.push(first);
        seen.sort();
        let mut made = made.lock().unwrap().clone();
        made.sort();
        assert_eq!(seen, made);
    }

    #[test]
    fn a_failure_is_told_and_what_was_made_stays_usable() {
        let blanks = Blanks::default();
        let make = |name: &str| match name {
            ".blank-2" => Err(io::Error::other("full")),
            _ => Ok(()),
        };
        assert_eq!(blanks.fill(make).unwrap_err().to_string(), "full");
        assert_eq!(std::iter::from_fn(|| blanks.take()).count(), 2);
    }
}
