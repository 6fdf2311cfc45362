//! The stream of `POST /images/create`, `/images/load` and `/images/{name}/push`: one object per report (moby
//! `pkg/jsonmessage`).

use hoist_model::{Digest, LayerPhase, Progress, UploadPhase};
use serde::Serialize;

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<Detail>,
    /// The bar as text, for clients that do not draw it themselves (docker-py's users print it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub(crate) error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// For programs: what came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aux: Option<Aux>,
}

/// What a program that reads the stream wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Aux {
    /// What a push made of a tag.
    Pushed(PushedTag),
    /// The image that a build made (moby `types.BuildResult`).
    Built {
        /// Its id.
        #[serde(rename = "ID")]
        id: Digest,
    },
}

/// API 1.55 `PushImageInfo`'s result, in docker's own spelling (moby `types.PushResult`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PushedTag {
    tag: String,
    digest: Digest,
    size: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorDetail {
    /// The exit code of a build's program, which the client ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    message: String,
}

impl Line {
    /// A sentence.
    pub(crate) fn status(text: impl Into<String>) -> Self {
        Self {
            status: Some(text.into()),
            ..Self::default()
        }
    }

    /// Text to be printed as it is.
    pub(crate) fn stream(text: impl Into<String>) -> Self {
        Self {
            stream: Some(text.into()),
            ..Self::default()
        }
    }

    /// The failure of an operation whose reply had begun.
    pub(crate) fn failure(message: &str) -> Self {
        Self {
            error_detail: Some(ErrorDetail {
                code: None,
                message: message.to_owned(),
            }),
            error: Some(message.to_owned()),
            ..Self::default()
        }
    }

    /// The same of a program that ended with this code.
    pub(crate) fn failure_with_code(message: &str, code: Option<i32>) -> Self {
        Self {
            error_detail: Some(ErrorDetail {
                code,
                message: message.to_owned(),
            }),
            ..Self::failure(message)
        }
    }

    /// The image that a build made.
    pub(crate) fn built(id: Digest) -> Self {
        Self {
            aux: Some(Aux::Built { id }),
            ..Self::default()
        }
    }

    /// As bytes with the line end Docker writes.
    pub(crate) fn to_bytes(&self) -> bytes::Bytes {
        let mut text = serde_json::to_vec(self).expect("a struct of plain members is JSON");
        text.extend_from_slice(b"\r\n");
        text.into()
    }
}

/// The lines that one report of a push makes.
pub(crate) fn push_lines(progress: &Progress) -> Vec<Line> {
    let Progress::Pushed { tag, digest, size } = progress else {
        return vec![line(progress)];
    };
    let aux = Line {
        detail: Some(Detail::default()),
        aux: Some(Aux::Pushed(PushedTag {
            tag: tag.clone(),
            digest: digest.clone(),
            size: *size,
        })),
        ..Line::default()
    };
    vec![line(progress), aux]
}

/// The lines that one report of an import makes.
pub(crate) fn import_lines(progress: &Progress) -> Vec<Line> {
    vec![line(progress)]
}

/// One report.
fn line(progress: &Progress) -> Line {
    match progress {
        Progress::Importing { current, total } => Line {
            id: None,
            ..layer_line("", "Importing", Some((*current, total.unwrap_or(0))))
        },
        Progress::Pushed { tag, digest, size } => {
            Line::status(format!("{tag}: digest: {digest} size: {size}"))
        }
        Progress::Upload { layer, phase } => {
            let mounted;
            let (status, moved) = match phase {
                UploadPhase::Preparing => ("Preparing", None),
                UploadPhase::Waiting => ("Waiting", None),
                UploadPhase::Pushing { current, total } => ("Pushing", Some((*current, *total))),
                UploadPhase::Pushed => ("Pushed", None),
                UploadPhase::AlreadyExists => ("Layer already exists", None),
                UploadPhase::MountedFrom(path) => {
                    mounted = format!("Mounted from {path}");
                    (mounted.as_str(), None)
                }
            };
            layer_line(layer.short(), status, moved)
        }
        Progress::Message { subject, text } => Line {
            status: Some(text.clone()),
            id: subject.clone(),
            ..Line::default()
        },
        Progress::Layer { layer, phase } => {
            let (status, moved) = match phase {
                LayerPhase::Known => ("Pulling fs layer", None),
                LayerPhase::Waiting => ("Waiting", None),
                LayerPhase::Downloading { current, total } => {
                    ("Downloading", Some((*current, *total)))
                }
                LayerPhase::Verifying => ("Verifying Checksum", None),
                LayerPhase::Downloaded => ("Download complete", None),
                LayerPhase::Extracting { current, total } => {
                    ("Extracting", Some((*current, *total)))
                }
                LayerPhase::Complete => ("Pull complete", None),
                LayerPhase::AlreadyExists => ("Already exists", None),
            };
            layer_line(layer.short(), status, moved)
        }
    }
}

/// Tells of a pull as Docker does: of layers only once one of them really has to be fetched, and of those that are
/// here then as such. An image that is wholly here is told of by its digest and status alone.
#[derive(Debug, Default)]
pub(crate) struct PullLines {
    /// Layers before the first one is fetched, and whether each is here.
    held: Held,
}

#[derive(Debug)]
enum Held {
    Holding(Vec<(Digest, bool)>),
    Told,
}

