//! One publishing thread: as fast as the server takes it, within a window of confirms, by the clock, or one at a time.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::batch::{Batch, Template};
use crate::connection::{CHANNEL, Connection, News, news};
use crate::control::{Control, Counters};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::inbox::{Fill, Inbox};
use crate::options::Options;
use crate::window::{Settlement, Window};
use crate::wire::{Frame, Method};

/// Without confirms, what the server says is looked at once per so many writes.
const WRITES_PER_LOOK: u32 = 64;
/// A paced publisher that fell behind by more than this dates its messages back to when they were due.
const LATE_NS: u64 = 1_000_000;
/// Nobody counts what is lost: leave quickly.
const GOODBYE_WAIT_S: f64 = 2.0;
/// Losses are counted: the server gets the time to read what lies in its socket.
const GOODBYE_WAIT_MAX_S: f64 = 30.0;
const PARK: Duration = Duration::from_millis(100);

pub(crate) struct Publisher {
    connection: Connection,
    batch: Batch,
    counters: Arc<Counters>,
    window: Option<Window>,
    rate: u64,
    /// Messages still to be sent; `None` is without end.
    left: Option<u64>,
    published: u64,
    writes: u32,
    goodbye_wait: Duration,
    /// With one message in flight: the counters of the consumer that gets them.
    consumer: Option<Arc<Counters>>,
}

