//! The engine's edge to time and chance: everything else takes them as arguments.

use hoist_model::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
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
