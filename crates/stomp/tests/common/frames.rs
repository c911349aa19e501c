//! Frames as scripts have them: `SEND destination:/queue/q foo:"a b" "the body"`.
//!
//! Headers are words with a colon, and the body is a word in quotes; quotes stand around what has blanks in it. `\n`, `\r`, `\0`,
//! `\\` and `\"` in quotes are bytes. `raw "…"` is bytes without a frame around them. The body of
//! an answer that does not tell its length has `text` before it.

/// The words of a line.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut chars) = (Vec::new(), String::new(), false, line.chars());
    while let Some(next) = chars.next() {
        match next {
            '"' => {
                is_quoted = !is_quoted;
                word.push('"');
            }
            '\\' if is_quoted => word.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('0') => '\0',
                // A quote of the text, which is told from those around it further down.
                Some('"') => '\u{1}',
                Some(other) => other,
                None => '\\',
            }),
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            next => word.push(next),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn plain(word: &str) -> String {
    word.replace('"', "").replace('\u{1}', "\"")
}

/// The bytes of a line; `session` is what the client's message ids have for `S`.
pub fn encode(line: &str, session: &str) -> Vec<u8> {
    let words = words(line);
    if words[0] == "raw" {
        return plain(&words[1]).into_bytes();
    }
    let mut out = format!("{}\n", words[0]);
    let mut body = String::new();
    for word in &words[1..] {
        if word.starts_with('"') {
            body = plain(word);
        } else {
            out.push_str(&plain(word).replace("@@S@@", &format!("@@{session}@@")));
            out.push('\n');
        }
    }
    format!("{out}\n{body}\0").into_bytes()
}

/// Text in quotes, if it needs them.
fn shown(text: &str) -> String {
    if text.is_empty() || text.contains([' ', '\n', '\r', '\0', '"']) { quoted(text) } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    let mut text = text.replace('\\', "\\\\").replace('"', "\\\"");
    for (byte, escape) in [("\n", "\\n"), ("\r", "\\r"), ("\0", "\\0")] {
        text = text.replace(byte, escape);
    }
    format!("\"{text}\"")
}

/// The frames in what a client got, as lines. Heart-beats are `beat`.
pub fn decode(mut bytes: &[u8], session: &mut String) -> Vec<String> {
    let mut lines = Vec::new();
    while let [first, rest @ ..] = bytes {
        if *first == b'\n' {
            lines.push("beat".to_owned());
            bytes = rest;
            continue;
        }
        let head_len = bytes.windows(2).position(|pair| pair == b"\n\n").expect("a frame has an empty line");
        let head = std::str::from_utf8(&bytes[..head_len]).expect("headers are text");
        let mut parts = head.split('\n');
        let mut line = parts.next().expect("a frame has a command").to_owned();
        let mut body_len = None;
        for header in parts {
            let (name, value) = header.split_once(':').expect("a header has a colon");
            if line == "CONNECTED" && name == "session" {
                *session = value.to_owned();
            }
            match name {
                "content-length" => body_len = Some(value.parse().expect("content-length is a number")),
                "session" | "server" => {}
                "version" | "content-type" if line.starts_with("ERROR") => {}
                _ if session.is_empty() => line.push_str(&format!(" {name}:{}", shown(value))),
                _ => line.push_str(&format!(" {name}:{}", shown(&value.replace(&*session, "S")))),
            }
        }
        let rest = &bytes[head_len + 2..];
        let to_nul = || rest.iter().position(|&byte| byte == 0).expect("a frame has its end");
        let is_measured = body_len.is_some();
        let body_len = body_len.unwrap_or_else(to_nul);
        let body = &rest[..body_len];
        if body_len > 0 {
            let text = String::from_utf8_lossy(body);
            let text = if session.is_empty() { text.into_owned() } else { text.replace(&*session, "S") };
            let kind = if is_measured { "" } else { " text" };
            line.push_str(&format!("{kind} {}", quoted(&text)));
        }
        lines.push(line);
        bytes = bytes[head_len + 2 + body_len..].strip_prefix(b"\0\n").expect("a frame has its end");
    }
    lines
}
