//! What the command line says about MQTT alone, and which of the other options make sense with it.

use std::fmt;

use clap::{Args, ValueEnum};

use super::stencil;
use super::wire::Version;
use crate::error::Error;
use crate::options::{Options, bytes, count, first};
use crate::report::grouped;

/// With QoS 1 and 2, if nothing else is said.
const OUTSTANDING: usize = 100;
/// As large as a body may be, so that the buffers that all connections of a thread share stay small.
const SIZE_MAX: usize = 16 << 20;

/// Options that only an mqtt:// URI has.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "With --uri mqtt://")]
pub struct MqttOptions {
    /// Quality of service of what is published and subscribed to: 0, 1 or 2; default: 0
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: Option<u8>,

    /// Topics; publishers and subscribers are spread over them round-robin, and a subscriber that has them all
    /// subscribes by a wildcard; default: 1
    #[arg(long, value_name = "N")]
    pub topics: Option<usize>,

    /// All subscribers subscribe to all topics as members of this group, among which the broker divides the messages
    #[arg(long, value_name = "NAME")]
    pub shared_group: Option<String>,

    /// Publish retained messages; the last one of each topic is cleared afterwards
    #[arg(long)]
    pub retain: bool,

    /// Version of the protocol; default: 5
    #[arg(long, value_name = "VERSION")]
    pub protocol_version: Option<ProtocolVersion>,

    /// Deliveries that may be due and not have arrived, over all subscribers: publishers wait for them, so that they
    /// find the highest rate without losses; default: without bound
    #[arg(long, value_name = "N")]
    pub undelivered: Option<u64>,

    /// Threads that the publishers share, and as many for the subscribers; default: 1
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// With --suite mqtt-idle: connections that are opened and then do nothing; default: 20,000
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,

    /// With --suite mqtt-connect: connections per second, for as long as --duration says; default: 5,000
    #[arg(long, value_name = "CONNECTS_PER_S")]
    pub connect_rate: Option<u64>,
}

/// The versions that the tool speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProtocolVersion {
    #[value(name = "3.1.1")]
    V311,
    #[default]
    #[value(name = "5")]
    V5,
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V5 { "5" } else { "3.1.1" })
    }
}

impl MqttOptions {
    pub(crate) fn qos(&self) -> u8 {
        self.qos.unwrap_or(0)
    }

    pub(crate) fn topics(&self) -> usize {
        self.topics.unwrap_or(1).max(1)
    }

    pub(crate) fn version(&self) -> Version {
        match self.protocol_version.unwrap_or_default() {
            ProtocolVersion::V311 => Version::V311,
            ProtocolVersion::V5 => Version::V5,
        }
    }

    /// The first that is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        first(&[
            (self.qos.is_some(), "--qos"),
            (self.topics.is_some(), "--topics"),
            (self.shared_group.is_some(), "--shared-group"),
            (self.retain, "--retain"),
            (self.protocol_version.is_some(), "--protocol-version"),
            (self.undelivered.is_some(), "--undelivered"),
            (self.threads.is_some(), "--threads"),
            (self.connections.is_some(), "--connections"),
            (self.connect_rate.is_some(), "--connect-rate"),
        ])
    }
}

/// Options that an mqtt:// URI does not have.
pub(crate) fn given_for_others(options: &Options) -> Option<&'static str> {
    first(&[
        (options.queues != 1, "--queues"),
        (options.fanout.is_some(), "--fanout"),
        (options.persistent, "--persistent"),
        (options.durable_queue, "--durable-queue"),
        (options.queue_type.is_some(), "--queue-type"),
        (options.ack, "--ack"),
        (options.ack_multiple != 1, "--ack-multiple"),
        (options.prefetch != 0, "--prefetch"),
        (options.delay_start.is_some(), "--delay-start"),
        (options.queue_prefix.is_some(), "--queue-prefix"),
        (!options.against_queue_type.is_empty(), "--against-queue-type"),
    ])
}

/// Whether the numbers make sense together.
pub(crate) fn check(options: &Options) -> Result<(), Error> {
    match options.suite {
        None if options.mqtt.connections.is_some() => {
            return Err(Error::Options("--connections is for --suite mqtt-idle"));
        }
        None if options.mqtt.connect_rate.is_some() => {
            return Err(Error::Options("--connect-rate is for --suite mqtt-connect"));
        }
        _ => {}
    }
    if options.one_in_flight && options.publishers > 1 {
        return Err(Error::Options("with MQTT, --one-in-flight has one publisher"));
    }
    if options.mqtt.qos() == 0 && options.confirms > 0 {
        return Err(Error::Options("--confirms needs --qos 1 or 2"));
    }
    if options.size > SIZE_MAX {
        return Err(Error::Options("with MQTT, --size is at most 16 MiB"));
    }
    if options.publishers.max(1).saturating_mul(options.mqtt.topics()) > stencil::STREAMS_MAX {
        return Err(Error::Options("publishers times topics must be at most 16 million"));
    }
    Ok(())
}

