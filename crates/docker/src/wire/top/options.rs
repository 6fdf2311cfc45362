//! What the arguments of `ps` ask for (procps `ps(1)`).

use super::columns::Column;
use crate::error::ApiError;

/// One column as asked for: what and under which title.
pub(super) type Titled = (Column, String);

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) columns: Vec<Titled>,
    /// By which columns, whether falling.
    pub(super) sort: Vec<(Column, bool)>,
    pub(super) tree: Tree,
    /// Whether threads are listed, not processes.
    pub(crate) threads: bool,
}

/// How children stand below their parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    None,
    /// `--forest`, `f`: with branches.
    Drawn,
    /// `-H`: moved to the right.
    Indented,
}

/// The columns a word or letter stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Full,
    Extra,
    Long,
    Jobs,
    BsdUser,
    BsdJobs,
    BsdLong,
    BsdMemory,
    BsdSignals,
    Bsd,
    Plain,
}

/// Which column tells of the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Threads {
    No,
    /// `-L`.
    Lwp,
    /// `-T`.
    Spid,
    /// `H`: as if they were processes.
    Bare,
}

fn named(names: &str) -> Vec<Titled> {
    names
        .split_whitespace()
        .filter_map(|name| {
            let column = Column::find(name)?;
            Some((column, column.title.to_owned()))
        })
        .collect()
}

fn refuse(what: &str) -> ApiError {
    ApiError::invalid(format!(
        "ps option {what} is not supported: processes are read without ps, which knows -e -A -a -d -x, -f -F -l -j -L -T -H -w, aux-style letters (a x u j l v s f H w k), -o LIST, --sort=LIST, --forest and --width=N"
    ))
}

/// What is shown, by the last option that says.
pub(super) fn parse(arguments: &str) -> Result<Asked, ApiError> {
    let mut words = arguments.split_ascii_whitespace();
    let mut listed: Vec<Titled> = Vec::new();
    let mut shape = Shape::Plain;
    let (mut threads, mut tree, mut sort) = (Threads::No, Tree::None, Vec::new());
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let mut value = || value.or_else(|| words.next()).ok_or_else(|| refuse(word));
            match name {
                "format" => listed.extend(list_of(value()?)?),
                "sort" => sort = keys(value()?)?,
                "forest" => tree = Tree::Drawn,
                // Lines are as long as they are.
                "width" | "columns" | "cols" => drop(value()?),
                _ => return Err(refuse(word)),
            }
            continue;
        }
        let (letters, dashed) = match word.strip_prefix('-') {
            Some(letters) => (letters, true),
            None => (word, false),
        };
        // `-aux` is how everybody writes `aux`; ps takes it so too.
        let dashed = dashed && !letters.contains('u');
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + 1..];
            let mut rest = || {
                let rest = Some(rest).filter(|rest| !rest.is_empty());
                rest.or_else(|| words.next()).ok_or_else(|| refuse(word))
            };
            match (letter, dashed) {
                ('e' | 'A' | 'a' | 'd' | 'x' | 'w', true) | ('a' | 'x' | 'w', false) => {}
                ('f', true) => shape = Shape::Full,
                ('F', true) => shape = Shape::Extra,
                ('l', true) => shape = Shape::Long,
                ('j', true) => shape = Shape::Jobs,
                ('u', false) => shape = Shape::BsdUser,
                ('j', false) => shape = Shape::BsdJobs,
                ('l', false) => shape = Shape::BsdLong,
                ('v', false) => shape = Shape::BsdMemory,
                ('s', false) => shape = Shape::BsdSignals,
                ('f', false) => tree = Tree::Drawn,
                ('H', true) => tree = Tree::Indented,
                ('L', true) => threads = Threads::Lwp,
                ('T', true) => threads = Threads::Spid,
                ('H', false) => threads = Threads::Bare,
                ('o', _) => {
                    listed.extend(list_of(rest()?)?);
                    break;
                }
                ('k', false) => {
                    sort = keys(rest()?)?;
                    break;
                }
                _ => return Err(refuse(word)),
            }
        }
        if !dashed && shape == Shape::Plain && letters.contains(['a', 'x']) {
            shape = Shape::Bsd;
        }
    }
    let columns = if listed.is_empty() {
        shape.columns(threads)
    } else {
        listed
    };
    Ok(Asked {
        columns,
        sort,
        tree,
        threads: threads != Threads::No,
    })
}

impl Shape {
    fn columns(self, threads: Threads) -> Vec<Titled> {
        let lwp = if threads == Threads::Lwp { "lwp" } else { "" };
        let spid = if threads == Threads::Spid { "spid" } else { "" };
        let nlwp = if threads == Threads::Lwp { "nlwp" } else { "" };
        named(&match self {
            Self::Full => {
                format!("UID pid {spid} ppid {lwp} c {nlwp} stime tname time cmd")
            }
            Self::Extra => {
                format!("UID pid {spid} ppid {lwp} c {nlwp} sz rss psr stime tname time cmd")
            }
            Self::Long => {
                format!("f s uid pid {spid} ppid {lwp} c opri ni addr sz wchan tname time ucmd")
            }
            Self::Jobs => format!("pid {spid} pgid sid {lwp} tname time ucmd"),
            Self::BsdUser => {
                format!(
                    "user pid {spid} {lwp} %cpu {nlwp} %mem vsz rss tname stat start_time bsdtime args"
                )
            }
            Self::BsdJobs => "ppid pid pgid sid tname tpgid stat uid bsdtime args".to_owned(),
            Self::BsdLong => {
                "f uid pid ppid pri ni vsz rss wchan stat tname bsdtime args".to_owned()
            }
            Self::BsdMemory => "pid tname stat bsdtime maj_flt trs drs rss %mem args".to_owned(),
            Self::BsdSignals => {
                "uid pid pending blocked ignored caught stat tname bsdtime args".to_owned()
            }
            Self::Bsd => "pid tname stat bsdtime args".to_owned(),
            Self::Plain => format!("pid {lwp} {spid} tname time ucmd"),
        })
    }
}

/// `-rss,+pid,comm`.
fn keys(list: &str) -> Result<Vec<(Column, bool)>, ApiError> {
    list.split(',')
        .map(|key| {
            let (name, falling) = match key.strip_prefix('-') {
                Some(name) => (name, true),
                None => (key.strip_prefix('+').unwrap_or(key), false),
            };
            let column = Column::find(name).ok_or_else(|| {
                ApiError::invalid(format!("error: unknown sort specifier: {name}"))
            })?;
            Ok((column, falling))
        })
        .collect()
}

/// `pid,cmd,user=WHO`: a title of one's own takes the rest of the word, as in ps.
fn list_of(list: &str) -> Result<Vec<Titled>, ApiError> {
    let mut columns = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(column) = Column::find(name).filter(|_| name != "UID") else {
            return Err(ApiError::invalid(format!(
                "ps column {name:?} is not supported"
            )));
        };
        if let Some(title) = after.strip_prefix('=') {
            if name == "pid" || title.contains("PID") || title.is_empty() {
                return Err(ApiError::invalid(format!(
                    "specifying \"{name}={title}\" is not allowed"
                )));
            }
            columns.push((column, title.to_owned()));
            break;
        }
        columns.push((column, column.title.to_owned()));
        rest = after.strip_prefix(',').unwrap_or_default();
    }
    Ok(columns)
}
