//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic or hang.

use std::os::fd::AsFd;

use crate::capabilities::CapabilitySet;
use crate::message;
use crate::plan::ChildFailure;
use crate::seccomp::{Profile, Seccomp};
use crate::spec::Streams;

/// A seccomp profile as a client sends it: what is accepted compiles.
pub fn seccomp_profile(bytes: &[u8]) {
    let Ok(profile) = Profile::parse(bytes) else {
        return;
    };
    if let Ok(program) = Seccomp::new().program(&profile, CapabilitySet::default()) {
        assert!(program.instructions() > 0, "an empty program permits all");
        assert_eq!(program.bytes().len(), program.instructions() * 8);
    }
}

/// A packet between daemon, zygote and monitor, and its body as whatever it may be.
pub fn message(bytes: &[u8]) {
    let Ok((ours, theirs)) = message::pair() else {
        return;
    };
    if rustix::io::write(&ours, bytes).is_err() {
        return;
    }
    // What was told to follow does not.
    drop(ours);
    let Ok(Some(message)) = message::receive(theirs.as_fd()) else {
        return;
    };
    let _ = message.body::<crate::monitor::Order>();
    let _ = message.body::<crate::monitor::Succession>();
    let _ = message.body::<crate::monitor::Started>();
    let _ = message.body::<crate::monitor::Size>();
    let _ = message.body::<ChildFailure>();
    let _ = message.body::<Option<crate::ExitRecord>>();
    let _ = message.body::<Streams>();
}

/// The slot of an exit record, as a crash may leave it: what is read back is what was written.
pub fn exit_record(bytes: &[u8]) {
    let Ok(slot) = rustix::fs::memfd_create("slot", rustix::fs::MemfdFlags::CLOEXEC) else {
        return;
    };
    let _ = rustix::io::pwrite(&slot, bytes, 0);
    if let Ok(Some(record)) = crate::exit_record::read(&slot) {
        crate::exit_record::write(&slot, &record);
        assert_eq!(crate::exit_record::read(&slot).ok().flatten(), Some(record));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LASTING: Duration = Duration::from_secs(1);

    #[test]
    fn seccomp_profiles_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 2] = [
            br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["clone","read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}],"includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{"arches":["s390"]}}]}"#,
            br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"name":"mount","action":"SCMP_ACT_KILL","args":[]}]}"#,
        ];
        hoist_testkit::mutate(&seeds, LASTING, seccomp_profile);
    }

    #[test]
    fn messages_of_strangers_do_no_harm() {
        let (a, b) = message::pair().unwrap();
        let mut seeds = Vec::new();
        for kind in [
            message::Kind::Order,
            message::Kind::Started,
            message::Kind::Ended,
        ] {
            let body = serde_json::json!({"pid": 7, "started_at": 3, "exit_code": 1});
            message::send(&a, kind, &body, &[]).unwrap();
            let mut buffer = vec![0; 4096];
            let length = rustix::io::read(&b, &mut buffer[..]).unwrap();
            seeds.push(buffer[..length].to_vec());
        }
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        hoist_testkit::mutate(&seeds, LASTING, message);
    }

    #[test]
    fn torn_exit_records_do_no_harm() {
        let seeds: [&[u8]; 2] = [b"HXR1\x89\0\0\0\x01\0\0\0\0\0\0\0", &[0; 32]];
        hoist_testkit::mutate(&seeds, Duration::from_millis(300), exit_record);
    }
}
