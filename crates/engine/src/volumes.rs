//! Volumes: directories that outlive containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_model::ContainerId;

use crate::error::VolumeError;
use crate::records::VolumeRecord;

/// The volumes of this node.
#[derive(Clone)]
pub struct Volumes;

/// A wish for a volume.
#[derive(Debug, Default)]
pub struct VolumeRequest {
    /// Its name; `None` makes an anonymous one.
    pub name: Option<String>,
    /// `local` or empty.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's key/value pairs.
    pub labels: BTreeMap<String, String>,
}

impl Volumes {
    /// Makes a volume, or answers the one of that name.
    pub async fn create(&self, _request: VolumeRequest) -> Result<Arc<VolumeRecord>, VolumeError> {
        unimplemented!()
    }

    /// The volume of that name.
    pub fn get(&self, _name: &str) -> Result<Arc<VolumeRecord>, VolumeError> {
        unimplemented!()
    }

    /// All volumes, by name.
    pub fn list(&self) -> Vec<Arc<VolumeRecord>> {
        unimplemented!()
    }

    /// Where its files are on the host.
    pub fn mountpoint(&self, _name: &str) -> PathBuf {
        unimplemented!()
    }

    /// The containers that use it.
    pub fn users(&self, _name: &str) -> Vec<ContainerId> {
        unimplemented!()
    }

    /// Takes it away with its files; `force` makes an absent one no error.
    pub async fn remove(&self, _name: &str, _force: bool) -> Result<(), VolumeError> {
        unimplemented!()
    }

    /// Removes those no container uses, only anonymous ones unless `all`; answers names and bytes freed.
    pub async fn prune(
        &self,
        _all: bool,
        _keep: &(dyn Fn(&VolumeRecord) -> bool + Sync),
    ) -> Result<(Vec<String>, u64), VolumeError> {
        unimplemented!()
    }
}
