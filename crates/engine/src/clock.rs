//! The engine's edge to time and chance: everything else takes them as arguments.
//!
//! What is told and kept has the time of day, which may be set while the engine runs; how long something lasts is measured by a
//! clock that is not ([`tokio::time::Instant`]).

use hoist_model::Timestamp;

/// The time of day.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    #[cfg(feature = "testing")]
    let nanos = nanos.saturating_add(SHIFT.get());
    Timestamp::from_nanos(nanos)
}

#[cfg(feature = "testing")]
thread_local! {
    static SHIFT: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Sets the time of day, for all that this thread does from now on, this far from what it is.
#[cfg(feature = "testing")]
pub fn shift(seconds: i64) {
    SHIFT.set(seconds.saturating_mul(1_000_000_000));
}

/// 32 random bytes, for an identifier.
pub(crate) fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("getrandom(2) cannot fail after boot");
    bytes
}

/// A random number.
pub(crate) fn random_number() -> u64 {
    getrandom::u64().expect("getrandom(2) cannot fail after boot")
}
