//! WebSocket (RFC 6455): a stream of bytes to the driver, frames on the wire.
//!
//! Frames are taken apart as they come, so that neither their length nor their number costs memory: what bounds the size
//! of packets is the session behind. Only control frames are kept, of 125 bytes at most.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tungstenite::{
    handshake::{
        machine::TryParse,
        server::{Request, create_response, write_response},
    },
    http::{HeaderValue, StatusCode},
    protocol::frame::{
        FrameHeader,
        coding::{CloseCode, Control, Data, OpCode},
    },
};

/// Bytes of a request's head.
const REQUEST_BYTES: usize = 8 * 1024;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Bytes of one frame that is written.
const FRAME_BYTES: usize = 64 * 1024;

/// Bytes that wait to be written, above which nothing is read: more than one frame, so that only pongs reach it.
const OUT_BYTES: usize = 2 * FRAME_BYTES;

/// Bytes of a control frame's payload at most (section 5.5).
const CONTROL_BYTES: u64 = 125;

/// What clients of a listener may ask for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The paths.
    pub paths: &'static [&'static str],
    /// The sub-protocols, one of which a client must name if it names any.
    pub protocols: &'static [&'static str],
    /// The origins of pages that may connect; any if there are none.
    pub origins: Vec<String>,
    /// Whether text frames are taken, as bytes like others.
    pub takes_text: bool,
}

/// Takes the request of a client that wants to speak WebSocket, and answers it. Returns the sub-protocol, too, if there is one.
///
/// # Errors
/// If the request is none, or asks for what there is not. The client has been told.
pub async fn accept<S>(mut stream: S, terms: &Terms) -> io::Result<(WebSocket<S>, Option<&'static str>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = Vec::new();
    let (len, request) = loop {
        match Request::try_parse(&received) {
            Ok(Some(found)) => break found,
            Ok(None) if received.len() < REQUEST_BYTES => {}
            Ok(None) => return refuse(&mut stream, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).await,
            Err(_) => return refuse(&mut stream, StatusCode::BAD_REQUEST).await,
        }
        let mut more = [0; 1024];
        let read = stream.read(&mut more).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&more[..read]);
    };
    let protocol = match check(&request, terms) {
        Ok(protocol) => protocol,
        Err(status) => return refuse(&mut stream, status).await,
    };
    let Ok(mut response) = create_response(&request) else {
        return refuse(&mut stream, StatusCode::BAD_REQUEST).await;
    };
    if let Some(protocol) = protocol {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
    }
    let mut answer = Vec::new();
    write_response(&mut answer, &response).map_err(io::Error::other)?;
    stream.write_all(&answer).await?;
    stream.flush().await?;
    let takes_text = terms.takes_text && protocol.is_none_or(|protocol| protocol.ends_with("stomp"));
    Ok((WebSocket::new(stream, received.split_off(len), takes_text), protocol))
}

/// Whether a request may be granted, and with which sub-protocol.
fn check(request: &Request, terms: &Terms) -> Result<Option<&'static str>, StatusCode> {
    if !terms.paths.contains(&request.uri().path()) {
        return Err(StatusCode::NOT_FOUND);
    }
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(origin) = header("Origin")
        && !terms.origins.is_empty()
        && !terms.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    {
        return Err(StatusCode::FORBIDDEN);
    }
    let offered = request.headers().get_all("Sec-WebSocket-Protocol").iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).collect();
    if offered.is_empty() {
        return Ok(None);
    }
    let known = terms.protocols.iter().find(|known| offered.contains(known));
    known.map(|known| Some(*known)).ok_or(StatusCode::BAD_REQUEST)
}

async fn refuse<S, T>(stream: &mut S, status: StatusCode) -> io::Result<T>
where
    S: AsyncWrite + Unpin,
{
    let text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Err(io::Error::other(format!("the request was answered with {status}")))
}

/// A connection over WebSocket, once the request has been granted.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    /// What has been read, from `taken` on.
    received: Vec<u8>,
    taken: usize,
    /// The data frame that is being read.
    frame: Option<Frame>,
    /// Whether a message has begun whose last frame has not.
    is_within_message: bool,
    takes_text: bool,
    /// What is to be written.
    out: Vec<u8>,
    written: usize,
    /// Whether nothing more is to be read.
    is_over: bool,
    /// Whether the last frame has been written.
    has_closed: bool,
}

