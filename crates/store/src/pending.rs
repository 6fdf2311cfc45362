//! A transaction on its way through the writer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hoist_model::Revision;
use tokio::sync::oneshot;

use crate::error::StoreError;

/// A transaction that is ordered, and as durable as its class asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// The revision the transaction made, or the one it saw if it changed nothing.
    pub revision: Revision,
    /// What its closure returned.
    pub value: T,
}

/// A transaction handed to the writer. Await it on any executor, or [`wait`](Self::wait).
///
/// Dropping it does not take the transaction back: it still runs, nobody learns how it ended.
#[derive(Debug)]
#[must_use = "a transaction's failure is only seen by waiting for it"]
pub struct Pending<T, E> {
    pub(crate) reply: oneshot::Receiver<Result<Committed<T>, E>>,
}

impl<T, E: From<StoreError>> Pending<T, E> {
    /// Blocks until the transaction is done. Panics when called on a thread that drives async tasks, as
    /// [`oneshot::Receiver::blocking_recv`] does: there, await instead.
    pub fn wait(self) -> Result<Committed<T>, E> {
        self.reply
            .blocking_recv()
            .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }
}

impl<T, E: From<StoreError>> Future for Pending<T, E> {
    type Output = Result<Committed<T>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply)
            .poll(context)
            .map(|reply| reply.unwrap_or_else(|_| Err(StoreError::Closed.into())))
    }
}
