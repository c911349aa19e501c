//! One publishing thread: as fast as the server takes it, within a window of answers, in transactions, by the clock, or
//! one at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::dialect::{Message, SETUP, Signal, Step};
use super::link::Link;
use super::options::is_answered;
use super::stencil::Stencil;
use crate::control::{Control, Counters};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::inbox::Fill;
use crate::mqtt::pace::{Due, Pace};
use crate::options::Options;
use crate::window::{Settlement, Window};

const WRITE_BYTES: usize = 128 * 1024;
/// Without answers, what the server says is looked at once per so many writes.
const WRITES_PER_LOOK: u32 = 64;
/// At full speed every so many-th message carries its time, as with AMQP.
const SAMPLE_EVERY: u64 = 61;
const PARK: Duration = Duration::from_millis(100);
const GOODBYE_WAIT_S: f64 = 2.0;
/// Losses are counted: the server gets the time to read what lies in its socket.
const GOODBYE_WAIT_MAX_S: f64 = 30.0;

pub(crate) struct Publisher {
    link: Link,
    stencil: Stencil,
    counters: Arc<Counters>,
    window: Option<Window>,
    /// Messages in each transaction; 0 is none.
    transacted: u64,
    transaction: u64,
    pace: Option<Pace>,
    rate: u64,
    stamps_all: bool,
    /// Messages still to be sent; `None` is without end.
    left: Option<u64>,
    published: u64,
    writes: u32,
    out: Vec<u8>,
    goodbye_wait: Duration,
    /// With one message in flight: the counters of the consumer that gets them.
    consumer: Option<Arc<Counters>>,
}

impl Publisher {
    pub(crate) fn new(
        mut link: Link,
        options: &Options,
        message: &Message<'_>,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let producer = link.dialect.producer(SETUP, message);
        link.call(&producer, SETUP, |_| ())?;
        let transacted = options.jms.transacted.unwrap_or(0);
        let window = if transacted > 0 { transacted as usize } else { options.confirms };
        let is_counted = options.drain || options.messages.is_some();
        Ok(Self {
            stencil: link.dialect.stencil(message),
            link,
            counters,
            window: (window > 0).then(|| Window::new(window)),
            transacted,
            transaction: 0,
            pace: None,
            rate: options.rate,
            stamps_all: options.rate > 0 || options.one_in_flight || is_answered(options),
            left: None,
            published: 0,
            writes: 0,
            out: Vec::with_capacity(WRITE_BYTES * 2),
            goodbye_wait: Duration::from_secs_f64(match is_counted {
                true => options.timeout_s().min(GOODBYE_WAIT_MAX_S),
                false => GOODBYE_WAIT_S,
            }),
            consumer: None,
        })
    }

    pub(crate) fn limit(&mut self, messages: Option<u64>) {
        self.left = messages;
    }

    pub(crate) fn waits_for(&mut self, consumer: Arc<Counters>) {
        self.consumer = Some(consumer);
    }

    /// Publishes until the load is over or the limit is reached; returns the times until the answers.
    pub(crate) fn run(mut self, control: &Control) -> Result<Histogram, Error> {
        self.pace = (self.rate > 0).then(|| Pace::new(self.rate, control.now()));
        while !control.is_settling() && self.left != Some(0) {
            let (wanted, stamp) = match self.pace.as_ref().map(|pace| pace.due(control.now())) {
                None => (u64::MAX, control.now()),
                Some(Due::Now(messages, stamp)) => (messages, stamp),
                Some(Due::At(at)) => {
                    thread::sleep(Duration::from_nanos(at.saturating_sub(control.now())).min(PARK));
                    continue;
                }
            };
            let wanted = if self.consumer.is_some() { 1 } else { wanted };
            let room = self.room();
            if room == 0 {
                self.link.fill()?;
                self.hear(control)?;
            } else if !self.publish(wanted.min(room), stamp, control)? {
                break;
            } else {
                self.settle_down(control)?;
            }
        }
        self.finish(control)
    }

    /// Messages that may be published now. A transaction begins when the one before is committed.
    fn room(&self) -> u64 {
        match &self.window {
            Some(window) if self.transacted > 0 && !window.is_empty() => 0,
            Some(window) => window.room() as u64,
            None => u64::MAX,
        }
    }

