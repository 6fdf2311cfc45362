//! The requests and answers of version 2.

use std::io::Write;

use crate::packet::{self, Packet, Packets};
use crate::{GitError, ObjectId};

/// What a server can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// Whether it sends commits without those before them.
    pub shallow: bool,
}

fn text(data: &[u8]) -> &str {
    let text = std::str::from_utf8(data).unwrap_or_default();
    text.strip_suffix('\n').unwrap_or(text)
}

/// Reads what a server says of itself.
///
/// # Errors
/// It does not speak version 2, or has only repositories of SHA-256.
pub fn advertisement(answer: &[u8]) -> Result<Advertisement, GitError> {
    let mut found = Advertisement::default();
    let mut is_version_2 = false;
    for packet in packet::all(answer)? {
        let Packet::Data(data) = packet else { continue };
        let line = text(&data);
        if line == "version 2" {
            is_version_2 = true;
        } else if let Some(features) = line.strip_prefix("fetch=") {
            found.shallow = features.split(' ').any(|feature| feature == "shallow");
        } else if let Some(format) = line.strip_prefix("object-format=")
            && format != "sha1"
        {
            let said = format!("has objects of {format}, which are not implemented by Hoist yet");
            return Err(GitError::Protocol(said));
        } else if let Some(said) = line.strip_prefix("ERR ") {
            return Err(GitError::Refused(said.to_owned()));
        }
    }
    if !is_version_2 {
        let said = "does not speak version 2 of its protocol".to_owned();
        return Err(GitError::Protocol(said));
    }
    Ok(found)
}

fn command(name: &str) -> Vec<u8> {
    let mut request = Vec::new();
    packet::line(&mut request, &format!("command={name}"));
    packet::line(&mut request, "agent=hoist");
    packet::line(&mut request, "object-format=sha1");
    request.extend_from_slice(b"0001");
    request
}

/// Asks which references there are that a name may mean.
#[must_use]
pub fn list_request(reference: Option<&str>) -> Vec<u8> {
    let mut request = command("ls-refs");
    packet::line(&mut request, "peel");
    for name in candidates(reference) {
        packet::line(&mut request, &format!("ref-prefix {name}"));
    }
    request.extend_from_slice(b"0000");
    request
}

/// Whole names that a short one may mean, the likeliest first (gitrevisions(7)).
fn candidates(reference: Option<&str>) -> Vec<String> {
    match reference {
        None => vec!["HEAD".to_owned()],
        Some(name) => ["", "refs/", "refs/tags/", "refs/heads/"]
            .iter()
            .map(|prefix| format!("{prefix}{name}"))
            .collect(),
    }
}

/// References that a server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References(Vec<(String, ObjectId)>);

impl References {
    /// Reads the answer to [`list_request`].
    ///
    /// # Errors
    /// It is none.
    pub fn parse(answer: &[u8]) -> Result<Self, GitError> {
        let mut references = Vec::new();
        for packet in packet::all(answer)? {
            let Packet::Data(data) = packet else { continue };
            let line = text(&data);
            if let Some(said) = line.strip_prefix("ERR ") {
                return Err(GitError::Refused(said.to_owned()));
            }
            let mut words = line.split(' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else {
                return Err(GitError::Protocol(format!("names a reference {line:?}")));
            };
            // An annotated tag stands for what it is of.
            let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
            if id != "unborn" {
                references.push((name.to_owned(), peeled.unwrap_or(id).parse()?));
            }
        }
        Ok(Self(references))
    }

    /// The object that a name means.
    #[must_use]
    pub fn find(&self, reference: Option<&str>) -> Option<ObjectId> {
        candidates(reference).iter().find_map(|wanted| {
            let found = self.0.iter().find(|(name, _)| name == wanted);
            found.map(|(_, id)| *id)
        })
    }
}

/// Asks for an object and all that it needs, if the server can without what was before it.
#[must_use]
pub fn fetch_request(wanted: ObjectId, server: Advertisement) -> Vec<u8> {
    let mut request = command("fetch");
    packet::line(&mut request, "ofs-delta");
    packet::line(&mut request, "no-progress");
    packet::line(&mut request, &format!("want {wanted}"));
    if server.shallow {
        packet::line(&mut request, "deepen 1");
    }
    packet::line(&mut request, "done");
    request.extend_from_slice(b"0000");
    request
}

/// Takes the answer to [`fetch_request`] as it comes and writes the pack in it.
#[derive(Debug)]
pub struct PackReceiver<W> {
    packets: Packets,
    state: State,
    out: W,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Sections before the pack.
    Before,
    /// Which the next line names.
    Pack,
    Ended,
}

