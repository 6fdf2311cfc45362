//! Copying, exporting and committing what a hostile container made: nothing of the host is read, written or changed.
//! (CVE-2018-15664, 2019-14271, 2021-41089, 2024-5154.)

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hoist_testkit::{EntryKind, TarBuilder};

use crate::world::{World, wait_for};

/// A directory of the host with a secret in it, that no container was given.
fn bait(world: &World) -> PathBuf {
    let bait = world.directory("bait");
    fs::write(bait.join("secret"), "of the host").unwrap();
    fs::set_permissions(&bait, fs::Permissions::from_mode(0o750)).unwrap();
    bait
}

/// The bait is as it was.
#[track_caller]
fn untouched(bait: &PathBuf) {
    let names: Vec<_> = fs::read_dir(bait)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(fs::read(bait.join("secret")).unwrap(), b"of the host");
    let metadata = fs::metadata(bait).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o750, 0));
}

/// One request with a body of any bytes: status and body.
fn exchange(world: &World, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    // Refused before it was read, perhaps.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let status = String::from_utf8_lossy(&reply)
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok());
    (status.unwrap_or_default(), reply)
}

fn put(world: &World, path: &str, tar: &[u8]) -> u16 {
    exchange(
        world,
        &format!("PUT /containers/one/archive?path={path}"),
        tar,
    )
    .0
}

