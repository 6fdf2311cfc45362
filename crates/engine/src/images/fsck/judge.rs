//! Records against files: what is wrong. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hoist_image::document::ImageConfig;
use hoist_image::fsck::{LayerCheck, PartState, StrayKind};
use hoist_model::{Digest, ImageId};
use hoist_store::Snapshot;

use super::evidence::Evidence;
use super::{Finding, Outcome, Problem};
use crate::images::collection::named_by;
use crate::records::{ContainerRecord, ImageRecord, TagRecord};

/// Who needs what, by names for people.
#[derive(Default)]
struct Needs {
    layers: BTreeMap<Digest, BTreeSet<String>>,
    documents: BTreeMap<Digest, BTreeSet<String>>,
}

/// Says what is wrong, as far as `wanted` wants to know.
pub(super) fn judge(
    records: &Snapshot,
    evidence: &Evidence,
    wanted: &dyn Fn(&Problem) -> bool,
) -> Vec<Finding> {
    let mut findings = Findings {
        found: Vec::new(),
        wanted,
    };
    let needs = needs(records);
    documents(&needs, evidence, &mut findings);
    layers(&needs, evidence, &mut findings);
    images(records, evidence, &mut findings);
    containers(records, evidence, &mut findings);
    unnamed(records, evidence, &mut findings);
    let mut found = findings.found;
    found.sort_by(|a, b| a.problem.cmp(&b.problem));
    found
}

struct Findings<'a> {
    found: Vec<Finding>,
    wanted: &'a dyn Fn(&Problem) -> bool,
}

impl Findings<'_> {
    fn add(&mut self, problem: Problem, text: String, needed_by: Option<&BTreeSet<String>>) {
        if (self.wanted)(&problem) {
            self.found.push(Finding {
                problem,
                text,
                needed_by: needed_by.cloned().unwrap_or_default(),
                outcome: Outcome::Found,
            });
        }
    }
}

/// The names of images, each with a tag if it has any.
pub(super) fn names_of_images(records: &Snapshot) -> HashMap<ImageId, String> {
    let mut names: HashMap<ImageId, String> = HashMap::new();
    let mut tags = records.list::<TagRecord>();
    tags.sort_by_key(|tag| (tag.reference.tag().is_none(), tag.reference.to_string()));
    for tag in tags {
        names
            .entry(tag.image.clone())
            .or_insert_with(|| tag.reference.familiar());
    }
    for image in records.list::<ImageRecord>() {
        names
            .entry(image.id.clone())
            .or_insert_with(|| image.id.short().to_owned());
    }
    names
}

fn needs(records: &Snapshot) -> Needs {
    let names = names_of_images(records);
    let mut needs = Needs::default();
    let mut layer = |layer: &Digest, who: &str| {
        let users = needs.layers.entry(layer.clone()).or_default();
        users.insert(who.to_owned());
    };
    for image in records.list::<ImageRecord>() {
        let who = format!("image {}", names[&image.id]);
        for one in &image.layers {
            layer(one, &who);
        }
    }
    for container in records.list::<ContainerRecord>() {
        let who = format!("container {}", container.name);
        let mounted = container.mounts.iter().flat_map(|point| &point.image);
        for one in container
            .layers
            .iter()
            .chain(mounted.flat_map(|image| &image.layers))
        {
            layer(one, &who);
        }
    }
    for image in records.list::<ImageRecord>() {
        let who = format!("image {}", names[&image.id]);
        for document in [&image.id].into_iter().chain(&image.manifest) {
            let users = needs.documents.entry(document.clone()).or_default();
            users.insert(who.clone());
        }
    }
    for tag in records.list::<TagRecord>() {
        if let (Some(digest), Some(name)) = (tag.reference.digest(), names.get(&tag.image)) {
            let users = needs.documents.entry(digest.clone()).or_default();
            users.insert(format!("image {name}"));
        }
    }
    needs
}

fn documents(needs: &Needs, evidence: &Evidence, findings: &mut Findings<'_>) {
    for (digest, looked) in &evidence.documents {
        let users = needs.documents.get(digest);
        match looked {
            Ok(None) => {}
            Ok(Some(damage)) => {
                let problem = Problem::DocumentDamaged(digest.clone());
                findings.add(problem, damage.clone(), users);
            }
            Err(reason) => {
                let text = format!("document {digest} cannot be read: {reason}");
                findings.add(Problem::Unreadable(digest.clone()), text, users);
            }
        }
    }
    for (digest, users) in &needs.documents {
        if !evidence.inventory.blobs.contains_key(digest) {
            let text = format!("document {digest} is missing");
            findings.add(Problem::DocumentMissing(digest.clone()), text, Some(users));
        }
    }
}

