//! `cp`: archives between this machine and a container.
//!
//! Which name lands where is docker's rule (moby/go-archive:copy.go): an existing directory takes the source into it, an
//! existing file gives way to a file, and what does not exist yet gets the source's content under the new name.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hoist_docker::client::Reply;
use hoist_image::files::{self, FilesError, Renamed, Root, UnpackOptions};
use hoist_model::chain;
use serde_json::Value;

use crate::reference::segment;
use crate::{Context, Failure, Run, output, transfer};
use hoist_render::human;

/// `cp`.
#[derive(Args, Debug)]
pub(crate) struct Copy {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in `SRC_PATH`
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    quiet: Option<bool>,
    /// From where: a local path, CONTAINER:PATH, or - for a tar archive from standard input
    #[arg(
        value_name = "CONTAINER:SRC_PATH|SRC_PATH|-",
        allow_hyphen_values = true
    )]
    source: String,
    /// To where: a local path, CONTAINER:PATH, or - for a tar archive to standard output
    #[arg(
        value_name = "DEST_PATH|CONTAINER:DEST_PATH|-",
        allow_hyphen_values = true
    )]
    destination: String,
}

/// The bits of Go's `os.FileMode` that a path's description comes with.
const DIRECTORY: u64 = 1 << 31;
const SYMLINK: u64 = 1 << 27;
const DEVICE: u64 = 1 << 26;

/// The container and the path of an operand; no container for a path of this machine. A local name with a colon
/// is written `./a:b`.
fn operand(text: &str) -> (Option<&str>, &str) {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with(['/', '.']) => (Some(container), path),
        _ => (None, text),
    }
}

/// The last part of a path, `.` where it says so.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some(last) if !last.is_empty() => last,
        _ => "/",
    }
}

/// Keeps what a trailing `/` or `/.` of `original` says.
fn keep_tail(cleaned: String, original: &str) -> String {
    let slash = |path: String| {
        if path.ends_with('/') {
            path
        } else {
            path + "/"
        }
    };
    if base(original) == "." {
        slash(cleaned) + "."
    } else if original.ends_with('/') {
        slash(cleaned)
    } else {
        cleaned
    }
}

/// A local path, absolute and tidy.
fn absolute(path: &str) -> Result<String, Failure> {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        let here = std::env::current_dir()
            .map_err(|error| Failure::new(format!("current directory: {error}")))?;
        format!("{}/{path}", here.display())
    };
    Ok(keep_tail(hoist_model::path::clean(&whole), path))
}

/// The directory a path is in, and its name there.
fn split(path: &str) -> (String, String) {
    let cleaned = hoist_model::path::clean(path);
    if base(path) == "." {
        return (cleaned, ".".to_owned());
    }
    match cleaned.rsplit_once('/') {
        Some((parent, last)) if !last.is_empty() => {
            let parent = if parent.is_empty() { "/" } else { parent };
            (parent.to_owned(), last.to_owned())
        }
        _ => ("/".to_owned(), "/".to_owned()),
    }
}

/// A path beside another, unless it begins at the root.
fn beside(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    hoist_model::path::clean(&format!("{}/{link}", split(path).0))
}

/// Where something is to go.
struct Destination {
    path: String,
    exists: bool,
    is_directory: bool,
}

/// The directory to unpack into, and the name the source gets there if it is not its own.
fn place(
    source_is_directory: bool,
    destination: &Destination,
) -> Result<(String, Option<String>), Failure> {
    if destination.exists && destination.is_directory {
        return Ok((destination.path.clone(), None));
    }
    if destination.exists && source_is_directory {
        return Err(Failure::new("cannot copy directory"));
    }
    let asserted = destination.path.ends_with('/') || base(&destination.path) == ".";
    if !destination.exists && !source_is_directory && asserted {
        return Err(Failure::new("no such directory"));
    }
    let (parent, name) = split(&destination.path);
    Ok((parent, Some(name)))
}

