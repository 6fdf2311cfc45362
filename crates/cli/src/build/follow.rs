//! What goes on in a build, as standard error shows it.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hoist_docker::client::Reply;
use hoist_model::Timestamp;
use hoist_model::build::{Failed, Report};
use hoist_render::build::{JsonView, PlainView, TerminalView, View};

use super::Progress;
use super::outputs::Sinks;
use crate::{Failure, terminal};

/// How often the picture on a terminal is drawn anew.
const TICK: Duration = Duration::from_millis(100);
/// A transfer that is done before this is told of when it is done.
const SHORT: Duration = Duration::from_millis(500);

/// A build that is shown.
pub(super) struct Following {
    view: View,
    begun: Instant,
}

/// How a build ended well.
pub(super) enum Outcome {
    /// With an image, or with what was made of it.
    Image(Built),
    /// With an answer to what was asked, and the status that goes with it.
    Answer(String, u8),
    /// With a plan, where nothing else was asked for.
    Plan(String),
}

/// What is known of it.
pub(super) struct Built {
    pub(super) id: String,
    pub(super) names: Vec<String>,
    /// The manifest's digest at a registry.
    pub(super) pushed: Option<String>,
}

impl Following {
    pub(super) fn new(progress: Progress) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let view = match progress {
            Progress::Quiet => View::Quiet,
            Progress::Json => View::Json(JsonView::new(now())),
            Progress::Terminal => picture(),
            Progress::Auto if is_terminal => picture(),
            Progress::Auto | Progress::Plain => View::Plain(PlainView::default()),
        };
        Self {
            view,
            begun: Instant::now(),
        }
    }

    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Does something whose bytes are counted, saying how far it is.
    pub(super) async fn beside<T>(
        &mut self,
        name: &str,
        count: &AtomicU64,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(work);
        let is_picture = matches!(self.view, View::Terminal(_));
        let pace = if is_picture { TICK } else { SHORT };
        loop {
            match tokio::time::timeout(pace, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let bytes = count.load(Ordering::Relaxed);
                    let report = super::own::moving(self.now(), name, bytes);
                    self.show(&report);
                    self.tick();
                }
            }
        }
    }

    /// Says that something beside the steps is done.
    pub(super) fn end(&mut self, name: &str, text: &str) {
        let report = Report::Beside {
            at: self.now(),
            name: name.to_owned(),
            text: text.to_owned(),
            done: true,
        };
        self.show(&report);
        self.tick();
    }

    fn show(&mut self, report: &Report) {
        write(&self.view.report(report));
    }

    fn tick(&mut self) {
        write(&self.view.tick(self.begun.elapsed().as_secs_f64()));
    }

    /// Reads the engine's reports to their end.
    pub(super) async fn follow(
        mut self,
        reply: Reply,
        mut sinks: Sinks,
    ) -> Result<Outcome, Failure> {
        // The engine's times are since the request came.
        let sent = self.now();
        let mut lines = reply.lines();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let is_picture = matches!(self.view, View::Terminal(_));
        loop {
            let line = tokio::select! {
                biased;
                line = lines.next::<Report>() => line?,
                _ = ticks.tick(), if is_picture => {
                    self.tick();
                    continue;
                }
            };
            let Some(mut report) = line else {
                return Err(cut_short());
            };
            report.later(sent);
            self.show(&report);
            match report {
                Report::Image {
                    id, names, pushed, ..
                } => {
                    sinks.finish()?;
                    return Ok(Outcome::Image(Built { id, names, pushed }));
                }
                Report::Piece { output, mut length } => {
                    while length > 0 {
                        let bytes = lines.bytes(length).await?.ok_or_else(cut_short)?;
                        length -= bytes.len() as u64;
                        sinks.write(output, &bytes)?;
                    }
                }
                Report::Plan { text } => return Ok(Outcome::Plan(text)),
                Report::Answer { text, code } => return Ok(Outcome::Answer(text, code)),
                Report::Failed(failed) => return Err(failure(&failed)),
                _ => {}
            }
        }
    }
}

fn cut_short() -> Failure {
    Failure::new("the engine's answer ended before the build did")
}

/// The error that a command ends with; what a view showed of it already is not said again.
fn failure(failed: &Failed) -> Failure {
    // The code of the program that failed, as the classic builder's client has it.
    let code = failed.exit_code.and_then(|code| u8::try_from(code).ok());
    let code = code.filter(|code| *code != 0).unwrap_or(1);
    Failure::with_code(code, format!("failed to build: {}", failed.message))
}

fn picture() -> View {
    let (rows, columns) = terminal::size_of(std::io::stderr()).unwrap_or((24, 80));
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    View::Terminal(Box::new(TerminalView::new(rows, columns, colours)))
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(0).plus(since)
}

fn write(text: &str) {
    if !text.is_empty() {
        // There is nowhere to say that it failed.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
