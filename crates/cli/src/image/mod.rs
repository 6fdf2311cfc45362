//! The verbs of images.

mod archive;
mod list;
mod pull;
mod push;
mod search;
mod tree;
mod verbs;

use hoist_docker::client::Reply;
use hoist_render::progress::Drawing;
use serde_json::Value;

use super::{Failure, Verb, verb};

pub(crate) use list::{HEADINGS, usage_row};
pub(crate) use pull::pull;
pub(crate) use verbs::untagged_and_deleted;

/// `hoist image …`.
pub(crate) const VERBS: &[Verb] = &[
    verb::<crate::build::Build>("build", crate::build::ABOUT),
    verb::<verbs::History>("history", HISTORY),
    verb::<archive::Import>("import", IMPORT),
    verb::<verbs::InspectImage>(
        "inspect",
        "Display detailed information on one or more images",
    ),
    verb::<archive::Load>("load", LOAD),
    verb::<list::Images>("ls", "List images").or(&["list"]),
    verb::<verbs::PruneImages>("prune", "Remove unused images"),
    verb::<pull::Pull>("pull", PULL),
    verb::<push::Push>("push", PUSH),
    verb::<verbs::RemoveImages>("rm", "Remove one or more images").or(&["remove"]),
    verb::<archive::Save>("save", SAVE),
    verb::<verbs::Tag>("tag", TAG),
];

/// The same verbs without the noun.
pub(crate) const TOP_VERBS: &[Verb] = &[
    verb::<pull::Pull>("pull", PULL),
    verb::<push::Push>("push", PUSH),
    verb::<list::Images>("images", "List images"),
    verb::<verbs::History>("history", HISTORY),
    verb::<archive::Import>("import", IMPORT),
    verb::<archive::Load>("load", LOAD),
    verb::<verbs::RemoveImages>("rmi", "Remove one or more images"),
    verb::<archive::Save>("save", SAVE),
    verb::<search::Search>("search", "Search Docker Hub for images"),
    verb::<verbs::Tag>("tag", TAG),
];

const HISTORY: &str = "Show the history of an image";
const IMPORT: &str = "Import the contents from a tarball to create a filesystem image";
const LOAD: &str = "Load an image from a tar archive or STDIN";
const PULL: &str = "Download an image from a registry";
const PUSH: &str = "Upload an image to a registry";
const SAVE: &str = "Save one or more images to a tar archive (streamed to STDOUT by default)";
const TAG: &str = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE";

/// Draws the reports of a reply until its end. What fails in the stream is told as `failed` says.
async fn draw(
    reply: Reply,
    mut drawing: Drawing,
    failed: impl Fn(String) -> Failure,
) -> Result<(), Failure> {
    let mut reports = reply.lines();
    while let Some(report) = reports.next::<Value>().await? {
        drawing.draw(&report).map_err(&failed)?;
    }
    Ok(())
}
