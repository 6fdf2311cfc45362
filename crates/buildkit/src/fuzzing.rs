//! What clients say meets here, for fuzzers: it may be refused, and must not panic or hang.

use std::collections::HashMap;

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::pb;
use prost::Message as _;

use crate::attributes::Attributes;
use crate::definition;
use crate::session::{Tree, tar_entry};

/// A session's packets, one behind the other, each with its length in front: of a tree that is taken every path stays below its root.
pub fn packets(mut bytes: &[u8]) {
    let mut tree = Tree::default();
    while let Ok(packet) = Packet::decode_length_delimited(&mut bytes) {
        let Some(stat) = packet.stat else { break };
        if tree.push(stat).is_err() {
            break;
        }
        if bytes.is_empty() {
            break;
        }
    }
    for stat in tree.entries() {
        assert!(!stat.path.starts_with('/') && !stat.path.is_empty());
        let normal = |part| !matches!(part, "" | "." | "..");
        assert!(stat.path.split('/').all(normal), "{:?}", stat.path);
        assert_eq!(tree.find(&stat.path), Some(stat));
        if let Some(entry) = tar_entry(stat, 0) {
            assert!(entry.mode <= 0o7777);
        }
    }
}

/// LLB of a client's.
pub fn llb(bytes: &[u8]) {
    let Ok(definition) = pb::Definition::decode(bytes) else {
        return;
    };
    let _ = definition::refuse(Some(&definition));
    let _ = definition::refuse_inputs(&HashMap::from([("x".to_owned(), definition)]));
}

/// Attributes of a build, one a line.
pub fn attributes(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let given = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let _ = Attributes::read(&given.collect());
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::fsutil::types::Stat;

    use super::{Packet, attributes, llb, packets, pb};
    use prost::Message as _;

    /// Each seed, and each with one byte of it changed or cut.
    fn mutated(seed: &[u8], target: impl Fn(&[u8])) {
        target(seed);
        for at in 0..seed.len() {
            for change in [1, 0x7f, 0xff] {
                let mut bytes = seed.to_vec();
                bytes[at] ^= change;
                target(&bytes);
            }
            target(&seed[..at]);
            target(&seed[at..]);
        }
    }

    #[test]
    fn what_clients_say_may_be_refused_and_never_panics() {
        let stat = |path: &str, mode, linkname: &str| Packet {
            stat: Some(Stat {
                path: path.to_owned(),
                mode,
                linkname: linkname.to_owned(),
                ..Stat::default()
            }),
            ..Packet::default()
        };
        let mut seed = Vec::new();
        for packet in [
            stat("a", 1 << 31 | 0o755, ""),
            stat("a/b", 0o644, ""),
            stat("a/c", 0o644, "a/b"),
            stat("d", 1 << 27 | 0o777, "../x"),
            stat("e", 1 << 26 | 1 << 21, ""),
        ] {
            packet.encode_length_delimited(&mut seed).unwrap();
        }
        mutated(&seed, packets);
        let operation = pb::Op {
            op: Some(pb::op::Op::Source(pb::SourceOp {
                identifier: "local://context".to_owned(),
                ..pb::SourceOp::default()
            })),
            ..pb::Op::default()
        };
        let definition = pb::Definition {
            def: vec![operation.encode_to_vec(); 3],
            ..pb::Definition::default()
        };
        mutated(&definition.encode_to_vec(), llb);
        mutated(
            b"platform=linux/amd64\nadd-hosts=a=1.2.3.4\nulimit=nofile=1:2\nshm-size=64\nno-cache=\nbuild-arg:A=b",
            attributes,
        );
    }
}
