//! LLB of a client's: a graph of operations in its own words. It is read so that what is refused can be named, within bounds.

use std::collections::HashMap;

use bollard_buildkit_proto::pb;
use hoist_model::Digest;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::error::missing;

/// Operations of one graph, and bytes of one of them.
const MOST_OPERATIONS: usize = 10_000;
const LARGEST_OPERATION: usize = 4 << 20;

/// Why a graph is not solved: its first operation that has a name, or what is wrong with it.
pub(crate) fn refuse(definition: Option<&pb::Definition>) -> Status {
    let Some(definition) = definition.filter(|definition| !definition.def.is_empty()) else {
        return Status::invalid_argument("invalid empty definition");
    };
    match first_operation(definition) {
        Ok(what) => missing(format!("solving LLB of a client's ({what})")),
        Err(status) => status,
    }
}

/// How the source of a result of ours is called; the rest is its image's id.
const RESULT: &str = "hoist-result://";

/// A result of ours as a graph: who gets it hands it back as the input of another build (bake's `target:`).
pub(crate) fn of_result(id: &Digest) -> pb::Definition {
    let source = pb::Op {
        op: Some(pb::op::Op::Source(pb::SourceOp {
            identifier: format!("{RESULT}{id}"),
            ..pb::SourceOp::default()
        })),
        ..pb::Op::default()
    };
    let source = source.encode_to_vec();
    let hash = Sha256::digest(&source);
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    let digest = format!("sha256:{}", digits.collect::<String>());
    let last = pb::Op {
        inputs: vec![pb::Input {
            digest: digest.clone(),
            index: 0,
        }],
        ..pb::Op::default()
    };
    pb::Definition {
        def: vec![source, last.encode_to_vec()],
        metadata: [(digest, pb::OpMetadata::default())].into(),
        source: None,
    }
}

/// The image that such a graph stands for; any other is refused.
pub(crate) fn result(definition: &pb::Definition) -> Result<Digest, Status> {
    let what = first_operation(definition)?;
    let id = what.strip_prefix(RESULT).and_then(|id| id.parse().ok());
    id.ok_or_else(|| missing(format!("an input as LLB ({what})")))
}

/// Refuses contexts and Dockerfiles that are graphs; results of ours are none.
pub(crate) fn refuse_inputs(inputs: &HashMap<String, pb::Definition>) -> Result<(), Status> {
    let mut names: Vec<_> = inputs.keys().collect();
    names.sort();
    for name in names {
        if matches!(name.as_str(), "context" | "dockerfile") {
            let what = first_operation(&inputs[name])?;
            return Err(missing(format!("the input {name:?} as LLB ({what})")));
        }
        result(&inputs[name])?;
    }
    Ok(())
}

fn first_operation(definition: &pb::Definition) -> Result<String, Status> {
    if definition.def.len() > MOST_OPERATIONS {
        return Err(Status::invalid_argument(format!(
            "LLB of {} operations, more than {MOST_OPERATIONS}",
            definition.def.len()
        )));
    }
    let mut what = None;
    for bytes in &definition.def {
        if bytes.len() > LARGEST_OPERATION {
            return Err(Status::invalid_argument("an operation of LLB is too large"));
        }
        let operation = pb::Op::decode(bytes.as_slice()).map_err(|error| {
            Status::invalid_argument(format!("failed to parse llb proto op: {error}"))
        })?;
        if what.is_none() {
            what = name(&operation);
        }
    }
    Ok(what.unwrap_or_else(|| "nothing to do".to_owned()))
}

fn name(operation: &pb::Op) -> Option<String> {
    Some(match operation.op.as_ref()? {
        pb::op::Op::Exec(_) => "exec".to_owned(),
        pb::op::Op::Source(source) => source.identifier.chars().take(200).collect(),
        pb::op::Op::File(_) => "file".to_owned(),
        pb::op::Op::Build(_) => "build".to_owned(),
        pb::op::Op::Merge(_) => "merge".to_owned(),
        pb::op::Op::Diff(_) => "diff".to_owned(),
    })
}
