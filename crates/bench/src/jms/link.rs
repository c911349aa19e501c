//! One connection over a blocking socket: login, calls, and what a server says in between.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::dialect::{Delivery, Dialect, GOODBYE, Signal};
use super::openwire;
use crate::connection::{ANSWER_WAIT, PATIENCE, connect};
use crate::error::Error;
use crate::inbox::{Fill, Inbox, is_gone, is_nothing};
use crate::uri::Uri;

/// Names of connections differ over all of the process.
static OPENED: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Link {
    stream: TcpStream,
    pub(crate) inbox: Inbox,
    pub(crate) dialect: Dialect,
    /// The connection's name.
    pub(crate) client: String,
    /// What the server calls itself.
    pub(crate) server: String,
}

impl Link {
    /// Connects and logs in.
    pub(crate) fn open(uri: &Uri) -> Result<Self, Error> {
        let address = uri.address();
        let stream = connect(&address).map_err(|source| Error::Connect { address, source })?;
        (|| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))
        })()
        .map_err(Error::io("setting up the socket"))?;
        let client = format!("bench-{}-{}", std::process::id(), OPENED.fetch_add(1, Relaxed));
        let (inbox, dialect) = (Inbox::default(), Dialect::of(uri.scheme));
        let mut link = Self { stream, inbox, dialect, client, server: String::new() };
        link.send(&dialect.hello(uri, &link.client))?;
        link.server = link.answer(|signal| match signal {
            Signal::Welcome(server) => Some(server),
            _ => None,
        })?;
        Ok(link)
    }

    /// Sends what is answered with `number`, and waits for that. Deliveries may come before it.
    pub(crate) fn call(&mut self, bytes: &[u8], number: u64, mut see: impl FnMut(Delivery<'_>)) -> Result<(), Error> {
        self.send(bytes)?;
        self.answer(|signal| match signal {
            Signal::Answer(answered) if answered == number => Some(()),
            Signal::Delivery(delivery) => {
                see(delivery);
                None
            }
            _ => None,
        })
    }

    fn answer<T>(&mut self, mut wanted: impl FnMut(Signal<'_>) -> Option<T>) -> Result<T, Error> {
        let deadline = Instant::now() + ANSWER_WAIT;
        while Instant::now() < deadline {
            while let Some(signal) = self.next()? {
                if let Some(answer) = wanted(signal) {
                    return Ok(answer);
                }
            }
            self.fill()?;
        }
        Err(Error::Timeout("a call was not answered"))
    }

    /// The next thing that the server has said and that has been read.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Signal<'_>>, Error> {
        let dialect = self.dialect;
        self.inbox.next(|bytes| dialect.split(bytes))
    }

    /// Reads once, and waits for it for a while.
    pub(crate) fn fill(&mut self) -> Result<Fill, Error> {
        self.inbox.fill(&mut self.stream)
    }

    /// Reads what has arrived, without waiting.
    pub(crate) fn fill_now(&mut self) -> Result<Fill, Error> {
        self.stream.set_nonblocking(true).map_err(Error::io("setting up the socket"))?;
        let fill = self.fill();
        self.stream.set_nonblocking(false).map_err(Error::io("setting up the socket"))?;
        fill
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let deadline = Instant::now() + ANSWER_WAIT;
        match self.send_until(bytes, || Instant::now() >= deadline)? {
            true => Ok(()),
            false => Err(Error::Timeout("the server takes nothing")),
        }
    }

    /// Sends all, or as much as the server has taken when it is time to give up; whether it was all.
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

    /// After the server hung up: why, if it left that in the socket.
    fn last_words(&mut self) -> Error {
        loop {
            match self.next() {
                Ok(Some(_)) => {}
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
        let goodbye = self.dialect.goodbye(GOODBYE, &self.client);
        let mut is_answered = !self.send_until(&goodbye, || Instant::now() >= deadline)?;
        while !is_answered && Instant::now() < deadline {
            while let Some(signal) = self.next()? {
                is_answered |= signal == Signal::Answer(GOODBYE);
            }
            // A server in the middle of a backlog may answer late, and one may hang up as its answer.
            is_answered |= !is_answered && matches!(self.fill(), Err(Error::HungUp));
        }
        if self.dialect == Dialect::OpenWire {
            // Who does not listen any more need not hear it.
            let _ = self.send_some(&openwire::shutdown());
        }
        Ok(())
    }
}
