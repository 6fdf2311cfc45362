//! Large layers go on where an earlier pull left them.

use std::path::PathBuf;

use hoist_registry::{Client, Settings};
use hoist_testkit::{Compression, ImageBlobs, ImageBuilder, TarBuilder};

use crate::fake::{Asked, Fake, Said, honest};
use crate::support::{House, noise, settings};

/// One layer of 12 MiB that no compressor shrinks.
fn large() -> ImageBlobs {
    let tar = TarBuilder::new().file("noise", 0o644, noise(12 << 20));
    let image = ImageBuilder::new().layer(tar.finish());
    image.compression(Compression::Gzip).blobs()
}

/// The layer from where it is asked for, at most up to `end`; then the connection closes.
fn part(blobs: &ImageBlobs, asked: &Asked, end: usize, ranges: &str) -> Said {
    let bytes = &blobs.layers[0].bytes;
    let start = asked.header("range").map_or(0, first);
    let head = match start {
        0 => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{ranges}\r\n",
            bytes.len()
        ),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n\r\n",
            bytes.len() - start,
            bytes.len() - 1,
            bytes.len()
        ),
    };
    let end = end.max(start).min(bytes.len());
    Said([head.as_bytes(), &bytes[start..end]].concat(), true)
}

/// The first byte of `bytes=N-`.
fn first(range: &str) -> usize {
    let number = range.strip_prefix("bytes=").unwrap();
    number.strip_suffix('-').unwrap().parse().unwrap()
}

/// A client that tries nothing twice: what it does not get is lost, but for what is kept.
fn hasty() -> Client {
    Client::new(Settings {
        max_attempts: 1,
        ..settings()
    })
}

/// A pull that is cut off in the middle, and where its part is.
async fn cut_off(ranges: &'static str) -> (House, Option<PathBuf>) {
    let blobs = large();
    let fake = Fake::start(move |asked| match asked.is_blob(&blobs.layers[0].digest) {
        true => part(&blobs, asked, 8 << 20, ranges),
        false => honest(&blobs, asked),
    });
    let house = House::new();
    let reference = format!("{}/a", fake.address);
    house.pull(&hasty(), &reference, None).await.unwrap_err();
    let part = kept(&house);
    (house, part)
}

fn kept(house: &House) -> Option<PathBuf> {
    let directory = house.directory.path().join("partial");
    let mut entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.next().map(|entry| entry.unwrap().path())
}

/// Pulls again, from a registry that answers all; the ranges that it was asked for.
async fn again(house: &House) -> Vec<Option<usize>> {
    let blobs = large();
    let fake = Fake::start(move |asked| match asked.is_blob(&blobs.layers[0].digest) {
        true => part(&blobs, asked, usize::MAX, "Accept-Ranges: bytes\r\n"),
        false => honest(&blobs, asked),
    });
    let reference = format!("{}/a", fake.address);
    house.pull(&hasty(), &reference, None).await.unwrap();
    assert_eq!(kept(house), None, "nothing is kept of what is whole");
    let asked = fake.asked();
    let asked = asked
        .iter()
        .filter(|asked| asked.is_blob(&large().layers[0].digest));
    asked
        .map(|asked| asked.header("range").map(first))
        .collect()
}

#[tokio::test]
async fn the_next_pull_goes_on_where_the_last_was_cut_off() {
    let (house, part) = cut_off("Accept-Ranges: bytes\r\n").await;
    let length = std::fs::metadata(part.unwrap()).unwrap().len();
    assert!(length > 0 && length <= 8 << 20, "{length}");
    let ranges = again(&house).await;
    assert_eq!(ranges, [usize::try_from(length).ok()]);
}

#[tokio::test]
async fn a_part_that_rotted_costs_a_download_and_no_more() {
    let (house, part) = cut_off("Accept-Ranges: bytes\r\n").await;
    let part = part.unwrap();
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[1 << 20] ^= 1;
    std::fs::write(&part, &bytes).unwrap();
    let ranges = again(&house).await;
    assert_eq!(ranges, [Some(bytes.len()), None]);
    // Longer than the whole it is nobody's part.
    let (house, part) = cut_off("Accept-Ranges: bytes\r\n").await;
    std::fs::write(part.unwrap(), vec![0; 20 << 20]).unwrap();
    assert_eq!(again(&house).await, [None]);
}

#[tokio::test]
async fn of_a_registry_without_ranges_nothing_is_kept() {
    let (house, part) = cut_off("").await;
    assert_eq!(part, None);
    assert_eq!(again(&house).await, [None]);
}
