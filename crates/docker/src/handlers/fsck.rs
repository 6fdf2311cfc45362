//! `POST /hoist/fsck`: Hoist's own; the check of images and layers of a running engine.

use crate::call::{Call, ok};
use crate::error::Reply;
use crate::wire::fsck::{FsckRequest, report};

/// Answers when everything was read, which takes as long as there is to read.
pub(crate) async fn check(mut call: Call) -> Reply {
    let request: FsckRequest = call.json().await?;
    let found = call.engine().images.fsck(&request.into()).await?;
    ok(&report(&found))
}
