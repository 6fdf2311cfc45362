//! `manifest`: lists of manifests that are put together here and pushed. The engine has no part in it: as the stock client's, these
//! verbs speak to registries themselves (docker/cli `cli/command/manifest`, `cli/registry/client`).

mod kept;
mod platforms;
mod remote;

use clap::Args;
use hoist_image::document::media_type;
use hoist_model::{ImageReference, Platform};
use serde_json::{Value, json};

use super::{Context, Failure, Run, Verb, output, reference, verb};
use kept::{KeptManifest, Lists};
use remote::{Found, Registries};

/// What the noun is for.
pub(crate) const ABOUT: &str = "Manage Docker image manifests and manifest lists";

/// `hoist manifest …`.
pub(crate) const VERBS: &[Verb] = &[
    verb::<Annotate>(
        "annotate",
        "Add additional information to a local image manifest",
    ),
    verb::<Create>(
        "create",
        "Create a local manifest list for annotating and pushing to a registry",
    ),
    verb::<Inspect>("inspect", "Display an image manifest, or manifest list"),
    verb::<Push>("push", "Push a manifest list to a repository"),
    verb::<Remove>("rm", "Delete one or more manifest lists from local storage"),
];

/// `manifest annotate`.
#[derive(Args, Debug)]
struct Annotate {
    /// Set architecture
    #[arg(long, value_name = "string")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "string")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "string")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "string")]
    variant: Option<String>,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// Which of its manifests
    #[arg(value_name = "MANIFEST")]
    manifest: String,
}

impl Run for Annotate {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let named = |what: &str, text: &str| {
            reference::parse(text).map_err(|failure| {
                let message = failure.message;
                Failure::new(format!(
                    "annotate: error parsing name for {what} {text}: {message}"
                ))
            })
        };
        let list = named("manifest list", &self.list)?;
        let name = named("manifest", &self.manifest)?;
        let lists = Lists::of(context);
        let mut kept = lists.get(&list, &name)?.ok_or_else(|| {
            Failure::new(format!(
                "manifest for image {} does not exist in {}",
                self.manifest, self.list
            ))
        })?;
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut platform = kept.descriptor.platform.take().unwrap_or(Platform {
            architecture: String::new(),
            os: String::new(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        });
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(os) = some(&self.os) {
            platform.os = os;
        }
        if let Some(architecture) = some(&self.arch) {
            platform.architecture = architecture;
        }
        for feature in self.os_features {
            if !platform.os_features.contains(&feature) {
                platform.os_features.push(feature);
            }
        }
        platform.variant = some(&self.variant).or(platform.variant);
        platform.os_version = some(&self.os_version).or(platform.os_version);
        if !platforms::is_known(&platform.os, &platform.architecture) {
            return Err(Failure::new(format!(
                "manifest entry for image has unsupported os/arch combination: {}/{}",
                given(&self.os),
                given(&self.arch)
            )));
        }
        kept.descriptor.platform = Some(platform);
        lists.save(&list, &name, &kept)?;
        Ok(0)
    }
}

/// `manifest create`.
#[derive(Args, Debug)]
struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// What is in it
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<String>,
}

impl Run for Create {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let list = reference::parse(&self.list).map_err(|failure| {
            let (list, message) = (&self.list, failure.message);
            Failure::new(format!(
                "error parsing name for manifest list {list}: {message}"
            ))
        })?;
        let lists = Lists::of(context);
        if lists.all(&list)?.is_some() && !self.amend {
            return Err(Failure::new(
                "refusing to amend an existing manifest list with no --amend flag",
            ));
        }
        let registries = Registries::new(context, self.insecure);
        for text in &self.manifests {
            let name = reference::parse(text)?;
            let kept = lists.get(&list, &name)?.filter(|kept| !kept.raw.is_empty());
            let kept = match kept {
                Some(kept) => kept,
                None => match registries.find(&name).await? {
                    Found::Manifest(kept) => *kept,
                    Found::List(_) => {
                        return Err(Failure::new(format!("{name} is a manifest list")));
                    }
                },
            };
            lists.save(&list, &name, &kept)?;
        }
        output::line(format!("Created manifest list {list}"))?;
        Ok(0)
    }
}

/// `manifest inspect`.
#[derive(Args, Debug)]
struct Inspect {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    /// A manifest, after the local list that it is in, if it is to be shown as it is there
    #[arg(value_name = "[MANIFEST_LIST] MANIFEST", num_args = 1..=2, required = true)]
    names: Vec<String>,
}

