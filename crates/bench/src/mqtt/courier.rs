//! One connection that publishes a known number of messages with QoS 1, each of its own.

use std::time::{Duration, Instant};

use super::dialer::{self, Greeting};
use super::inflight::Inflight;
use super::link::{self, Link};
use super::poller::Poller;
use super::wire::{DISCONNECT, Encoder, Message, PUBACK};
use crate::error::Error;
use crate::histogram::Histogram;

/// Messages that may be unacknowledged, if the server takes so many.
const OUTSTANDING: u16 = 1000;
/// A write of about this size.
const WRITE_BYTES: usize = 64 * 1024;
/// A server that acknowledges nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Publishes retained messages under `topic` of 0, 1, 2, …, with the body that `body` makes of the number; returns the
/// times until they were acknowledged.
pub(crate) fn publish_retained(
    greeting: &Greeting,
    messages: u64,
    topic: impl Fn(u64) -> String,
    mut body: impl FnMut(u64, &mut Vec<u8>),
) -> Result<Histogram, Error> {
    let (mut link, welcome) = dialer::open_one(greeting)?;
    let mut inflight = Inflight::new(1, OUTSTANDING.min(welcome.receive_maximum));
    let (poller, mut ready) = (Poller::new()?, Vec::new());
    poller.add(&link, 0, false)?;
    let (mut scratch, mut latency, mut bytes) = (link::scratch(0), Histogram::default(), Vec::new());
    let start = Instant::now();
    let clock = || start.elapsed().as_nanos() as u64;
    let (mut published, mut moved) = (0, Instant::now());
    let mut out = Encoder::new(greeting.version);
    while published < messages || !inflight.is_empty() {
        out.bytes.clear();
        while published < messages && inflight.room() > 0 && out.bytes.len() < WRITE_BYTES && !link.is_stuck() {
            bytes.clear();
            body(published, &mut bytes);
            let (topic, id) = (topic(published), inflight.take(clock()));
            out.publish(&Message { topic: &topic, qos: 1, is_retained: true, id, body: &bytes });
            published += 1;
        }
        link.write(&out.bytes)?;
        link.await_room(&poller, 0)?;
        let is_full = published == messages || inflight.room() == 0 || link.is_stuck();
        poller.wait(if is_full { PATIENCE } else { Duration::ZERO }, &mut ready)?;
        for one in &ready {
            if one.can_write {
                link.flush()?;
            }
            if one.can_read {
                listen(&mut link, &mut inflight, &mut scratch, clock(), &mut latency)?;
            }
            moved = Instant::now();
        }
        if moved.elapsed() > PATIENCE {
            return Err(Error::Timeout("an acknowledgement"));
        }
    }
    if inflight.nacked > 0 {
        return Err(Error::Lacks("it refuses retained messages"));
    }
    dialer::leave(&mut link, greeting.version)?;
    Ok(latency)
}

fn listen(
    link: &mut Link,
    inflight: &mut Inflight,
    scratch: &mut [u8],
    now: u64,
    latency: &mut Histogram,
) -> Result<(), Error> {
    // QoS 1 is settled by one packet, so nothing is answered.
    let mut nothing = Encoder::new(super::wire::Version::V5);
    link.read(scratch, |packet| match packet.kind {
        PUBACK => inflight.settle(PUBACK, packet.settled()?, &mut nothing, now, Some(latency)),
        DISCONNECT => Err(packet.farewell()),
        _ => Err(Error::Protocol("a packet that no publisher expects")),
    })?;
    Ok(())
}
