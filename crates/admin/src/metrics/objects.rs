//! Metrics of queues, channels, connections and exchanges: of each, or of all together.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use broker::{Channel, Connection, Event, QueueInfo, queue::QueueNumbers};

use super::{
    Kind::{self, Counter, Gauge},
    Output, Scope,
};
use crate::Admin;

/// A metric of things of one kind.
struct Metric<T> {
    family: &'static str,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    number: fn(&T) -> f64,
}

type Queue = (Arc<QueueInfo>, QueueNumbers);

const fn of_queue(
    family: &'static str,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    number: fn(&Queue) -> f64,
) -> Metric<Queue> {
    Metric { family, name, kind, help, number }
}

fn count((_, numbers): &Queue, event: Event) -> f64 {
    numbers.counts.get(event) as f64
}

const COARSE: &str = "queue_coarse_metrics";
const FINE: &str = "queue_metrics";
const DELIVERY: &str = "queue_delivery_metrics";

const QUEUES: [Metric<Queue>; 20] = [
    of_queue(COARSE, "queue_messages", Gauge, "Messages in queues", |(_, one)| (one.ready + one.held) as f64),
    of_queue(COARSE, "queue_messages_ready", Gauge, "Messages that wait", |(_, one)| one.ready as f64),
    of_queue(COARSE, "queue_messages_unacked", Gauge, "Messages that consumers hold", |(_, one)| one.held as f64),
    of_queue("queue_consumer_count", "queue_consumers", Gauge, "Consumers", |(_, one)| one.consumers.into()),
    of_queue(FINE, "queue_messages_bytes", Gauge, "Bytes of the bodies that wait", |(_, one)| one.ready_bytes as f64),
    of_queue(FINE, "queue_messages_ready_bytes", Gauge, "Bytes of the bodies that wait", |(_, one)| {
        one.ready_bytes as f64
    }),
    of_queue(FINE, "queue_messages_unacked_bytes", Gauge, "Not counted", |_| 0.0),
    of_queue(FINE, "queue_process_memory_bytes", Gauge, "Memory that messages take", |(_, one)| {
        one.memory_bytes as f64
    }),
    of_queue(FINE, "queue_messages_persistent", Gauge, "Messages in durable queues", |(info, one)| {
        if info.durable { (one.ready + one.held) as f64 } else { 0.0 }
    }),
    of_queue(FINE, "queue_messages_published_total", Counter, "Messages that came", |one| count(one, Event::Publish)),
    of_queue(DELIVERY, "queue_get_ack_total", Counter, "Messages fetched with acknowledgement", |one| {
        count(one, Event::Get)
    }),
    of_queue(DELIVERY, "queue_get_total", Counter, "Messages fetched without acknowledgement", |one| {
        count(one, Event::GetNoAck)
    }),
    of_queue(DELIVERY, "queue_get_empty_total", Counter, "Times that there was nothing to fetch", |one| {
        count(one, Event::GetEmpty)
    }),
    of_queue(
        DELIVERY,
        "queue_messages_delivered_ack_total",
        Counter,
        "Messages delivered with acknowledgement",
        |one| count(one, Event::Deliver),
    ),
    of_queue(
        DELIVERY,
        "queue_messages_delivered_total",
        Counter,
        "Messages delivered without acknowledgement",
        |one| count(one, Event::DeliverNoAck),
    ),
    of_queue(DELIVERY, "queue_messages_redelivered_total", Counter, "Messages that had been delivered before", |one| {
        count(one, Event::Redeliver)
    }),
    of_queue(DELIVERY, "queue_messages_acked_total", Counter, "Messages that consumers acknowledged", |one| {
        count(one, Event::Acknowledge)
    }),
    of_queue(FINE, "queue_messages_ram", Gauge, "Messages in queues that have some in memory", |(_, one)| {
        if one.memory_bytes > 0 { (one.ready + one.held) as f64 } else { 0.0 }
    }),
    of_queue(FINE, "queue_messages_ram_bytes", Gauge, "Bytes of messages in memory", |(_, one)| {
        one.memory_bytes as f64
    }),
    of_queue(FINE, "queue_messages_unacked_ram", Gauge, "Messages that consumers hold", |(_, one)| one.held as f64),
];

type ChannelOf = (Arc<Connection>, Arc<Channel>);

const fn of_channel(
    family: &'static str,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    number: fn(&ChannelOf) -> f64,
) -> Metric<ChannelOf> {
    Metric { family, name, kind, help, number }
}

