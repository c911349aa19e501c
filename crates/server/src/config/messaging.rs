//! The sections of the protocols that came after AMQP.

use anyhow::{Context, bail};
use broker::{Keep, Selector};
use serde::Deserialize;

use crate::auth::destinations::DestinationEntry;

/// The MQTT listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Mqtt {
    /// Port; 0 for any free one.
    pub port: u16,
    /// Port for TLS, used if a certificate is configured; 0 for any free one.
    pub tls_port: u16,
    /// Port for WebSocket; 0 for any free one.
    pub ws_port: u16,
    /// Port for WebSocket over TLS, used if a certificate is configured; 0 for any free one.
    pub wss_port: u16,
    /// Vhost of clients that do not name one.
    pub vhost: String,
    /// Whom clients without user name and password are taken for; empty for nobody, so that they are refused.
    pub anonymous_user: String,
    /// Publishes to a client of MQTT 3 that may be unacknowledged.
    pub prefetch: u16,
    /// Publishes of a client of MQTT 5 that may be unacknowledged.
    pub receive_maximum: u16,
    /// Seconds that a client may be silent at most, whatever keep alive it asks for; 0 for any time.
    pub keep_alive_s_max: u16,
    /// Topic aliases that a client may use.
    pub topic_alias_maximum: u16,
    /// Seconds that a session may outlive its connection at most.
    pub session_expiry_s_max: u32,
    /// Whether who publishes what he must not is disconnected.
    pub disconnect_on_unauthorized: bool,
    /// Whether who publishes or subscribes to what he must not is told the reason.
    pub reveal_refusals: bool,
    /// Seconds between changes of `$SYS` topics; 0 for none.
    pub sys_interval_s: u64,
}

/// The STOMP listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Stomp {
    /// Port; 0 for any free one.
    pub port: u16,
    /// Port for TLS, used if a certificate is configured; 0 for any free one.
    pub tls_port: u16,
    /// Port for WebSocket; 0 for any free one.
    pub ws_port: u16,
    /// Port for WebSocket over TLS, used if a certificate is configured; 0 for any free one.
    pub wss_port: u16,
    /// Vhost of clients that do not name one.
    pub vhost: String,
    /// Whom clients without a login are taken for; empty for nobody, so that they are refused.
    pub anonymous_user: String,
    /// Messages that a subscription may have unacknowledged unless it says how many; 0 for any number.
    pub prefetch: u32,
    /// Milliseconds between heart-beats at least, whatever a client asks for.
    pub heart_beat_ms_min: u64,
    /// Bytes of a frame's command and headers.
    pub head_bytes_max: usize,
}

/// The OpenWire listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct OpenWire {
    /// Port; 0 for any free one.
    pub port: u16,
    /// Port for TLS, used if a certificate is configured; 0 for any free one.
    pub tls_port: u16,
    /// Vhost of all clients.
    pub vhost: String,
    /// Whom clients without a user name are taken for; empty for nobody, so that they are refused.
    pub anonymous_user: String,
    /// The broker's name, which clients are told.
    pub broker_name: String,
    /// Longest frame, in bytes.
    pub frame_bytes_max: usize,
    /// Milliseconds without a sign of life after which each side gives the other up at most; 0 for never.
    pub inactivity_ms_max: u64,
    /// Addresses of brokers with the same queues, this one among them (`tcp://host:port`), of which clients with a `failover:`
    /// address are told.
    pub connected_brokers: Vec<String>,
    /// Whether new clients are spread over them.
    pub rebalance: bool,
    /// The queue for what no consumer can digest, from queues without a rule for it.
    pub dead_letter_queue: String,
    /// Instead of that, each queue has one of its own, whose name begins so; empty for one that all share.
    pub dead_letter_prefix: String,
    /// Whether persistent messages of JMS clients go there when they expire.
    pub dead_letter_expired: bool,
    /// Whether messages that are not persistent go there.
    pub dead_letter_transient: bool,
    /// What the names of topics begin with that get a copy of what is sent to a queue, and end with its name; empty for
    /// none.
    pub mirror_prefix: String,
    /// What users may do by their groups, as ActiveMQ has it.
    pub authorization: Vec<DestinationEntry>,
    /// Which topics remember what was published, for consumers that are retroactive.
    pub recovery: Vec<Recovery>,
}

