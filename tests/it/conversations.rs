//! Our answers against those that RabbitMQ gave to the same conversations.

use std::collections::BTreeMap;

use roadstead_tests::conversation::{Host, Transcript, folder, hold_all, read_all, read_explained, read_record};
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
            (Some(theirs), None) if *theirs != ours.lines => complaints.push(both(&ours.name, theirs, &ours.lines)),
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

fn by_name(transcripts: Vec<Transcript>) -> BTreeMap<String, Vec<String>> {
    transcripts.into_iter().map(|transcript| (transcript.name, transcript.lines)).collect()
}

fn both(name: &str, theirs: &[String], ours: &[String]) -> String {
    format!("== {name}\nRabbitMQ:\n{}\nours:\n{}", theirs.join("\n"), ours.join("\n"))
}
