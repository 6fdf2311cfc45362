//! What differs from run to run becomes the same words, so that two transcripts can be compared.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

/// Rules in the order they are applied. The widest come first.
static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4} UTC", "<time>"),
        (r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}", "<time>"),
        (r"Up (Less than a second|About an? \w+|\d+ \w+)", "Up <span>"),
        (r"(Less than a second|About an? \w+|\d+ (seconds?|minutes?|hours?|days?|weeks?|months?|years?)) ago", "<span> ago"),
        (r"\b\d+(\.\d+)?\s?(B|kB|MB|GB|KiB|MiB|GiB)\b", "<size>"),
        (r"\b(127\.0\.0\.1|0\.0\.0\.0|\[::\]|::1|::):(\d{4,5})\b", "$1:<port>"),
        (r"\b172\.\d+\.\d+\.\d+\b", "<ip>"),
        (r"\b192\.168\.\d+\.\d+\b", "<ip>"),
        (r"\b10\.\d+\.\d+\.\d+\b", "<ip>"),
        (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(pattern).expect("the rules are tested"), with))
    .collect()
});

static HEX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(sha256:)?([0-9a-f]{64}|[0-9a-f]{12})\b").expect("tested"));
static GAPS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r" {2,}").expect("tested"));

/// Normalises one transcript's outputs; ids are numbered in the order they appear in it.
#[derive(Debug, Default)]
pub(crate) struct Normaliser {
    /// Texts that stand for a value of this run, such as the temporary directory.
    names: Vec<(String, String)>,
    ids: Vec<String>,
}

impl Normaliser {
    /// From now on `value` is written as `name`.
    pub(crate) fn name(&mut self, value: impl Into<String>, name: &str) {
        self.names.push((value.into(), name.to_owned()));
    }

    /// The lines of an output with everything volatile replaced.
    pub(crate) fn lines(&mut self, output: &str) -> Vec<String> {
        let mut text = output.replace("\r\n", "\n");
        for (value, name) in &self.names {
            text = text.replace(value.as_str(), name);
        }
        for (rule, with) in RULES.iter() {
            text = rule.replace_all(&text, *with).into_owned();
        }
        text = self.number_ids(&text);
        text.lines()
            .map(|line| GAPS.replace_all(line.trim_end(), "  ").into_owned())
            .collect()
    }

    /// Full and short forms of one id get one number: `<id 1>`.
    fn number_ids(&mut self, text: &str) -> String {
        let ids = &mut self.ids;
        let replaced = HEX.replace_all(text, |found: &Captures<'_>| {
            let prefix = found.get(1).map_or("", |prefix| prefix.as_str());
            let short = &found[2][..12];
            // All digits: a number, not an id, unless it is one that was seen in full or stands where a build tells of ids.
            let before = &text[..found.get(0).map_or(0, |whole| whole.start())];
            let of_a_build = ["---> ", "---> Running in ", "Successfully built "];
            let seen = ids.iter().any(|id| id == short)
                || of_a_build.iter().any(|words| before.ends_with(words));
            if !seen && found[2].len() == 12 && short.bytes().all(|byte| byte.is_ascii_digit()) {
                return found[0].to_owned();
            }
            let at = ids.iter().position(|id| id == short).unwrap_or_else(|| {
                ids.push(short.to_owned());
                ids.len() - 1
            });
            format!("{prefix}<id {}>", at + 1)
        });
        replaced.into_owned()
    }
}
