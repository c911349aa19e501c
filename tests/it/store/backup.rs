//! `roadstead ctl`: copies of the data directory while the broker goes on, and its state.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use roadstead_tests::flow::{Consumer, Load, Publisher, Tally, connect, depth};
use roadstead_tests::server::{Server, roadstead};

use super::{SMALL, wait_until};

const ORDERS: Load = Load { queue: "orders", persistent: true, size: 500 };
/// Enough for some sealed segments before the copy, and after it.
const SOME: u64 = 3000;

fn start() -> Server {
    let server = Server::builder().config(SMALL).start();
    connect(&server).call(1, "queue.declare", "queue=orders durable");
    server
}

/// Starts a broker on a copy and takes everything; how many messages there were, in order and without a gap.
fn count_in_copy(copy: &std::path::Path) -> u64 {
    let server = Server::builder().config(SMALL).data(copy).start();
    let count = depth(&mut connect(&server), "orders");
    let mut tally = Tally::default();
    Consumer::new(&server, "orders", 200).take_all(count, &mut tally);
    assert_eq!(tally.last(1), count);
    count
}

#[test]
fn a_backup_has_what_was_confirmed_and_disturbs_nobody() {
    let server = start();
    let copies = server.directory().join("copies");
    let (over, confirmed) = (AtomicBool::new(false), AtomicU64::new(0));
    let reached = |count: u64| wait_until(20, "publishing goes on", || confirmed.load(Ordering::Acquire) >= count);
    let (before, all) = thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut publisher = Publisher::new(&server, 1);
            while !over.load(Ordering::Acquire) {
                publisher.send(ORDERS, 50);
                publisher.poll(super::SOON);
                confirmed.store(publisher.confirmed(), Ordering::Release);
            }
            publisher.wait();
            publisher.last()
        });
        reached(SOME);
        let before = confirmed.load(Ordering::Acquire);
        let said = server.ctl(&["--json", "backup", &copies.join("full").to_string_lossy()]);
        let after = confirmed.load(Ordering::Acquire);
        reached(after + SOME);
        over.store(true, Ordering::Release);
        assert!(said.status.success(), "{said:?}");
        let answer: serde_json::Value = serde_json::from_str(&said.out).expect("it is JSON");
        assert!(answer["segments"].as_u64() > Some(0) && answer["bytes"].as_u64() > Some(0), "{answer}");
        (before, publishing.join().expect("the publisher goes on"))
    });
    // What the original does with its files from now on is no concern of the copy.
    let mut tally = Tally::default();
    Consumer::new(&server, "orders", 200).take_all(all, &mut tally);
    Publisher::after(&server, 1, all).publish(ORDERS, 2 * SOME);
    let copied = count_in_copy(&copies.join("full"));
    assert!(
        (before..all).contains(&copied),
        "{copied} messages in the copy, {before} confirmed before it, {all} in all"
    );
    Consumer::new(&server, "orders", 200).take_all(2 * SOME, &mut tally);
}

#[test]
fn a_backup_goes_to_an_empty_place_alone() {
    let server = start();
    Publisher::new(&server, 1).publish(ORDERS, 10);
    let used = server.directory().join("used");
    fs::create_dir(&used).expect("the directory is writable");
    fs::write(used.join("mine"), "precious").expect("the directory is writable");
    let said = server.ctl(&["backup", &used.to_string_lossy()]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.err.contains("is not empty") && said.err.contains("used"), "{said:?}");
    assert_eq!(fs::read_dir(&used).expect("it is there").count(), 1);

    let empty = server.directory().join("empty");
    fs::create_dir(&empty).expect("the directory is writable");
    let said = server.ctl(&["backup", &empty.to_string_lossy()]);
    assert!(said.status.success() && said.out.contains("segments"), "{said:?}");
    assert_eq!(count_in_copy(&empty), 10);
}

#[test]
fn without_a_broker_ctl_says_so() {
    let mut server = start();
    assert!(server.terminate().success());
    for command in [&["status"][..], &["backup", "/nowhere"]] {
        let said = server.ctl(command);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        assert!(said.err.contains("no broker answers in") && said.err.contains("is it running"), "{said:?}");
    }
    let said = roadstead(["ctl", "--data", "/no/such/directory", "status"]);
    assert!(!said.status.success() && said.err.contains("/no/such/directory"), "{said:?}");
}

#[test]
fn a_broker_that_is_ready_answers_ctl() {
    let mut server = start();
    for _ in 0..20 {
        // What a killed broker leaves behind is no answer.
        server.kill();
        server.restart();
        let said = server.ctl(&["status"]);
        assert!(said.status.success(), "{said:?}");
    }
}

#[test]
fn status_tells_how_the_broker_is_doing() {
    let server = start();
    Publisher::new(&server, 1).publish(ORDERS, 100);
    let _open = connect(&server);
    let said = server.ctl(&["status"]);
    assert!(said.status.success() && said.err.is_empty(), "{said:?}");
    let value = |name: &str| {
        let line = said.out.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line[name.len()..].split_whitespace().next()).unwrap_or_else(|| panic!("{name}: {said:?}"))
    };
    assert_eq!(value("messages on disk"), "100");
    assert_eq!(value("connections"), "1");
    assert_eq!(value("alarm"), "–");
    assert_eq!(value("data"), server.data().to_string_lossy());
    for (name, least) in [
        ("segments", 1),
        ("memory_bytes", 100 * 500),
        ("written_bytes", 100 * 500),
        ("disk_bytes", 100 * 500),
        ("syncs", 1),
    ] {
        assert!(server.status(name) >= least, "{name} is {}, and should be {least} at least", server.status(name));
    }
}
