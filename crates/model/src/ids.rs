//! Typed identifiers: 64 hex digits inside, 12 in `Display`.
//!
//! One type per noun, so that a network's id cannot be handed to a container's function.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An identifier was not 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: expected 64 lowercase hexadecimal digits")]
pub struct InvalidId(pub String);

fn is_full_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn to_hex(bytes: &[u8; 32]) -> Arc<str> {
    use fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        })
        .into()
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes an identifier of 32 bytes, normally random ones.
            #[must_use]
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(to_hex(bytes))
            }

            /// All 64 hexadecimal digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, as people see them.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_full_hex(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId(text.to_owned()))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
    };
}

hex_id!(
    /// Identifies a container for its whole life.
    ContainerId
);
hex_id!(
    /// Identifies one process started in a running container by `exec`.
    ExecId
);
hex_id!(
    /// Identifies a network.
    NetworkId
);
hex_id!(
    /// Identifies one container's membership of one network.
    EndpointId
);
hex_id!(
    /// Identifies a network sandbox: the network namespace of one container.
    SandboxId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_shows_twelve_digits_and_keeps_sixty_four() {
        let id = ContainerId::from_bytes(&[0xab; 32]);
        assert_eq!(id.to_string(), "abababababab");
        assert_eq!(id.as_str().len(), 64);
        assert_eq!(
            serde_json::to_string(&id).unwrap(),
            format!("\"{}\"", "ab".repeat(32))
        );
    }

    #[test]
    fn what_is_not_full_lowercase_hex_is_refused_with_the_operand() {
        for bad in ["", "abc", &"AB".repeat(32), &"zz".repeat(32)] {
            let error = bad.parse::<ContainerId>().unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