/// What is left of a frame's payload.
#[derive(Debug)]
struct Frame {
    left: u64,
    mask: [u8; 4],
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn new(stream: S, received: Vec<u8>, takes_text: bool) -> Self {
        Self {
            takes_text,
            stream,
            received,
            taken: 0,
            frame: None,
            is_within_message: false,
            out: Vec::new(),
            written: 0,
            is_over: false,
            has_closed: false,
        }
    }

    /// Reads more. Returns whether there was any.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.received.drain(..self.taken);
        self.taken = 0;
        let kept = self.received.len();
        self.received.resize(kept + READ_BYTES, 0);
        let mut space = ReadBuf::new(&mut self.received[kept..]);
        let outcome = Pin::new(&mut self.stream).poll_read(context, &mut space);
        let len = space.filled().len();
        self.received.truncate(kept + len);
        if kept + len == 0 {
            // Nothing is kept by a connection that has nothing to keep.
            self.received = Vec::new();
        }
        ready!(outcome)?;
        Poll::Ready(Ok(len > 0))
    }

    /// Takes the head of the next frame; nothing if it is not all there.
    fn next_frame(&mut self) -> Result<Option<()>, CloseCode> {
        let mut cursor = Cursor::new(&self.received[self.taken..]);
        let Some((header, len)) = FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::Protocol)? else {
            return Ok(None);
        };
        let head = cursor.position() as usize;
        let Some(mask) = header.mask else { return Err(CloseCode::Protocol) };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(CloseCode::Protocol);
        }
        match header.opcode {
            OpCode::Data(kind) => {
                match kind {
                    Data::Binary if !self.is_within_message => {}
                    Data::Text if self.takes_text && !self.is_within_message => {}
                    Data::Continue if self.is_within_message => {}
                    // Packets are binary data (MQTT 5, section 6).
                    Data::Text => return Err(CloseCode::Unsupported),
                    _ => return Err(CloseCode::Protocol),
                }
                self.is_within_message = !header.is_final;
                self.taken += head;
                self.frame = Some(Frame { left: len, mask });
            }
            OpCode::Control(kind) => {
                if len > CONTROL_BYTES || !header.is_final {
                    return Err(CloseCode::Protocol);
                }
                let start = self.taken + head;
                let Some(payload) = self.received.get(start..start + len as usize) else { return Ok(None) };
                let payload: Vec<u8> =
                    payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
                self.taken = start + payload.len();
                match kind {
                    Control::Ping => self.put(OpCode::Control(Control::Pong), &payload),
                    Control::Close => self.close(&payload[..payload.len().min(2)]),
                    _ => {}
                }
            }
        }
        Ok(Some(()))
    }

    /// Adds a frame to what is to be written.
    fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        // Writing to memory does not fail.
        let _ = header.format(payload.len() as u64, &mut self.out);
        self.out.extend_from_slice(payload);
    }

    /// The last frame, and the end of input.
    fn close(&mut self, payload: &[u8]) {
        self.is_over = true;
        if !std::mem::replace(&mut self.has_closed, true) {
            self.put(OpCode::Control(Control::Close), payload);
        }
    }

    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.out[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.written = 0;
        self.out.clear();
        if self.out.capacity() > FRAME_BYTES {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = &mut this.frame {
                if frame.left == 0 {
                    this.frame = None;
                    continue;
                }
                let there = &mut this.received[this.taken..];
                if !there.is_empty() {
                    let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
                    let len = there.len().min(space.remaining()).min(left);
                    there[..len].iter_mut().zip(frame.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
                    space.put_slice(&there[..len]);
                    frame.mask.rotate_left(len % 4);
                    frame.left -= len as u64;
                    this.taken += len;
                    return Poll::Ready(Ok(()));
                }
            } else if this.is_over {
                // What is left to say is said even if nobody writes any more.
                let _ = this.poll_write_out(context)?;
                return Poll::Ready(Ok(()));
            } else {
                // Whoever does not read pongs has to wait with more pings.
                if this.out.len() - this.written > OUT_BYTES {
                    ready!(this.poll_write_out(context))?;
                }
                match this.next_frame() {
                    Ok(Some(())) => {
                        let _ = this.poll_write_out(context)?;
                        continue;
                    }
                    Ok(None) => {}
                    Err(code) => {
                        this.close(&u16::from(code).to_be_bytes());
                        continue;
                    }
                }
            }
            if !ready!(this.poll_fill(context))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(context))?;
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>().min(FRAME_BYTES);
        if this.has_closed || len == 0 {
            return Poll::Ready(Ok(len));
        }
        let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
        header.format(len as u64, &mut this.out).map_err(io::Error::other)?;
        let mut left = len;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            this.out.extend_from_slice(part);
            left -= part.len();
        }
        // It has been taken over; what the transport does not take now is written by the next flush.
        let _ = this.poll_write_out(context)?;
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.close(&u16::from(CloseCode::Normal).to_be_bytes());
        ready!(this.poll_write_out(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn terms() -> Terms {
        Terms { paths: &["/ws"], protocols: &["mqtt"], origins: vec!["https://here".into()], takes_text: false }
    }

    async fn answer(request: &str) -> String {
        let (mut client, server) = tokio::io::duplex(4 * REQUEST_BYTES);
        client.write_all(request.as_bytes()).await.unwrap();
        let accepted = accept(server, &terms()).await;
        let mut answer = vec![0; 4096];
        let len = client.read(&mut answer).await.unwrap();
        drop(accepted);
        String::from_utf8(answer[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn requests_are_granted_or_refused() {
        let granted = answer(&format!("{REQUEST}Sec-WebSocket-Protocol: other, mqtt\r\n\r\n")).await;
        assert!(granted.starts_with("HTTP/1.1 101") && granted.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{granted}");
        assert!(granted.to_lowercase().contains("sec-websocket-protocol: mqtt"), "{granted}");
        for (more, status) in [
            ("Sec-WebSocket-Protocol: other\r\n", "400"),
            ("Origin: https://elsewhere\r\n", "403"),
            (&*format!("X: {}\r\n", "x".repeat(REQUEST_BYTES)), "431"),
        ] {
            let refused = answer(&format!("{REQUEST}{more}\r\n")).await;
            assert!(refused.starts_with(&format!("HTTP/1.1 {status}")), "{more} {refused}");
        }
        assert!(answer(&format!("{}\r\n", REQUEST.replace("/ws", "/"))).await.starts_with("HTTP/1.1 404"));
        assert!(answer("\x10\x00 no HTTP\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    }

    fn masked(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let header = FrameHeader { opcode, is_final, mask: Some(mask), ..FrameHeader::default() };
        let mut frame = Vec::new();
        header.format(payload.len() as u64, &mut frame).unwrap();
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[tokio::test]
    async fn frames_become_bytes_however_they_are_cut() {
        let payload: Vec<u8> = (0..200_u8).collect();
        let mut sent = masked(OpCode::Data(Data::Binary), false, &payload[..70]);
        sent.extend(masked(OpCode::Control(Control::Ping), true, b"there?"));
        sent.extend(masked(OpCode::Data(Data::Continue), true, &payload[70..]));
        sent.extend(masked(OpCode::Control(Control::Close), true, &[3, 232]));
        for piece in [1, 7, 4096] {
            let (mut client, server) = tokio::io::duplex(4096);
            let pieces = sent.clone();
            let sending = tokio::spawn(async move {
                for piece in pieces.chunks(piece) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                answer
            });
            let mut socket = WebSocket::new(server, Vec::new(), false);
            let mut received = Vec::new();
            socket.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, payload, "in pieces of {piece}");
            drop(socket);
            assert_eq!(sending.await.unwrap(), b"\x8a\x06there?\x88\x02\x03\xe8");
        }
    }

    #[tokio::test]
    async fn what_is_no_binary_data_ends_the_connection() {
        let bad = [
            masked(OpCode::Data(Data::Text), true, b"x"),
            masked(OpCode::Data(Data::Continue), true, b"x"),
            masked(OpCode::Control(Control::Ping), false, b"x"),
            masked(OpCode::Control(Control::Ping), true, &[0; 126]),
            b"\x82\x01x".to_vec(),
        ];
        for frame in bad {
            let (mut client, server) = tokio::io::duplex(4096);
            client.write_all(&frame).await.unwrap();
            let mut socket = WebSocket::new(server, Vec::new(), false);
            let mut received = Vec::new();
            socket.read_to_end(&mut received).await.unwrap();
            drop(socket);
            assert_eq!(received, b"");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer[..2], *b"\x88\x02", "{frame:?}");
        }
    }
}
