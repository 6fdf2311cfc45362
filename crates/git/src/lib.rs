//! As much of git as it takes to get the files of one commit: version 2 of its protocol (gitprotocol-v2(5)) and its packs (gitformat-pack(5)).
//!
//! ```text
//! advertisement ─▶ list_request ─▶ References ─▶ fetch_request ─▶ PackReceiver ─▶ Pack ─▶ checkout
//! ```
//!
//! Bytes in, bytes out: whoever uses this has the connection. Ours, because the daemon starts no programs and the libraries that there are
//! bring a hundred crates for what are four requests and a format. Absent: SHA-256 repositories, version 1, pushing, submodules.

mod checkout;
mod error;
mod object;
mod pack;
mod packet;
mod protocol;

pub use checkout::{Checkout, Item, checkout};
pub use error::GitError;
pub use object::ObjectId;
pub use pack::Pack;
pub use protocol::{
    Advertisement, PackReceiver, References, advertisement, fetch_request, list_request,
};
