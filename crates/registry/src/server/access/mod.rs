//! Who asks, and whether they may: basic authentication and bearer tokens, with rights per repository.
//!
//! ```text
//! no users                     everybody may do everything
//! users                        Basic on each request; `rights` says who may what
//! users and tokens             Basic at /token, which gives a token for what `rights` allows of what was asked; Basic still works
//! somebody else's tokens       what the token says, if it is signed with their key
//! ```

mod key;
mod rights;
mod token;
mod users;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::Semaphore;

pub(crate) use self::rights::Right;
use self::rights::Rights;
pub(crate) use self::token::{Access, Bearer};
use self::token::{Issuer, LIFETIME};
use self::users::Users;
use super::failure::{Code, Failure};
use super::names::RepositoryName;
use super::storage::StorageError;

/// Passwords that are checked at a time: each takes a processor for a while.
const CHECKED_AT_ONCE: usize = 2;

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub enum AccessSettings {
    /// Everybody everything.
    #[default]
    Open,
    /// Users with passwords.
    Users {
        /// Their names and passwords, as `htpasswd -B` writes them.
        users: PathBuf,
        /// What they may do; without it users may do everything, and others nothing.
        rights: Option<PathBuf>,
        /// Whether clients are told to ask for tokens.
        tokens: bool,
    },
    /// Tokens that somebody else gives.
    Tokens {
        /// Where clients get them.
        realm: String,
        /// What this registry is called there.
        service: String,
        /// Who gives them.
        issuer: String,
        /// The public key of who gives them, a PEM file.
        key: PathBuf,
    },
}

/// Why access is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file could not be read.
    #[error("reading {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file says something that is not understood.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What, and in which line.
        what: String,
    },
    /// The key of this server's own tokens could not be kept.
    #[error(transparent)]
    Key(#[from] StorageError),
}

impl AccessError {
    /// The class of this failure: wrong configuration.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        hoist_model::ErrorClass::InvalidArgument
    }
}

/// What the files say, together.
struct Files {
    users: Users,
    rights: Rights,
}

pub(crate) struct Control {
    settings: AccessSettings,
    /// Exchanged as a whole when the files are read again.
    files: RwLock<Option<Arc<Files>>>,
    issuer: Option<Issuer>,
    checking: Semaphore,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What this registry is called in its own tokens.
const SERVICE: &str = "hoist-registry";

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// Anybody, where there are no users.
    Open,
    /// Somebody without a login.
    Anonymous,
    /// A user who showed a password.
    User(String),
    /// Who has a token.
    Bearer(Bearer),
}

impl Who {
    /// The user's name, for logs.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Open | Self::Anonymous => "",
            Self::User(name) => name,
            Self::Bearer(bearer) => &bearer.user,
        }
    }
}

impl Control {
    /// Reads what the settings name; `own_key` signs this server's tokens. Blocking.
    pub(crate) fn open(
        settings: AccessSettings,
        own_key: impl FnOnce() -> Result<[u8; 32], StorageError>,
    ) -> Result<Self, AccessError> {
        let issuer = match &settings {
            AccessSettings::Users { tokens: true, .. } => Some(Issuer::own(&own_key()?)),
            AccessSettings::Tokens { issuer, key, .. } => {
                let text = read(key)?;
                let public = key::PublicKey::parse(&text).map_err(|what| AccessError::Invalid {
                    path: key.clone(),
                    what,
                })?;
                Some(Issuer::Other {
                    name: issuer.clone(),
                    key: public,
                })
            }
            _ => None,
        };
        let files = read_files(&settings)?;
        Ok(Self {
            settings,
            files: RwLock::new(files),
            issuer,
            checking: Semaphore::new(CHECKED_AT_ONCE),
        })
    }

    /// Reads the files again; what cannot be read leaves all as it was. Blocking.
    pub(crate) fn reload(&self) -> Result<(), AccessError> {
        let files = read_files(&self.settings)?;
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
        Ok(())
    }

