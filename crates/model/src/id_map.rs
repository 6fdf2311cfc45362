//! How the ids of users and groups inside a user namespace stand for those of the host (user_namespaces(7)).

/// Ids `inside` to `inside + length - 1` are `outside` and following on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id in the container.
    pub inside: u32,
    /// The first id on the host.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// Ranges that overlap on neither side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    /// Lays ranges of the host (first id, length), one after the other, from 0 inside on, as Docker does with a user's lines of
    /// subuid(5). What does not fit the ids there are is left out.
    #[must_use]
    pub fn stacked(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut inside = 0_u32;
        let mut map = Vec::new();
        for (outside, length) in ranges {
            // The last id is no id: -1 says "leave it" (chown(2)).
            let length = length.min(u32::MAX - outside).min(u32::MAX - inside);
            if length > 0 {
                map.push(IdRange {
                    inside,
                    outside,
                    length,
                });
                inside += length;
            }
        }
        Self(map)
    }

    /// The same, seen from the other side.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let turn = |range: &IdRange| IdRange {
            inside: range.outside,
            outside: range.inside,
            length: range.length,
        };
        Self(self.0.iter().map(turn).collect())
    }

    /// The host's id for one of the container's, if it has one.
    #[must_use]
    pub fn to_host(&self, id: u32) -> Option<u32> {
        let of = |range: &IdRange| {
            let offset = id.checked_sub(range.inside)?;
            (offset < range.length).then_some(range.outside + offset)
        };
        self.0.iter().find_map(of)
    }

    /// The container's id for one of the host's, if it has one.
    #[must_use]
    pub fn to_container(&self, id: u32) -> Option<u32> {
        let of = |range: &IdRange| {
            let offset = id.checked_sub(range.outside)?;
            (offset < range.length).then_some(range.inside + offset)
        };
        self.0.iter().find_map(of)
    }

    /// As `/proc/<pid>/uid_map` takes it: a line per range.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |range: &IdRange| {
            let IdRange {
                inside,
                outside,
                length,
            } = range;
            format!("{inside} {outside} {length}\n")
        };
        self.0.iter().map(line).collect()
    }
}

/// A mapping of users and one of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserMapping {
    /// Of users.
    pub users: IdMap,
    /// Of groups.
    pub groups: IdMap,
}

impl UserMapping {
    /// The same, seen from the other side.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            users: self.users.reversed(),
            groups: self.groups.reversed(),
        }
    }

    /// The host's ids for a user and a group of the container; `None` if one of them has none.
    #[must_use]
    pub fn to_host(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        self.users.to_host(uid).zip(self.groups.to_host(gid))
    }

    /// The container's ids for a user and a group of the host; those without one are shown as nobody's, as the kernel shows
    /// them (`/proc/sys/fs/overflowuid`).
    #[must_use]
    pub fn to_container(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (
            self.users.to_container(uid).unwrap_or(NOBODY),
            self.groups.to_container(gid).unwrap_or(NOBODY),
        )
    }

    /// The host's ids of the container's root. Of an empty mapping, those of nobody.
    #[must_use]
    pub fn root(&self) -> (u32, u32) {
        self.to_host((0, 0)).unwrap_or((NOBODY, NOBODY))
    }
}

/// Whom an id without a place in a mapping is shown as.
pub const NOBODY: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_each_other_inside() {
        let map = IdMap::stacked([(100_000, 10), (500, 5), (7, 0)]);
        assert_eq!(map.text(), "0 100000 10\n10 500 5\n");
        for (inside, outside) in [
            (0, Some(100_000)),
            (9, Some(100_009)),
            (10, Some(500)),
            (15, None),
        ] {
            assert_eq!(map.to_host(inside), outside);
            if let Some(outside) = outside {
                assert_eq!(map.to_container(outside), Some(inside));
                assert_eq!(map.reversed().to_host(outside), Some(inside));
            }
        }
        assert_eq!(map.to_container(0), None);
        assert_eq!(map.to_container(100_010), None);
    }

    #[test]
    fn no_range_reaches_beyond_the_last_id() {
        let map = IdMap::stacked([(u32::MAX - 2, 10), (1, u32::MAX)]);
        assert_eq!(map.text(), "0 4294967293 2\n2 1 4294967293\n");
    }

    #[test]
    fn strangers_are_nobody() {
        let map = IdMap::stacked([(100_000, 65_536)]);
        let mapping = UserMapping {
            users: map.clone(),
            groups: map,
        };
        assert_eq!(mapping.root(), (100_000, 100_000));
        assert_eq!(mapping.to_container((100_005, 3)), (5, NOBODY));
        assert_eq!(mapping.to_host((5, 65_536)), None);
    }
}
