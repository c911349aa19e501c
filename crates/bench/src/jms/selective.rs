//! A deep queue, and consumers with selectors that want a hundredth of it each.

use std::time::{Duration, Instant};

use super::consumer::Acks;
use super::dialect::{AckMode, Destination, Message, SETUP, Signal, Step, Subscription};
use super::link::Link;
use super::load;
use super::stencil::Stencil;
use crate::batch::STAMP_BYTES;
use crate::control::Totals;
use crate::error::Error;
use crate::feature::findings::{Findings, Part};
use crate::histogram::Histogram;
use crate::inbox::Fill;
use crate::janitor::Janitor;
use crate::meter::Meter;
use crate::options::Options;
use crate::uri::Uri;

const MESSAGES: u64 = 1_000_000;
/// Messages go round so many parts, by the property `part`.
const PARTS: u8 = 100;
/// Filled in transactions of so many messages, which every broker takes quickly.
const TRANSACTED: u64 = 1000;
/// Messages that pass a selective consumer behind the backlog, one after the other.
const LIVE: u64 = 1000;
/// What a consumer that selects may hold.
const PREFETCH: u16 = 1000;
/// A consumer that gets nothing for so long gets no more.
const STALL: Duration = Duration::from_secs(10);
const GOODBYE_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    load::with_queues(options, janitor, |topology, uri| {
        let name = topology.queues.first().map(String::as_str).unwrap_or_default();
        let queue = Queue { options, uri, destination: Destination { name, is_topic: false } };
        let server = Link::open(uri)?.server;
        let mut findings = Findings { label: options.name(&server), server, ..Findings::default() };
        match queue.measure(&mut findings) {
            // What it does have is worth telling.
            Err(error) if error.is_lack() => findings.unavailable = Some(error.to_string()),
            done => done?,
        }
        Ok(findings)
    })
}

struct Queue<'a> {
    options: &'a Options,
    uri: &'a Uri,
    destination: Destination<'a>,
}

impl Queue<'_> {
    fn measure(&self, findings: &mut Findings) -> Result<(), Error> {
        let messages = self.options.messages.unwrap_or(MESSAGES);
        let fill = self.metered("fill", || self.fill(messages))?;
        findings.parts.push(fill);
        let wanted = messages / u64::from(PARTS);
        let first = self.metered("select the last hundredth", || self.select(PARTS - 1, wanted))?;
        findings.parts.push(first);
        let second = self.metered("select another hundredth", || self.select(0, wanted))?;
        findings.parts.push(second);
        findings.parts.push(self.live()?);
        Ok(())
    }

    /// What the server pays for `work`, for each message of it.
    fn metered(&self, name: &'static str, work: impl FnOnce() -> Result<Flow, Error>) -> Result<Part, Error> {
        let meter = Meter::start(self.options.server_pid)?;
        let begun = Instant::now();
        let flow = work()?;
        let part = Part::new(name, flow.messages, begun.elapsed().as_secs_f64());
        let spent = meter.map(Meter::stop).transpose()?;
        let end = Totals { published: flow.messages, ..Totals::default() };
        let cost = spent.map(|spent| spent.cost(0, self.options.size, &Totals::default(), &end));
        Ok(Part { first_us: flow.first.map(|first| (first - begun).as_secs_f64() * 1e6), ..part.at_cost(cost) })
    }

    /// A producer's connection, and a stencil for a message of each part.
    fn producer(&self, is_transacted: bool) -> Result<(Link, Vec<Stencil>), Error> {
        let mut link = Link::open(self.uri)?;
        let (client, mut body) = (link.client.clone(), vec![0; self.options.size.max(STAMP_BYTES + 1)]);
        let mut stencils = Vec::new();
        for part in 0..PARTS {
            // Behind the time: who has no selectors gives himself away.
            body[STAMP_BYTES] = part;
            let message = Message {
                destination: self.destination,
                client: &client,
                is_persistent: true,
                is_answered: !is_transacted,
                is_transacted,
                part: Some(part),
                body: &body,
            };
            if stencils.is_empty() {
                let producer = link.dialect.producer(SETUP, &message);
                link.call(&producer, SETUP, |_| ())?;
            }
            stencils.push(link.dialect.stencil(&message));
        }
        Ok((link, stencils))
    }

    fn fill(&self, messages: u64) -> Result<Flow, Error> {
        let (mut link, mut stencils) = self.producer(true)?;
        let (mut published, mut transaction, mut out) = (0, 0, Vec::new());
        while published < messages {
            transaction += 1;
            out.clear();
            link.dialect.transaction(&mut out, Step::Begin, &link.client, transaction, published + 1);
            let end = messages.min(published + TRANSACTED);
            for number in published..end {
                let stencil = &mut stencils[(number % u64::from(PARTS)) as usize];
                stencil.copy(&mut out, number + 1, transaction, 0);
            }
            published = end;
            link.dialect.transaction(&mut out, Step::Commit, &link.client, transaction, published);
            link.call(&out, published, |_| ())?;
        }
        link.close(GOODBYE_WAIT)?;
        Ok(Flow { messages, first: None })
    }

    /// Consumes what has this part, and nothing else.
    fn select(&self, part: u8, wanted: u64) -> Result<Flow, Error> {
        let mut selection = Selection::subscribe(self, part)?;
        let mut first = (selection.seen > 0).then(Instant::now);
        let mut moved = Instant::now();
        while selection.seen < wanted && moved.elapsed() < STALL {
            if selection.take()? > 0 {
                moved = Instant::now();
                first = first.or(Some(moved));
            }
        }
        let seen = selection.close()?;
        match seen {
            _ if seen == wanted => Ok(Flow { messages: seen, first }),
            _ if seen < wanted => Err(Error::Lacks("selectors that reach all of a deep queue")),
            _ => Err(Error::Wrong("a selective consumer got more than there was".to_owned())),
        }
    }

    /// A consumer waits behind all that it does not want, and gets what comes, one after the other.
    fn live(&self) -> Result<Part, Error> {
        let mut selection = Selection::subscribe(self, 0)?;
        let (mut link, mut stencils) = self.producer(false)?;
        let (mut latency, mut out, begun) = (Histogram::default(), Vec::new(), Instant::now());
        for number in 1..=LIVE {
            out.clear();
            stencils[0].copy(&mut out, number, 0, 0);
            let sent = Instant::now();
            link.call(&out, number, |_| ())?;
            while selection.seen < number && sent.elapsed() < STALL {
                selection.take()?;
            }
            if selection.seen < number {
                return Err(Error::Lacks("selectors behind a deep queue"));
            }
            latency.record(sent.elapsed().as_nanos() as u64);
        }
        let part = Part::new("one at a time behind the rest", LIVE, begun.elapsed().as_secs_f64());
        selection.close()?;
        link.close(GOODBYE_WAIT)?;
        Ok(part.timed("send to delivery", &latency))
    }
}