impl<W: Write> PackReceiver<W> {
    /// Begins.
    pub fn new(out: W) -> Self {
        Self {
            packets: Packets::default(),
            state: State::Before,
            out,
        }
    }

    /// Takes more of the answer.
    ///
    /// # Errors
    /// What the server says, if it fails, and whatever keeps us from writing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), GitError> {
        self.packets.push(bytes);
        while let Some(packet) = self.packets.next()? {
            match (self.state, packet) {
                (State::Before, Packet::Data(data)) => {
                    let line = text(&data);
                    if line == "packfile" {
                        self.state = State::Pack;
                    } else if let Some(said) = line.strip_prefix("ERR ") {
                        return Err(GitError::Refused(said.to_owned()));
                    }
                }
                (State::Before, Packet::Flush) => {
                    let said = "sends no pack".to_owned();
                    return Err(GitError::Protocol(said));
                }
                (State::Before, _) | (State::Ended, Packet::Flush | Packet::End) => {}
                (State::Pack, Packet::Data(data)) => match data.split_first() {
                    Some((1, data)) => self.out.write_all(data)?,
                    Some((2, _)) | None => {}
                    Some((3, said)) => {
                        let said = String::from_utf8_lossy(said).trim().to_owned();
                        return Err(GitError::Refused(said));
                    }
                    Some((band, _)) => {
                        return Err(GitError::Protocol(format!("sends on band {band}")));
                    }
                },
                (State::Pack, _) => self.state = State::Ended,
                (State::Ended, packet) => {
                    return Err(GitError::Protocol(format!("goes on with {packet:?}")));
                }
            }
        }
        Ok(())
    }

    /// Gives back where the pack was written.
    ///
    /// # Errors
    /// The answer broke off.
    pub fn finish(self) -> Result<W, GitError> {
        if self.state != State::Ended || !self.packets.is_empty() {
            return Err(GitError::Protocol("breaks off in a pack".to_owned()));
        }
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::{Advertisement, PackReceiver, References, advertisement, list_request};

    #[test]
    fn servers_say_what_they_can() {
        let said =
            b"001e# service=git-upload-pack\n0000000eversion 2\n0016fetch=shallow filter\n0000";
        // The length of the last line is wrong on purpose below.
        assert!(advertisement(said).is_err());
        let said =
            b"001e# service=git-upload-pack\n0000000eversion 2\n0019fetch=shallow filter\n0000";
        let found = advertisement(said).expect("read");
        assert_eq!(found, Advertisement { shallow: true });
        for wrong in [
            &b"0000"[..],
            b"zzzz",
            b"000eversion 1\n",
            b"0010ERR go away\n",
        ] {
            assert!(advertisement(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_tags_before_they_are_branches() {
        let id = |digit: &str| digit.repeat(40);
        let mut answer = Vec::new();
        for line in [
            format!("{} refs/heads/one", id("1")),
            format!("{} refs/tags/one peeled:{}", id("2"), id("3")),
            format!("{} refs/heads/main", id("4")),
            format!("{} HEAD symref-target:refs/heads/main", id("4")),
        ] {
            crate::packet::line(&mut answer, &line);
        }
        answer.extend_from_slice(b"0000");
        let found = References::parse(&answer).expect("read");
        let find = |name| found.find(name).map(|id| id.to_string());
        assert_eq!(find(None), Some(id("4")));
        assert_eq!(find(Some("one")), Some(id("3")));
        assert_eq!(find(Some("refs/heads/one")), Some(id("1")));
        assert_eq!(find(Some("heads/one")), Some(id("1")));
        assert_eq!(find(Some("two")), None);
        let asked = String::from_utf8(list_request(Some("one"))).expect("a text");
        assert!(asked.contains("ref-prefix refs/tags/one\n"), "{asked}");
    }

    #[test]
    fn a_pack_comes_on_a_band_of_its_own() {
        let answer = b"0011shallow-info\n0001000dpackfile\n0008\x02abc0009\x01PACK0006\x01!0000";
        for chunk in [1, 3, 1000] {
            let mut receiver = PackReceiver::new(Vec::new());
            for bytes in answer.chunks(chunk) {
                receiver.push(bytes).expect("taken");
            }
            assert_eq!(receiver.finish().expect("whole"), b"PACK!");
        }
        let mut receiver = PackReceiver::new(Vec::new());
        receiver.push(&answer[..answer.len() - 4]).expect("taken");
        assert!(receiver.finish().is_err());
        let mut receiver = PackReceiver::new(Vec::new());
        let refused = receiver
            .push(b"000dpackfile\n0008\x03no!")
            .expect_err("refused");
        assert_eq!(refused.to_string(), "the git server says: no!");
    }
}
