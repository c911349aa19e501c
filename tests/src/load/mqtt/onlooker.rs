//! A new subscription, which gets what is retained.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{KEPT, RETAINED, STATES};
use crate::checker::mqtt::{Notes, What};
use crate::checker::read_body;
use crate::mqtt::{Happening, Session, Taken, Version};

/// How long the last retained message may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Nothing says that there are no more, once the last one has come.
const SILENCE: Duration = Duration::from_millis(50);

pub(super) fn look(address: SocketAddr, run: u32, notes: &mut Notes) {
    let version = if run.is_multiple_of(2) { Version::V5 } else { Version::V311 };
    let qos = (run % 3) as u8;
    let mut session = Session::new(&format!("crash-onlooker-{run}"), version, 100);
    let mut connection = session.open_clean(address).expect("nobody kills the broker while one looks").connection;
    session.subscribe(&mut connection, &[(STATES, qos), (KEPT, qos)]);
    let (mut found, end) = (Vec::new(), Instant::now() + LIMIT);
    loop {
        let has_last = found.iter().any(|(topic, _)| topic == KEPT);
        let patience = if has_last { SILENCE } else { end.saturating_duration_since(Instant::now()) };
        match connection.next(patience) {
            Happening::Packet(packet) => match session.take(&mut connection, packet) {
                Taken::Message(publish) | Taken::Again(publish) => {
                    session.acknowledge(&mut connection, &publish);
                    let message = read_body(&publish.payload).expect("what is retained is whole");
                    assert!(publish.retain, "nobody has published it just now");
                    found.push((publish.topic, message));
                }
                Taken::SubAck(_) | Taken::Completed => {}
                other => panic!("{other:?} to somebody who looks"),
            },
            Happening::Silence => break,
            Happening::Closed => panic!("the broker has gone while one looks"),
        }
    }
    connection.say_goodbye();
    notes.note(What::Retained { topics: RETAINED, found });
}
