//! A small blocking STOMP 1.2 client that shares no code with the broker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::raw::PATIENCE;

/// A frame, its headers in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub command: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Frame {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection of the user `guest`.
pub struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let mut connection = Self { stream, inbox: Vec::new() };
        connection.send("CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n", b"");
        assert_eq!(connection.frame().command, "CONNECTED");
        connection
    }

    /// Sends a frame: its command and its headers, each with a line feed behind it.
    pub fn send(&mut self, head: &str, body: &[u8]) {
        let frame = [head.as_bytes(), b"\n", body, b"\0"].concat();
        self.stream.write_all(&frame).expect("the broker reads");
    }

    /// Sends a frame and awaits its receipt.
    pub fn call(&mut self, head: &str, body: &[u8]) {
        self.send(&format!("{head}receipt:r\n"), body);
        let answer = self.frame();
        assert_eq!(answer.command, "RECEIPT", "{head}: {answer:?}");
    }

    /// The next frame.
    pub fn frame(&mut self) -> Frame {
        loop {
            if let Some((frame, length)) = split(&self.inbox) {
                self.inbox.drain(..length);
                return frame;
            }
            let mut buffer = [0; 16_384];
            let length = self.stream.read(&mut buffer).expect("a frame in time");
            assert!(length > 0, "the broker hung up after {}", self.inbox.escape_ascii());
            self.inbox.extend_from_slice(&buffer[..length]);
        }
    }
}

/// The first frame, and how many bytes it has with the line feeds before it.
fn split(bytes: &[u8]) -> Option<(Frame, usize)> {
    let start = bytes.iter().take_while(|&&byte| byte == b'\n').count();
    let end = start + bytes[start..].windows(2).position(|two| two == b"\n\n")?;
    let head = String::from_utf8(bytes[start..end].to_vec()).expect("headers are UTF-8");
    let mut lines = head.split('\n');
    let command = lines.next().unwrap_or_default().to_owned();
    let header = |line: &str| line.split_once(':').map(|(name, value)| (unescaped(name), unescaped(value)));
    let headers = lines.map(|line| header(line).expect("a header has a colon")).collect();
    let mut frame = Frame { command, headers, body: Vec::new() };
    let body = &bytes[end + 2..];
    let length = match frame.header("content-length") {
        Some(length) => length.parse().expect("a length"),
        None => body.iter().position(|&byte| byte == 0)?,
    };
    frame.body = body.get(..length)?.to_vec();
    body.get(length).map(|_| (frame, end + 2 + length + 1))
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\r", "\r").replace("\\c", ":").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_when_they_are_whole() {
        let bytes = b"\nMESSAGE\na\\cb:c\\nd\ncontent-length:3\n\nx\0y\0rest";
        let (frame, length) = split(bytes).unwrap();
        assert_eq!((frame.header("a:b"), &frame.body[..], length), (Some("c\nd"), &b"x\0y"[..], bytes.len() - 4));
        assert!((0..length).all(|end| split(&bytes[..end]).is_none()));
        assert_eq!(split(b"A\nb:c\n\nbody\0").unwrap().0.body, b"body");
    }
}
