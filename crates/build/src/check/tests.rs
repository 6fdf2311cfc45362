//! What checks find in which files.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use hoist_image::document::ImageConfig;

use super::report;
use crate::dockerfile::Dockerfile;
use crate::ignore::Ignore;
use crate::plan::{Base, BaseName, Bases, PlanOptions, Planned, plan};

fn found(text: &str, options: &PlanOptions) -> Vec<super::Warning> {
    let file = Dockerfile::parse(text).expect("a file");
    let mut bases = Bases::new();
    loop {
        let names: Vec<BaseName> = match plan(&file, options, &bases).expect("a plan") {
            Planned::Ready(plan) => return plan.warnings,
            Planned::Needs(names) => names,
        };
        for name in names {
            let mut config = ImageConfig::default();
            config.config.env = vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()];
            let base = Base {
                id: "sha256:base".to_owned(),
                config,
                layers: Vec::new(),
            };
            bases.insert(name, Arc::new(base));
        }
    }
}

fn check(text: &str, expected: &Expect) {
    let found = found(text, &PlanOptions::default());
    let lines: String = found
        .iter()
        .map(|w| format!("{}\n", w.headline()))
        .collect();
    expected.assert_eq(&lines);
}

#[test]
fn a_file_without_faults_has_none() {
    check(
        "ARG V=1\nFROM base:$V AS one\nWORKDIR /w\nWORKDIR x\nARG FOO BAR=$V\nENV A=$FOO$BAR$PATH PUBLIC_KEY=x\nEXPOSE 80/udp\nCMD [\"a\"]\nENTRYPOINT [\"b\"]\nFROM --platform=$BUILDPLATFORM one AS two\nCOPY --from=one /x /\nSHELL [\"/bin/sh\"]\nCMD shell\n",
        &expect![[r#"
            UndefinedVar: Usage of undefined variable '$V' (line 5)
        "#]],
    );
}

#[test]
fn names_and_case() {
    check(
        "From base as One\nFROM base AS one\nfrom base AS context\nRUN a\ncopy x /\nRun b\n",
        &expect![[r#"
            StageNameCasing: Stage name 'One' should be lowercase (line 1)
            ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase) (line 1)
            DuplicateStageName: Duplicate stage name "one", stage names should be unique (line 2)
            FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 3)
            ConsistentInstructionCasing: Command 'from' should match the case of the command majority (uppercase) (line 3)
            ReservedStageName: Stage name should not use the same name as reserved stage "context" (line 3)
            ConsistentInstructionCasing: Command 'copy' should match the case of the command majority (uppercase) (line 5)
            ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (uppercase) (line 6)
        "#]],
    );
}

#[test]
fn from() {
    check(
        "ARG VERSION\nARG EMPTY\nFROM base:$VERSOIN AS a\nFROM ${EMPTY:-base} AS b\nFROM --platform=linux/amd64 base AS c\nFROM --platform=linux/amd64 base AS linux-d\nFROM --platform=$TARGETPLATFORM base AS e\n",
        &expect![[r#"
            UndefinedArgInFrom: FROM argument 'VERSOIN' is not declared (did you mean VERSION?) (line 3)
            InvalidDefaultArgInFrom: Default value for ARG base:$VERSOIN results in empty or invalid base image name (line 3)
            FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64" (line 5)
            RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 7)
        "#]],
    );
}

#[test]
fn settings_of_images() {
    check(
        "FROM base\nMAINTAINER me\nWORKDIR rel\nENV A 1\nLABEL b c\nENV API_KEY=x\nARG password\nCMD echo\nCMD [\"x\"]\nHEALTHCHECK NONE\nHEALTHCHECK NONE\nENTRYPOINT e\nEXPOSE 80/TCP 127.0.0.1:80:80 8080:80\n",
        &expect![[r#"
            MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)
            WorkdirRelativePath: Relative workdir "rel" can have unexpected results if the base image changes (line 3)
            LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 4)
            LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format (line 5)
            SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "API_KEY") (line 6)
            SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "password") (line 7)
            JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 8)
            MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 8)
            MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used (line 10)
            JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals (line 12)
            ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 13)
            ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' (line 13)
            ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80' (line 13)
        "#]],
    );
}

#[test]
fn variables() {
    check(
        "FROM base\nARG NONE\nARG DEFAULT=$WHAT\nENV A=$NONE B=$PAHT\nCOPY $SRC /${LNAG}\nRUN echo $NOT_OURS\nUSER ${U:-x}\nCOPY <<E /\n$DOCUMENT\nE\n",
        &expect![[r#"
            UndefinedVar: Usage of undefined variable '$WHAT' (line 3)
            UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 4)
            UndefinedVar: Usage of undefined variable '$SRC' (line 5)
            UndefinedVar: Usage of undefined variable '$LNAG' (did you mean $LANG?) (line 5)
            UndefinedVar: Usage of undefined variable '$U' (did you mean $A?) (line 7)
            UndefinedVar: Usage of undefined variable '$DOCUMENT' (line 8)
        "#]],
    );
}

#[test]
fn continuations_and_settings_of_checks() {
    check(
        "FROM base\nRUN a \\\n\n b\n",
        &expect![[r#"
        NoEmptyContinuation: Empty continuation line (line 2)
    "#]],
    );
    check(
        "# check=skip=NoEmptyContinuation\nFROM base\nRUN a \\\n\n b\n",
        &expect![""],
    );
    check("# check=skip=all\nFROM base\nCMD a\n", &expect![""]);
    check(
        "# check=experimental=all\n# not it\nFROM base AS a\n# BAZ is it\nARG BAZ\n# what\nARG A B\nCMD a\n",
        &expect![[r#"
            InvalidDefinitionDescription: Comment for FROM should follow the format: `# a <description>` (line 3)
            InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 7)
            JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 8)
        "#]],
    );
}

#[test]
fn what_is_ignored_cannot_be_copied() {
    let options = PlanOptions {
        ignore: Ignore::parse("secret\n*.md\n").expect("patterns"),
        arguments: BTreeMap::from([(
            "BUILDKIT_DOCKERFILE_CHECK".to_owned(),
            Some("experimental=CopyIgnoredFile".to_owned()),
        )]),
        ..PlanOptions::default()
    };
    let found = found(
        "FROM base AS a\nFROM base\nCOPY secret/x /\nADD a.md https://host/b.md /x/\nCOPY --from=a x.md /\n",
        &options,
    );
    let lines: Vec<String> = found.iter().map(super::Warning::headline).collect();
    assert_eq!(
        lines,
        [
            "CopyIgnoredFile: Attempting to Copy file \"secret/x\" that is excluded by .dockerignore (line 3)",
            "CopyIgnoredFile: Attempting to Add file \"a.md\" that is excluded by .dockerignore (line 4)"
        ]
    );
}

#[test]
fn a_report_shows_the_lines() {
    let text = "FROM base\nCMD a\n";
    let found = found(text, &PlanOptions::default());
    expect![[r#"

        WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
        JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
        Dockerfile:2
        --------------------
           1 |     FROM base
           2 | >>> CMD a
        --------------------
    "#]].assert_eq(&report(&found, "Dockerfile", text));
}
