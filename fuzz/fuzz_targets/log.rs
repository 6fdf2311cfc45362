#![no_main]

use std::sync::LazyLock;

static PLACE: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a place to write"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_engine::fuzzing::log(PLACE.path(), bytes));
