//! `hoist fsck`: whether everything that records of images and containers name is there, is what its name says, and nothing else is.
//!
//! ```text
//! records ─┐
//!          ├─ judge ─▶ findings ─▶ repair ─▶ looked at again ─▶ what is left of the findings
//! files ───┘
//! ```
//!
//! Reading goes beside a running engine: layers and documents never change, and while they are read nothing is collected. Whether
//! something is repaired is decided by looking again, not by who repaired it.

mod evidence;
mod judge;
mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use hoist_model::{ContainerId, Digest, ErrorClass, ImageId, ImageReference};
use hoist_store::Snapshot;

use self::evidence::Evidence;
use self::judge::judge;
use super::{Images, blocking, refused};
use crate::error::ImageError;
use crate::ports::Credentials;

/// How long a check of a running engine waits for pulls and loads to end, to see what nobody names. Others wait behind it.
const WAIT: Duration = Duration::from_secs(10);

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A document's bytes are not those of its name.
    DocumentDamaged(Digest),
    /// A document that is named is not there.
    DocumentMissing(Digest),
    /// A layer's tar is not that of its name.
    LayerDamaged(Digest),
    /// A layer that is named is not there.
    LayerMissing(Digest),
    /// What is kept beside a layer's tar is not what the tar says.
    LayerPartWrong(Digest),
    /// Something cannot be read.
    Unreadable(Digest),
    /// An image's record says other things than its configuration.
    ImageRecordWrong(ImageId),
    /// A name names no image.
    NameOfNothing(ImageReference),
    /// A container's writable directories are not there.
    SnapshotMissing(ContainerId),
    /// A container's writable directories stand on other layers than its record says.
    SnapshotWrong(ContainerId),
    /// Writable directories of no container.
    SnapshotOfNobody(ContainerId),
    /// A layer that nobody names.
    LayerOfNobody(Digest),
    /// A document that nobody names.
    DocumentOfNobody(Digest),
    /// What an interrupted engine left.
    Leftover(String),
    /// A file that no engine made. It is never touched.
    Unknown(String),
}

impl Problem {
    /// One word for programs, and what it is about.
    #[must_use]
    pub fn code(&self) -> (&'static str, String) {
        match self {
            Self::DocumentDamaged(digest) => ("document-damaged", digest.to_string()),
            Self::DocumentMissing(digest) => ("document-missing", digest.to_string()),
            Self::LayerDamaged(digest) => ("layer-damaged", digest.to_string()),
            Self::LayerMissing(digest) => ("layer-missing", digest.to_string()),
            Self::LayerPartWrong(digest) => ("layer-part-wrong", digest.to_string()),
            Self::Unreadable(digest) => ("unreadable", digest.to_string()),
            Self::ImageRecordWrong(id) => ("image-record-wrong", id.to_string()),
            Self::NameOfNothing(name) => ("name-of-nothing", name.familiar()),
            Self::SnapshotMissing(id) => ("snapshot-missing", id.to_string()),
            Self::SnapshotWrong(id) => ("snapshot-wrong", id.to_string()),
            Self::SnapshotOfNobody(id) => ("snapshot-of-nobody", id.to_string()),
            Self::LayerOfNobody(digest) => ("layer-of-nobody", digest.to_string()),
            Self::DocumentOfNobody(digest) => ("document-of-nobody", digest.to_string()),
            Self::Leftover(path) => ("leftover", path.clone()),
            Self::Unknown(path) => ("unknown-file", path.clone()),
        }
    }
}

/// What became of a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody asked for a repair.
    Found,
    /// It is gone; how.
    Repaired(String),
    /// It is still there; why.
    Kept(String),
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// The same in words.
    pub text: String,
    /// Images and containers that need what is wrong: names, or short ids of those without.
    pub needed_by: BTreeSet<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Images that are recorded.
    pub images: usize,
    /// Layers that are there.
    pub layers: usize,
    /// Documents that are there.
    pub documents: usize,
    /// Containers that are recorded.
    pub containers: usize,
    /// Bytes that were read: tars, and documents.
    pub bytes: u64,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
}

/// How a check is made.
#[derive(Clone, Debug, Default)]
pub struct FsckOptions {
    /// Whether what is wrong is repaired as far as it can be.
    pub repair: bool,
    /// What registries are asked with, by their host.
    pub credentials: BTreeMap<String, Credentials>,
}

/// Checks an image root that no engine has open, by its records; `kept` are layers that others than images and containers have. Only
/// reads. Blocking.
///
/// # Errors
/// When a directory cannot be read.
pub fn fsck_at_rest(
    records: &Snapshot,
    root: &Path,
    kept: Vec<Digest>,
) -> Result<FsckReport, ImageError> {
    let evidence = Evidence::gather(root, None).map_err(unreadable)?;
    let evidence = Evidence { kept, ..evidence };
    let mut report = report(records, &evidence);
    report.findings = judge(records, &evidence, &|_| true);
    Ok(report)
}

