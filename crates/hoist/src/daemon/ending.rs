//! The end of an engine whose containers do not outlive it (`live-restore` false, which is dockerd's default and not ours).

use std::time::Duration;

use hoist_engine::Engine;

/// Seconds that a container has to stop where it says nothing else.
const STOP_TIMEOUT: i64 = 10;
/// Beyond the longest time that a container has to stop: for what follows its end (moby `daemon/daemon.go`, `ShutdownTimeout`).
const AFTER_STOP: i64 = 5;

/// Stops the containers before the engine ends, within `limit` or the longest that one of them may take; the next engine starts
/// those again that are wanted.
pub(super) async fn end_containers(engine: &Engine, limit: Option<Duration>) {
    let running = engine.containers.list();
    let running = running.iter().filter(|c| c.state.running().is_some());
    let mut times = running.map(|c| c.spec.stop_timeout.unwrap_or(STOP_TIMEOUT));
    let patient = |limit: Duration| {
        times.try_fold(limit, |longest, time| {
            // Less than nothing is as long as it takes.
            let seconds = u64::try_from(time.saturating_add(AFTER_STOP))
                .ok()
                .filter(|_| time >= 0)?;
            Some(longest.max(Duration::from_secs(seconds)))
        })
    };
    let limit = limit.and_then(patient);
    tracing::info!(
        ?limit,
        "asked to end; containers are stopped, since live-restore is off"
    );
    let stopping = engine.containers.stop_all();
    match limit {
        None => drop(stopping.await),
        Some(limit) => {
            if tokio::time::timeout(limit, stopping).await.is_err() {
                tracing::warn!("shutdown-timeout is over: containers that are left go on running");
            }
        }
    }
}
