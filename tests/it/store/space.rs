//! What is not needed goes from the disk, and what is needed stays.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use roadstead_tests::flow::{Consumer, Load, Publisher, Tally, connect, depth};
use roadstead_tests::raw::{Connection, Fields, Frame, PATIENCE};
use roadstead_tests::server::Server;

use super::{KIB, MIB, SEGMENT, SMALL, wait_until};

const DEEP: u64 = 20_000;
const BULK: Load = Load { queue: "bulk", persistent: true, size: 1000 };

fn start() -> (Server, Connection) {
    let server = Server::builder().config(SMALL).start();
    let mut connection = connect(&server);
    connection.call(1, "queue.declare", "queue=bulk durable");
    (server, connection)
}

/// Waits until the disk holds at most twice the `live` bytes, four segments, the file of the topology, and the indexes.
#[track_caller]
fn assert_disk_shrinks(server: &Server, live: u64) {
    let allowed = 2 * live + 4 * SEGMENT + 256 * KIB;
    wait_until(10, &format!("the disk holds {allowed} bytes at most"), || server.disk_bytes() <= allowed);
}

/// The sequence numbers that come again after a restart, in order.
fn taken_again(server: &Server, count: u64) -> Vec<u64> {
    assert_eq!(depth(&mut connect(server), "bulk"), count);
    let mut consumer = Consumer::new(server, "bulk", 0);
    let taken: Vec<_> = (0..count).map(|_| consumer.take()).collect();
    assert!(taken.iter().all(|taken| taken.redelivered), "{taken:?}");
    consumer.ack(taken.last().map_or(0, |taken| taken.tag));
    taken.iter().map(|taken| taken.sequence).collect()
}

#[test]
fn purging_a_deep_queue_frees_the_disk_and_spares_what_is_held() {
    const HELD: u64 = 50;
    let (mut server, mut connection) = start();
    Publisher::new(&server, 1).publish(BULK, DEEP);
    assert!(server.disk_bytes() > DEEP * BULK.size as u64);
    let mut consumer = Consumer::new(&server, "bulk", HELD as u16);
    let held = consumer.cancel_holding(HELD);
    assert_eq!(depth(&mut connection, "bulk"), DEEP - HELD);

    let purged = connection.call(1, "queue.purge", "queue=bulk");
    assert_eq!(purged.method().map(|method| method.number("message_count")), Some(DEEP - HELD));
    assert_eq!(depth(&mut connection, "bulk"), 0);
    assert_disk_shrinks(&server, HELD * 1200);
    wait_until(5, "the log holds nothing else", || server.status("messages_on_disk") == HELD);
    consumer.requeue(held[HELD as usize / 2 - 1].tag);
    consumer.connection.call(1, "basic.qos", "");
    assert_eq!(depth(&mut connection, "bulk"), HELD / 2);
    // What comes after a purge has nothing to do with it.
    Publisher::after(&server, 1, DEEP).publish(BULK, 10);

    server.restart();
    let expected: Vec<u64> = (1..=HELD).chain(DEEP + 1..=DEEP + 10).collect();
    assert_eq!(taken_again(&server, HELD + 10), expected);
}

#[test]
fn deleting_a_deep_queue_frees_the_disk() {
    let (mut server, mut connection) = start();
    connection.call(1, "queue.declare", "queue=other durable");
    Publisher::new(&server, 1).publish(BULK, DEEP);
    Publisher::new(&server, 2).publish(Load { queue: "other", ..BULK }, 100);
    let deleted = connection.call(1, "queue.delete", "queue=bulk");
    assert_eq!(deleted.method().map(|method| method.number("message_count")), Some(DEEP));
    assert_disk_shrinks(&server, 100 * 1200);
    connection.call(1, "queue.declare", "queue=bulk durable");
    assert_eq!(depth(&mut connection, "bulk"), 0);
    server.restart();
    let mut connection = connect(&server);
    assert_eq!((depth(&mut connection, "bulk"), depth(&mut connection, "other")), (0, 100));
    Consumer::new(&server, "other", 100).take_all(100, &mut Tally::default());
}

/// One message of each segment is never acknowledged while a hundred MiB flow through.
#[test]
fn a_few_old_messages_do_not_keep_the_disk() {
    const SIZE: u64 = 16 * KIB;
    const COUNT: u64 = 100 * MIB / SIZE;
    const KEPT_ONE_IN: u64 = SEGMENT / SIZE;
    let (mut server, _) = start();
    let mut publisher = Publisher::new(&server, 1);
    let mut consumer = Consumer::new(&server, "bulk", 0);
    let load = Load { size: SIZE as usize, ..BULK };
    let (mut kept, mut most) = (Vec::new(), 0);
    for _ in 0..COUNT / 100 {
        publisher.publish(load, 100);
        for _ in 0..100 {
            let taken = consumer.take();
            if taken.sequence.is_multiple_of(KEPT_ONE_IN) {
                kept.push(taken.sequence);
            } else {
                let fields = Fields::default().with("delivery_tag", taken.tag.to_string());
                consumer.connection.send(1, "basic.ack", &fields);
            }
        }
        most = most.max(server.disk_bytes());
    }
    let live = kept.len() as u64 * SIZE;
    // Tidying up runs behind the load, and never so far that most of what has flowed is still there.
    assert!(most < 2 * live + 32 * MIB, "the log took {most} bytes for {live} that are needed");
    assert_disk_shrinks(&server, live);
    assert!(server.disk_bytes() >= live);
    server.restart();
    assert_eq!(taken_again(&server, kept.len() as u64), kept);
}

