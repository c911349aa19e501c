//! Patterns of `LIKE`.

use crate::limits;

/// A pattern, taken apart: `%` stands for any text, `_` for any one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    One,
    Many,
}

impl Pattern {
    /// Reads a pattern. A character after `escape` stands for itself.
    ///
    /// # Errors
    /// If it is longer than [`limits::LIKE_CHARS`] or ends with the escape character.
    pub(super) fn new(text: &str, escape: Option<char>) -> Result<Self, String> {
        if text.chars().nth(limits::LIKE_CHARS).is_some() {
            return Err(format!("a pattern has at most {} characters", limits::LIKE_CHARS));
        }
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                _ if Some(c) == escape => {
                    Piece::Char(chars.next().ok_or("there is nothing behind the escape character")?)
                }
                '%' => Piece::Many,
                '_' => Piece::One,
                _ => Piece::Char(c),
            });
        }
        Ok(Self(pieces))
    }

    /// Whether the whole of `text` has this form. Only the last `%` that was passed is ever tried again with more text,
    /// which is enough and keeps the work below pattern × text.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (mut at, mut rest) = (0, text);
        let mut again = None;
        loop {
            let first = rest.chars().next();
            match (self.0.get(at), first) {
                (Some(Piece::Many), _) => {
                    at += 1;
                    again = Some((at, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(Piece::One), Some(c)) => {
                    (at, rest) = (at + 1, &rest[c.len_utf8()..]);
                    continue;
                }
                (Some(Piece::Char(wanted)), Some(c)) if *wanted == c => {
                    (at, rest) = (at + 1, &rest[c.len_utf8()..]);
                    continue;
                }
                _ => {}
            }
            let Some((after, from)) = again else { return false };
            let Some(skipped) = from.chars().next() else { return false };
            (at, rest) = (after, &from[skipped.len_utf8()..]);
            again = Some((at, rest));
        }
    }
}
