//! What it takes to read and to write the dispatch of a bytes message of 1 KiB, on one core:
//! `cargo run --release -p roadstead-openwire --example dispatch`.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use openwire::{
    Command, Decoder, Encoder, WireFormat,
    ids::{ConsumerId, Destination, MessageId, ProducerId},
    message::{Message, MessageDispatch, MessageKind},
};

/// The best of so many counts, since others use the machine as well.
const BATCHES: u32 = 500;
const ROUNDS: u32 = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Words that what is measured has to have in its name, for a profiler.
    let words: Vec<String> = std::env::args().skip(1).collect();
    for (encoding, tight) in [("loose", false), ("tight", true)] {
        for (cache, cache_size) in [("plain", 0), ("cache", 1024)] {
            let format = WireFormat { version: 12, tight, cache_size, ..WireFormat::INITIAL };
            for (direction, measure) in [("encode", encode as Measure), ("decode", decode)] {
                if words.iter().all(|word| [encoding, cache, direction].contains(&word.as_str())) {
                    let (time, len) = measure(format)?;
                    println!("{encoding} {cache} {direction}: {time:?}, {len} bytes");
                }
            }
        }
    }
    Ok(())
}

/// The time that one takes, and the bytes of the frame.
type Measure = fn(WireFormat) -> Result<(Duration, usize), Box<dyn std::error::Error>>;

/// As a broker makes it of what it has of a message.
fn dispatch<'a>(body: &'a [u8], properties: &'a [u8]) -> MessageDispatch<'a> {
    let connection = "ID:host-41237-1795158941469-4:1";
    let producer_id = ProducerId { connection_id: Some(connection.into()), value: 1, session_id: 1 };
    let destination = Some(Destination { physical_name: Some("orders.incoming".into()), ..Destination::default() });
    let message = Message {
        kind: MessageKind::Bytes,
        producer_id: Some(producer_id.clone()),
        destination: destination.clone(),
        message_id: Some(MessageId {
            producer_id: Some(producer_id),
            producer_sequence_id: 12_345,
            broker_sequence_id: 123_456,
            ..MessageId::default()
        }),
        persistent: true,
        priority: 4,
        timestamp: 1_795_158_941_469,
        content: Some(body.into()),
        marshalled_properties: Some(properties.into()),
        broker_in_time: 1_795_158_941_471,
        broker_out_time: 1_795_158_941_472,
        ..Message::default()
    };
    MessageDispatch {
        consumer_id: Some(ConsumerId { connection_id: Some(connection.into()), session_id: 1, value: 1 }),
        destination,
        message: Some(Box::new(message)),
        ..MessageDispatch::default()
    }
}

fn encode(format: WireFormat) -> Result<(Duration, usize), Box<dyn std::error::Error>> {
    let (body, properties) = ([7; 1024], b"\0\0\0\x01\0\x01k\x09\0\x01v");
    let mut encoder = Encoder::default();
    encoder.switch(format);
    let mut out = Vec::new();
    let time = best(|| {
        out.clear();
        encoder.encode(&dispatch(black_box(&body), black_box(properties)), &mut out)?;
        black_box(&out);
        Ok(())
    })?;
    Ok((time, out.len()))
}

fn best(
    mut run: impl FnMut() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut best = Duration::MAX;
    for _ in 0..BATCHES {
        let start = Instant::now();
        (0..ROUNDS).try_for_each(|_| run())?;
        best = best.min(start.elapsed() / ROUNDS);
    }
    Ok(best)
}

fn decode(format: WireFormat) -> Result<(Duration, usize), Box<dyn std::error::Error>> {
    let body = [7; 1024];
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::new(1 << 20);
    encoder.switch(format);
    decoder.switch(format);
    // The first frame fills the cache, the second is what is measured.
    let mut out = Vec::new();
    for _ in 0..2 {
        out.clear();
        encoder.encode(&Command::from(dispatch(&body, b"")), &mut out)?;
        decoder.decode(&out)?;
    }
    let time = best(|| {
        black_box(decoder.decode(black_box(&out))?);
        Ok(())
    })?;
    Ok((time, out.len()))
}
