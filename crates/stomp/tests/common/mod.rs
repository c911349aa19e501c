//! A broker without sockets, files or clock, and clients that talk to it.
//!
//! [`World`] drives connections as the server does. [`frames`] is how frames are written in scripts, and [`log`] a log that a
//! broker can be started from again.

#![allow(dead_code, reason = "each test has its own use for a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod frames;
#[path = "../../../mqtt/tests/common/log.rs"]
pub mod log;

use std::{collections::BTreeMap, sync::Arc, task::Waker};

use broker::{
    Broker, Credentials, Keep, Login, Millis, Peer, Permissions, Remembered, Reply, Request, Session, Settings, User,
    identity::Pattern, outlet::Chunks, session::Intake,
};
use stomp::StompConnection;

use self::log::ScriptLog;

/// Largest message, in bytes, if nothing else is said.
pub const MESSAGE_BYTES: u64 = 1000;

/// Everything there is.
pub struct World {
    pub broker: Arc<Broker>,
    pub log: Arc<ScriptLog>,
    pub settings: Arc<stomp::Settings>,
    pub now: Millis,
    pub clients: BTreeMap<String, Client>,
}

/// A client's end of a connection.
pub struct Client {
    pub connection: StompConnection,
    /// The name of the session, once the client knows it.
    pub session: String,
    /// Sent, but not taken by the connection.
    left: Vec<u8>,
    /// Got, but not looked at.
    got: Vec<u8>,
}

impl World {
    pub fn new(log: Arc<ScriptLog>, settings: stomp::Settings, message_bytes_max: u64) -> Self {
        Self::at(Millis(1_000_000), log, settings, message_bytes_max)
    }

    fn at(now: Millis, log: Arc<ScriptLog>, settings: stomp::Settings, message_bytes_max: u64) -> Self {
        let (vhost, exchange) = ("/".into(), "amq.topic".into());
        let remembered = vec![Remembered {
            vhost,
            exchange,
            key: "prices.#".into(),
            keep: Keep::Messages(1),
            selector: None,
            retain: None,
        }];
        let broker_settings = Settings { message_bytes_max, seed: 7, remembered, ..Settings::default() };
        let broker = Arc::new(Broker::new(broker_settings, log.clone(), log.recovered(), now).unwrap());
        broker.add_codec(stomp::ORIGIN, Arc::new(stomp::message::PropertyCodec));
        broker.add_vhost(&"/".into());
        let own = "stomp-.*";
        for (user, configure, write, read) in
            [("guest", ".*", ".*", ".*"), ("reader", own, own, ".*"), ("writer", own, ".*", own)]
        {
            let pattern = |text| Pattern::new(text).unwrap();
            let permissions = Permissions { configure: pattern(configure), write: pattern(write), read: pattern(read) };
            let user_data = User { permissions: [("/".into(), permissions)].into(), ..User::default() };
            broker.put_user(&user.into(), user_data);
        }
        log.commit();
        Self { broker, log, settings: Arc::new(settings), now, clients: BTreeMap::new() }
    }

    /// The broker stops without a word, and another one starts with what is safe.
    pub fn restart(&mut self) {
        self.clients.clear();
        let settings = stomp::Settings::clone(&self.settings);
        self.log.crash();
        *self = Self::at(self.now, Arc::clone(&self.log), settings, self.broker.settings.message_bytes_max);
    }

    /// A client of this name. It exists from when it is first asked for on.
    pub fn client(&mut self, name: &str) -> &mut Client {
        let Self { broker, settings, now, clients, .. } = self;
        clients.entry(name.into()).or_insert_with(|| {
            let connection = StompConnection::new(broker, settings, Peer::default(), *now);
            Client { connection, session: String::new(), left: Vec::new(), got: Vec::new() }
        })
    }

    /// A client sends bytes.
    pub fn send(&mut self, name: &str, bytes: &[u8]) {
        self.client(name).left.extend_from_slice(bytes);
        self.work();
    }

    /// What a client has got since it was last asked, and whether its connection is over.
    pub fn take(&mut self, name: &str) -> (Vec<u8>, bool) {
        let client = self.client(name);
        (std::mem::take(&mut client.got), client.connection.finished().is_some())
    }

    /// Bytes that a client has sent and that nobody has taken.
    pub fn left(&mut self, name: &str) -> usize {
        self.client(name).left.len()
    }

    /// A connection is gone.
    pub fn lose(&mut self, name: &str) {
        if let Some(mut client) = self.clients.remove(name) {
            client.connection.disconnected(self.now);
        }
        self.work();
    }

    /// Time passes.
    pub fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        let now = self.now;
        self.broker.set_time(now);
        for client in self.clients.values_mut() {
            client.connection.poll(now, Waker::noop());
            if client.connection.deadline().is_some_and(|at| at <= now) {
                client.connection.expire(now);
            }
        }
        self.work();
    }

    /// Lets everybody do what can be done, until there is nothing left to do.
    pub fn work(&mut self) {
        for _ in 0..1000 {
            self.broker.catch_up(Waker::noop());
            let mut is_busy = self.log.answer(&self.broker);
            for client in self.clients.values_mut() {
                is_busy |= client.work(self.now);
            }
            if !is_busy {
                return;
            }
        }
        panic!("there is no end to it");
    }
}

impl Client {
    /// Whether something has happened.
    fn work(&mut self, now: Millis) -> bool {
        self.connection.poll(now, Waker::noop());
        let reply = self.connection.request().as_ref().and_then(judge);
        let is_asked = reply.is_some();
        reply.into_iter().for_each(|reply| self.connection.reply(reply, now));
        let mut used = 0;
        if self.connection.intake() != Intake::Paused && !self.left.is_empty() {
            used = self.connection.receive(&self.left, now);
            self.left.drain(..used);
        }
        let mut chunks = Chunks::default();
        self.connection.outlet().drain(&mut chunks, Waker::noop());
        let got = self.got.len();
        chunks.iter().for_each(|chunk| self.got.extend_from_slice(chunk));
        if self.got.len() > got {
            self.connection.sent(now);
        }
        self.connection.drained(now);
        self.connection.caught_up();
        used > 0 || self.got.len() > got || is_asked
    }
}

/// Every user has his name for a password.
fn judge(request: &Request) -> Option<Reply> {
    match request {
        Request::Authenticate(Credentials::Password { user, password }) if user.as_bytes() != password => {
            Some(Reply::Login(Login::Refused))
        }
        Request::Authenticate(credentials) => Some(Reply::Login(Login::Accepted(credentials.user().clone().into()))),
        _ => None,
    }
}
