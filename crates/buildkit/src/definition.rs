//! LLB of a client's: a graph of operations in its own words. It is read so that what is refused can be named, within bounds.

use std::collections::HashMap;

use bollard_buildkit_proto::pb;
use prost::Message as _;
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

/// Refuses contexts and Dockerfiles that are graphs.
pub(crate) fn refuse_inputs(inputs: &HashMap<String, pb::Definition>) -> Result<(), Status> {
    let mut names: Vec<_> = inputs.keys().collect();
    names.sort();
    let Some(name) = names.first() else {
        return Ok(());
    };
    let what = first_operation(&inputs[*name])?;
    Err(missing(format!("the input {name:?} as LLB ({what})")))
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
