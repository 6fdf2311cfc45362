//! The Docker Engine API: versioned wire types, router and translation to the engine's own words.

pub mod node;
pub mod operations;
mod router;
mod version;

pub use node::{DOCKER_RELEASE, LimitSupport, Node};
pub use router::{is_hijackable, router};
pub use version::ApiVersion;