/// What topics remember: one of the first four.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// The topics, as a pattern of ActiveMQ's.
    pub topics: String,
    /// The last so many messages of each.
    pub messages: Option<usize>,
    /// The last messages of each, of so many bytes together.
    pub bytes: Option<usize>,
    /// The messages of the last so many milliseconds.
    pub ms: Option<u64>,
    /// The last message of each that asks for it.
    #[serde(default)]
    pub retained: bool,
    /// Of these only what it selects.
    #[serde(default)]
    pub selector: String,
}

impl Recovery {
    /// How much is kept of each topic.
    ///
    /// # Errors
    /// If none of the four is set, or more than one.
    pub fn keep(&self) -> anyhow::Result<Keep> {
        Ok(match (self.messages, self.bytes, self.ms, self.retained) {
            (Some(messages @ 1..), None, None, false) => Keep::Messages(messages),
            (None, Some(bytes @ 1..), None, false) => Keep::Bytes(bytes),
            (None, None, Some(ms @ 1..), false) => Keep::Ms(ms),
            (None, None, None, true) => Keep::Messages(1),
            _ => bail!("openwire.recovery of '{}' needs one of messages, bytes, ms and retained", self.topics),
        })
    }

    /// Which messages are remembered; nothing for all.
    ///
    /// # Errors
    /// If the selector is none.
    pub fn selector(&self) -> anyhow::Result<Option<Selector>> {
        if self.selector.trim().is_empty() {
            return Ok(None);
        }
        let selector = Selector::parse(&self.selector);
        selector.map(Some).with_context(|| format!("openwire.recovery of '{}': its selector is none", self.topics))
    }
}

impl Default for OpenWire {
    fn default() -> Self {
        let settings = openwire::Settings::default();
        Self {
            port: 61616,
            tls_port: 61617,
            vhost: settings.vhost.to_string(),
            anonymous_user: "guest".into(),
            broker_name: settings.broker_name,
            frame_bytes_max: settings.frame_max,
            inactivity_ms_max: settings.max_inactivity_ms,
            connected_brokers: Vec::new(),
            rebalance: false,
            dead_letter_queue: "ActiveMQ.DLQ".into(),
            dead_letter_prefix: String::new(),
            dead_letter_expired: true,
            dead_letter_transient: false,
            mirror_prefix: String::new(),
            authorization: Vec::new(),
            recovery: Vec::new(),
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        let settings = mqtt::Settings::default();
        Self {
            port: 1883,
            tls_port: 8883,
            ws_port: 15675,
            wss_port: 15676,
            vhost: settings.vhost.to_string(),
            anonymous_user: "guest".into(),
            prefetch: settings.prefetch,
            receive_maximum: settings.receive_maximum,
            keep_alive_s_max: settings.keep_alive_s_max,
            topic_alias_maximum: settings.topic_alias_maximum,
            session_expiry_s_max: settings.session_expiry_s_max,
            disconnect_on_unauthorized: settings.disconnects_unauthorized,
            reveal_refusals: settings.reveals_refusals,
            sys_interval_s: 10,
        }
    }
}

impl Default for Stomp {
    fn default() -> Self {
        let settings = stomp::Settings::default();
        Self {
            port: 61613,
            tls_port: 61614,
            ws_port: 15674,
            wss_port: 15673,
            vhost: settings.vhost.to_string(),
            anonymous_user: "guest".into(),
            prefetch: settings.prefetch,
            heart_beat_ms_min: settings.heart_beat_ms_min,
            head_bytes_max: settings.head_bytes_max,
        }
    }
}