/// A failure as Go says it: `stat /x: not a directory`.
fn stat_failed(path: &str, error: &std::io::Error) -> Failure {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory",
        std::io::ErrorKind::NotADirectory => "not a directory",
        std::io::ErrorKind::PermissionDenied => "permission denied",
        _ => return Failure::new(format!("stat {path}: {error}")),
    };
    Failure::new(format!("stat {path}: {why}"))
}

/// A destination on this machine, its last links followed.
fn local_destination(path: &str) -> Result<Destination, Failure> {
    let mut path = path.to_owned();
    for _ in 0..10 {
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let link = std::fs::read_link(&path).map_err(|error| stat_failed(&path, &error))?;
                path = beside(&path, &link.to_string_lossy());
            }
            Ok(found) => {
                return Ok(Destination {
                    exists: true,
                    is_directory: found.is_dir(),
                    path,
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = split(&path).0;
                let found = std::fs::metadata(&parent);
                if !found
                    .map_err(|error| stat_failed(&parent, &error))?
                    .is_dir()
                {
                    return Err(Failure::new(format!("{parent}: not a directory")));
                }
                return Ok(Destination {
                    path,
                    exists: false,
                    is_directory: false,
                });
            }
            Err(error) => return Err(stat_failed(&path, &error)),
        }
    }
    Err(Failure::new(format!("too many symlinks in {path}")))
}

/// What the engine says of a path: mode bits and link target.
fn description(reply: &Reply) -> Option<(u64, String)> {
    let bytes = STANDARD
        .decode(reply.header("x-docker-container-path-stat")?)
        .ok()?;
    let stat: Value = serde_json::from_slice(&bytes).ok()?;
    let link = stat["linkTarget"].as_str().unwrap_or_default().to_owned();
    Some((stat["mode"].as_u64()?, link))
}

/// A failure of our own side in the words of a command line.
fn files_failure(error: &FilesError, place: &str) -> Failure {
    Failure::new(match error {
        FilesError::ReadOnlyRoot => format!("{place}: read-only file system"),
        error => chain(error),
    })
}

/// How many bytes are on their way, on standard error.
struct Meter {
    header: &'static str,
    count: Arc<AtomicU64>,
    shown: bool,
}

impl Meter {
    /// Runs the work with the count beside it if standard error is a terminal.
    async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        if !self.shown || !std::io::stderr().is_terminal() {
            return work.await;
        }
        let tick = async {
            let mut every = tokio::time::interval(Duration::from_millis(75));
            loop {
                every.tick().await;
                let size = human::size(self.count.load(Ordering::Relaxed), 3);
                // A terminal that went away is no reason to stop.
                drop(write!(std::io::stderr(), "\r\x1b[K{}{size}", self.header));
            }
        };
        let done = tokio::select! {
            done = work => done,
            never = tick => never,
        };
        drop(write!(std::io::stderr(), "\r\x1b[K"));
        done
    }

    fn done(&self, destination: &str) {
        if self.shown {
            let size = human::size(self.count.load(Ordering::Relaxed), 3);
            output::warn(format!("Successfully copied {size} to {destination}"));
        }
    }
}

impl Run for Copy {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        for (text, what) in [(&self.source, "source"), (&self.destination, "destination")] {
            if text.is_empty() {
                return Err(Failure::new(format!("{what} can not be empty")));
            }
        }
        match (operand(&self.source), operand(&self.destination)) {
            ((Some(container), from), (None, to)) => {
                self.copy_out(context, container, from, to).await?
            }
            ((None, from), (Some(container), to)) => {
                self.copy_in(context, container, from, to).await?;
            }
            ((Some(_), _), (Some(_), _)) => {
                return Err(Failure::new("copying between containers is not supported"));
            }
            ((None, _), (None, _)) => {
                return Err(Failure::new("must specify at least one container source"));
            }
        }
        Ok(0)
    }
}

