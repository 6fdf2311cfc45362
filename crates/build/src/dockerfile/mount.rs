//! `RUN --mount`.

use hoist_model::ErrorClass;
use thiserror::Error;

use super::error::nearest;
use super::words::WordError;

/// A mount as it was written: fields whose values may have variables, except for `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountText {
    fields: Vec<(String, Option<String>)>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Part of a stage, a context or an image; writes are thrown away.
    Bind,
    /// A directory that stays from build to build.
    Cache {
        /// How builds at the same time share it.
        sharing: Sharing,
    },
    /// Memory that is thrown away.
    Tmpfs {
        /// Bytes, 0 if not limited.
        size: i64,
    },
    /// A secret of whoever builds.
    Secret {
        /// The variable that has it, if it is to be one; empty for one named after the secret.
        variable: Option<String>,
        /// Whether the build fails without it.
        required: bool,
    },
    /// The ssh agent of whoever builds.
    Ssh {
        /// Whether the build fails without it.
        required: bool,
    },
}

/// `sharing=` of a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All use it at once.
    #[default]
    Shared,
    /// Another gets one of its own.
    Private,
    /// Another waits.
    Locked,
}

/// A mount, variables read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub kind: MountKind,
    /// The stage, context or image it is of; the build's context if none.
    pub from: Option<String>,
    /// The path in it.
    pub source: Option<String>,
    /// Where it is seen.
    pub target: Option<String>,
    /// `id=`.
    pub id: Option<String>,
    /// Whether writing is refused.
    pub read_only: bool,
    /// `mode=`, of caches, secrets and ssh.
    pub mode: Option<u32>,
    /// `uid=`.
    pub uid: Option<u32>,
    /// `gid=`.
    pub gid: Option<u32>,
}

/// Why a mount cannot be made.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum MountError {
    /// A quote that nothing closes, or something behind one.
    #[error("failed to parse csv mounts: {0:?}")]
    Fields(String),
    /// A key alone that needs a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A variable where stages must be known before.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    VariableStage,
    /// A variable that cannot be read.
    #[error(transparent)]
    Word(#[from] WordError),
    /// A kind that there is not.
    #[error("unsupported mount type {value:?}{}", suggested(.meant))]
    Kind {
        /// As written.
        value: String,
        /// The nearest that there is.
        meant: Option<&'static str>,
    },
    /// A `sharing=` that there is not.
    #[error("unsupported sharing value {value:?}{}", suggested(.meant))]
    Sharing {
        /// As written.
        value: String,
        /// The nearest that there is.
        meant: Option<&'static str>,
    },
    /// A key that there is not.
    #[error("unexpected key '{key}' in '{field}'{}", suggested(.meant))]
    Key {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// The nearest that there is.
        meant: Option<&'static str>,
    },
    /// A key of another kind of mount.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    NotOfKind {
        /// The key.
        key: String,
        /// The kind.
        kind: &'static str,
    },
    /// A number or truth value that is none.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// As written.
        value: String,
    },
    /// Things that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl MountError {
    /// Always the file's author's to mend.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

