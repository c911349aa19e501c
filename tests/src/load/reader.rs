//! Reading streams, over and over.

use super::consumer::{header, read_message};
use super::{Cast, Client, PATIENCE, is_gone};
use crate::checker::{Event, Recorder, What};
use crate::raw::{self, Address, Happening, Value};

const PREFETCH: usize = 100;
/// One acknowledgement for so many.
const TOGETHER: usize = 25;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    First,
    /// One after the last that the same reader has got in an earlier run.
    WhereItWas,
}

/// Reads until the connection is gone.
pub(super) fn read(client: &mut Client, stream: &'static str, start: Start) {
    let offset = (start == Start::WhereItWas).then_some(client.sequence);
    if !begin(client, stream, offset) {
        return;
    }
    let mut count = 0;
    loop {
        let event = client.connection.next(PATIENCE);
        if is_gone(&event.happening) {
            return;
        }
        if let Some((tag, offset)) = read_one(client, stream, &event) {
            client.sequence = offset + 1;
            count += 1;
            if count % TOGETHER == 0 {
                client.settle("basic.ack", tag, "multiple");
            }
        }
    }
}

/// Reads all that is in a stream, from its first message on.
pub(super) fn read_all(cast: &'static Cast, address: &Address, stream: &'static str, recorder: Recorder) -> Vec<Event> {
    let mut client = Client::only_taking(cast, address, recorder);
    let declared = client.connection.call(1, "queue.declare", &format!("queue={stream} passive"));
    let length = declared.method().map_or(0, |method| method.number("message_count"));
    assert!(begin(&mut client, stream, None), "the broker has gone before stream {stream} was read");
    for count in 1..=length {
        let event = client.connection.next(raw::PATIENCE);
        assert!(!is_gone(&event.happening), "the broker has gone while stream {stream} was read");
        let read = read_one(&mut client, stream, &event);
        let (tag, _) = read.unwrap_or_else(|| panic!("{event} instead of message {count} of {length} in {stream}"));
        client.settle("basic.ack", tag, "");
    }
    client.recorder.into_events()
}

/// Begins to read; whether the connection is still there.
fn begin(client: &mut Client, stream: &'static str, offset: Option<u64>) -> bool {
    let place = offset.map_or_else(|| "S:first".to_owned(), |offset| format!("l:{offset}"));
    client.recorder.note(What::ReadFrom { stream, offset });
    let fields = format!("queue={stream} consumer_tag={stream} arguments={{x-stream-offset={place}}}");
    client.ask("basic.qos", &format!("prefetch_count={PREFETCH}")) && client.ask("basic.consume", &fields)
}

/// Writes down what a reader got; its tag and its number.
fn read_one(client: &mut Client, stream: &'static str, event: &raw::Event) -> Option<(u64, u64)> {
    let Happening::Content { method, properties, body } = &event.happening else { return None };
    let message = read_message(client, stream, body)?;
    let Some(Value::Integer(_, offset)) = header(properties, "x-stream-offset") else {
        panic!("{event} from stream {stream} has no number");
    };
    let offset = u64::try_from(*offset).expect("no number is negative");
    client.recorder.note(What::Read { stream, message, offset });
    Some((method.number("delivery_tag"), offset))
}
