//! Reading scripts.
//!
//! A file holds conversations, each headed by `== name`. A line is a step: `[place] command [fields]`. The place is a
//! channel number, with a letter before it for another connection than `a` (`2`, `b1`, `b`); without one it is
//! channel 1 of connection `a`. Connections and channels are opened when first used. A name that begins with `~` is
//! unique to the run, so that conversations do not meet. `#` begins a comment line.
//!
//! | command | does |
//! |---|---|
//! | a method's name | sends it; when it has a reply, reads until that came, or the channel or connection is closed |
//! | `basic.publish … body=TEXT`, or `fill=BYTES` | sends a whole message, or with `times=N` several |
//! | `send METHOD` | sends a method frame, without opening the channel for it, and waits for nothing |
//! | `header size=N …`, `body TEXT` | sends a content header, a body frame |
//! | `frame KIND HEX`, `hex HEX`, `text TEXT` | sends a frame of any kind, or bytes without a frame |
//! | `connect …`, `tcp`, `preamble` | connects with options, connects only, sends the protocol header |
//! | `await N`, `await N sorted` | reads N events (in an order that is of no importance) |
//! | `skip N`, `confirms N` | reads N events unseen; reads acks and nacks until N messages have theirs |
//! | `quiet`, `closed` | expects nothing for a moment; expects the server to hang up |
//! | `counts Q…`, `total Q…` | asks how many messages queues have: the numbers in order of size, or their sum |
//! | `define JSON` | imports definitions; `operator_policies` are written as `policies` are |
//! | `undefine policy NAME`, `undefine operator-policy NAME` | deletes one of the virtual host `/` |
//! | `close`, `drop`, `pause MS` | leaves with a good-bye; leaves without; waits |

use std::path::Path;

use crate::raw::method;

pub struct Conversation {
    /// `file/heading`
    pub name: String,
    pub steps: Vec<Step>,
}

#[derive(Clone)]
pub struct Step {
    pub connection: char,
    pub channel: u16,
    pub command: String,
    pub rest: String,
}

impl Step {
    fn parse(line: &str) -> Self {
        let (first, after) = line.split_once(' ').unwrap_or((line, ""));
        let (place, line) = if is_place(first) { (first, after.trim()) } else { ("", line) };
        let connection = place.chars().next().filter(char::is_ascii_alphabetic).unwrap_or('a');
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let on_connection = command.starts_with("connection.");
        let usual = if on_connection { 0 } else { 1 };
        let channel = place.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().unwrap_or(usual);
        Self { connection, channel, command: command.to_owned(), rest: rest.trim().to_owned() }
    }

    /// `b2`, or only `2` on the connection `a`.
    pub fn place(&self) -> String {
        place(self.connection, &self.channel.to_string())
    }

    pub fn is_method(&self) -> bool {
        method::exists(&self.command)
    }
}

pub fn place(connection: char, rest: &str) -> String {
    if connection == 'a' { rest.to_owned() } else { format!("{connection}{rest}") }
}

fn is_place(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_lowercase());
    word.len() - digits.len() <= 1 && digits.bytes().all(|c| c.is_ascii_digit())
}

/// Every conversation of the `*.script` files in a folder, by name.
pub fn read_all(folder: &Path) -> std::io::Result<Vec<Conversation>> {
    let mut conversations = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "script") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            conversations.extend(parse(&stem, &std::fs::read_to_string(&path)?));
        }
    }
    conversations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(conversations)
}

fn parse(stem: &str, text: &str) -> Vec<Conversation> {
    let mut conversations: Vec<Conversation> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(heading) = line.strip_prefix("== ") {
            conversations.push(Conversation { name: format!("{stem}/{heading}"), steps: Vec::new() });
        } else if let Some(last) = conversations.last_mut() {
            last.steps.push(Step::parse(line));
        }
    }
    conversations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_commands() {
        let step = Step::parse("b2 queue.declare queue=~q durable");
        assert_eq!((step.connection, step.channel, step.command.as_str()), ('b', 2, "queue.declare"));
        assert_eq!(step.rest, "queue=~q durable");
        let step = Step::parse("connection.close");
        assert_eq!((step.connection, step.channel), ('a', 0));
        let step = Step::parse("await 2");
        assert_eq!((step.connection, step.channel, step.rest.as_str()), ('a', 1, "2"));
        let step = Step::parse("b quiet");
        assert_eq!((step.connection, step.command.as_str()), ('b', "quiet"));
    }
}
