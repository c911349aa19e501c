//! One client of either API, and what it has heard.

use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5 as five;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::session::{Options, Place, Version};
use crate::suite::EVENT;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime can be made"));

/// How soon a client that comes back tries again.
const BACKOFF: Duration = Duration::from_millis(50);
const REQUESTS: usize = 100;
/// rumqttc takes 10 KiB if it is not told otherwise.
const PACKET_BYTES: u32 = 4 * 1024 * 1024;
/// Seconds that a session stays whose client keeps it.
const KEPT_S: u32 = 600;

#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub properties: PublishProperties,
    /// For an acknowledgement by hand.
    original: Original,
}

#[derive(Debug)]
enum Original {
    V4(rumqttc::Publish),
    V5(five::Publish),
}

/// What the broker has said beside messages.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Connected {
        session_present: bool,
    },
    /// PUBACK or PUBCOMP.
    Answered,
    /// SUBACK: the quality of service, or a failure, for each filter.
    Granted(Vec<Option<u8>>),
    Unsubscribed(Vec<five::UnsubAckReason>),
    /// The connection has ended, for a reason; that of DISCONNECT is in the text.
    Lost(String),
}

enum Handle {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

pub struct Client {
    handle: Handle,
    pub messages: Receiver<Message>,
    pub said: Receiver<Said>,
    /// Drives the connection, which ends without a word if this is aborted.
    task: Option<JoinHandle<()>>,
}

struct Ears {
    messages: Sender<Message>,
    said: Sender<Said>,
}

/// The code of a quality of service in the API of MQTT 3.1.1.
pub fn qos4(qos: u8) -> rumqttc::QoS {
    rumqttc::qos(qos).expect("0, 1 or 2")
}

/// The same in the API of MQTT 5.
pub fn qos5(qos: u8) -> rumqttc::v5::mqttbytes::QoS {
    rumqttc::v5::mqttbytes::qos(qos).expect("0, 1 or 2")
}

impl Client {
    /// Begins to connect.
    pub fn new(version: Version, id: &str, place: &Place, options: &Options) -> Self {
        let (messages, heard) = mpsc::channel();
        let (said, saying) = mpsc::channel();
        let ears = Ears { messages, said };
        let comes_back = options.comes_back;
        let (handle, task) = match version {
            Version::V311 => {
                let (client, mut events) = rumqttc::AsyncClient::new(options4(id, place, options), REQUESTS);
                events.set_network_options(without_delay());
                (Handle::V4(client), RUNTIME.spawn(listen4(events, ears, comes_back)))
            }
            Version::V5 => {
                let (client, events) = rumqttc::v5::AsyncClient::new(options5(id, place, options), REQUESTS);
                (Handle::V5(client), RUNTIME.spawn(listen5(events, ears, comes_back)))
            }
        };
        Self { handle, messages: heard, said: saying, task: Some(task) }
    }

    pub fn v5(&self) -> &rumqttc::v5::AsyncClient {
        match &self.handle {
            Handle::V5(client) => client,
            Handle::V4(_) => panic!("this check is for MQTT 5"),
        }
    }

    /// The next that the broker says.
    pub fn hear(&self, what: &str) -> Said {
        self.said.recv_timeout(EVENT).unwrap_or_else(|_| panic!("no {what} within {EVENT:?}"))
    }

    pub fn connected(&self) -> bool {
        match self.hear("CONNACK") {
            Said::Connected { session_present } => session_present,
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// The next message.
    pub fn message(&self) -> Message {
        self.messages.recv_timeout(EVENT).unwrap_or_else(|_| panic!("no message within {EVENT:?}"))
    }

    /// The payloads of so many messages.
    pub fn payloads(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| String::from_utf8(self.message().payload).expect("it is text")).collect()
    }

    #[track_caller]
    pub fn expect(&self, topic: &str, payload: &str, qos: u8, retain: bool) -> Message {
        let message = self.message();
        let found = (message.topic.as_str(), message.payload.as_slice(), message.qos, message.retain);
        assert_eq!(found, (topic, payload.as_bytes(), qos, retain));
        message
    }

    /// Publishes, and waits until that is complete.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>, qos: u8, retain: bool) {
        let payload = payload.into();
        match &self.handle {
            Handle::V4(client) => {
                let sent = client.publish_bytes(topic, qos4(qos), retain, payload);
                RUNTIME.block_on(sent).expect("the client takes requests");
            }
            Handle::V5(client) => {
                RUNTIME.block_on(client.publish(topic, qos5(qos), retain, payload)).expect("the client takes requests");
            }
        }
        self.await_answer(qos);
    }

