//! Work at the pace of whoever is at the other end of it: archives that are written to a client or read from one.
//!
//! Each has a thread of its own. Those that tokio keeps for work that blocks are shared by everything, and as many clients as
//! there are of them, none of which goes on, would hold up the whole engine. A thread ends with its client's connection.

use std::io;

use tokio::sync::oneshot;

/// Runs it, and answers what it answers. It goes on to its end where nobody waits any more.
///
/// # Errors
/// Where no thread can be made; where the work panicked.
pub(crate) async fn paced<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("hoist-paced".to_owned());
    thread.spawn(move || drop(done.send(work())))?;
    let panicked = |_| io::Error::other("the thread of a transfer panicked");
    answer.await.map_err(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_and_a_panic_is_an_error() {
        assert_eq!(paced(|| 7).await.unwrap(), 7);
        let failed = paced(|| assert!(std::thread::panicking(), "on purpose")).await;
        assert!(failed.unwrap_err().to_string().contains("panicked"));
    }
}
