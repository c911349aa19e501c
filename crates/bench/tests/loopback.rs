//! The whole tool against the fake broker of `examples/sink.rs`.

#[path = "../examples/sink.rs"]
#[allow(dead_code)] // Its `main` is for running it alone.
mod sink;

use std::net::TcpListener;
use std::thread;

use clap::Parser;
use roadstead_bench::{Error, Options, measure, measure_all};

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
fn a_window_ends_early_once_enough_was_published() {
    let arguments = "--consumers 0 --size 1000 --confirms 10 --duration 60 --warm-up 0 --bytes-max 10000000";
    let report = measure(&options(arguments)).unwrap();
    assert!(report.totals.published >= 10_000 && report.window_s < 30.0);
}

#[test]
fn what_the_server_pays_is_metered() {
    let pid = std::process::id();
    let arguments = format!("--consumers 0 --confirms 10 --duration 0.3 --warm-up 0 --server-pid {pid}");
    let cost = measure(&options(&arguments)).unwrap().server_cost.unwrap();
    assert!(cost.cpu_s > 0.0 && cost.peak_bytes > 0);
    // The fake broker writes to nothing but its sockets.
    assert!(cost.write_amplification.is_none_or(|written| written < 0.1), "{cost:?}");
}

#[test]
fn rounds_alternate_between_all_columns() {
    let mut options = options("--duration 0.05 --warm-up 0 --consumers 0 --rounds 2");
    options.against = vec![options.uri.clone()];
    options.against_queue_type = vec!["classic".to_owned(), "quorum".to_owned()];
    let outcome = measure_all(&options).unwrap();
    let columns: Vec<_> =
        outcome.loads[0].columns.iter().map(|column| (column.label.contains("quorum"), column.rounds.len())).collect();
    assert_eq!(columns, [(false, 2), (false, 2), (true, 2)]);
    assert!(outcome.loads[0].columns[2].ratio.as_ref().unwrap().messages_per_s.is_some());
}

#[test]
fn confirms_are_measured_at_every_point() {
    let outcome = measure_all(&options("--suite confirms --duration 0.1 --warm-up 0 --fanout 3")).unwrap();
    assert_eq!(outcome.loads.len(), 23);
    assert!(outcome.loads.iter().all(|load| load.columns[0].median.messages_per_s.unwrap() > 0.0));
    assert!(outcome.to_string().contains("64 KiB persistent, 16 publishers, no consumer, 4 queues, 64 unconfirmed"));
}

#[test]
fn a_backlog_is_sampled_on_its_way_up_and_down() {
    let outcome = measure_all(&options("--suite backlog --messages 200000")).unwrap();
    let backlog = &outcome.backlogs[0];
    assert_eq!((backlog.depth, backlog.left), (200_000, 0));
    for (half, end) in [(&backlog.fill, 200_000), (&backlog.drain, 0)] {
        assert!(half.samples.len() >= 2 && half.samples.len() <= 11 && half.messages_per_s > 10_000.0);
        assert_eq!(half.samples.last().unwrap().depth, end);
    }
    assert!(outcome.to_string().contains("| messages in the queue | 200,000 |"));
}

#[test]
fn a_broker_that_delivers_something_else_is_found_out() {
    for suite in ["ttl", "priority", "delayed --delay-window 0.1 --delay-start 0", "stream", "many"] {
        let outcome = measure_all(&options(&format!("--suite {suite} --messages 5000")));
        assert!(matches!(outcome, Err(Error::Wrong(_))), "{suite}: {outcome:?}");
    }
}

#[test]
fn nobody_listening_is_an_error() {
    let mut options = options("");
    options.uri = "amqp://127.0.0.1:1".to_owned();
    assert!(matches!(measure(&options), Err(Error::Connect { .. })));
}
