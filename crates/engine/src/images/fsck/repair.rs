//! Making good what can be made good, without losing anything that is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use hoist_image::SnapshotterKind;
use hoist_image::fsck::PartState;
use hoist_model::container::ContainerState;
use hoist_model::{Digest, ImageId, ImageReference, chain};
use hoist_store::{Class, Snapshot};

use super::evidence::Evidence;
use super::judge::{corrected, judge};
use super::{Finding, FsckOptions, Outcome, Problem};
use crate::error::ImageError;
use crate::images::{Images, blocking};
use crate::records::{ContainerRecord, ImageRecord, TagRecord};

/// How something was repaired, or why not.
type Deed = Result<String, String>;

/// Repairs lead to more: an image's size is known when its last layer is.
const ROUNDS: usize = 3;

impl Images {
    /// Repairs what it can of the findings, and says of each what became of it.
    pub(super) async fn repair(
        &self,
        findings: &mut Vec<Finding>,
        mut evidence: Evidence,
        options: &FsckOptions,
        wanted: &(dyn Fn(&Problem) -> bool + Sync),
    ) -> Result<(), ImageError> {
        let mut settled: Vec<Finding> = Vec::new();
        let mut open = std::mem::take(findings);
        for _ in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            let deeds = self.attempt(&open, &evidence, options).await;
            evidence = self.gather(Some(evidence)).await?;
            let left = judge(&self.inner.store.snapshot(), &evidence, wanted);
            for mut finding in open {
                let is_left = left.iter().any(|one| one.problem == finding.problem);
                let deed = deeds.get(&finding.problem).cloned();
                finding.outcome = match (is_left, deed) {
                    (false, Some(Ok(how))) => Outcome::Repaired(how),
                    (false, _) => Outcome::Repaired("it is no longer so".to_owned()),
                    (true, Some(Err(why))) => Outcome::Kept(why),
                    (true, Some(Ok(how))) => Outcome::Kept(format!("in vain: {how}")),
                    (true, None) => Outcome::Kept("it cannot be repaired".to_owned()),
                };
                settled.push(finding);
            }
            let known = |problem: &Problem| settled.iter().any(|one| one.problem == *problem);
            open = left
                .into_iter()
                .filter(|one| !known(&one.problem))
                .collect();
        }
        settled.extend(open);
        settled.sort_by(|a, b| a.problem.cmp(&b.problem));
        *findings = settled;
        Ok(())
    }

    /// One attempt at each. Who is not in the answer was not tried.
    async fn attempt(
        &self,
        findings: &[Finding],
        evidence: &Evidence,
        options: &FsckOptions,
    ) -> BTreeMap<Problem, Deed> {
        let mut deeds = BTreeMap::new();
        // What is brought back is not collected before it is seen that it is needed.
        let intake = self.intake().await;
        let records = self.inner.store.snapshot();
        for finding in findings {
            let deed = match &finding.problem {
                Problem::LayerPartWrong(layer) => {
                    Some(self.rebuild(layer, &records, evidence).await)
                }
                Problem::ImageRecordWrong(id) => Some(self.correct(id, evidence).await),
                Problem::NameOfNothing(name) => Some(self.forget_name(name).await),
                Problem::SnapshotOfNobody(id) => {
                    let removed = self.inner.snapshotter.remove(id);
                    let removed = removed.map_err(|error| chain(&error));
                    let deleted = removed
                        .and_then(|doomed| doomed.delete().map_err(|error| error.to_string()));
                    Some(deleted.map(|()| "removed".to_owned()))
                }
                Problem::Leftover(path) => {
                    let removed = hoist_image::fsck::remove_leftover(Path::new(path));
                    let removed = removed.map_err(|error| error.to_string());
                    Some(removed.map(|()| "removed".to_owned()))
                }
                Problem::SnapshotMissing(_) => {
                    Some(Err("what it wrote is lost: remove the container".to_owned()))
                }
                Problem::SnapshotWrong(_) => {
                    Some(Err("remove the container, and make it anew".to_owned()))
                }
                Problem::Unknown(_) => Some(Err("it is not the engine's".to_owned())),
                Problem::Unreadable(_) => Some(Err("see the disk's own tools".to_owned())),
                _ => None,
            };
            if let Some(deed) = deed {
                deeds.insert(finding.problem.clone(), deed);
            }
        }
        self.fetch_all(findings, &records, options, &mut deeds)
            .await;
        intake.finish();
        let unneeded: Vec<&Problem> = findings
            .iter()
            .map(|finding| &finding.problem)
            .filter(|problem| !deeds.contains_key(problem))
            .collect();
        if !unneeded.is_empty() {
            self.collect().await;
        }
        for problem in unneeded.into_iter().cloned().collect::<Vec<_>>() {
            deeds.insert(problem, Ok("removed: nobody needs it".to_owned()));
        }
        deeds
    }

    /// Makes what is beside a tar anew.
    async fn rebuild(&self, layer: &Digest, records: &Snapshot, evidence: &Evidence) -> Deed {
        let check = evidence.good_layer(layer);
        let tree = check.map(|check| &check.tree);
        if matches!(tree, Some(PartState::Wrong(_)))
            && let Some(name) = runs_on(records, layer)
        {
            return Err(format!("container {name} runs on it: stop it first"));
        }
        let (inner, layer) = (self.inner.clone(), layer.clone());
        let rebuilt = blocking(move || {
            let rebuilt = inner.snapshotter.rebuild_layer(&layer);
            Ok(rebuilt.map_err(|error| chain(&error)))
        });
        let rebuilt = rebuilt.await.map_err(|error| chain(&error))?;
        rebuilt.map(|()| "made again from its tar".to_owned())
    }

    async fn correct(&self, id: &ImageId, evidence: &Evidence) -> Deed {
        let record = self.inner.store.snapshot().get::<ImageRecord>(id.as_str());
        let right = record.and_then(|record| corrected(&record, evidence));
        let Some(right) = right else {
            return Err("its configuration or a layer of it is not good".to_owned());
        };
        let store = &self.inner.store;
        let written = store.transaction(Class::Disk, move |tx| {
            if let Some(record) = tx.get::<ImageRecord>(right.id.as_str()) {
                tx.put(Arc::new(ImageRecord {
                    layers: right.layers,
                    size: right.size,
                    ..(*record).clone()
                }));
            }
            Ok::<_, ImageError>(())
        });
        written.await.map_err(|error| chain(&error))?;
        Ok("written again from its configuration".to_owned())
    }

    async fn forget_name(&self, name: &ImageReference) -> Deed {
        let key = name.to_string();
        let store = &self.inner.store;
        let written = store.transaction(Class::Disk, move |tx| {
            let image = tx.get::<TagRecord>(&key).map(|tag| tag.image.clone());
            if image.is_some_and(|id| tx.get::<ImageRecord>(id.as_str()).is_none()) {
                tx.delete::<TagRecord>(&key);
            }
            Ok::<_, ImageError>(())
        });
        written.await.map_err(|error| chain(&error))?;
        Ok("removed".to_owned())
    }

    /// Brings damaged and missing parts of images back from where the images came from.
    async fn fetch_all(
        &self,
        findings: &[Finding],
        records: &Snapshot,
        options: &FsckOptions,
        deeds: &mut BTreeMap<Problem, Deed>,
    ) {
        let mut wanted: BTreeMap<&Digest, &Problem> = BTreeMap::new();
        for finding in findings {
            let problem = &finding.problem;
            if let Problem::DocumentDamaged(digest)
            | Problem::DocumentMissing(digest)
            | Problem::LayerDamaged(digest)
            | Problem::LayerMissing(digest) = problem
            {
                wanted.insert(digest, problem);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let mut busy: BTreeSet<&Digest> = BTreeSet::new();
        for (digest, problem) in &wanted {
            if let Problem::LayerDamaged(layer) = problem {
                let is_directory = self.inner.snapshotter.kind() == SnapshotterKind::Directory;
                match runs_on(records, layer).filter(|_| is_directory) {
                    Some(name) => {
                        let why = format!("container {name} runs on it: stop it first");
                        deeds.insert((*problem).clone(), Err(why));
                        busy.insert(digest);
                    }
                    None => self.inner.snapshotter.distrust_layer(layer),
                }
            }
        }
        let mut parts: HashMap<ImageId, Parts> = HashMap::new();
        for tag in records.list::<TagRecord>() {
            let parts = parts.entry(tag.image.clone()).or_default();
            parts.documents.extend(tag.reference.digest().cloned());
            parts.names.push(tag.reference.clone());
        }
        for image in records.list::<ImageRecord>() {
            let Parts { documents, names } = parts.remove(&image.id).unwrap_or_default();
            let own = [&image.id].into_iter().chain(&image.manifest);
            let all = own.chain(&documents).chain(&image.layers);
            let broken: Vec<&&Problem> = all
                .filter(|digest| !busy.contains(digest))
                .filter_map(|digest| wanted.get(digest))
                .filter(|problem| !matches!(deeds.get(**problem), Some(Ok(_))))
                .collect();
            if broken.is_empty() {
                continue;
            }
            let fetched = self.fetch_again(&image, &names, options).await;
            for problem in broken {
                deeds.insert((*problem).clone(), fetched.clone());
            }
        }
        // A container whose image is gone, and with it the knowledge of where it came from.
        for (digest, problem) in wanted {
            let needed = records
                .list::<ContainerRecord>()
                .iter()
                .any(|container| container.layers.contains(digest));
            if needed && !deeds.contains_key(problem) {
                let why = "the image that it came with is removed: pull or load it again";
                deeds.insert(problem.clone(), Err(why.to_owned()));
            }
        }
    }

    /// Pulls an image by its digest from each place where it is known to have been, until one has it.
    async fn fetch_again(
        &self,
        image: &ImageRecord,
        names: &[ImageReference],
        options: &FsckOptions,
    ) -> Deed {
        let mut places: Vec<ImageReference> = Vec::new();
        let by_digest = names.iter().filter(|name| name.digest().is_some());
        for place in by_digest.cloned().chain(names.iter().flat_map(|name| {
            let manifest = image.manifest.iter();
            manifest.map(|digest| name.with_digest(digest))
        })) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let mut refusals = Vec::new();
        for place in places {
            let host = place.repository().host();
            let credentials = options.credentials.get(host).cloned();
            let source = &self.inner.source;
            let quiet = Arc::new(|_| ());
            let pulled = source.pull(&place, Some(&image.platform), credentials, quiet);
            match pulled.await {
                Ok(stored) if stored.id == image.id => {
                    return Ok(format!("fetched again from {}", place.familiar()));
                }
                Ok(_) => refusals.push(format!("{} is another image", place.familiar())),
                Err(error) => refusals.push(format!("{}: {}", place.familiar(), error.message)),
            }
        }
        if refusals.is_empty() {
            return Err("it came from no registry: load it again".to_owned());
        }
        Err(format!("not fetched: {}", refusals.join("; ")))
    }
}

/// What an image is known by beside its record.
#[derive(Default)]
struct Parts {
    documents: Vec<Digest>,
    names: Vec<ImageReference>,
}

/// A container that runs on a layer.
fn runs_on(records: &Snapshot, layer: &Digest) -> Option<String> {
    let containers = records.list::<ContainerRecord>();
    let mut users = containers.iter().filter(|container| {
        let mut mounted = container.mounts.iter().flat_map(|point| &point.image);
        container.layers.contains(layer) || mounted.any(|image| image.layers.contains(layer))
    });
    let runs = |container: &&Arc<ContainerRecord>| {
        matches!(
            container.state,
            ContainerState::Running(_) | ContainerState::Starting
        )
    };
    users.find(runs).map(|container| container.name.clone())
}