fn went((_, channel): &ChannelOf, event: Event) -> f64 {
    channel.traffic.counts().get(event) as f64
}

const CHANNEL: &str = "channel_metrics";
const PUBLISHED: &str = "channel_exchange_metrics";
const CONSUMED: &str = "channel_queue_metrics";

const CHANNELS: [Metric<ChannelOf>; 17] = [
    of_channel(CHANNEL, "channel_consumers", Gauge, "Consumers", |(_, one)| one.consumers.load(Relaxed).into()),
    of_channel(CHANNEL, "channel_messages_unacked", Gauge, "Deliveries that are not settled", |(of, one)| {
        of.unsettled(one.number) as f64
    }),
    of_channel(CHANNEL, "channel_messages_unconfirmed", Gauge, "Publishes that are not confirmed", |(_, one)| {
        one.to_confirm.get().saturating_sub(one.traffic.counts().get(Event::Confirm)) as f64
    }),
    of_channel(CHANNEL, "channel_messages_uncommitted", Gauge, "Publishes in open transactions", |(_, one)| {
        one.uncommitted.load(Relaxed).into()
    }),
    of_channel(CHANNEL, "channel_acks_uncommitted", Gauge, "Settlements in open transactions", |(_, one)| {
        one.uncommitted_acks.load(Relaxed).into()
    }),
    of_channel(CHANNEL, "consumer_prefetch", Gauge, "Prefetch of consumers to come", |(_, one)| {
        one.prefetch.load(Relaxed).into()
    }),
    of_channel(CHANNEL, "channel_prefetch", Gauge, "Prefetch of all consumers together", |(_, one)| {
        one.global_prefetch.load(Relaxed).into()
    }),
    of_channel(PUBLISHED, "channel_messages_published_total", Counter, "Messages published", |one| {
        went(one, Event::Publish)
    }),
    of_channel(PUBLISHED, "channel_messages_confirmed_total", Counter, "Messages confirmed", |one| {
        went(one, Event::Confirm)
    }),
    of_channel(PUBLISHED, "channel_messages_unroutable_returned_total", Counter, "Messages returned", |one| {
        went(one, Event::Return)
    }),
    of_channel(PUBLISHED, "channel_messages_unroutable_dropped_total", Counter, "Messages dropped", |one| {
        went(one, Event::Drop)
    }),
    of_channel(CONSUMED, "channel_get_ack_total", Counter, "Messages fetched with acknowledgement", |one| {
        went(one, Event::Get)
    }),
    of_channel(CONSUMED, "channel_get_total", Counter, "Messages fetched without", |one| went(one, Event::GetNoAck)),
    of_channel(CONSUMED, "channel_messages_delivered_ack_total", Counter, "Delivered with acknowledgement", |one| {
        went(one, Event::Deliver)
    }),
    of_channel(CONSUMED, "channel_messages_delivered_total", Counter, "Delivered without acknowledgement", |one| {
        went(one, Event::DeliverNoAck)
    }),
    of_channel(CONSUMED, "channel_messages_redelivered_total", Counter, "Delivered before", |one| {
        went(one, Event::Redeliver)
    }),
    of_channel(CONSUMED, "channel_messages_acked_total", Counter, "Acknowledged", |one| went(one, Event::Acknowledge)),
];

const fn of_connection(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    number: fn(&Arc<Connection>) -> f64,
) -> Metric<Arc<Connection>> {
    Metric { family: "connection_coarse_metrics", name, kind, help, number }
}

const CONNECTIONS: [Metric<Arc<Connection>>; 3] = [
    of_connection("connection_incoming_bytes_total", Counter, "Bytes from clients", |one| one.bytes_in.get() as f64),
    of_connection("connection_outgoing_bytes_total", Counter, "Bytes to clients", |one| one.bytes_out.get() as f64),
    of_connection("connection_channels", Gauge, "Channels", |one| one.channel_count() as f64),
];

/// Writes down metrics of things: of each with its labels, or their sums.
fn put_all<T, const L: usize>(
    scope: &Scope,
    out: &mut dyn Output,
    metrics: &[Metric<T>],
    things: &[T],
    labels: [&str; L],
    of: impl Fn(&T) -> [String; L],
) {
    for metric in metrics.iter().filter(|metric| scope.has(metric.family)) {
        let name = out.named(metric.name);
        out.begin(&name, metric.kind, metric.help);
        if !scope.per_object {
            out.sample(&name, &[], things.iter().map(metric.number).fold(0.0, |sum, number| sum + number));
            continue;
        }
        for thing in things {
            let values = of(thing);
            let pairs: [(&str, &str); L] = std::array::from_fn(|index| (labels[index], values[index].as_str()));
            out.sample(&name, &pairs, (metric.number)(thing));
        }
    }
}

