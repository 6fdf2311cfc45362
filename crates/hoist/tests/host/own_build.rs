//! `hoist build`: what our own client sends, what it does not send again, and what it shows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hoist_testkit::TarBuilder;

use crate::world::{Seen, World, binary, seen};

/// The verb by our own name.
pub(crate) fn build(world: &World, arguments: &[&str]) -> Seen {
    build_of(world, arguments, None)
}

/// The same with standard input.
fn build_of(world: &World, arguments: &[&str], input: Option<&str>) -> Seen {
    let own = world.files.join("hoist");
    if !own.exists() {
        std::os::unix::fs::symlink(binary(), &own).unwrap();
    }
    let mut command = world.daemon.client(&own);
    command.env_remove("DOCKER_BUILDKIT").arg("build");
    command.args(arguments).stdin(Stdio::null());
    if let Some(input) = input {
        let path = world.files.join("input");
        std::fs::write(&path, input).unwrap();
        command.stdin(std::fs::File::open(path).unwrap());
    }
    seen(&mut command)
}

pub(crate) fn context(world: &World, name: &str, files: &[(&str, &str)]) -> String {
    let directory = world.directory(name);
    for (file, content) in files {
        let path = directory.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    directory.display().to_string()
}

const DOCKERFILE: &str = "FROM busybox AS one\nWORKDIR /work\nCOPY . .\nRUN find . -type f | sort\nFROM busybox\nCOPY --from=one /work /work\n";

/// Builds until a context that was just written can be told from what is written next, and is kept.
fn settled(world: &World, path: &str) -> String {
    crate::world::wait_for("a context that need not be sent", || {
        let seen = build(world, &[path]);
        assert_eq!(seen.status, Some(0), "{seen:?}");
        (!seen.err.contains("load build context")).then_some(seen.err)
    })
}

#[test]
fn an_unchanged_context_is_not_sent_again_and_a_changed_one_is() {
    let Some(world) = World::start() else { return };
    let files = [
        ("Dockerfile", DOCKERFILE),
        (".dockerignore", "out\n"),
        ("a/x", "one"),
        ("out/y", "not sent"),
    ];
    let path = context(&world, "app", &files);
    let first = build(&world, &["-t", "app:1", &path]);
    assert_eq!(first.status, Some(0), "{first:?}");
    assert_eq!(first.out, "");
    assert!(first.err.contains("transferred 4 files"), "{}", first.err);
    assert!(first.err.contains(" ./a/x\n"), "{}", first.err);
    assert!(!first.err.contains("out/y"), "{}", first.err);
    let again = settled(&world, &path);
    assert!(again.contains("#4 CACHED"), "{again}");
    let id = build(&world, &["-q", &path]).ok();
    let format = ["image", "inspect", "-f", "{{.Id}}", "app:1"];
    assert_eq!(world.docker(&format).ok(), id);
    // What is not sent does not count.
    std::fs::write(Path::new(&path).join("out/y"), "other").unwrap();
    assert_eq!(settled(&world, &path), again);
    std::fs::write(Path::new(&path).join("a/x"), "two").unwrap();
    let changed = build(&world, &[&path]);
    assert!(changed.err.contains("load build context"), "{changed:?}");
    assert_ne!(build(&world, &["-q", &path]).ok(), id);
    settled(&world, &path);
    // One state of the place is kept, and let go of with the rest of the cache.
    let kept = || {
        let cache = ["system", "df", "-v", "--format", "{{json .BuildCache}}"];
        world.docker(&cache).ok().matches("source.local").count()
    };
    assert_eq!(kept(), 1);
    world.docker(&["builder", "prune", "-af"]).ok();
    assert_eq!(kept(), 0);
    assert!(build(&world, &[&path]).err.contains("load build context"));
    world.finish();
}

#[test]
fn a_build_says_what_it_would_do_what_failed_and_where() {
    let Some(world) = World::start() else { return };
    let path = context(&world, "app", &[("Dockerfile", DOCKERFILE), ("a", "b")]);
    let plan = build(&world, &["--plan", &path]).ok();
    assert!(plan.contains("run [\"/bin/sh\", \"-c\", \"find"), "{plan}");
    assert!(plan.ends_with("image: step 3\n"), "{plan}");
    let images = ["images", "-aq"];
    assert_eq!(world.docker(&images).ok().lines().count(), 1);

    let bad = "FROM busybox\nRUN echo out; echo err >&2; exit 3\n";
    let failed = build_of(&world, &["-f", "-", &path], Some(bad)).refused(3);
    for said in [
        " out\n",
        " err\n",
        "   2 | >>> RUN echo",
        "returned a non-zero code: 3",
    ] {
        assert!(failed.contains(said), "{said} is not in {failed}");
    }
    let failed = build_of(&world, &["-"], Some("FROM busybox\n\nRUNN x\n")).refused(1);
    assert!(failed.contains("Dockerfile:3\n"), "{failed}");
    assert!(failed.contains("did you mean RUN?"), "{failed}");
    for (arguments, said) in [
        (&["nowhere"][..], "path \"nowhere\" not found"),
        (&["--squash", path.as_str()], "--squash is not there"),
        (
            &["--progress=loud", path.as_str()],
            "invalid progress mode \"loud\"",
        ),
        (&["--secret=src=x", path.as_str()], "it has no id"),
        (&["-t", "A B", path.as_str()], "invalid reference format"),
    ] {
        let refused = build(&world, arguments).refused(1);
        assert!(refused.contains(said), "{refused}");
    }
    world.finish();
}

#[test]
fn secrets_are_seen_by_the_step_and_nowhere_else() {
    let Some(world) = World::start() else { return };
    let path = context(&world, "app", &[("content", "b")]);
    let token = context(&world, "elsewhere", &[("token", "s3cr3t-word")]);
    let token = format!("id=token,src={token}/token");
    let file = "FROM busybox\nARG one\nRUN --mount=type=secret,id=token wc -c </run/secrets/token >/count\n\
        RUN --mount=type=secret,id=token,env=TOKEN test ${#TOKEN} = 11\n\
        RUN --mount=type=secret,id=token,target=/etc/token,mode=0444 --mount=type=cache,target=/cache grep -c . /etc/token\n";
    let id = world.path("id");
    let arguments = [
        "-t",
        "s",
        "--iidfile",
        &id,
        "--secret",
        &token,
        "-f",
        "-",
        &path,
    ];
    let built = build_of(&world, &arguments, Some(file));
    assert_eq!(built.status, Some(0), "{built:?}");
    assert!(!built.err.contains("s3cr3t"), "{built:?}");
    let named = world
        .docker(&["image", "inspect", "-f", "{{.Id}}", "s"])
        .ok();
    assert_eq!(named.trim(), std::fs::read_to_string(&id).unwrap());
    let seen = ["run", "--rm", "s", "cat", "/count", "/run/secrets/token"];
    let seen = world.docker(&seen);
    assert_eq!((seen.status, seen.out.as_str()), (Some(1), "11\n"));
    // Nor is it in layers, keys and records, histories, logs, the files of steps that ended.
    let found = files_with(world.daemon.directory(), b"s3cr3t-word");
    assert_eq!(found, Vec::<PathBuf>::new());
    // A step that fails while it sees the secret leaves as little.
    let file = "FROM busybox\nRUN --mount=type=secret,id=token,env=TOKEN cp /run/secrets/token /tmp; exit 4\n";
    build_of(&world, &arguments, Some(file)).refused(4);
    let found = files_with(world.daemon.directory(), b"s3cr3t-word");
    assert_eq!(found, Vec::<PathBuf>::new());
    world.finish();
}

#[test]
fn what_is_written_to_a_mounted_directory_goes_with_the_step() {
    let Some(world) = World::start() else { return };
    let path = context(&world, "app", &[("d/file", "given\n")]);
    let file = "FROM busybox\n\
        RUN --mount=type=bind,source=d,target=/d,rw echo more >>/d/file; echo new >/d/new; cat /d/file /d/new >/seen\n\
        RUN --mount=type=bind,source=d,target=/d cat /d/file >>/seen; ! touch /d/new; ls /d >>/seen\n";
    let built = build_of(&world, &["-t", "w", "-f", "-", &path], Some(file));
    assert_eq!(built.status, Some(0), "{built:?}");
    let seen = world.docker(&["run", "--rm", "w", "cat", "/seen"]).ok();
    assert_eq!(seen, "given\nmore\nnew\ngiven\nfile\n");
    let untouched = std::fs::read_to_string(Path::new(&path).join("d/file"));
    assert_eq!(untouched.unwrap(), "given\n");
    world.finish();
}

/// The files below a directory that have these bytes in them.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if kind.is_file() {
            // What the engine takes away meanwhile has nothing in it.
            let content = std::fs::read(&path).unwrap_or_default();
            let has = content.windows(bytes.len()).any(|window| window == bytes);
            found.extend(has.then_some(path));
        }
    }
    found
}

