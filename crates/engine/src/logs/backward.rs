//! Finding where the last lines of a log begin without reading it from its start.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

const BLOCK: usize = 64 * 1024;

/// How a partial entry ends in json-file format: its text has no newline, so the closing quote follows directly.
const WHOLE_LINE: &[u8] = b"\\n\",\"stream\"";

/// The file (as index) and offset at which the last `lines` whole lines begin. An entry without a newline in its text
/// belongs to the line it is completed by.
pub(super) fn nth_last_line(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut missing = lines;
    for (index, path) in files.iter().enumerate().rev() {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if missing == 0 {
            return Ok((index, file.metadata()?.len()));
        }
        match start_in(file, missing)? {
            Ok(offset) => return Ok((index, offset)),
            Err(found) => missing -= found,
        }
    }
    Ok((0, 0))
}

/// `Ok(offset)` where the wanted lines begin, or `Err(how many lines there are)` if they are too few.
fn start_in(mut file: File, wanted: u64) -> io::Result<Result<u64, u64>> {
    let mut end = file.metadata()?.len();
    let mut kept: Vec<u8> = Vec::new();
    let mut found = 0;
    // Walks entries from the last to the first; `end` is where the entry before the kept bytes ends.
    loop {
        let start = end.saturating_sub(BLOCK as u64);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(BLOCK)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.extend_from_slice(&kept);
        let mut right = block.len();
        while let Some(newline) = memchr_back(&block[..right.saturating_sub(1)]) {
            if is_whole(&block[newline + 1..right]) {
                if found == wanted {
                    return Ok(Ok(start + right as u64));
                }
                found += 1;
            }
            right = newline + 1;
        }
        kept = block[..right].to_vec();
        end = start;
        if start == 0 {
            if is_whole(&kept) {
                if found == wanted {
                    return Ok(Ok(kept.len() as u64));
                }
                found += 1;
            }
            return Ok(if found >= wanted { Ok(0) } else { Err(found) });
        }
    }
}

fn is_whole(entry: &[u8]) -> bool {
    entry
        .windows(WHOLE_LINE.len())
        .any(|window| window == WHOLE_LINE)
}

fn memchr_back(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn entry(text: &str) -> String {
        format!(
            "{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:00Z\"}}\n",
            serde_json::json!(text)
        )
    }

    fn check(older: &[&str], newer: &[&str], lines: u64, expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (name, texts) in [("log.1", older), ("log", newer)] {
            let path = dir.path().join(name);
            let mut file = File::create(&path).unwrap();
            for text in texts {
                file.write_all(entry(text).as_bytes()).unwrap();
            }
            paths.push(path);
        }
        let (index, offset) = nth_last_line(&paths, lines).unwrap();
        let mut rest = String::new();
        for (at, path) in paths.iter().enumerate().skip(index) {
            let mut file = File::open(path).unwrap();
            if at == index {
                file.seek(SeekFrom::Start(offset)).unwrap();
            }
            file.read_to_string(&mut rest).unwrap();
        }
        assert_eq!(
            rest,
            expected.iter().map(|text| entry(text)).collect::<String>()
        );
    }

    #[test]
    fn the_last_lines_are_found_across_files() {
        let (older, newer) = (["a\n", "b\n"], ["c\n", "d\n", "e\n"]);
        check(&older, &newer, 0, &[]);
        check(&older, &newer, 1, &["e\n"]);
        check(&older, &newer, 3, &["c\n", "d\n", "e\n"]);
        check(&older, &newer, 4, &["b\n", "c\n", "d\n", "e\n"]);
        check(&older, &newer, 99, &["a\n", "b\n", "c\n", "d\n", "e\n"]);
        check(&[], &[], 5, &[]);
    }

    #[test]
    fn a_partial_entry_goes_with_the_line_that_completes_it() {
        check(&[], &["a\n", "long ", "line\n"], 1, &["long ", "line\n"]);
        check(&[], &["a\n", "no end"], 1, &["a\n", "no end"]);
    }

    #[test]
    fn blocks_are_joined() {
        let long = format!("{}\n", "x".repeat(BLOCK + 17));
        check(&[], &["a\n", &long, "b\n"], 2, &[&long, "b\n"]);
    }
}
