//! Bearer tokens: JSON web tokens (RFC 7519) with Docker's `access` claim (distribution's token specification), given by
//! this server to its own users, or by somebody whose public key it has.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::super::names::hex;
use super::key::PublicKey;

/// How long a token holds; clients ask for another in time.
pub(super) const LIFETIME: u64 = 300;
/// Seconds that clocks may differ.
const LEEWAY: u64 = 60;
/// Bytes a token may have.
const LONGEST: usize = 16 << 10;
const ISSUER: &str = "hoist registry";

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) actions: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    iat: u64,
    #[serde(default)]
    jti: String,
    #[serde(default)]
    access: Vec<Access>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Who a token was given to, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// Empty for somebody without a login.
    pub(crate) user: String,
    pub(crate) access: Vec<Access>,
}

/// Who gives tokens.
pub(super) enum Issuer {
    /// This server.
    Own(hmac::Key),
    /// Somebody else.
    Other { name: String, key: PublicKey },
}

impl Issuer {
    /// This server, with its key.
    pub(super) fn own(key: &[u8; 32]) -> Self {
        Self::Own(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn name(&self) -> &str {
        match self {
            Self::Own(_) => ISSUER,
            Self::Other { name, .. } => name,
        }
    }

    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Own(key) => algorithm == "HS256" && hmac::verify(key, signed, signature).is_ok(),
            Self::Other { key, .. } => key.verify(algorithm, signed, signature),
        }
    }

    /// Reads a token that was given for `service`; `None` for one that does not hold.
    pub(super) fn read(&self, token: &str, service: &str, now: SystemTime) -> Option<Bearer> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        let signature = BASE64.decode(signature).ok()?;
        if !self.verify(&header.alg, signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let now = seconds(now);
        let is_meant = match &claims.aud {
            Audience::One(one) => one == service,
            Audience::Many(many) => many.iter().any(|one| one == service),
        };
        let holds =
            claims.exp.saturating_add(LEEWAY) > now && claims.nbf <= now.saturating_add(LEEWAY);
        (claims.iss == self.name() && is_meant && holds).then_some(Bearer {
            user: claims.sub,
            access: claims.access,
        })
    }
}

/// A new token of this server's.
pub(super) fn issue(
    key: &hmac::Key,
    service: &str,
    bearer: Bearer,
    now: SystemTime,
) -> std::io::Result<String> {
    let mut id = [0; 12];
    getrandom::fill(&mut id).map_err(std::io::Error::other)?;
    let now = seconds(now);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: bearer.user,
        aud: Audience::One(service.to_owned()),
        exp: now + LIFETIME,
        nbf: now,
        iat: now,
        jti: hex(&id),
        access: bearer.access,
    };
    let header = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", BASE64.encode(serde_json::to_vec(&claims)?));
    let signature = BASE64.encode(hmac::sign(key, signed.as_bytes()));
    Ok(format!("{signed}.{signature}"))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tokens_hold_for_what_and_when_they_were_given() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let issuer = Issuer::own(&[7; 32]);
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let access = Access {
            kind: "repository".into(),
            name: "a".into(),
            actions: vec!["pull".into()],
        };
        let bearer = Bearer {
            user: "alice".into(),
            access: vec![access],
        };
        let token = issue(&key, "here", bearer.clone(), now).unwrap();
        assert_eq!(issuer.read(&token, "here", now), Some(bearer));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(
            issuer
                .read(&token, "here", later(LIFETIME + LEEWAY - 1))
                .is_some()
        );
        assert!(
            issuer
                .read(&token, "here", later(LIFETIME + LEEWAY))
                .is_none()
        );
        assert!(
            issuer
                .read(&token, "here", now - Duration::from_secs(LEEWAY + 1))
                .is_none()
        );
        assert!(issuer.read(&token, "there", now).is_none());
        assert!(Issuer::own(&[8; 32]).read(&token, "here", now).is_none());
        // No signature, another algorithm, a changed claim, and what is no token.
        let (signed, _) = token.rsplit_once('.').unwrap();
        let claims = signed.split_once('.').unwrap().1;
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        let changed = token.replacen(&claims[..4], "AAAA", 1);
        for bad in [
            format!("{signed}."),
            format!("{none}.{claims}."),
            changed,
            "a.b".into(),
            String::new(),
            "a.b.c".into(),
        ] {
            assert!(issuer.read(&bad, "here", now).is_none(), "{bad}");
        }
    }
}