    fn files(&self) -> Option<Arc<Files>> {
        self.files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Who asks; credentials that are wrong are refused, whatever they are needed for.
    pub(crate) async fn who(&self, headers: &HeaderMap, here: &Here) -> Result<Who, Failure> {
        if matches!(self.settings, AccessSettings::Open) {
            return Ok(Who::Open);
        }
        let Some(text) = headers.get(header::AUTHORIZATION) else {
            return Ok(Who::Anonymous);
        };
        let text = text.to_str().unwrap_or("");
        let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let (Some(issuer), service) = (&self.issuer, self.service()) else {
                return Err(self.challenge("tokens are not taken here", here, None));
            };
            let bearer = issuer.read(value.trim(), service, SystemTime::now());
            return bearer
                .map(Who::Bearer)
                .ok_or_else(|| self.challenge("the token does not hold", here, None));
        }
        let wrong = || self.challenge("the name or the password is wrong", here, None);
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(self.challenge("this way to authenticate is not known here", here, None));
        }
        let decoded = STANDARD
            .decode(value.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(wrong)?;
        if decoded == ":" {
            // What containers/image (skopeo, podman) sends where it has no login.
            return Ok(Who::Anonymous);
        }
        let (name, password) = decoded.split_once(':').ok_or_else(wrong)?;
        match self.check(name, password).await {
            true => Ok(Who::User(name.to_owned())),
            false => Err(wrong()),
        }
    }

    /// Whether this is a user's password.
    pub(crate) async fn check(&self, name: &str, password: &str) -> bool {
        let Some(files) = self.files() else {
            return false;
        };
        if files.users.remembers(name, password) {
            return true;
        }
        let Ok(_permit) = self.checking.acquire().await else {
            return false;
        };
        let (name, password) = (name.to_owned(), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || files.users.verify(&name, &password));
        checked.await.unwrap_or(false)
    }

    /// Whether somebody has a right in a repository.
    pub(crate) fn allows(&self, who: &Who, right: Right, repository: &RepositoryName) -> bool {
        match who {
            Who::Open => true,
            Who::Bearer(bearer) => bearer.access.iter().any(|access| {
                let gives = |action: &String| action == right.name() || action == "*";
                access.kind == "repository"
                    && access.name == repository.as_str()
                    && access.actions.iter().any(gives)
            }),
            Who::Anonymous => self.allows_user(None, right, repository),
            Who::User(name) => self.allows_user(Some(name), right, repository),
        }
    }

    fn allows_user(&self, user: Option<&str>, right: Right, repository: &RepositoryName) -> bool {
        self.files()
            .is_some_and(|files| files.rights.allow(user, right, repository))
    }

    /// Whether a list of repositories shows one.
    pub(crate) fn shows(&self, who: &Who, repository: &RepositoryName) -> bool {
        match who {
            // A token for the catalog names no repositories: what its user may pull.
            Who::Bearer(bearer) if self.files().is_some() => {
                let user = Some(bearer.user.as_str()).filter(|user| !user.is_empty());
                self.allows_user(user, Right::Pull, repository)
            }
            Who::Bearer(bearer) => bearer
                .access
                .iter()
                .any(|access| access.kind == "registry" && access.name == "catalog"),
            who => self.allows(who, Right::Pull, repository),
        }
    }

    /// Refuses who lacks a right: who has no login is told how to get one, others that it does not help.
    pub(crate) fn demand(
        &self,
        who: &Who,
        right: Right,
        repository: &RepositoryName,
        here: &Here,
    ) -> Result<(), Failure> {
        if self.allows(who, right, repository) {
            return Ok(());
        }
        let text = format!("no right to {} in {repository}", right.name());
        match who {
            Who::User(_) => Err(Failure::new(Code::Denied, text)),
            // One token is for some things; the client may get another.
            _ => {
                let actions = match right {
                    Right::Push => "pull,push",
                    other => other.name(),
                };
                let scope = format!("repository:{repository}:{actions}");
                Err(self.challenge(&text, here, Some(&scope)))
            }
        }
    }

