//! Conversations: scripts of AMQP 0-9-1 that are held with any server and leave a transcript.
//!
//! `tests/conversations/*.script` are the scripts ([`script`] says how they are written), and `rabbitmq-4.0.txt` next to
//! them is what RabbitMQ answered. Names that change from run to run are shown the same every time, so transcripts of
//! two servers, or of two runs, can be compared as text.

mod http;
mod manage;
mod names;
mod record;
pub mod script;
mod talk;

use std::path::PathBuf;
use std::sync::Mutex;

pub use manage::Manager;
pub use record::{Explained, read_explained, read_record, write_record};
pub use script::{Conversation, read_all};

use crate::raw::Address;
use crate::server::Server;

/// How many conversations are held at a time: most of their time is waiting.
const AT_A_TIME: usize = 8;

/// A server to talk with.
pub struct Host {
    pub address: Address,
    /// Without one, conversations that define something are broken off.
    pub manager: Option<Manager>,
}

impl Host {
    /// A server of ours, administered by the commands of `binary`.
    pub fn ours(server: &Server, binary: PathBuf) -> Self {
        let manager = Manager::Commands { binary, data: server.data().to_owned() };
        Self { address: Address::parse(&server.uri()), manager: Some(manager) }
    }
}

pub struct Transcript {
    pub name: String,
    pub lines: Vec<String>,
}

/// Where the scripts and the records are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conversations")
}

/// Holds all conversations with one server; the transcripts come in the order of the conversations.
pub fn hold_all(conversations: &[Conversation], host: &Host) -> Vec<Transcript> {
    let waiting = Mutex::new(conversations.iter().enumerate());
    let held = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no holder of the lock panics").next();
                    let Some((place, conversation)) = next else { return };
                    let transcript = hold(conversation, host);
                    held.lock().expect("no holder of the lock panics").push((place, transcript));
                }
            });
        }
    });
    let mut held = held.into_inner().expect("no holder of the lock panics");
    held.sort_by_key(|(place, _)| *place);
    held.into_iter().map(|(_, transcript)| transcript).collect()
}

fn hold(conversation: &Conversation, host: &Host) -> Transcript {
    let outcome = std::panic::catch_unwind(|| talk::hold(conversation, host));
    let lines = outcome.unwrap_or_else(|reason| {
        let text = reason.downcast_ref::<String>().cloned();
        let text = text.or_else(|| reason.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        vec![format!("! broken off: {}", text.unwrap_or_else(|| "see the panic's message".to_owned()))]
    });
    Transcript { name: conversation.name.clone(), lines }
}
