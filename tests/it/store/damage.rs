//! A log that the disk gives back otherwise than it was written: what is told, what goes on, what can be saved.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use roadstead_tests::flow::{Consumer, Load, Publisher, Taken, Tally, connect, depth, write_body};
use roadstead_tests::raw::{Fields, PATIENCE};
use roadstead_tests::server::{Said, Server, roadstead};

use super::{SMALL, SOON, wait_until};

const DEEP: u64 = 3000;
const HURT: Load = Load { queue: "hurt", persistent: true, size: 1000 };
const SOUND: Load = Load { queue: "sound", ..HURT };
/// One in the middle, that is not read before consumers get near to it.
const VICTIM: u64 = 2500;

/// A data directory with two deep queues, and no broker.
fn filled(directory: &Path) -> PathBuf {
    let data = directory.join("data");
    let mut server = Server::builder().data(&data).config(SMALL).start();
    let mut connection = connect(&server);
    connection.call(1, "queue.declare", "queue=hurt durable");
    connection.call(1, "queue.declare", "queue=sound durable");
    // One after the other, so that a segment in the middle has messages of one queue only.
    Publisher::new(&server, 1).publish(HURT, DEEP);
    Publisher::new(&server, 2).publish(SOUND, DEEP);
    // A stop leaves nothing to be made up for.
    let indexes = || segments(&data, "index").len();
    wait_until(10, "sealed segments have indexes", || indexes() + 2 > segments(&data, "segment").len());
    drop(connection);
    assert!(server.terminate().success());
    data
}

/// The files of one kind, in the order of their numbers.
fn segments(data: &Path, kind: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("log")).expect("it is a directory").filter_map(Result::ok);
    let mut files: Vec<_> = files.map(|f| f.path()).filter(|f| f.extension() == Some(OsStr::new(kind))).collect();
    let number = |path: &PathBuf| {
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        name.split('-').nth(1).and_then(|digits| digits.parse::<u64>().ok()).unwrap_or_default()
    };
    files.sort_by_key(number);
    files
}

/// Flips a byte of the message [`VICTIM`]; the file, and where.
fn flip(data: &Path) -> (PathBuf, usize) {
    let body = write_body(1, VICTIM, HURT.size);
    for file in segments(data, "segment") {
        let mut bytes = fs::read(&file).expect("it can be read");
        if let Some(at) = bytes.windows(body.len()).position(|window| window == body) {
            bytes[at + body.len() / 2] ^= 0x10;
            fs::write(&file, bytes).expect("it can be written");
            return (file, at);
        }
    }
    panic!("message {VICTIM} is in no segment");
}

fn doctor(data: &Path, more: &[&OsStr]) -> Said {
    roadstead([OsStr::new("doctor"), OsStr::new("--data"), data.as_os_str()].iter().chain(more))
}

fn name(file: &Path) -> String {
    file.file_name().expect("it has a name").to_string_lossy().into_owned()
}

#[test]
fn doctor_finds_nothing_where_nothing_is() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = filled(directory.path());
    let said = doctor(&data, &[]);
    assert!(said.status.success(), "{said:?}");
    for part in ["no damage found", "3000 in queue 'hurt' in vhost '/'", "3000 in queue 'sound' in vhost '/'"] {
        assert!(said.out.contains(part), "no {part:?} in {}", said.out);
    }
}

#[test]
fn doctor_names_the_damage_and_its_queue() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = filled(directory.path());
    let (file, at) = flip(&data);
    let said = doctor(&data, &[]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let line = said.out.lines().find(|line| line.starts_with("damage")).unwrap_or_else(|| panic!("{said:?}"));
    assert!(line.contains(&name(&file)), "{line}");
    // A block is damaged as a whole.
    let numbers = line.split("at offset ").nth(1).and_then(|rest| rest.strip_suffix(" bytes are not what was written"));
    let numbers: Vec<usize> = numbers.iter().flat_map(|text| text.split(": ")).filter_map(|n| n.parse().ok()).collect();
    let [offset, length] = numbers[..] else { panic!("no offset and length in {line}") };
    assert!((offset..offset + length).contains(&at), "damage at {at}: {line}");
    assert!(said.out.contains("messages of queue 'hurt' in vhost '/'"), "{}", said.out);
    assert!(!said.out.contains("messages of queue 'sound' in vhost '/'"), "{}", said.out);
    assert!(said.err.contains("--salvage"), "{}", said.err);
}