/// A web server that has these files; it ends with the test's process.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let target = head.first().and_then(|line| line.split(' ').nth(1));
            let file = files.iter().find(|(name, _)| Some(*name) == target);
            let (status, content) = match file {
                Some((_, content)) => ("200 OK", content.as_slice()),
                None => ("404 Not Found", &b""[..]),
            };
            let length = content.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // Who asked may be gone.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(content));
        }
    });
    address
}

#[test]
fn contexts_and_dockerfiles_come_from_addresses() {
    let Some(world) = World::start() else { return };
    let archive = TarBuilder::new()
        .file("Dockerfile", 0o644, "FROM busybox\nCOPY word /word\n")
        .file("other", 0o644, "FROM busybox\nRUN echo other >/word\n")
        .file("word", 0o644, "from afar\n");
    let alone = b"FROM busybox\nRUN echo alone >/word\n".to_vec();
    let address = serve(vec![
        ("/context.tar", archive.finish()),
        ("/Dockerfile", alone),
    ]);
    let word = |image: &str| world.docker(&["run", "--rm", image, "cat", "/word"]).ok();
    for (path, file, said) in [
        ("context.tar", "Dockerfile", "from afar\n"),
        ("context.tar", "other", "other\n"),
        ("Dockerfile", "Dockerfile", "alone\n"),
    ] {
        let url = format!("http://{address}/{path}");
        build(&world, &["-q", "-t", "own", "-f", file, &url]).ok();
        assert_eq!(word("own"), said);
        let classic = format!("/build?t=classic&dockerfile={file}&remote={url}");
        let (status, answer) = world.daemon.request("POST", &classic, None).unwrap();
        assert!(
            status == 200 && answer.contains("Successfully tagged classic:latest"),
            "{answer}"
        );
        assert_eq!(word("classic"), said);
    }
    let nowhere = format!("http://{address}/nowhere");
    for (context, said) in [
        (nowhere.as_str(), "unable to fetch the build context: "),
        (
            "git://127.0.0.1/x.git",
            "another protocol than http(s) is not implemented by Hoist yet",
        ),
    ] {
        let refused = build(&world, &[context]).refused(1);
        assert!(refused.contains(said), "{refused}");
    }
    world.finish();
}