    pub fn publish_with(&self, topic: &str, payload: &str, qos: u8, properties: PublishProperties) {
        let sent = self.v5().publish_with_properties(topic, qos5(qos), false, payload.to_owned(), properties);
        RUNTIME.block_on(sent).expect("the client takes requests");
        self.await_answer(qos);
    }

    fn await_answer(&self, qos: u8) {
        if qos > 0 {
            assert_eq!(self.hear("answer to a publish"), Said::Answered);
        }
    }

    /// Subscribes; what was granted for each filter.
    pub fn subscribe(&self, filters: &[&str], qos: u8) -> Vec<Option<u8>> {
        match &self.handle {
            Handle::V4(client) => {
                let filters =
                    filters.iter().map(|filter| rumqttc::SubscribeFilter::new((*filter).to_owned(), qos4(qos)));
                RUNTIME.block_on(client.subscribe_many(filters)).expect("the client takes requests");
                self.granted()
            }
            Handle::V5(_) => {
                self.subscribe_with(filters.iter().map(|filter| five::Filter::new(*filter, qos5(qos))).collect(), None)
            }
        }
    }

    pub fn subscribe_with(&self, filters: Vec<five::Filter>, id: Option<usize>) -> Vec<Option<u8>> {
        let client = self.v5();
        let sent = async {
            match id {
                Some(_) => {
                    let properties = five::SubscribeProperties { id, user_properties: Vec::new() };
                    client.subscribe_many_with_properties(filters, properties).await
                }
                None => client.subscribe_many(filters).await,
            }
        };
        RUNTIME.block_on(sent).expect("the client takes requests");
        self.granted()
    }