    /// Refuses who has no login.
    pub(crate) fn demand_login(
        &self,
        who: &Who,
        here: &Here,
        scope: Option<&str>,
    ) -> Result<(), Failure> {
        match who {
            Who::Anonymous => Err(self.challenge("authentication required", here, scope)),
            _ => Ok(()),
        }
    }

    fn service(&self) -> &str {
        match &self.settings {
            AccessSettings::Tokens { service, .. } => service,
            _ => SERVICE,
        }
    }

    fn challenge(&self, text: &str, here: &Here, scope: Option<&str>) -> Failure {
        let realm = match &self.settings {
            AccessSettings::Tokens { realm, .. } => Some(realm.clone()),
            AccessSettings::Users { tokens: true, .. } => Some(format!("{}/token", here.0)),
            _ => None,
        };
        let challenge = match (realm, scope) {
            (Some(realm), Some(scope)) => {
                format!(
                    "Bearer realm=\"{realm}\",service=\"{}\",scope=\"{scope}\"",
                    self.service()
                )
            }
            (Some(realm), None) => {
                format!("Bearer realm=\"{realm}\",service=\"{}\"", self.service())
            }
            (None, _) => "Basic realm=\"hoist registry\"".to_owned(),
        };
        let value = HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Basic"));
        Failure::new(Code::Unauthorized, text).header(header::WWW_AUTHENTICATE, value)
    }

    /// A token for what a user may of what is asked; `None` where this server gives none. The seconds it holds, too.
    pub(crate) fn grant(
        &self,
        user: Option<&str>,
        asked: &[Access],
    ) -> Option<std::io::Result<(String, u64)>> {
        let Some(Issuer::Own(key)) = &self.issuer else {
            return None;
        };
        let granted = asked
            .iter()
            .filter_map(|access| self.granted(user, access))
            .collect();
        let bearer = Bearer {
            user: user.unwrap_or("").to_owned(),
            access: granted,
        };
        let token = token::issue(key, SERVICE, bearer, SystemTime::now());
        Some(token.map(|token| (token, LIFETIME)))
    }

    fn granted(&self, user: Option<&str>, asked: &Access) -> Option<Access> {
        let mut granted = asked.clone();
        if asked.kind == "registry" && asked.name == "catalog" {
            return Some(granted);
        }
        let repository =
            RepositoryName::parse(&asked.name).filter(|_| asked.kind == "repository")?;
        let wants = |right: Right| {
            asked
                .actions
                .iter()
                .any(|action| action == right.name() || action == "*")
        };
        let rights = Right::ALL.into_iter().filter(|right| wants(*right));
        let rights = rights.filter(|right| self.allows_user(user, *right, &repository));
        granted.actions = rights.map(|right| right.name().to_owned()).collect();
        (!granted.actions.is_empty()).then_some(granted)
    }
}

/// What this server is called by who asks: `https://name:port`.
#[derive(Debug)]
pub(crate) struct Here(pub(crate) String);

fn read(path: &Path) -> Result<String, AccessError> {
    fs::read_to_string(path).map_err(|source| AccessError::Io {
        path: path.to_owned(),
        source,
    })
}

fn read_files(settings: &AccessSettings) -> Result<Option<Arc<Files>>, AccessError> {
    let AccessSettings::Users { users, rights, .. } = settings else {
        return Ok(None);
    };
    let invalid = |path: &Path| {
        let path = path.to_owned();
        move |what| AccessError::Invalid { path, what }
    };
    Ok(Some(Arc::new(Files {
        users: Users::parse(&read(users)?).map_err(invalid(users))?,
        rights: match rights {
            Some(path) => Rights::parse(&read(path)?).map_err(invalid(path))?,
            None => Rights::of_users(),
        },
    })))
}

/// Reads scopes, `repository:<name>:<action>,<action>`; what is not understood gives nothing.
pub(crate) fn parse_scopes<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Access> {
    let scopes = texts.into_iter().flat_map(str::split_whitespace);
    let parsed = scopes.filter_map(|scope| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Some(Access {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions: actions.split(',').map(str::to_owned).collect(),
        })
    });
    parsed.take(100).collect()
}
