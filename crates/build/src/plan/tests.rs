//! Plans as texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use hoist_image::document::ImageConfig;
use hoist_model::Digest;

use super::{Base, Bases, Plan, PlanOptions, Planned, plan};
use crate::dockerfile::Dockerfile;

fn options() -> PlanOptions {
    PlanOptions {
        platform: "linux/amd64".parse().expect("a platform"),
        ..PlanOptions::default()
    }
}

fn layer(byte: char) -> Digest {
    format!("sha256:{}", byte.to_string().repeat(64))
        .parse()
        .expect("a digest")
}

/// Plans with whatever images are asked for, each of one layer and this config.
fn planned(text: &str, options: &PlanOptions, config: &ImageConfig) -> Result<Plan, String> {
    let file = Dockerfile::parse(text).map_err(|error| error.to_string())?;
    let mut bases = Bases::new();
    loop {
        match plan(&file, options, &bases).map_err(|error| error.to_string())? {
            Planned::Ready(plan) => return Ok(*plan),
            Planned::Needs(names) => {
                assert!(names.iter().all(|name| !bases.contains_key(name)));
                for name in names {
                    let base = Base {
                        id: name.reference.clone(),
                        config: config.clone(),
                        layers: vec![layer('a')],
                    };
                    bases.insert(name, Arc::new(base));
                }
            }
        }
    }
}

fn check(text: &str, expected: &Expect) {
    let shown = match planned(text, &options(), &ImageConfig::default()) {
        Ok(plan) => plan.to_string().replace(&layer('a').to_string(), "aaaa"),
        Err(error) => error,
    };
    expected.assert_eq(&shown);
}

