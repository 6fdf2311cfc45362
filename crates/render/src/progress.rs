//! Progress of pulls and loads: bars per layer on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// Where progress is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard output, as `pull`.
    Stdout,
    /// Standard error, as `run`, whose output belongs to the container.
    Stderr,
}

enum Style {
    Bars(MultiProgress, HashMap<String, ProgressBar>),
    Lines(Target),
    Quiet,
}

/// Draws the stream of progress objects an engine sends.
pub struct Drawing {
    style: Style,
}

impl Drawing {
    /// Bars if the target is a terminal, lines if it is not, nothing if quiet.
    pub fn new(target: Target, quiet: bool) -> Self {
        let terminal = match target {
            Target::Stdout => std::io::stdout().is_terminal(),
            Target::Stderr => std::io::stderr().is_terminal(),
        };
        let style = if quiet {
            Style::Quiet
        } else if terminal {
            let draw = match target {
                Target::Stdout => ProgressDrawTarget::stdout(),
                Target::Stderr => ProgressDrawTarget::stderr(),
            };
            Style::Bars(MultiProgress::with_draw_target(draw), HashMap::new())
        } else {
            Style::Lines(target)
        };
        Self { style }
    }

    /// Draws one object; the engine's error, if it is one, comes back.
    pub fn draw(&mut self, report: &Value) -> Result<(), String> {
        let text = |field: &str| report.get(field).and_then(Value::as_str);
        if let Some(error) = report
            .pointer("/errorDetail/message")
            .and_then(Value::as_str)
        {
            return Err(error.to_owned());
        }
        if let Some(error) = text("error") {
            return Err(error.to_owned());
        }
        let status = text("status").or_else(|| text("stream")).unwrap_or("");
        let counted = report.get("progressDetail").and_then(|detail| {
            Some((
                detail.get("current")?.as_u64()?,
                detail.get("total")?.as_u64()?,
            ))
        });
        match (&mut self.style, text("id")) {
            (Style::Quiet, _) => {}
            (Style::Lines(target), id) => {
                if counted.is_none() && !status.trim().is_empty() {
                    line(*target, &plain(id, status));
                }
            }
            (Style::Bars(all, bars), Some(id)) if is_layer(id) => {
                let bar = bars
                    .entry(id.to_owned())
                    .or_insert_with(|| all.add(new_bar(id)));
                advance(bar, status, counted);
            }
            (Style::Bars(all, _), id) => {
                if !status.trim().is_empty() {
                    // A terminal that went away is no reason to stop the pull.
                    let _ = all.println(plain(id, status));
                }
            }
        }
        Ok(())
    }
}

/// A layer's id is twelve hex digits; anything else (a tag) gets a line.
fn is_layer(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn plain(id: Option<&str>, status: &str) -> String {
    let status = status.trim_end();
    id.map_or_else(|| status.to_owned(), |id| format!("{id}: {status}"))
}

fn line(target: Target, text: &str) {
    // Output that nobody reads any more is not worth failing for.
    let _ = match target {
        Target::Stdout => writeln!(std::io::stdout(), "{text}"),
        Target::Stderr => writeln!(std::io::stderr(), "{text}"),
    };
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn new_bar(id: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(style("{prefix}: {msg}"));
    bar.set_prefix(id.to_owned());
    bar
}

fn advance(bar: &ProgressBar, status: &str, counted: Option<(u64, u64)>) {
    bar.set_message(status.to_owned());
    match counted {
        Some((current, total)) if total > 0 => {
            if bar.length() != Some(total) || bar.position() > current {
                bar.reset();
                bar.set_length(total);
            }
            let colour = if status.starts_with("Extract") {
                "green"
            } else {
                "cyan"
            };
            bar.set_style(style(&format!(
                "{{prefix}}: {{msg:<12}} [{{bar:32.{colour}}}] {{decimal_bytes:>9}}/{{decimal_total_bytes}} {{decimal_bytes_per_sec}}"
            )));
            bar.set_position(current);
        }
        _ => {
            bar.set_style(style("{prefix}: {msg}"));
            if ["Pull complete", "Already exists"].contains(&status) {
                bar.finish_with_message(status.to_owned());
            } else {
                bar.tick();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        let mut drawing = Drawing::new(Target::Stderr, true);
        let ok = json!({"status": "Pulling fs layer", "id": "0123456789ab", "progressDetail": {}});
        assert_eq!(drawing.draw(&ok), Ok(()));
        let bad = json!({"errorDetail": {"message": "no such host"}, "error": "old"});
        assert_eq!(drawing.draw(&bad), Err("no such host".to_owned()));
        assert_eq!(
            drawing.draw(&json!({"error": "old"})),
            Err("old".to_owned())
        );
    }

    #[test]
    fn a_line_names_what_it_is_about() {
        assert_eq!(
            plain(Some("latest"), "Pulling from debian"),
            "latest: Pulling from debian"
        );
        assert_eq!(plain(None, "Loaded image: x\n"), "Loaded image: x");
        assert!(is_layer("0123456789ab") && !is_layer("latest"));
    }
}
