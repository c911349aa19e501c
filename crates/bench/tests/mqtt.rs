//! The whole tool against the fake broker of `examples/mqtt_sink.rs`.

#[path = "../examples/mqtt_sink.rs"]
#[allow(dead_code)] // Its `main` is for running it alone.
mod sink;

use std::net::TcpListener;
use std::thread;

use clap::Parser;
use roadstead_bench::{Error, Options, Report, measure, measure_all};
use sink::Flaw;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// The options of a command line, against a fake broker of its own.
fn options(flaw: Flaw, is_flooding: bool, arguments: &str) -> Options {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    let uri = format!("mqtt://{}", listener.local_addr().expect("a bound listener has an address"));
    thread::spawn(move || sink::serve(&listener, flaw, is_flooding));
    let arguments = arguments.split_whitespace().map(str::to_owned);
    CommandLine::parse_from(["bench".to_owned(), "--uri".to_owned(), uri].into_iter().chain(arguments)).options
}

fn report(flaw: Flaw, arguments: &str) -> Report {
    measure(&options(flaw, false, arguments)).expect("a load that can be measured")
}

#[test]
fn a_publisher_alone_is_measured() {
    let report = report(Flaw::None, "--consumers 0 --duration 0.3 --warm-up 0.1");
    assert!(report.published_per_s > 10_000.0 && report.consumed_per_s.is_none());
}

#[test]
fn a_subscriber_alone_is_measured() {
    let report = measure(&options(Flaw::None, true, "--publishers 0 --duration 0.3 --warm-up 0.1")).unwrap();
    assert!(report.consumed_per_s.unwrap() > 10_000.0 && report.totals.published == 0);
}

#[test]
fn counted_loads_of_every_kind_arrive_as_often_as_they_should() {
    for version in ["5", "3.1.1"] {
        for qos in 0..=2 {
            for (load, copies) in [
                ("--consumers 1", 1),
                ("--consumers 7", 7),
                ("--publishers 5 --topics 5", 1),
                ("--publishers 2 --topics 6 --consumers 3", 1),
                ("--consumers 3 --threads 2 --publishers 2", 3),
                ("--consumers 3 --shared-group g --topics 2", 1),
                ("--consumers 4 --one-in-flight", 4),
                ("--size 3", 1),
            ] {
                let base = format!("--messages 2001 --undelivered 50 --qos {qos} --protocol-version {version}");
                let report = report(Flaw::None, &format!("{base} {load}"));
                assert_eq!(report.totals.published, 2001, "{load} QoS {qos}");
                assert_eq!(report.totals.consumed, 2001 * copies, "{load} QoS {qos}");
                assert_eq!((report.totals.lost, report.totals.redelivered), (Some(0), 0), "{load} QoS {qos}");
                assert_eq!(report.totals.confirmed, if qos == 0 { 0 } else { 2001 }, "{load} QoS {qos}");
                assert!(report.faults.is_empty() && report.confirm_latency.is_some() == (qos > 0));
            }
        }
    }
}

#[test]
fn a_paced_publisher_keeps_its_rate_and_every_message_is_timed() {
    for qos in [0, 1] {
        let report = report(Flaw::None, &format!("--rate 500 --publishers 2 --duration 1 --warm-up 0.1 --qos {qos}"));
        assert!((900.0..1100.0).contains(&report.published_per_s), "{}", report.published_per_s);
        assert!(report.deliver_latency.unwrap().samples >= 900);
    }
}

#[test]
fn losses_are_counted_and_are_faults_from_qos_1_on() {
    for qos in 0..=2 {
        // Losses of QoS 0 are only known when nothing has moved for long.
        let timeout = if qos == 0 { 10 } else { 1 };
        let arguments = format!("--messages 2500 --undelivered 50 --qos {qos} --timeout {timeout}");
        let report = report(Flaw::Loses, &arguments);
        assert_eq!((report.totals.lost, report.totals.consumed), (Some(2), 2498));
        assert_eq!(report.faults.len(), usize::from(qos > 0), "{:?}", report.faults);
    }
    let outcome = measure_all(&options(Flaw::Loses, false, "--messages 2500 --qos 1 --timeout 1"));
    assert!(matches!(outcome, Err(Error::Wrong(_))));
}