#[test]
fn queues_that_come_and_go_leave_nothing() {
    const PIECES: u64 = 10;
    const QUEUES: u64 = 2000;
    let (mut server, mut connection) = start();
    connection.call(1, "confirm.select", "");
    for piece in 0..PIECES {
        let mut bytes = Vec::new();
        let names = (0..QUEUES).map(|number| format!("passing.{piece}.{number}"));
        for name in names.clone() {
            let fields = Fields::parse("durable nowait").with("queue", &name);
            bytes.extend(Frame::method(1, "queue.declare", &fields).to_bytes());
            let fields = Fields::parse("delivery_mode=2").with("routing_key", &name);
            bytes.extend(connection.message(1, &fields, &[7; 500]));
        }
        for name in names {
            let fields = Fields::parse("nowait").with("queue", &name);
            bytes.extend(Frame::method(1, "queue.delete", &fields).to_bytes());
        }
        connection.send_bytes(&bytes);
        let end = (piece + 1) * QUEUES;
        let mut confirmed = BTreeSet::new();
        let mut upto = piece * QUEUES;
        while upto + (confirmed.len() as u64) < end {
            let event = connection.next(PATIENCE);
            let method = event.method().filter(|method| method.name == "basic.ack");
            let method = method.unwrap_or_else(|| panic!("{event} instead of confirms"));
            let tag = method.number("delivery_tag");
            if method.number("multiple") == 1 {
                upto = upto.max(tag);
                confirmed.retain(|single| *single > upto);
            } else if tag > upto {
                confirmed.insert(tag);
            }
        }
    }
    assert_eq!(depth(&mut connection, "bulk"), 0);
    assert_disk_shrinks(&server, 0);
    let start = Instant::now();
    server.restart();
    // Of which the end of the old process and the login take a part.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "a restart with one queue took {took:?}");
    let mut connection = connect(&server);
    assert_eq!(depth(&mut connection, "bulk"), 0);
    assert!(!server.log().contains("messages recovered"), "something was left");
}

#[test]
fn a_message_to_a_thousand_queues_is_written_once() {
    const QUEUES: u64 = 1000;
    const SIZE: u64 = 64 * KIB;
    let (mut server, mut connection) = start();
    for number in 0..QUEUES {
        connection.send(1, "queue.declare", &Fields::parse(&format!("queue=fan.{number} durable nowait")));
        let bind = format!("queue=fan.{number} exchange=amq.fanout nowait");
        connection.send(1, "queue.bind", &Fields::parse(&bind));
    }
    connection.call(1, "confirm.select", "");
    let before = server.status("written_bytes");
    let body = vec![7; SIZE as usize];
    connection.publish(1, &Fields::parse("exchange=amq.fanout delivery_mode=2"), &body);
    assert_eq!(connection.next(PATIENCE).method_name(), Some("basic.ack"));
    let written = server.status("written_bytes") - before;
    assert!((SIZE..MIB).contains(&written), "{written} bytes were written for {SIZE} to {QUEUES} queues");

    server.restart();
    assert_eq!(server.status("messages_on_disk"), QUEUES);
    let mut connection = connect(&server);
    for number in 0..QUEUES {
        let event = connection.call(1, "basic.get", &format!("queue=fan.{number}"));
        assert_eq!(event.body(), body, "{event} from queue {number}");
    }
    connection.send(1, "basic.ack", &Fields::parse(&format!("delivery_tag={} multiple", QUEUES - 1)));
    connection.call(1, "basic.qos", "");
    wait_until(5, "one holder is left", || server.status("messages_on_disk") == 1);
    // The last one gets it back, and from the disk.
    connection.drop_socket();
    server.restart();
    let mut connection = connect(&server);
    assert!(server.status("live_bytes") >= SIZE);
    let event = connection.call(1, "basic.get", &format!("queue=fan.{} no_ack", QUEUES - 1));
    assert_eq!(event.body(), body, "{event} from the last queue");
    wait_until(5, "nobody needs it", || server.status("messages_on_disk") == 0);
    server.restart();
    assert!(server.status("live_bytes") < SIZE);
}