#[test]
fn a_damaged_queue_stops_before_the_damage_and_others_go_on() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = filled(directory.path());
    let (file, _) = flip(&data);
    let server = Server::builder().data(&data).config(SMALL).start();
    let mut consumer = Consumer::new(&server, "hurt", 100);
    let mut tally = Tally::default();
    while let Some(taken) = consumer.take_within(SOON * 25) {
        tally.next(taken);
        consumer.ack(taken.tag);
    }
    let last = tally.last(1);
    // All before the page with the damage, or all before the damage.
    assert!((1..VICTIM).contains(&last), "{last} messages came of a queue that is damaged at {VICTIM}");
    wait_until(5, "the log names the file", || {
        let log = server.log();
        log.lines().any(|line| line.contains("ERROR") && line.contains(&name(&file)) && line.contains("hurt"))
    });
    let mut connection = connect(&server);
    connection.send(1, "basic.get", &Fields::parse("queue=hurt"));
    let event = connection.next(PATIENCE);
    assert_eq!(event.close_code(), Some(404), "{event}");
    let text = event.method().expect("it is a method").text("reply_text");
    assert!(text.contains("cannot read") && text.contains("'hurt'"), "{text}");

    Consumer::new(&server, "sound", 100).take_all(DEEP, &mut tally);
    let mut connection = connect(&server);
    assert_eq!(depth(&mut connection, "hurt"), DEEP - last);
    // Also new messages are taken, for what can be read is not lost.
    Publisher::after(&server, 1, DEEP).publish(HURT, 10);
    assert_eq!(depth(&mut connection, "hurt"), DEEP - last + 10);
}

#[test]
fn salvage_brings_all_but_the_damaged() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = filled(directory.path());
    flip(&data);
    let target = directory.path().join("saved");
    let said = doctor(&data, &[OsStr::new("--salvage"), target.as_os_str()]);
    assert!(said.status.success(), "{said:?}");
    assert!(said.out.contains(&format!("salvaged        {} messages", 2 * DEEP - 1)), "{}", said.out);
    assert!(said.out.contains("1 messages of queue 'hurt' in vhost '/'"), "{}", said.out);

    let mut server = Server::builder().data(&target).config(SMALL).start();
    let mut connection = connect(&server);
    assert_eq!((depth(&mut connection, "hurt"), depth(&mut connection, "sound")), (DEEP - 1, DEEP));
    let mut tally = Tally::default();
    let mut consumer = Consumer::new(&server, "hurt", 100);
    let mut sequence = 0;
    for _ in 1..DEEP {
        sequence += if sequence + 1 == VICTIM { 2 } else { 1 };
        let Taken { sequence: taken, tag, .. } = consumer.take();
        assert_eq!(taken, sequence);
        consumer.ack(tag);
    }
    Consumer::new(&server, "sound", 100).take_all(DEEP, &mut tally);
    server.restart();
    assert_eq!(doctor(&target, &[]).status.code(), Some(0));
    let again = doctor(&data, &[OsStr::new("--salvage"), target.as_os_str()]);
    assert!(!again.status.success() && again.err.contains("saved"), "{again:?}");
}

#[test]
fn a_missing_segment_is_told_at_the_start() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = filled(directory.path());
    let files = segments(&data, "segment");
    let middle = &files[files.len() / 2];
    fs::remove_file(middle).expect("it can be removed");
    let _ = fs::remove_file(middle.with_extension("index"));
    let attempt = Server::builder().data(&data).config(SMALL).attempt();
    let Err(failure) = attempt else { panic!("the broker started without {}", middle.display()) };
    let said = failure.log;
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1), "{said}");
    let number = name(middle).split(['-', '.']).nth(1).and_then(|digits| digits.parse::<u64>().ok());
    let number = number.expect("segments are numbered");
    assert!(said.contains(&format!("segment {number} is missing")), "{} is missing: {said}", name(middle));
    assert_eq!(doctor(&data, &[]).status.code(), Some(1));
}
