//! How long it takes to find a route among many bindings: `cargo run --release -p roadstead-broker --example bindings`.

use std::{hint::black_box, sync::Arc, time::Instant};

use roadstead_broker::{
    BindingRequest, Broker, DeleteRule, End, ExchangeDeclaration, ExchangeKind, MemoryLog, Millis, Permissions,
    QueueDeclaration, Recovered, Settings, Table, User, Value, identity::Pattern,
};

fn main() {
    println!("| exchange | bindings | bind, µs each | route, ns | unbind, µs each |");
    println!("|---|---|---|---|---|");
    for kind in [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Headers, ExchangeKind::ModulusHash] {
        for bindings in [100, 10_000, 100_000] {
            measure(kind, bindings);
        }
    }
    // One binding for each queue, of which there are a thousand.
    for kind in [ExchangeKind::ConsistentHash, ExchangeKind::JmsTopic] {
        for bindings in [10, 100, 1000] {
            measure(kind, bindings);
        }
    }
}

fn measure(kind: ExchangeKind, bindings: u32) {
    let broker = Broker::new(Settings::default(), Arc::new(MemoryLog::default()), Recovered::default(), Millis(0));
    let broker = broker.expect("there is nothing to recover");
    broker.add_vhost(&"/".into());
    let all = || Pattern::new(".*").expect("it is a regular expression");
    let permissions = Permissions { configure: all(), write: all(), read: all() };
    broker.put_user(&"u".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
    let caller = broker.enter(broker.new_session(), &"u".into(), "/").expect("the user may");
    let (durable, auto_delete, internal, arguments) = (false, false, false, Table::default());
    let declaration = ExchangeDeclaration { kind, durable, auto_delete, internal, arguments };
    broker.declare_exchange(&caller, "x", declaration).expect("it is new");
    for n in 0..1000 {
        broker.declare_queue(&caller, &format!("q{n}"), QueueDeclaration::default()).expect("it is new");
    }
    let started = Instant::now();
    for n in 0..bindings {
        let (key, headers) = address(n, kind, "*");
        let (queue, source) = (format!("q{}", n % 1000), "x");
        let request = BindingRequest { source, destination: End::Queue(&queue), key: &key, arguments: headers };
        broker.bind(&caller, request).expect("both ends exist");
    }
    let bind_us = started.elapsed().as_micros() as f64 / f64::from(bindings);
    let rounds = 100_000u32;
    let started = Instant::now();
    for n in 0..rounds {
        let (key, headers) = address(n.wrapping_mul(7919) % bindings, kind, "any");
        let route = broker.route(&caller, "x", &[&key], &headers).expect("the exchange exists");
        assert!(!black_box(route).queues.is_empty());
    }
    let route_ns = started.elapsed().as_nanos() / u128::from(rounds);
    let started = Instant::now();
    for n in 0..1000 {
        broker.delete_queue(&caller, &format!("q{n}"), DeleteRule::default()).expect("it may be deleted");
    }
    let unbind_us = started.elapsed().as_micros() as f64 / f64::from(bindings);
    println!("| {} | {bindings} | {bind_us:.1} | {route_ns} | {unbind_us:.1} |", kind.name());
}

/// The n-th binding key, or a routing key that it matches; headers for the exchanges that look at them.
fn address(n: u32, kind: ExchangeKind, middle: &str) -> (String, Table) {
    let mut headers = Table::default();
    match kind {
        ExchangeKind::Headers => {
            headers.push("kind", Value::from("temperature"));
            headers.push("plant", Value::I32(n as i32));
        }
        ExchangeKind::JmsTopic => {
            let selector = format!("kind = 'temperature' AND plant BETWEEN {n} AND {}", n + 1);
            headers.push("x-jms-selector", Value::from(selector.as_str()));
            headers.push("kind", Value::from("temperature"));
            headers.push("plant", Value::I32(n as i32));
        }
        ExchangeKind::ConsistentHash if middle == "*" => return ("1".into(), headers),
        _ => {}
    }
    let middle = if kind == ExchangeKind::Topic { middle } else { "temp" };
    (format!("plant.{}.{middle}.{n}", n % 100), headers)
}
