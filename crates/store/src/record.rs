//! What can be stored.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of object: one table, one JSON document per object.
///
/// A document must stay readable by later versions: add fields with `#[serde(default)]`, never change the
/// meaning of one.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The table's name; part of the on-disk format.
    const TABLE: &'static str;

    /// What identifies the object within its table: its full id or its name. Must not change over its life.
    fn key(&self) -> String;
}
