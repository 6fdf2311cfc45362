//! `config.json` of the client: logins, helpers, the chosen context.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::failure::Failure;

/// The client's configuration, read when it is needed.
#[derive(Debug)]
pub(crate) struct Config {
    file: PathBuf,
    content: Value,
}

impl Config {
    /// Where configuration is: the flag, `DOCKER_CONFIG`, or `~/.docker`.
    pub(crate) fn directory(flag: Option<&str>) -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        match flag {
            Some(flag) => flag.into(),
            None => match variable("DOCKER_CONFIG") {
                Some(directory) => directory.into(),
                None => {
                    Path::new(&variable("HOME").unwrap_or_else(|| "/root".into())).join(".docker")
                }
            },
        }
    }

    /// Reads `config.json`; an absent one is empty.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        let file = directory.join("config.json");
        let content = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Failure::new(format!("cannot read {}: {e}", file.display())))?,
            // Under sudo -u and the like, HOME may be somebody else's.
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied]
                    .contains(&error.kind()) =>
            {
                json!({})
            }
            Err(error) => {
                return Err(Failure::new(format!(
                    "cannot read {}: {error}",
                    file.display()
                )));
            }
        };
        Ok(Self { file, content })
    }

    /// A text field.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.content.get(field)?.as_str().filter(|t| !t.is_empty())
    }

    /// The credential helper for a registry, if one is configured.
    pub(crate) fn helper(&self, registry: &str) -> Option<&str> {
        self.content
            .get("credHelpers")
            .and_then(|helpers| helpers.get(registry)?.as_str())
            .or_else(|| self.text("credsStore"))
    }

    /// What is stored for a registry: user name, password, identity token.
    pub(crate) fn stored(&self, registry: &str) -> Option<Value> {
        let auths = self.content.get("auths")?.as_object()?;
        let entry = auths.get(registry).or_else(|| {
            // Older clients stored a URL.
            let same = |key: &str| {
                let key = key
                    .trim_start_matches("https://")
                    .trim_start_matches("http://");
                key.split('/').next() == Some(registry)
            };
            auths
                .iter()
                .find(|(key, _)| same(key))
                .map(|(_, entry)| entry)
        })?;
        let mut login = json!({"serveraddress": registry});
        if let Some(token) = entry.get("identitytoken").and_then(Value::as_str) {
            login["identitytoken"] = token.into();
        }
        if let Some(packed) = entry.get("auth").and_then(Value::as_str) {
            let bytes = STANDARD.decode(packed).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (user, password) = text.trim_end_matches('\0').split_once(':')?;
            login["username"] = user.into();
            login["password"] = password.into();
        }
        login
            .as_object()
            .is_some_and(|l| l.len() > 1)
            .then_some(login)
    }

    /// The registries that something is stored for, or that have a helper of their own.
    pub(crate) fn registries(&self) -> Vec<String> {
        let names = |field: &str| {
            let object = self.content.get(field).and_then(Value::as_object);
            object.map(|object| object.keys().cloned().collect::<Vec<_>>())
        };
        let mut all = names("auths").unwrap_or_default();
        all.extend(names("credHelpers").unwrap_or_default());
        all.sort();
        all.dedup();
        all
    }

    /// Remembers a login in the file.
    pub(crate) fn store(&mut self, registry: &str, login: &Value) -> Result<(), Failure> {
        let text = |field: &str| login.get(field).and_then(Value::as_str).unwrap_or("");
        let token = text("identitytoken");
        let password = if token.is_empty() {
            text("password")
        } else {
            ""
        };
        let packed = STANDARD.encode(format!("{}:{password}", text("username")));
        let mut entry = json!({"auth": packed});
        if !token.is_empty() {
            entry["identitytoken"] = token.into();
        }
        self.content["auths"][registry] = entry;
        self.save()
    }

    /// Forgets a login; says whether there was one.
    pub(crate) fn forget(&mut self, registry: &str) -> Result<bool, Failure> {
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        if auths
            .and_then(|auths| auths.shift_remove(registry))
            .is_none()
        {
            return Ok(false);
        }
        self.save().map(|()| true)
    }

    /// Remembers which context is in use.
    pub(crate) fn choose_context(&mut self, name: Option<&str>) -> Result<(), Failure> {
        match (name, self.content.as_object_mut()) {
            (Some(name), _) => self.content["currentContext"] = name.into(),
            (None, Some(content)) => drop(content.shift_remove("currentContext")),
            (None, None) => {}
        }
        self.save()
    }

    /// The filters that pruning has besides those asked for.
    pub(crate) fn prune_filters(&self) -> impl Iterator<Item = &str> {
        let filters = self.content.get("pruneFilters").and_then(Value::as_array);
        filters.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Writes the file anew beside the old one, readable by its owner only.
    fn save(&self) -> Result<(), Failure> {
        use std::os::unix::fs::OpenOptionsExt;
        let write = || -> io::Result<()> {
            if let Some(directory) = self.file.parent() {
                std::fs::create_dir_all(directory)?;
            }
            // A symbolic link is followed: dotfiles are often linked from elsewhere.
            let target = std::fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone());
            let next = target.with_extension(format!("json.{}", std::process::id()));
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&next)?;
            io::Write::write_all(&mut file, format!("{:#}\n", self.content).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&next, &target)
        };
        write().map_err(|e| Failure::new(format!("cannot write {}: {e}", self.file.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_stored_found_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("config.json"),
            "{\"psFormat\": \"x\"}",
        )
        .unwrap();
        let mut config = Config::load(directory.path()).unwrap();
        let login = json!({"username": "me", "password": "a:b"});
        config.store("host:5000", &login).unwrap();
        let again = Config::load(directory.path()).unwrap();
        let found = again.stored("host:5000").unwrap();
        assert_eq!(
            (found["username"].as_str(), found["password"].as_str()),
            (Some("me"), Some("a:b"))
        );
        assert_eq!(again.text("psFormat"), Some("x"));
        assert!(again.stored("other").is_none());
        assert!(config.forget("host:5000").unwrap() && !config.forget("host:5000").unwrap());
    }

    #[test]
    fn a_broken_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), "{").unwrap();
        let failure = Config::load(directory.path()).unwrap_err();
        assert!(failure.message.contains("config.json"), "{failure:?}");
    }
}
