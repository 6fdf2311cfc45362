//! `hoist fsck --data-root`: the check of an engine that does not run, made of its own parts without starting it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use hoist_build::cached_layers;
use hoist_cli::AtRest;
use hoist_engine::images::Images;
use hoist_engine::images::fsck::{FsckOptions, fsck_at_rest};
use hoist_engine::records::TagRecord;
use hoist_image::ContentStore;
use hoist_store::{Store, StoreError};
use serde_json::{Map, Value, json};

use super::registry::RegistrySource;
use super::{arguments, settings, wire};

/// Checks, and repairs if asked. One sentence says why nothing could be checked.
pub(crate) fn at_rest(asked: &AtRest<'_>) -> Result<Value, String> {
    check(asked).map_err(|error| format!("{error:#}"))
}

fn check(asked: &AtRest<'_>) -> anyhow::Result<Value> {
    let root = asked.data_root.canonicalize();
    let root = root.with_context(|| asked.data_root.display().to_string())?;
    let state = root.join("store/state.db");
    // Opening it would make one.
    if !state.exists() {
        bail!(
            "{} is no data root of an engine: {} is not there",
            root.display(),
            state.display()
        );
    }
    let store = match wire::open_store(&root) {
        Err(StoreError::InUse { .. }) => bail!(
            "an engine runs on {}: ask it, without --data-root, with -H if it does not listen at the usual place",
            root.display()
        ),
        opened => opened?,
    };
    let image_root = root.join("image");
    let found = fsck_at_rest(&store.snapshot(), &image_root, cached_layers(&store))?;
    if !asked.repair || found.findings.is_empty() {
        return Ok(hoist_docker::fsck_report(&found));
    }
    let options = options(asked, &store);
    let (data_root, config_file) = (asked.data_root.clone(), asked.config_file.clone());
    // On a thread of its own: the client's has a runtime already.
    let repairing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let images = images(data_root, config_file, store, &image_root)?;
            anyhow::Ok(images.fsck_alone(found, &options).await?)
        })
    });
    let repaired = repairing
        .join()
        .map_err(|_| anyhow::anyhow!("the repair panicked"))??;
    Ok(hoist_docker::fsck_report(&repaired))
}

/// With the logins of every registry that an image has a name of.
fn options(asked: &AtRest<'_>, store: &Store) -> FsckOptions {
    let mut logins = Map::new();
    for tag in store.snapshot().list::<TagRecord>() {
        let host = tag.reference.repository().host();
        if !logins.contains_key(host) {
            logins.insert(host.to_owned(), (asked.login)(host));
        }
    }
    hoist_docker::fsck_options(&json!({ "Repair": true, "Credentials": logins }))
}

/// The engine's images, with what they need and nothing else. What an interrupted engine left is swept as its parts open.
fn images(
    data_root: PathBuf,
    config_file: Option<PathBuf>,
    store: Store,
    image_root: &Path,
) -> anyhow::Result<Images> {
    let mut words: Vec<OsString> = vec!["--data-root".into(), data_root.into()];
    if let Some(file) = config_file {
        words.extend(["--config-file".into(), file.into()]);
    }
    let (arguments, ignored) = arguments::parse(words)?;
    let settings = settings::settle(arguments, ignored)?;
    let content = Arc::new(ContentStore::open(image_root)?);
    let snapshotter = hoist_image::open_snapshotter(image_root, settings.storage)?;
    let source = Arc::new(RegistrySource::new(
        wire::registry_client(&settings)?,
        content.clone(),
        snapshotter.clone(),
    ));
    let images = Images::new(store.clone(), content, snapshotter, source);
    images.keep_layers_of(Arc::new(move || cached_layers(&store)));
    Ok(images)
}
