//! What ADD fetches instead of copying it: files of the web and git repositories (docker/dockerfile 1.1x, "ADD"; BuildKit's `dfgitutil`
//! for the forms of a repository's address).

use std::fmt;

/// An address that something is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// One file.
    Web(WebAddress),
    /// A commit's files.
    Git(GitAddress),
}

/// A file of the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress {
    /// `http://…` or `https://…`.
    pub url: String,
    /// `sha256:…` that it has to have.
    pub checksum: Option<String>,
    /// What it is called.
    pub name: String,
}

/// A repository, and which of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitAddress {
    /// Where it is: an address without what follows `#` and `?`.
    pub remote: String,
    /// A branch, a tag, a whole name of a reference or a commit; what HEAD is if none.
    pub reference: Option<String>,
    /// A directory in it.
    pub directory: Option<String>,
    /// The beginning of the commit that it has to be.
    pub checksum: Option<String>,
    /// Whether `.git` comes too.
    pub keep_git_directory: bool,
    /// Whether submodules are left out.
    pub without_submodules: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(web) => {
                write!(f, "{}", web.url)?;
                web.checksum
                    .iter()
                    .try_for_each(|checksum| write!(f, " {checksum}"))
            }
            Self::Git(git) => {
                write!(f, "git {}", git.remote)?;
                let facts = [
                    ("reference", &git.reference),
                    ("directory", &git.directory),
                    ("checksum", &git.checksum),
                ];
                for (name, value) in facts {
                    if let Some(value) = value {
                        write!(f, " {name} {value:?}")?;
                    }
                }
                for (is, word) in [
                    (git.keep_git_directory, " with .git"),
                    (git.without_submodules, " without submodules"),
                ] {
                    if is {
                        f.write_str(word)?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Address {
    /// What a source of ADD names, if it is no path.
    ///
    /// # Errors
    /// What is wrong with an address of a repository.
    pub fn parse(source: &str) -> Result<Option<Self>, String> {
        if let Some(git) = GitAddress::parse(source)? {
            return Ok(Some(Self::Git(git)));
        }
        if !is_web(source) {
            return Ok(None);
        }
        Ok(Some(Self::Web(WebAddress {
            url: source.to_owned(),
            checksum: None,
            name: name_of(source),
        })))
    }
}

impl Address {
    /// As an image's history tells of it.
    #[must_use]
    pub fn written(&self) -> String {
        match self {
            Self::Web(web) => web.url.clone(),
            Self::Git(git) => {
                let reference = git.reference.as_deref().unwrap_or_default();
                match &git.directory {
                    Some(directory) => format!("{}#{reference}:{directory}", git.remote),
                    None if reference.is_empty() => git.remote.clone(),
                    None => format!("{}#{reference}", git.remote),
                }
            }
        }
    }
}

fn is_web(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// What a file of an address is called where its server does not say.
fn name_of(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("" | "." | "..") | None => "__unnamed__".to_owned(),
        Some(name) => name.to_owned(),
    }
}

impl GitAddress {
    /// `https://host/x.git#reference:directory`, `git://…`, `ssh://…`, `git@host:x.git`; with `?` and facts too.
    ///
    /// # Errors
    /// Facts that there are not or that contradict each other.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_repository = match remote.split_once("://") {
            Some(("http" | "https", path)) => path.ends_with(".git") && path.contains('/'),
            Some(("git" | "ssh", _)) => true,
            Some(_) => false,
            None => is_scp(remote),
        };
        if !is_repository {
            return Ok(None);
        }
        let nonempty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut git = Self {
            remote: remote.to_owned(),
            reference: nonempty(reference),
            directory: nonempty(directory),
            ..Self::default()
        };
        git.query(query)?;
        Ok(Some(git))
    }

    fn query(&mut self, query: &str) -> Result<(), String> {
        let mut seen = Vec::new();
        let (mut tag, mut branch) = (None, None);
        for fact in query.split('&').filter(|fact| !fact.is_empty()) {
            let (name, value) = fact.split_once('=').unwrap_or((fact, ""));
            if seen.contains(&name) {
                return Err(format!("query {name:?} has multiple values"));
            }
            seen.push(name);
            if value.is_empty() && !matches!(name, "submodules" | "keep-git-dir") {
                return Err(format!("query {name:?} has no value"));
            }
            let truth = || match value {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(format!("invalid {name} value: {value:?}")),
            };
            match name {
                "ref" => set(&mut self.reference, "ref", value.to_owned())?,
                "tag" => tag = Some(named("refs/tags/", value)),
                "branch" => branch = Some(named("refs/heads/", value)),
                "subdir" => set(&mut self.directory, "subdir", value.to_owned())?,
                "checksum" | "commit" => self.checksum = Some(value.to_owned()),
                "keep-git-dir" => self.keep_git_directory = truth()?,
                "submodules" => self.without_submodules = !truth()?,
                _ => return Err(format!("unexpected query {name:?}")),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err("branch conflicts with tag".to_owned());
        }
        match tag.or(branch) {
            Some(reference) => set(&mut self.reference, "ref", reference),
            None => Ok(()),
        }
    }
}

fn named(prefix: &str, value: &str) -> String {
    if value.starts_with(prefix) {
        value.to_owned()
    } else {
        format!("{prefix}{value}")
    }
}

fn set(place: &mut Option<String>, name: &str, value: String) -> Result<(), String> {
    match place {
        Some(known) if *known != value => Err(format!("{name} conflicts: {known:?} vs {value:?}")),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    text.split_once('@').is_some_and(|(user, rest)| {
        rest.split_once(':')
            .is_some_and(|(host, _)| plain(user, "-_") && plain(host, "-."))
    })
}

#[cfg(test)]
mod tests {
    use super::Address;

    fn shown(source: &str) -> String {
        match Address::parse(source) {
            Err(error) => format!("wrong: {error}"),
            Ok(None) => "a path".to_owned(),
            Ok(Some(Address::Web(web))) => format!("{} as {}", web.url, web.name),
            Ok(Some(address)) => address.to_string(),
        }
    }

    #[test]
    fn addresses_are_told_from_paths() {
        for (source, said) in [
            ("file.git", "a path"),
            ("./git@host:x", "a path"),
            ("github.com/a/b.git", "a path"),
            ("ftp://host/x", "a path"),
            (
                "https://host/a/b.tar.gz?x=y#z",
                "https://host/a/b.tar.gz?x=y#z as b.tar.gz",
            ),
            ("http://host", "http://host as __unnamed__"),
            ("http://host/a/", "http://host/a/ as a"),
            ("https://host/a.git", "git https://host/a.git"),
            (
                "https://host/a.git#v1:sub",
                "git https://host/a.git reference \"v1\" directory \"sub\"",
            ),
            (
                "https://host/a.git#:sub",
                "git https://host/a.git directory \"sub\"",
            ),
            ("git@host:a/b#main", "git git@host:a/b reference \"main\""),
            ("ssh://git@host/a", "git ssh://git@host/a"),
            (
                "https://host/a.git?tag=v1&subdir=x&keep-git-dir&submodules=false&commit=abc",
                "git https://host/a.git reference \"refs/tags/v1\" directory \"x\" checksum \"abc\" with .git without submodules",
            ),
            (
                "https://host/a.git?branch=b#c",
                "wrong: ref conflicts: \"c\" vs \"refs/heads/b\"",
            ),
            (
                "https://host/a.git?branch=b&tag=c",
                "wrong: branch conflicts with tag",
            ),
            (
                "https://host/a.git?ref=",
                "wrong: query \"ref\" has no value",
            ),
            (
                "https://host/a.git?ref=a&ref=b",
                "wrong: query \"ref\" has multiple values",
            ),
            (
                "https://host/a.git?what=a",
                "wrong: unexpected query \"what\"",
            ),
        ] {
            assert_eq!(shown(source), said, "{source}");
        }
    }
}
