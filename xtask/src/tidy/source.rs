//! Just enough of Rust's grammar to tell code from comments and texts, and to find functions.

use std::ops::Range;

/// The source with everything in comments, strings and character literals replaced by spaces, so that places stay.
pub fn code_of(source: &str) -> String {
    let mut scanner = Scanner { rest: source, code: String::with_capacity(source.len()) };
    while let Some(next) = scanner.rest.chars().next() {
        scanner.step(next);
    }
    scanner.code
}

struct Scanner<'a> {
    rest: &'a str,
    code: String,
}

impl Scanner<'_> {
    fn step(&mut self, next: char) {
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if let Some(length) = raw_string(self.rest).filter(|_| !self.is_in_word()) {
            self.blank(length);
        } else if next == '"' {
            self.blank(quoted(self.rest, '"'));
        } else if next == '\'' && is_character(self.rest) {
            self.blank(quoted(self.rest, '\''));
        } else {
            self.code.push(next);
            self.rest = &self.rest[next.len_utf8()..];
        }
    }

    fn is_in_word(&self) -> bool {
        self.code.ends_with(is_word)
    }

    fn blank(&mut self, length: usize) {
        let (blanked, rest) = self.rest.split_at(length);
        self.code.extend(blanked.chars().map(|each| if each == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

pub fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the raw string that `text` begins with.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let start = prefix.len() + hashes;
    let content = text[start..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(content.find(&close).map_or(text.len(), |end| start + 1 + end + close.len()))
}

/// The length of a literal with escapes, with both of its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, each) in text.char_indices().skip(1) {
        match each {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if each == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a quote opens a character, and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut rest = text.chars().skip(1);
    match rest.next() {
        Some('\\') => true,
        Some(_) => rest.next() == Some('\''),
        None => false,
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// From one.
    pub line: usize,
    pub lines: usize,
}

/// All functions in what `code_of` returned, in the order in which they begin.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let after = code[at + word.len()..].trim_start();
        let name: String = after.chars().take_while(|each| is_word(*each)).collect();
        if word != "fn" || name.is_empty() {
            continue;
        }
        if let Some(body) = body(code, at) {
            let lines = code[at..body.end].matches('\n').count() + 1;
            found.push(Function { name, line: line_of(code, at), lines });
        }
    }
    found
}

/// The braces that follow a signature, unless it ends with a semicolon.
fn body(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0;
    let mut start = None;
    for (offset, each) in code[from..].char_indices() {
        match each {
            ';' if depth == 0 => return None,
            '{' if depth == 0 => start = Some(from + offset),
            _ => {}
        }
        match each {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if each == '}' && depth == 0 {
            return start.map(|start| start..from + offset + 1);
        }
    }
    None
}

/// The words of the code (identifiers, keywords, numbers) and where they are.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += code[at..].find(is_word)?;
        let start = at;
        at += code[start..].find(|each| !is_word(each)).unwrap_or(code.len() - start);
        Some((start, &code[start..at]))
    })
}

pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_not_code() {
        let source = "let a = \"x \\\" y\"; // b\nlet c = '\\''; /* d /* e */ f */ let g = r#\"h\"i\"#;";
        let code = code_of(source);
        assert_eq!(code.len(), source.len());
        assert_eq!(words(&code).map(|(_, word)| word).collect::<Vec<_>>(), ["let", "a", "let", "c", "let", "g"]);
    }

    #[test]
    fn lifetimes_and_words_that_end_in_r_stay() {
        assert_eq!(code_of("fn f<'a>(x: &'a str) { bar(b'{', \"}\") }"), "fn f<'a>(x: &'a str) { bar(b   ,    ) }");
        assert_eq!(code_of("for\"x\""), "for   ");
    }

    #[test]
    fn functions_have_their_length() {
        let source =
            "trait T { fn none(&self) -> [u8; 4]; }\nfn long(f: fn(u8))\n{\n    if x { y }\n}\nfn short() {}\n";
        let function = |name: &str, line, lines| Function { name: name.to_owned(), line, lines };
        assert_eq!(functions(&code_of(source)), [function("long", 2, 4), function("short", 6, 1)]);
    }
}
