//! The requirements of the OCI distribution specification 1.1, which numbers endpoints and names sections: each case bears the
//! endpoint's number from its table ("Endpoints", end-1 to end-13) and, in its comment, the name of the section that requires
//! it.
//!
//! | section | cases |
//! |---|---|
//! | "Determining Support", "Pull", "Warnings" | [`pull`] |
//! | "Push" | [`push`] |
//! | "Content Discovery", "Content Management" | [`content`] |
//! | authentication, which the specification leaves open | `server_access` |

mod collected;
mod content;
mod pull;
mod push;

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
