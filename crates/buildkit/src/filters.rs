//! Filters of the cache's entries, as clients write them (containerd `pkg/filters`; the fields are those of buildkit `client/prune.go`).
//!
//! ```text
//! a list is one of its members, a member all of its parts:  field  field==value  field!=value  field~=expression, with commas between
//! ```
//!
//! Of expressions there is what people write: letters, and `*` or `.*` for any.

use std::collections::HashSet;

use hoist_build::CacheRecord;
use hoist_model::Digest;
use tonic::Status;

use crate::error::missing;

/// Parts of one request's filters.
const MOST: usize = 1000;

/// Those of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(Vec<Vec<Part>>);

#[derive(Debug, PartialEq, Eq)]
struct Part {
    field: Field,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Kind,
    Description,
    InUse,
    Shared,
    Private,
    Mutable,
    Immutable,
}

#[derive(Debug, PartialEq, Eq)]
enum Test {
    Present,
    Equal(String),
    Unequal(String),
    /// Literal pieces with anything between; those of an anchored end are empty or not as they stand.
    Like(Vec<String>),
}

/// Whether an image has an entry's layer too.
pub(crate) fn is_shared(record: &CacheRecord, of_images: &HashSet<Digest>) -> bool {
    let layer = record.layer.as_ref();
    layer.is_some_and(|layer| of_images.contains(layer))
}

impl Filters {
    /// Reads them. What there is not is refused: an entry that it would have spared could go.
    pub(crate) fn read(given: &[String]) -> Result<Self, Status> {
        let given = given.iter().filter(|text| !text.is_empty());
        let read = given.map(|text| parts(text).into_iter().map(Part::read).collect());
        let read: Vec<Vec<Part>> = read.collect::<Result<_, _>>()?;
        if read.iter().map(Vec::len).sum::<usize>() > MOST {
            return Err(Status::invalid_argument(format!(
                "more than {MOST} filters"
            )));
        }
        Ok(Self(read))
    }

    /// Whether an entry is one of those that are meant.
    pub(crate) fn fit(&self, record: &CacheRecord, of_images: &HashSet<Digest>) -> bool {
        let fits = |part: &Part| part.fits(record, of_images);
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(fits))
    }
}

/// What stands between commas, but for those in quotes.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            letter => parts.last_mut().expect("there is one").push(letter),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

impl Part {
    fn read(text: String) -> Result<Self, Status> {
        let operators = ["==", "!=", "~="].into_iter();
        let found = operators.filter_map(|operator| Some((text.find(operator)?, operator)));
        let (name, test) = match found.min() {
            None => (text.as_str(), Test::Present),
            Some((at, operator)) => {
                let value = text[at + operator.len()..].to_owned();
                let test = match operator {
                    "==" => Test::Equal(value),
                    "!=" => Test::Unequal(value),
                    _ => like(&value)?,
                };
                (&text[..at], test)
            }
        };
        let field = match name.trim() {
            "id" => Field::Id,
            "type" => Field::Kind,
            "description" => Field::Description,
            "inuse" => Field::InUse,
            "shared" => Field::Shared,
            "private" => Field::Private,
            "mutable" => Field::Mutable,
            "immutable" => Field::Immutable,
            _ => return Err(missing(format!("the filter {text:?}"))),
        };
        Ok(Self { field, test })
    }

    fn fits(&self, record: &CacheRecord, of_images: &HashSet<Digest>) -> bool {
        // containerd has a field that is false as one that is not there.
        let flag = |is: bool| is.then_some("true");
        let value = match self.field {
            Field::Id => Some(record.key.as_str()),
            Field::Kind => Some(record.kind()),
            Field::Description => Some(record.description.as_str()),
            // No entry is held by a step, and none is ever written again.
            Field::InUse | Field::Mutable => None,
            Field::Immutable => Some("true"),
            Field::Shared => flag(is_shared(record, of_images)),
            Field::Private => flag(!is_shared(record, of_images)),
        };
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value.unwrap_or_default() == wanted,
            Test::Unequal(wanted) => value.unwrap_or_default() != wanted,
            Test::Like(pieces) => contains(value.unwrap_or_default(), pieces),
        }
    }
}

/// An expression that has nothing in it but letters and "anything".
fn like(expression: &str) -> Result<Test, Status> {
    let pieces = expression.replace(".*", "*");
    let is_plain = |letter: char| !"^$+?()[]{}|\\".contains(letter);
    if !pieces.chars().all(is_plain) {
        return Err(missing(format!(
            "the expression {expression:?} in a filter"
        )));
    }
    Ok(Test::Like(pieces.split('*').map(str::to_owned).collect()))
}

/// Whether a text has these pieces one behind another.
fn contains(text: &str, pieces: &[String]) -> bool {
    let mut rest = text;
    pieces.iter().all(|piece| match rest.find(piece.as_str()) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use hoist_model::Timestamp;

    use super::*;

    fn record(key: &str, description: &str, layer: Option<&Digest>) -> CacheRecord {
        let now = Timestamp::from_seconds(1);
        CacheRecord {
            key: key.to_owned(),
            layer: layer.cloned(),
            size: 1,
            description: description.to_owned(),
            created: now,
            used: now,
            uses: 1,
        }
    }

    #[test]
    fn filters_choose_entries() {
        let layer = Digest::from_sha256(&[7; 32]);
        let images = HashSet::from([layer.clone()]);
        let one = record("abc", "RUN make all", Some(&layer));
        let two = record("abd", "local source", None);
        for (filters, wanted) in [
            (&[][..], (true, true)),
            (&["id==abc"], (true, false)),
            (&["id~=ab"], (true, true)),
            (&["id==abc,id==abd"], (false, false)),
            (&["id==abc", "id==abd"], (true, true)),
            (&["type==source.local"], (false, true)),
            (&["type!=source.local"], (true, false)),
            (&["description~=RUN.*all"], (true, false)),
            (&["description==\"local source\""], (false, true)),
            (&["shared"], (true, false)),
            (&["private"], (false, true)),
            (&["inuse"], (false, false)),
            (&["immutable,id==abd"], (false, true)),
        ] {
            let given: Vec<_> = filters.iter().map(|text| (*text).to_owned()).collect();
            let read = Filters::read(&given).unwrap();
            let fit = (read.fit(&one, &images), read.fit(&two, &images));
            assert_eq!(fit, wanted, "{filters:?}");
        }
        for wrong in ["colour==red", "id~=a(b", "parents==x"] {
            assert!(Filters::read(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