#[test]
fn only_what_the_target_needs_is_planned_once() {
    check(
        "ARG V=1\nFROM base:$V AS a\nENV X=y\nRUN one\nFROM base AS unused\nRUN never\nFROM a AS b\nARG V\nRUN two $V\nFROM scratch\nCOPY --from=a /x /y\nCOPY --from=b z* /w/",
        &expect![[r#"
            0: over 1 layers to aaaa
               run ["/bin/sh", "-c", "one"]
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               with "X=y"
               in "/"
            1: over nothing
               copy to "/y" from step 0
               source "/x"
            2: over step 0
               run ["/bin/sh", "-c", "two $V"]
               with "V=1"
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               with "X=y"
               in "/"
            3: over step 1
               copy to "/w/" from step 2
               source "z*"
            image: step 3
        "#]],
    );
}

#[test]
fn variables_are_read_where_docker_reads_them() {
    check(
        "FROM base\nENV A=1 B=$A\nARG C=${A}2\nWORKDIR /w/$C\nWORKDIR sub\nUSER u$A\nCOPY --chown=$A --chmod=7$A$A f$A .\nRUN echo $A",
        &expect![[r#"
            0: over 1 layers to aaaa
               directory "/w/12" of ""
            1: over step 0
               directory "/w/12/sub" of ""
            2: over step 1
               copy to "/w/12/sub/" from the context
               source "f1"
               owner "1"
               mode "711"
            3: over step 2
               run ["/bin/sh", "-c", "echo $A"]
               with "C=12"
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               with "A=1"
               with "B="
               in "/w/12/sub"
               as "u1"
            image: step 3
        "#]],
    );
}

#[test]
fn here_documents_are_scripts_programs_and_files() {
    check(
        "FROM base\nRUN <<EOF\na\nb\nEOF\nRUN <<EOF\n#!/usr/bin/python3\nx\nEOF\nRUN python3 <<EOF\ny\nEOF\nENV V=1\nCOPY <<one <<'two' /d/\n\"$V\"\none\n$V\ntwo",
        &expect![[r##"
            0: over 1 layers to aaaa
               run ["/bin/sh", "-c", "a\nb\n"]
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               in "/"
            1: over step 0
               run []
               script "#!/usr/bin/python3\nx\n"
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               in "/"
            2: over step 1
               run ["/bin/sh", "-c", "python3 <<EOF\ny\nEOF"]
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               in "/"
            3: over step 2
               copy to "/d/" from the context
               file "one" "\"1\"\n"
               file "two" "$V\n"
            image: step 3
        "##]],
    );
}

#[test]
fn mounts_say_what_they_are_of() {
    check(
        "FROM base AS b\nRUN x\nFROM base\nWORKDIR /w\nRUN --mount=from=b,target=b --mount=type=cache,target=/c,id=k --mount=type=secret,id=s --mount=type=bind,target=. y",
        &expect![[r#"
            0: over 1 layers to aaaa
               directory "/w" of ""
            1: over 1 layers to aaaa
               run ["/bin/sh", "-c", "x"]
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               in "/"
            2: over step 0
               run ["/bin/sh", "-c", "y"]
               with "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
               in "/w"
               bind "/w/b" of step 1 None None None None None true
               cache "/c" shared from nothing None Some("k") None None None false
               secret "/run/secrets/s" None false None Some("s") None None None true
               bind "/w" of the context None None None None None true
            image: step 2
        "#]],
    );
}

#[test]
fn an_images_triggers_come_first_and_once() {
    let mut config = ImageConfig::default();
    config.config.on_build = Some(vec!["RUN trigger".into(), "COPY --from=other a b".into()]);
    config.config.env = vec!["PATH=/bin".into()];
    let plan = planned("FROM base AS a\nRUN own\nFROM a", &options(), &config).expect("a plan");
    let said: Vec<&str> = plan
        .history
        .iter()
        .map(|line| line.created_by.as_str())
        .collect();
    // Of the stage that it begins with too (docker.io's builders agree: host test `docker_builds`, `stage-on-stage`).
    let whole = ["RUN /bin/sh -c trigger", "COPY a /b", "RUN /bin/sh -c own"];
    assert_eq!(said, whole);
    assert_eq!(plan.steps.len(), 3);
    assert_eq!(plan.config.on_build, None);
    assert_eq!(plan.config.env, ["PATH=/bin"]);
}

#[test]
fn the_config_is_what_the_instructions_say() {
    let mut base = ImageConfig::default();
    base.config.cmd = Some(vec!["inherited".into()]);
    let text = "FROM base\nLABEL a=b \"c d\"=e\nEXPOSE 80 53/UDP 8000-8001\nVOLUME /v [x\nENTRYPOINT [\"e\"]\nSTOPSIGNAL SIGUSR1\nHEALTHCHECK --retries=2 CMD true\nSHELL [\"/bin/bash\", \"-c\"]\nMAINTAINER me\nONBUILD RUN x";
    let options = PlanOptions {
        labels: BTreeMap::from([("a".into(), "over".into())]),
        arguments: BTreeMap::from([
            ("none".into(), Some("x".into())),
            ("HTTP_PROXY".into(), None),
        ]),
        ..options()
    };
    let plan = planned(text, &options, &base).expect("a plan");
    assert_eq!(plan.author.as_deref(), Some("me"));
    assert_eq!(plan.unused_arguments, ["none"]);
    expect![[r#"
        {
          "ExposedPorts": {
            "53/udp": {},
            "80/tcp": {},
            "8000/tcp": {},
            "8001/tcp": {}
          },
          "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
          ],
          "Entrypoint": [
            "e"
          ],
          "Volumes": {
            "/v": {},
            "[x": {}
          },
          "Labels": {
            "a": "over",
            "c d": "e"
          },
          "StopSignal": "SIGUSR1",
          "Healthcheck": {
            "Test": [
              "CMD-SHELL",
              "true"
            ],
            "Retries": 2
          },
          "Shell": [
            "/bin/bash",
            "-c"
          ],
          "OnBuild": [
            "RUN x"
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&plan.config).expect("JSON"));
}

#[test]
fn what_is_wrong_names_its_line() {
    for (text, said) in [
        (
            "FROM $NONE",
            "dockerfile parse error on line 1: base name ($NONE) should not be blank",
        ),
        (
            "FROM a\nCOPY x y z",
            "dockerfile parse error on line 2: When using COPY or ADD with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "FROM a\nCOPY --from=2 x y",
            "dockerfile parse error on line 2: invalid from flag value 2: no stage of this number before it",
        ),
        (
            "FROM a AS b\nCOPY --from=b x y",
            "dockerfile parse error on line 2: circular dependency detected on stage: b",
        ),
        (
            "FROM a\nRUN --security=insecure x",
            "dockerfile parse error on line 2: security.insecure is not allowed",
        ),
        (
            "FROM a\nENV B=\"${C:?not set}\"",
            "dockerfile parse error on line 2: failed to process \"\\\"${C:?not set}\\\"\": C: not set",
        ),
        (
            "FROM a\nEXPOSE x",
            "dockerfile parse error on line 2: invalid containerPort: x",
        ),
        (
            "FROM a\nSTOPSIGNAL NONE",
            "dockerfile parse error on line 2: invalid signal: NONE",
        ),
        (
            "FROM a\nRUN --mount=type=cache x",
            "dockerfile parse error on line 2: mount target must be set",
        ),
        (
            "FROM a\nADD --checksum=sha256:a https://x/y z /z/",
            "dockerfile parse error on line 2: checksum can't be specified for multiple sources",
        ),
        (
            "FROM a\nADD --checksum=sha256:a z /z/",
            "dockerfile parse error on line 2: checksum requires HTTP(S) or Git sources",
        ),
        (
            "FROM a\nCOPY https://x/y.git#a:b /z/",
            "dockerfile parse error on line 2: source can't be a git ref for COPY",
        ),
    ] {
        let error = planned(text, &options(), &ImageConfig::default()).expect_err(text);
        assert_eq!(error, said);
    }
    let none = PlanOptions {
        target: Some("biuld".into()),
        ..options()
    };
    let error = planned("FROM a AS build", &none, &ImageConfig::default());
    assert_eq!(
        error.expect_err("no such stage"),
        "target stage \"biuld\" could not be found (did you mean build?)"
    );
}
