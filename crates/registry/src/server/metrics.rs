//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use super::route::Route;

const CLASSES: usize = 5;

/// Counters; whoever renders them takes a [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; CLASSES]; Route::KINDS.len() + 1],
    pub(crate) received: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) collected: AtomicU64,
    pub(crate) collections: AtomicU64,
}

/// What was counted since the server was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests by endpoint and class of status, as `("blob", "2xx", 7)`; those of none are not listed.
    pub requests: Vec<(&'static str, &'static str, u64)>,
    /// Bytes of blobs that came.
    pub received_bytes: u64,
    /// Bytes of blobs that were answered with.
    pub answered_bytes: u64,
    /// Bytes that collections freed.
    pub collected_bytes: u64,
    /// Collections that came to their end.
    pub collections: u64,
    /// Uploads that are known now.
    pub uploads: u64,
}

impl Metrics {
    pub(crate) fn request(&self, route: Option<&Route>, status: StatusCode) {
        let kind =
            route.and_then(|route| Route::KINDS.iter().position(|kind| *kind == route.name()));
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES) - 1;
        self.requests[kind.unwrap_or(Route::KINDS.len())][class].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self, uploads: usize) -> Counts {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut requests = Vec::new();
        for (kind, row) in Route::KINDS.iter().chain(&["other"]).zip(&self.requests) {
            for (class, counter) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(row) {
                if number(counter) > 0 {
                    requests.push((*kind, *class, number(counter)));
                }
            }
        }
        Counts {
            requests,
            received_bytes: number(&self.received),
            answered_bytes: number(&self.answered),
            collected_bytes: number(&self.collected),
            collections: number(&self.collections),
            uploads: uploads as u64,
        }
    }
}
