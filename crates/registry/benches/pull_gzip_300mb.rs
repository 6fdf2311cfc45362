//! How long a pull of one gzip layer takes, from a registry on this machine to a stored image.
//!
//! `cargo bench -p hoist-registry`. The layer is a tar of this machine's /usr/lib up to 300 MB; the time of
//! `gzip -dc` on the same bytes is printed beside it, as the floor people know.

#![allow(clippy::print_stdout, reason = "a bench says what it measured")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run stops")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use hoist_image::{ContentStore, SnapshotterChoice, open_snapshotter};
use hoist_model::ImageReference;
use hoist_registry::{Client, Settings, pull};
use hoist_testkit::{
    Compression, ImageBuilder, LocalRegistry, RegistryOptions, TarBuilder, TemporaryDirectory,
};

const BYTES: usize = 300 << 20;
const RUNS: usize = 5;

fn main() {
    let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
        println!("skipped: docker-registry is not installed");
        return;
    };
    let image = ImageBuilder::new()
        .layer(layer())
        .compression(Compression::Gzip);
    let blob = image.blobs().layers.remove(0).bytes;
    println!(
        "layer: {} MB gzip, {} MB tar",
        blob.len() >> 20,
        BYTES >> 20
    );
    registry.put("big", "latest", &image);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let reference = format!("{}/big", registry.address());
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let directory = TemporaryDirectory::new("bench");
        let content = Arc::new(ContentStore::open(directory.path()).unwrap());
        let snapshotter = open_snapshotter(directory.path(), SnapshotterChoice::Auto).unwrap();
        let client = Client::new(Settings::default());
        let reference = ImageReference::parse(&reference).unwrap();
        let begun = Instant::now();
        runtime
            .block_on(pull(
                &client,
                &content,
                snapshotter,
                &reference,
                None,
                None,
                Arc::new(|_| {}),
            ))
            .unwrap();
        times.push(begun.elapsed().as_millis());
    }
    times.sort_unstable();
    println!(
        "pull_gzip_300mb: median {} ms, all {times:?}",
        times[RUNS / 2]
    );
    let begun = Instant::now();
    gunzip(&blob);
    println!("gzip -dc: {} ms", begun.elapsed().as_millis());
}

fn layer() -> Vec<u8> {
    let mut tar = TarBuilder::new();
    let mut total = 0;
    let mut directories = vec![Path::new("/usr/lib").to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file()
                && total < BYTES
                && let Ok(content) = std::fs::read(entry.path())
            {
                total += content.len();
                let name = entry.path();
                tar = tar.file(&name.to_string_lossy()[1..], 0o644, content);
            }
        }
    }
    tar.finish()
}

fn gunzip(bytes: &[u8]) {
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait().unwrap();
}
