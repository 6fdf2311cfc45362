//! Whole builds.

use std::sync::atomic::Ordering;

use hoist_build::ports::ReadyMount;

use crate::support::{bench, secrets};

#[tokio::test]
async fn files_programs_and_settings_become_an_image() {
    let Some(bench) = bench() else { return };
    let image = bench
        .build(
            "FROM base AS a\nRUN write made by a program\nFROM base\nWORKDIR /w\nCOPY --chown=app . sub/\nCOPY --from=a /made .\nENV X=y\nCMD [\"run\"]",
            &[("one", "1"), ("dir/two", "2")],
        )
        .await
        .unwrap();
    assert_eq!(bench.read(&image, "/w/sub/dir/two").as_deref(), Some("2"));
    assert_eq!(
        bench.read(&image, "/w/made").as_deref(),
        Some("by a program")
    );
    assert_eq!(image.layers.len(), 4);
    assert_eq!(image.config.config.env, ["PATH=/bin", "X=y"]);
    let history: Vec<_> = image
        .config
        .history
        .iter()
        .map(|line| line.empty_layer)
        .collect();
    assert_eq!(history, [false, false, false, true, true]);
    let ran = bench.programs.ran.lock().unwrap();
    assert_eq!(ran[0].words, ["/bin/sh", "-c", "write made by a program"]);
    assert_eq!(ran[0].working_directory, "/");
}

#[tokio::test]
async fn what_was_done_is_not_done_again() {
    let Some(bench) = bench() else { return };
    let file = "FROM base\nCOPY a /\nRUN write r done\nCOPY b /";
    let first = bench
        .build(file, &[("a", "1"), ("b", "1"), ("c", "1")])
        .await
        .unwrap();
    assert_eq!(bench.done(), (3, 0));
    // The same image, to its id; what is not copied does not count.
    let again = bench
        .build(file, &[("a", "1"), ("b", "1"), ("c", "2")])
        .await
        .unwrap();
    assert_eq!(bench.done(), (0, 3));
    assert_eq!(again.id, first.id);
    let other = bench.build(file, &[("a", "1"), ("b", "2")]).await.unwrap();
    assert_eq!(bench.done(), (1, 2));
    assert_ne!(other.id, first.id);
    // From another file, by other names, what is equal is the same.
    bench
        .build(
            "FROM base AS x\nCOPY a /\nRUN write r done\nFROM x",
            &[("a", "1")],
        )
        .await
        .unwrap();
    assert_eq!(bench.done(), (0, 2));
    let mut request = bench.request(file, &[("a", "1"), ("b", "1")]);
    request.no_cache = true;
    bench.run(request).await.unwrap();
    assert_eq!(bench.done(), (3, 0));
    let pruned = bench.builder.prune(|_| true).await.unwrap();
    assert!(pruned.bytes > 0);
    bench.build(file, &[("a", "1"), ("b", "1")]).await.unwrap();
    assert_eq!(bench.done(), (3, 0));
}

#[tokio::test]
async fn a_lost_layer_is_made_again() {
    let Some(bench) = bench() else { return };
    let file = "FROM base\nCOPY a /\nRUN write r x";
    let image = bench.build(file, &[("a", "1")]).await.unwrap();
    let removed = bench.snapshotter.remove_layer(&image.layers[1]).unwrap();
    removed.delete().unwrap();
    let again = bench.build(file, &[("a", "1")]).await.unwrap();
    assert_eq!(bench.done(), (1, 1));
    assert_eq!(bench.read(&again, "/a").as_deref(), Some("1"));
}