/// Makes the numbers consistent: the QoS decides whether there are acknowledgements, one in flight decides the windows.
pub(crate) fn resolved(options: &Options) -> Options {
    let mut options = Options { drain: true, ..options.clone() };
    if options.mqtt.qos() > 0 && options.confirms == 0 {
        options.confirms = OUTSTANDING;
    }
    if options.one_in_flight {
        options.publishers = options.publishers.max(1);
        options.consumers = options.consumers.max(1);
        options.confirms = options.confirms.min(1);
        // The load makes it large enough for all copies of one message.
        options.mqtt.undelivered = Some(0);
    }
    options
}

/// The load in a few words, for tables: `16 B QoS 1, 1 publisher, 1 subscriber, 100 unacknowledged`.
pub(crate) fn describe(options: &Options) -> String {
    let mqtt = &options.mqtt;
    let retained = if mqtt.retain { " retained" } else { "" };
    let mut words = vec![format!("{} QoS {}{retained}", bytes(options.size), mqtt.qos())];
    words.push(count(options.publishers, "publisher"));
    words.push(if options.consumers == 0 { "no subscriber".into() } else { count(options.consumers, "subscriber") });
    if mqtt.topics() > 1 {
        words.push(count(mqtt.topics(), "topic"));
    }
    words.extend(mqtt.shared_group.as_ref().map(|group| format!("shared by group {group}")));
    if options.one_in_flight {
        words.push("one in flight".to_owned());
    } else {
        if options.confirms > 0 {
            words.push(format!("{} unacknowledged", options.confirms));
        }
        match mqtt.undelivered.filter(|_| options.consumers > 0) {
            Some(window) => words.push(format!("{} undelivered", grouped(window as f64))),
            None if options.consumers > 0 && options.rate == 0 => words.push("unpaced".to_owned()),
            None => {}
        }
        if options.rate > 0 {
            words.push(format!("{}/s per publisher", options.rate));
        }
    }
    words.extend(mqtt.protocol_version.filter(|version| *version != ProtocolVersion::V5).map(|v| format!("MQTT {v}")));
    words.join(", ")
}

impl Options {
    /// Whether the broker may lose messages.
    pub(crate) fn is_lossy(&self) -> bool {
        self.is_mqtt() && self.mqtt.qos() == 0
    }
}

#[cfg(test)]
mod tests {
    use crate::options::tests::parse;

    #[test]
    fn options_of_the_other_protocol_are_refused() {
        let refusal = |arguments: &str| parse(arguments).check().err().map(|error| error.to_string());
        assert_eq!(refusal("--uri mqtt://h --qos 1 --confirms 7 --retain"), None);
        assert_eq!(refusal("--uri amqp://h --ack --prefetch 7"), None);
        assert_eq!(
            refusal("--uri mqtt://h --prefetch 7").unwrap(),
            "bad options: --prefetch makes no sense with mqtt://"
        );
        assert_eq!(refusal("--uri amqp://h --qos 1").unwrap(), "bad options: --qos makes no sense with amqp://");
        for arguments in [
            "--uri mqtt://h --suite speed",
            "--uri amqp://h --suite mqtt",
            "--uri mqtt://h --connections 5",
            "--uri mqtt://h --confirms 5",
            "--uri mqtt://h --one-in-flight --publishers 2",
            "--uri mqtt://h --publishers 100000 --topics 1000",
        ] {
            assert!(refusal(arguments).is_some(), "{arguments}");
        }
    }

    #[test]
    fn a_load_is_described() {
        let described = |arguments: &str| parse(&format!("--uri mqtt://h {arguments}")).resolved().describe();
        assert_eq!(described(""), "16 B QoS 0, 1 publisher, 1 subscriber, unpaced");
        assert_eq!(
            described("--qos 1 --size 1024 --topics 3 --undelivered 10000 --retain --protocol-version 3.1.1"),
            "1 KiB QoS 1 retained, 1 publisher, 1 subscriber, 3 topics, 100 unacknowledged, 10,000 undelivered, \
             MQTT 3.1.1"
        );
        assert_eq!(described("--one-in-flight --consumers 5"), "16 B QoS 0, 1 publisher, 5 subscribers, one in flight");
        assert_eq!(
            described("--shared-group g --rate 5"),
            "16 B QoS 0, 1 publisher, 1 subscriber, shared by group g, 5/s per publisher"
        );
    }
}
