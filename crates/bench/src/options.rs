//! The command line: which broker, how much load, how long, and where the figures go.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::jms;
use crate::jms::options::JmsOptions;
use crate::mqtt::options::MqttOptions;
use crate::suite::Suite;
use crate::uri::{Scheme, Uri};

const TIMEOUT_S: f64 = 300.0;
/// Ten million messages take a slow broker many minutes.
const BACKLOG_TIMEOUT_S: f64 = 3600.0;

/// Publishers and consumers against any broker of AMQP 0-9-1, MQTT, STOMP or OpenWire.
///
/// The tool declares its own queues, loads them for a bounded time, deletes them, and prints rates, latencies and, when
/// it is told the server's process id, what the server paid for them. MQTT needs no queues: --consumers are subscribers.
/// STOMP cannot delete queues: they are left empty, and expire where the broker has that.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Broker to load, amqp://user:password@host:port/vhost, mqtt://user:password@host:port,
    /// stomp://user:password@host:port/vhost or, for OpenWire, tcp://user:password@host:port, with percent-encoded parts
    #[arg(long, value_name = "URI", default_value = "amqp://guest:guest@127.0.0.1:5672/%2F")]
    pub uri: String,

    /// Publishers, each with a connection of its own, and but for MQTT with a thread too
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: usize,

    /// Consumers, each with a connection of its own, and but for MQTT with a thread too
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub consumers: usize,

    /// Queues; publishers and consumers are spread over them round-robin
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queues: usize,

    /// Publish to a fanout exchange bound to N queues with one consumer each (replaces --queues and --consumers)
    #[arg(long, value_name = "N")]
    pub fanout: Option<usize>,

    /// Body size in bytes; latency needs at least 8
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    pub size: usize,

    /// Publish persistent messages (delivery mode 2) to durable queues
    #[arg(long)]
    pub persistent: bool,

    /// Declare durable queues; --persistent implies it
    #[arg(long)]
    pub durable_queue: bool,

    /// Declare queues with the argument x-queue-type, such as classic or quorum; default: without the argument
    #[arg(long, value_name = "TYPE")]
    pub queue_type: Option<String>,

    /// Publisher confirms: messages that each publisher may have unconfirmed; 0 = no confirms, and with MQTT's QoS 1
    /// and 2 at most 100; a server that takes fewer has its way. With STOMP receipts, with OpenWire responses: 1 is
    /// what clients of JMS do
    #[arg(long, value_name = "OUTSTANDING", default_value_t = 0)]
    pub confirms: usize,

    /// Acknowledge deliveries (otherwise the consumers use auto-ack; with OpenWire, which has none, they acknowledge
    /// many at a time)
    #[arg(long)]
    pub ack: bool,

    /// With --ack: one acknowledgement for every N deliveries; at most half of --prefetch, so that it cannot starve
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub ack_multiple: u64,

    /// Deliveries that a consumer may hold unacknowledged; 0 = unlimited
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub prefetch: u16,

    /// Messages per second and publisher, paced by time; 0 = as fast as the broker takes them
    #[arg(long, value_name = "MSGS_PER_S", default_value_t = 0)]
    pub rate: u64,

    /// Publish one message, wait for its delivery (and confirm), publish the next; one queue and consumer per publisher,
    /// with MQTT one publisher
    #[arg(long)]
    pub one_in_flight: bool,

    /// Length of the measured window in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,

    /// Load before the measured window, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warm_up: f64,

    /// End the measured window early, once BYTES of bodies were published in it: bounds what a load without consumers
    /// leaves on the disk
    #[arg(long, value_name = "BYTES")]
    pub bytes_max: Option<u64>,

    /// Publish exactly N messages over all publishers, instead of --duration and --warm-up
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,

    /// At the end, wait until everything is consumed, and report how many messages were lost; with MQTT it is always so
    #[arg(long)]
    pub drain: bool,

    /// Upper bound in seconds for --messages and for --drain; default: 300, and 3600 for each part of
    /// --suite backlog, delayed, stream and mqtt-retained
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,

    /// With --suite delayed: the span in seconds over which the messages are due, one after another
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub delay_window: f64,

    /// With --suite delayed: when the first message is due, in seconds after the first is published; default: twice
    /// the time that publishing will probably take
    #[arg(long, value_name = "SECONDS")]
    pub delay_start: Option<f64>,

    /// Write the figures to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The server's process id on this machine: report its CPU time, its memory and what it writes to disk
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// The server's data directory on this machine: --suite backlog, delayed and stream report its size, whatever
    /// else it holds
    #[arg(long, value_name = "DIR")]
    pub server_data: Option<PathBuf>,

    /// Name of the broker in the output; default: what it calls itself
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,

    /// Queues are named PREFIX-0, PREFIX-1, ...; default: bench-<process id>
    #[arg(long, value_name = "PREFIX")]
    pub queue_prefix: Option<String>,

    /// Second broker: run the same load against both in turn and print the medians side by side; given more than once,
    /// against all of them, and what follows about them is given as often
    #[arg(long, value_name = "URI2")]
    pub against: Vec<String>,

    /// Process id of the second broker
    #[arg(long, value_name = "PID2", requires = "against")]
    pub against_pid: Vec<u32>,

    /// Data directory of the second broker
    #[arg(long, value_name = "DIR2", requires = "against")]
    pub against_data: Vec<PathBuf>,

    /// Queue type at the second broker; given more than once, each type is a column of its own; default: --queue-type
    #[arg(long, value_name = "TYPE", requires = "against")]
    pub against_queue_type: Vec<String>,

    /// Name of the second broker in the output
    #[arg(long, value_name = "NAME", requires = "against")]
    pub against_label: Vec<String>,

    /// Rounds per load, alternating between the columns; medians are reported; default: 3 with --against, else 1
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,

    /// Run standard scenarios one after another; what a scenario is about does not come from the command line
    ///
    /// `confirms` publishes without consumers and deletes the queues after each load. `backlog` takes --messages
    /// (default: a million) and --size, and measures once whatever --rounds says. `ttl`, `priority`, `delayed`,
    /// `stream` and `many` take --messages (default: 200,000, and a million for `delayed` and `stream`) of 100 B, and
    /// measure once unless --rounds says otherwise; a broker that refuses what they declare is `not available`.
    /// `mqtt`, `mqtt-idle`, `mqtt-connect` and `mqtt-retained` are for mqtt://, `jms` and `selective` (which takes
    /// --messages, default a million) for tcp:// and stomp://, the others for amqp://.
    #[arg(long, value_name = "SUITE", num_args = 0..=1, default_missing_value = "speed")]
    pub suite: Option<Suite>,

    /// Measure what the disk under DIR can do, which bounds every broker that syncs; runs alone, or before a --suite
    /// or an --against
    #[arg(long, value_name = "DIR")]
    pub disk: Option<PathBuf>,

    #[command(flatten)]
    pub mqtt: MqttOptions,

    #[command(flatten)]
    pub jms: JmsOptions,
}

