//! A build as BuildKit's status objects (moby/buildkit client `SolveStatus`, what `--progress rawjson` writes), one a line.

use hoist_model::build::Report;
use hoist_model::{Digest, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{BASES, Followed, Vertex};

/// Objects for programs that follow builds.
pub struct JsonView {
    followed: Followed,
    begun: Timestamp,
}

impl JsonView {
    /// Of a request that came at this time.
    #[must_use]
    pub fn new(begun: Timestamp) -> Self {
        Self {
            followed: Followed::default(),
            begun,
        }
    }

    /// What is to be written now.
    pub fn report(&mut self, report: &Report) -> String {
        let status = match report {
            Report::Planned {
                at,
                vertices,
                warnings,
            } => {
                let mut changed = Vec::new();
                for planned in vertices {
                    let mut vertex = Vertex::new(&planned.name, planned.step);
                    if planned.step.is_none() {
                        (vertex.began, vertex.ended) = (Some(*at), Some(*at));
                    }
                    changed.push(self.vertex(&vertex, ""));
                    self.followed.vertices.push(vertex);
                }
                let warnings: Vec<Value> = warnings
                    .iter()
                    .map(|warning| json!({ "level": 1, "short": base64(warning.as_bytes()) }))
                    .collect();
                json!({ "vertexes": changed, "warnings": warnings })
            }
            Report::Said { at, text } => self.beside(BASES, *at, text, false),
            Report::Beside {
                at,
                name,
                text,
                done,
            } => self.beside(name, *at, text, *done),
            Report::Began { at, step } => {
                let place = self.followed.of_step(*step);
                self.followed.vertices[place].began = Some(*at);
                json!({ "vertexes": [self.vertex(&self.followed.vertices[place], "")] })
            }
            Report::Wrote {
                at,
                step,
                stream,
                text,
            } => {
                let place = self.followed.of_step(*step);
                let name = digest(&self.followed.vertices[place]);
                json!({ "logs": [self.log(&name, *stream, text, *at)] })
            }
            Report::Done { at, step, cached } => {
                let place = self.followed.of_step(*step);
                let vertex = &mut self.followed.vertices[place];
                vertex.began.get_or_insert(*at);
                (vertex.ended, vertex.cached) = (Some(*at), *cached);
                json!({ "vertexes": [self.vertex(&self.followed.vertices[place], "")] })
            }
            Report::Image { at, id, names, .. } => {
                let mut text = format!("writing image {id}\n");
                for name in names {
                    text += &format!("naming to {name}\n");
                }
                self.beside("exporting to image", *at, &text, true)
            }
            Report::Failed(failed) => match failed.step {
                Some(step) => {
                    let place = self.followed.of_step(step);
                    let vertex = &mut self.followed.vertices[place];
                    vertex.began.get_or_insert(failed.at);
                    vertex.ended = Some(failed.at);
                    let vertex = &self.followed.vertices[place];
                    json!({ "vertexes": [self.vertex(vertex, &failed.message)] })
                }
                None => return String::new(),
            },
            Report::Plan { .. } | Report::Answer { .. } | Report::Piece { .. } | Report::Other => {
                return String::new();
            }
        };
        format!("{status}\n")
    }

    fn beside(&mut self, name: &str, at: f64, text: &str, done: bool) -> Value {
        let (place, _) = self.followed.beside(name, at);
        if done {
            self.followed.vertices[place].ended = Some(at);
        }
        let vertex = &self.followed.vertices[place];
        let mut status = json!({ "vertexes": [self.vertex(vertex, "")] });
        if !text.is_empty() {
            status["logs"] = json!([self.log(&digest(vertex), 1, text, at)]);
        }
        status
    }

    fn vertex(&self, vertex: &Vertex, error: &str) -> Value {
        let mut value = json!({ "digest": digest(vertex), "name": vertex.name });
        for (name, at) in [("started", vertex.began), ("completed", vertex.ended)] {
            if let Some(at) = at {
                value[name] = self.time(at).into();
            }
        }
        if vertex.cached {
            value["cached"] = true.into();
        }
        if !error.is_empty() {
            value["error"] = error.into();
        }
        value
    }

    fn log(&self, vertex: &str, stream: u8, text: &str, at: f64) -> Value {
        json!({
            "vertex": vertex,
            "stream": stream,
            "data": base64(text.as_bytes()),
            "timestamp": self.time(at),
        })
    }

    fn time(&self, at: f64) -> String {
        let since = std::time::Duration::try_from_secs_f64(at).unwrap_or_default();
        self.begun.plus(since).to_string()
    }
}

/// What a vertex is known by.
fn digest(vertex: &Vertex) -> String {
    let text = format!("{:?} {}", vertex.step, vertex.name);
    Digest::from_sha256(&Sha256::digest(text).into()).to_string()
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}
