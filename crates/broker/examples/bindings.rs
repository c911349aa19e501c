//! How long it takes to find a route among many bindings: `cargo run --release -p roadstead-broker --example bindings`.

use std::{hint::black_box, sync::Arc, time::Instant};

use roadstead_broker::{
    BindingRequest, Broker, End, ExchangeDeclaration, ExchangeKind, MemoryLog, Millis, Permissions, QueueDeclaration,
    Recovered, Settings, Table, User, Value, identity::Pattern,
};

fn main() {
    println!("| exchange | bindings | bind, µs each | route, ns |");
    println!("|---|---|---|---|");
    for kind in [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Headers] {
        for bindings in [100, 10_000, 100_000] {
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
        let route = broker.route(&caller, "x", &[&key], &|| headers.clone()).expect("the exchange exists");
        assert!(!black_box(route).queues.is_empty());
    }
    let route_ns = started.elapsed().as_nanos() / u128::from(rounds);
    println!("| {} | {bindings} | {bind_us:.1} | {route_ns} |", kind.name());
}

/// The n-th binding key, or a routing key that it matches; headers for the headers exchange.
fn address(n: u32, kind: ExchangeKind, middle: &str) -> (String, Table) {
    let mut headers = Table::default();
    if kind == ExchangeKind::Headers {
        headers.push("plant", Value::I32(n as i32));
        headers.push("kind", Value::from("temperature"));
    }
    let middle = if kind == ExchangeKind::Topic { middle } else { "temp" };
    (format!("plant.{}.{middle}.{n}", n % 100), headers)
}
