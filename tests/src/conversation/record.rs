//! Transcripts in a file, and the list of differences that are known and wanted.

use std::fmt::Write;
use std::path::Path;

use super::Transcript;

/// A conversation in which we differ on purpose.
pub struct Explained {
    pub name: String,
    pub reason: String,
}

pub fn write_record(path: &Path, server: &str, transcripts: &[Transcript]) -> std::io::Result<()> {
    let mut text =
        format!("# What {server} answered. Written by `conversations --record`; `>` is the client, `<` the server.\n");
    for transcript in transcripts {
        let _ = write!(text, "\n== {}\n{}\n", transcript.name, transcript.lines.join("\n"));
    }
    std::fs::write(path, text)
}

pub fn read_record(path: &Path) -> std::io::Result<Vec<Transcript>> {
    let mut transcripts: Vec<Transcript> = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            transcripts.push(Transcript { name: name.to_owned(), lines: Vec::new() });
        } else if line.starts_with(['<', '>', '!']) {
            let last = transcripts.last_mut().expect("a heading stands before the first line");
            last.lines.push(line.to_owned());
        }
    }
    Ok(transcripts)
}

/// Lines of `name: reason`; `#` begins a comment.
pub fn read_explained(path: &Path) -> std::io::Result<Vec<Explained>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let explained = lines.map(|line| {
        let (name, reason) = line.split_once(": ").unwrap_or_else(|| panic!("{line} gives no reason"));
        Explained { name: name.to_owned(), reason: reason.to_owned() }
    });
    Ok(explained.collect())
}
