//! A build as lines, for logs and pipes, as BuildKit's plain progress writes them.

use std::fmt::Write as _;

use hoist_model::build::{Failed, Report};

use super::{BASES, Followed, Vertex};

/// Lines kept of a program for the end, should it fail.
const KEPT: usize = 30;

/// Lines for each thing that happens. Things are numbered in the order in which they begin.
#[derive(Default)]
pub struct PlainView {
    followed: Followed,
    /// Numbers by place; 0 has none yet.
    numbers: Vec<usize>,
    last: usize,
    /// Whose lines were written last.
    current: Option<usize>,
    /// The last lines of each step.
    kept: Vec<(usize, String)>,
}

impl PlainView {
    /// What is to be written now.
    pub fn report(&mut self, report: &Report) -> String {
        let mut out = String::new();
        match report {
            Report::Planned {
                at,
                vertices,
                warnings,
            } => {
                self.close(&mut out, BASES, *at);
                for warning in warnings {
                    let _ = writeln!(out, "WARNING: {warning}");
                }
                for planned in vertices {
                    let vertex = Vertex::new(&planned.name, planned.step);
                    self.followed.vertices.push(vertex);
                    if planned.step.is_none() {
                        let place = self.followed.vertices.len() - 1;
                        self.head(&mut out, place);
                        self.line(&mut out, place, "DONE 0.0s");
                    }
                }
            }
            Report::Said { at, text } => {
                for line in text.lines().filter(|line| !line.is_empty()) {
                    self.beside(&mut out, BASES, *at, line, false);
                }
            }
            Report::Beside {
                at,
                name,
                text,
                done,
            } => self.beside(&mut out, name, *at, text, *done),
            Report::Began { at, step } => {
                let place = self.followed.of_step(*step);
                self.followed.vertices[place].began = Some(*at);
                self.head(&mut out, place);
            }
            Report::Wrote {
                at,
                step,
                stream,
                text,
            } => {
                let place = self.followed.of_step(*step);
                let lines = self.followed.vertices[place].lines(*stream, text);
                self.wrote(&mut out, place, *at, lines);
            }
            Report::Done { at, step, cached } => {
                let place = self.followed.of_step(*step);
                let rest = self.followed.vertices[place].rest();
                self.wrote(&mut out, place, *at, rest);
                self.head_if_new(&mut out, place);
                let vertex = &mut self.followed.vertices[place];
                vertex.ended = Some(*at);
                let end = match (*cached, vertex.began) {
                    (true, _) => "CACHED".to_owned(),
                    (false, began) => format!("DONE {:.1}s", at - began.unwrap_or(*at)),
                };
                self.line(&mut out, place, &end);
            }
            Report::Image { at, id, names, .. } => {
                let name = "exporting to image";
                self.beside(&mut out, name, *at, &format!("writing image {id}"), false);
                for tag in names {
                    self.beside(&mut out, name, *at, &format!("naming to {tag}"), false);
                }
                self.close(&mut out, name, *at);
            }
            Report::Failed(failed) => self.failed(&mut out, failed),
            Report::Plan { .. } | Report::Answer { .. } | Report::Piece { .. } | Report::Other => {}
        }
        out
    }

    fn number(&mut self, place: usize) -> usize {
        if self.numbers.len() <= place {
            self.numbers.resize(place + 1, 0);
        }
        if self.numbers[place] == 0 {
            self.last += 1;
            self.numbers[place] = self.last;
        }
        self.numbers[place]
    }

    /// Says what is being told of from here on.
    fn head(&mut self, out: &mut String, place: usize) {
        let number = self.number(place);
        if self.current.is_some() {
            out.push('\n');
        }
        self.current = Some(place);
        let _ = writeln!(out, "#{number} {}", self.followed.vertices[place].name);
    }

    fn head_if_new(&mut self, out: &mut String, place: usize) {
        if self.numbers.get(place).is_none_or(|number| *number == 0) {
            self.head(out, place);
        }
    }

    /// A line of something; its head again if another was told of meanwhile.
    fn line(&mut self, out: &mut String, place: usize, text: &str) {
        if self.current != Some(place) {
            self.head(out, place);
        }
        let number = self.number(place);
        let _ = writeln!(out, "#{number} {text}");
    }

    fn wrote(&mut self, out: &mut String, place: usize, at: f64, lines: Vec<String>) {
        let began = self.followed.vertices[place].began.unwrap_or(at);
        for line in lines {
            let line = format!("{:.3} {line}", at - began);
            self.line(out, place, &line);
            let own = self.kept.iter().filter(|(of, _)| *of == place).count();
            if own >= KEPT
                && let Some(oldest) = self.kept.iter().position(|(of, _)| *of == place)
            {
                self.kept.remove(oldest);
            }
            self.kept.push((place, line));
        }
    }

    fn beside(&mut self, out: &mut String, name: &str, at: f64, text: &str, done: bool) {
        let (place, new) = self.followed.beside(name, at);
        if new {
            self.head(out, place);
        }
        if !text.is_empty() {
            self.line(out, place, &super::plain_text(text));
        }
        if done {
            self.close(out, name, at);
        }
    }

    /// The end of something beside the steps, if it is there.
    fn close(&mut self, out: &mut String, name: &str, at: f64) {
        let open = self
            .followed
            .vertices
            .iter()
            .position(|v| v.step.is_none() && v.name == name && v.ended.is_none());
        let Some(place) = open else { return };
        let Some(began) = self.followed.vertices[place].began else {
            return;
        };
        self.followed.vertices[place].ended = Some(at);
        self.line(out, place, &format!("DONE {:.1}s", at - began));
    }

    fn failed(&mut self, out: &mut String, failed: &Failed) {
        let place = failed.step.map(|step| self.followed.of_step(step));
        if let Some(place) = place {
            let rest = self.followed.vertices[place].rest();
            self.wrote(out, place, failed.at, rest);
            self.head_if_new(out, place);
            self.line(out, place, &format!("ERROR: {}", failed.message));
        }
        // What else ran was ended.
        let running: Vec<usize> = (0..self.followed.vertices.len())
            .filter(|at| {
                let vertex = &self.followed.vertices[*at];
                Some(*at) != place && vertex.began.is_some() && vertex.ended.is_none()
            })
            .collect();
        for other in running {
            self.line(out, other, "CANCELED");
        }
        let kept = place.map(|place| {
            let lines = self.kept.iter().filter(|(of, _)| *of == place);
            let lines = lines.map(|(_, line)| line.clone()).collect::<Vec<_>>();
            (self.followed.vertices[place].name.clone(), lines)
        });
        if let Some((name, lines)) = kept {
            let _ = writeln!(out, "------\n > {name}:");
            for line in lines {
                let _ = writeln!(out, "{line}");
            }
            out.push_str("------\n");
        }
        out.push_str(&blame(failed));
    }
}

/// The lines of the Dockerfile that are to blame, under the first one's number.
pub(super) fn blame(failed: &Failed) -> String {
    const RULE: &str = "--------------------";
    match (&failed.excerpt, failed.line) {
        (Some(excerpt), Some(line)) => {
            format!("Dockerfile:{line}\n{RULE}\n{excerpt}{RULE}\n")
        }
        _ => String::new(),
    }
}
