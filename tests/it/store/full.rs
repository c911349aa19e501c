//! A disk that is full for real.

use std::time::{Duration, Instant};

use roadstead_tests::flow::{Consumer, LONG, Load, Publisher, Tally, address, connect, depth};
use roadstead_tests::raw::Connection;
use roadstead_tests::server::Server;
use roadstead_tests::tmpfs::Tmpfs;

use super::{MIB, SOON, wait_until};

const DISK_MIB: u32 = 80;
const BULK: Load = Load { queue: "bulk", persistent: true, size: 16 * 1024 };
const STORE: &str = "[store]\nsegment_bytes = 4194304\n[limits]\ndisk_free_bytes = ";
/// How long nothing must have been confirmed to call it a stop.
const STOPPED: Duration = Duration::from_secs(1);

/// A broker on a disk of its own, which holds its data over restarts; nothing if that isn't permitted here.
fn start(free: u64) -> Option<(Tmpfs, Server)> {
    let Some(disk) = Tmpfs::mount(DISK_MIB) else {
        eprintln!("skipped: no file system can be mounted here (unshare -Urm)");
        return None;
    };
    let builder = Server::builder().config(format!("{STORE}{free}\n")).prefix(disk.prefix());
    let server = builder.data(disk.inside().join("data")).start();
    connect(&server).call(1, "queue.declare", "queue=bulk durable");
    Some((disk, server))
}

/// Publishes until nothing is confirmed any more, or the broker has ended.
fn publish_until_stopped(publisher: &mut Publisher) {
    let mut progress = Instant::now();
    while progress.elapsed() < STOPPED {
        let published = publisher.last() * BULK.size as u64;
        assert!(published < 2 * u64::from(DISK_MIB) * MIB, "{published} bytes went to {DISK_MIB} MiB");
        let before = publisher.confirmed();
        // So much that a socket takes it, whether the broker reads it or not.
        if publisher.outstanding.len() < 16 {
            publisher.send(BULK, 8);
        }
        publisher.poll(SOON);
        if publisher.confirmed() > before {
            progress = Instant::now();
        }
    }
}

#[test]
fn a_disk_that_fills_blocks_publishers_until_there_is_room() {
    const FREE: u64 = 24 * MIB;
    let Some((_disk, mut server)) = start(FREE) else { return };
    let mut publisher = Publisher::new(&server, 1);
    publish_until_stopped(&mut publisher);
    assert_eq!(publisher.blocked.as_deref(), Some("low on disk"), "after {} messages", publisher.last());
    let written = publisher.confirmed() * BULK.size as u64;
    // Alarms are a quarter of a second late, which takes a segment or two.
    let room = u64::from(DISK_MIB) * MIB - FREE;
    assert!((room / 2..room + 12 * MIB).contains(&written), "{written} bytes were written where {room} were free");

    let mut tally = Tally::default();
    let mut consumer = Consumer::new(&server, "bulk", 100);
    let taken = publisher.confirmed();
    consumer.take_all(taken, &mut tally);
    // It goes on by itself.
    publisher.wait();
    assert_eq!(publisher.blocked, None);
    let last = publisher.last();
    consumer.take_all(last - taken, &mut tally);
    publisher.publish(BULK, 10);
    consumer.take_all(10, &mut tally);
    // Once more, and over a restart.
    drop(consumer);
    publisher.publish(BULK, 100);
    server.restart();
    assert_eq!(depth(&mut connect(&server), "bulk"), 100);
    Consumer::new(&server, "bulk", 100).take_all(100, &mut tally);
}

#[test]
fn a_disk_without_any_room_loses_nothing() {
    let Some((_disk, mut server)) = start(0) else { return };
    let mut publisher = Publisher::new(&server, 1);
    publish_until_stopped(&mut publisher);
    let confirmed = publisher.confirmed();
    let (written, disk) = (confirmed * BULK.size as u64, u64::from(DISK_MIB) * MIB);
    assert!(written > disk / 2, "nothing was confirmed any more at {written} bytes on {disk}");

    // Acknowledgements need room themselves, for which there is a reserve.
    let mut tally = Tally::default();
    let mut consumer = Consumer::new(&server, "bulk", 100);
    let half = confirmed / 2;
    consumer.take_all(half, &mut tally);
    publish_until_stopped(&mut publisher);
    let now = publisher.confirmed();
    assert!(now > confirmed, "{confirmed} were confirmed on a full disk, and no more after {half} were acknowledged");

    // A full disk does not keep a broker from starting again, and all that was confirmed is there.
    server.kill();
    while publisher.poll(SOON) {}
    let (confirmed, last) = (publisher.confirmed(), publisher.last());
    server.restart();
    let mut consumer = Consumer::new(&server, "bulk", 100);
    let first = consumer.take();
    // Acknowledgements wait for the disk like anything else.
    assert!(first.sequence <= half + 1, "{first:?} after {half} acknowledgements");
    tally.skip_to(1, first.sequence);
    consumer.ack(first.tag);
    consumer.take_all(confirmed - first.sequence, &mut tally);
    while let Some(taken) = consumer.take_within(SOON * 25) {
        tally.next(taken);
        consumer.ack(taken.tag);
    }
    assert!((confirmed..=last).contains(&tally.last(1)), "{tally:?}, {confirmed} confirmed of {last}");
    // A login and a new message show that the broker is well.
    wait_until(10, "a login", || Connection::open(&address(&server), &Default::default()).is_ok());
    let mut publisher = Publisher::after(&server, 1, tally.last(1));
    let start = Instant::now();
    publisher.publish(BULK, 100);
    assert!(start.elapsed() < LONG);
    consumer.take_all(100, &mut tally);
}
