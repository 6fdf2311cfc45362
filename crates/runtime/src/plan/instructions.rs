//! A filter program on its way to the zygote: one number per instruction, a third of the text that one per byte would be.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

/// Bytes of struct sock_filter.
const INSTRUCTION: usize = 8;

pub(super) fn serialize<S: Serializer>(program: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let (instructions, rest) = program.as_chunks::<INSTRUCTION>();
    if !rest.is_empty() {
        return Err(S::Error::custom("a filter program that ends in the middle"));
    }
    serializer.collect_seq(instructions.iter().map(|bytes| u64::from_le_bytes(*bytes)))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let instructions = Vec::<u64>::deserialize(deserializer).map_err(D::Error::custom)?;
    Ok(instructions
        .iter()
        .flat_map(|instruction| instruction.to_le_bytes())
        .collect())
}

#[cfg(test)]
mod tests {
    use crate::plan::Step;

    #[test]
    fn a_program_arrives_as_it_was_sent() {
        let step = |program: Vec<u8>| Step::Seccomp { program, flags: 4 };
        let sent = step((0..=255).collect());
        let text = serde_json::to_string(&sent).unwrap();
        assert!(text.contains("[506097522914230528,"), "{text}");
        assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), sent);
        assert!(serde_json::to_string(&step(vec![1; 9])).is_err());
    }
}
