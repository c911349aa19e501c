//! What a pure crate must not mention, in its code and outside of comments and texts.

use super::source::{self, is_word};
use super::{Finding, Text};

enum Rule {
    /// A path such as `std::fs`, or a single word, as it is.
    Path(&'static str),
    /// A part of any name, in upper or lower case.
    Part(&'static str),
}

use Rule::{Part, Path};

/// Each crate that has no clock, no socket and no neighbour, and what would give it one.
const FORBIDDEN: [(&str, &[Rule]); 3] = [
    (
        "crates/broker/src/",
        &[
            Part("tokio"),
            Part("amqp"),
            Part("mqtt"),
            Part("stomp"),
            Part("openwire"),
            Part("http"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("rand"),
            Path("getrandom"),
            Path("store"),
        ],
    ),
    (
        "crates/store/src/",
        &[
            Part("tokio"),
            Part("queue"),
            Part("exchange"),
            Part("amqp"),
            Part("mqtt"),
            Part("stomp"),
            Part("openwire"),
            Path("broker"),
        ],
    ),
    (
        "crates/amqp091/src/",
        &[
            Part("tokio"),
            Part("mqtt"),
            Part("stomp"),
            Part("openwire"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("store::"),
        ],
    ),
];

pub fn check(file: &Text, code: &str) -> Vec<Finding> {
    let rules = FORBIDDEN.iter().filter(|(folder, _)| file.path.starts_with(folder)).flat_map(|(_, rules)| *rules);
    rules.flat_map(|rule| rule.findings(file, code)).collect()
}

impl Rule {
    fn findings(&self, file: &Text, code: &str) -> Vec<Finding> {
        let found =
            |at| file.finding(source::line_of(code, at), format!("`{}` doesn't belong in this crate", self.text()));
        match self {
            Path(path) => {
                code.match_indices(path).filter(|(at, _)| is_whole(code, *at, path)).map(|(at, _)| found(at)).collect()
            }
            Part(part) => {
                source::words(code).filter(|(_, word)| mentions(word, part)).map(|(at, _)| found(at)).collect()
            }
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Path(text) | Part(text) => text,
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