impl Default for Held {
    fn default() -> Self {
        Self::Holding(Vec::new())
    }
}

impl PullLines {
    /// The lines that a report makes.
    pub(crate) fn report(&mut self, progress: &Progress) -> Vec<Line> {
        let Progress::Layer { layer, phase } = progress else {
            return vec![line(progress)];
        };
        let Held::Holding(held) = &mut self.held else {
            return vec![line(progress)];
        };
        match phase {
            LayerPhase::Known | LayerPhase::AlreadyExists => {
                let here = *phase == LayerPhase::AlreadyExists;
                match held.iter_mut().find(|(known, _)| known == layer) {
                    Some(known) => known.1 = here,
                    None => held.push((layer.clone(), here)),
                }
                Vec::new()
            }
            _ => {
                let told = |(layer, here): (Digest, bool)| {
                    let phase = if here {
                        LayerPhase::AlreadyExists
                    } else {
                        LayerPhase::Known
                    };
                    line(&Progress::Layer { layer, phase })
                };
                let mut lines: Vec<Line> = std::mem::take(held).into_iter().map(told).collect();
                lines.push(line(progress));
                self.held = Held::Told;
                lines
            }
        }
    }
}

/// One report of a load, if it is one that clients show.
pub(crate) fn load_line(progress: &Progress) -> Option<Line> {
    match progress {
        Progress::Layer {
            layer,
            phase:
                LayerPhase::Downloading { current, total } | LayerPhase::Extracting { current, total },
        } => Some(layer_line(
            layer.short(),
            "Loading layer",
            Some((*current, *total)),
        )),
        _ => None,
    }
}

fn layer_line(id: &str, status: &str, moved: Option<(u64, u64)>) -> Line {
    Line {
        status: Some(status.to_owned()),
        detail: Some(
            moved.map_or_else(Detail::default, |(current, total)| Detail {
                current: Some(current),
                total: (total > 0).then_some(total),
            }),
        ),
        progress: moved.map(|(current, total)| bar(current, total)),
        id: Some(id.to_owned()),
        ..Line::default()
    }
}

/// `[==>      ]  1.2MB/3MB` (moby `pkg/jsonmessage`, at a width of 200).
fn bar(current: u64, total: u64) -> String {
    let bytes = size(current);
    if total == 0 {
        return format!("{bytes:>8}");
    }
    let filled = usize::try_from((current.min(total) * 50).div_euclid(total)).unwrap_or(50);
    let blank = 50 - filled;
    format!(
        "[{}>{}] {bytes:>8}/{}",
        "=".repeat(filled),
        " ".repeat(blank),
        size(total)
    )
}

/// Bytes as go-units `HumanSize` says them: four digits, decimal units.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if v >= 1000.0 || unit == 0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let mut text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(phase: LayerPhase) -> Progress {
        Progress::Layer {
            layer: Digest::from_sha256(&[0xab; 32]),
            phase,
        }
    }

    fn text(line: &Line) -> String {
        serde_json::to_string(line).unwrap()
    }

    #[test]
    fn lines_are_what_the_cli_draws() {
        let about = Progress::Message {
            subject: Some("latest".into()),
            text: "Pulling from library/x".into(),
        };
        assert_eq!(
            text(&line(&about)),
            r#"{"status":"Pulling from library/x","id":"latest"}"#
        );
        assert_eq!(
            text(&line(&layer(LayerPhase::Known))),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"abababababab"}"#
        );
        let moving = layer(LayerPhase::Downloading {
            current: 1_500_000,
            total: 3_000_000,
        });
        assert_eq!(
            text(&line(&moving)),
            r#"{"status":"Downloading","progressDetail":{"current":1500000,"total":3000000},"progress":"[=========================>                         ]    1.5MB/3MB","id":"abababababab"}"#
        );
        assert_eq!(
            load_line(&moving).unwrap().status.as_deref(),
            Some("Loading layer")
        );
        assert!(load_line(&layer(LayerPhase::Known)).is_none());
        assert_eq!(
            text(&Line::failure("no")),
            r#"{"errorDetail":{"message":"no"},"error":"no"}"#
        );
    }

    #[test]
    fn layers_are_told_of_once_one_is_fetched() {
        let layer = |byte: u8, phase| Progress::Layer {
            layer: Digest::from_sha256(&[byte; 32]),
            phase,
        };
        let moving = LayerPhase::Downloading {
            current: 0,
            total: 2,
        };
        let reports = [
            layer(1, LayerPhase::Known),
            layer(2, LayerPhase::Known),
            layer(1, LayerPhase::AlreadyExists),
            layer(2, moving),
            layer(2, LayerPhase::Complete),
        ];
        let mut lines = PullLines::default();
        let counts: Vec<usize> = reports.iter().map(|r| lines.report(r).len()).collect();
        assert_eq!(counts, [0, 0, 0, 3, 1]);
        let mut lines = PullLines::default();
        let told: Vec<String> = reports
            .iter()
            .flat_map(|report| lines.report(report))
            .filter_map(|line| Some(format!("{} {}", line.id?, line.status?)))
            .collect();
        assert_eq!(
            told,
            [
                "010101010101 Already exists",
                "020202020202 Pulling fs layer",
                "020202020202 Downloading",
                "020202020202 Pull complete",
            ]
        );
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1234, "1.234kB"),
            (95_123_456, "95.12MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
