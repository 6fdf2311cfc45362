//! A build as it goes on: from the engine's reports to what a person (or a program) reads.
//!
//! ```text
//! reports ─▶ Followed (what runs since when, what is done) ─┬▶ plain     a line for each thing that happens
//!                                                           ├▶ terminal  one picture, drawn anew
//!                                                           └▶ json      BuildKit's status objects
//! ```

mod json;
mod plain;
mod terminal;
#[cfg(test)]
mod tests;

use hoist_model::build::Report;

pub use json::JsonView;
pub use plain::PlainView;
pub use terminal::TerminalView;

/// A view of a build.
pub enum View {
    /// Lines.
    Plain(PlainView),
    /// One picture.
    Terminal(Box<TerminalView>),
    /// Objects.
    Json(JsonView),
    /// Nothing.
    Quiet,
}

impl View {
    /// What is to be written now, after a report.
    pub fn report(&mut self, report: &Report) -> String {
        match self {
            Self::Plain(view) => view.report(report),
            Self::Terminal(view) => view.report(report),
            Self::Json(view) => view.report(report),
            Self::Quiet => String::new(),
        }
    }

    /// What is to be written as time goes by; seconds since the request.
    pub fn tick(&mut self, now: f64) -> String {
        match self {
            Self::Terminal(view) => view.tick(now),
            _ => String::new(),
        }
    }
}

/// Something that is followed from its beginning to its end.
#[derive(Clone, Debug, PartialEq)]
struct Vertex {
    name: String,
    step: Option<usize>,
    began: Option<f64>,
    ended: Option<f64>,
    cached: bool,
    failed: bool,
    /// The piece of a line that its end is not here of, per stream.
    pieces: [String; 2],
}

impl Vertex {
    fn new(name: impl Into<String>, step: Option<usize>) -> Self {
        Self {
            name: name.into(),
            step,
            began: None,
            ended: None,
            cached: false,
            failed: false,
            pieces: Default::default(),
        }
    }

    /// Whole lines, with a piece that came before; what has no end yet waits.
    fn lines(&mut self, stream: u8, text: &str) -> Vec<String> {
        let piece = &mut self.pieces[usize::from(stream == 2)];
        piece.push_str(text);
        let Some(end) = piece.rfind('\n') else {
            return Vec::new();
        };
        let rest = piece.split_off(end + 1);
        let whole = std::mem::replace(piece, rest);
        whole.lines().map(last_state).collect()
    }

    /// What never got its end.
    fn rest(&mut self) -> Vec<String> {
        let pieces = self.pieces.iter_mut().map(std::mem::take);
        let pieces = pieces.filter(|piece| !piece.is_empty());
        pieces.map(|piece| last_state(&piece)).collect()
    }
}

/// A line of a program that draws over it (`\r`) as it stands in the end, without what moves a terminal's cursor.
fn last_state(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    plain_text(line)
}

/// A text without escape sequences and control characters: what a program writes is not to steer the terminal of whoever builds.
fn plain_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.peek() {
                Some('[') => {
                    characters.next();
                    // To the final byte of a control sequence (ECMA-48).
                    for next in characters.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&next) {
                            break;
                        }
                    }
                }
                Some(']') => {
                    for next in characters.by_ref() {
                        if matches!(next, '\u{7}' | '\u{9c}') {
                            break;
                        }
                        if next == '\u{1b}' {
                            characters.next();
                            break;
                        }
                    }
                }
                _ => drop(characters.next()),
            },
            '\t' => plain.push('\t'),
            character if character.is_control() => {}
            character => plain.push(character),
        }
    }
    plain
}

/// What is known of a build so far.
#[derive(Debug, Default)]
struct Followed {
    vertices: Vec<Vertex>,
}

/// Where things about base images stand.
const BASES: &str = "[internal] load base images";

impl Followed {
    /// The place of a step's vertex. One that was never planned gets one.
    fn of_step(&mut self, step: usize) -> usize {
        let known = self.vertices.iter().position(|v| v.step == Some(step));
        known.unwrap_or_else(|| {
            let name = format!("step {step}");
            self.vertices.push(Vertex::new(name, Some(step)));
            self.vertices.len() - 1
        })
    }

    /// The place of something beside the steps; begun if it is new.
    fn beside(&mut self, name: &str, at: f64) -> (usize, bool) {
        let known = self
            .vertices
            .iter()
            .position(|v| v.step.is_none() && v.name == name && v.ended.is_none());
        match known {
            Some(place) => (place, false),
            None => {
                let mut vertex = Vertex::new(name, None);
                vertex.began = Some(at);
                self.vertices.push(vertex);
                (self.vertices.len() - 1, true)
            }
        }
    }
}