fn layers(needs: &Needs, evidence: &Evidence, findings: &mut Findings<'_>) {
    for (layer, looked) in &evidence.layers {
        let users = needs.layers.get(layer);
        match looked {
            Err(reason) => {
                let text = format!("layer {layer} cannot be read: {reason}");
                findings.add(Problem::Unreadable(layer.clone()), text, users);
            }
            Ok(LayerCheck { tar: Err(why), .. }) => {
                let text = format!("layer {layer} is damaged: {why}");
                findings.add(Problem::LayerDamaged(layer.clone()), text, users);
            }
            Ok(check) => {
                let wrong = [("index", &check.index), ("extracted files", &check.tree)];
                let wrong: Vec<String> = wrong
                    .into_iter()
                    .filter_map(|(part, state)| match state {
                        PartState::Wrong(why) => Some(format!("{part}: {why}")),
                        PartState::Absent if part == "index" => Some("index: it is missing".into()),
                        _ => None,
                    })
                    .collect();
                if !wrong.is_empty() {
                    let text = format!("layer {layer}: {}", wrong.join("; "));
                    findings.add(Problem::LayerPartWrong(layer.clone()), text, users);
                }
            }
        }
    }
    for (layer, users) in &needs.layers {
        if !evidence.inventory.layers.contains_key(layer) {
            let text = format!("layer {layer} is missing");
            findings.add(Problem::LayerMissing(layer.clone()), text, Some(users));
        }
    }
}

fn images(records: &Snapshot, evidence: &Evidence, findings: &mut Findings<'_>) {
    let names = names_of_images(records);
    for image in records.list::<ImageRecord>() {
        let Some(right) = corrected(&image, evidence) else {
            continue;
        };
        let mut wrong = Vec::new();
        if right.layers != image.layers {
            wrong.push("other layers than its configuration".to_owned());
        }
        if right.size != image.size {
            wrong.push(format!(
                "{} bytes, and its layers have {}",
                image.size, right.size
            ));
        }
        if !wrong.is_empty() {
            let text = format!("the record of image {} says {}", image.id, wrong.join(", "));
            let users = [format!("image {}", names[&image.id])].into();
            let problem = Problem::ImageRecordWrong(image.id.clone());
            findings.add(problem, text, Some(&users));
        }
    }
    for tag in records.list::<TagRecord>() {
        if records.get::<ImageRecord>(tag.image.as_str()).is_none() {
            let text = format!(
                "the name {} names image {}, which is not recorded",
                tag.reference.familiar(),
                tag.image
            );
            findings.add(Problem::NameOfNothing(tag.reference.clone()), text, None);
        }
    }
}

/// An image's record as its configuration and its layers have it; `None` where those are not all good.
pub(super) fn corrected(image: &ImageRecord, evidence: &Evidence) -> Option<ImageRecord> {
    let content = hoist_image::fsck::read_blob(&evidence.root, &image.id).ok()?;
    let layers = ImageConfig::parse(&content).ok()?.rootfs.diff_ids;
    let sizes = layers.iter().map(|layer| evidence.good_layer(layer));
    let size = sizes
        .map(|layer| layer.map(|check| check.file_bytes))
        .sum::<Option<u64>>()?;
    Some(ImageRecord {
        layers,
        size,
        ..image.clone()
    })
}

fn containers(records: &Snapshot, evidence: &Evidence, findings: &mut Findings<'_>) {
    let snapshots = &evidence.inventory.snapshots;
    for container in records.list::<ContainerRecord>() {
        let (id, name) = (&container.id, &container.name);
        let users = [format!("container {name}")].into();
        match snapshots.get(id) {
            None => {
                let text = format!("the files that container {name} ({id}) wrote are missing");
                findings.add(Problem::SnapshotMissing(id.clone()), text, Some(&users));
            }
            Some(layers) if *layers != container.layers => {
                let text =
                    format!("container {name} ({id}) stands on other layers than its record says");
                findings.add(Problem::SnapshotWrong(id.clone()), text, Some(&users));
            }
            Some(_) => {}
        }
    }
    for id in snapshots.keys() {
        if records.get::<ContainerRecord>(id.as_str()).is_none() {
            let text = format!("files of container {id}, which is not recorded");
            findings.add(Problem::SnapshotOfNobody(id.clone()), text, None);
        }
    }
}

fn unnamed(records: &Snapshot, evidence: &Evidence, findings: &mut Findings<'_>) {
    let mut named = named_by(records);
    named.follow(&hoist_image::ContentStore::at(&evidence.root));
    // Containers that are being made or removed stand on layers, too.
    let stood_on = evidence.inventory.snapshots.values().flatten();
    named.layers.extend(stood_on.cloned());
    named.layers.extend(evidence.kept.iter().cloned());
    for layer in evidence.inventory.layers.keys() {
        if !named.layers.contains(layer) {
            let text = format!("layer {layer} belongs to no image and no container");
            findings.add(Problem::LayerOfNobody(layer.clone()), text, None);
        }
    }
    for document in evidence.inventory.blobs.keys() {
        if !named.documents.contains(document) {
            let text = format!("document {document} belongs to no image");
            findings.add(Problem::DocumentOfNobody(document.clone()), text, None);
        }
    }
    for stray in &evidence.inventory.strays {
        let path = stray.path.display().to_string();
        let (problem, text): (fn(String) -> Problem, _) = match stray.kind {
            StrayKind::Temporary => (Problem::Leftover, "left by an interrupted engine"),
            StrayKind::Part => (Problem::Leftover, "part of a layer that is not here"),
            StrayKind::Base => (Problem::Leftover, "stands on layers that are not here"),
            StrayKind::Unknown => (Problem::Unknown, "made by no engine; it is left alone"),
        };
        let text = format!("{path}: {text}");
        findings.add(problem(path), text, None);
    }
}