impl Copy {
    fn meter(&self, header: &'static str) -> Meter {
        let quiet = self.quiet.unwrap_or(!std::io::stdout().is_terminal());
        Meter {
            header,
            count: Arc::default(),
            shown: !quiet,
        }
    }

    async fn copy_out(
        &self,
        context: &Context,
        container: &str,
        from: &str,
        to: &str,
    ) -> Result<(), Failure> {
        let destination = if to == "-" {
            None
        } else {
            let to = absolute(to)?;
            transfer::check_output(&to)?;
            Some((local_destination(&to)?, to))
        };
        let client = context.client()?;
        let path = format!("/containers/{}/archive", segment(container));
        // Behind a link the archive has the target's name, and the copy is to have the link's.
        let (mut from, mut name) = (from.to_owned(), base(from).to_owned());
        if self.follow_link {
            let reply = client.head(path.as_str()).query("path", from.as_str());
            if let Ok(reply) = reply.send().await
                && let Some((mode, link)) = description(&reply)
                && mode & SYMLINK != 0
            {
                from = keep_tail(beside(&from, &link), &from);
                name = base(&from).to_owned();
            }
        }
        let source = client.get(path).query("path", from.as_str()).send().await?;
        let Some((destination, to)) = destination else {
            return transfer::save(source, None).await;
        };
        let (mode, _) = description(&source)
            .ok_or_else(|| Failure::new("the engine's answer does not say what it copies"))?;
        let (directory, renamed) = place(mode & DIRECTORY != 0, &destination)?;
        let own = base(&self.source[container.len() + 1..]).to_owned();
        // Copied into a directory from behind a link: under the link's name.
        let renamed = renamed.or_else(|| (own != name && own != ".").then_some(own));
        let open = File::open(&directory).map_err(|error| stat_failed(&directory, &error))?;
        let (root, place) = (Root::new(OwnedFd::from(open)), directory);
        let meter = self.meter("Copying from container - ");
        let unpack = move |archive: transfer::Download| {
            let options = UnpackOptions {
                keep_kinds: true,
                unowned: true,
                renamed: renamed.as_deref().map(|to| Renamed { from: &name, to }),
                ..UnpackOptions::default()
            };
            files::unpack(&root, "/", archive, options)
                .map_err(|error| files_failure(&error, &place))
        };
        let work = transfer::download(source, meter.count.clone(), unpack);
        meter.beside(work).await?;
        meter.done(&to);
        Ok(())
    }

    async fn copy_in(
        &self,
        context: &Context,
        container: &str,
        from: &str,
        to: &str,
    ) -> Result<(), Failure> {
        let client = context.client()?;
        let path = format!("/containers/{}/archive", segment(container));
        let look = async |at: &str| {
            let call = client.head(path.as_str()).query("path", at);
            call.send().await.ok().as_ref().and_then(description)
        };
        let mut destination = Destination {
            path: to.to_owned(),
            exists: false,
            is_directory: false,
        };
        let mut found = look(to).await;
        if let Some((mode, link)) = &found
            && mode & SYMLINK != 0
        {
            destination.path = beside(to, link);
            found = look(&destination.path).await;
        }
        if let Some((mode, _)) = found {
            if mode & DEVICE != 0 {
                return Err(Failure::new(format!(
                    "destination \"{container}:{to}\" must be a directory or a regular file: got a device"
                )));
            }
            destination.exists = true;
            destination.is_directory = mode & DIRECTORY != 0;
        }
        let meter = self.meter("Copying to container - ");
        let (directory, body, packing) = if from == "-" {
            if !destination.is_directory {
                return Err(Failure::new(format!(
                    "destination \"{container}:{to}\" must be a directory"
                )));
            }
            let source = transfer::Counted(std::io::stdin(), meter.count.clone());
            let body = transfer::streamed(Box::new(source));
            (destination.path.clone(), body, None)
        } else {
            let (source, name) = self.local_source(from)?;
            let is_directory = std::fs::symlink_metadata(&source)
                .map_err(|error| stat_failed(&source, &error))?
                .is_dir();
            let (directory, renamed) = place(is_directory, &destination)?;
            let label = renamed.unwrap_or(name);
            let root = File::open("/").map_err(|error| stat_failed("/", &error))?;
            let root = Root::new(OwnedFd::from(root));
            let pack = move |out| files::pack_as(&root, &source, &label, out);
            let (body, thread) = transfer::written(meter.count.clone(), pack)?;
            (directory, body, Some(thread))
        };
        let call = client
            .put(path.as_str())
            .query("path", directory.as_str())
            .query("noOverwriteDirNonDir", "true");
        let call = if self.archive {
            call.query("copyUIDGID", "true")
        } else {
            call
        };
        let sent = meter
            .beside(call.send_stream("application/x-tar", body))
            .await;
        // What our own side failed of says more than the request that broke off for it. That nobody reads the archive any
        // more is no failure of ours: the engine says why.
        if sent.is_err()
            && let Some(packing) = packing
            && let Ok(Err(error)) = packing.join()
            && !matches!(&error, FilesError::Output(source) if source.kind() == std::io::ErrorKind::BrokenPipe)
        {
            return Err(Failure::new(chain(&error)));
        }
        sent?.done().await?;
        meter.done(&format!("{container}:{}", destination.path));
        Ok(())
    }

