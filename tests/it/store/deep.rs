//! Queues that are deeper than memory.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use roadstead_tests::flow::{Consumer, Load, Publisher, Taken, Tally, connect, depth};
use roadstead_tests::raw::Fields;
use roadstead_tests::server::Server;

use super::{MIB, SMALL, SOON};

const COUNT: u64 = 200_000;
const PREFETCH: u64 = 100;
const BUDGET: u64 = 16 * MIB;
/// Indexes, buffers of the log and of connections, and what the allocator keeps.
const SLACK: u64 = 12 * MIB;
const DURABLE: Load = Load { queue: "deep", persistent: true, size: 100 };
const TRANSIENT: Load = Load { persistent: false, ..DURABLE };

fn start() -> Server {
    let server = Server::builder().config(format!("{SMALL}[limits]\nmemory_bytes = {BUDGET}\n")).start();
    connect(&server).call(1, "queue.declare", "queue=deep durable");
    server
}

/// Looks at the broker's memory while `work` is done; the most that it took.
fn watched(server: &Server, work: impl FnOnce()) -> u64 {
    thread::scope(|scope| {
        let (working, worked) = mpsc::channel::<()>();
        let watch = scope.spawn(move || {
            let mut most = 0;
            while worked.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
                most = most.max(server.resident_bytes());
            }
            most
        });
        work();
        // Watching ends with this, also if the work panics.
        drop(working);
        watch.join().expect("watching does not panic")
    })
}

/// Each load has a publisher of its own, and all publish [`COUNT`] messages together.
fn goes_deep_and_comes_out(loads: &[Load]) {
    let server = start();
    let before = server.resident_bytes();
    let each = COUNT / loads.len() as u64;
    let mut early = Consumer::new(&server, "deep", PREFETCH as u16);
    let mut tally = Tally::default();
    let published = watched(&server, || {
        thread::scope(|scope| {
            for (number, load) in loads.iter().enumerate() {
                let server = &server;
                scope.spawn(move || Publisher::new(server, number as u64).publish(*load, each));
            }
        });
    });
    // Messages take twice this in memory, as 200 bytes go with each body.
    let bound = before + BUDGET + SLACK;
    assert!(published < bound, "{COUNT} messages took {published} bytes, where {before} were taken before");
    let mut connection = connect(&server);
    assert_eq!(depth(&mut connection, "deep"), COUNT - PREFETCH);

    let taken = watched(&server, || {
        let half = COUNT / 2;
        early.take_all(half, &mut tally);
        let returned = early.cancel_holding(PREFETCH);
        assert_eq!(depth(&mut connection, "deep"), COUNT - half - PREFETCH);
        early.requeue(returned.last().expect("something is held").tag);
        let mut late = Consumer::new(&server, "deep", 2 * PREFETCH as u16);
        for held in &returned {
            let again = late.take();
            assert_eq!(again, Taken { redelivered: true, tag: again.tag, ..*held });
            tally.next(again);
        }
        late.take_all(COUNT - half - PREFETCH, &mut tally);
    });
    assert!(taken < bound, "taking {COUNT} messages took {taken} bytes, where {before} were taken before");
    assert_eq!(depth(&mut connection, "deep"), 0);
    assert!((0..loads.len()).all(|number| tally.last(number as u64) == each), "{tally:?}");
}

#[test]
fn durable_messages_leave_memory_and_come_back_in_order() {
    goes_deep_and_comes_out(&[DURABLE]);
}

#[test]
fn transient_messages_leave_memory_and_come_back_in_order() {
    goes_deep_and_comes_out(&[TRANSIENT]);
}

#[test]
fn durable_and_transient_messages_leave_memory_and_come_back_in_order() {
    goes_deep_and_comes_out(&[DURABLE, TRANSIENT]);
}

#[test]
fn get_reaches_the_whole_depth() {
    const DEEP: u64 = 8000;
    let server = start();
    let mut publisher = Publisher::new(&server, 1);
    publisher.publish(Load { size: 1024, ..DURABLE }, DEEP);
    let mut connection = connect(&server);
    let mut tally = Tally::default();
    for left in (0..DEEP).rev() {
        let automatic = left % 2 == 0;
        let event = connection.call(1, "basic.get", if automatic { "queue=deep no_ack" } else { "queue=deep" });
        let taken = Taken::of(&event).unwrap_or_else(|| panic!("{event} with {left} messages left"));
        tally.next(taken);
        assert_eq!(event.method().map(|method| method.number("message_count")), Some(left));
        // One in a thousand goes back and is next again.
        if !automatic && left % 1000 == 1 {
            let tag = taken.tag.to_string();
            connection.send(1, "basic.nack", &Fields::parse("requeue").with("delivery_tag", tag));
            tally.skip_to(1, taken.sequence - 1);
            let again = connection.call(1, "basic.get", "queue=deep no_ack");
            let again = Taken::of(&again).unwrap_or_else(|| panic!("{again} after it was put back"));
            assert!(again.redelivered);
            tally.next(again);
        } else if !automatic {
            let tag = taken.tag.to_string();
            connection.send(1, "basic.ack", &Fields::default().with("delivery_tag", tag));
        }
    }
    assert_eq!(connection.call(1, "basic.get", "queue=deep").method_name(), Some("basic.get-empty"));
}

#[test]
fn a_deep_queue_survives_restarts_in_the_middle() {
    const DEEP: u64 = 30_000;
    const PART: u64 = 8_000;
    let mut server = start();
    let mut publisher = Publisher::new(&server, 1);
    publisher.publish(DURABLE, DEEP);
    let mut tally = Tally::default();
    Consumer::new(&server, "deep", PREFETCH as u16).take_all(PART, &mut tally);
    server.restart();
    assert_eq!(depth(&mut connect(&server), "deep"), DEEP - PART);

    let mut publisher = Publisher::after(&server, 1, DEEP);
    Consumer::new(&server, "deep", PREFETCH as u16).take_all(PART, &mut tally);
    publisher.publish(DURABLE, PART);
    publisher.send(DURABLE, 1000);
    server.kill();
    // What was confirmed before the end is still to be read.
    while publisher.poll(SOON) {}
    let confirmed = publisher.confirmed();
    server.restart();

    let end = publisher.last();
    let mut consumer = Consumer::new(&server, "deep", PREFETCH as u16);
    let first = consumer.take();
    assert!((PART..=2 * PART).contains(&(first.sequence - 1)), "{first:?} after {PART} safe acknowledgements");
    let mut last = first;
    while last.sequence < end {
        let Some(taken) = consumer.take_within(SOON * 10) else { break };
        assert_eq!(taken.sequence, last.sequence + 1);
        assert!(taken.redelivered, "{taken:?} may have been delivered before the kill");
        last = taken;
        consumer.ack(taken.tag);
    }
    assert!((confirmed..=end).contains(&last.sequence), "{last:?} is the last of {confirmed} confirmed of {end}");
}