impl Publisher {
    pub(crate) fn new(
        mut connection: Connection,
        options: &Options,
        target: (String, Vec<String>),
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        if options.confirms > 0 {
            connection.call(Method::CONFIRM_SELECT, Method::CONFIRM_SELECT_OK, |out| {
                out.octet(0);
            })?;
        }
        let (exchange, routing_keys) = target;
        let template = Template {
            channel: CHANNEL,
            exchange,
            persistent: options.persistent,
            size: options.size,
            frame_max: connection.frame_max,
            stamp_all: options.rate > 0 || options.one_in_flight || options.confirms > 0,
        };
        Ok(Self {
            connection,
            batch: Batch::new(&template, &routing_keys),
            counters,
            window: (options.confirms > 0).then(|| Window::new(options.confirms)),
            rate: options.rate,
            left: None,
            published: 0,
            writes: 0,
            goodbye_wait: Duration::from_secs_f64(if options.drain || options.messages.is_some() {
                options.timeout_s().min(GOODBYE_WAIT_MAX_S)
            } else {
                GOODBYE_WAIT_S
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

    /// Publishes until the load is over or the limit is reached.
    pub(crate) fn run(mut self, control: &Control) -> Result<Histogram, Error> {
        if let Some(consumer) = self.consumer.take() {
            self.one_at_a_time(control, &consumer)?;
        } else if self.rate > 0 {
            return self.paced(control);
        } else if self.window.is_some() {
            self.windowed(control)?;
        } else {
            self.flood(control)?;
        }
        self.finish(control)
    }

    fn flood(&mut self, control: &Control) -> Result<(), Error> {
        while !control.is_settling() && self.left != Some(0) {
            if !self.publish(usize::MAX, control.now(), control)? {
                break;
            }
            self.writes += 1;
            if self.writes.is_multiple_of(WRITES_PER_LOOK) {
                self.look(control)?;
            }
        }
        Ok(())
    }

    /// Keeps the window full: sends what there is room for, then sleeps until a confirm makes room.
    fn windowed(&mut self, control: &Control) -> Result<(), Error> {
        while !control.is_settling() && self.left != Some(0) {
            let room = self.window.as_ref().map_or(0, Window::room);
            if room == 0 {
                self.connection.inbox.fill(&mut self.connection.stream)?;
                self.take_confirms(control)?;
            } else if !self.publish(room, control.now(), control)? {
                break;
            } else if self.window.as_ref().is_some_and(|window| window.room() > 0) {
                // A window of many writes: confirms must not pile up in the socket meanwhile.
                self.look(control)?;
            }
        }
        Ok(())
    }

    fn one_at_a_time(&mut self, control: &Control, consumer: &Counters) -> Result<(), Error> {
        while !control.is_settling() && self.left != Some(0) {
            if !self.publish(1, control.now(), control)? {
                break;
            }
            while self.window.as_ref().is_some_and(|window| !window.is_empty()) && !control.is_hopeless() {
                self.connection.inbox.fill(&mut self.connection.stream)?;
                self.take_confirms(control)?;
            }
            while consumer.consumed.load(Relaxed) < self.published && !control.is_hopeless() {
                thread::park_timeout(PARK);
            }
        }
        Ok(())
    }

    /// Publishes by the clock. Confirms are read by a second thread, because this one sleeps between messages.
    fn paced(mut self, control: &Control) -> Result<Histogram, Error> {
        let Some(window) = self.window.take() else {
            self.pace(control, None)?;
            return self.finish(control);
        };
        let window = Mutex::new(window);
        let is_sent = AtomicBool::new(false);
        let stream = self.connection.stream.try_clone().map_err(Error::io("setting up the socket"))?;
        let reader =
            Reader { stream, inbox: std::mem::take(&mut self.connection.inbox), counters: Arc::clone(&self.counters) };
        let inbox = thread::scope(|scope| {
            let reader = scope.spawn(|| reader.run(control, &window, &is_sent));
            let sent = self.pace(control, Some(&window));
            is_sent.store(true, Relaxed);
            let inbox = reader.join().map_err(|_| Error::Thread)?;
            sent.and(inbox)
        })?;
        self.connection.inbox = inbox;
        self.window = Some(window.into_inner().unwrap_or_else(PoisonError::into_inner));
        self.finish(control)
    }

    fn pace(&mut self, control: &Control, window: Option<&Mutex<Window>>) -> Result<(), Error> {
        let start = control.now();
        let due_at = |message: u64, rate: u64| start + (u128::from(message) * 1_000_000_000 / u128::from(rate)) as u64;
        while !control.is_settling() && self.left != Some(0) {
            let now = control.now();
            let next = due_at(self.published, self.rate);
            if next > now {
                // Not longer than the patience of the other waits, so that a slow rate ends in time too.
                thread::sleep(Duration::from_nanos(next - now).min(PARK));
                continue;
            }
            // After a stall each write makes up for one slice, so that the dates stay true.
            let elapsed = u128::from(now.min(next + LATE_NS) - start);
            let due_until_then = elapsed * u128::from(self.rate) / 1_000_000_000 + 1;
            // At least the one that `next` says; the division may have rounded it away.
            let due = due_until_then.saturating_sub(u128::from(self.published)).max(1);
            let stamp = if now - next > LATE_NS { next } else { now };
            let Some(window) = window else {
                if !self.publish(due as usize, stamp, control)? {
                    break;
                }
                self.writes += 1;
                if self.writes.is_multiple_of(WRITES_PER_LOOK) {
                    self.look(control)?;
                }
                continue;
            };
            let room = lock(window).room().min(due as usize);
            if room == 0 {
                thread::sleep(Duration::from_micros(20));
            } else if !self.publish_into(room, stamp, control, Some(window))? {
                break;
            }
        }
        Ok(())
    }

    fn publish(&mut self, wanted: usize, stamp: u64, control: &Control) -> Result<bool, Error> {
        self.publish_into(wanted, stamp, control, None)
    }

    /// Sends up to `wanted` messages in one write; `false` if the load ended before the server took them.
    fn publish_into(
        &mut self,
        wanted: usize,
        stamp: u64,
        control: &Control,
        shared: Option<&Mutex<Window>>,
    ) -> Result<bool, Error> {
        let wanted = self.left.map_or(wanted, |left| wanted.min(usize::try_from(left).unwrap_or(wanted)));
        let (bytes, messages) = self.batch.take(wanted, stamp);
        // Before the write, because the confirm may be back before the write returns.
        match (shared, &mut self.window) {
            (Some(window), _) => lock(window).sent(messages, stamp),
            (None, Some(window)) => window.sent(messages, stamp),
            (None, None) => {}
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = self.connection.send_some(rest)?;
            rest = &rest[length..];
            if length == 0 && control.is_hopeless() {
                return Ok(false);
            }
            // A server that takes nothing may have said why. (A paced publisher's reader hears it by itself.)
            if length == 0 && shared.is_none() {
                listen(&mut self.connection, self.window.as_mut(), &self.counters, control)?;
            }
        }
        self.published += messages as u64;
        self.left = self.left.map(|left| left - messages as u64);
        self.counters.published.store(self.published, Relaxed);
        Ok(true)
    }

    fn look(&mut self, control: &Control) -> Result<(), Error> {
        listen(&mut self.connection, self.window.as_mut(), &self.counters, control)
    }

    fn take_confirms(&mut self, control: &Control) -> Result<(), Error> {
        take_confirms(&mut self.connection.inbox, self.window.as_mut(), &self.counters, control)
    }

    /// Waits for outstanding confirms and says goodbye, whose answer proves that everything sent has arrived.
    fn finish(mut self, control: &Control) -> Result<Histogram, Error> {
        let deadline = control.now() + self.goodbye_wait.as_nanos() as u64;
        while self.window.as_ref().is_some_and(|window| !window.is_empty()) && control.now() < deadline {
            self.connection.inbox.fill(&mut self.connection.stream)?;
            self.take_confirms(control)?;
        }
        let confirm_latency = self.window.take().map(|window| window.latency).unwrap_or_default();
        // A server with a backlog may answer late; that is no fault of the load.
        match self.connection.close(self.goodbye_wait) {
            Ok(()) | Err(Error::Timeout(_) | Error::HungUp) => Ok(confirm_latency),
            Err(error) => Err(error),
        }
    }
}

/// Reads the confirms of a paced publisher.
struct Reader {
    stream: TcpStream,
    inbox: Inbox,
    counters: Arc<Counters>,
}

impl Reader {
    /// Reads until everything is sent; hands the inbox back with what it still holds.
    fn run(mut self, control: &Control, window: &Mutex<Window>, is_sent: &AtomicBool) -> Result<Inbox, Error> {
        while !is_sent.load(Relaxed) {
            self.inbox.fill(&mut self.stream)?;
            take_confirms(&mut self.inbox, Some(&mut lock(window)), &self.counters, control)?;
        }
        Ok(self.inbox)
    }
}

/// A poisoned lock means that the other thread has already failed; its error is the one to report.
fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears, without waiting, what the server has said.
pub(crate) fn listen(
    connection: &mut Connection,
    mut window: Option<&mut Window>,
    counters: &Counters,
    control: &Control,
) -> Result<(), Error> {
    while connection.fill_now()? != Fill::Nothing {
        take_confirms(&mut connection.inbox, window.as_deref_mut(), counters, control)?;
    }
    Ok(())
}

pub(crate) fn take_confirms(
    inbox: &mut Inbox,
    mut window: Option<&mut Window>,
    counters: &Counters,
    control: &Control,
) -> Result<(), Error> {
    let now = control.is_measuring().then(|| control.now());
    counters.received_bytes.store(inbox.received_bytes, Relaxed);
    while let Some(frame) = inbox.next_frame()? {
        take_confirm(frame, window.as_deref_mut(), now, counters)?;
    }
    Ok(())
}

fn take_confirm(
    frame: Frame<'_>,
    window: Option<&mut Window>,
    now: Option<u64>,
    counters: &Counters,
) -> Result<(), Error> {
    let is_nack = match frame.method() {
        Some(Method::BASIC_ACK) => false,
        Some(Method::BASIC_NACK) => true,
        _ => {
            if let News::Blocked(is_blocked) = news(frame)? {
                counters.is_blocked.store(is_blocked, Relaxed);
            }
            return Ok(());
        }
    };
    let window = window.ok_or(Error::Protocol("a confirm that was not asked for"))?;
    let mut arguments = frame.arguments();
    let tag = arguments.long_long()?;
    let is_multiple = arguments.octet()? & 1 == 1;
    window.settle(Settlement { tag, is_multiple, is_nack }, now)?;
    counters.confirmed.store(window.acked, Relaxed);
    counters.nacked.store(window.nacked, Relaxed);
    Ok(())
}
