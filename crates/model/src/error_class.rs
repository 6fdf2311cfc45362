//! The eight classes an error of any crate falls into.
//!
//! Every error enum answers `class()`; a façade maps the class to its protocol's status once.

use serde::{Deserialize, Serialize};

/// What kind of failure an error is, independent of any protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// The named object does not exist.
    NotFound,
    /// The request is well formed but the object's state or another object forbids it.
    Conflict,
    /// The request itself is wrong: a malformed name, value or body.
    InvalidArgument,
    /// Credentials are missing or were refused.
    Unauthorized,
    /// The caller is known and may not do this.
    Forbidden,
    /// Something needed is down or full now; the same request may succeed later.
    Unavailable,
    /// Hoist does not do this yet.
    NotImplemented,
    /// A failure of Hoist itself or of the kernel under it.
    Internal,
}
