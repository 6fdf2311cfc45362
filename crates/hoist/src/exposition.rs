//! The text that Prometheus reads (exposition format 0.0.4).

use std::fmt::{Display, Write};

/// Metrics under construction, family by family.
#[derive(Default)]
pub(crate) struct Exposition(String);

/// How a metric moves.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Up only; its name ends in `_total`.
    Counter,
    /// Up and down.
    Gauge,
}

/// A metric of one name: takes its samples.
pub(crate) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family; each name is begun once.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family {
            text: &mut self.0,
            name,
        }
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (at, (name, text)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{name}=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn families_and_samples() {
        let mut text = Exposition::default();
        let mut family = text.family("hoist_things_total", Kind::Counter, "Things there were.");
        family.sample(&[], 3);
        family.sample(&[("name", "a\"b\\c\nd"), ("id", "1")], 0.5);
        expect![[r#"
            # HELP hoist_things_total Things there were.
            # TYPE hoist_things_total counter
            hoist_things_total 3
            hoist_things_total{name="a\"b\\c\nd",id="1"} 0.5
        "#]]
        .assert_eq(&text.finish());
    }
}
