//! What of a session outlives the broker: notes in the log, one for each session, subscription, packet identifier and will, so
//! that each costs what it says and not what the session is.

use broker::{
    Batch, Millis, Name,
    record::{Reader, put_text},
};

use crate::{
    ORIGIN,
    outgoing::Place,
    packet::{Options, Qos, Version},
    sessions::Key,
    subscriptions::Subscription,
    will::Will,
};

const SESSION: u8 = b'c';
const SUBSCRIPTION: u8 = b's';
const RECEIVED: u8 = b'r';
const SENT: u8 = b'o';
const WILL: u8 = b'w';

/// What is noted of a session as a whole.
#[derive(Debug)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// Whose it is.
    pub user: Name,
    /// The version that its client spoke last.
    pub version: Version,
    /// Seconds that it stays without a connection.
    pub expiry_s: u32,
    /// When it ends, if nobody comes.
    pub ends: Option<Millis>,
}

/// What a note says.
#[derive(Debug)]
pub enum Note {
    /// That there is a session.
    Session(Key, Kept),
    /// Something of the session with a number.
    Of(u64, Detail),
}

/// What a note says of a session.
#[derive(Debug)]
pub enum Detail {
    /// That it has a subscription.
    Subscription(Box<str>, Subscription),
    /// That a publish of its client with quality of service 2 has come and is not released.
    Received(u16),
    /// That a message was sent, and with which quality of service.
    Sent(u16, Place, Qos),
    /// That the client has that message, and only the packet identifier is still in use.
    Released(u16),
    /// The will, and when it is published if the connection is gone.
    Will(Option<Millis>, Box<Will>),
}

/// Notes down a session, or that it is over.
pub fn session(batch: &mut Batch<'_>, (vhost, client_id): &Key, kept: Option<&Kept>) {
    let mut key = vec![SESSION];
    put_text(&mut key, vhost);
    put_text(&mut key, client_id);
    let value = kept.map(|kept| {
        let mut value = kept.number.to_be_bytes().to_vec();
        value.extend_from_slice(&kept.expiry_s.to_be_bytes());
        value.push(kept.version as u8);
        value.extend_from_slice(&kept.ends.map_or(0, |ends| ends.0).to_be_bytes());
        put_text(&mut value, &kept.user);
        value
    });
    batch.note(ORIGIN, &key, value.as_deref());
}

/// Notes down a subscription, or that it is gone.
pub fn subscription(batch: &mut Batch<'_>, number: u64, filter: &str, one: Option<&Subscription>) {
    let mut key = of(SUBSCRIPTION, number);
    put_text(&mut key, filter);
    let value = one.map(|one| {
        let mut value = vec![one.options.byte()];
        value.extend_from_slice(&one.id.to_be_bytes());
        value
    });
    batch.note(ORIGIN, &key, value.as_deref());
}

/// Notes down that a publish of the client with quality of service 2 has come, or is released.
pub fn received(batch: &mut Batch<'_>, number: u64, packet_id: u16, is_there: bool) {
    batch.note(ORIGIN, &packet(RECEIVED, number, packet_id), is_there.then_some(&[]));
}

/// Notes down that a message is sent: with quality of service 2 before it is, with 1 when the connection ends.
pub fn sent(batch: &mut Batch<'_>, number: u64, packet_id: u16, place: Place, qos: Qos) {
    let record = match place {
        Place::Record(record) => record,
        // What is in memory alone does not outlive the broker.
        Place::Slot(_) => 0,
    };
    let mut value = record.to_be_bytes().to_vec();
    value.push(qos as u8);
    batch.note(ORIGIN, &packet(SENT, number, packet_id), Some(&value));
}

/// Notes down that the client has what was sent to it with quality of service 2.
pub fn released(batch: &mut Batch<'_>, number: u64, packet_id: u16) {
    batch.note(ORIGIN, &packet(SENT, number, packet_id), Some(&[]));
}

/// Notes down that a packet identifier is no longer in use.
pub fn complete(batch: &mut Batch<'_>, number: u64, packet_id: u16) {
    batch.note(ORIGIN, &packet(SENT, number, packet_id), None);
}

/// Notes down a will, or that there is none; with the time at which it is published once that is known.
pub fn will(batch: &mut Batch<'_>, number: u64, will: Option<(Option<Millis>, &Will)>) {
    let value = will.map(|(at, will)| {
        let mut value = at.map_or(0, |at| at.0).to_be_bytes().to_vec();
        will.encode(&mut value);
        value
    });
    batch.note(ORIGIN, &of(WILL, number), value.as_deref());
}

fn packet(kind: u8, number: u64, packet_id: u16) -> Vec<u8> {
    let mut key = of(kind, number);
    key.extend_from_slice(&packet_id.to_be_bytes());
    key
}

fn of(kind: u8, number: u64) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn time(reader: &mut Reader<'_>) -> Option<Option<Millis>> {
    let at = reader.u64().ok()?;
    Some((at != 0).then_some(Millis(at)))
}

/// Reads a note.
pub fn read(key: &[u8], value: &[u8]) -> Option<Note> {
    let (kind, key) = key.split_first()?;
    let (mut key, mut value) = (Reader::new(key), Reader::new(value));
    if *kind == SESSION {
        let key = (key.text().ok()?.into(), key.text().ok()?.into());
        let (number, expiry_s) = (value.u64().ok()?, value.u32().ok()?);
        let version = match value.u8().ok()? {
            3 => Version::V31,
            4 => Version::V311,
            _ => Version::V5,
        };
        let ends = time(&mut value)?;
        let user = value.text().ok()?.into();
        return Some(Note::Session(key, Kept { number, user, version, expiry_s, ends }));
    }
    let number = key.u64().ok()?;
    let packet_id = |key: &mut Reader<'_>| Some(u16::from_be_bytes([key.u8().ok()?, key.u8().ok()?]));
    let detail = match *kind {
        SUBSCRIPTION => {
            let options = Options::of_byte(value.u8().ok()?, Version::V5).ok()?;
            Detail::Subscription(key.text().ok()?.into(), Subscription { options, id: value.u32().ok()? })
        }
        RECEIVED => Detail::Received(packet_id(&mut key)?),
        SENT => match value.u64() {
            Ok(0) => return None,
            Ok(record) => {
                let qos = Qos::of_bits(value.u8().ok()?).ok()?;
                Detail::Sent(packet_id(&mut key)?, Place::Record(record), qos)
            }
            Err(_) => Detail::Released(packet_id(&mut key)?),
        },
        WILL => Detail::Will(time(&mut value)?, Box::new(Will::decode(&mut value)?)),
        _ => return None,
    };
    Some(Note::Of(number, detail))
}
