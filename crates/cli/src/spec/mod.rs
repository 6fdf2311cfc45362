//! From the flags of `run` and `create` to the body of `POST /containers/create`. Pure, except that named
//! files (`--env-file`, `--label-file`, a seccomp profile) are read through what the caller passes in.

mod body;
mod devices;
mod flags;
mod ports;
pub(crate) mod values;
mod volumes;

pub(crate) use body::{Host, create_body};
pub(crate) use flags::ContainerFlags;
pub(crate) use values::{duration, key_values, lines_of};
pub(crate) use volumes::fields;

/// A flag's value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFlag {
    /// One flag by itself.
    #[error("invalid argument {value:?} for \"{flag}\" flag: {detail}")]
    Value {
        /// The flag as typed, or what is named by it.
        flag: String,
        /// What was given.
        value: String,
        /// Why not.
        detail: String,
    },
    /// In the stock client's words.
    #[error("{0}")]
    Said(String),
    /// What no engine on Linux can do.
    #[error("{0}")]
    NotHere(String),
    /// Two flags that exclude each other.
    #[error("conflicting options: cannot specify both {0} and {1}")]
    Conflict(&'static str, &'static str),
}

pub(crate) fn invalid(flag: &str, value: &str, detail: impl Into<String>) -> InvalidFlag {
    InvalidFlag::Value {
        flag: flag.to_owned(),
        value: value.to_owned(),
        detail: detail.into(),
    }
}
