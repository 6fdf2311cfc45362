//! Shaping replies for older and newer clients: the newest structs carry every member any version has, and a table
//! per endpoint says which versions see which.

use serde_json::Value;

use crate::ApiVersion;

/// A member and the versions `1.<from>` to `1.<until>` (exclusive) that have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Where, in slashes; `*` is every member or element.
    pub(crate) path: &'static str,
    pub(crate) from: u16,
    pub(crate) until: u16,
}

/// A member that came with `1.<minor>`.
pub(crate) const fn since(minor: u16, path: &'static str) -> Member {
    Member {
        path,
        from: minor,
        until: u16::MAX,
    }
}

/// A member that went with `1.<minor>`.
pub(crate) const fn until(minor: u16, path: &'static str) -> Member {
    Member {
        path,
        from: 0,
        until: minor,
    }
}

/// Takes out what this version does not have.
pub(crate) fn shape(value: &mut Value, version: ApiVersion, members: &[Member]) {
    for member in members {
        let has = version.at_least(member.from)
            && (member.until == u16::MAX || !version.at_least(member.until));
        if !has {
            let steps: Vec<&str> = member.path.split('/').collect();
            take_out(value, &steps);
        }
    }
}

fn take_out(value: &mut Value, steps: &[&str]) {
    match (steps, value) {
        ([last], Value::Object(members)) => {
            members.shift_remove(*last);
        }
        (["*", rest @ ..], Value::Object(members)) => {
            members.values_mut().for_each(|value| take_out(value, rest));
        }
        (["*", rest @ ..], Value::Array(elements)) => {
            elements.iter_mut().for_each(|value| take_out(value, rest));
        }
        ([step, rest @ ..], Value::Object(members)) => {
            if let Some(value) = members.get_mut(*step) {
                take_out(value, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go_with_versions() {
        const TABLE: &[Member] = &[
            until(52, "Old"),
            since(44, "Nets/*/Names"),
            since(50, "None/x"),
        ];
        let shaped = |minor| {
            let mut value = serde_json::json!({
                "Old": 1, "Keep": 2, "Nets": {"a": {"Names": [], "Id": 1}}
            });
            shape(&mut value, ApiVersion::minor(minor), TABLE);
            value.to_string()
        };
        assert_eq!(shaped(24), r#"{"Old":1,"Keep":2,"Nets":{"a":{"Id":1}}}"#);
        assert_eq!(
            shaped(51),
            r#"{"Old":1,"Keep":2,"Nets":{"a":{"Names":[],"Id":1}}}"#
        );
        assert_eq!(shaped(52), r#"{"Keep":2,"Nets":{"a":{"Names":[],"Id":1}}}"#);
    }
}
