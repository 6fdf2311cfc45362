//! Versions of the Engine API: which are served and how one is written.

use std::fmt;

/// A version of the Engine API, `1.<minor>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(u16);

impl ApiVersion {
    /// The newest that is served; what an unversioned path means.
    pub const NEWEST: Self = Self(55);
    /// The oldest that is served.
    pub const OLDEST: Self = Self(24);

    /// The version `1.<minor>`.
    #[must_use]
    pub const fn minor(minor: u16) -> Self {
        Self(minor)
    }

    /// Whether this version is `1.<minor>` or newer.
    #[must_use]
    pub const fn at_least(self, minor: u16) -> bool {
        self.0 >= minor
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}
