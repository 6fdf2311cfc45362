//! Resource limits by the names `--ulimit` uses (setrlimit(2) without `RLIMIT_`).

use hoist_model::container::Ulimit;

/// Numbers as on x86 and ARM (asm-generic/resource.h).
const NAMES: [(&str, u32); 16] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("as", 9),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// (number, soft, hard) of each; an unknown name or a soft limit above the hard one is refused by name.
pub(crate) fn resolve(limits: &[Ulimit]) -> Result<Vec<(u32, u64, u64)>, String> {
    limits
        .iter()
        .map(|limit| {
            let number = NAMES.iter().find(|(name, _)| *name == limit.name);
            let (_, number) =
                number.ok_or_else(|| format!("invalid ulimit type: {}", limit.name))?;
            let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
            let (soft, hard) = (value(limit.soft), value(limit.hard));
            if soft > hard {
                return Err(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {}: {} > {}",
                    limit.name, limit.soft, limit.hard
                ));
            }
            Ok((*number, soft, hard))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_resolve_or_are_refused_by_name() {
        let limit = |name: &str, soft, hard| Ulimit {
            name: name.into(),
            soft,
            hard,
        };
        assert_eq!(
            resolve(&[limit("nofile", 99, -1)]),
            Ok(vec![(7, 99, u64::MAX)])
        );
        assert!(
            resolve(&[limit("nope", 1, 1)])
                .unwrap_err()
                .contains("nope")
        );
        assert!(
            resolve(&[limit("core", 2, 1)])
                .unwrap_err()
                .contains("core")
        );
    }
}