#[test]
fn doubles_are_counted_and_are_faults_with_qos_2() {
    for qos in 0..=2 {
        let report = report(Flaw::Doubles, &format!("--messages 2500 --undelivered 50 --qos {qos}"));
        assert_eq!((report.totals.redelivered, report.totals.lost), (2, Some(0)), "QoS {qos}");
        assert_eq!(report.faults.len(), usize::from(qos == 2), "{:?}", report.faults);
    }
}

#[test]
fn what_a_broker_lacks_is_not_available_beside_one_that_has_it() {
    let mut both = options(Flaw::None, false, "--qos 2 --messages 100 --rounds 1");
    let lacking = options(Flaw::Lacks, false, "--qos 2 --messages 100");
    assert!(matches!(measure(&lacking), Err(Error::Lacks(_))));
    both.against = vec![lacking.uri, both.uri.clone()];
    let outcome = measure_all(&both).unwrap();
    let columns = &outcome.loads[0].columns;
    let told: Vec<_> = columns.iter().map(|column| (column.rounds.len(), column.unavailable.is_some())).collect();
    assert_eq!(told, [(1, false), (0, true), (1, false)]);
    assert!(outcome.to_string().contains(" : not available : "), "{outcome}");
}

#[test]
fn nobody_listening_is_an_error() {
    let mut options = options(Flaw::None, false, "");
    options.uri = "mqtt://127.0.0.1:1".to_owned();
    assert!(matches!(measure(&options), Err(Error::Connect { .. })));
}

#[test]
fn idle_connections_are_opened_subscribed_and_looked_at() {
    let pid = std::process::id();
    let arguments = format!("--suite mqtt-idle --connections 100 --duration 0.2 --server-pid {pid}");
    let outcome = measure_all(&options(Flaw::None, false, &arguments)).unwrap();
    let parts = &outcome.features[0].parts;
    let told: Vec<_> = parts.iter().map(|part| (part.name, part.count)).collect();
    let names = ["connect", "idle", "subscribe to a topic each", "idle, subscribed"];
    assert_eq!(told, names.map(|name| (name, 100)));
    assert!(parts[1].memory_each_bytes.is_some() && parts[1].server_cpu_percent.is_some());
    assert_eq!(parts[0].timing.as_ref().map(|timing| timing.latency.samples), Some(100));
}

#[test]
fn storms_connect_by_the_clock_and_without_one() {
    let arguments = "--suite mqtt-connect --connect-rate 200 --duration 0.5";
    let outcome = measure_all(&options(Flaw::None, false, arguments)).unwrap();
    let [clock, free] = outcome.features[0].parts.as_slice() else { panic!("{outcome}") };
    assert_eq!((clock.count, clock.failed, free.failed), (100, Some(0), Some(0)));
    assert!((190.0..230.0).contains(&clock.per_s) && free.per_s > 200.0, "{outcome}");
}

#[test]
fn retained_messages_are_published_read_and_cleared() {
    let arguments = "--suite mqtt-retained --duration 0.2 --messages 300";
    let outcome = measure_all(&options(Flaw::None, false, arguments)).unwrap();
    let findings = &outcome.features[0];
    let counted = findings.parts.iter().filter(|part| part.count == 300).count();
    assert_eq!((counted, findings.faults.len()), (4, 0), "{outcome}");
    assert!(outcome.to_string().contains("read all, QoS 1: first after"), "{outcome}");
}

#[test]
fn retained_messages_that_are_missing_are_found() {
    let outcome =
        measure_all(&options(Flaw::Loses, false, "--suite mqtt-retained --duration 0.2 --messages 1100 --timeout 1"));
    assert!(matches!(outcome, Err(Error::Wrong(_))), "{outcome:?}");
}

#[test]
fn what_a_broker_has_of_retained_messages_is_told() {
    let arguments = "--suite mqtt-retained --duration 0.2 --messages 100 --timeout 0.3";
    let mut both = options(Flaw::None, false, arguments);
    both.against = vec![options(Flaw::Lacks, false, "").uri];
    let text = measure_all(&both).expect("a rival may lack something").to_string();
    let cells = |row: &str| text.lines().find(|line| line.contains(row)).unwrap_or_default().contains("not available");
    assert!(!cells("publish retained: messages/s") && cells("read all, QoS 1: messages/s"), "{text}");
    let lacking = options(Flaw::Lacks, false, arguments);
    assert!(measure_all(&lacking).is_err());
}
