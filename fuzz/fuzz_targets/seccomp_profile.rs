#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hoist_runtime::fuzzing::seccomp_profile(bytes));
