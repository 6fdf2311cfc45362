//! What an engine tells of a build to our own client, line by line. Seconds are since the request came.

use serde::{Deserialize, Serialize};

/// One line of the engine's answer to `POST /hoist/build`. Times are seconds since the request came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "Kind", rename_all = "camelCase")]
pub enum Report {
    /// What will be done.
    #[serde(rename_all = "PascalCase")]
    Planned {
        /// When.
        at: f64,
        /// In the order of the file.
        vertices: Vec<Planned>,
        /// What is strange about it.
        warnings: Vec<String>,
    },
    /// The plan's text.
    #[serde(rename_all = "PascalCase")]
    Plan {
        /// Lines.
        text: String,
    },
    /// Something about a base image.
    #[serde(rename_all = "PascalCase")]
    Said {
        /// When.
        at: f64,
        /// Lines.
        text: String,
    },
    /// A step is being done.
    #[serde(rename_all = "PascalCase")]
    Began {
        /// When.
        at: f64,
        /// Which.
        step: usize,
    },
    /// Its program wrote something.
    #[serde(rename_all = "PascalCase")]
    Wrote {
        /// When.
        at: f64,
        /// Which.
        step: usize,
        /// 1 or 2.
        stream: u8,
        /// A piece.
        text: String,
    },
    /// It is done, or was before.
    #[serde(rename_all = "PascalCase")]
    Done {
        /// When.
        at: f64,
        /// Which.
        step: usize,
        /// Whether it was before.
        cached: bool,
    },
    /// Something beside the steps, from its beginning to its end: outputs, caches.
    #[serde(rename_all = "PascalCase")]
    Beside {
        /// When.
        at: f64,
        /// What.
        name: String,
        /// How far it is.
        text: String,
        /// Whether that was the end of it.
        done: bool,
    },
    /// What was asked about the Dockerfile in place of a build.
    #[serde(rename_all = "PascalCase")]
    Answer {
        /// Lines.
        text: String,
        /// 0 if there is nothing to mend.
        code: u8,
    },
    /// Some of an output; its bytes follow the line.
    #[serde(rename_all = "PascalCase")]
    Piece {
        /// Which of those that were asked for.
        output: usize,
        /// Bytes.
        length: u64,
    },
    /// The image is there.
    #[serde(rename_all = "PascalCase")]
    Image {
        /// When.
        at: f64,
        /// `sha256:…`.
        id: String,
        /// What it is called now.
        names: Vec<String>,
        /// The manifest's digest at the last registry that it was pushed to.
        #[serde(default)]
        pushed: Option<String>,
    },
    /// There is none.
    #[serde(rename_all = "PascalCase")]
    Failed(Failed),
    /// Something that a newer engine tells.
    #[serde(other)]
    Other,
}

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failed {
    /// When.
    pub at: f64,
    /// A sentence.
    pub message: String,
    /// Which step, if it was one.
    pub step: Option<usize>,
    /// The lines of the Dockerfile that are to blame.
    pub excerpt: Option<String>,
    /// The first of them.
    pub line: Option<usize>,
    /// Of the program that failed.
    pub exit_code: Option<i32>,
    /// As an HTTP status.
    pub status: u16,
    /// An image of the failed step's state, where one was asked for.
    #[serde(default)]
    pub state: Option<String>,
}

impl Report {
    /// Moves its time.
    pub fn later(&mut self, seconds: f64) {
        match self {
            Self::Planned { at, .. }
            | Self::Said { at, .. }
            | Self::Began { at, .. }
            | Self::Wrote { at, .. }
            | Self::Done { at, .. }
            | Self::Beside { at, .. }
            | Self::Image { at, .. } => *at += seconds,
            Self::Failed(failed) => failed.at += seconds,
            Self::Plan { .. } | Self::Answer { .. } | Self::Piece { .. } | Self::Other => {}
        }
    }
}

/// Something that will be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Planned {
    /// `[build 2/5] RUN make`.
    pub name: String,
    /// Its step; none of a base image, which is there when the plan is.
    pub step: Option<usize>,
}
