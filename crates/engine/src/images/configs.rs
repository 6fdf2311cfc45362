//! Configurations that were read lately: every create needs one, and an id's never changes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_image::document::ImageConfig;
use hoist_model::ImageId;

/// How many are kept.
const KEPT: usize = 16;
/// A document of more bytes is not kept: with all its history it would be held for a few words of it.
const LARGEST: usize = 64 << 10;

/// The configurations used last, newest first.
#[derive(Debug, Default)]
pub(super) struct Configs(Mutex<VecDeque<(ImageId, Arc<ImageConfig>)>>);

impl Configs {
    pub(super) fn get(&self, id: &ImageId) -> Option<Arc<ImageConfig>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(of, _)| of == id)?;
        let found = kept.remove(place)?;
        let config = found.1.clone();
        kept.push_front(found);
        Some(config)
    }

    /// Keeps one that was parsed from a document of so many bytes.
    pub(super) fn keep(&self, id: &ImageId, config: &Arc<ImageConfig>, bytes: usize) {
        if bytes > LARGEST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(of, _)| of != id);
        kept.push_front((id.clone(), config.clone()));
        kept.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ImageId {
        let digest = format!("sha256:{}", format!("{number:02x}").repeat(32));
        digest.parse().unwrap()
    }

    #[test]
    fn those_used_last_are_kept() {
        let configs = Configs::default();
        let config = Arc::new(ImageConfig::default());
        for number in 0..=u8::try_from(KEPT).unwrap() {
            configs.keep(&id(number), &config, 100);
            assert!(configs.get(&id(0)).is_some());
        }
        assert!(configs.get(&id(1)).is_none());
        assert!(configs.get(&id(2)).is_some());
        configs.keep(&id(200), &config, LARGEST + 1);
        assert!(configs.get(&id(200)).is_none());
    }
}
