//! Whole files.

use super::{Action, Command, Dockerfile, Health, RunNetwork};

fn errors(text: &str) -> String {
    Dockerfile::parse(text).expect_err(text).to_string()
}

fn only(instruction: &str) -> Action {
    let file = Dockerfile::parse(&format!("FROM a\n{instruction}")).expect(instruction);
    file.stages[0].instructions[0].action.clone()
}

#[test]
fn stages_have_names_and_numbers() {
    let file = Dockerfile::parse(
        "# syntax=docker/dockerfile:1\n# VERSION of the base\nARG VERSION=1 B\nFROM --platform=$BUILDPLATFORM base:$VERSION AS Build\nRUN a\nfrom build\nCOPY --from=0 a b\nFROM scratch as last",
    )
    .expect("a file");
    assert_eq!(
        file.directives.syntax.as_deref(),
        Some("docker/dockerfile:1")
    );
    let arguments: Vec<_> = file
        .arguments
        .iter()
        .map(|(_, a)| {
            (
                a.name.as_str(),
                a.default.as_deref(),
                a.description.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        arguments,
        [
            ("VERSION", Some("1"), Some("of the base")),
            ("B", None, None)
        ]
    );
    assert_eq!(file.stages[0].platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(file.stages[0].base, "base:$VERSION");
    assert_eq!(file.stage("BUILD"), Some(0));
    assert_eq!(file.stage("1"), Some(1));
    assert_eq!(file.stage("last"), Some(2));
    assert_eq!(file.stage("3"), None);
}

#[test]
fn commands_are_a_line_or_words() {
    assert_eq!(
        only("CMD [\"a\", \"b c\"]"),
        Action::Cmd(Command::Exec(vec!["a".into(), "b c".into()]))
    );
    assert_eq!(
        only("cmd  [ -f a ]"),
        Action::Cmd(Command::Shell("[ -f a ]".into()))
    );
    assert_eq!(
        only("ENTRYPOINT []"),
        Action::Entrypoint(Command::Exec(Vec::new()))
    );
    let Action::Run(run) = only(
        "RUN --network=none --mount=type=cache,target=/c --security=insecure <<E\necho $x\nE\n",
    ) else {
        panic!("a run");
    };
    assert_eq!(run.command, Command::Shell("<<E".into()));
    assert_eq!(run.documents[0].content(), "echo $x\n");
    assert_eq!(
        (run.network, run.insecure, run.mounts.len()),
        (RunNetwork::None, true, 1)
    );
}

#[test]
fn pairs_are_of_both_kinds() {
    let pairs = |instruction| match only(instruction) {
        Action::Env(pairs) | Action::Label(pairs) => pairs
            .into_iter()
            .map(|pair| (pair.name, pair.value))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(pairs("ENV a  b c=d "), [pair("a", "b c=d")]);
    assert_eq!(
        pairs("ENV a=\"b c\" d=e\\ f g="),
        [pair("a", "\"b c\""), pair("d", "e\\ f"), pair("g", "")]
    );
    assert_eq!(pairs("LABEL \"a b\"=c"), [pair("\"a b\"", "c")]);
}

#[test]
fn copy_and_add_take_flags_and_documents() {
    let Action::Copy {
        copied,
        from,
        parents,
    } = only(
        "COPY --from=x --chown=1:2 --chmod=u+x --link --parents --exclude=*.a --exclude=b a <<E b /to/\ntext\nE",
    )
    else {
        panic!("a copy");
    };
    assert_eq!(copied.sources, ["a", "b"]);
    assert_eq!(copied.documents[0].content(), "text\n");
    assert_eq!(copied.destination, "/to/");
    assert_eq!(copied.owner.as_deref(), Some("1:2"));
    assert_eq!(copied.mode.as_deref(), Some("u+x"));
    assert_eq!(copied.exclude, ["*.a", "b"]);
    assert_eq!(
        (copied.link, parents, from.as_deref()),
        (true, true, Some("x"))
    );
    let Action::Add { copied, fetch } =
        only("ADD --checksum=sha256:aa --keep-git-dir --unpack=false [\"a b\", \"c\"]")
    else {
        panic!("an add");
    };
    assert_eq!(
        (copied.sources, copied.destination),
        (vec!["a b".to_owned()], "c".to_owned())
    );
    assert_eq!(
        (
            fetch.checksum.as_deref(),
            fetch.keep_git_directory,
            fetch.unpack
        ),
        (Some("sha256:aa"), Some(true), Some(false))
    );
}

#[test]
fn health_is_a_probe_or_none() {
    assert_eq!(only("HEALTHCHECK NONE"), Action::Healthcheck(Health::None));
    assert_eq!(
        only("HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x"),
        Action::Healthcheck(Health::Probe {
            command: Command::Shell("curl -f x".into()),
            interval: 90_000_000_000,
            timeout: 0,
            start_period: 0,
            start_interval: 0,
            retries: 3,
        })
    );
}

#[test]
fn a_trigger_is_kept_with_its_documents() {
    assert_eq!(
        only("ONBUILD RUN <<E cat\na\nE"),
        Action::Onbuild("RUN <<E cat\na\nE".into())
    );
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, said) in [
        (
            "FROM a\n\nRUNN b",
            "line 3: unknown instruction: RUNN (did you mean RUN?)",
        ),
        (
            "from a\nruun b",
            "line 2: unknown instruction: ruun (did you mean run?)",
        ),
        (
            "FROM",
            "line 1: FROM requires either one or three arguments",
        ),
        (
            "FROM a b",
            "line 1: FROM requires either one or three arguments",
        ),
        (
            "FROM a AS 1b",
            "line 1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("RUN a", "line 1: no build stage in current context"),
        ("ARG a", "line 1: dockerfile contains no stages to build"),
        (
            "FROM a\nCOPY b",
            "line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nCOPY --chwon=b c d",
            "line 2: unknown flag: --chwon (did you mean --chown?)",
        ),
        (
            "FROM a\nCOPY --link --link c d",
            "line 2: duplicate flag specified: --link",
        ),
        (
            "FROM a\nCOPY --link=x c d",
            "line 2: expecting boolean value for flag --link, not: x",
        ),
        (
            "FROM a\nCOPY --from c d",
            "line 2: missing a value on flag: --from",
        ),
        (
            "FROM a\nCOPY b <<E\nE",
            "line 2: COPY cannot accept a heredoc as a destination",
        ),
        ("FROM a\nENV b", "line 2: ENV must have two arguments"),
        (
            "FROM a\nENV b=c d",
            "line 2: Syntax error - can't find = in \"d\". Must be of the form: name=value",
        ),
        ("FROM a\nLABEL =c", "line 2: LABEL names can not be blank"),
        (
            "FROM a\nCMD [1]",
            "line 2: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        (
            "FROM a\nSHELL sh -c",
            "line 2: SHELL requires the arguments to be in JSON form: SHELL sh -c",
        ),
        (
            "FROM a\nWORKDIR",
            "line 2: WORKDIR requires exactly one argument",
        ),
        (
            "FROM a\nEXPOSE",
            "line 2: EXPOSE requires at least one argument",
        ),
        (
            "FROM a\nHEALTHCHECK CURL x",
            "line 2: Unknown type \"CURL\" in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1us CMD x",
            "line 2: Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "FROM a\nONBUILD FROM b",
            "line 2: FROM isn't allowed as an ONBUILD trigger",
        ),
        (
            "FROM a\nONBUILD ONBUILD RUN b",
            "line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "FROM a\nONBUILD COPY b",
            "line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nRUN --mount=type=cach x",
            "line 2: unsupported mount type \"cach\" (did you mean cache?)",
        ),
        (
            "FROM a\nRUN --network=bridge x",
            "line 2: invalid network mode \"bridge\"",
        ),
    ] {
        assert_eq!(errors(text), format!("dockerfile parse error on {said}"));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_fall(text in "(FROM|RUN|COPY|ENV|ONBUILD|HEALTHCHECK|#|<<|\\[|\"|'|\\$|\\{|\\}|=|\\\\|,|-|[a-e]| |\t|\r|\n){0,60}") {
        let _ = Dockerfile::parse(&text);
        let _ = Dockerfile::parse(&format!("FROM a\n{text}"));
    }
}
