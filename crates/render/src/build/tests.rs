use expect_test::expect;
use hoist_model::Timestamp;
use hoist_model::build::{Failed, Planned, Report};

use super::{JsonView, PlainView, TerminalView};

fn planned() -> Report {
    let vertex = |name: &str, step| Planned {
        name: name.to_owned(),
        step,
    };
    Report::Planned {
        at: 0.1,
        vertices: vec![
            vertex("[1/3] FROM busybox", None),
            vertex("[2/3] WORKDIR /work", Some(0)),
            vertex("[3/3] RUN make", Some(1)),
        ],
        warnings: vec!["one or more build-args [\"X\"] were not consumed".to_owned()],
    }
}

fn wrote(at: f64, stream: u8, text: &str) -> Report {
    Report::Wrote {
        at,
        step: 1,
        stream,
        text: text.to_owned(),
    }
}

fn done(at: f64, step: usize, cached: bool) -> Report {
    Report::Done { at, step, cached }
}

fn good() -> Vec<Report> {
    vec![
        Report::Said {
            at: 0.0,
            text: "Pulling from library/busybox\n".to_owned(),
        },
        planned(),
        done(0.2, 0, true),
        Report::Began { at: 0.3, step: 1 },
        wrote(0.4, 1, "one\ntw"),
        wrote(0.5, 2, "warn\r\n"),
        wrote(0.6, 1, "o \x1b[31mred\x1b[0m \x1b]0;title\x07\n10%\r100%"),
        done(1.5, 1, false),
        Report::Image {
            at: 1.6,
            id: "sha256:abc".to_owned(),
            names: vec!["docker.io/library/app:1".to_owned()],
            pushed: None,
        },
    ]
}

fn bad() -> Vec<Report> {
    vec![
        planned(),
        done(0.2, 0, true),
        Report::Began { at: 0.3, step: 1 },
        wrote(0.4, 1, "broken"),
        Report::Failed(Failed {
            at: 0.5,
            message: "exit 3".to_owned(),
            step: Some(1),
            excerpt: Some("   3 | >>> RUN make\n".to_owned()),
            line: Some(3),
            exit_code: Some(3),
            status: 400,
            state: None,
        }),
    ]
}

#[test]
fn lines_say_what_happens() {
    let mut view = PlainView::default();
    let text: String = good().iter().map(|report| view.report(report)).collect();
    expect![[r##"
        #1 [internal] load base images
        #1 Pulling from library/busybox
        #1 DONE 0.1s
        WARNING: one or more build-args ["X"] were not consumed

        #2 [1/3] FROM busybox
        #2 DONE 0.0s

        #3 [2/3] WORKDIR /work
        #3 CACHED

        #4 [3/3] RUN make
        #4 0.100 one
        #4 0.200 warn
        #4 0.300 two red 
        #4 1.200 100%
        #4 DONE 1.2s

        #5 exporting to image
        #5 writing image sha256:abc
        #5 naming to docker.io/library/app:1
        #5 DONE 0.0s
    "##]]
    .assert_eq(&text);
}

#[test]
fn a_failure_shows_what_was_written_and_where_it_stands() {
    let mut view = PlainView::default();
    let text: String = bad().iter().map(|report| view.report(report)).collect();
    let (_, end) = text.split_once("#3 [3/3]").unwrap();
    expect![[r##"
         RUN make
        #3 0.200 broken
        #3 ERROR: exit 3
        ------
         > [3/3] RUN make:
        0.200 broken
        ------
        Dockerfile:3
        --------------------
           3 | >>> RUN make
        --------------------
    "##]]
    .assert_eq(end);
}

#[test]
fn a_picture_is_drawn_over_the_one_before() {
    let mut view = TerminalView::new(24, 40, false);
    assert_eq!(view.tick(0.0), "");
    let mut shown = String::new();
    for report in &good()[..6] {
        shown += &view.report(report);
    }
    assert_eq!(shown, "");
    let strip = |text: String| text.replace("\x1b[K\r\n", "\n").replace(['\r'], "");
    expect![[r#"
        [+] Building 1.0s (3/4)
         => [internal] load base images    0.1s
         => [1/3] FROM busybox             0.0s
         => CACHED [2/3] WORKDIR /work     0.0s
         => [3/3] RUN make                 0.7s
         => => # one
         => => # warn
        [J"#]]
    .assert_eq(&strip(view.tick(1.0)));
    for report in &good()[6..] {
        shown += &view.report(report);
    }
    expect![[r#"
        [7A[+] Building 1.6s (5/5) FINISHED
         => [internal] load base images    0.1s
         => [1/3] FROM busybox             0.0s
         => CACHED [2/3] WORKDIR /work     0.0s
         => [3/3] RUN make                 1.2s
         => exporting to image             0.0s
        [J
        WARNING: one or more build-args ["X"] were not consumed
    "#]]
    .assert_eq(&strip(shown));
    assert_eq!(view.tick(2.0), "");
}

#[test]
fn a_low_terminal_shows_what_runs() {
    let mut view = TerminalView::new(4, 30, true);
    for report in &good()[..5] {
        view.report(report);
    }
    let picture = view.tick(1.0);
    assert_eq!(picture.matches("\r\n").count(), 3, "{picture}");
    assert!(picture.contains("RUN make") && !picture.contains("FROM"));
}

#[test]
fn objects_are_buildkits() {
    let mut view = JsonView::new(Timestamp::from_seconds(1_700_000_000));
    let text: String = bad().iter().map(|report| view.report(report)).collect();
    let last = text.lines().last().unwrap();
    expect![[r#"{"vertexes":[{"digest":"sha256:9d121530a0620d121ad04f399d8cedf24b25b6f0c33ad98a30d6b18c589aaa1e","name":"[3/3] RUN make","started":"2023-11-14T22:13:20.3Z","completed":"2023-11-14T22:13:20.5Z","error":"exit 3"}]}"#]]
    .assert_eq(last);
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
}

#[test]
fn reports_of_newer_engines_are_passed_over() {
    let report: Report = serde_json::from_str(r#"{"Kind":"dancing","At":1}"#).unwrap();
    assert_eq!(report, Report::Other);
    let report: Report =
        serde_json::from_str(r#"{"Kind":"done","At":1.5,"Step":2,"Cached":true,"New":1}"#).unwrap();
    assert_eq!(report, done(1.5, 2, true));
}
