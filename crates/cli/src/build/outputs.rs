//! `--output`, `--push`, `--load`: what is asked of the engine, and where what comes of it goes here.

use std::fs::File;
use std::io::{self, IsTerminal as _, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use hoist_image::files::{FilesError, Root, UnpackOptions, unpack};
use hoist_model::chain;
use serde_json::{Map, Value, json};

use super::values::named;
use crate::Failure;

/// What is asked for, in the engine's words, and where it goes, by its place in the list.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) asked: Vec<Value>,
    places: Vec<Option<Place>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Output,
    Directory(PathBuf),
}

impl Outputs {
    /// Reads the flags.
    pub(super) fn read(flags: &[String], push: bool, load: bool) -> Result<Self, Failure> {
        let mut outputs = Self::default();
        for flag in flags {
            outputs.add(flag)?;
        }
        let is_image = |value: &&mut Value| value["Type"] == "image";
        if push || load {
            match outputs.asked.iter_mut().find(is_image) {
                Some(image) if push => image["Attributes"]["push"] = json!("true"),
                Some(_) => {}
                None => {
                    let attributes = if push {
                        json!({"push": "true"})
                    } else {
                        json!({})
                    };
                    outputs.put("image", attributes, None);
                }
            }
        }
        let plain = outputs.places.iter().flatten();
        if plain.filter(|place| **place == Place::Output).count() > 1 {
            return Err(Failure::new("only one output can go to standard output"));
        }
        Ok(outputs)
    }

    fn put(&mut self, kind: &str, attributes: Value, place: Option<Place>) {
        self.asked
            .push(json!({"Type": kind, "Attributes": attributes}));
        self.places.push(place);
    }

    fn add(&mut self, flag: &str) -> Result<(), Failure> {
        let wrong = |why: &str| Failure::new(format!("invalid output {flag:?}: {why}"));
        // As buildx: a name alone is a directory, and - a tar.
        let mut fields = match flag {
            "-" => vec![
                ("type".to_owned(), "tar".to_owned()),
                ("dest".to_owned(), "-".to_owned()),
            ],
            flag if !flag.contains('=') => {
                vec![
                    ("type".to_owned(), "local".to_owned()),
                    ("dest".to_owned(), flag.to_owned()),
                ]
            }
            flag => named(flag)?,
        };
        let mut take = |name: &str| {
            let at = fields.iter().position(|(field, _)| field == name)?;
            Some(fields.remove(at).1)
        };
        let kind = take("type").ok_or_else(|| wrong("it has no type"))?;
        let place = take("dest").filter(|text| !text.is_empty());
        let rest: Map<_, _> = fields
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let mut rest = Value::Object(rest);
        let file = |place: &str| match place {
            "-" => Place::Output,
            path => Place::File(path.into()),
        };
        let place = place.as_deref();
        match (kind.as_str(), place) {
            ("local", None) => return Err(wrong("dest is required for a directory")),
            ("local", Some(path)) => self.put("tar", rest, Some(Place::Directory(path.into()))),
            ("tar" | "oci", place) => {
                let place = file(place.unwrap_or("-"));
                if place == Place::Output && io::stdout().is_terminal() {
                    return Err(wrong(
                        "dest is required: an archive is nothing for a terminal",
                    ));
                }
                let kind = if kind == "tar" { "tar" } else { "archive" };
                self.put(kind, rest, Some(place));
            }
            ("docker", Some(path)) => self.put("archive", rest, Some(file(path))),
            ("docker" | "image", None) => self.put("image", rest, None),
            ("registry", None) => {
                rest["push"] = json!("true");
                self.put("image", rest, None);
            }
            ("image" | "registry", Some(_)) => return Err(wrong("an image has no dest")),
            (other, _) => return Err(wrong(&format!("there is no type {other:?}"))),
        }
        Ok(())
    }

    /// Opens what the pieces go into, before anything is built.
    pub(super) fn open(&self) -> Result<Sinks, Failure> {
        let sinks = self
            .places
            .iter()
            .map(|place| place.as_ref().map(Sink::open).transpose());
        Ok(Sinks(sinks.collect::<Result<_, _>>()?))
    }
}

/// Where pieces go.
pub(super) struct Sinks(Vec<Option<Sink>>);

enum Sink {
    /// A file that has its name when it is whole.
    File(tempfile::NamedTempFile, PathBuf),
    Output,
    /// A thread that unpacks.
    Directory(PipeWriter, JoinHandle<Result<(), FilesError>>, PathBuf),
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("writing {}: {error}", path.display()))
}

