//! Frames (section "STOMP Frames"): finding them in the input, reading them, writing them.
//!
//! The input is offered from the start of a frame on, again and with more behind it until the frame is whole. The decoder
//! remembers how far it has looked, so that each byte is looked at once however the frame is cut into pieces.

use std::borrow::Cow;

/// The version that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// STOMP 1.0.
    V10,
    /// STOMP 1.1.
    V11,
    /// STOMP 1.2.
    #[default]
    V12,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::V10, Self::V11, Self::V12];

    /// As clients write it.
    pub fn text(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// As operators see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V10 => "STOMP 1.0",
            Self::V11 => "STOMP 1.1",
            Self::V12 => "STOMP 1.2",
        }
    }
}

/// Bytes of a command: the longest that there is has 11.
pub const COMMAND_BYTES: usize = 32;

/// How large parts of a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a header line.
    pub line_bytes: usize,
    /// Header lines.
    pub headers: usize,
    /// Bytes of command and headers together.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
}

impl Limits {
    /// Before the client has logged in. A passcode may be a token of some kilobytes.
    pub const BEFORE_LOGIN: Self =
        Self { line_bytes: 16 * 1024, headers: 100, head_bytes: 32 * 1024, body_bytes: 1024 };

    /// Once it has, for bodies and heads of so many bytes. RabbitMQ takes as many headers.
    pub fn after_login(body_bytes: usize, head_bytes: usize) -> Self {
        Self { line_bytes: 64 * 1024, headers: 100, head_bytes, body_bytes }
    }
}

/// Bytes that are no frame, or one that is too large. Nothing behind them makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The command.
    pub command: &'a str,
    /// Headers in their order; of several with one name the first counts (section "Repeated Header Entries").
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The body.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// A header that is `true` or `false`; anything else is nothing, as for RabbitMQ.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.header(name)? {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            _ => None,
        }
    }

    /// A header that is a number; anything else is nothing, as for RabbitMQ.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.header(name)?.trim().parse().ok()
    }
}

/// Finds frames.
#[derive(Debug)]
pub struct Decoder {
    /// What holds for the next frame.
    pub limits: Limits,
    /// What the client speaks.
    pub version: Version,
    progress: Progress,
}

/// How far a frame has been looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    scanned: usize,
    /// Where the line begins that is being looked at.
    line: usize,
    /// Lines before it.
    lines: usize,
    content_length: Option<usize>,
    /// Bytes of command, headers and the empty line behind them.
    head: Option<usize>,
}

impl Decoder {
    /// A decoder for a client that has just come.
    pub fn new() -> Self {
        Self { limits: Limits::BEFORE_LOGIN, version: Version::V12, progress: Progress::default() }
    }

