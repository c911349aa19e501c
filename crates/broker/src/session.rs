//! The contract between a protocol and whatever drives it: bytes in, bytes out, nothing awaited.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::Waker,
};

use crate::{authorization::Principal, outlet::Outlet, value::Name};

/// Milliseconds on a clock that never goes back. The driver reads the clock; the model never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment and `duration_ms` more.
    pub fn plus(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }
}

/// A session's identity within this run of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The address and port that it came to.
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The name in the peer's verified certificate.
    pub certificate_name: Option<Name>,
}

impl Default for Peer {
    /// Somebody on this machine.
    fn default() -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let local = SocketAddr::new(address, 0);
        Self { address, port: 0, local, encrypted: false, certificate_name: None }
    }
}

/// What a client presents to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user name and a password.
    Password {
        /// The user.
        user: Name,
        /// The password.
        password: Vec<u8>,
    },
    /// A user whom the transport has authenticated already.
    Certificate {
        /// The user.
        user: Name,
    },
}

impl Credentials {
    /// Who wants to log in.
    pub fn user(&self) -> &Name {
        match self {
            Self::Password { user, .. } | Self::Certificate { user } => user,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user())
    }
}

/// Something that a session needs from its driver.
#[derive(Debug)]
pub enum Request {
    /// To have credentials checked; answered by [`Reply::Login`].
    Authenticate(Credentials),
    /// To have a client answered that logs in by SCRAM-SHA-256; answered by [`Reply::Sasl`].
    Sasl(SaslResponse),
    /// Nothing new: the last one is being answered.
    Pending,
}

/// The outcome of a login.
#[derive(Clone, Debug)]
pub enum Login {
    /// The credentials are good: it is this user, by the name that whoever checked them has for him.
    Accepted(Principal),
    /// They are not.
    Refused,
}

/// What a client says in a login of several steps (RFC 4422).
#[derive(Clone, PartialEq, Eq)]
pub enum SaslResponse {
    /// At first.
    First(Vec<u8>),
    /// To the last challenge.
    Next(Vec<u8>),
}

impl fmt::Debug for SaslResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaslResponse")
    }
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslOutcome {
    /// The client is to answer this.
    Challenge(Vec<u8>),
    /// It is this user.
    Accepted {
        /// The user.
        user: Name,
        /// What shows the client that it has come to the right broker.
        proof: Vec<u8>,
    },
    /// It is not.
    Refused,
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Reply {
    /// The answer to [`Request::Authenticate`].
    Login(Login),
    /// The answer to [`Request::Sasl`].
    Sasl(SaslOutcome),
}

/// Whether a session wants more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It does.
    Open,
    /// It does, but consumers lag behind what it publishes: the driver waits, for a while and no longer.
    Lagging,
    /// Not until something is committed, a request is answered or an alarm is over.
    Paused,
}

/// Who closes the transport when all is said. The other one waits for it, for a while: many clients take an end that
/// comes before their own for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// The client, who had the last word.
    Client,
    /// The broker.
    Broker,
}

/// One client's conversation in one protocol.
///
/// The driver calls [`Session::receive`] with what it read, [`Session::poll`] whenever it was woken, and afterwards
/// always drains [`Session::outlet`].
pub trait Session: Send {
    /// Consumes input and returns how many bytes were used. The rest is offered again, with more behind it.
    fn receive(&mut self, input: &[u8], now: Millis) -> usize;

    /// Does what has become possible: confirms, cancellations, a paused reply. Arranges for `waker` to be woken when
    /// there may be more.
    fn poll(&mut self, now: Millis, waker: &Waker);

    /// Whether to read from the client.
    fn intake(&self) -> Intake;

    /// Where the session's bytes come out.
    fn outlet(&self) -> Arc<dyn Outlet>;

    /// The output has drained below [`crate::limits::OUTPUT_BYTES_LOW`]: paused consumers may go on.
    fn drained(&mut self, now: Millis);

    /// The driver has waited long enough, as [`Intake::Lagging`] asks.
    fn caught_up(&mut self);

    /// Bytes were written to the client.
    fn sent(&mut self, now: Millis);

    /// When [`Session::expire`] is due, if nothing happens before.
    fn deadline(&self) -> Option<Millis>;

    /// A deadline passed.
    fn expire(&mut self, now: Millis);

    /// What the session needs from the driver next.
    fn request(&mut self) -> Option<Request>;

    /// The answer to its last request.
    fn reply(&mut self, reply: Reply, now: Millis);

    /// The broker shuts down: tell the client and close in order.
    fn shut_down(&mut self, now: Millis);

    /// The connection is gone: give back all that the session holds. Called once, last.
    fn disconnected(&mut self, now: Millis);

    /// Whether all is said, and who is to hang up once the output is written.
    fn finished(&self) -> Option<HangUp>;

    /// The session in a log line: user, vhost, client name.
    fn describe(&self) -> String;
}
