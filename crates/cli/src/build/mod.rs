//! `build`: a directory and a Dockerfile on their way to the engine, and what is seen of the build.

mod classic;
mod directory;
mod follow;
mod inputs;
mod outputs;
mod own;
mod prune;
mod usage;
mod values;

use clap::Args;

use super::{Context, Failure, Run, Verb, verb};

/// Without a noun.
pub(crate) const TOP_VERBS: &[Verb] = &[verb::<Build>("build", ABOUT)];

/// `hoist builder …`.
pub(crate) const NOUN_VERBS: &[Verb] = &[
    verb::<Build>("build", ABOUT),
    verb::<usage::BuildUsage>("du", "Show what the build cache keeps"),
    verb::<prune::PruneBuilds>("prune", "Remove build cache"),
];

/// What the verb is about.
pub(crate) const ABOUT: &str = "Build an image from a Dockerfile";

/// `build`.
#[derive(Args, Debug, Default)]
pub(crate) struct Build {
    /// Add a custom host-to-IP mapping ("host:ip")
    #[arg(long, value_name = "list")]
    add_host: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "list")]
    build_arg: Vec<String>,
    /// More contexts, by name: NAME=PATH, an address, or docker-image://IMAGE
    #[arg(long, value_name = "list")]
    build_context: Vec<String>,
    /// Where something may have been built before: an image, or type=registry,ref=IMAGE
    #[arg(long, value_name = "list")]
    cache_from: Vec<String>,
    /// Where to tell what was built: type=registry,ref=IMAGE[,mode=max], or type=inline
    #[arg(long, value_name = "list")]
    cache_to: Vec<String>,
    /// Instead of building: check, outline, targets
    #[arg(long, value_name = "string")]
    call: Option<String>,
    /// Look for what is most likely wrong with the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
    /// Accepted for docker's sake: contexts are not compressed on their way
    #[arg(long)]
    compress: bool,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Skip image verification: accepted, images are verified by digest only
    #[arg(long)]
    disable_content_trust: bool,
    /// Name of the Dockerfile (Default is "PATH/Dockerfile"), - for standard input
    #[arg(short, long, value_name = "string")]
    file: Option<String>,
    /// Accepted for docker's sake: steps leave no containers
    #[arg(long)]
    force_rm: bool,
    /// Write the image ID to the file
    #[arg(long, value_name = "string")]
    iidfile: Option<String>,
    /// Container isolation technology: only "default"
    #[arg(long, value_name = "string")]
    isolation: Option<String>,
    /// Set metadata for an image
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// The image is to be here: what there is without --output
    #[arg(long)]
    load: bool,
    /// Memory limit
    #[arg(short, long, value_name = "bytes")]
    memory: Option<String>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes")]
    memory_swap: Option<String>,
    /// Write what is known of the result to the file, as JSON
    #[arg(long, value_name = "string")]
    metadata_file: Option<String>,
    /// Set the networking mode for the RUN instructions during build
    #[arg(long, value_name = "string")]
    network: Option<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not use the cache for these stages
    #[arg(long, value_name = "list", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// What becomes of it: a directory, - for a tar, or type=local|tar|oci|docker|image|registry[,dest=PATH]
    #[arg(short, long, value_name = "list")]
    output: Vec<String>,
    /// Print what would be done, as a graph, and do nothing
    #[arg(long)]
    plan: bool,
    /// Set the platform of the image
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// How to show what goes on: auto, tty, plain, quiet, rawjson
    #[arg(long, value_name = "string")]
    progress: Option<String>,
    /// Always ask for newer versions of base images
    #[arg(long)]
    pull: bool,
    /// Push the image to the registry that its name says
    #[arg(long)]
    push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Accepted for docker's sake: steps leave no containers
    #[arg(long)]
    rm: bool,
    /// A secret for RUN --mount=type=secret: id=NAME[,src=PATH][,env=VARIABLE]
    #[arg(long, value_name = "list")]
    secret: Vec<String>,
    /// Security options: none are there for builds
    #[arg(long, value_name = "strings")]
    security_opt: Vec<String>,
    /// Size of "/dev/shm"
    #[arg(long, value_name = "bytes")]
    shm_size: Option<String>,
    /// Squash newly built layers into a single new layer: refused
    #[arg(long)]
    squash: bool,
    /// Name and optionally a tag in the "name:tag" format
    #[arg(short, long, value_name = "list")]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit")]
    ulimit: Vec<String>,
    /// The context: a directory, an address, or - for an archive or a Dockerfile on standard input
    #[arg(value_name = "PATH | URL | -")]
    context: String,
}