#[tokio::test]
async fn stages_that_need_nothing_of_each_other_are_done_at_once() {
    let Some(bench) = bench() else { return };
    // Neither ends before both run.
    bench
        .build(
            "FROM base AS a\nRUN meet one\nRUN write a 1\nFROM base AS b\nRUN meet two\nRUN write b 2\nFROM base\nCOPY --from=a a /\nCOPY --from=b b /",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(bench.done(), (6, 0));
    assert_eq!(bench.asked_for_bases(), 1);
}

#[tokio::test]
async fn a_failed_program_names_its_line_and_ends_the_others() {
    let Some(bench) = bench() else { return };
    let error = bench
        .build(
            "FROM base AS a\nRUN hang\nFROM base\nRUN fail-later\nCOPY --from=a /x /",
            &[],
        )
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "The command '/bin/sh -c fail-later' returned a non-zero code: 7"
    );
    assert_eq!(error.exit_code(), Some(7));
    assert_eq!(error.lines().map(|lines| lines.first), Some(4));
    assert_eq!(bench.programs.dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_build_that_is_dropped_ends_its_programs() {
    let Some(bench) = bench() else { return };
    let build = bench.build("FROM base\nRUN hang", &[]);
    tokio::select! {
        _ = build => panic!("it hangs"),
        () = bench.programs.hanging.notified() => {}
    }
    assert_eq!(bench.programs.dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn mounts_are_ready_when_a_program_runs() {
    let Some(bench) = bench() else { return };
    let text = "FROM base AS a\nRUN write f text\nFROM base\nRUN --mount=type=cache,target=/c --mount=from=a,source=f,target=/f --mount=type=secret,id=s,env=S --mount=type=secret,id=t --mount=type=secret,id=none --mount=type=tmpfs,target=/t x";
    let mut request = bench.request(text, &[]);
    request.secrets = secrets(&[("s", "token"), ("t", "file")]);
    let image = bench.run(request).await.unwrap();
    let ran = bench.programs.ran.lock().unwrap().pop().unwrap();
    assert!(ran.environment.contains(&"S=token".to_owned()));
    let targets: Vec<String> = ran
        .mounts
        .iter()
        .map(|mount| match mount {
            ReadyMount::Layers { source, target, .. } => format!("{target} layers {source}"),
            ReadyMount::Host {
                target, writable, ..
            } => format!("{target} host {writable}"),
            ReadyMount::Memory { target, .. } => format!("{target} memory"),
        })
        .collect();
    assert_eq!(
        targets,
        [
            "/c host true",
            "/f layers f",
            "/run/secrets/t host false",
            "/t memory"
        ]
    );
    // The secret is neither in the image nor in the cache, nor is its file there afterwards.
    let config = serde_json::to_string(&image.config).unwrap();
    assert!(!config.contains("token"), "{config}");
    assert!(
        bench
            .builder
            .cached()
            .iter()
            .all(|record| !record.description.contains("token"))
    );
    for mount in &ran.mounts {
        if let ReadyMount::Host {
            source,
            writable: false,
            ..
        } = mount
        {
            assert!(!source.exists(), "{}", source.display());
        }
    }
    let required = "FROM base\nRUN --mount=type=secret,id=none,required x";
    let error = bench.build(required, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "secret none: not found");
}

#[tokio::test]
async fn what_is_wrong_with_files_is_said() {
    let Some(bench) = bench() else { return };
    for (text, said) in [
        (
            "FROM base\nCOPY none /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist",
        ),
        (
            "FROM base\nCOPY --chown=nobody a /",
            "--chown=nobody: unable to find user nobody: no matching entries in passwd file",
        ),
        (
            "FROM base\nCOPY --chmod=9 a /",
            "invalid chmod parameter: \"9\": it should be an octal number between 0 and 07777, or symbolic",
        ),
        ("FROM base\nCOPY a /etc", ""),
        ("FROM other\nRUN x", "no image other"),
        ("FROM base\nADD a /etc", ""),
        (
            "FROM base\nADD b.bz2 /etc/",
            "ADD of an archive is not implemented by Hoist yet: b.bz2 (COPY takes it as it is)",
        ),
    ] {
        let result = bench.build(text, &[("a", "1"), ("b.bz2", "BZh91AY")]).await;
        match result {
            Err(error) => assert_eq!(error.to_string(), said),
            Ok(image) => {
                assert_eq!(said, "");
                assert_eq!(bench.read(&image, "/etc/a").as_deref(), Some("1"));
            }
        }
    }
}
