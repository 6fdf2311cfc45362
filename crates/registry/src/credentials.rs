//! What proves who asks, for one registry host.

/// A login, as clients send it in `X-Registry-Auth` and `POST /auth`. Never shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name; empty with the tokens.
    pub username: String,
    /// Password.
    pub password: String,
    /// A refresh token that the registry's realm once gave instead of keeping the password.
    pub identity_token: Option<String>,
    /// A bearer token to be sent to the registry as it is.
    pub registry_token: Option<String>,
}

impl Credentials {
    /// A user name and password.
    #[must_use]
    pub fn basic(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            ..Self::default()
        }
    }

    /// Whether nothing is in it: what clients without a login send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.identity_token.is_none()
            && self.registry_token.is_none()
    }

    pub(crate) fn has_password(&self) -> bool {
        !self.username.is_empty()
    }

    /// `Basic …` of the user name and password (RFC 7617).
    pub(crate) fn basic_header(&self) -> String {
        use base64::Engine;
        let pair = format!("{}:{}", self.username, self.password);
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Basic {encoded}")
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