fn unreadable(error: String) -> ImageError {
    refused(error, ErrorClass::Internal)
}

fn report(records: &Snapshot, evidence: &Evidence) -> FsckReport {
    FsckReport {
        images: records.count::<crate::records::ImageRecord>(),
        containers: records.count::<crate::records::ContainerRecord>(),
        layers: evidence.inventory.layers.len(),
        documents: evidence.inventory.blobs.len(),
        bytes: evidence.bytes(),
        findings: Vec::new(),
        notes: Vec::new(),
    }
}

/// Whether a problem can be told of while the engine runs: what is being written or removed looks like a leftover then.
fn tells_while_running(problem: &Problem) -> bool {
    !matches!(
        problem,
        Problem::Leftover(_)
            | Problem::SnapshotOfNobody(_)
            | Problem::LayerOfNobody(_)
            | Problem::DocumentOfNobody(_)
    )
}

impl Images {
    /// Checks the images of a running engine. Pulls, loads, creates and removals go on meanwhile; files are deleted only
    /// afterwards.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub async fn fsck(&self, options: &FsckOptions) -> Result<FsckReport, ImageError> {
        let intake = self.intake().await;
        // Records first: what they name cannot go while this has the intake.
        let records = self.inner.store.snapshot();
        let evidence = self.gather(None).await?;
        let mut report = report(&records, &evidence);
        let mut findings = judge(&records, &evidence, &tells_while_running);
        drop(intake);
        let now = self.inner.store.snapshot();
        findings.retain(|finding| still_concerns(&now, &finding.problem));
        if options.repair && !findings.is_empty() {
            self.repair(&mut findings, evidence, options, &tells_while_running)
                .await?;
        }
        report.findings = findings;
        match tokio::time::timeout(WAIT, self.wait_alone()).await {
            Ok(alone) => {
                let left = self.left_by_collection(alone).await?;
                report.findings.extend(left);
            }
            Err(_) => report.notes.push(
                "what nobody names was not looked for: images are being pulled, loaded or pushed"
                    .to_owned(),
            ),
        }
        Ok(report)
    }

    async fn gather(&self, only: Option<Evidence>) -> Result<Evidence, ImageError> {
        let root = self.inner.content.root().to_owned();
        let kept = self.inner.other_layers();
        blocking(move || {
            let evidence = Evidence::gather(&root, only).map_err(unreadable)?;
            Ok(Evidence { kept, ..evidence })
        })
        .await
    }

    /// What nobody names is collected at once where an engine runs: what is there afterwards could not be.
    async fn left_by_collection(
        &self,
        alone: super::collection::Alone,
    ) -> Result<Vec<Finding>, ImageError> {
        let inner = self.inner.clone();
        let left = blocking(move || {
            let collected = super::collection::collect_now(&inner);
            let records = inner.store.snapshot();
            let evidence = Evidence::names(inner.content.root()).map_err(unreadable)?;
            let evidence = Evidence {
                kept: inner.other_layers(),
                ..evidence
            };
            let unnamed = |problem: &Problem| {
                matches!(
                    problem,
                    Problem::LayerOfNobody(_) | Problem::DocumentOfNobody(_)
                )
            };
            let mut findings = judge(&records, &evidence, &unnamed);
            for finding in &mut findings {
                let why = "the engine could not remove it: see its log";
                finding.outcome = Outcome::Kept(why.to_owned());
            }
            drop(alone);
            super::collection::report(collected);
            Ok(findings)
        });
        left.await
    }

    /// Checks the images of an engine that serves nobody: `self` was made of a data root only for this. With a repair, what an
    /// interrupted engine left goes too.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub async fn fsck_alone(
        &self,
        found: FsckReport,
        options: &FsckOptions,
    ) -> Result<FsckReport, ImageError> {
        let mut report = found;
        let evidence = self.gather(None).await?;
        self.repair(&mut report.findings, evidence, options, &|_| true)
            .await?;
        Ok(report)
    }
}

/// Containers may have been removed while their directories were looked for.
fn still_concerns(records: &Snapshot, problem: &Problem) -> bool {
    match problem {
        Problem::SnapshotMissing(id) | Problem::SnapshotWrong(id) => records
            .get::<crate::records::ContainerRecord>(id.as_str())
            .is_some(),
        _ => true,
    }
}

impl FsckReport {
    /// How `hoist fsck` exits: 0 nothing is wrong, 1 what was wrong is repaired, 2 something is still wrong.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let repaired = |finding: &Finding| matches!(finding.outcome, Outcome::Repaired(_));
        match self.findings.as_slice() {
            [] => 0,
            findings if findings.iter().all(repaired) => 1,
            _ => 2,
        }
    }
}