impl Options {
    /// What must be right before anything is connected to.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let scheme = Uri::parse(&self.uri)?.scheme;
        for rival in &self.against {
            if Uri::parse(rival)?.scheme != scheme {
                return Err(Error::Options("brokers are compared by the same protocol"));
            }
        }
        let counts = [self.against_pid.len(), self.against_data.len(), self.against_label.len()];
        if counts.iter().any(|&count| count > 0 && count != self.against.len()) {
            return Err(Error::Options("what is said about the second broker must be said for each --against"));
        }
        if let Some(option) = self.stray(scheme) {
            return Err(Error::Misfit { option, scheme: scheme.name() });
        }
        match scheme {
            Scheme::Amqp => Ok(()),
            Scheme::Mqtt => crate::mqtt::options::check(self),
            Scheme::Stomp | Scheme::OpenWire => jms::options::check(self),
        }
    }

    /// The first option that makes no sense with the URI's scheme.
    fn stray(&self, scheme: Scheme) -> Option<&'static str> {
        let stray = match scheme {
            Scheme::Amqp => self.mqtt.given().or(self.jms.given()),
            Scheme::Mqtt => crate::mqtt::options::given_for_others(self).or(self.jms.given()),
            Scheme::Stomp | Scheme::OpenWire => jms::options::given_for_others(self).or(self.mqtt.given()),
        };
        stray.or(self.suite.filter(|suite| !suite.takes(scheme)).map(|_| "this --suite"))
    }

    pub(crate) fn is_jms(&self) -> bool {
        Uri::parse(&self.uri).is_ok_and(|uri| uri.scheme.is_jms())
    }

    pub(crate) fn is_mqtt(&self) -> bool {
        Uri::parse(&self.uri).is_ok_and(|uri| uri.scheme == Scheme::Mqtt)
    }

    /// Makes the numbers consistent: fan-out and one-in-flight decide the queues and consumers themselves.
    pub(crate) fn resolved(&self) -> Self {
        if self.is_mqtt() {
            return crate::mqtt::options::resolved(self);
        }
        let mut options = self.clone();
        if let Some(copies) = options.fanout {
            options.queues = copies.max(1);
            options.consumers = options.queues;
        }
        if options.one_in_flight {
            options.publishers = options.publishers.max(1);
            options.queues = options.publishers;
            options.consumers = options.publishers;
            options.fanout = None;
        }
        options.queues = options.queues.max(1);
        // A quorum queue or a stream that is not durable is refused.
        options.durable_queue |=
            options.persistent || matches!(options.queue_type.as_deref(), Some("quorum" | "stream"));
        if options.prefetch > 0 {
            options.ack_multiple = options.ack_multiple.min(u64::from(options.prefetch) / 2);
        }
        options.ack_multiple = options.ack_multiple.max(1);
        options
    }

    /// How many queues get a copy of each message.
    pub(crate) fn copies(&self) -> u64 {
        if self.jms.is_topic() {
            return self.consumers as u64;
        }
        self.fanout.map_or(1, |copies| copies.max(1) as u64)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.against.is_empty() { 1 } else { 3 }).max(1)
    }

    /// The same load against each that is compared: the broker under test first, then every other one with each of the
    /// queue types.
    pub(crate) fn columns(&self) -> Vec<Self> {
        let mut columns = vec![self.clone()];
        for (index, uri) in self.against.iter().enumerate() {
            let rival = Self {
                uri: uri.clone(),
                server_pid: self.against_pid.get(index).copied(),
                server_data: self.against_data.get(index).cloned(),
                label: self.against_label.get(index).cloned(),
                ..self.clone()
            };
            let of_type = |queue_type: &String| Self { queue_type: Some(queue_type.clone()), ..rival.clone() };
            columns.extend(self.against_queue_type.iter().map(of_type));
            if self.against_queue_type.is_empty() {
                columns.push(rival);
            }
        }
        columns
    }

    pub(crate) fn timeout_s(&self) -> f64 {
        let is_long = matches!(self.suite, Some(Suite::Backlog | Suite::Delayed | Suite::Stream | Suite::MqttRetained));
        let default = if is_long { BACKLOG_TIMEOUT_S } else { TIMEOUT_S };
        self.timeout.unwrap_or(default)
    }

    /// What the output calls the broker, which calls itself `server`: `RabbitMQ 4.0.5 quorum`.
    pub(crate) fn name(&self, server: &str) -> String {
        let name = self.label.as_deref().unwrap_or(server);
        self.queue_type.as_ref().map_or_else(|| name.to_owned(), |queue_type| format!("{name} {queue_type}"))
    }

    /// The broker's name if it was given one, else where it is.
    pub(crate) fn place(&self) -> String {
        self.name(&Uri::parse(&self.uri).map_or_else(|_| "a bad URI".to_owned(), |uri| uri.to_string()))
    }

    /// The load in a few words, for tables: `16 B transient, 1 publisher, 1 consumer, auto-ack`.
    pub(crate) fn describe(&self) -> String {
        if self.is_mqtt() {
            return crate::mqtt::options::describe(self);
        }
        if self.is_jms() {
            return jms::options::describe(self);
        }
        let mut words =
            vec![format!("{} {}", bytes(self.size), if self.persistent { "persistent" } else { "transient" })];
        words.push(count(self.publishers, "publisher"));
        words.push(match self.fanout {
            Some(copies) => format!("fan-out to {copies} queues"),
            None if self.consumers == 0 => "no consumer".to_owned(),
            None => count(self.consumers, "consumer"),
        });
        if self.queues > 1 && self.fanout.is_none() {
            words.push(count(self.queues, "queue"));
        }
        if self.confirms > 0 {
            words.push(format!("{} unconfirmed", self.confirms));
        }
        if self.consumers > 0 {
            words.push(match (self.ack, self.ack_multiple) {
                (false, _) => "auto-ack".to_owned(),
                (true, 1) => "manual ack".to_owned(),
                (true, every) => format!("ack every {every}"),
            });
            if self.prefetch > 0 {
                words.push(format!("prefetch {}", self.prefetch));
            }
        }
        if self.one_in_flight {
            words.push("one in flight".to_owned());
        } else if self.rate > 0 {
            words.push(format!("{}/s per publisher", self.rate));
        }
        words.join(", ")
    }
}

