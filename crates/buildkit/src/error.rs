//! Failures as clients are told of them: a gRPC status, with the lines of the Dockerfile in a detail that they draw.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use hoist_build::dockerfile::Lines;
use hoist_build::{BuildError, StepError};
use hoist_model::{ErrorClass, chain};
use prost::Message as _;
use serde_json::json;
use tonic::{Code, Status};

/// The code of a class.
pub(crate) fn code(class: ErrorClass) -> Code {
    match class {
        ErrorClass::NotFound => Code::NotFound,
        ErrorClass::Conflict => Code::FailedPrecondition,
        ErrorClass::InvalidArgument => Code::InvalidArgument,
        ErrorClass::Unauthorized => Code::Unauthenticated,
        ErrorClass::Forbidden => Code::PermissionDenied,
        ErrorClass::Unavailable => Code::Unavailable,
        ErrorClass::NotImplemented => Code::Unimplemented,
        // As BuildKit, whose failures are mostly of no class: clients show no code then.
        ErrorClass::Internal => Code::Unknown,
    }
}

/// What is not there.
pub(crate) fn missing(what: impl std::fmt::Display) -> Status {
    Status::unimplemented(format!("{what} is not implemented by Hoist yet"))
}

/// A failed build, in BuildKit's words where clients look for them.
pub(crate) fn text(error: &BuildError) -> String {
    match error {
        BuildError::Step { error, .. } => match error.as_ref() {
            StepError::Exit {
                words,
                code,
                out_of_memory,
            } => {
                let killed = if *out_of_memory {
                    " (killed: out of memory)"
                } else {
                    ""
                };
                let words = words.join(" ");
                format!(
                    "process {words:?} did not complete successfully: exit code: {code}{killed}"
                )
            }
            error => chain(error),
        },
        error => chain(error),
    }
}

/// A failed build as a status.
pub(crate) fn status(error: &BuildError, name: &str, dockerfile: &str) -> Status {
    // As BuildKit has it: what is wrong with a Dockerfile or its programs is of no class, and clients show none.
    let code = match error.class() {
        ErrorClass::NotImplemented => Code::Unimplemented,
        _ => Code::Unknown,
    };
    let details = error.lines().map(|lines| source(name, dockerfile, lines));
    with_details(code, text(error), details.into_iter().collect())
}

/// Where in a Dockerfile (buildkit `solver/errdefs`, `Source`; details are JSON).
fn source(name: &str, dockerfile: &str, lines: Lines) -> Any {
    let value = json!({
        "info": {
            "filename": name,
            "language": "Dockerfile",
            "data": STANDARD.encode(dockerfile),
        },
        "ranges": [{"start": {"line": lines.first}, "end": {"line": lines.last}}],
    });
    Any {
        type_url: "github.com/moby/buildkit/errdefs.Source+json".to_owned(),
        value: value.to_string().into_bytes(),
    }
}

fn with_details(code: Code, message: String, details: Vec<Any>) -> Status {
    if details.is_empty() {
        return Status::new(code, message);
    }
    let whole = rpc::Status {
        code: code.into(),
        message: message.clone(),
        details,
    };
    Status::with_details(code, message, whole.encode_to_vec().into())
}

/// A status that came in a message, as one to answer with.
pub(crate) fn returned(status: rpc::Status) -> Status {
    let code = match Code::from_i32(status.code) {
        Code::Ok => Code::Unknown,
        code => code,
    };
    with_details(code, status.message, status.details)
}