/// How a build is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// By what standard error is.
    Auto,
    /// One picture.
    Terminal,
    /// Lines.
    Plain,
    /// Nothing but the image's id in the end.
    Quiet,
    /// BuildKit's objects.
    Json,
}

impl Build {
    fn progress(&self) -> Result<Progress, Failure> {
        if self.quiet {
            return Ok(Progress::Quiet);
        }
        let variable = std::env::var("BUILDKIT_PROGRESS").ok();
        let chosen = self.progress.clone().or(variable).unwrap_or_default();
        Ok(match chosen.as_str() {
            "" | "auto" => Progress::Auto,
            "tty" => Progress::Terminal,
            "plain" => Progress::Plain,
            "quiet" => Progress::Quiet,
            "rawjson" | "json" => Progress::Json,
            other => {
                return Err(Failure::new(format!(
                    "invalid progress mode {other:?}: expected auto, tty, plain, quiet or rawjson"
                )));
            }
        })
    }

    fn is_quiet(&self) -> bool {
        self.progress().is_ok_and(|mode| mode == Progress::Quiet)
    }

    /// What no build of ours does.
    fn refuse(&self) -> Result<(), Failure> {
        if self.squash {
            return Err(Failure::new(
                "--squash is not there: join RUN instructions, or copy the files of a stage into a last one (COPY --from=stage / /)",
            ));
        }
        if let Some(option) = self.security_opt.first() {
            return Err(Failure::new(format!(
                "--security-opt {option:?}: builds have no security options"
            )));
        }
        match self.isolation.as_deref() {
            None | Some("" | "default") => Ok(()),
            Some(other) => Err(Failure::new(format!(
                "invalid --isolation {other:?}: only \"default\" is there"
            ))),
        }
    }

    /// What the classic endpoint cannot be asked for.
    fn refuse_in_classic(&self) -> Result<(), Failure> {
        for (asked, flag) in [
            (self.plan, "--plan"),
            (!self.secret.is_empty(), "--secret"),
            (!self.build_context.is_empty(), "--build-context"),
            (!self.cache_to.is_empty(), "--cache-to"),
            (self.call.is_some() || self.check, "--call"),
            (self.metadata_file.is_some(), "--metadata-file"),
            (!self.no_cache_filter.is_empty(), "--no-cache-filter"),
            (!self.output.is_empty() || self.push, "--output"),
        ] {
            if asked {
                return Err(Failure::new(format!(
                    "{flag} needs Hoist's engine, and DOCKER_BUILDKIT not to be 0"
                )));
            }
        }
        Ok(())
    }

    /// What is asked in place of a build, as the engine calls it.
    fn question(&self) -> Result<Option<&'static str>, Failure> {
        match self.call.as_deref() {
            None if self.check => Ok(Some("lint")),
            None | Some("build") => Ok(None),
            Some("check" | "lint") => Ok(Some("lint")),
            Some("outline") => Ok(Some("outline")),
            Some("targets") => Ok(Some("targets")),
            Some(other) => Err(Failure::new(format!(
                "invalid --call {other:?}: expected check, outline or targets"
            ))),
        }
    }

    /// Keeps the id of what was built where it was asked for.
    fn note_image(&self, id: &str) -> Result<(), Failure> {
        let Some(path) = &self.iidfile else {
            return Ok(());
        };
        std::fs::write(path, id)
            .map_err(|error| Failure::new(format!("cannot write --iidfile {path}: {error}")))
    }

    /// What is known of the result, under buildx's names.
    fn note_metadata(&self, built: &follow::Built) -> Result<(), Failure> {
        let Some(path) = &self.metadata_file else {
            return Ok(());
        };
        let mut metadata = serde_json::json!({
            "containerimage.config.digest": built.id,
            "containerimage.digest": built.pushed.as_ref().unwrap_or(&built.id),
        });
        if !built.names.is_empty() {
            metadata["image.name"] = built.names.join(",").into();
        }
        let text = format!("{metadata:#}\n");
        std::fs::write(path, text)
            .map_err(|error| Failure::new(format!("cannot write --metadata-file {path}: {error}")))
    }
}

impl Run for Build {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        self.refuse()?;
        self.progress()?;
        if let Some(path) = &self.iidfile {
            // As Docker: what an earlier build left is not taken for this one's.
            let _ = std::fs::remove_file(path);
        }
        let inputs = inputs::find(&self.context, self.file.as_deref())?;
        // Scripts that read the classic builder's words ask for it by this variable.
        let is_classic = std::env::var("DOCKER_BUILDKIT").is_ok_and(|value| {
            matches!(
                value.as_str(),
                "0" | "f" | "F" | "false" | "False" | "FALSE"
            )
        });
        if is_classic {
            return classic::build(context, &self, inputs).await;
        }
        own::build(context, &self, inputs).await
    }
}
