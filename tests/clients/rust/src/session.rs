//! What one check has: a version, its clients, and what it must not leave behind.

use std::cell::RefCell;
use std::env;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use rumqttc::v5::mqttbytes::v5::LastWillProperties;

use crate::client::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

/// Where the broker is, and who the client is there.
pub struct Place {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

impl Place {
    /// That of `MQTT_URI`.
    pub fn of_broker() -> Self {
        let uri = env::var("MQTT_URI").expect("MQTT_URI says where the broker is");
        let rest = uri.strip_prefix("mqtt://").expect("MQTT_URI begins with mqtt://");
        let (who, place) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        let (user, password) = who.split_once(':').expect("a user has a password");
        let (host, port) = place.trim_end_matches('/').rsplit_once(':').unwrap_or((place, "1883"));
        Self { host: host.into(), port: port.parse().expect("a port"), user: user.into(), password: password.into() }
    }
}

/// How a client connects.
#[derive(Clone, Default)]
pub struct Options {
    pub password: Option<String>,
    /// The session stays, and is taken up again.
    pub keep: bool,
    pub will: Option<Will>,
    pub manual_acks: bool,
    /// The client connects again whenever its connection ends.
    pub comes_back: bool,
    /// Of MQTT 5 alone, as all that follow.
    pub expiry_s: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub packet_max: Option<u32>,
}

#[derive(Clone, Default)]
pub struct Will {
    pub topic: String,
    pub payload: &'static str,
    pub qos: u8,
    pub retain: bool,
    /// Of MQTT 5 alone.
    pub properties: Option<LastWillProperties>,
}

pub struct Session {
    pub version: Version,
    /// Client identifiers whose sessions stay.
    kept: RefCell<Vec<String>>,
    retained: RefCell<Vec<String>>,
}

/// A word that no other check and no other run has.
fn unique() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{}x{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn new_topic() -> String {
    format!("roadstead/t/{}", unique())
}

pub fn new_id() -> String {
    format!("roadstead{}", unique())
}

impl Session {
    pub fn new(version: Version) -> Self {
        Self { version, kept: RefCell::default(), retained: RefCell::default() }
    }

    /// Connects under an identifier. Returns the client, and whether it has found a session.
    pub fn connect_as(&self, id: &str, options: &Options) -> (Client, bool) {
        if options.keep && !self.kept.borrow().iter().any(|kept| kept == id) {
            self.kept.borrow_mut().push(id.to_owned());
        }
        let client = Client::new(self.version, id, &Place::of_broker(), options);
        let present = client.connected();
        (client, present)
    }

    pub fn connect_with(&self, options: &Options) -> Client {
        self.connect_as(&new_id(), options).0
    }

    pub fn connect(&self) -> Client {
        self.connect_with(&Options::default())
    }

    /// A client whose session stays.
    pub fn keep(&self, id: &str) -> (Client, bool) {
        self.connect_as(id, &Options { keep: true, ..Options::default() })
    }

    pub fn listener(&self, filter: &str, qos: u8) -> Client {
        let client = self.connect();
        assert_eq!(client.subscribe(&[filter], qos), [Some(qos)]);
        client
    }

    /// Publishes what is retained until the check is over.
    pub fn retain(&self, client: &Client, topic: &str, payload: &'static str) {
        self.will_be_retained(topic);
        client.publish(topic, payload, 1, true);
    }

    pub fn will_be_retained(&self, topic: &str) {
        self.retained.borrow_mut().push(topic.to_owned());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for topic in self.retained.take() {
            self.connect().publish(&topic, "", 1, true);
        }
        for id in self.kept.take() {
            self.connect_as(&id, &Options::default()).0.disconnect();
        }
    }
}
