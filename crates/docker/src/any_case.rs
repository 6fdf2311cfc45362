//! Reading bodies as Go's decoder does: a member's name counts whatever its case.
//!
//! Clients get away with it against Docker (docker-py sends `detachKeys`, scripts send `image`), so it is part of the API. An
//! exact name wins over one that differs in case. And `null` is nothing said, wherever it stands: `{"Labels": {"a": null}}` is a
//! label without a value.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde_json::{Error, Value};

/// A value whose objects give structs their members by any case.
#[derive(Clone, Copy)]
pub(crate) struct AnyCase<'a>(pub(crate) &'a Value);

/// The struct's own spelling of a member's name; `None` if the object has it in that spelling as well.
fn spelled<'a>(
    name: &'a str,
    fields: &'static [&'static str],
    object: &serde_json::Map<String, Value>,
) -> Option<&'a str> {
    if fields.contains(&name) {
        return Some(name);
    }
    match fields.iter().find(|field| field.eq_ignore_ascii_case(name)) {
        Some(field) if object.contains_key(*field) => None,
        Some(field) => Some(field),
        None => Some(name),
    }
}

/// The members of `null`.
const NOTHING: std::iter::Empty<(&str, AnyCase<'_>)> = std::iter::empty();

/// Methods that take `null` for a zero.
macro_rules! zero_for_null {
    ($($method:ident $visit:ident $zero:literal),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.0.is_null() {
                return visitor.$visit($zero);
            }
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for AnyCase<'de> {
    type Error = Error;

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit identifier ignored_any
    }

    zero_for_null! {
        deserialize_bool visit_bool false, deserialize_str visit_str "", deserialize_string visit_str "",
        deserialize_i8 visit_i8 0, deserialize_i16 visit_i16 0, deserialize_i32 visit_i32 0, deserialize_i64 visit_i64 0,
        deserialize_u8 visit_u8 0, deserialize_u16 visit_u16 0, deserialize_u32 visit_u32 0, deserialize_u64 visit_u64 0,
        deserialize_f32 visit_f32 0.0, deserialize_f64 visit_f64 0.0
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let elements = match self.0 {
            Value::Array(elements) => elements.as_slice(),
            Value::Null => &[],
            other => return other.deserialize_seq(visitor),
        };
        let mut reader = SeqDeserializer::new(elements.iter().map(AnyCase));
        let value = visitor.visit_seq(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let members = match self.0 {
            Value::Object(members) => members,
            Value::Null => return visitor.visit_map(MapDeserializer::new(NOTHING)),
            other => return other.deserialize_map(visitor),
        };
        let members = members
            .iter()
            .map(|(name, member)| (name.as_str(), AnyCase(member)));
        visitor.visit_map(MapDeserializer::new(members))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = match self.0 {
            Value::Object(members) => members,
            Value::Null => return visitor.visit_map(MapDeserializer::new(NOTHING)),
            // Its elements would count as members in their order.
            Value::Array(_) => {
                let found = Unexpected::Seq;
                return Err(Error::invalid_type(found, &"an object"));
            }
            other => return other.deserialize_struct(name, fields, visitor),
        };
        let members = members.iter().filter_map(|(name, member)| {
            spelled(name, fields, members).map(|name| (name, AnyCase(member)))
        });
        visitor.visit_map(MapDeserializer::new(members))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

impl<'de> IntoDeserializer<'de, Error> for AnyCase<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Outer {
        detach_keys: Option<String>,
        inner: Option<Vec<Inner>>,
        labels: Option<BTreeMap<String, String>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        count: i64,
    }

    fn read(text: &str) -> Result<Outer, Error> {
        Outer::deserialize(AnyCase(&serde_json::from_str(text).unwrap()))
    }

    #[test]
    fn names_of_members_count_in_any_case_and_keys_of_maps_as_written() {
        let text =
            r#"{"detachKeys":"ctrl-p","INNER":[{"count":1}],"labels":{"Inner":"x"},"other":null}"#;
        let read = read(text).unwrap();
        assert_eq!(read.detach_keys.unwrap(), "ctrl-p");
        assert_eq!(read.inner.unwrap(), [Inner { count: 1 }]);
        assert_eq!(read.labels.unwrap()["Inner"], "x");
    }

    #[test]
    fn null_is_nothing_said_and_a_list_is_no_object() {
        let text = r#"{"DetachKeys":null,"Inner":[{"Count":null}],"Labels":{"a":null}}"#;
        let told = read(text).unwrap();
        assert_eq!(told.detach_keys, None);
        assert_eq!(told.labels.unwrap()["a"], "");
        assert_eq!(told.inner.unwrap(), [Inner { count: 0 }]);
        for text in [r#"["a",[],{}]"#, r#"{"Inner":[[1]]}"#] {
            let error = read(text).unwrap_err().to_string();
            assert_eq!(error, "invalid type: sequence, expected an object");
        }
    }

    #[test]
    fn the_exact_name_wins() {
        for text in [
            r#"{"DetachKeys":"a","detachkeys":"b"}"#,
            r#"{"detachkeys":"b","DetachKeys":"a"}"#,
        ] {
            assert_eq!(read(text).unwrap().detach_keys.unwrap(), "a", "{text}");
        }
    }

    #[test]
    fn complaints_are_those_of_the_value() {
        let text = r#"{"inner":[{"count":"x"}]}"#;
        assert_eq!(
            read(text).unwrap_err().to_string(),
            "invalid type: string \"x\", expected i64"
        );
    }
}
