//! A build as one picture that is drawn anew: what is done, what runs and for how long, and the last lines of what runs.
//!
//! ```text
//! [+] Building 3.4s (5/8)
//!  => [base 1/2] FROM busybox                     0.0s
//!  => CACHED [base 2/2] WORKDIR /work             0.0s
//!  => [a 1/1] RUN make                            2.1s
//!  => => # cc -c x.c
//! ```

use std::fmt::Write as _;

use super::plain::blame;
use hoist_model::build::{Failed, Report};

use super::{BASES, Followed, Vertex};

/// Lines shown of each program that runs.
const SHOWN: usize = 6;
/// Lines kept of each, for the end, should it fail.
const KEPT: usize = 30;

const RED: &str = "\x1b[31m";
const BLUE: &str = "\x1b[34m";
const PLAIN: &str = "\x1b[0m";

/// One picture.
pub struct TerminalView {
    followed: Followed,
    /// The last lines of each, by place.
    lines: Vec<Vec<String>>,
    warnings: Vec<String>,
    rows: usize,
    columns: usize,
    colours: bool,
    /// Rows of the picture that stand on the terminal.
    drawn: usize,
    finished: bool,
}

impl TerminalView {
    /// For a terminal of this size.
    #[must_use]
    pub fn new(rows: u16, columns: u16, colours: bool) -> Self {
        Self {
            followed: Followed::default(),
            lines: Vec::new(),
            warnings: Vec::new(),
            rows: usize::from(rows).max(4),
            columns: usize::from(columns).max(20),
            colours,
            drawn: 0,
            finished: false,
        }
    }

    /// What is to be written now: nothing for what the next picture shows soon enough, the last picture at the end.
    pub fn report(&mut self, report: &Report) -> String {
        match report {
            Report::Planned {
                at,
                vertices,
                warnings,
            } => {
                self.close(BASES, *at);
                self.warnings.clone_from(warnings);
                for planned in vertices {
                    let mut vertex = Vertex::new(&planned.name, planned.step);
                    if planned.step.is_none() {
                        (vertex.began, vertex.ended) = (Some(*at), Some(*at));
                    }
                    self.followed.vertices.push(vertex);
                }
            }
            Report::Said { at, text } => {
                let (place, _) = self.followed.beside(BASES, *at);
                self.keep(place, text.lines().map(super::plain_text).collect());
            }
            Report::Beside {
                at,
                name,
                text,
                done,
            } => {
                let (place, _) = self.followed.beside(name, *at);
                if !text.is_empty() {
                    self.keep(place, vec![super::plain_text(text)]);
                }
                if *done {
                    self.close(name, *at);
                }
            }
            Report::Began { at, step } => {
                let place = self.followed.of_step(*step);
                self.followed.vertices[place].began = Some(*at);
            }
            Report::Wrote {
                step, stream, text, ..
            } => {
                let place = self.followed.of_step(*step);
                let lines = self.followed.vertices[place].lines(*stream, text);
                self.keep(place, lines);
            }
            Report::Done { at, step, cached } => {
                let place = self.followed.of_step(*step);
                let vertex = &mut self.followed.vertices[place];
                vertex.began.get_or_insert(*at);
                (vertex.ended, vertex.cached) = (Some(*at), *cached);
            }
            Report::Image { at, id, names, .. } => {
                let name = "exporting to image";
                let (place, _) = self.followed.beside(name, *at);
                let mut lines = vec![format!("writing image {id}")];
                lines.extend(names.iter().map(|name| format!("naming to {name}")));
                self.keep(place, lines);
                self.close(name, *at);
                return self.last(*at);
            }
            Report::Failed(failed) => return self.failed(failed),
            Report::Plan { .. } | Report::Answer { .. } | Report::Piece { .. } | Report::Other => {}
        }
        String::new()
    }

    /// The picture at this time.
    pub fn tick(&mut self, now: f64) -> String {
        if self.finished || self.followed.vertices.is_empty() {
            return String::new();
        }
        let picture = self.picture(now, self.rows.saturating_sub(1));
        self.draw(&picture)
    }

    /// The last picture, which stays: of everything, however high the terminal is.
    fn last(&mut self, now: f64) -> String {
        self.finished = true;
        let picture = self.picture(now, usize::MAX);
        let mut out = self.draw(&picture);
        for warning in &self.warnings {
            let _ = writeln!(out, "\nWARNING: {warning}");
        }
        out
    }