    /// Bytes at the start of `input` that lie between frames: line ends, which are heart-beats, and NULs, as RabbitMQ has it.
    pub fn noise(&self, input: &[u8]) -> usize {
        if self.progress.scanned > 0 {
            return 0;
        }
        input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0)).count()
    }

    /// The frame that `input` begins with, and its length in bytes; nothing if it is not whole. Then the same input is to
    /// be offered again with more behind it.
    ///
    /// # Errors
    /// If it is no frame or a part of it is too large, as soon as that is certain.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, Malformed> {
        let Some(head) = self.find_head(input)? else { return Ok(None) };
        let Some(end) = self.find_end(input, head)? else { return Ok(None) };
        self.progress = Progress::default();
        let frame = read(&input[..head], &input[head..end], self.version)?;
        Ok(Some((frame, end + 1)))
    }

    fn find_head(&mut self, input: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.progress.head.is_some() {
            return Ok(self.progress.head);
        }
        loop {
            let Progress { scanned, line, lines, .. } = self.progress;
            let found = input[scanned..].iter().position(|byte| matches!(byte, b'\n' | 0)).map(|at| scanned + at);
            let end = found.unwrap_or(input.len());
            if found.is_some_and(|at| input[at] == 0) {
                return Err(Malformed("the frame ends within its headers"));
            }
            if lines == 0 && end - line > COMMAND_BYTES {
                return Err(Malformed("the command is too long"));
            }
            if end - line > self.limits.line_bytes {
                return Err(Malformed("a header is too long"));
            }
            if end > self.limits.head_bytes {
                return Err(Malformed("the headers are too long"));
            }
            if found.is_none() {
                self.progress.scanned = end;
                return Ok(None);
            }
            (self.progress.scanned, self.progress.line) = (end + 1, end + 1);
            let text = without_cr(&input[line..end]);
            if text.is_empty() {
                self.progress.head = Some(end + 1);
                return Ok(self.progress.head);
            }
            if lines > self.limits.headers {
                return Err(Malformed("there are too many headers"));
            }
            self.progress.lines += 1;
            self.note_content_length(text)?;
        }
    }

    /// The length is looked at as soon as it is there, so that nothing of a body is kept that is too large.
    fn note_content_length(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let Some(value) = line.strip_prefix(b"content-length:") else { return Ok(()) };
        if self.progress.content_length.is_some() {
            return Ok(());
        }
        let text = std::str::from_utf8(value).map_err(|_| NOT_UTF8)?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(Malformed("content-length is not a number"));
        }
        // A number that has no place in memory is too large, too.
        let len = text.parse().unwrap_or(usize::MAX);
        if len > self.limits.body_bytes {
            return Err(TOO_LARGE);
        }
        self.progress.content_length = Some(len);
        Ok(())
    }

    /// Where the body ends, which is where its NUL is.
    fn find_end(&mut self, input: &[u8], head: usize) -> Result<Option<usize>, Malformed> {
        if let Some(len) = self.progress.content_length {
            return match input.get(head + len) {
                None => Ok(None),
                Some(0) => Ok(Some(head + len)),
                Some(_) => Err(Malformed("there is no NUL where content-length says that the body ends")),
            };
        }
        let scanned = self.progress.scanned;
        let found = input[scanned..].iter().position(|&byte| byte == 0).map(|at| scanned + at);
        self.progress.scanned = found.unwrap_or(input.len());
        if self.progress.scanned - head > self.limits.body_bytes {
            return Err(TOO_LARGE);
        }
        Ok(found)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

const NOT_UTF8: Malformed = Malformed("a header is not UTF-8");
const TOO_LARGE: Malformed = Malformed("the body is too large");

/// A line without the CR that STOMP 1.2 allows before its LF. RabbitMQ takes it in every version.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn read<'a>(head: &'a [u8], body: &'a [u8], version: Version) -> Result<Frame<'a>, Malformed> {
    let mut lines = head.split(|&byte| byte == b'\n').map(without_cr).take_while(|line| !line.is_empty());
    let command = lines.next().unwrap_or_default();
    let command = std::str::from_utf8(command).map_err(|_| Malformed("the command is not UTF-8"))?;
    // CONNECT is read before there is a version, so nothing in it is escaped (section "Value Encoding").
    let version = if matches!(command, "CONNECT" | "STOMP" | "CONNECTED") { Version::V10 } else { version };
    let mut headers = Vec::new();
    for line in lines {
        let line = std::str::from_utf8(line).map_err(|_| NOT_UTF8)?;
        let (name, value) = line.split_once(':').ok_or(Malformed("a header has no colon"))?;
        if name.is_empty() {
            return Err(Malformed("a header has no name"));
        }
        headers.push((unescape(name, version)?, unescape(value, version)?));
    }
    Ok(Frame { command, headers, body })
}

/// A name or value without escapes (section "Value Encoding"). STOMP 1.0 has none; 1.1 does not have that of CR.
fn unescape(text: &str, version: Version) -> Result<Cow<'_, str>, Malformed> {
    if version == Version::V10 || !text.contains('\\') {
        return Ok(text.into());
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next != '\\' {
            out.push(next);
            continue;
        }
        out.push(match chars.next() {
            Some('n') => '\n',
            Some('c') => ':',
            Some('\\') => '\\',
            Some('r') if version == Version::V12 => '\r',
            _ => return Err(Malformed("a header has an escape that there is not")),
        });
    }
    Ok(out.into())
}

/// Whether a name or value can be told in a version, so that nothing but it is told.
pub fn can_tell(text: &str, version: Version) -> bool {
    let never: &[char] = match version {
        Version::V10 => &['\0', '\r', '\n'],
        Version::V11 => &['\0', '\r'],
        Version::V12 => &['\0'],
    };
    !text.contains(never)
}

/// Appends text with escapes.
fn put_escaped(out: &mut Vec<u8>, text: &str, version: Version) {
    if version == Version::V10 {
        return out.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b':' => out.extend_from_slice(b"\\c"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => out.push(byte),
        }
    }
}

/// Appends a header line, unless its name or value cannot be told in this version.
pub fn put_header(out: &mut Vec<u8>, name: &str, value: &str, version: Version) {
    let is_split = version == Version::V10 && name.contains(':');
    if is_split || !can_tell(name, version) || !can_tell(value, version) {
        return;
    }
    put_escaped(out, name, version);
    out.push(b':');
    put_escaped(out, value, version);
    out.push(b'\n');
}

/// What a frame ends with: its NUL, and a line end that makes it readable, as RabbitMQ sends.
pub const FRAME_END: &[u8] = b"\0\n";

/// Appends what stands between headers and body.
pub fn put_body_head(out: &mut Vec<u8>, len: usize) {
    if len > 0 {
        out.extend_from_slice(format!("content-length:{len}\n").as_bytes());
    }
    out.push(b'\n');
}

/// A whole frame.
pub fn frame(command: &str, headers: &[(&str, &str)], body: &[u8], version: Version) -> Vec<u8> {
    // What is told before there is a version is not escaped.
    let version = if command == "CONNECTED" { Version::V10 } else { version };
    let mut out = Vec::with_capacity(64 + body.len());
    out.extend_from_slice(command.as_bytes());
    out.push(b'\n');
    headers.iter().for_each(|(name, value)| put_header(&mut out, name, value, version));
    put_body_head(&mut out, body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(FRAME_END);
    out
}

#[cfg(test)]
mod tests;
