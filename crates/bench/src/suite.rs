//! Standard scenarios, which the broker's name, the window and the rounds of the command line leave comparable.

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;
use crate::janitor::Janitor;
use crate::jms::options::JmsOptions;
use crate::jms::{scenarios, selective};
use crate::mqtt::options::MqttOptions;
use crate::mqtt::{cells, idle, retained, storm};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::uri::Scheme;
use crate::{backlog, confirms, feature, speed};

/// What a run of scenarios is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// Rates, cost and latency end to end
    Speed,
    /// Confirmed persistent publishing, by body size, publishers and outstanding confirms
    Confirms,
    /// A durable queue is filled without a consumer, then drained: rates, memory and disk
    Backlog,
    /// Messages that expire or are rejected, and go to a dead letter exchange
    Ttl,
    /// A queue with ten priorities: filled, drained in order, and both at once
    Priority,
    /// Messages that an exchange of type x-delayed-message holds back: rate, memory, lateness
    Delayed,
    /// A stream is written, then replayed by one reader and by three
    Stream,
    /// Ten thousand queues with a consumer each; a hundred thousand bindings of a topic exchange
    Many,
    /// MQTT: one to one, to a thousand, and from a thousand, with each QoS and two sizes
    Mqtt,
    /// MQTT: thousands of connections that do nothing: memory and CPU
    MqttIdle,
    /// MQTT: connections that come and go, by the clock and as fast as it goes
    MqttConnect,
    /// MQTT: a million retained messages, and a subscriber to all of them
    MqttRetained,
    /// STOMP and OpenWire: queues, topics and transactions, asynchronous and synchronous
    Jms,
    /// STOMP and OpenWire: a million messages, and consumers with selectors that want some of them
    Selective,
}

impl Suite {
    /// Whether it is about this protocol.
    pub(crate) fn takes(self, scheme: Scheme) -> bool {
        match self {
            Self::Mqtt | Self::MqttIdle | Self::MqttConnect | Self::MqttRetained => scheme == Scheme::Mqtt,
            Self::Jms | Self::Selective => scheme.is_jms(),
            _ => scheme == Scheme::Amqp,
        }
    }
}

/// Runs a suite; what was measured before an error is in `outcome` all the same.
pub(crate) fn run(suite: Suite, options: &Options, janitor: &mut Janitor, outcome: &mut Outcome) -> Result<(), Error> {
    match suite {
        Suite::Speed => speed::run(options, janitor, &mut outcome.loads),
        Suite::Confirms => confirms::run(options, janitor, outcome),
        Suite::Backlog => backlog::run(options, janitor, &mut outcome.backlogs),
        Suite::Ttl => feature::run(feature::ttl::measure, options, janitor, &mut outcome.features),
        Suite::Priority => feature::run(feature::priority::measure, options, janitor, &mut outcome.features),
        Suite::Delayed => feature::run(feature::delayed::measure, options, janitor, &mut outcome.features),
        Suite::Stream => feature::run(feature::stream::measure, options, janitor, &mut outcome.features),
        Suite::Many => feature::run(feature::many::measure, options, janitor, &mut outcome.features),
        Suite::Mqtt => cells::run(options, janitor, outcome),
        Suite::MqttIdle => feature::run(idle::measure, options, janitor, &mut outcome.features),
        Suite::MqttConnect => feature::run(storm::measure, options, janitor, &mut outcome.features),
        Suite::MqttRetained => feature::run(retained::measure, options, janitor, &mut outcome.features),
        Suite::Jms => scenarios::run(options, janitor, outcome),
        Suite::Selective => feature::run(selective::measure, options, janitor, &mut outcome.features),
    }
}

/// The smallest load on the same brokers: what a scenario does not set must not come from the command line.
pub(crate) fn plain(options: &Options) -> Options {
    Options {
        publishers: 1,
        consumers: 1,
        queues: 1,
        fanout: None,
        persistent: false,
        durable_queue: false,
        confirms: 0,
        ack: false,
        ack_multiple: 1,
        prefetch: 0,
        rate: 0,
        one_in_flight: false,
        bytes_max: None,
        messages: None,
        drain: false,
        mqtt: MqttOptions {
            qos: None,
            topics: None,
            shared_group: None,
            retain: false,
            undelivered: None,
            ..options.mqtt.clone()
        },
        jms: JmsOptions::default(),
        ..options.clone()
    }
}
