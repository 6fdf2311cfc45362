//! Contexts that were sent before: of one that is sent again only what is new has to come.
//!
//! What they were told to be is in memory and lost with the engine; their layers are entries of the build's cache, kept and pruned as its others.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use hoist_build::Builder;
use hoist_model::chain;

use crate::session::Received;

/// Contexts that are remembered, and files in all of them.
const MOST: usize = 64;
const MOST_FILES: usize = 200_000;

/// Those of all clients.
pub(crate) struct Contexts {
    builder: Builder,
    /// The one of last use last. Held for single look-ups.
    known: Mutex<VecDeque<(String, Received)>>,
}

impl Contexts {
    pub(crate) fn new(builder: Builder) -> Self {
        Self {
            builder,
            known: Mutex::default(),
        }
    }

    /// The key of a client's directory; `None` if it does not say what its contexts have in common.
    /// What is asked of the directory belongs to it.
    pub(crate) fn key(
        &self,
        shared_key: &str,
        directory: &str,
        asked: &[&[String]],
    ) -> Option<String> {
        (!shared_key.is_empty()).then(|| format!("{directory}\n{shared_key}\n{asked:?}"))
    }

    /// What a directory was.
    pub(crate) fn get(&self, key: &str) -> Option<Received> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(other, _)| other == key);
        found.map(|(_, received)| received.clone())
    }

    /// Remembers what a directory is.
    pub(crate) async fn keep(&self, key: String, received: Received) {
        let kept = self.builder.keep_context(&key, &received.layer).await;
        if let Err(error) = kept {
            tracing::warn!(error = chain(&error), "a build context is not kept");
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != key);
        known.push_back((key, received));
        let files = |known: &VecDeque<(String, Received)>| {
            let sizes = known.iter().map(|(_, received)| received.tree.len());
            sizes.sum::<usize>()
        };
        while known.len() > MOST || (known.len() > 1 && files(&known) > MOST_FILES) {
            known.pop_front();
        }
    }
}
