//! What is at addresses: fetched once a build, and again only if it has changed.
//!
//! ```text
//! address ─▶ validator of what came last (an ETag, a commit)        `build_latest`
//! address and validator ─▶ its files, as an entry of the cache      `build_cache`
//! ```

use hoist_model::{Digest, ErrorClass, Timestamp, chain};
use hoist_store::Record;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::CacheRecord;
use crate::error::StepError;
use crate::plan::Address;
use crate::ports::{Fetched, PortError};
use crate::solve::{Solver, Tools, key_of};

/// What came last from an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestRecord {
    /// A digest of the address.
    pub key: String,
    /// Tells what came from what would come now.
    pub validator: String,
}

impl Record for LatestRecord {
    const TABLE: &'static str = "build_latest";

    fn key(&self) -> String {
        self.key.clone()
    }
}

fn key(address: &str, validator: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update("hoist build fetch 1\n");
    hash.update(address);
    if let Some(validator) = validator {
        hash.update("\n");
        hash.update(validator);
    }
    key_of(hash)
}

/// A checksum says what comes: it need not be asked for.
fn fixed(address: &Address) -> Option<String> {
    match address {
        Address::Web(web) => web.checksum.clone(),
        Address::Git(git) => {
            let whole = |text: &&String| matches!(text.len(), 40 | 64);
            git.checksum.as_ref().filter(whole).cloned()
        }
    }
}

impl Solver {
    /// The layer of what is at an address.
    pub(crate) async fn fetched(&self, address: &Address) -> Result<Digest, StepError> {
        Ok(self.tools.fetched(address, self.terms.now).await?)
    }
}

impl Tools {
    /// The layer of what is at an address.
    pub(crate) async fn fetched(
        &self,
        address: &Address,
        clock: fn() -> Timestamp,
    ) -> Result<Digest, PortError> {
        let text = address.to_string();
        let place = key(&text, None);
        let known = self.cache.latest(&place);
        let known = fixed(address).or(known);
        let kept = known.as_deref().and_then(|validator| {
            let record = self.cache.get(&key(&text, Some(validator)))?;
            let layer = record.layer.clone()?;
            let is_here = self.snapshotter.has_layer(&layer);
            is_here.then_some((record.key.clone(), layer))
        });
        if let (Some(_), Some((key, layer))) = (fixed(address), &kept) {
            self.used(key.clone(), clock()).await;
            return Ok(layer.clone());
        }
        let validator = known.filter(|_| kept.is_some());
        let fetched = self.fetch.fetch(address, validator).await?;
        match (fetched, kept) {
            (Fetched::Unchanged, Some((key, layer))) => {
                self.used(key, clock()).await;
                Ok(layer)
            }
            (Fetched::Unchanged, None) => Err(PortError {
                message: format!("{text} is said to be unchanged, and is not known"),
                class: ErrorClass::Internal,
            }),
            (Fetched::Files { layer, validator }, _) => {
                if let Some(validator) = fixed(address).or(validator) {
                    self.keep_fetched(&text, place, validator, &layer, clock())
                        .await;
                }
                Ok(layer)
            }
        }
    }

    async fn used(&self, key: String, now: Timestamp) {
        if let Err(error) = self.cache.touch(vec![key], now).await {
            tracing::warn!(
                error = chain(&error),
                "a use of the build cache is not noted"
            );
        }
    }

    async fn keep_fetched(
        &self,
        text: &str,
        place: String,
        validator: String,
        layer: &Digest,
        now: Timestamp,
    ) {
        let size = self.snapshotter.layer(layer);
        let record = CacheRecord {
            key: key(text, Some(&validator)),
            layer: Some(layer.clone()),
            size: size.map_or(0, |layer| layer.file_bytes),
            description: format!("fetched {text}"),
            created: now,
            used: now,
            uses: 1,
        };
        let latest = LatestRecord {
            key: place,
            validator,
        };
        if let Err(error) = self.cache.put_latest(record, latest).await {
            tracing::warn!(error = chain(&error), "what was fetched is not cached");
        }
    }
}