    /// Sends up to `wanted` messages in one write, or one transaction; `false` if the load ended before the server took
    /// them.
    fn publish(&mut self, wanted: u64, stamp: u64, control: &Control) -> Result<bool, Error> {
        let wanted = self.left.map_or(wanted, |left| wanted.min(left));
        let fits = (WRITE_BYTES / self.stencil.length()).max(1) as u64;
        let messages = if self.transacted > 0 { wanted } else { wanted.min(fits) };
        self.out.clear();
        if self.transacted > 0 {
            self.transaction += 1;
            self.step(Step::Begin);
        }
        for number in self.published + 1..=self.published + messages {
            let time = if self.stamps_all || number % SAMPLE_EVERY == 1 { stamp } else { 0 };
            self.stencil.copy(&mut self.out, number, self.transaction, time);
        }
        self.published += messages;
        if self.transacted > 0 {
            self.step(Step::Commit);
        }
        // Before the write, because the answer may be here before the write returns.
        if let Some(window) = &mut self.window {
            window.sent(messages as usize, stamp);
        }
        let out = std::mem::take(&mut self.out);
        let is_sent = self.send(&out, control)?;
        self.out = out;
        if is_sent {
            self.left = self.left.map(|left| left - messages);
            self.counters.published.store(self.published, Relaxed);
            if let Some(pace) = &mut self.pace {
                pace.published(messages);
            }
        }
        Ok(is_sent)
    }

    fn step(&mut self, step: Step) {
        let Self { link, out, transaction, published, .. } = self;
        link.dialect.transaction(out, step, &link.client, *transaction, *published);
    }

    fn send(&mut self, mut bytes: &[u8], control: &Control) -> Result<bool, Error> {
        while !bytes.is_empty() {
            let length = self.link.send_some(bytes)?;
            bytes = &bytes[length..];
            if length == 0 {
                if control.is_hopeless() {
                    return Ok(false);
                }
                // A server that takes nothing may have said why.
                self.look(control)?;
            }
        }
        Ok(true)
    }

    /// After a write: waits for the only message in flight, or looks for answers now and then.
    fn settle_down(&mut self, control: &Control) -> Result<(), Error> {
        let Some(consumer) = self.consumer.clone() else {
            self.writes += 1;
            let looks = self.window.as_ref().is_some_and(|window| window.room() > 0);
            return if looks || self.writes.is_multiple_of(WRITES_PER_LOOK) { self.look(control) } else { Ok(()) };
        };
        while self.window.as_ref().is_some_and(|window| !window.is_empty()) && !control.is_hopeless() {
            self.link.fill()?;
            self.hear(control)?;
        }
        while consumer.consumed.load(Relaxed) < self.published && !control.is_hopeless() {
            thread::park_timeout(PARK);
        }
        Ok(())
    }

    fn look(&mut self, control: &Control) -> Result<(), Error> {
        while self.link.fill_now()? != Fill::Nothing {
            self.hear(control)?;
        }
        Ok(())
    }

    /// Takes the answers that have been read.
    fn hear(&mut self, control: &Control) -> Result<(), Error> {
        let now = control.is_measuring().then(|| control.now());
        while let Some(signal) = self.link.next()? {
            if let (Signal::Answer(tag), Some(window)) = (signal, &mut self.window) {
                window.settle(Settlement { tag, is_multiple: self.transacted > 0, is_nack: false }, now)?;
            }
        }
        self.counters.received_bytes.store(self.link.inbox.received_bytes, Relaxed);
        if let Some(window) = &self.window {
            self.counters.confirmed.store(window.acked, Relaxed);
        }
        Ok(())
    }

    /// Waits for outstanding answers and says goodbye, whose answer proves that everything sent has arrived.
    fn finish(mut self, control: &Control) -> Result<Histogram, Error> {
        let deadline = control.now() + self.goodbye_wait.as_nanos() as u64;
        while self.window.as_ref().is_some_and(|window| !window.is_empty()) && control.now() < deadline {
            self.link.fill()?;
            self.hear(control)?;
        }
        let latency = self.window.take().map(|window| window.latency).unwrap_or_default();
        self.link.close(self.goodbye_wait).map(|()| latency)
    }
}
