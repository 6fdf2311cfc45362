//! Whole builds.

use std::sync::atomic::Ordering;

use hoist_build::ports::ReadyMount;
use hoist_testkit::TarBuilder;

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
async fn with_an_epoch_two_builders_make_the_same_image() {
    let (Some(first), Some(second)) = (bench(), bench()) else {
        return;
    };
    let file = "FROM base\nWORKDIR /new\nCOPY a /\nRUN write r done\nENV X=y";
    let mut ids = Vec::new();
    // Programs write at their own time: the second that a file has differs from builder to builder.
    for (bench, now) in [(&first, 2_000_000_001), (&second, 2_000_000_002)] {
        bench.programs.time.store(now, Ordering::SeqCst);
        let mut request = bench.request(file, &[("a", "1")]);
        let epoch = (
            "SOURCE_DATE_EPOCH".to_owned(),
            Some("1700000000".to_owned()),
        );
        request.options.arguments.extend([epoch]);
        let image = bench.run(request.clone()).await.unwrap();
        assert_eq!(
            image.config.created.as_deref(),
            Some("2023-11-14T22:13:20Z")
        );
        let times = image.config.history.iter().map(|line| &line.created);
        assert!(
            times.clone().all(|time| *time == image.config.created),
            "{:?}",
            image.config
        );
        bench.run(request).await.unwrap();
        assert_eq!(bench.done(), (0, 3));
        ids.push(image.id);
    }
    assert_eq!(ids[0], ids[1]);
    // Without, the layers tell when they were made.
    let plain = first.build(file, &[("a", "1")]).await.unwrap();
    assert_eq!(first.done(), (3, 0));
    assert_ne!(
        plain.layers,
        second.build(file, &[("a", "1")]).await.unwrap().layers
    );
    let mut request = first.request(file, &[("a", "1")]);
    let epoch = ("SOURCE_DATE_EPOCH".to_owned(), Some("yesterday".to_owned()));
    request.options.arguments.extend([epoch]);
    let error = first.run(request).await.unwrap_err();
    assert!(error.to_string().contains("\"yesterday\""), "{error}");
}

#[tokio::test]
async fn an_address_is_fetched_again_only_if_it_changed() {
    let Some(bench) = bench() else { return };
    let url = "https://example.test/context.tar".to_owned();
    let told = |state: &str| (b"files".to_vec(), state.to_owned());
    bench
        .web
        .files
        .lock()
        .unwrap()
        .insert(url.clone(), told("one"));
    let address = hoist_build::plan::Address::parse(&url).unwrap().unwrap();
    let first = bench.builder.fetch(&address).await.unwrap();
    assert_eq!(bench.builder.fetch(&address).await.unwrap(), first);
    let asked = bench.web.asked.lock().unwrap().clone();
    let validators: Vec<_> = asked.into_iter().map(|(_, validator)| validator).collect();
    assert_eq!(validators, [None, Some("one".to_owned())]);
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
        ("FROM base\nADD a b.bz2 /etc/", ""),
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

#[tokio::test(flavor = "multi_thread")]
async fn what_add_fetches_is_asked_for_again_and_fetched_again_only_if_it_changed() {
    let Some(bench) = bench() else { return };
    let put = |address: &str, content: &[u8], state: &str| {
        let mut files = bench.web.files.lock().unwrap();
        files.insert(address.to_owned(), (content.to_vec(), state.to_owned()));
    };
    put("https://host/x.txt", b"one", "\"1\"");
    put("https://host/y", b"y", "");
    let dockerfile = "FROM base\nADD https://host/x.txt https://host/y /in/\nADD --chmod=644 --chown=7:8 https://host/x.txt /as\n";
    let first = bench.build(dockerfile, &[]).await.unwrap();
    assert_eq!(bench.read(&first, "in/x.txt").as_deref(), Some("one"));
    assert_eq!(bench.read(&first, "in/y").as_deref(), Some("y"));
    assert_eq!(bench.read(&first, "as").as_deref(), Some("one"));
    // Once each, though two instructions name it.
    assert_eq!(bench.web.asked.lock().unwrap().drain(..).count(), 2);
    let again = bench.build(dockerfile, &[]).await.unwrap();
    assert_eq!(again.id, first.id);
    let mut asked: Vec<_> = bench.web.asked.lock().unwrap().drain(..).collect();
    asked.sort();
    let asked_x = ("https://host/x.txt".to_owned(), Some("\"1\"".to_owned()));
    assert_eq!(asked, [asked_x, ("https://host/y".to_owned(), None)]);
    put("https://host/x.txt", b"two", "\"2\"");
    let changed = bench.build(dockerfile, &[]).await.unwrap();
    assert_eq!(bench.read(&changed, "as").as_deref(), Some("two"));
    let missing = bench.build("FROM base\nADD https://host/none /\n", &[]);
    let missing = missing.await.unwrap_err();
    assert_eq!(missing.to_string(), "https://host/none is not there");
    assert_eq!(missing.lines().map(|lines| lines.first), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_checksum_is_asked_for_once() {
    let Some(bench) = bench() else { return };
    let sum = format!("sha256:{}", "a".repeat(64));
    let place = format!("https://host/x {sum}");
    let state = ("text".into(), String::new());
    bench.web.files.lock().unwrap().insert(place, state);
    let dockerfile = format!("FROM base\nADD --checksum={sum} https://host/x /x\n");
    let first = bench.build(&dockerfile, &[]).await.unwrap();
    let again = bench.build(&dockerfile, &[]).await.unwrap();
    assert_eq!(again.id, first.id);
    assert_eq!(bench.web.asked.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_unpacked_where_add_says_so() {
    let Some(bench) = bench() else { return };
    let tar = || {
        let tar = TarBuilder::new().owner(3, 4).file("d/file", 0o640, "text");
        tar.symlink("d/up", "../../../etc").finish()
    };
    let state = (tar(), String::new());
    let place = "https://host/x.tar".to_owned();
    bench.web.files.lock().unwrap().insert(place, state);
    let tar = String::from_utf8(tar()).unwrap();
    let context = [("local.tar", tar.as_str())];
    let dockerfile = "FROM base\nADD local.tar /in\nADD --unpack=false local.tar /\nADD https://host/x.tar /\nADD --unpack https://host/x.tar /far/\n";
    let image = bench.build(dockerfile, &context).await.unwrap();
    for path in ["in/d/file", "far/d/file"] {
        assert_eq!(bench.read(&image, path).as_deref(), Some("text"), "{path}");
    }
    for path in ["local.tar", "x.tar"] {
        assert_eq!(
            bench.read(&image, path).as_deref(),
            Some(tar.as_str()),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_fail_a_build_that_says_so() {
    let Some(bench) = bench() else { return };
    let refused = bench
        .build(
            "# check=error=true\nFROM base\nCMD echo\nENV TOKEN=x\n",
            &[],
        )
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "lint violation found for rules: JSONArgsRecommended, SecretsUsedInArgOrEnv\n - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)\n - SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"TOKEN\") (line 4)"
    );
    assert_eq!(refused.lines().map(|lines| lines.first), Some(3));
    let skipped = "# check=error=true;skip=all\nFROM base\nCMD echo\n";
    bench.build(skipped, &[]).await.unwrap();
    let wrong = bench
        .build("# check=what\nFROM base\n", &[])
        .await
        .unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "failed to parse check options: invalid check option \"what\""
    );
}