    fn failed(&mut self, failed: &Failed) -> String {
        let mut of = None;
        if let Some(step) = failed.step {
            let place = self.followed.of_step(step);
            let rest = self.followed.vertices[place].rest();
            self.keep(place, rest);
            let vertex = &mut self.followed.vertices[place];
            vertex.began.get_or_insert(failed.at);
            (vertex.ended, vertex.failed) = (Some(failed.at), true);
            of = Some(place);
        }
        for vertex in &mut self.followed.vertices {
            if vertex.began.is_some() && vertex.ended.is_none() {
                vertex.ended = Some(failed.at);
            }
        }
        let mut out = self.last(failed.at);
        if let Some(place) = of {
            let name = &self.followed.vertices[place].name;
            let _ = writeln!(out, "------\n > {name}:");
            for line in self.lines.get(place).into_iter().flatten() {
                let _ = writeln!(out, "{line}");
            }
            out.push_str("------\n");
        }
        out.push_str(&blame(failed));
        out
    }

    fn keep(&mut self, place: usize, lines: Vec<String>) {
        if self.lines.len() <= place {
            self.lines.resize(place + 1, Vec::new());
        }
        let kept = &mut self.lines[place];
        kept.extend(lines);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    fn close(&mut self, name: &str, at: f64) {
        let open = self
            .followed
            .vertices
            .iter_mut()
            .find(|v| v.step.is_none() && v.name == name && v.ended.is_none());
        if let Some(vertex) = open {
            vertex.ended = Some(at);
        }
    }

    /// Rows of the picture, at most so many: those of what is done go first.
    fn picture(&self, now: f64, most: usize) -> Vec<String> {
        let all = &self.followed.vertices;
        let done = all.iter().filter(|v| v.ended.is_some()).count();
        let state = if self.finished { " FINISHED" } else { "" };
        let failed = all.iter().any(|vertex| vertex.failed);
        let total = all.len();
        let head = format!("[+] Building {now:.1}s ({done}/{total}){state}");
        let head = if self.finished && !failed {
            self.coloured(BLUE, &head)
        } else {
            head
        };
        let mut finished = Vec::new();
        let mut running = Vec::new();
        for (place, vertex) in all.iter().enumerate() {
            let Some(began) = vertex.began else { continue };
            let row = self.row(vertex, vertex.ended.unwrap_or(now) - began);
            if vertex.ended.is_some() {
                finished.push((began, row));
                continue;
            }
            running.push(row);
            let lines = self.lines.get(place).map(Vec::as_slice).unwrap_or_default();
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                running.push(self.cut(&format!(" => => # {line}")));
            }
        }
        finished.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        running.truncate(most.saturating_sub(1));
        let room = most.saturating_sub(1 + running.len());
        let hidden = finished.len().saturating_sub(room);
        let shown = finished.into_iter().skip(hidden).map(|(_, row)| row);
        std::iter::once(head).chain(shown).chain(running).collect()
    }

    fn row(&self, vertex: &Vertex, seconds: f64) -> String {
        let mark = match (vertex.failed, vertex.cached) {
            (true, _) => "ERROR ",
            (_, true) => "CACHED ",
            _ => "",
        };
        let left = format!(" => {mark}{}", super::plain_text(&vertex.name));
        let time = format!("{:.1}s", seconds.max(0.0));
        let width = self.columns.saturating_sub(time.len() + 2);
        let shown: String = left.chars().take(width).collect();
        let row = format!("{shown:<width$} {time}");
        match (vertex.failed, vertex.ended) {
            (true, _) => self.coloured(RED, &row),
            (false, Some(_)) => self.coloured(BLUE, &row),
            (false, None) => row,
        }
    }

    fn cut(&self, row: &str) -> String {
        let row = row.replace('\t', " ");
        row.chars().take(self.columns - 1).collect()
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("{colour}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    }

    /// Writes a picture over the one before it.
    fn draw(&mut self, picture: &[String]) -> String {
        let mut out = String::new();
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for row in picture {
            let _ = write!(out, "\r{row}\x1b[K\r\n");
        }
        // What stands below it of a higher one.
        out.push_str("\x1b[J");
        self.drawn = picture.len();
        out
    }
}
