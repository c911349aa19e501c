//! Holds the conversations with two servers, or with one and a record, and prints where they differ.
//!
//! ```text
//! conversations --against amqp://… --with amqp://…      two servers
//! conversations --against FILE --roadstead              a record, and a server of ours started for it
//! conversations --against amqp://… --record FILE        writes the transcripts down
//! conversations … --only TEXT                           those whose name contains it
//! conversations … --management http://host:port         the HTTP API of the server of --against, which `define` needs
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use roadstead_tests::conversation::{
    Conversation, Host, Manager, Transcript, folder, hold_all, read_all, read_record, write_record,
};
use roadstead_tests::raw::Address;
use roadstead_tests::server::Server;

#[derive(Default)]
struct Options {
    against: String,
    with: Option<String>,
    roadstead: bool,
    record: Option<String>,
    management: Option<String>,
    only: String,
}

fn main() -> ExitCode {
    let options = parse(std::env::args().skip(1));
    let mut conversations = read_all(&folder()).expect("the scripts can be read");
    conversations.retain(|conversation| conversation.name.contains(&options.only));
    let first = transcripts(&options.against, options.management.as_deref(), &conversations);
    if let Some(file) = &options.record {
        write_record(Path::new(file), "RabbitMQ 4.0.5", &first).expect("the record can be written");
        return ExitCode::SUCCESS;
    }
    let second = if options.roadstead {
        let server = Server::builder().binary(broker()).start();
        hold_all(&conversations, &Host::ours(&server, broker()))
    } else if let Some(with) = &options.with {
        transcripts(with, None, &conversations)
    } else {
        first.iter().for_each(print);
        return ExitCode::SUCCESS;
    };
    if report(&first, &second) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The binary of ours that was built with this one.
fn broker() -> PathBuf {
    let ours = std::env::current_exe().expect("a process knows its executable");
    std::env::var_os("ROADSTEAD_TEST_BINARY").map_or_else(|| ours.with_file_name("roadstead"), PathBuf::from)
}

fn parse(arguments: impl Iterator<Item = String>) -> Options {
    let mut options = Options::default();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--against" => options.against = value(),
            "--with" => options.with = Some(value()),
            "--record" => options.record = Some(value()),
            "--management" => options.management = Some(value()),
            "--only" => options.only = value(),
            "--roadstead" => options.roadstead = true,
            _ => panic!("no option {argument}; the head of the source says what there is"),
        }
    }
    assert!(!options.against.is_empty(), "--against is needed");
    options
}

/// From a server, or from a record of one.
fn transcripts(source: &str, management: Option<&str>, conversations: &[Conversation]) -> Vec<Transcript> {
    if source.starts_with("amqp://") {
        let host = Host { address: Address::parse(source), manager: management.map(Manager::http) };
        return hold_all(conversations, &host);
    }
    let mut record = read_record(Path::new(source)).expect("the record can be read");
    record.retain(|transcript| conversations.iter().any(|conversation| conversation.name == transcript.name));
    record
}

fn print(transcript: &Transcript) {
    println!("== {}\n{}\n", transcript.name, transcript.lines.join("\n"));
}

/// Prints what differs; how many conversations do.
fn report(first: &[Transcript], second: &[Transcript]) -> usize {
    let mut differing = 0;
    for one in first {
        let other = second.iter().find(|other| other.name == one.name);
        let lines = other.map_or(&[][..], |other| &other.lines);
        if one.lines == lines {
            continue;
        }
        differing += 1;
        println!("== {}", one.name);
        print_differences(&one.lines, lines);
        println!();
    }
    println!("{} conversations, {differing} differ", first.len());
    differing
}

/// Both transcripts in one: `-` is only in the first, `+` only in the second.
fn print_differences(first: &[String], second: &[String]) {
    let mut after = 0;
    for line in first {
        match second[after..].iter().position(|other| other == line) {
            Some(skipped) => {
                second[after..after + skipped].iter().for_each(|extra| println!("  + {extra}"));
                println!("    {line}");
                after += skipped + 1;
            }
            None => println!("  - {line}"),
        }
    }
    second[after..].iter().for_each(|extra| println!("  + {extra}"));
}
