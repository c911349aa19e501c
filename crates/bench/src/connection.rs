//! One AMQP connection with one channel over a blocking socket: handshake, calls, and what a server says unasked.

use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::inbox::{Fill, Inbox, is_gone, is_nothing};
use crate::uri::Uri;
use crate::wire::{Arguments, Encoder, Fields, Frame, Method, PROTOCOL_HEADER};

/// The only channel of each connection.
pub(crate) const CHANNEL: u16 = 1;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Deleting a queue with millions of messages takes a server a while.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long a blocked read or write sleeps before its thread looks whether the load is over.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);
const FRAME_MAX: u32 = 128 * 1024;
/// Calls that are under way at once where there are many of them.
const CALLS_AHEAD: usize = 100;

/// Something that the server said without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Blocked(bool),
    Other,
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Inbox,
    pub(crate) frame_max: usize,
    /// Product and version from the server's properties.
    pub(crate) server: String,
}

impl Connection {
    /// Connects, logs in, and opens the channel.
    pub(crate) fn open(uri: &Uri) -> Result<Self, Error> {
        let address = uri.address();
        let stream = connect(&address).map_err(|source| Error::Connect { address, source })?;
        let setup = Error::io("setting up the socket");
        (|| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))
        })()
        .map_err(setup)?;
        let mut connection = Self { stream, inbox: Inbox::default(), frame_max: 0, server: String::new() };
        connection.handshake(uri)?;
        Ok(connection)
    }

    fn handshake(&mut self, uri: &Uri) -> Result<(), Error> {
        self.send(PROTOCOL_HEADER)?;
        self.server = self.answer(Method::CONNECTION_START, |arguments| {
            arguments.short()?;
            let properties = arguments;
            Ok(server_name(properties))
        })?;
        let mut out = Encoder::default();
        out.method(0, Method::CONNECTION_START_OK, |out| {
            out.table(client_properties).short_text("PLAIN");
            out.long_text(format!("\0{}\0{}", uri.user, uri.password).as_bytes()).short_text("en_US");
        });
        self.send(&out.bytes)?;
        let (channels, frame_max) =
            self.answer(Method::CONNECTION_TUNE, |arguments| Ok((arguments.short()?, arguments.long()?)))?;
        let frame_max = if frame_max == 0 { FRAME_MAX } else { frame_max.min(FRAME_MAX) };
        self.frame_max = frame_max as usize;
        let mut out = Encoder::default();
        // Heartbeat 0: a load generator that is too busy to answer must not be disconnected.
        out.method(0, Method::CONNECTION_TUNE_OK, |out| {
            out.short(channels).long(frame_max).short(0);
        });
        out.method(0, Method::CONNECTION_OPEN, |out| {
            out.short_text(&uri.vhost).short_text("").octet(0);
        });
        self.send(&out.bytes)?;
        self.answer(Method::CONNECTION_OPEN_OK, |_| Ok(()))?;
        self.call(Method::CHANNEL_OPEN, Method::CHANNEL_OPEN_OK, |out| {
            out.short_text("");
        })
    }

    /// Sends a method on the channel and waits for its answer.
    pub(crate) fn call(
        &mut self,
        method: Method,
        answer: Method,
        arguments: impl FnOnce(&mut Arguments<'_>),
    ) -> Result<(), Error> {
        let mut out = Encoder::default();
        out.method(CHANNEL, method, arguments);
        self.send(&out.bytes)?;
        self.answer(answer, |_| Ok(()))
    }

    /// Calls a method for each of `items`, without waiting for each answer by itself.
    pub(crate) fn call_each<T>(
        &mut self,
        method: Method,
        answer: Method,
        items: &[T],
        arguments: impl Fn(&T, &mut Arguments<'_>),
    ) -> Result<(), Error> {
        let mut out = Encoder::default();
        for items in items.chunks(CALLS_AHEAD) {
            out.bytes.clear();
            for item in items {
                out.method(CHANNEL, method, |out| arguments(item, out));
            }
            self.send(&out.bytes)?;
            for _ in items {
                self.answer(answer, |_| Ok(()))?;
            }
        }
        Ok(())
    }

    fn answer<T>(
        &mut self,
        wanted: Method,
        read: impl FnOnce(&mut Fields<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + ANSWER_WAIT;
        while Instant::now() < deadline {
            while let Some(frame) = self.inbox.next_frame()? {
                if frame.method() == Some(wanted) {
                    return read(&mut frame.arguments());
                }
                news(frame)?;
            }
            self.inbox.fill(&mut self.stream)?;
        }
        Err(Error::Timeout("a method's answer"))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let deadline = Instant::now() + ANSWER_WAIT;
        if self.send_until(bytes, || Instant::now() >= deadline)? {
            Ok(())
        } else {
            Err(Error::Timeout("the socket takes nothing"))
        }
    }

    /// Writes all of `bytes`; `false` if `give_up` said so while the server took nothing.
    pub(crate) fn send_until(&mut self, mut bytes: &[u8], give_up: impl Fn() -> bool) -> Result<bool, Error> {
        while !bytes.is_empty() {
            let length = self.send_some(bytes)?;
            bytes = &bytes[length..];
            if length == 0 && give_up() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes once; 0 if the server took nothing for a while.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        match self.stream.write(bytes) {
            Ok(0) => Err(Error::HungUp),
            Ok(length) => Ok(length),
            Err(error) if is_nothing(&error) => Ok(0),
            Err(error) if is_gone(&error) => Err(self.last_words()),
            Err(source) => Err(Error::Io { doing: "writing to the server", source }),
        }
    }

    /// Reads what has arrived, without waiting.
    pub(crate) fn fill_now(&mut self) -> Result<Fill, Error> {
        self.stream.set_nonblocking(true).map_err(Error::io("setting up the socket"))?;
        let fill = self.inbox.fill(&mut self.stream);
        self.stream.set_nonblocking(false).map_err(Error::io("setting up the socket"))?;
        fill
    }

    /// After the server hung up: why, if it left a close method in the socket.
    fn last_words(&mut self) -> Error {
        loop {
            match self.inbox.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(error) = news(frame) {
                        return error;
                    }
                }
                Ok(None) => match self.fill_now() {
                    Ok(Fill::Bytes(_)) => {}
                    Ok(Fill::Nothing) => return Error::HungUp,
                    Err(error) => return error,
                },
                Err(error) => return error,
            }
        }
    }

    /// Says goodbye and waits for the answer, which also proves that the server has read everything before it.
    pub(crate) fn close(mut self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        let mut out = Encoder::default();
        out.method(0, Method::CONNECTION_CLOSE, |out| {
            out.short(200).short_text("done").short(0).short(0);
        });
        if !self.send_until(&out.bytes, || Instant::now() >= deadline)? {
            return Err(Error::Timeout("the close was not taken"));
        }
        while Instant::now() < deadline {
            while let Some(frame) = self.inbox.next_frame()? {
                if frame.method() == Some(Method::CONNECTION_CLOSE_OK) {
                    return Ok(());
                }
            }
            self.inbox.fill(&mut self.stream)?;
        }
        Err(Error::Timeout("the close was not answered"))
    }
}

/// Sorts a frame that no caller waits for; a close or cancel from the server is an error.
pub(crate) fn news(frame: Frame<'_>) -> Result<News, Error> {
    let mut arguments = frame.arguments();
    match frame.method() {
        Some(Method::CONNECTION_CLOSE) => Err(closed("connection", &mut arguments)),
        Some(Method::CHANNEL_CLOSE) => Err(closed("channel", &mut arguments)),
        Some(Method::BASIC_CANCEL) => Err(Error::Cancelled),
        Some(Method::CONNECTION_BLOCKED) => Ok(News::Blocked(true)),
        Some(Method::CONNECTION_UNBLOCKED) => Ok(News::Blocked(false)),
        _ => Ok(News::Other),
    }
}

fn closed(scope: &'static str, arguments: &mut Fields<'_>) -> Error {
    match (arguments.short(), arguments.short_text()) {
        (Ok(code), Ok(text)) => Error::Closed { scope, code, text },
        _ => Error::Protocol("a close without a reason"),
    }
}

pub(crate) fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for target in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&target, CONNECT_WAIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn server_name(properties: &mut Fields<'_>) -> String {
    let mut again = properties.clone();
    let product = properties.table_text("product").unwrap_or_else(|| "unnamed".to_owned());
    match again.table_text("version") {
        Some(version) => format!("{product} {version}"),
        None => product,
    }
}

fn client_properties(table: &mut Arguments<'_>) {
    table.short_text("product").octet(b'S').long_text(b"roadstead bench");
    table.short_text("capabilities").octet(b'F').table(|capabilities| {
        for name in [
            "publisher_confirms",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "authentication_failure_close",
        ] {
            capabilities.short_text(name).octet(b't').octet(1);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::METHOD;

    fn told(method: Method, arguments: impl FnOnce(&mut Arguments<'_>)) -> Result<News, Error> {
        let mut out = Encoder::default();
        out.method(1, method, arguments);
        let (frame, _) = Frame::split(&out.bytes)?.ok_or(Error::Protocol("incomplete"))?;
        news(frame)
    }

    #[test]
    fn a_close_is_an_error_with_the_reason_of_the_server() {
        for (method, scope) in [(Method::CONNECTION_CLOSE, "connection"), (Method::CHANNEL_CLOSE, "channel")] {
            let error = told(method, |out| {
                out.short(404).short_text("NOT_FOUND - no queue").short(60).short(20);
            });
            assert_eq!(
                error.unwrap_err().to_string(),
                format!("the server closed the {scope}: 404 NOT_FOUND - no queue")
            );
        }
    }

    #[test]
    fn blocked_and_unblocked_are_news() {
        let blocked = told(Method::CONNECTION_BLOCKED, |out| {
            out.short_text("low on memory");
        });
        assert_eq!(blocked.unwrap(), News::Blocked(true));
        assert_eq!(told(Method::CONNECTION_UNBLOCKED, |_| ()).unwrap(), News::Blocked(false));
        assert!(matches!(told(Method::BASIC_CANCEL, |_| ()), Err(Error::Cancelled)));
    }

    #[test]
    fn heartbeats_and_scraps_are_ignored() {
        assert_eq!(news(Frame { kind: 8, payload: &[] }).unwrap(), News::Other);
        assert_eq!(news(Frame { kind: METHOD, payload: &[0, 10] }).unwrap(), News::Other);
    }
}
