//! Our answers against those that RabbitMQ and ActiveMQ gave to the same conversations.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use roadstead_tests::conversation::{Host, Transcript, folder, hold_all, read_all, read_explained, read_record};
use roadstead_tests::openwire::record;
use roadstead_tests::server::{Server, binary};

/// Every difference must be explained, and every explanation must be of a difference.
#[test]
fn conversations_go_as_with_rabbitmq() {
    let conversations = read_all(&folder()).expect("the scripts can be read");
    let record = by_name(read_record(&folder().join("rabbitmq-4.0.txt")).expect("the record can be read"));
    let explained = read_explained(&folder().join("differences.txt")).expect("the differences can be read");
    let server = Server::start();
    let mut complaints = Vec::new();
    for ours in hold_all(&conversations, &Host::ours(&server, binary())) {
        let explanation = explained.iter().find(|explained| explained.name == ours.name);
        match (record.get(&ours.name), explanation) {
            (None, _) => complaints.push(format!("{} is not in the record; record it", ours.name)),
            (Some(theirs), None) if *theirs != ours.lines => {
                complaints.push(both(&ours.name, "RabbitMQ", theirs, &ours.lines))
            }
            (Some(theirs), Some(_)) if *theirs == ours.lines => {
                complaints.push(format!("{} is explained, but no longer differs", ours.name));
            }
            _ => {}
        }
    }
    for explained in &explained {
        if !conversations.iter().any(|conversation| conversation.name == explained.name) {
            complaints.push(format!("{} is explained, but there is no such conversation", explained.name));
        }
    }
    assert!(complaints.is_empty(), "{} complaints\n\n{}", complaints.len(), complaints.join("\n\n"));
}

/// The same with ActiveMQ's client in Java, whose frames are sent as they were recorded.
#[test]
fn conversations_of_openwire_go_as_with_activemq() {
    let folder = folder().join("openwire");
    let explained = read_explained(&folder.join("differences.txt")).expect("the differences can be read");
    let server = Server::start();
    let address = SocketAddr::from(([127, 0, 0, 1], server.port_of("openwire")));
    let mut complaints = Vec::new();
    let mut held = 0;
    for entry in fs::read_dir(&folder).expect("there are records").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "differences" {
            continue;
        }
        held += 1;
        let record = record::parse(&fs::read_to_string(&entry).expect("the record can be read"));
        let (ours, theirs) = (record::hold(&record, address), record::broker_side(&record));
        match (explained.iter().any(|explained| explained.name == name), ours == theirs) {
            (false, false) => complaints.push(both(&name, "ActiveMQ", &theirs, &ours)),
            (true, true) => complaints.push(format!("{name} is explained, but no longer differs")),
            _ => {}
        }
    }
    assert!(held > 0 && explained.len() <= held, "there are records, and explanations are of them");
    assert!(complaints.is_empty(), "{} complaints\n\n{}", complaints.len(), complaints.join("\n\n"));
}

fn by_name(transcripts: Vec<Transcript>) -> BTreeMap<String, Vec<String>> {
    transcripts.into_iter().map(|transcript| (transcript.name, transcript.lines)).collect()
}

fn both(name: &str, peer: &str, theirs: &[String], ours: &[String]) -> String {
    format!("== {name}\n{peer}:\n{}\nours:\n{}", theirs.join("\n"), ours.join("\n"))
}
