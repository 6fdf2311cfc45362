//! The digest of a stream whose bytes are still needed by whoever has them: much of it is computed on a thread of its own.
//!
//! Hashing a layer and writing it cost about the same. Side by side, a layer takes the longer of the two. What is small is hashed
//! where it is: starting a thread costs as much as hashing 100 KiB.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use hoist_model::Digest;

use crate::sha256::Sha256;

/// Bytes that are hashed before a thread is worth it.
const SMALL: usize = 1 << 20;
/// Bytes that go to the thread at a time.
const BUFFER: usize = 256 << 10;
/// Buffers that go round between the two threads.
const BUFFERS: usize = 4;

pub(super) enum BackgroundDigest {
    Here { hasher: Sha256, length: usize },
    There(Worker),
}

/// The thread, and the buffer that is being filled for it.
pub(super) struct Worker {
    filling: Vec<u8>,
    made: usize,
    /// None when there is no more to come.
    full: Option<SyncSender<Vec<u8>>>,
    spent: Receiver<Vec<u8>>,
    /// None when it was joined.
    thread: Option<JoinHandle<Sha256>>,
}

impl BackgroundDigest {
    pub(super) fn new() -> Self {
        let hasher = Sha256::new();
        Self::Here { hasher, length: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Here { hasher, length } => {
                hasher.update(bytes);
                *length += bytes.len();
                // Without a thread it goes on here.
                if *length >= SMALL
                    && let Ok(worker) = Worker::start(hasher.clone())
                {
                    *self = Self::There(worker);
                }
            }
            Self::There(worker) => worker.update(bytes),
        }
    }

    /// The digest of all that came. Waits for the thread.
    pub(super) fn finalize(self) -> Digest {
        let hasher = match self {
            Self::Here { hasher, .. } => hasher,
            Self::There(worker) => worker.finish(),
        };
        hasher.finish()
    }
}

impl Worker {
    fn start(mut hasher: Sha256) -> std::io::Result<Self> {
        let (full, filled) = sync_channel::<Vec<u8>>(BUFFERS);
        let (give_back, spent) = sync_channel(BUFFERS);
        let work = move || {
            while let Ok(mut buffer) = filled.recv() {
                hasher.update(&buffer);
                buffer.clear();
                // There is room for all that were made.
                let _ = give_back.try_send(buffer);
            }
            hasher
        };
        let thread = Builder::new().name("layer digest".to_owned()).spawn(work)?;
        Ok(Self {
            filling: Vec::with_capacity(BUFFER),
            made: 1,
            full: Some(full),
            spent,
            thread: Some(thread),
        })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(BUFFER - self.filling.len()));
            self.filling.extend_from_slice(taken);
            bytes = rest;
            if self.filling.len() == BUFFER {
                let next = self.empty_buffer();
                self.send(next);
            }
        }
    }

    /// A buffer to fill next; waits for one when all are on their way.
    fn empty_buffer(&mut self) -> Vec<u8> {
        if self.made == BUFFERS {
            return self.spent.recv().expect("the thread only hashes");
        }
        self.made += 1;
        Vec::with_capacity(BUFFER)
    }

    fn send(&mut self, next: Vec<u8>) {
        let full = std::mem::replace(&mut self.filling, next);
        let sender = self.full.as_ref().expect("taken at the end only");
        sender.send(full).expect("the thread only hashes");
    }

    fn finish(mut self) -> Sha256 {
        self.send(Vec::new());
        self.full = None;
        let thread = self.thread.take().expect("joined once, here or in drop");
        thread.join().expect("the thread only hashes")
    }
}

/// Joins the thread of a layer that was given up.
impl Drop for Worker {
    fn drop(&mut self) {
        self.full = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_all_bytes_however_they_come() {
        let bytes: Vec<u8> = (0..(3 << 20) + 17).map(|n: u32| (n % 251) as u8).collect();
        for length in [0, 1, SMALL - 1, SMALL, bytes.len()] {
            let wanted = Sha256::digest(&bytes[..length]);
            for step in [1000, BUFFER, BUFFER + 1, 3 << 20] {
                let mut digest = BackgroundDigest::new();
                bytes[..length]
                    .chunks(step)
                    .for_each(|chunk| digest.update(chunk));
                let is_there = matches!(digest, BackgroundDigest::There(_));
                assert_eq!(is_there, length >= SMALL);
                assert_eq!(digest.finalize(), wanted, "{length} by {step}");
            }
        }
    }
}
