//! The cases, as they stand in `cases.txt`.

/// Something to build.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) dockerfile: String,
    /// Of `docker build`.
    pub(super) flags: Vec<String>,
    /// `.dockerignore`; none if empty.
    pub(super) ignored: String,
    /// Whether the context comes as an archive, with owners that a directory's has not.
    pub(super) is_archive: bool,
}

/// `=== name`, then lines `#: flags …`, `#: ignore …` and `#: archive`, then the Dockerfile.
const TEXT: &str = include_str!("cases.txt");

pub(super) fn all() -> Vec<Case> {
    let wanted = std::env::var("HOIST_BUILD_CASE").unwrap_or_default();
    let texts = TEXT.split("=== ").skip(1);
    let cases = texts.map(parsed).filter(|case| case.name.contains(&wanted));
    let cases: Vec<Case> = cases.collect();
    assert!(!cases.is_empty(), "no case is called {wanted}");
    cases
}

fn parsed(text: &str) -> Case {
    let (name, rest) = text.split_once('\n').unwrap();
    let mut case = Case {
        name: name.to_owned(),
        dockerfile: String::new(),
        flags: Vec::new(),
        ignored: String::new(),
        is_archive: false,
    };
    for line in rest.trim_end().lines() {
        match line
            .strip_prefix("#: ")
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
        {
            Some(("flags", flags)) => {
                case.flags
                    .extend(flags.split_whitespace().map(str::to_owned));
            }
            Some(("ignore", pattern)) => {
                case.ignored.push_str(pattern);
                case.ignored.push('\n');
            }
            Some(("archive", "")) => case.is_archive = true,
            Some((word, _)) => panic!("{name}: what is {word}?"),
            None => {
                case.dockerfile.push_str(line);
                case.dockerfile.push('\n');
            }
        }
    }
    case
}
