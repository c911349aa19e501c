//! Opens connections, many at once: a socket that connects or waits for its CONNACK blocks no other.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::link::{self, Link};
use super::poller::{Poller, Ready};
use super::wire::{CONNACK, Encoder, Login, Version, Welcome};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::uri::Uri;

/// A connection that is not taken in after so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the patience with each is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Connections that are being opened at once where all are wanted: fewer than servers usually let wait to be accepted.
const AT_ONCE: usize = 64;

/// How every connection introduces itself.
#[derive(Clone)]
pub(crate) struct Greeting {
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    /// In seconds; 0 is without end.
    pub(crate) keep_alive: u16,
}

/// How one attempt ended.
pub(crate) enum Ended {
    /// The link is ours.
    Open(Link, Welcome),
    /// It was taken in, said goodbye, and the server has closed it.
    Left,
    Failed(Error),
}

/// One attempt that is over.
pub(crate) struct Dialled {
    /// When the connection was due, as the caller said.
    pub(crate) due: Instant,
    /// When its CONNACK was read, or when it failed.
    pub(crate) at: Instant,
    pub(crate) ended: Ended,
}

enum Stage {
    Connecting(TcpStream),
    Waiting(Link),
    Leaving(Link, Instant),
}

struct Dial {
    due: Instant,
    begun: Instant,
    /// Say goodbye as soon as it is taken in.
    is_visit: bool,
    stage: Stage,
}

/// The attempts that are under way.
pub(crate) struct Dialer {
    greeting: Greeting,
    address: SocketAddr,
    poller: Poller,
    ready: Vec<Ready>,
    dials: Vec<Option<Dial>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    looked_at: Instant,
}

impl Dialer {
    pub(crate) fn new(greeting: &Greeting) -> Result<Self, Error> {
        let address = greeting.uri.address();
        let resolved = address
            .to_socket_addrs()
            .and_then(|mut all| all.next().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()));
        Ok(Self {
            greeting: greeting.clone(),
            address: resolved.map_err(|source| Error::Connect { address, source })?,
            poller: Poller::new()?,
            ready: Vec::new(),
            dials: Vec::new(),
            free: Vec::new(),
            scratch: link::scratch(0),
            looked_at: Instant::now(),
        })
    }

    /// Attempts that have not ended.
    pub(crate) fn under_way(&self) -> usize {
        self.dials.len() - self.free.len()
    }

    /// Begins to open a connection that was due at `due`; a visit ends as soon as it is taken in.
    pub(crate) fn begin(&mut self, due: Instant, is_visit: bool) -> Result<(), Error> {
        let stream = self.connect().map_err(|source| Error::Connect { address: self.address.to_string(), source })?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.dials.push(None);
            self.dials.len() - 1
        });
        self.poller.add(&stream, slot as u64, true)?;
        self.dials[slot] = Some(Dial { due, begun: Instant::now(), is_visit, stage: Stage::Connecting(stream) });
        Ok(())
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let family = if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Waits until something happens or the time has passed, and adds the attempts that have ended to `done`.
    pub(crate) fn wait(&mut self, timeout: Duration, done: &mut Vec<Dialled>) -> Result<(), Error> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(timeout.min(LOOK_EVERY), &mut ready)?;
        for one in &ready {
            self.advance(one.key as usize, done)?;
        }
        self.ready = ready;
        if self.looked_at.elapsed() >= LOOK_EVERY {
            self.looked_at = Instant::now();
            self.give_up(done);
        }
        Ok(())
    }

    fn advance(&mut self, slot: usize, done: &mut Vec<Dialled>) -> Result<(), Error> {
        let Some(dial) = self.dials[slot].take() else {
            return Ok(());
        };
        let Dial { due, begun, is_visit, stage } = dial;
        let (ended, at) = match self.progress(stage, slot, is_visit) {
            Ok(Progress::Goes(stage)) => {
                self.dials[slot] = Some(Dial { due, begun, is_visit, stage });
                return Ok(());
            }
            Ok(Progress::Ends(ended, at)) => (ended, at),
            Err(error) => (Ended::Failed(error), Instant::now()),
        };
        self.free.push(slot);
        done.push(Dialled { due, at, ended });
        Ok(())
    }

    fn progress(&mut self, stage: Stage, slot: usize, is_visit: bool) -> Result<Progress, Error> {
        match stage {
            Stage::Connecting(stream) => {
                let link = self.greet(stream)?;
                self.poller.change(&link, slot as u64, false)?;
                Ok(Progress::Goes(Stage::Waiting(link)))
            }
            Stage::Waiting(mut link) => {
                let Some(welcome) = self.listen(&mut link)? else {
                    return Ok(Progress::Goes(Stage::Waiting(link)));
                };
                let at = Instant::now();
                if is_visit {
                    leave(&mut link, self.greeting.version)?;
                    return Ok(Progress::Goes(Stage::Leaving(link, at)));
                }
                self.poller.remove(&link)?;
                Ok(Progress::Ends(Ended::Open(link, welcome), at))
            }
            // The server closes first, so that it is not our port which rests for a minute.
            Stage::Leaving(mut link, at) => match link.read(&mut self.scratch, |_| Ok(())) {
                Ok(_) => Ok(Progress::Goes(Stage::Leaving(link, at))),
                Err(Error::HungUp) => Ok(Progress::Ends(Ended::Left, at)),
                Err(error) => Err(error),
            },
        }
    }

    /// On a socket that has connected, or failed to.
    fn greet(&self, stream: TcpStream) -> Result<Link, Error> {
        let source = sockopt::socket_error(&stream).map_err(std::io::Error::from);
        let source = source.and_then(|connected| connected.map_err(std::io::Error::from));
        source.map_err(|source| Error::Connect { address: self.address.to_string(), source })?;
        let Greeting { uri, version, keep_alive } = &self.greeting;
        let client_id = new_client_id();
        let login = Login { client_id: &client_id, user: &uri.user, password: &uri.password, keep_alive: *keep_alive };
        let mut out = Encoder::new(*version);
        out.connect(&login);
        let mut link = Link::new(stream);
        link.write(&out.bytes)?;
        // A new socket takes a few bytes at once.
        if link.is_stuck() { Err(Error::Timeout("CONNECT was not taken")) } else { Ok(link) }
    }

    fn listen(&mut self, link: &mut Link) -> Result<Option<Welcome>, Error> {
        let (version, mut welcome) = (self.greeting.version, None);
        link.read(&mut self.scratch, |packet| match packet.kind {
            CONNACK => packet.welcome(version).map(|said| welcome = Some(said)),
            _ => Err(Error::Protocol("something else in place of CONNACK")),
        })?;
        Ok(welcome)
    }

    fn give_up(&mut self, done: &mut Vec<Dialled>) {
        for (slot, dial) in self.dials.iter_mut().enumerate() {
            if let Some(Dial { due, .. }) = dial.take_if(|dial| dial.begun.elapsed() > PATIENCE) {
                let ended = Ended::Failed(Error::Timeout("the connection was not taken in"));
                done.push(Dialled { due, at: Instant::now(), ended });
                self.free.push(slot);
            }
        }
    }
}

