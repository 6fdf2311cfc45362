//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic, hang, or take all memory.

use std::sync::Arc;

use hoist_image::document::ImageConfig;

use crate::dockerfile::{Dockerfile, excerpt};
use crate::ignore::Ignore;
use crate::plan::{Base, BaseName, Bases, PlanOptions, Planned, plan};

/// A Dockerfile, read and planned, over base images of which one has a trigger.
pub fn dockerfile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = match Dockerfile::parse(&text) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.lines.first >= 1 && error.lines.first <= error.lines.last);
            let _ = (error.to_string(), error.excerpt(&text));
            return;
        }
    };
    let mut bases = Bases::new();
    let options = PlanOptions::default();
    loop {
        let names: Vec<BaseName> = match plan(&file, &options, &bases) {
            Err(error) => {
                let _ = (
                    error.to_string(),
                    error.lines().map(|lines| excerpt(&text, lines)),
                );
                return;
            }
            Ok(Planned::Ready(plan)) => {
                let again = super::plan::plan(&file, &options, &bases);
                assert!(matches!(again, Ok(Planned::Ready(again)) if again == plan));
                let _ = plan.to_string();
                return;
            }
            Ok(Planned::Needs(names)) => names,
        };
        assert!(!names.is_empty(), "needs nothing and is not ready");
        for name in names {
            let mut config = ImageConfig::default();
            config.config.env = vec!["PATH=/bin".to_owned()];
            if name.reference.len() % 2 == 0 {
                config.config.on_build = Some(vec!["COPY x /x".to_owned()]);
            }
            let base = Base {
                id: name.reference.clone(),
                config,
                layers: Vec::new(),
            };
            assert!(bases.insert(name, Arc::new(base)).is_none(), "asked twice");
        }
    }
}

/// Patterns of a `.dockerignore`, and paths behind a NUL.
pub fn ignore(bytes: &[u8]) {
    // As long as paths can be, each.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2 << 10)]);
    let (patterns, paths) = text.split_once('\0').unwrap_or((&text, "a/b/c"));
    let Ok(ignore) = Ignore::parse(patterns) else {
        return;
    };
    for path in paths.split('\0').take(8) {
        let path = crate::ignore::cleaned(path);
        if ignore.matches(&path) {
            continue;
        }
        // What is in is never skipped with a directory above it.
        for (end, _) in path.match_indices('/').take(8) {
            let above = &path[..end];
            assert!(
                !ignore.matches(above) || ignore.may_include_below(above),
                "{path:?} is skipped with {above:?} by {patterns:?}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{dockerfile, ignore};

    const SEEDS: [&str; 6] = [
        "# syntax=x\n# escape=`\nARG V=1\nFROM a:$V AS b\nRUN --mount=type=cache,target=/x <<EOF\necho $A\nEOF\n",
        "FROM --platform=$BUILDPLATFORM a\nENV A=1 B=\"$A ${C:-d}\"\nCOPY --from=b --chown=1:2 [\"x\", \"/y/\"]\nCMD [\"a\"]\n",
        "FROM a\nADD --checksum=sha256:aa https://h/x.git#r:d a* /x/\nHEALTHCHECK --interval=1m30s CMD x\nONBUILD RUN y\n",
        "FROM scratch\nCOPY --exclude=*.a <<\"E\" <<-F /d/\na\nE\n\tb\nF\nLABEL a b\nEXPOSE 1-3/udp\nVOLUME /v\n",
        "FROM a AS x\nFROM x AS y\nARG P\nSHELL [\"s\"]\nUSER ${P#a*}\nWORKDIR r\\\n\n/${P//b/c}\nSTOPSIGNAL 9\n",
        "FROM a\nENV A=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nENV A=$A$A$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A$A$A\nENV A=$A$A$A$A$A$A$A$A$A$A\n",
    ];

    #[test]
    fn no_dockerfile_is_too_much() {
        let seeds = SEEDS.map(str::as_bytes);
        hoist_testkit::mutate(&seeds, Duration::from_secs(2), dockerfile);
    }

    #[test]
    fn variables_do_not_grow_without_end() {
        let mut text = "FROM a\nENV A=0123456789\n".to_owned();
        text += &"ENV A=$A$A$A$A$A$A$A$A$A$A\n".repeat(20);
        dockerfile(text.as_bytes());
        let mut text = format!("FROM a\nENV A={}\n", "x".repeat(1 << 19));
        text += &"RUN x\nLABEL l=$A\n".repeat(100_000);
        dockerfile(text.as_bytes());
        dockerfile(format!("FROM a\nENV A={}", "${a:-".repeat(100_000)).as_bytes());
    }

    #[test]
    fn no_pattern_is_too_much() {
        let seeds: [&[u8]; 3] = [
            b"**/*.md\n!README.md\n\0a/README.md\0README.md",
            b"a[b-c]?*\n!**/x/**\n\0ab/x/y",
            b"*\n!a/**/b\n\0a/b/c/b",
        ];
        hoist_testkit::mutate(&seeds, Duration::from_secs(1), ignore);
    }
}
