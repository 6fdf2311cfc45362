//! Who may do what where, from a file.
//!
//! ```text
//! # who        rights            repositories
//! @anyone      pull              public/**
//! @users       pull              **
//! @users       pull,push,delete  {user}/**
//! ci           pull,push         team/*
//! ```
//!
//! `@anyone` has no login, `@users` have any. `*` stands for one component, `**` at the end for one or more, `{user}` for the user's
//! name. Lines only give; what no line gives, nobody has.

use super::super::names::RepositoryName;

/// What one may do in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Right {
    Pull,
    Push,
    Delete,
}

impl Right {
    pub(crate) const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Anyone,
    Users,
    User(String),
}

#[derive(Clone, Debug)]
struct Line {
    who: Who,
    rights: Vec<Right>,
    pattern: Vec<String>,
}

/// All lines.
#[derive(Clone, Debug)]
pub(crate) struct Rights(Vec<Line>);

impl Rights {
    /// What holds where there are users and no file: users may do everything, others nothing.
    pub(crate) fn of_users() -> Self {
        Self(vec![Line {
            who: Who::Users,
            rights: Right::ALL.to_vec(),
            pattern: vec!["**".to_owned()],
        }])
    }

    /// Reads a file; the error says the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line
                .split('#')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect();
            if words.is_empty() {
                continue;
            }
            let parsed =
                parse_line(&words).map_err(|what| format!("line {}: {what}", number + 1))?;
            lines.push(parsed);
        }
        Ok(Self(lines))
    }

    /// Whether a user, or somebody without a login, has a right in a repository.
    pub(crate) fn allow(
        &self,
        user: Option<&str>,
        right: Right,
        repository: &RepositoryName,
    ) -> bool {
        self.0.iter().any(|line| {
            let is_meant = match (&line.who, user) {
                (Who::Anyone, _) | (Who::Users, Some(_)) => true,
                (Who::User(name), Some(user)) => name == user,
                (Who::Users | Who::User(_), None) => false,
            };
            is_meant && line.rights.contains(&right) && matches(&line.pattern, user, repository)
        })
    }
}

fn parse_line(words: &[&str]) -> Result<Line, String> {
    let [who, rights, pattern] = words else {
        return Err("expected who, rights and repositories".to_owned());
    };
    let who = match *who {
        "@anyone" => Who::Anyone,
        "@users" => Who::Users,
        other if other.starts_with('@') => {
            return Err(format!(
                "unknown group {other:?}: there are @anyone and @users"
            ));
        }
        name => Who::User(name.to_owned()),
    };
    let mut given = Vec::new();
    for word in rights.split(',') {
        match Right::ALL.into_iter().find(|right| right.name() == word) {
            Some(right) => given.push(right),
            None if word == "all" => given.extend(Right::ALL),
            None => {
                return Err(format!(
                    "unknown right {word:?}: there are pull, push, delete and all"
                ));
            }
        }
    }
    let pattern: Vec<String> = pattern.split('/').map(str::to_owned).collect();
    for (at, part) in pattern.iter().enumerate() {
        let is_last = at + 1 == pattern.len();
        let is_known = match part.as_str() {
            "*" | "{user}" => true,
            "**" => is_last,
            name => RepositoryName::parse(name).is_some(),
        };
        if !is_known {
            return Err(format!(
                "{part:?} is no component of a repository's name, nor *, {{user}}, or ** at the end"
            ));
        }
    }
    Ok(Line {
        who,
        rights: given,
        pattern,
    })
}

fn matches(pattern: &[String], user: Option<&str>, repository: &RepositoryName) -> bool {
    let mut names = repository.as_str().split('/');
    for part in pattern {
        let Some(name) = names.next() else {
            return false;
        };
        match part.as_str() {
            "**" => return true,
            "*" => {}
            "{user}" if user == Some(name) => {}
            literal if literal == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_give_rights_and_nothing_else_does() {
        let rights = Rights::parse(
            "# who rights where\n@anyone pull public/**\n@users pull *\n@users all {user}/** # their own\nci pull,push team/*/app\n",
        )
        .unwrap();
        let allow = |user: Option<&str>, right, name: &str| {
            rights.allow(user, right, &RepositoryName::parse(name).unwrap())
        };
        for (user, right, name, wanted) in [
            (None, Right::Pull, "public/a/b", true),
            (None, Right::Pull, "public", false),
            (None, Right::Push, "public/a", false),
            (None, Right::Pull, "app", false),
            (Some("bob"), Right::Pull, "app", true),
            (Some("bob"), Right::Pull, "app/b", false),
            (Some("bob"), Right::Delete, "bob/a", true),
            (Some("bob"), Right::Push, "alice/a", false),
            (Some("ci"), Right::Push, "team/x/app", true),
            (Some("ci"), Right::Push, "team/x/y/app", false),
            (Some("ci"), Right::Delete, "team/x/app", false),
            (None, Right::Pull, "team/x/app", false),
        ] {
            assert_eq!(
                allow(user, right, name),
                wanted,
                "{user:?} {right:?} {name}"
            );
        }
    }

    #[test]
    fn what_is_no_line_is_named() {
        for (text, part) in [
            ("\na pull", "line 2: expected who"),
            ("a pull b c", "expected who"),
            ("@all pull **", "unknown group \"@all\""),
            ("a read **", "unknown right \"read\""),
            ("a pull **/b", "\"**\" is no component"),
            ("a pull Team", "\"Team\" is no component"),
            ("a pull a//b", "\"\" is no component"),
        ] {
            let error = Rights::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
