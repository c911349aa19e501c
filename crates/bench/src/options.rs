//! The command line: which broker, how much load, how long, and where the figures go.

use std::path::PathBuf;

use clap::Args;

use crate::uri::Uri;

/// Publishers and consumers against any AMQP 0-9-1 broker.
///
/// The tool declares its own queues, loads them for a bounded time, deletes them, and prints rates, latencies and, when
/// it is told the server's process id, what the server paid for them.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Broker to load, amqp://user:password@host:port/vhost with percent-encoded parts
    #[arg(long, value_name = "URI", default_value = "amqp://guest:guest@127.0.0.1:5672/%2F")]
    pub uri: String,

    /// Publishers, each with a connection and a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: usize,

    /// Consumers, each with a connection and a thread of its own
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

    /// Publisher confirms: messages that each publisher may have unconfirmed; 0 = no confirms
    #[arg(long, value_name = "OUTSTANDING", default_value_t = 0)]
    pub confirms: usize,

    /// Acknowledge deliveries (otherwise the consumers use auto-ack)
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

    /// Publish one message, wait for its delivery (and confirm), publish the next; one queue and consumer per publisher
    #[arg(long)]
    pub one_in_flight: bool,

    /// Length of the measured window in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,

    /// Load before the measured window, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warm_up: f64,

    /// Publish exactly N messages over all publishers, instead of --duration and --warm-up
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,

    /// At the end, wait until everything is consumed, and report how many messages were lost
    #[arg(long)]
    pub drain: bool,

    /// Upper bound in seconds for --messages and for --drain
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    pub timeout: f64,

    /// Write the figures to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The server's process id on this machine: report its CPU time and memory
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,

    /// Name of the broker in the output; default: what it calls itself
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,

    /// Queues are named PREFIX-0, PREFIX-1, ...; default: bench-<process id>
    #[arg(long, value_name = "PREFIX")]
    pub queue_prefix: Option<String>,

    /// Second broker: run the same load against both in turn and print the medians side by side
    #[arg(long, value_name = "URI2")]
    pub against: Option<String>,

    /// Process id of the second broker
    #[arg(long, value_name = "PID2", requires = "against")]
    pub against_pid: Option<u32>,

    /// Name of the second broker in the output
    #[arg(long, value_name = "NAME", requires = "against")]
    pub against_label: Option<String>,

    /// Rounds per load, alternating between the brokers; medians are reported; default: 3 with --against, else 1
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,

    /// Run the standard scenarios one after another; sizes, counts and rates come from the scenario
    #[arg(long)]
    pub suite: bool,
}

impl Options {
    /// Makes the numbers consistent: fan-out and one-in-flight decide the queues and consumers themselves.
    pub(crate) fn resolved(&self) -> Self {
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
        options.durable_queue |= options.persistent;
        if options.prefetch > 0 {
            options.ack_multiple = options.ack_multiple.min(u64::from(options.prefetch) / 2);
        }
        options.ack_multiple = options.ack_multiple.max(1);
        options
    }

    /// How many queues get a copy of each message.
    pub(crate) fn copies(&self) -> u64 {
        self.fanout.map_or(1, |copies| copies.max(1) as u64)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.against.is_some() { 3 } else { 1 }).max(1)
    }

    /// The same load against the second broker, if there is one.
    pub(crate) fn rival(&self) -> Option<Self> {
        let uri = self.against.clone()?;
        Some(Self { uri, server_pid: self.against_pid, label: self.against_label.clone(), ..self.clone() })
    }

    /// The broker's name if it was given one, else where it is.
    pub(crate) fn place(&self) -> String {
        let address = || Uri::parse(&self.uri).map_or_else(|_| "a bad URI".to_owned(), |uri| uri.to_string());
        self.label.clone().unwrap_or_else(address)
    }

    /// The load in a few words, for tables: `16 B transient, 1 publisher, 1 consumer, auto-ack`.
    pub(crate) fn describe(&self) -> String {
        let mut words =
            vec![format!("{} {}", bytes(self.size), if self.persistent { "persistent" } else { "transient" })];
        words.push(count(self.publishers, "publisher"));
        words.push(match self.fanout {
            Some(copies) => format!("fan-out to {copies} queues"),
            None => count(self.consumers, "consumer"),
        });
        if self.queues > 1 && self.fanout.is_none() {
            words.push(count(self.queues, "queue"));
        }
        if self.confirms > 0 {
            words.push(format!("{} unconfirmed", self.confirms));
        }
        words.push(match (self.ack, self.ack_multiple) {
            (false, _) => "auto-ack".to_owned(),
            (true, 1) => "manual ack".to_owned(),
            (true, every) => format!("ack every {every}"),
        });
        if self.prefetch > 0 {
            words.push(format!("prefetch {}", self.prefetch));
        }
        if self.one_in_flight {
            words.push("one in flight".to_owned());
        } else if self.rate > 0 {
            words.push(format!("{}/s per publisher", self.rate));
        }
        words.join(", ")
    }
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn bytes(size: usize) -> String {
    if size >= 1024 && size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { format!("{size} B") }
}