/// The first option that is given.
pub(crate) fn first(options: &[(bool, &'static str)]) -> Option<&'static str> {
    options.iter().find(|(is_given, _)| *is_given).map(|(_, name)| *name)
}

pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

pub(crate) fn bytes(size: usize) -> String {
    if size >= 1024 && size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { format!("{size} B") }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    /// The options of a command line.
    pub(crate) fn parse(arguments: &str) -> Options {
        CommandLine::parse_from(["bench"].into_iter().chain(arguments.split_whitespace())).options
    }

    #[test]
    fn a_suite_without_a_value_is_the_one_of_speed() {
        assert_eq!(parse("").suite, None);
        assert_eq!(parse("--suite --duration 2").suite, Some(Suite::Speed));
        let backlog = parse("--suite backlog");
        assert_eq!((backlog.suite, backlog.timeout_s()), (Some(Suite::Backlog), BACKLOG_TIMEOUT_S));
    }

    #[test]
    fn every_queue_type_of_the_rival_is_a_column() {
        let names = |arguments: &str| -> Vec<String> {
            parse(arguments).columns().iter().map(|column| column.name("broker")).collect()
        };
        assert_eq!(names("--label A"), ["A"]);
        assert_eq!(names("--queue-type quorum --against amqp://h --against-label B"), ["broker quorum", "B quorum"]);
        let types = "--against-queue-type classic --against-queue-type quorum";
        let arguments = format!("--label A --against amqp://h --against-pid 7 --against-data d {types}");
        assert_eq!(names(&arguments), ["A", "broker classic", "broker quorum"]);
        let columns = parse(&arguments).columns();
        assert_eq!((columns[0].server_pid, columns[0].server_data.as_ref()), (None, None));
        assert!(columns[1..].iter().all(|column| column.uri == "amqp://h" && column.server_pid == Some(7)));
    }

    #[test]
    fn every_rival_is_a_column_and_has_its_own_figures() {
        let arguments = "--uri mqtt://a --against mqtt://b --against mqtt://c --against-pid 1 --against-pid 2 \
            --against-label B --against-label C";
        let columns = parse(arguments).columns();
        let told: Vec<_> = columns.iter().map(|column| (column.place(), column.server_pid)).collect();
        assert_eq!(told, [("mqtt://a:1883".into(), None), ("B".into(), Some(1)), ("C".into(), Some(2))]);
        assert!(parse(arguments).check().is_ok());
        assert!(parse("--uri mqtt://a --against mqtt://b --against mqtt://c --against-pid 1").check().is_err());
        assert!(parse("--uri mqtt://a --against amqp://b").check().is_err());
    }

    #[test]
    fn a_quorum_queue_is_durable() {
        assert!(parse("--queue-type quorum").resolved().durable_queue);
        assert!(!parse("--queue-type classic").resolved().durable_queue);
    }
}
