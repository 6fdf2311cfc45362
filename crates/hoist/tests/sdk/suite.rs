//! One suite's world: a daemon of its own that takes a local registry for Docker Hub, and a process that runs the
//! suite's tests with the daemon's socket at `/var/run/docker.sock`, because some clients look nowhere else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hoist_testkit::{LocalRegistry, RegistryOptions, TemporaryDaemon};

use crate::outcome::{Expected, Report};
use crate::stand_ins;

/// A mount namespace whose /run is the machine's but for docker.sock, then the suite.
const ENTER: &str = r#"
mkdir -p "$HOIST_SDK_WORK/run" && mount --rbind /run "$HOIST_SDK_WORK/run" && mount -t tmpfs run /run || exit 1
for entry in "$HOIST_SDK_WORK"/run/*; do
    [ -e "$entry" ] && [ "${entry##*/}" != docker.sock ] && ln -s "$entry" /run/
done
ln -s "$HOIST_SDK_SOCKET" /run/docker.sock
exec "$@"
"#;

#[derive(Debug)]
pub(crate) struct Suite {
    directory: PathBuf,
}

impl Suite {
    /// The suites below `directory` whose names contain one of the filters (or all, without filters).
    pub(crate) fn find(directory: &Path, filters: &[String]) -> Vec<Self> {
        let mut found: Vec<Self> = std::fs::read_dir(directory)
            .expect("tests/sdk is part of the repository")
            .flatten()
            .map(|entry| Self {
                directory: entry.path(),
            })
            .filter(|suite| suite.directory.join("run").exists())
            .filter(|suite| {
                filters.is_empty()
                    || filters
                        .iter()
                        .any(|part| suite.name().contains(part.as_str()))
            })
            .collect();
        // What takes longest comes first.
        let last = |suite: &Self| !matches!(suite.name().as_str(), "rust" | "docker-py");
        found.sort_by_key(|suite| (last(suite), suite.name()));
        found
    }

    /// The directory's name.
    pub(crate) fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Prepares and runs the suite.
    ///
    /// # Errors
    /// Why it could not be run; what its tests did is in the report.
    pub(crate) fn play(&self) -> Result<Report, String> {
        let text = std::fs::read_to_string(self.directory.join("excluded.txt"))
            .map_err(|error| format!("excluded.txt: {error}"))?;
        let expected = Expected::parse(&text)?;
        let cache = cache();
        std::fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
        let prepared = Command::new(self.directory.join("run"))
            .arg("prepare")
            .env("HOIST_SDK_CACHE", &cache)
            .stdin(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        if !prepared.success() {
            return Err(format!("run prepare ended with {prepared}"));
        }
        let (hub, mut flags) = LocalRegistry::hub().ok_or("docker-registry is not installed")?;
        stand_ins::fill(&hub, "library/", &cache);
        let plain = LocalRegistry::start(&RegistryOptions::default())
            .ok_or("docker-registry is not installed")?;
        stand_ins::fill(&plain, "", &cache);
        flags.extend(extra_flags());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let built = env!("CARGO_BIN_EXE_hoist").into();
        let binary = std::env::var_os("HOIST_BINARY").unwrap_or(built);
        let daemon = TemporaryDaemon::start_with(Path::new(&binary), &flags);
        let output = self.run(&daemon, &cache, &plain)?;
        let mut report = expected.judge(&output);
        let left = daemon.finish();
        report
            .complaints
            .extend(left.into_iter().map(|what| format!("left behind: {what}")));
        report.output = output;
        Ok(report)
    }

    /// The suite's output, also in `<cache>/<name>.log`.
    fn run(
        &self,
        daemon: &TemporaryDaemon,
        cache: &Path,
        plain: &LocalRegistry,
    ) -> Result<String, String> {
        let work = daemon.directory().join("suite");
        let path = cache.join(format!("{}.log", self.name()));
        let log = std::fs::create_dir(&work)
            .and_then(|()| File::create(&path))
            .and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|error| format!("{}: {error}", path.display()))?;
        daemon
            .client("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", ENTER])
            .arg("sh")
            .arg(self.directory.join("run"))
            .env("HOIST_SDK_CACHE", cache)
            .env("HOIST_SDK_WORK", &work)
            // Some keep contexts and settings there, whatever DOCKER_CONFIG says.
            .env("HOME", &work)
            .env("HOIST_SDK_SOCKET", daemon.socket())
            .env("HOIST_SDK_REGISTRY", plain.address().to_string())
            .stdout(out)
            .stderr(err)
            .status()
            .map_err(|error| format!("unshare: {error}"))?;
        if std::env::var_os("HOIST_SDK_LOG").is_some() {
            println!("{}", daemon.log());
        }
        let output = std::fs::read(&path).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }
}

/// Where downloads and builds stay between runs: `target/sdk`.
fn cache() -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_hoist"));
    own.ancestors()
        .filter(|path| path.join("CACHEDIR.TAG").exists())
        .last()
        .map_or_else(
            || std::env::temp_dir().join("hoist-sdk"),
            |target| target.join("sdk"),
        )
}

/// More flags for the daemon, from `HOIST_SDK_FLAGS`, to look at a failure.
fn extra_flags() -> Vec<String> {
    let text = std::env::var("HOIST_SDK_FLAGS").unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
