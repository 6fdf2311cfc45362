//! Large layers come in parts, several at a time, from registries that give parts.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hoist_image::StoredImage;
use hoist_registry::{Client, PullError, Settings};
use hoist_testkit::ImageBlobs;

use crate::fake::{Asked, Fake, Said, blob, honest, reply};
use crate::support::{House, image, settings};

const PART: usize = 64 << 10;

fn settings_with_parts() -> Settings {
    Settings {
        part_bytes: PART as u64,
        ..settings()
    }
}

/// `bytes=N-M` as it is asked for; `N-` to the end.
fn range(asked: &Asked, length: usize) -> Option<Range<usize>> {
    let (first, last) = asked
        .header("range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    let end = last.parse::<usize>().map_or(length, |last| last + 1);
    Some(first.parse().ok()?..end.min(length))
}

/// A part, as a registry that gives parts answers.
fn part(bytes: &[u8], range: Range<usize>) -> Said {
    let span = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
    let headers = [("Content-Range", span.as_str())];
    reply("206 Partial Content", &headers, &bytes[range])
}

/// A registry whose large layer is answered by this: its bytes, and what part of them is asked for.
fn registry(
    blobs: ImageBlobs,
    answer: impl Fn(&[u8], Option<Range<usize>>) -> Said + Send + Sync + 'static,
) -> Fake {
    Fake::start(move |asked| match asked.is_blob(&blobs.layers[1].digest) {
        true => {
            let bytes = &blobs.layers[1].bytes;
            answer(bytes, range(asked, bytes.len()))
        }
        false => honest(&blobs, asked),
    })
}

async fn pull(fake: &Fake, settings: Settings) -> (House, Result<StoredImage, PullError>) {
    let house = House::new();
    let reference = format!("{}/a", fake.address);
    let pulled = house.pull(&Client::new(settings), &reference, None).await;
    (house, pulled)
}

/// The ranges that the large layer was asked for with.
fn ranges(fake: &Fake, blobs: &ImageBlobs) -> Vec<Option<Range<usize>>> {
    let asked = fake.asked();
    let layer = &blobs.layers[1];
    let asked = asked.iter().filter(|asked| asked.is_blob(&layer.digest));
    asked.map(|asked| range(asked, layer.bytes.len())).collect()
}

/// Waits until so many are here.
struct Meeting(Mutex<usize>, Condvar);

impl Meeting {
    fn wait_for(&self, count: usize) -> bool {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
        let here = self.0.lock().unwrap();
        let patience = Duration::from_secs(60);
        let (here, _) = self
            .1
            .wait_timeout_while(here, patience, |here| *here < count)
            .unwrap();
        *here >= count
    }
}

#[tokio::test]
async fn parts_come_side_by_side_and_make_the_layer() {
    let blobs = image().blobs();
    let meeting = Arc::new(Meeting(Mutex::default(), Condvar::new()));
    let met = Arc::clone(&meeting);
    let fake = registry(blobs.clone(), move |bytes, range| {
        let range = range.unwrap();
        // Those behind the head come when as many are asked for as may be.
        if range.start > 0 && !met.wait_for(3) {
            return reply("400 Bad Request", &[], b"alone");
        }
        part(bytes, range)
    });
    let (_house, pulled) = pull(&fake, settings_with_parts()).await;
    assert_eq!(pulled.unwrap().layers.len(), 2);
    let mut asked: Vec<_> = ranges(&fake, &blobs).into_iter().flatten().collect();
    asked.sort_by_key(|range| range.start);
    let mut at = 0;
    for range in asked {
        assert_eq!(range.start, at, "each byte is asked for once");
        assert!(range.len() <= PART, "{range:?}");
        at = range.end;
    }
    assert_eq!(at, blobs.layers[1].bytes.len());
}

#[tokio::test]
async fn registries_that_give_no_parts_give_the_whole() {
    for answers in ["200", "400", "416", "later"] {
        let blobs = image().blobs();
        let fake = registry(blobs.clone(), move |bytes, range| match range {
            Some(head) if answers == "later" && head.start == 0 => part(bytes, head),
            // To the end: what is left, of one that gives some parts.
            Some(rest) if answers == "later" && rest.end == bytes.len() => part(bytes, rest),
            Some(_) if answers == "400" => reply("400 Bad Request", &[], b""),
            Some(_) if answers == "416" => reply("416 Range Not Satisfiable", &[], b""),
            _ => blob(bytes),
        });
        let (_house, pulled) = pull(&fake, settings_with_parts()).await;
        assert_eq!(pulled.unwrap().layers.len(), 2, "{answers}");
        let asked = ranges(&fake, &blobs);
        assert_eq!(asked[0], Some(0..PART), "{answers}");
        let most = if answers == "later" { 5 } else { 2 };
        assert!(asked.len() <= most, "{answers}: {asked:?}");
    }
}

#[tokio::test]
async fn a_part_that_breaks_off_is_gone_on_with() {
    let blobs = image().blobs();
    let cut = Mutex::new(true);
    let fake = registry(blobs.clone(), move |bytes, range| {
        let range = range.unwrap();
        let Said(mut said, _) = part(bytes, range.clone());
        // The third part, once.
        let here = range.start == 2 * PART && std::mem::take(&mut *cut.lock().unwrap());
        if here {
            said.truncate(said.len() - PART / 2);
        }
        Said(said, here)
    });
    let (_house, pulled) = pull(&fake, settings_with_parts()).await;
    assert_eq!(pulled.unwrap().layers.len(), 2);
    let asked = ranges(&fake, &blobs);
    let starts = asked.iter().flatten().map(|range| range.start);
    let again = starts.filter(|start| (2 * PART..3 * PART).contains(start));
    assert_eq!(again.count(), 2, "{asked:?}");
}

#[tokio::test]
async fn a_part_that_is_another_is_found_out() {
    let blobs = image().blobs();
    let fake = registry(blobs.clone(), move |bytes, range| {
        let range = range.unwrap();
        let Said(mut said, close) = part(bytes, range.clone());
        if range.start == 5 * PART {
            *said.last_mut().unwrap() ^= 1;
        }
        Said(said, close)
    });
    let (house, pulled) = pull(&fake, settings_with_parts()).await;
    let error = pulled.unwrap_err();
    assert!(
        matches!(error, PullError::Mismatch { .. } | PullError::Layer { .. }),
        "{error:?}"
    );
    assert!(house.snapshotter.layers().len() < 2, "it is no layer");
}

#[tokio::test]
async fn one_download_at_a_time_is_one_connection() {
    let blobs = image().blobs();
    let fake = registry(blobs.clone(), move |bytes, range| match range {
        Some(range) => part(bytes, range),
        None => blob(bytes),
    });
    let settings = Settings {
        max_concurrent_downloads: 1,
        ..settings_with_parts()
    };
    pull(&fake, settings).await.1.unwrap();
    assert_eq!(ranges(&fake, &blobs), [None]);
}