fn suggested(meant: &Option<&'static str>) -> String {
    meant.map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"))
}

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [&str; 3] = ["shared", "private", "locked"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountText {
    /// Reads the fields. What they say is read by [`MountText::resolve`], when variables have values; without variables it is tried here, so
    /// that what is wrong is found before anything is built.
    ///
    /// # Errors
    /// Fields that cannot be told apart, a variable in `from`, which decides what has to be built, and all of [`MountText::resolve`].
    pub fn parse(text: &str) -> Result<Self, MountError> {
        let mut fields = Vec::new();
        for field in comma_separated(text).ok_or_else(|| MountError::Fields(text.to_owned()))? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
                None => (field.to_ascii_lowercase(), None),
            };
            let value_text = value.as_deref().unwrap_or_default();
            if key == "from"
                && value_text
                    .find('$')
                    .is_some_and(|at| at + 1 < value_text.len())
            {
                return Err(MountError::VariableStage);
            }
            fields.push((key, value));
        }
        let mount = Self { fields };
        let has_variable = |(_, value): &(String, Option<String>)| {
            value.as_deref().is_some_and(|value| value.contains('$'))
        };
        if !mount.fields.iter().any(has_variable) {
            mount.resolve(&mut |value| Ok(value.to_owned()))?;
        }
        Ok(mount)
    }

    /// `from`, which never has variables.
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        self.fields
            .iter()
            .rev()
            .find(|(key, _)| key == "from")
            .and_then(|(_, value)| value.as_deref())
    }

    /// The mount; `expand` reads variables.
    ///
    /// # Errors
    /// Keys and values that there are not, and combinations that mean nothing.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, WordError>,
    ) -> Result<Mount, MountError> {
        let mut read = Fields::default();
        for (key, value) in &self.fields {
            match value {
                Some(value) => read.set(key, &expand(value)?)?,
                None => read.set_alone(key)?,
            }
        }
        read.mount()
    }
}

/// The fields of one mount as they are read; what they mean together depends on the kind, which may come last.
#[derive(Default)]
struct Fields {
    kind: Option<&'static str>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    read_only: Option<bool>,
    required: Option<bool>,
    sharing: Option<Sharing>,
    size: Option<i64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    variable: Option<String>,
}

impl Fields {
    fn set_alone(&mut self, key: &str) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => self.required = Some(true),
            _ => return Err(MountError::NoValue(key.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), MountError> {
        let invalid = || MountError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let truth = || truth(value).ok_or_else(invalid);
        let number = |radix| u32::from_str_radix(value, radix).map_err(|_| invalid());
        match key {
            "type" => {
                let lower = value.to_ascii_lowercase();
                let kind = KINDS.into_iter().find(|kind| *kind == lower);
                self.kind = Some(kind.ok_or_else(|| MountError::Kind {
                    value: value.to_owned(),
                    meant: nearest(value, KINDS),
                })?);
            }
            "from" => self.from = Some(value.to_owned()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "readonly" | "ro" => self.read_only = Some(truth()?),
            "readwrite" | "rw" => self.read_only = Some(!truth()?),
            "required" => self.required = Some(truth()?),
            "size" => self.size = Some(hoist_model::quantity::bytes(value).ok_or_else(invalid)?),
            "id" => self.id = Some(value.to_owned()),
            "sharing" => {
                self.sharing = Some(match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        return Err(MountError::Sharing {
                            value: value.to_owned(),
                            meant: nearest(value, SHARINGS),
                        });
                    }
                });
            }
            "mode" => self.mode = Some(number(8)?),
            "uid" => self.uid = Some(number(10)?),
            "gid" => self.gid = Some(number(10)?),
            "env" => self.variable = Some(value.to_owned()),
            _ => {
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field: format!("{key}={value}"),
                    meant: nearest(key, KEYS),
                });
            }
        }
        Ok(())
    }

    fn mount(self) -> Result<Mount, MountError> {
        let name = self.kind.unwrap_or("bind");
        let only = |key: &str, given: bool, kinds: &[&str]| {
            if given && !kinds.contains(&name) {
                return Err(MountError::NotOfKind {
                    key: key.to_owned(),
                    kind: name,
                });
            }
            Ok(())
        };
        let with_owner = ["secret", "ssh", "cache"];
        only("required", self.required.is_some(), &["secret", "ssh"])?;
        only("size", self.size.is_some(), &["tmpfs"])?;
        only("sharing", self.sharing.is_some(), &["cache"])?;
        only("env", self.variable.is_some(), &["secret"])?;
        only("mode", self.mode.is_some(), &with_owner)?;
        only("uid", self.uid.is_some(), &with_owner)?;
        only("gid", self.gid.is_some(), &with_owner)?;
        if name == "secret" {
            if self.from.is_some() {
                return Err(MountError::Contradiction(
                    "secret mount should not have a from",
                ));
            }
            if self.source.is_none() && self.target.is_none() && self.id.is_none() {
                return Err(MountError::Contradiction(
                    "invalid secret mount. one of source, target required",
                ));
            }
            if self.source.is_some() && self.id.is_some() {
                return Err(MountError::Contradiction("both source and id can't be set"));
            }
        }
        let required = self.required.unwrap_or(false);
        let kind = match name {
            "cache" => MountKind::Cache {
                sharing: self.sharing.unwrap_or_default(),
            },
            "tmpfs" => MountKind::Tmpfs {
                size: self.size.unwrap_or(0),
            },
            "secret" => MountKind::Secret {
                variable: self.variable,
                required,
            },
            "ssh" => MountKind::Ssh { required },
            _ => MountKind::Bind,
        };
        Ok(Mount {
            read_only: self.read_only.unwrap_or(!matches!(name, "cache" | "tmpfs")),
            kind,
            from: self.from,
            source: self.source,
            target: self.target,
            id: self.id,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        })
    }
}

