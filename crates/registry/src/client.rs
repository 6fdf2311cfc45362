//! What all pulls and pushes of one engine share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hoist_model::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::origin::Origin;
use crate::proxy::{Proxy, is_excepted};
use crate::settings::Settings;

/// A registry client. Cheap to clone; holds no connection and no credentials between operations.
#[derive(Clone, Debug)]
pub struct Client(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// Layers being downloaded, over all pulls.
    pub(crate) downloads: Semaphore,
    /// Parts of large layers that come beside the first of each, over all pulls.
    ahead: Arc<Semaphore>,
    /// Layers being uploaded, over all pushes.
    pub(crate) uploads: Semaphore,
    /// One lock per layer being stored, so that two pulls of it store it once; the second finds it there.
    layers: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Client {
    /// A client with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            downloads: Semaphore::new(settings.max_concurrent_downloads.max(1)),
            ahead: Arc::new(Semaphore::new(match settings.max_concurrent_downloads {
                0 | 1 => 0,
                several => several,
            })),
            uploads: Semaphore::new(settings.max_concurrent_uploads.max(1)),
            settings,
            layers: Mutex::default(),
        }))
    }
}

impl Shared {
    /// Leave for as many parts beside the first as may come now, if any.
    pub(crate) fn ahead(&self) -> Option<OwnedSemaphorePermit> {
        let free = u32::try_from(self.ahead.available_permits()).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.ahead).try_acquire_many_owned(free).ok()?;
        (permits.num_permits() > 0).then_some(permits)
    }

    /// The proxy by which a server is asked, if any: never one of this machine's, nor one whose address was configured.
    pub(crate) fn proxy(&self, origin: &Origin) -> Option<&Proxy> {
        let settings = &self.settings;
        let configured = [
            origin.host.clone(),
            format!("{}:{}", origin.host, origin.port),
        ];
        if origin.is_loopback()
            || configured
                .iter()
                .any(|name| settings.hosts.contains_key(name))
        {
            return None;
        }
        let proxies = &settings.proxies;
        let proxy = if origin.tls {
            &proxies.https
        } else {
            &proxies.http
        };
        proxy
            .as_ref()
            .filter(|_| !is_excepted(&proxies.exceptions, &origin.host, origin.port))
    }

    /// The lock of one layer, by its diff id.
    pub(crate) fn layer_lock(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = layers.get(diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        layers.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        layers.insert(diff_id.clone(), Arc::downgrade(&lock));
        lock
    }
}