enum Progress {
    Goes(Stage),
    Ends(Ended, Instant),
}

/// Opens so many connections; the first one that fails is an error.
pub(crate) fn open_all(greeting: &Greeting, connections: usize) -> Result<Vec<(Link, Welcome)>, Error> {
    open_timed(greeting, connections).map(|(links, _)| links)
}

pub(crate) fn open_one(greeting: &Greeting) -> Result<(Link, Welcome), Error> {
    open_all(greeting, 1)?.pop().ok_or(Error::HungUp)
}

/// The same, with the times from the first packet of each to its CONNACK.
pub(crate) fn open_timed(greeting: &Greeting, connections: usize) -> Result<(Vec<(Link, Welcome)>, Histogram), Error> {
    let (mut dialer, mut done, mut links) = (Dialer::new(greeting)?, Vec::new(), Vec::with_capacity(connections));
    let (mut begun, mut latency) = (0, Histogram::default());
    while links.len() < connections {
        while begun < connections && dialer.under_way() < AT_ONCE {
            dialer.begin(Instant::now(), false)?;
            begun += 1;
        }
        dialer.wait(LOOK_EVERY, &mut done)?;
        for dialled in done.drain(..) {
            latency.record(dialled.at.saturating_duration_since(dialled.due).as_nanos() as u64);
            match dialled.ended {
                Ended::Open(link, welcome) => links.push((link, welcome)),
                Ended::Left => {}
                Ended::Failed(error) => return Err(error),
            }
        }
    }
    Ok((links, latency))
}

/// Says goodbye.
pub(crate) fn leave(link: &mut Link, version: Version) -> Result<(), Error> {
    let mut out = Encoder::new(version);
    out.disconnect();
    link.write(&out.bytes)
}

/// Never the same twice: the connections of the load before may still be closing.
fn new_client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}