    fn granted(&self) -> Vec<Option<u8>> {
        match self.hear("SUBACK") {
            Said::Granted(codes) => codes,
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// The reasons in UNSUBACK, of which MQTT 3.1.1 has none.
    pub fn unsubscribe(&self, filter: &str) -> Vec<five::UnsubAckReason> {
        match &self.handle {
            Handle::V4(client) => RUNTIME.block_on(client.unsubscribe(filter)).expect("the client takes requests"),
            Handle::V5(client) => RUNTIME.block_on(client.unsubscribe(filter)).expect("the client takes requests"),
        }
        match self.hear("UNSUBACK") {
            Said::Unsubscribed(reasons) => reasons,
            other => panic!("{other:?} instead of UNSUBACK"),
        }
    }

    /// Acknowledges by hand.
    pub fn acknowledge(&self, message: &Message) {
        match (&self.handle, &message.original) {
            (Handle::V4(client), Original::V4(publish)) => RUNTIME.block_on(client.ack(publish)).expect("it is taken"),
            (Handle::V5(client), Original::V5(publish)) => RUNTIME.block_on(client.ack(publish)).expect("it is taken"),
            _ => panic!("a message of another client"),
        }
    }

    /// Says goodbye, and waits for the end.
    pub fn disconnect(&mut self) {
        match &self.handle {
            Handle::V4(client) => RUNTIME.block_on(client.disconnect()).expect("the client takes requests"),
            Handle::V5(client) => RUNTIME.block_on(client.disconnect()).expect("the client takes requests"),
        }
        let end = self.task.take().expect("a client disconnects once");
        RUNTIME.block_on(async { tokio::time::timeout(EVENT, end).await }).expect("an end").expect("no panic");
    }

    /// Ends the connection without a word.
    pub fn cut(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = RUNTIME.block_on(task);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.cut();
    }
}

fn without_delay() -> rumqttc::NetworkOptions {
    let mut wanted = rumqttc::NetworkOptions::new();
    wanted.set_tcp_nodelay(true);
    wanted
}

fn options4(id: &str, place: &Place, options: &Options) -> rumqttc::MqttOptions {
    let mut wanted = rumqttc::MqttOptions::new(id, place.host.clone(), place.port);
    wanted.set_credentials(&place.user, options.password.as_ref().unwrap_or(&place.password));
    wanted.set_clean_session(!options.keep).set_manual_acks(options.manual_acks);
    wanted.set_max_packet_size(PACKET_BYTES as usize, PACKET_BYTES as usize);
    if let Some(will) = &options.will {
        wanted.set_last_will(rumqttc::LastWill::new(&will.topic, will.payload, qos4(will.qos), will.retain));
    }
    wanted
}

fn options5(id: &str, place: &Place, options: &Options) -> rumqttc::v5::MqttOptions {
    let mut wanted = rumqttc::v5::MqttOptions::new(id, place.host.clone(), place.port);
    wanted.set_credentials(&place.user, options.password.as_ref().unwrap_or(&place.password));
    wanted.set_clean_start(!options.keep).set_manual_acks(options.manual_acks);
    wanted.set_session_expiry_interval(options.expiry_s.or(options.keep.then_some(KEPT_S)));
    wanted.set_receive_maximum(options.receive_maximum).set_network_options(without_delay());
    wanted.set_max_packet_size(Some(options.packet_max.unwrap_or(PACKET_BYTES)));
    if let Some(will) = &options.will {
        let properties = will.properties.clone();
        wanted.set_last_will(five::LastWill::new(&will.topic, will.payload, qos5(will.qos), will.retain, properties));
    }
    wanted
}

async fn listen4(mut events: rumqttc::EventLoop, ears: Ears, comes_back: bool) {
    use rumqttc::{Event, Packet};
    loop {
        let said = match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let _ = ears.messages.send(Message {
                    topic: publish.topic.clone(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    dup: publish.dup,
                    properties: PublishProperties::default(),
                    original: Original::V4(publish),
                });
                continue;
            }
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Said::Connected { session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Said::Answered,
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let granted = |code: &rumqttc::SubscribeReasonCode| match code {
                    rumqttc::SubscribeReasonCode::Success(qos) => Some(*qos as u8),
                    rumqttc::SubscribeReasonCode::Failure => None,
                };
                Said::Granted(suback.return_codes.iter().map(granted).collect())
            }
            Ok(Event::Incoming(Packet::UnsubAck(_))) => Said::Unsubscribed(Vec::new()),
            // DISCONNECT is sent, and rumqttc would wait for the broker to hang up.
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => Said::Lost(error.to_string()),
        };
        if is_end(said, &ears, comes_back).await {
            return;
        }
    }
}

async fn listen5(mut events: rumqttc::v5::EventLoop, ears: Ears, comes_back: bool) {
    use five::Packet;
    use rumqttc::v5::Event;
    loop {
        let said = match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let _ = ears.messages.send(Message {
                    topic: String::from_utf8(publish.topic.to_vec()).expect("a topic is text"),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    dup: publish.dup,
                    properties: publish.properties.clone().unwrap_or_default(),
                    original: Original::V5(publish),
                });
                continue;
            }
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Said::Connected { session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Said::Answered,
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let granted = |code: &five::SubscribeReasonCode| match code {
                    five::SubscribeReasonCode::Success(qos) => Some(*qos as u8),
                    _ => None,
                };
                Said::Granted(suback.return_codes.iter().map(granted).collect())
            }
            Ok(Event::Incoming(Packet::UnsubAck(unsuback))) => Said::Unsubscribed(unsuback.reasons),
            // DISCONNECT is sent, and rumqttc would wait for the broker to hang up.
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => Said::Lost(error.to_string()),
        };
        if is_end(said, &ears, comes_back).await {
            return;
        }
    }
}

/// Passes on what the broker has said; whether that was the end.
async fn is_end(said: Said, ears: &Ears, comes_back: bool) -> bool {
    let is_lost = matches!(said, Said::Lost(_));
    let _ = ears.said.send(said);
    if is_lost && comes_back {
        tokio::time::sleep(BACKOFF).await;
    }
    is_lost && !comes_back
}
