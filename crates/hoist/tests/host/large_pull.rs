//! Layers that are large: a pull goes on where a killed engine left it, and memory does not grow with what is pulled.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hoist_testkit::{
    Compression, ImageBlobs, ImageBuilder, LocalRegistry, RegistryOptions, TarBuilder,
};

use crate::world::{World, image};

/// busybox and a layer of so many bytes that no compressor shrinks.
fn with_noise(length: usize) -> ImageBuilder {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(length + 8);
    while noise.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    let tar = TarBuilder::new().file("noise", 0o644, noise);
    image().layer(tar.finish()).compression(Compression::Gzip)
}

/// A registry that sends the last layer's first half and then nothing, until it is asked for the rest.
struct Stalling {
    address: SocketAddr,
    /// The ranges that the last layer was asked for with.
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Stalling {
    fn start(blobs: ImageBlobs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ranges = Arc::<Mutex<Vec<_>>>::default();
        let (blobs, seen) = (Arc::new(blobs), Arc::clone(&ranges));
        // Ends with the test's process: it holds nothing.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (blobs, seen) = (Arc::clone(&blobs), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &blobs, &seen));
            }
        });
        Self { address, ranges }
    }
}

fn serve(
    mut stream: TcpStream,
    blobs: &ImageBlobs,
    ranges: &Mutex<Vec<Option<usize>>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut target, mut start) = (String::new(), None);
        loop {
            let mut line = Vec::new();
            reader
                .read_until(b'\n', &mut line)
                .ok()
                .filter(|n| *n > 0)?;
            if line[0] == 0x16 {
                // Somebody who tries TLS first.
                return None;
            }
            let line = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            } else if let Some(range) = line.strip_prefix("range: bytes=") {
                start = Some(range.strip_suffix('-')?.parse::<usize>().ok()?);
            }
        }
        let large = blobs.layers.last()?;
        let body: &[u8] = if target == "/v2/" {
            b"{}"
        } else if target.contains("/manifests/") {
            &blobs.manifest
        } else if target.ends_with(&large.digest) {
            &large.bytes
        } else {
            let layer = blobs.layers.iter().find(|l| target.ends_with(&l.digest));
            layer.map_or(&blobs.config, |layer| &layer.bytes)
        };
        let kind = match target.contains("/manifests/") {
            true => "application/vnd.oci.image.manifest.v1+json",
            false => "application/octet-stream",
        };
        let (from, whole) = (start.unwrap_or(0), body.len());
        let (status, place) = match start {
            None => ("200 OK", String::new()),
            Some(_) => {
                let last = whole - 1;
                let place = format!("Content-Range: bytes {from}-{last}/{whole}\r\n");
                ("206 Partial Content", place)
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: {kind}\r\nAccept-Ranges: bytes\r\n{place}\r\n",
            whole - from
        );
        stream.write_all(head.as_bytes()).ok()?;
        if target.ends_with(&large.digest) {
            ranges.lock().unwrap().push(start);
            if start.is_none() {
                stream.write_all(&body[..whole / 2]).ok()?;
                // Until whoever asked is gone.
                reader.read_until(b'\n', &mut Vec::new()).ok()?;
                return None;
            }
        }
        stream.write_all(&body[from..]).ok()?;
    }
}

#[test]
fn a_pull_goes_on_where_a_killed_engine_left_it() {
    let Some(mut world) = World::start() else {
        return;
    };
    let registry = Stalling::start(with_noise(16 << 20).blobs());
    let name = format!("{}/large:latest", registry.address);
    let mut client = world.daemon.client(crate::world::binary());
    let mut pull = client.args(["pull", "-q", &name]).spawn().unwrap();
    let parts = world.daemon.directory().join("data/image/partial");
    let kept = || -> u64 {
        let entries = std::fs::read_dir(&parts).into_iter().flatten().flatten();
        entries.filter_map(|e| Some(e.metadata().ok()?.len())).sum()
    };
    let begun = Instant::now();
    while kept() < 4 << 20 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            world.daemon.log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    world.daemon.kill();
    pull.wait().unwrap();
    let length = usize::try_from(kept()).unwrap();
    world.daemon.launch();
    world.docker(&["pull", "-q", &name]).ok();
    let ranges = registry.ranges.lock().unwrap().clone();
    assert_eq!(ranges, [None, Some(length)]);
    assert_eq!(kept(), 0);
    let size = world.docker(&["run", "--rm", &name, "stat", "-c", "%s", "/noise"]);
    assert_eq!(size.ok().trim(), (16 << 20).to_string());
    world.docker(&["rmi", &name]).ok();
    world.finish();
}

/// A control group of its own with a limit of memory, where this machine has such a thing.
struct Limited(PathBuf);

impl Limited {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("hoist-large-pull-{}", std::process::id());
        let old = Path::new("/sys/fs/cgroup/memory");
        let (path, limit) = match old.join("memory.limit_in_bytes").exists() {
            true => (old.join(name), "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup").join(name), "memory.max"),
        };
        std::fs::create_dir(&path).ok()?;
        let limited = Self(path);
        std::fs::write(limited.0.join(limit), bytes.to_string()).ok()?;
        Some(limited)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // It may hold a process for a moment longer.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a process had of memory at most, in bytes, its program's pages among it.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() << 10
}

/// 192 MiB of layers, in an engine that may have a third of that, page cache and all.
#[test]
fn an_image_may_be_larger_than_memory() {
    let limit = 64 << 20;
    let Some(limited) = Limited::new(limit) else {
        hoist_testkit::skip("no control group with a limit of memory can be made");
        return;
    };
    let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
        hoist_testkit::skip("docker-registry is not installed");
        return;
    };
    let Some(world) = World::start() else {
        return;
    };
    let noise = |seed: u8| {
        let mut noise = vec![seed; 96 << 20];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 + u64::from(seed);
        for word in noise.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        TarBuilder::new().file(&format!("noise{seed}"), 0o644, noise)
    };
    let large = image().layer(noise(1).finish()).layer(noise(2).finish());
    registry.put("large", "1", &large.compression(Compression::Gzip));
    let pid = world.daemon.pid();
    std::fs::write(limited.0.join("cgroup.procs"), pid.to_string()).unwrap();
    let name = format!("{}/large:1", registry.address());
    let before = peak(pid);
    world.docker(&["pull", "-q", &name]).ok();
    assert_eq!(world.daemon.pid(), pid);
    let grown = peak(pid) - before;
    assert!(grown < limit, "{grown} bytes after {before}");
    let size = world.docker(&["image", "inspect", "-f", "{{.Size}}", &name]);
    assert!(size.ok().trim().parse::<u64>().unwrap() > 192 << 20);
    world.docker(&["rmi", &name]).ok();
    world.finish();
}
