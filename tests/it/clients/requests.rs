//! What a suite may ask of the one who started it: a line that begins with `@`, and the line that answers it.

use std::fs;

use roadstead_tests::server::{Said, Server, roadstead};

/// The answer to a line of a suite, if it is a request.
pub fn answer(line: &str, server: &mut Server) -> Option<String> {
    let (request, rest) = line.split_once(' ').unwrap_or((line, ""));
    let answer = match request {
        "@restart" => {
            server.restart();
            "@restarted".to_owned()
        }
        "@define" => verdict("@defined", &import(server, rest)),
        "@export" => exported(&definitions(server, &["export"])),
        "@delete-policy" => verdict("@deleted", &server.ctl(&["delete-policy", "--vhost", "/", rest])),
        _ => return None,
    };
    Some(answer + "\n")
}

fn definitions(server: &Server, arguments: &[&str]) -> Said {
    let data = server.data().to_str().expect("a temporary path is text");
    let (command, rest) = arguments.split_first().expect("there is a command");
    roadstead(["definitions", command, "--data", data].iter().chain(rest))
}

fn import(server: &Server, document: &str) -> Said {
    let file = server.directory().join("suite-definitions.json");
    fs::write(&file, document).expect("the temporary directory is writable");
    definitions(server, &["import", file.to_str().expect("a temporary path is text")])
}

fn exported(said: &Said) -> String {
    // Without indentation it is one line.
    let document = serde_json::from_str::<serde_json::Value>(&said.out);
    document.map_or_else(|_| verdict("@exported", said), |document| format!("@exported {document}"))
}

fn verdict(good: &str, said: &Said) -> String {
    if said.status.success() { good.to_owned() } else { format!("@failed {}", said.err.replace('\n', " ").trim()) }
}