/// Truth values as Go's `strconv.ParseBool` takes them.
fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// One line of comma-separated values (RFC 4180): a field in quotes may hold commas, a quote in it is doubled.
fn comma_separated(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return None;
                }
                (field.to_owned(), after)
            }
            Some(mut quoted) => {
                let mut field = String::new();
                loop {
                    let (part, after) = quoted.split_once('"')?;
                    field.push_str(part);
                    match after.strip_prefix('"') {
                        Some(more) => {
                            field.push('"');
                            quoted = more;
                        }
                        None => break (field, after),
                    }
                }
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mount, MountError, MountKind, MountText, Sharing};

    fn mount(text: &str) -> Result<Mount, MountError> {
        MountText::parse(text)?.resolve(&mut |value| Ok(value.replace("$X", "x")))
    }

    #[test]
    fn kinds_have_their_own_defaults() {
        let bind = mount("target=/a,from=stage").expect("a mount");
        assert_eq!(bind.kind, MountKind::Bind);
        assert!(bind.read_only);
        assert_eq!(bind.from.as_deref(), Some("stage"));
        let cache =
            mount("type=cache,dst=/root/$X,sharing=locked,mode=0755,uid=7").expect("a mount");
        assert_eq!(
            cache.kind,
            MountKind::Cache {
                sharing: Sharing::Locked
            }
        );
        assert!(!cache.read_only);
        assert_eq!(cache.target.as_deref(), Some("/root/x"));
        assert_eq!((cache.mode, cache.uid), (Some(0o755), Some(7)));
        let secret = mount(r#"type=secret,id=a,required,"target=/a,b",env=A"#).expect("a mount");
        assert_eq!(secret.target.as_deref(), Some("/a,b"));
        assert_eq!(
            secret.kind,
            MountKind::Secret {
                variable: Some("A".to_owned()),
                required: true
            }
        );
        assert_eq!(
            mount("type=tmpfs,target=/t,size=64m")
                .expect("a mount")
                .kind,
            MountKind::Tmpfs { size: 64 << 20 }
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            (
                "type=bnd",
                "unsupported mount type \"bnd\" (did you mean bind?)",
            ),
            (
                "type=cache,sharing=lock",
                "unsupported sharing value \"lock\" (did you mean locked?)",
            ),
            (
                "typ=cache",
                "unexpected key 'typ' in 'typ=cache' (did you mean type?)",
            ),
            (
                "from=$X",
                "'from' doesn't support variable expansion, define alias stage instead",
            ),
            (
                "type=bind,size=1",
                "unexpected key 'size' for mount type 'bind'",
            ),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("type=cache,mode=9", "invalid value for mode: 9"),
            (
                "type=secret",
                "invalid secret mount. one of source, target required",
            ),
            (
                "type=bind,\"a",
                "failed to parse csv mounts: \"type=bind,\\\"a\"",
            ),
        ] {
            assert_eq!(mount(text).expect_err(text).to_string(), said);
        }
    }
}
