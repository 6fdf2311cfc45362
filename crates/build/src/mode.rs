//! `--chmod`: octal as always, or symbolic as of docker/dockerfile 1.14 (chmod(1)).

/// A change of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Bits(u16),
    Clauses(Vec<Clause>),
}

/// `ug+rX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Which of 0o700, 0o070, 0o007.
    who: u16,
    operator: char,
    /// In each of the three digits alike.
    bits: u16,
    /// `X`: execute, of directories and of what is executable.
    execute_if_any: bool,
    set_id: bool,
    sticky: bool,
}

impl Mode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let bits = u16::from_str_radix(text, 8).ok()?;
            return (bits <= 0o7777).then_some(Self::Bits(bits));
        }
        let clauses = text.split(',').map(Clause::parse);
        clauses.collect::<Option<_>>().map(Self::Clauses)
    }

    pub(crate) fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        match self {
            Self::Bits(bits) => *bits,
            Self::Clauses(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let (who, rest) = text.split_at(at);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        let mut chars = rest.chars();
        let mut clause = Self {
            who: if mask == 0 { 0o777 } else { mask },
            operator: chars.next()?,
            bits: 0,
            execute_if_any: false,
            set_id: false,
            sticky: false,
        };
        for c in chars {
            match c {
                'r' => clause.bits |= 0o444,
                'w' => clause.bits |= 0o222,
                'x' => clause.bits |= 0o111,
                'X' => clause.execute_if_any = true,
                's' => clause.set_id = true,
                't' => clause.sticky = true,
                _ => return None,
            }
        }
        Some(clause)
    }

    fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        let mut bits = self.bits;
        if self.execute_if_any && (is_directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let mut bits = bits & self.who;
        let mut cleared = self.who;
        if self.set_id {
            for (who, bit) in [(0o700, 0o4000), (0o070, 0o2000)] {
                if self.who & who != 0 {
                    bits |= bit;
                }
            }
        }
        if self.sticky {
            bits |= 0o1000;
            cleared |= 0o1000;
        }
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !cleared) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn modes_are_chmods() {
        for (text, mode, is_directory, becomes) in [
            ("755", 0o600, false, 0o755),
            ("0755", 0o600, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("go-w", 0o666, false, 0o644),
            ("a=rX", 0o600, false, 0o444),
            ("a=rX", 0o700, true, 0o555),
            ("+x", 0o644, false, 0o755),
            ("u=rwx,go=", 0o644, false, 0o700),
            ("g+s", 0o755, true, 0o2755),
            ("+t", 0o777, true, 0o1777),
        ] {
            let parsed = Mode::parse(text).expect(text);
            assert_eq!(parsed.apply(mode, is_directory), becomes, "{text}");
        }
        for wrong in ["", "9", "77777", "u", "z+x", "u+q"] {
            assert_eq!(Mode::parse(wrong), None, "{wrong}");
        }
    }
}
