//! Images that are larger than the memory they are read with: what the kernel drops and reads again is what it was, whichever way
//! layers are mounted.

use hoist_testkit::{TarBuilder, sha256};

use crate::chance::Chance;
use crate::world::{World, image};

/// Bytes of all files of the image, more than three times the container's memory.
const ALL: usize = 64 << 20;
/// Bytes of the container's memory.
const MEMORY: &str = "20m";
const FILES: usize = 64;
/// Who reads all of it at once.
const READERS: usize = 4;

fn reads_right(flags: &[&str]) {
    let Some(world) = World::start_with(flags) else {
        return;
    };
    let mut chance = Chance::new(7);
    let mut tar = TarBuilder::new().directory("big");
    let mut wanted = String::new();
    for number in 0..FILES {
        let bytes: Vec<u8> = std::iter::repeat_with(|| chance.below(usize::MAX).to_le_bytes())
            .take(ALL / FILES / 8)
            .flatten()
            .collect();
        let name = format!("big/{number}");
        wanted += &format!(
            "{}  /{name}\n",
            sha256(&bytes).trim_start_matches("sha256:")
        );
        tar = tar.file(&name, 0o644, bytes);
    }
    let sums = TarBuilder::new().file("sums", 0o644, wanted).finish();
    world.load(&image().layer(tar.finish()).layer(sums).name("big:1"));
    // Each reader begins elsewhere, so that they do not help each other; what changes is read in the same way.
    let script = format!(
        "set -e; cp /big/0 /copy; for r in $(seq {READERS}); do \
           (n=$((r * {FILES} / {READERS})); (tail -n +$n /sums; head -n $n /sums) | sha256sum -c -s && echo right) & \
         done; wait; cmp /copy /big/0"
    );
    let mut run = vec!["run", "--rm", "--network=none", "-m", MEMORY];
    run.extend(["--memory-swap", MEMORY, "big:1", "sh", "-c", &script]);
    let seen = world.docker(&run);
    assert_eq!((seen.status, seen.err.as_str()), (Some(0), ""));
    assert_eq!(seen.out, "right\n".repeat(READERS));
    world.finish();
}

#[test]
fn layers_are_read_right_under_memory_pressure() {
    reads_right(&[]);
}

#[test]
fn directories_are_read_right_under_memory_pressure() {
    reads_right(&["--storage-driver", "overlay2"]);
}