impl Sink {
    fn open(place: &Place) -> Result<Self, Failure> {
        Ok(match place {
            Place::Output => Self::Output,
            Place::File(path) => {
                let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
                let directory = directory.unwrap_or(Path::new("."));
                let file = tempfile::NamedTempFile::new_in(directory);
                Self::File(file.map_err(|error| failed(path, &error))?, path.clone())
            }
            Place::Directory(path) => {
                let open = || {
                    std::fs::create_dir_all(path)?;
                    Ok((File::open(path)?, io::pipe()?))
                };
                let (directory, (read, write)) =
                    open().map_err(|error: io::Error| failed(path, &error))?;
                let root = Root::new(OwnedFd::from(directory));
                let unowned = !rustix::process::geteuid().is_root();
                let unpacking = std::thread::spawn(move || {
                    let options = UnpackOptions {
                        unowned,
                        ..UnpackOptions::default()
                    };
                    unpack(&root, "/", read, options)
                });
                Self::Directory(write, unpacking, path.clone())
            }
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::File(file, path) => file.write_all(bytes).map_err(|error| failed(path, &error)),
            Self::Output => Ok(io::stdout().write_all(bytes)?),
            // One that unpacks no more says why in the end.
            Self::Directory(pipe, _, path) => match pipe.write_all(bytes) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                written => written.map_err(|error| failed(path, &error)),
            },
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Output => Ok(io::stdout().flush()?),
            Self::File(file, path) => {
                let kept = file.persist(&path);
                kept.map_err(|error| failed(&path, &error.error))?;
                Ok(())
            }
            Self::Directory(pipe, unpacking, path) => {
                drop(pipe);
                let unpacked = unpacking.join();
                let fell = |_| Failure::new("the thread that unpacks fell");
                unpacked.map_err(fell)?.map_err(|error| {
                    Failure::new(format!("writing {}: {}", path.display(), chain(&error)))
                })
            }
        }
    }
}

impl Sinks {
    /// Takes a piece of an output.
    pub(super) fn write(&mut self, output: usize, bytes: &[u8]) -> Result<(), Failure> {
        match self.0.get_mut(output).and_then(Option::as_mut) {
            Some(sink) => sink.write(bytes),
            None => Err(Failure::new(
                "the engine sends an output that nobody asked for",
            )),
        }
    }

    /// All came.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.0.into_iter().flatten().try_for_each(Sink::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str], push: bool) -> Result<Outputs, Failure> {
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Outputs::read(&flags, push, false)
    }

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let outputs = read(
            &["out", "type=oci,dest=a.tar", "type=registry,name=x/y"],
            false,
        )
        .unwrap();
        let directory = Place::Directory("out".into());
        let file = Place::File("a.tar".into());
        assert_eq!(outputs.places, [Some(directory), Some(file), None]);
        assert_eq!(outputs.asked[0]["Type"], "tar");
        assert_eq!(outputs.asked[1]["Type"], "archive");
        let image = json!({"Type": "image", "Attributes": {"name": "x/y", "push": "true"}});
        assert_eq!(outputs.asked[2], image);
        let pushed = read(&["type=image,name=x"], true).unwrap();
        assert_eq!(pushed.asked[0]["Attributes"]["push"], "true");
        assert_eq!(read(&[], true).unwrap().asked.len(), 1);
        assert!(read(&[], false).unwrap().asked.is_empty());
        for (flag, why) in [
            ("type=local", "dest is required"),
            ("type=x", "no type \"x\""),
            ("dest=x", "it has no type"),
            ("type=image,dest=x", "has no dest"),
        ] {
            let message = read(&[flag], false).unwrap_err().message;
            assert!(message.contains(why), "{message}");
        }
        assert!(read(&["-", "type=oci,dest=-"], false).is_err());
    }

    #[test]
    fn what_does_not_come_whole_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        let outputs = read(&[&format!("type=tar,dest={}", path.display())], false).unwrap();
        let mut sinks = outputs.open().unwrap();
        sinks.write(0, b"half").unwrap();
        assert!(sinks.write(1, b"x").is_err());
        drop(sinks);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut sinks = outputs.open().unwrap();
        sinks.write(0, b"whole").unwrap();
        sinks.finish().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"whole");
    }
}
