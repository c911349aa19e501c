//! The whole tool against the fake broker of `examples/sink.rs`.

#[path = "../examples/sink.rs"]
#[allow(dead_code)] // Its `main` is for running it alone.
mod sink;

use std::net::TcpListener;
use std::thread;

use clap::Parser;
use roadstead_bench::{Error, Options, measure};

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// The options of a command line, against a fake broker of its own.
fn options(arguments: &str) -> Options {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    let uri = format!("amqp://{}", listener.local_addr().expect("a bound listener has an address"));
    thread::spawn(move || sink::serve(&listener));
    let arguments = arguments.split_whitespace().map(str::to_owned);
    CommandLine::parse_from(["bench".to_owned(), "--uri".to_owned(), uri].into_iter().chain(arguments)).options
}

#[test]
fn a_publisher_alone_is_measured() {
    let report = measure(&options("--consumers 0 --duration 0.3 --warm-up 0.1")).unwrap();
    assert!(report.published_per_s > 10_000.0 && report.consumed_per_s.is_none());
    assert!(report.window_s >= 0.3 && report.window_s < 1.0);
}

#[test]
fn a_consumer_alone_is_measured() {
    let report = measure(&options("--publishers 0 --duration 0.3 --warm-up 0.1")).unwrap();
    assert!(report.consumed_per_s.unwrap() > 10_000.0 && report.totals.published == 0);
}

#[test]
fn a_counted_load_publishes_exactly_and_confirms_everything() {
    let report = measure(&options("--consumers 0 --publishers 3 --messages 100001 --confirms 7 --queues 2")).unwrap();
    assert_eq!((report.totals.published, report.totals.confirmed), (100_001, 100_001));
    assert!(report.confirm_latency.unwrap().samples >= 100_001);
}

#[test]
fn a_paced_publisher_keeps_its_rate() {
    for confirms in [0, 10] {
        let arguments = format!("--consumers 0 --rate 1000 --duration 1 --warm-up 0.1 --confirms {confirms}");
        let report = measure(&options(&arguments)).unwrap();
        assert!((900.0..1100.0).contains(&report.published_per_s), "{}", report.published_per_s);
    }
}

#[test]
fn nobody_listening_is_an_error() {
    let mut options = options("");
    options.uri = "amqp://127.0.0.1:1".to_owned();
    assert!(matches!(measure(&options), Err(Error::Connect { .. })));
}
