//! What a pure crate must not mention, in its code and outside of comments and texts.

use super::crates::{Crate, Rule};
use super::source::{self, is_word};
use super::{Finding, Text};

pub fn check(file: &Text, code: &str) -> Vec<Finding> {
    let Some(owner) = Crate::of(&file.path) else { return Vec::new() };
    if !file.path[owner.folder.len()..].starts_with("/src/") {
        return Vec::new();
    }
    owner.never.iter().flat_map(|rule| rule.findings(file, code)).collect()
}

impl Rule {
    fn findings(&self, file: &Text, code: &str) -> Vec<Finding> {
        let found =
            |at| file.finding(source::line_of(code, at), format!("`{}` doesn't belong in this crate", self.text()));
        match self {
            Self::Path(path) => {
                code.match_indices(path).filter(|(at, _)| is_whole(code, *at, path)).map(|(at, _)| found(at)).collect()
            }
            Self::Part(part) => {
                source::words(code).filter(|(_, word)| mentions(word, part)).map(|(at, _)| found(at)).collect()
            }
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Path(text) | Self::Part(text) => text,
        }
    }
}

fn mentions(word: &str, part: &str) -> bool {
    word.to_ascii_lowercase().contains(part)
}

/// Whether the match is not a part of a longer word, nor a field or method of that name.
fn is_whole(code: &str, at: usize, path: &str) -> bool {
    let before = code[..at].chars().next_back();
    let after = code[at + path.len()..].chars().next();
    let is_member = before == Some('.') || after == Some('(') && !path.contains("::");
    !is_member && !before.is_some_and(is_word) && (path.ends_with(':') || !after.is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, content: &str) -> usize {
        let file = Text { path: path.to_owned(), content: content.to_owned() };
        check(&file, &source::code_of(content)).len()
    }

    #[test]
    fn a_pure_crate_has_no_clock() {
        assert_eq!(findings("crates/broker/src/a.rs", "let now = Instant::now();"), 1);
        assert_eq!(findings("crates/server/src/a.rs", "let now = Instant::now();"), 0);
        assert_eq!(findings("crates/broker/src/a.rs", "// Instant::now()\nlet operand = \"rand\";"), 0);
    }

    #[test]
    fn protocols_hide_in_names() {
        assert_eq!(findings("crates/broker/src/a.rs", "struct AmqpTable;"), 1);
        assert_eq!(findings("crates/store/src/a.rs", "fn to_queue() {} // of a queue\nlet x: VecDeque<u8>;"), 1);
        assert_eq!(findings("crates/amqp091/src/a.rs", "use store::Log; fn restore() {} self.store.x()"), 1);
    }
}
