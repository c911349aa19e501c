//! The words of a selector.

use std::fmt;

use super::{SelectorError, error_at};

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Identifier(String),
    Keyword(Keyword),
    Text(String),
    /// The magnitude alone: a sign is an operator, and -9223372036854775808 is a number.
    Integer(u64),
    Float(f64),
    /// An operator, a parenthesis or a comma.
    Symbol(&'static str),
    End,
}

/// The reserved words. No identifier can be one, in whatever case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Between,
    Escape,
    False,
    In,
    Is,
    Like,
    Not,
    Null,
    Or,
    True,
}

const KEYWORDS: [(&str, Keyword); 11] = [
    ("AND", Keyword::And),
    ("BETWEEN", Keyword::Between),
    ("ESCAPE", Keyword::Escape),
    ("FALSE", Keyword::False),
    ("IN", Keyword::In),
    ("IS", Keyword::Is),
    ("LIKE", Keyword::Like),
    ("NOT", Keyword::Not),
    ("NULL", Keyword::Null),
    ("OR", Keyword::Or),
    ("TRUE", Keyword::True),
];

/// Those of two characters first, since they begin with others.
const SYMBOLS: [&str; 13] = ["<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "(", ")", ","];

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identifier(name) => write!(f, "'{name}'"),
            Self::Keyword(keyword) => {
                let name = KEYWORDS.iter().find(|(_, known)| known == keyword).map_or("", |(name, _)| name);
                f.write_str(name)
            }
            Self::Text(_) => f.write_str("a string"),
            Self::Integer(_) | Self::Float(_) => f.write_str("a number"),
            Self::Symbol(symbol) => write!(f, "'{symbol}'"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Takes a selector apart.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    /// The byte that comes next.
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next word, with the byte where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token), SelectorError> {
        self.at = self.text.len() - self.rest().trim_start().len();
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok((start, Token::End)) };
        let token = match first {
            '\'' => self.string()?,
            '0'..='9' => self.number()?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            _ if is_identifier_start(first) => self.word(),
            _ => match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Token::Symbol(symbol)
                }
                None => return error_at(self.text, start, format!("'{first}' has no meaning here")),
            },
        };
        Ok((start, token))
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        let len = rest.find(|c| !is_identifier_part(c)).unwrap_or(rest.len());
        self.at += len;
        let word = &rest[..len];
        let keyword = KEYWORDS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        keyword.map_or_else(|| Token::Identifier(word.into()), |(_, keyword)| Token::Keyword(keyword))
    }

    /// A string ends at a quote that no second one follows; two quotes stand for one.
    fn string(&mut self) -> Result<Token, SelectorError> {
        let mut value = String::new();
        let mut at = self.at + 1;
        loop {
            let rest = &self.text[at..];
            let Some(len) = rest.find('\'') else { return error_at(self.text, self.at, "the string has no end") };
            value.push_str(&rest[..len]);
            at += len + 1;
            if !self.text[at..].starts_with('\'') {
                self.at = at;
                return Ok(Token::Text(value));
            }
            value.push('\'');
            at += 1;
        }
    }

    /// A number as Java writes it: decimal, hexadecimal or octal, perhaps with a suffix for its type.
    fn number(&mut self) -> Result<Token, SelectorError> {
        let rest = self.rest();
        let len = number_len(rest);
        let (start, word) = (self.at, &rest[..len]);
        self.at += len;
        if self.rest().starts_with(is_identifier_part) {
            return error_at(self.text, start, "a number cannot have letters");
        }
        let lower = word.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("0x") {
            return self.integer(start, digits.trim_end_matches('l'), 16);
        }
        if lower.contains(['.', 'e', 'f', 'd']) {
            let digits = lower.trim_end_matches(['f', 'd']);
            return match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Token::Float(value)),
                _ => error_at(self.text, start, format!("'{word}' is not a number")),
            };
        }
        let digits = lower.trim_end_matches('l');
        let radix = if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 };
        self.integer(start, digits, radix)
    }

    fn integer(&self, start: usize, digits: &str, radix: u32) -> Result<Token, SelectorError> {
        match u64::from_str_radix(digits, radix) {
            // -2^63 is a number, 2^63 is not; the parser knows the sign.
            Ok(value) if value <= 1 << 63 => Ok(Token::Integer(value)),
            _ => error_at(self.text, start, format!("'{digits}' is not a whole number of 64 bits with base {radix}")),
        }
    }
}

/// Bytes of the number at the start of `text`.
fn number_len(text: &str) -> usize {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let suffix = |at: usize, letters: &[u8]| text.as_bytes().get(at).is_some_and(|byte| letters.contains(byte));
    if text.starts_with("0x") || text.starts_with("0X") {
        let len = 2 + text[2..].bytes().take_while(u8::is_ascii_hexdigit).count();
        return len + usize::from(suffix(len, b"lL"));
    }
    let mut len = digits(0);
    let whole = len;
    if suffix(len, b".") {
        len += 1 + digits(len + 1);
    }
    if suffix(len, b"eE") {
        let sign = usize::from(suffix(len + 1, b"+-"));
        let exponent = digits(len + 1 + sign);
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let suffixes: &[u8] = if len == whole { b"lLfFdD" } else { b"fFdD" };
    len + usize::from(suffix(len, suffixes))
}

fn is_identifier_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

/// The dot is no part of a Java identifier, but RabbitMQ's JMS client takes it, and headers have such names.
fn is_identifier_part(c: char) -> bool {
    is_identifier_start(c) || c.is_numeric() || c == '.'
}
