//! `login`, `logout`, and the credentials that go with a pull. Helpers run here, never in the engine.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::{Context, Failure, Run, Verb, output, verb};

/// The verbs.
pub(crate) const VERBS: &[Verb] = &[
    verb::<Login>("login", "Authenticate to a registry"),
    verb::<Logout>("logout", "Log out from a registry"),
];

/// Docker Hub's name in `config.json`.
const HUB: &str = "https://index.docker.io/v1/";

/// A registry's key in `config.json`.
fn key_of(registry: &str) -> String {
    let host = registry
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// What to send to the engine for a registry; an empty object if nothing is stored.
pub(crate) fn login_for(context: &Context, registry: &str) -> Result<Value, Failure> {
    let key = key_of(registry);
    let config = context.config()?;
    if let Some(helper) = config.helper(&key) {
        return Ok(match ask_helper(helper, "get", &key)? {
            Some(found) => {
                let text = |field: &str| found[field].as_str().unwrap_or_default();
                match text("Username") {
                    "<token>" => json!({"identitytoken": text("Secret"), "serveraddress": key}),
                    user => {
                        json!({"username": user, "password": text("Secret"), "serveraddress": key})
                    }
                }
            }
            None => json!({}),
        });
    }
    Ok(config.stored(&key).unwrap_or_else(|| json!({})))
}

/// The value of `X-Registry-Config`: all logins that there are, for who does not know yet which registries are asked.
pub(crate) fn all_logins(context: &Context) -> Result<String, Failure> {
    let mut logins = serde_json::Map::new();
    for registry in context.config()?.registries() {
        // A helper that is not there any more is told of when its registry is asked, if it ever is.
        if let Ok(login) = login_for(context, &registry)
            && login.as_object().is_some_and(|login| !login.is_empty())
        {
            logins.insert(key_of(&registry), login);
        }
    }
    Ok(header(&Value::Object(logins)))
}

/// The value of `X-Registry-Auth`.
pub(crate) fn header(login: &Value) -> String {
    URL_SAFE.encode(login.to_string())
}

/// Runs `docker-credential-NAME`; nothing if it has no such login.
fn ask_helper(name: &str, action: &str, input: &str) -> Result<Option<Value>, Failure> {
    let program = format!("docker-credential-{name}");
    let failed = |detail: String| Failure::new(format!("{program} {action}: {detail}"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why by its status.
        drop(stdin.write_all(input.as_bytes()));
    }
    let done = child
        .wait_with_output()
        .map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("{} {}", done.status, text.trim())));
    }
    if text.trim().is_empty() {
        return Ok(Some(Value::Null));
    }
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| failed(e.to_string()))
}

/// `login`.
#[derive(Args, Debug)]
struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    /// The registry; Docker Hub if there is none
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Reads a line, without showing it if it is secret.
fn prompt(question: &str, secret: bool) -> Result<String, Failure> {
    output::text(question)?;
    let input = std::io::stdin();
    let hidden = secret && input.is_terminal();
    let before = tcgetattr(&input).ok().filter(|_| hidden);
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The terminal may refuse; the prompt works all the same.
        let _ = tcsetattr(&input, OptionalActions::Now, &silent);
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    if let Some(before) = &before {
        let _ = tcsetattr(&input, OptionalActions::Now, before);
        output::line("")?;
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl Run for Login {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let key = key_of(self.server.as_deref().unwrap_or_default());
        if self.password_stdin && self.password.is_some() {
            return Err(Failure::new(
                "--password and --password-stdin are mutually exclusive",
            ));
        }
        if self.password_stdin && self.username.is_none() {
            return Err(Failure::new("--password-stdin wants --username"));
        }
        if self.password.is_some() {
            output::warn(
                "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            );
        }
        let username = match self.username {
            Some(username) => username,
            None => prompt("Username: ", false)?,
        };
        let password = match self.password {
            Some(password) => password,
            None if self.password_stdin => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => prompt("Password: ", true)?,
        };
        if username.is_empty() || password.is_empty() {
            return Err(Failure::new(format!(
                "a user name and a password are needed for {key}"
            )));
        }
        let mut login = json!({"username": username, "password": password, "serveraddress": key});
        let reply = context.client()?.post("/auth").json(&login).send().await?;
        // 204: the registry asks for no login.
        let answer = if reply.status() == 204 {
            Value::Null
        } else {
            reply.json().await?
        };
        if let Some(token) = answer["IdentityToken"].as_str().filter(|t| !t.is_empty()) {
            login["identitytoken"] = token.into();
        }
        let mut config = context.config_to_change()?;
        if let Some(helper) = config.helper(&key).map(str::to_owned) {
            let (user, secret) = match login["identitytoken"].as_str() {
                Some(token) => ("<token>", token),
                None => (username.as_str(), password.as_str()),
            };
            let entry = json!({"ServerURL": key, "Username": user, "Secret": secret});
            ask_helper(&helper, "store", &entry.to_string())?;
        } else {
            config.store(&key, &login)?;
        }
        output::line(answer["Status"].as_str().unwrap_or("Login Succeeded"))?;
        Ok(0)
    }
}

/// `logout`.
#[derive(Args, Debug)]
struct Logout {
    /// The registry; Docker Hub if there is none
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Run for Logout {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let key = key_of(self.server.as_deref().unwrap_or_default());
        let mut config = context.config_to_change()?;
        let helper = config.helper(&key).map(str::to_owned);
        match &helper {
            Some(helper) => drop(ask_helper(helper, "erase", &key)?),
            None => drop(config.forget(&key)?),
        }
        output::line(format!("Removing login credentials for {key}"))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_their_host() {
        for (given, key) in [
            ("", HUB),
            ("docker.io", HUB),
            ("https://index.docker.io/v1/", HUB),
            ("https://host:5000/v2/", "host:5000"),
            ("ghcr.io", "ghcr.io"),
        ] {
            assert_eq!(key_of(given), key, "{given}");
        }
    }
}