/// Messages that went through, and when the first came.
struct Flow {
    messages: u64,
    first: Option<Instant>,
}

/// A consumer that wants one part.
struct Selection {
    link: Link,
    acks: Acks,
    part: u8,
    seen: u64,
}

impl Selection {
    fn subscribe(queue: &Queue<'_>, part: u8) -> Result<Self, Error> {
        let link = Link::open(queue.uri)?;
        let (client, selector) = (link.client.clone(), format!("part = '{part}'"));
        let subscription = Subscription {
            destination: queue.destination,
            client: &client,
            prefetch: PREFETCH,
            mode: AckMode::Range,
            selector: Some(&selector),
        };
        let acks = Acks::new(link.dialect, &subscription, u64::from(PREFETCH) / 2);
        let subscribe = link.dialect.subscribe(SETUP, &subscription);
        let mut selection = Self { link, acks, part, seen: 0 };
        let (mut bodies, Self { link, acks, .. }) = (Vec::new(), &mut selection);
        link.call(&subscribe, SETUP, |delivery| {
            acks.see(&delivery);
            bodies.push(delivery.body.get(STAMP_BYTES).copied());
        })?;
        bodies.into_iter().try_for_each(|body| selection.count(body))?;
        Ok(selection)
    }

    /// Waits for messages for a while, and acknowledges: how many came.
    fn take(&mut self) -> Result<u64, Error> {
        let before = self.seen;
        let fill = self.link.fill()?;
        while let Some(signal) = self.link.next()? {
            if let Signal::Delivery(delivery) = signal {
                self.acks.see(&delivery);
                let part = delivery.body.get(STAMP_BYTES).copied();
                self.count(part)?;
            }
        }
        if fill == Fill::Nothing {
            self.acks.flush();
        }
        self.answer()?;
        Ok(self.seen - before)
    }

    fn count(&mut self, part: Option<u8>) -> Result<(), Error> {
        self.seen += 1;
        if part == Some(self.part) { Ok(()) } else { Err(Error::Lacks("selectors")) }
    }

    fn answer(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        if !self.link.send_until(&self.acks.out, || begun.elapsed() > STALL)? {
            return Err(Error::Timeout("the server takes nothing"));
        }
        self.acks.out.clear();
        Ok(())
    }

    /// Acknowledges the rest, and leaves: how many came.
    fn close(mut self) -> Result<u64, Error> {
        self.acks.flush();
        self.answer()?;
        self.link.close(GOODBYE_WAIT)?;
        Ok(self.seen)
    }
}