fn get(world: &World, path: &str) -> (u16, Vec<u8>) {
    exchange(
        world,
        &format!("GET /containers/one/archive?path={path}"),
        b"",
    )
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn copies_follow_links_inside_the_container_only() {
    let Some(world) = World::start() else {
        return;
    };
    let bait = bait(&world);
    let target = bait.display();
    // Of the same name in the container, so that what follows a link there finds something.
    let script = format!(
        "mkdir -p {target} && echo of the container >{target}/secret && ln -s {target} /absolute \
         && ln -s ../../../../../../../..{target} /relative && ln -s /proc/1/root{target} /magic \
         && ln -s /proc/self/cwd /cwd; sleep 1000"
    );
    let file = TarBuilder::new()
        .file("new", 0o6777, b"x".to_vec())
        .finish();
    for running in [true, false] {
        world
            .docker(&["run", "-d", "--name", "one", "busybox", "sh", "-c", &script])
            .ok();
        wait_for("the links", || (get(&world, "/cwd").0 == 200).then_some(()));
        if !running {
            world.docker(&["kill", "one"]).ok();
        }
        for link in ["/absolute", "/relative", "/magic", "/cwd"] {
            for path in [
                link.to_owned(),
                format!("{link}/"),
                format!("{link}/secret"),
                format!("{link}/../bait/secret"),
            ] {
                let (status, bytes) = get(&world, &path);
                assert!(matches!(status, 200 | 400 | 404 | 500), "{path}: {status}");
                assert!(
                    !contains(&bytes, "of the host"),
                    "{path} reads the host's file"
                );
            }
            put(&world, link, &file);
            put(&world, &format!("{link}/"), &file);
            untouched(&bait);
        }
        let (status, bytes) = get(&world, "/absolute/secret");
        assert_eq!(status, 200);
        assert!(contains(&bytes, "of the container"));
        world.docker(&["rm", "-f", "one"]).ok();
    }
    world.finish();
}

#[test]
fn a_link_that_comes_and_goes_leads_no_copy_outside() {
    let Some(world) = World::start() else {
        return;
    };
    let bait = bait(&world);
    let target = bait.display();
    // A directory and a link out take turns, as fast as can be.
    let script = format!(
        "mkdir /real && echo mine >/real/secret && ln -s {target} /link && echo ready; \
         while :; do mv /real /turn 2>/dev/null; mv /turn /real; mv /link /turn; mv /turn /link; done"
    );
    world
        .docker(&["run", "-d", "--name", "one", "busybox", "sh", "-c", &script])
        .ok();
    wait_for("the race", || {
        (world.docker(&["logs", "one"]).ok() == "ready\n").then_some(())
    });
    let file = TarBuilder::new().file("new", 0o777, b"x".to_vec()).finish();
    let (mut tries, mut answered) = (0, 0);
    wait_for("the race to be joined", || {
        put(&world, "/turn", &file);
        let (status, bytes) = get(&world, "/turn/secret");
        answered += usize::from(status == 200);
        tries += 1;
        assert!(!contains(&bytes, "of the host"));
        (tries >= 150 && answered > 0).then_some(())
    });
    untouched(&bait);
    // Where the directory went while an archive was being unpacked, none was made in its place.
    let found = world.docker(&[
        "exec",
        "one",
        "find",
        "/real",
        "/turn",
        "/link",
        "-mindepth",
        "2",
    ]);
    assert_eq!(found.out, "");
    world.docker(&["rm", "-f", "one"]).ok();
    world.finish();
}

#[test]
fn hostile_archives_write_inside_the_container_only() {
    let Some(world) = World::start() else {
        return;
    };
    let bait = bait(&world);
    let target = bait.display().to_string();
    world
        .docker(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"])
        .ok();
    let up = "../".repeat(20);
    let archives = [
        TarBuilder::new()
            .file(&format!("{up}{target}/new"), 0o777, b"x".to_vec())
            .finish(),
        TarBuilder::new()
            .file(&format!("{target}/secret"), 0o777, b"x".to_vec())
            .finish(),
        TarBuilder::new()
            .entry("out", 0o777, &EntryKind::Symlink(target.clone()), &[])
            .file("out/new", 0o777, b"x".to_vec())
            .finish(),
        TarBuilder::new()
            .entry(
                "out",
                0o777,
                &EntryKind::Symlink(format!("{up}{target}")),
                &[],
            )
            .file("out/secret", 0o777, b"x".to_vec())
            .entry("out", 0o777, &EntryKind::Directory, &[])
            .finish(),
        TarBuilder::new()
            .entry(
                "hard",
                0o777,
                &EntryKind::Hardlink(format!("{up}{target}/secret")),
                &[],
            )
            .file("hard", 0o777, b"x".to_vec())
            .finish(),
        // The disk of the host, were it opened.
        TarBuilder::new()
            .entry("disk", 0o666, &EntryKind::BlockDevice(254, 0), &[])
            .entry("null", 0o666, &EntryKind::CharacterDevice(1, 3), &[])
            .finish(),
    ];
    for (number, archive) in archives.iter().enumerate() {
        for path in ["/", "/tmp", "/proc", "/dev"] {
            let status = put(&world, path, archive);
            assert!(
                matches!(status, 200 | 400 | 403 | 404 | 500),
                "{number} to {path}: {status}"
            );
        }
        untouched(&bait);
    }
    // A device that was unpacked may be there; the container's rules keep it shut.
    let read = world.docker(&[
        "exec",
        "one",
        "dd",
        "if=/tmp/disk",
        "of=/dev/null",
        "count=1",
    ]);
    assert_ne!(read.status, Some(0), "{read:?}");
    world.docker(&["rm", "-f", "one"]).ok();
    world.finish();
}

#[test]
fn exports_and_images_of_hostile_containers_hold_nothing_of_the_host() {
    let Some(world) = World::start() else {
        return;
    };
    let bait = bait(&world);
    let target = bait.display();
    let script = format!(
        "ln -s {target} /link; ln -s {target}/secret /file; ln -s /proc/1/root /magic; mkfifo /fifo; \
         touch \"/$(printf 'a\\nb')\"; mkdir -p /deep; cd /deep; for i in $(seq 60); do mkdir d; cd d; done; \
         ln -sf {target}/secret /etc/hosts.link; echo done"
    );
    world
        .docker(&["run", "--name", "one", "busybox", "sh", "-c", &script])
        .ok();
    let (status, exported) = exchange(&world, "GET /containers/one/export", b"");
    assert_eq!(status, 200);
    assert!(!contains(&exported, "of the host") && contains(&exported, "hosts.link"));
    let (status, answer) = exchange(&world, "POST /commit?container=one&repo=hostile&tag=1", b"");
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    let (status, saved) = exchange(&world, "GET /images/hostile:1/get", b"");
    assert_eq!(status, 200);
    assert!(!contains(&saved, "of the host") && contains(&saved, "hosts.link"));
    // What was committed runs, and its links lead nowhere.
    let seen = world.docker(&["run", "--rm", "hostile:1", "cat", "/file"]);
    assert_eq!(seen.status, Some(1), "{seen:?}");
    untouched(&bait);
    world.docker(&["rm", "one"]).ok();
    world.docker(&["rmi", "hostile:1"]).ok();
    world.finish();
}
