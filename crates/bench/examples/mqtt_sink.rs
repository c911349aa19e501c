//! A fake MQTT broker that costs almost nothing, to learn what the tool itself costs.
//!
//! It acknowledges what is published, and hands it to whoever has subscribed before; what nobody has subscribed to is
//! discarded. With `flood` behind its port it sends canned deliveries as fast as a subscriber takes them instead; with
//! `loses`, `doubles` or `lacks` it is a bad broker. Run `bench` with `--consumers 0`, or with `--publishers 0` and
//! `flood`, against it.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Deliveries per write.
const DELIVERIES: usize = 2000;
/// A flawed broker does it with every message of which the number is a multiple of this.
const FLAW_EVERY: u64 = 1000;

/// What the broker does wrong, so that the tool has something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Loses,
    Doubles,
    /// It has no QoS 2, and says so to those who understand it, and no retained messages for wildcards.
    Lacks,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(25883);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("serving {}", listener.local_addr()?);
    let manner = arguments.next().unwrap_or_default();
    let flaw = match manner.as_str() {
        "loses" => Flaw::Loses,
        "doubles" => Flaw::Doubles,
        "lacks" => Flaw::Lacks,
        _ => Flaw::None,
    };
    serve(&listener, flaw, manner == "flood")
}

/// Serves every connection on a thread of its own.
pub(crate) fn serve(listener: &TcpListener, flaw: Flaw, is_flooding: bool) -> Result<()> {
    let broker = Arc::new(Broker { flaw, is_flooding, ..Broker::default() });
    for stream in listener.incoming() {
        let (stream, broker) = (stream?, Arc::clone(&broker));
        thread::spawn(move || Peer::new(stream, broker)?.run());
    }
    Ok(())
}

impl Default for Broker {
    fn default() -> Self {
        let (flaw, is_flooding) = (Flaw::None, false);
        Self { flaw, is_flooding, subscriptions: Mutex::default(), retained: Mutex::default(), turn: Mutex::default() }
    }
}

struct Broker {
    flaw: Flaw,
    is_flooding: bool,
    subscriptions: Mutex<Vec<Subscription>>,
    /// Topics and packets.
    retained: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Messages so far.
    turn: Mutex<u64>,
}

struct Subscription {
    filter: String,
    is_shared: bool,
    stream: Arc<Mutex<TcpStream>>,
}

impl Subscription {
    fn has(&self, topic: &[u8]) -> bool {
        match self.filter.rsplit_once('/') {
            Some((prefix, "+" | "#")) => topic.starts_with(prefix.as_bytes()),
            _ => self.filter.as_bytes() == topic,
        }
    }
}

