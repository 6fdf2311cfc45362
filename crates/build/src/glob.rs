//! Patterns of paths, matched by the states that they can be in: no pattern takes longer than its length times the path's.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(char),
    /// `?`: one character that is no slash.
    One,
    /// `*`: any that are no slashes.
    Run,
    /// `**/`: nothing, or anything that ends with a slash.
    Directories,
    /// `**` at the end, or before an ending: anything.
    Rest,
    /// `[a-z]`, `[^a-z]`: never a slash.
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// A pattern of `.dockerignore`, in which `**` is any number of directories.
    pub(crate) fn across_directories(pattern: &str) -> Result<Self, &'static str> {
        parts(pattern).map(|parts| Self { parts })
    }

    /// A pattern of names, in which a run of stars is like one (Go's `filepath.Match`).
    pub(crate) fn of_names(pattern: &str) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(part(c, &mut chars)?);
        }
        Ok(Self { parts })
    }

    /// Whether the whole path matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.reached(path, &mut |_| false)
            .is_some_and(|states| done(&states))
    }

    /// Whether the path matches, or that of a directory above it.
    pub(crate) fn matches_it_or_above(&self, path: &str) -> bool {
        match self.reached(path, &mut done) {
            None => true,
            Some(states) => done(&states),
        }
    }

    /// Whether a longer path that begins with the directory can match. Too often true costs a walk; never false where one does.
    pub(crate) fn may_match_below(&self, directory: &str) -> bool {
        let states = self.reached(&format!("{directory}/"), &mut |_| false);
        states.is_some_and(|states| states.contains(&true))
    }

    /// After the whole path: which numbers of parts can have matched it. Nothing if `stop` says so of what was reached before a slash.
    fn reached(&self, path: &str, stop: &mut dyn FnMut(&[bool]) -> bool) -> Option<Vec<bool>> {
        let skip = |states: &mut Vec<bool>| {
            for at in 0..self.parts.len() {
                let part = &self.parts[at];
                let may_be_nothing = matches!(part, Part::Run | Part::Rest | Part::Directories);
                states[at + 1] |= states[at] && may_be_nothing;
            }
        };
        // `Directories` holds its state while it eats, and gives it on only where nothing was eaten or a slash was the last.
        let mut states = vec![false; self.parts.len() + 1];
        let mut inside = vec![false; self.parts.len()];
        let (mut next, mut next_inside) = (states.clone(), inside.clone());
        states[0] = true;
        skip(&mut states);
        for c in path.chars() {
            if c == '/' && stop(&states) {
                return None;
            }
            next.fill(false);
            next_inside.fill(false);
            for at in 0..self.parts.len() {
                match &self.parts[at] {
                    Part::Directories => {
                        if states[at] || inside[at] {
                            next_inside[at] = true;
                            next[at + 1] |= c == '/';
                        }
                    }
                    Part::Rest => next[at] |= states[at],
                    Part::Run => next[at] |= states[at] && c != '/',
                    Part::One => next[at + 1] |= states[at] && c != '/',
                    Part::Literal(wanted) => next[at + 1] |= states[at] && c == *wanted,
                    Part::Set { negated, ranges } => {
                        let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                        next[at + 1] |= states[at] && c != '/' && is_in != *negated;
                    }
                }
            }
            skip(&mut next);
            std::mem::swap(&mut states, &mut next);
            std::mem::swap(&mut inside, &mut next_inside);
        }
        Some(states)
    }
}

/// Whether all parts matched.
fn done(states: &[bool]) -> bool {
    *states.last().expect("a state per part and one before them")
}

fn parts(pattern: &str) -> Result<Vec<Part>, &'static str> {
    // `**.md` is every path that ends like this, unlike `**x*`: Docker's matcher has a way of its own for what is only an ending.
    if let Some(ending) = pattern.strip_prefix("**")
        && !ending.is_empty()
        && !ending.starts_with('/')
        && !ending.contains(['*', '?', '[', ']', '\\'])
    {
        return Ok(std::iter::once(Part::Rest)
            .chain(ending.chars().map(Part::Literal))
            .collect());
    }
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    Part::Rest
                } else {
                    Part::Directories
                }
            }
            c => part(c, &mut chars)?,
        });
    }
    Ok(parts)
}

fn part(
    c: char,
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<Part, &'static str> {
    Ok(match c {
        '*' => Part::Run,
        '?' => Part::One,
        '[' => set(chars)?,
        '\\' => Part::Literal(chars.next().ok_or("a backslash has nothing behind it")?),
        c => Part::Literal(c),
    })
}

fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, &'static str> {
    const OPEN: &str = "a bracket is not closed";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut bound = || match chars.next().ok_or(OPEN)? {
            ']' => Ok(None),
            '-' => Err("a dash in brackets stands between two characters"),
            '\\' => chars.next().ok_or(OPEN).map(Some),
            c => Ok(Some(c)),
        };
        let Some(low) = bound()? else {
            if ranges.is_empty() {
                return Err("brackets are empty");
            }
            return Ok(Part::Set { negated, ranges });
        };
        let high = if chars.next_if_eq(&'-').is_some() {
            match chars.next().ok_or(OPEN)? {
                ']' | '-' => return Err("a dash in brackets stands between two characters"),
                '\\' => chars.next().ok_or(OPEN)?,
                c => c,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}
