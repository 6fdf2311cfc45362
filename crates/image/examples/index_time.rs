//! How long a layer takes to store: a tar as a layer with its EROFS index, against `tar -x` of the same tar.
//!
//! ```text
//! cargo run --release -p hoist-image --example index_time -- some.tar [data root]
//! ```
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hoist_image::{Ids, SnapshotterChoice, open_snapshotter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let tar = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: index_time some.tar [data root]")?,
    );
    let root = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let work = root.join(format!("index-time-{}", std::process::id()));
    let mut times = vec![("tar -x", extract(&tar, &work.join("out"))?)];
    for choice in [SnapshotterChoice::Erofs, SnapshotterChoice::Directory] {
        let snapshotter = open_snapshotter(&work.join(format!("{choice:?}")), choice)?;
        // What came before must not be written back on this one's time.
        rustix::fs::sync();
        let start = Instant::now();
        let mut writer = snapshotter.layer_writer()?;
        let mut file = File::open(&tar)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            writer.write_all(&buffer[..read])?;
        }
        let streamed = start.elapsed();
        let record = writer.finish(None)?;
        times.push((snapshotter.kind().as_str(), start.elapsed()));
        println!(
            "{}: {streamed:?} until the last byte, {} bytes of tar",
            snapshotter.kind().as_str(),
            record.tar_bytes
        );
        let start = Instant::now();
        let view = snapshotter.view(std::slice::from_ref(&record.diff_id), Ids::Host)?;
        println!(
            "{}: first mount {:?}",
            snapshotter.kind().as_str(),
            start.elapsed()
        );
        drop(view);
        let start = Instant::now();
        drop(snapshotter.remove_layer(&record.diff_id)?);
        println!(
            "{}: removed in {:?}",
            snapshotter.kind().as_str(),
            start.elapsed()
        );
    }
    for (what, time) in times {
        println!("{what:>10}: {time:?}");
    }
    std::fs::remove_dir_all(&work)?;
    Ok(())
}

fn extract(tar: &PathBuf, out: &PathBuf) -> Result<Duration, Box<dyn Error>> {
    std::fs::create_dir_all(out)?;
    let start = Instant::now();
    let status = Command::new("tar")
        .arg("-xf")
        .arg(tar)
        .arg("-C")
        .arg(out)
        .status()?;
    if !status.success() {
        return Err(format!("tar ended with {status}").into());
    }
    Ok(start.elapsed())
}
