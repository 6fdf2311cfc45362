//! What a suite's tests did, held against what they are expected to do.

use std::collections::{BTreeMap, BTreeSet};

/// `excluded.txt`: `passing N`, then `NAME: reason` for each test that cannot pass, `either NAME: reason` for one that races by
/// itself and proves nothing. `#` starts a comment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    passing: usize,
    excluded: BTreeMap<String, String>,
    either: BTreeSet<String>,
}

/// How a suite went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) excluded: usize,
    /// Why the suite fails; none: it passes.
    pub(crate) complaints: Vec<String>,
    /// What it printed.
    pub(crate) output: String,
}

impl Expected {
    /// Reads the file.
    ///
    /// # Errors
    /// The line that is neither a count, an exclusion with a reason, a comment, nor empty.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut own = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || format!("excluded.txt line {}: {line:?}", number + 1);
            if let Some(count) = line.strip_prefix("passing ") {
                own.passing = count.parse().map_err(|_| bad())?;
                continue;
            }
            let (name, reason) = line.split_once(": ").ok_or_else(bad)?;
            if let Some(name) = name.strip_prefix("either ") {
                own.either.insert(name.to_owned());
                continue;
            }
            if own
                .excluded
                .insert(name.to_owned(), reason.to_owned())
                .is_some()
            {
                return Err(format!("{} (named twice)", bad()));
            }
        }
        Ok(own)
    }

    /// Judges the output of `run`: its lines `test NAME ... ok`, `... FAILED` and `... ignored`.
    pub(crate) fn judge(&self, output: &str) -> Report {
        let mut report = Report::default();
        let mut seen = BTreeSet::new();
        for line in output.lines() {
            let Some((name, outcome)) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.split_once(" ... "))
            else {
                continue;
            };
            seen.insert(name);
            if self.either.contains(name) {
                report.excluded += 1;
                continue;
            }
            let word = outcome.split_whitespace().next().unwrap_or_default();
            let excluded = self.excluded.contains_key(name);
            match (word, excluded) {
                ("ok", false) => report.passed += 1,
                ("ok", true) => report
                    .complaints
                    .push(format!("{name} passes: take it out of excluded.txt")),
                ("FAILED", true) => report.excluded += 1,
                ("FAILED", false) => report.complaints.push(format!("{name} FAILED")),
                // What the suite itself does not run is no news.
                ("ignored", _) => {}
                _ => report.complaints.push(format!("{name} said {outcome:?}")),
            }
        }
        let gone = self
            .excluded
            .keys()
            .filter(|name| !seen.contains(name.as_str()));
        report
            .complaints
            .extend(gone.map(|name| format!("{name} is excluded but did not run")));
        if report.passed < self.passing {
            let short = format!("{} tests pass, {} did before", report.passed, self.passing);
            report.complaints.push(short);
        }
        if report.passed > self.passing {
            let more = format!("{} tests pass: write `passing {0}`", report.passed);
            report.complaints.push(more);
        }
        report
    }
}

/// Panics unless a suite that got better, worse, or another shape than `excluded.txt` says is complained about. Without the
/// standard harness this is where this file's own tests are.
pub(crate) fn check_itself() {
    let expected = "# why\npassing 2\neither race: it races\nbuild: a later issue\n";
    let expected = Expected::parse(expected).expect("its own text");
    let complaints = |output: &str| expected.judge(output).complaints;
    let good =
        "test a ... ok\nnoise\ntest b ... ok (1 s)\ntest build ... FAILED\ntest race ... FAILED\n";
    assert_eq!(complaints(good), [""; 0]);
    assert_eq!(
        complaints(&good.replace("race ... FAILED", "race ... ok")),
        [""; 0]
    );
    for (changed, expected) in [
        (good.replace("b ... ok", "b ... FAILED"), "b FAILED"),
        (
            good.replace("build ... FAILED", "build ... ok"),
            "build passes: take it out of excluded.txt",
        ),
        (good.replace("test build", "test built"), "built FAILED"),
        (
            good.replace("test a ... ok\n", ""),
            "1 tests pass, 2 did before",
        ),
        (
            good.to_owned() + "test c ... ok\n",
            "3 tests pass: write `passing 3`",
        ),
    ] {
        assert!(
            complaints(&changed).iter().any(|one| one == expected),
            "{changed}"
        );
    }
    for bad in ["passing many", "no reason", "twice: a\ntwice: b"] {
        assert!(Expected::parse(bad).is_err(), "{bad}");
    }
}