    /// What is to be copied and under which name.
    fn local_source(&self, from: &str) -> Result<(String, String), Failure> {
        let path = absolute(from)?;
        let look = |path: &str| -> Result<(), Failure> {
            match std::fs::symlink_metadata(path) {
                Ok(_) => Ok(()),
                Err(error) => {
                    let failure = stat_failed(path, &error);
                    Err(Failure::new(format!("l{}", failure.message)))
                }
            }
        };
        look(&path)?;
        let name = match base(&path) {
            "/" => "./".to_owned(),
            base => base.to_owned(),
        };
        if !self.follow_link {
            return Ok((path, name));
        }
        let target = std::fs::canonicalize(Path::new(&path))
            .map_err(|error| stat_failed(&path, &error))?
            .to_string_lossy()
            .into_owned();
        Ok((keep_tail(target, &path), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_name_a_container_or_a_file() {
        for (text, container, path) in [
            ("web:/etc", Some("web"), "/etc"),
            ("web:", Some("web"), ""),
            ("./a:b", None, "./a:b"),
            ("/a:b", None, "/a:b"),
            ("-", None, "-"),
            ("file", None, "file"),
        ] {
            assert_eq!(operand(text), (container, path), "{text}");
        }
    }

    #[test]
    fn a_source_lands_where_docker_puts_it() {
        let to = |path: &str, exists, is_directory| Destination {
            path: path.to_owned(),
            exists,
            is_directory,
        };
        let put = |directory, destination| {
            let found = place(directory, &destination);
            found.map_err(|failure| failure.message)
        };
        let renamed = |parent: &str, name: &str| Ok((parent.to_owned(), Some(name.to_owned())));
        assert_eq!(put(true, to("/d", true, true)), Ok(("/d".to_owned(), None)));
        assert_eq!(
            put(true, to("/f", true, false)),
            Err("cannot copy directory".to_owned())
        );
        assert_eq!(put(false, to("/d/f", true, false)), renamed("/d", "f"));
        assert_eq!(put(true, to("/new", false, false)), renamed("/", "new"));
        assert_eq!(put(true, to("/d/new/", false, false)), renamed("/d", "new"));
        assert_eq!(
            put(false, to("/new/", false, false)),
            Err("no such directory".to_owned())
        );
        assert_eq!(split("/a/b/."), ("/a/b".to_owned(), ".".to_owned()));
        assert_eq!(beside("/a/link", "../x"), "/x");
        assert_eq!(keep_tail("/a".to_owned(), "b/."), "/a/.");
    }
}
