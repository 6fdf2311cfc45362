//! `context export` and `context import`: a context as a tar of `meta.json` and `tls/docker/*.pem`.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::Args;
use hoist_image::files::{self, Root, UnpackOptions};
use hoist_model::chain;
use serde_json::Value;

use super::store::{Store, check_name, read_file};
use crate::{Context, Failure, Run, output};

/// A directory that goes away with this.
struct Workshop(PathBuf);

impl Workshop {
    fn open(store: &Store) -> Result<Self, Failure> {
        store.workshop().map(Self)
    }

    fn root(&self) -> Result<Root, Failure> {
        let open = File::open(&self.0).map_err(|error| failed(&self.0, &error))?;
        Ok(Root::new(OwnedFd::from(open)))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What is left is in a directory of its own, and private.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// `context export`.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// Context
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// The file; CONTEXT.dockercontext if there is none, - for standard output
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

impl Run for Export {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let store = context.store();
        check_name(&self.name)?;
        let meta = store.read(&self.name)?;
        let workshop = Workshop::open(&store)?;
        let put = |path: PathBuf, content: &[u8]| {
            fs::write(&path, content).map_err(|error| failed(&path, &error))
        };
        put(workshop.0.join("meta.json"), meta.to_string().as_bytes())?;
        let pems = store.pems(&self.name);
        if !pems.is_empty() {
            let directory = workshop.0.join("tls/docker");
            fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
            for pem in &pems {
                let name = pem.file_name().unwrap_or_default();
                put(directory.join(name), &read_file(pem)?)?;
            }
        }
        let mut archive = Vec::new();
        files::export(&workshop.root()?, &mut archive)
            .map_err(|error| Failure::new(chain(&error)))?;
        let target = match self.file.as_deref() {
            Some("-") if io::stdout().is_terminal() => {
                return Err(Failure::new(
                    "cowardly refusing to export to a terminal, specify a file path",
                ));
            }
            Some("-") => return output::text(archive).map(|()| 0),
            Some(file) => file.to_owned(),
            None => format!("{}.dockercontext", self.name),
        };
        let write = || -> io::Result<()> {
            use std::os::unix::fs::OpenOptionsExt;
            // It may hold a private key.
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&target)?;
            file.write_all(&archive)
        };
        write().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(format!("open {target}: file exists")),
            _ => failed(Path::new(&target), &error),
        })?;
        output::warn(format!("Written file {target:?}"));
        Ok(0)
    }
}

/// `context import`.
#[derive(Args, Debug)]
pub(super) struct Import {
    /// The context's name here
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// A tar file, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: String,
}

impl Run for Import {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let (store, name) = (context.store(), self.name);
        if name == "default" || store.names().contains(&name) {
            return Err(Failure::new(format!("context {name:?} already exists")));
        }
        check_name(&name)?;
        let archive = if self.file == "-" {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(io::stdin(), 10 << 20), &mut bytes)?;
            bytes
        } else {
            read_file(Path::new(&self.file))?
        };
        if archive.starts_with(b"PK\x03\x04") {
            return Err(Failure::new(format!(
                "{}: zip archives are not read, export the context as tar",
                self.file
            )));
        }
        let workshop = Workshop::open(&store)?;
        let options = UnpackOptions {
            unowned: true,
            ..UnpackOptions::default()
        };
        files::unpack(&workshop.root()?, "/", archive.as_slice(), options)
            .map_err(|error| Failure::new(format!("{}: {}", self.file, chain(&error))))?;
        let meta = plain_file(&workshop.0.join("meta.json"))?;
        let mut meta: Value = serde_json::from_slice(&meta)
            .map_err(|error| Failure::new(format!("{}: meta.json: {error}", self.file)))?;
        if !meta.is_object() {
            return Err(Failure::new(format!(
                "{}: meta.json is no object",
                self.file
            )));
        }
        meta["Name"] = name.as_str().into();
        let mut pems = Vec::new();
        let certificates = workshop.0.join("tls/docker");
        for entry in fs::read_dir(&certificates).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            pems.push((file, plain_file(&entry.path())?));
        }
        let endpoint = super::Endpoint {
            host: meta["Endpoints"]["docker"]["Host"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ..super::Endpoint::default()
        };
        store.write(&name, None, &endpoint, Some(&pems))?;
        store.write_meta(&name, &meta)?;
        output::line(&name)?;
        output::warn(format!("Successfully imported context {name:?}"));
        Ok(0)
    }
}

/// A file of an archive: not a link to one of this machine's.
fn plain_file(path: &Path) -> Result<Vec<u8>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => read_file(path),
        Ok(_) => Err(Failure::new(format!("{}: not a file", path.display()))),
        Err(_) => Err(Failure::new("unexpected context file: no meta.json in it")),
    }
}
