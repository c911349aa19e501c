//! What the command line says about brokers of JMS alone, and which of the other options make sense with them.

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::options::{Options, bytes, count, first};

/// A frame must fit into the buffers that all protocols share.
const SIZE_MAX: usize = 100 << 10;

/// Options that only a tcp:// or stomp:// URI has.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "With --uri tcp:// (OpenWire) and stomp://")]
pub struct JmsOptions {
    /// What messages are sent to; each consumer of a topic gets each message; default: queue
    #[arg(long, value_name = "KIND")]
    pub destination: Option<DestinationKind>,

    /// Messages of each transaction; the next one begins when it is committed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub transacted: Option<u64>,
}

/// What messages are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DestinationKind {
    Queue,
    Topic,
}

impl JmsOptions {
    pub(crate) fn is_topic(&self) -> bool {
        self.destination == Some(DestinationKind::Topic)
    }

    /// The first that is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        first(&[(self.destination.is_some(), "--destination"), (self.transacted.is_some(), "--transacted")])
    }
}

/// Whether the broker answers what is sent.
pub(crate) fn is_answered(options: &Options) -> bool {
    options.confirms > 0 || options.jms.transacted.is_some()
}

/// Options that neither tcp:// nor stomp:// has.
pub(crate) fn given_for_others(options: &Options) -> Option<&'static str> {
    first(&[
        (options.fanout.is_some(), "--fanout"),
        (options.durable_queue, "--durable-queue"),
        (options.queue_type.is_some(), "--queue-type"),
        (options.delay_start.is_some(), "--delay-start"),
        (!options.against_queue_type.is_empty(), "--against-queue-type"),
    ])
}

/// Whether the numbers make sense together.
pub(crate) fn check(options: &Options) -> Result<(), Error> {
    let sides = [options.publishers, options.consumers];
    if options.jms.is_topic() && options.queues != 1 {
        return Err(Error::Options("--queues is for queues, not for topics"));
    }
    if !options.one_in_flight && sides.iter().any(|&side| side > 0 && side < options.queues) {
        return Err(Error::Options("with STOMP and OpenWire, each queue needs a publisher and a consumer of its own"));
    }
    if options.jms.transacted.is_some() && (options.confirms > 0 || options.one_in_flight || options.rate > 0) {
        return Err(Error::Options("--transacted goes with neither --confirms, --one-in-flight nor --rate"));
    }
    if options.size > SIZE_MAX {
        return Err(Error::Options("with STOMP and OpenWire, --size is at most 100 KiB"));
    }
    Ok(())
}

/// The load in a few words, for tables: `1 KiB persistent to a queue, 1 publisher, 1 consumer, asynchronous`.
pub(crate) fn describe(options: &Options) -> String {
    let jms = &options.jms;
    let persistence = if options.persistent { "persistent" } else { "transient" };
    let target = match (jms.is_topic(), options.queues) {
        (true, _) => "a topic".to_owned(),
        (false, 1) => "a queue".to_owned(),
        (false, queues) => count(queues, "queue"),
    };
    let mut words = vec![format!("{} {persistence} to {target}", bytes(options.size))];
    words.push(count(options.publishers, "publisher"));
    words.push(if options.consumers == 0 { "no consumer".into() } else { count(options.consumers, "consumer") });
    words.push(match (jms.transacted, options.confirms) {
        (Some(messages), _) => format!("{messages} in each transaction"),
        (None, 0) => "asynchronous".to_owned(),
        (None, 1) => "synchronous".to_owned(),
        (None, outstanding) => format!("{outstanding} unanswered"),
    });
    if options.consumers > 0 {
        words.extend(match (options.ack, options.ack_multiple) {
            (false, _) => None,
            (true, 1) => Some("ack of each".to_owned()),
            (true, every) => Some(format!("ack every {every}")),
        });
        if options.prefetch > 0 {
            words.push(format!("prefetch {}", options.prefetch));
        }
    }
    if options.one_in_flight {
        words.push("one in flight".to_owned());
    } else if options.rate > 0 {
        words.push(format!("{}/s per publisher", options.rate));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use crate::options::tests::parse;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refusal = |arguments: &str| parse(arguments).check().err().map(|error| error.to_string());
        assert_eq!(refusal("--uri tcp://h --destination topic --consumers 10"), None);
        assert_eq!(refusal("--uri stomp://h --transacted 100 --persistent --ack"), None);
        for arguments in [
            "--uri tcp://h --qos 1",
            "--uri amqp://h --transacted 5",
            "--uri mqtt://h --destination topic",
            "--uri tcp://h --fanout 3",
            "--uri tcp://h --destination topic --queues 2",
            "--uri tcp://h --queues 2",
            "--uri tcp://h --transacted 5 --confirms 1",
            "--uri tcp://h --suite speed",
            "--uri amqp://h --suite jms",
            "--uri tcp://h --against stomp://h",
        ] {
            assert!(refusal(arguments).is_some(), "{arguments}");
        }
    }

    #[test]
    fn a_load_is_described() {
        let described = |arguments: &str| parse(&format!("--uri tcp://h {arguments}")).resolved().describe();
        assert_eq!(described(""), "16 B transient to a queue, 1 publisher, 1 consumer, asynchronous");
        assert_eq!(
            described("--persistent --size 1024 --confirms 1 --publishers 16 --consumers 0"),
            "1 KiB persistent to a queue, 16 publishers, no consumer, synchronous"
        );
        assert_eq!(
            described("--destination topic --consumers 10 --transacted 100"),
            "16 B transient to a topic, 1 publisher, 10 consumers, 100 in each transaction"
        );
    }
}