struct Peer {
    stream: TcpStream,
    /// For whoever writes to it: this thread or a publisher's.
    output: Arc<Mutex<TcpStream>>,
    broker: Arc<Broker>,
    is_v5: bool,
    replies: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream, broker: Arc<Broker>) -> Result<Self> {
        stream.set_nodelay(true)?;
        let output = Arc::new(Mutex::new(stream.try_clone()?));
        Ok(Self { stream, output, broker, is_v5: false, replies: Vec::new() })
    }

    fn run(mut self) -> Result<()> {
        let (mut buffer, mut end) = (vec![0; 1 << 18], 0);
        loop {
            let length = self.stream.read(&mut buffer[end..])?;
            end += length;
            let mut at = 0;
            while let Some((head, length)) = split(&buffer[at..end]) {
                if buffer[at] >> 4 == 14 {
                    return Ok(());
                }
                self.take(&buffer[at..at + length], head)?;
                at += length;
            }
            buffer.copy_within(at..end, 0);
            end -= at;
            lock(&self.output).write_all(&self.replies)?;
            self.replies.clear();
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn take(&mut self, packet: &[u8], head: usize) -> Result<()> {
        let body = &packet[head..];
        match packet[0] >> 4 {
            1 => {
                self.is_v5 = body[6] == 5;
                let lacks = self.broker.flaw == Flaw::Lacks;
                self.replies.extend_from_slice(match (self.is_v5, lacks) {
                    (false, _) => &[0x20, 2, 0, 0][..],
                    (true, false) => &[0x20, 3, 0, 0, 0],
                    (true, true) => &[0x20, 5, 0, 0, 2, 0x24, 1],
                });
            }
            3 => self.publish(packet, body),
            5 => self.replies.extend([0x62, 2, body[0], body[1]]),
            6 => self.replies.extend([0x70, 2, body[0], body[1]]),
            8 => return self.subscribe(body),
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, packet: &[u8], body: &[u8]) {
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let qos = packet[0] >> 1 & 3;
        if qos > 0 {
            self.replies.extend([if qos == 1 { 0x40 } else { 0x50 }, 2, body[topic_end], body[topic_end + 1]]);
        }
        let topic = &body[2..topic_end];
        if packet[0] & 1 == 1 {
            self.retain(topic, packet);
        }
        let subscriptions = lock(&self.broker.subscriptions);
        if subscriptions.is_empty() {
            return;
        }
        let mut turn = lock(&self.broker.turn);
        *turn += 1;
        let copies = match (self.broker.flaw, turn.is_multiple_of(FLAW_EVERY)) {
            (Flaw::Loses, true) => 0,
            (Flaw::Doubles, true) => 2,
            _ => 1,
        };
        let members = subscriptions.iter().filter(|one| one.is_shared).count().max(1) as u64;
        let mut member = *turn % members;
        for subscription in subscriptions.iter().filter(|one| one.has(topic)) {
            if subscription.is_shared {
                member = member.checked_sub(1).unwrap_or(members - 1);
                if member != 0 {
                    continue;
                }
            }
            for _ in 0..copies {
                // A subscriber that is gone gets nothing.
                let _ = lock(&subscription.stream).write_all(packet);
            }
        }
    }

    fn retain(&self, topic: &[u8], packet: &[u8]) {
        let mut retained = lock(&self.broker.retained);
        let number = retained.len() as u64 + 1;
        if self.broker.flaw != Flaw::Loses || !number.is_multiple_of(FLAW_EVERY) {
            retained.push((topic.to_vec(), packet.to_vec()));
        }
    }

    fn subscribe(&mut self, body: &[u8]) -> Result<()> {
        let mut rest = if self.is_v5 { &body[3..] } else { &body[2..] };
        let (mut codes, mut packets) = (Vec::new(), Vec::new());
        while let [high, low, text @ ..] = rest {
            let (filter, after) = text.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            let filter = String::from_utf8_lossy(filter);
            let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
            let filter = shared.map_or(&*filter, |(_, filter)| filter).to_owned();
            codes.push(after[0]);
            rest = &after[1..];
            let subscription = Subscription { filter, is_shared: shared.is_some(), stream: Arc::clone(&self.output) };
            if self.broker.flaw != Flaw::Lacks {
                let retained = lock(&self.broker.retained);
                let fitting = retained.iter().filter(|(topic, _)| subscription.has(topic));
                packets.extend(fitting.map(|(_, packet)| packet.clone()));
            }
            lock(&self.broker.subscriptions).push(subscription);
        }
        let properties: &[u8] = if self.is_v5 { &[0] } else { &[] };
        let length = (2 + properties.len() + codes.len()) as u8;
        self.replies.extend([&[0x90, length, body[0], body[1]], properties, &codes].concat());
        self.replies.extend(packets.concat());
        if self.broker.is_flooding {
            self.flood();
        }
        Ok(())
    }

    /// Deliveries of 16 bytes without a time, on a thread of their own.
    fn flood(&self) {
        let properties: &[u8] = if self.is_v5 { &[0] } else { &[] };
        let one = [&[0x30, 21 + properties.len() as u8, 0, 3][..], b"a/0", properties, &[0; 16]].concat();
        let (output, deliveries) = (Arc::clone(&self.output), one.repeat(DELIVERIES));
        thread::spawn(move || while lock(&output).write_all(&deliveries).is_ok() {});
    }
}

/// The length of the first packet's header and of the whole, once it is there.
fn split(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, &byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 127) << (7 * index);
        if byte < 128 {
            let head = index + 2;
            return (bytes.len() >= head + length).then_some((head, head + length));
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
