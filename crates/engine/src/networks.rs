//! Networks: the three every node has. User networks come with their own issue.

use std::sync::Arc;

use crate::error::NetworkError;
use crate::records::NetworkRecord;

/// The networks of this node.
#[derive(Clone)]
pub struct Networks;

impl Networks {
    /// Finds a network by name, full id or unique id prefix.
    pub fn resolve(&self, _name: &str) -> Result<Arc<NetworkRecord>, NetworkError> {
        unimplemented!()
    }

    /// All networks.
    pub fn list(&self) -> Vec<Arc<NetworkRecord>> {
        unimplemented!()
    }

    /// What an operator should know about the host's firewall and forwarding.
    pub fn warnings(&self) -> Vec<String> {
        unimplemented!()
    }
}