impl Run for Inspect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let lists = Lists::of(context);
        let name = self.names.last().map(String::as_str).unwrap_or_default();
        let name = reference::parse(name)?;
        if let [list, _] = &self.names[..] {
            let list = reference::parse(list)?;
            let kept = lists.get(&list, &name)?;
            let kept = kept.ok_or_else(|| kept::no_such(&name.to_string()))?;
            return self.print_manifest(&kept);
        }
        if let Some(all) = lists.all(&name)? {
            return self.print_list(&name, &all);
        }
        match Registries::new(context, self.insecure).find(&name).await? {
            Found::Manifest(manifest) => self.print_manifest(&manifest),
            Found::List(all) => self.print_list(&name, &all),
        }
    }
}

impl Inspect {
    fn print_manifest(&self, kept: &KeptManifest) -> Result<u8, Failure> {
        let shown = if self.verbose {
            serde_json::to_value(kept)
        } else {
            serde_json::from_slice(&kept.bytes()?)
        };
        let shown = shown.map_err(|error| Failure::new(error.to_string()))?;
        output::line(indented(&shown, b"\t"))?;
        Ok(0)
    }

    fn print_list(&self, name: &ImageReference, all: &[KeptManifest]) -> Result<u8, Failure> {
        if self.verbose {
            output::line(indented(&json!(all), b"\t"))?;
            return Ok(0);
        }
        let index = index(name, all).map_err(|failure| {
            let message = failure.message;
            Failure::new(format!("failed to assemble ManifestDescriptor: {message}"))
        })?;
        output::line(indented(&index, b"   "))?;
        Ok(0)
    }
}

/// `manifest push`.
#[derive(Args, Debug)]
struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

impl Run for Push {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let list = reference::parse(&self.list)?;
        let lists = Lists::of(context);
        let all = lists.all(&list)?;
        let all = all.ok_or_else(|| kept::no_such(&list.to_string()))?;
        for kept in &all {
            let platform = kept.descriptor.platform.as_ref();
            if platform.is_none_or(|one| one.architecture.is_empty() || one.os.is_empty()) {
                return Err(Failure::new(format!(
                    "manifest {} must have an OS and Architecture to be pushed to a registry",
                    kept.reference
                )));
            }
        }
        let index = index(&list, &all)?;
        let kind = index["mediaType"].as_str().unwrap_or_default().to_owned();
        let registries = Registries::new(context, self.insecure);
        let bytes = indented(&index, b"   ");
        let digest = registries.push(&list, &all, &kind, bytes).await?;
        output::line(digest.as_str())?;
        if self.purge {
            lists.remove(&list)?;
        }
        Ok(0)
    }
}

/// `manifest rm`.
#[derive(Args, Debug)]
struct Remove {
    /// The lists
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let kept = Lists::of(context);
        let remove = |text: &String| {
            let list = reference::parse(text)?;
            if kept.all(&list)?.is_none() {
                return Err(kept::no_such(&list.to_string()));
            }
            kept.remove(&list)
        };
        let failures = self.lists.iter().map(remove).filter_map(Result::err);
        let messages: Vec<String> = failures.map(|failure| failure.message).collect();
        if messages.is_empty() {
            return Ok(0);
        }
        Err(Failure::new(messages.join("\n")))
    }
}

/// The document of a list: OCI's index where the first manifest is OCI's, else Docker's list
/// (docker/distribution `manifestlist.FromDescriptors`).
fn index(list: &ImageReference, all: &[KeptManifest]) -> Result<Value, Failure> {
    let host = list.repository().host();
    let mut manifests = Vec::with_capacity(all.len());
    for kept in all {
        let own = kept.named()?;
        if own.repository().host() != host {
            return Err(Failure::new(format!(
                "cannot use source images from a different registry than the target image: {} != {host}",
                own.repository().host()
            )));
        }
        let descriptor = &kept.descriptor;
        let nothing = json!({"architecture": "", "os": ""});
        let platform = descriptor.platform.as_ref();
        manifests.push(json!({
            "mediaType": descriptor.media_type,
            "size": descriptor.size,
            "digest": descriptor.digest,
            "platform": platform.map_or(nothing, |platform| json!(platform)),
        }));
    }
    let first = all.first().map(|kept| kept.descriptor.media_type.as_str());
    let kind = match first {
        Some(media_type::OCI_MANIFEST) => media_type::OCI_INDEX,
        _ => media_type::DOCKER_INDEX,
    };
    Ok(json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}))
}

/// JSON over several lines, as Go's `json.MarshalIndent` writes it.
fn indented(value: &Value, indent: &[u8]) -> String {
    let mut out = Vec::new();
    let style = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, style);
    serde::Serialize::serialize(value, &mut serializer).expect("values are serialised into memory");
    String::from_utf8(out).expect("JSON is UTF-8")
}