/// Writes them down.
pub fn put(admin: &Admin, scope: &Scope, out: &mut dyn Output) {
    let has_any = |families: &[&str]| families.iter().any(|family| scope.has(family));
    if has_any(&[COARSE, FINE, DELIVERY, "queue_consumer_count"]) {
        let mut queues: Vec<Queue> = Vec::new();
        admin.broker.survey_queues(|info, numbers| {
            if info.is_ordinary() && scope.has_vhost(&info.vhost) && scope.has_queue(&info.name) {
                queues.push((Arc::clone(info), numbers));
            }
        });
        let labels = |(info, _): &Queue| [info.vhost.to_string(), info.name.to_string()];
        put_all(scope, out, &QUEUES, &queues, ["vhost", "queue"], labels);
    }
    if has_any(&["connection_coarse_metrics", CHANNEL, PUBLISHED, CONSUMED]) {
        let mut connections = admin.broker.connections();
        connections.retain(|connection| scope.has_vhost(&connection.vhost));
        let name = |connection: &Arc<Connection>| [connection.name()];
        put_all(scope, out, &CONNECTIONS, &connections, ["connection"], name);
        let channels = connections
            .iter()
            .flat_map(|connection| connection.channels().into_iter().map(|channel| (Arc::clone(connection), channel)));
        let channels: Vec<ChannelOf> = channels.collect();
        let name = |(of, channel): &ChannelOf| [format!("{} ({})", of.name(), channel.number), of.vhost.to_string()];
        put_all(scope, out, &CHANNELS, &channels, ["channel", "vhost"], name);
    }
    if scope.has("exchange_metrics") {
        exchanges(admin, scope, out);
    }
    if !scope.families.is_empty() && has_any(&["vhost_status", "exchange_names", "exchange_bindings"]) {
        topology(admin, scope, out);
    }
}

fn exchanges(admin: &Admin, scope: &Scope, out: &mut dyn Output) {
    let name = out.named("exchange_messages_published_total");
    out.begin(&name, Counter, "Messages published to exchanges");
    let mut sum = 0.0;
    for vhost in admin.broker.vhosts().iter().filter(|vhost| scope.has_vhost(vhost.name())) {
        let state = vhost.read();
        let default = ("", state.default_traffic.counts().0);
        let others = state.exchanges().map(|(name, exchange)| (name.as_str(), exchange.traffic.counts().0));
        for (exchange, came) in [default].into_iter().chain(others).filter(|(_, came)| *came > 0) {
            sum += came as f64;
            if scope.per_object {
                out.sample(&name, &[("vhost", vhost.name()), ("exchange", exchange)], came as f64);
            }
        }
    }
    if !scope.per_object {
        out.sample(&name, &[], sum);
    }
}

/// What there is, which RabbitMQ tells with a prefix of its own.
fn topology(admin: &Admin, scope: &Scope, out: &mut dyn Output) {
    let vhosts = admin.broker.vhosts();
    let vhosts: Vec<_> = vhosts.iter().filter(|vhost| scope.has_vhost(vhost.name())).collect();
    if scope.has("vhost_status") {
        let name = "rabbitmq_cluster_vhost_status";
        out.begin(name, Gauge, "Whether the vhost is running");
        vhosts.iter().for_each(|vhost| out.sample(name, &[("vhost", vhost.name())], 1.0));
    }
    let bindings = ("rabbitmq_cluster_exchange_bindings", "exchange_bindings", "Bindings that lead from the exchange");
    let names = ("rabbitmq_cluster_exchange_name", "exchange_names", "The exchanges that there are");
    for (name, family, help) in [bindings, names] {
        if !scope.has(family) {
            continue;
        }
        out.begin(name, Gauge, help);
        for vhost in &vhosts {
            let state = vhost.read();
            for (exchange, info) in state.exchanges() {
                let kind = info.declaration.kind.name();
                let value = if family == "exchange_names" { 1 } else { info.binding_count() };
                out.sample(name, &[("vhost", vhost.name()), ("exchange", exchange), ("type", kind)], value as f64);
            }
        }
    }
}
