//! What is written is read as the same, in every version and form, however it is cut into pieces.

use proptest::prelude::*;

use super::{
    encoded, format, formats, pair,
    sample::{Sample, Source, noise},
};
use crate::{Command, Decoder, WireFormat, message::MessageDispatch, structure::Structure};

/// Reads everything that comes in pieces of so many bytes, again and again.
fn decoded(decoder: &mut Decoder, bytes: &[u8], pieces: &[usize]) -> Vec<Command<'static>> {
    let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
    let mut pieces = pieces.iter().cycle();
    while end < bytes.len() {
        end = bytes.len().min(end + pieces.next().copied().unwrap_or(bytes.len()));
        while let Some((len, command)) = decoder.decode(&bytes[start..end]).unwrap() {
            start += len;
            commands.push(command.into_owned());
        }
    }
    assert_eq!(start, bytes.len());
    commands
}

/// WireFormatInfo always has its length before it, so that it cannot come where others have none.
fn can_come(command: &Command<'_>, format: WireFormat) -> bool {
    format.size_prefix || !matches!(command, Command::WireFormatInfo(_))
}

#[test]
fn every_structure_comes_back_in_every_format() {
    for format in formats() {
        let (mut decoder, mut encoder) = pair(format);
        for (seed, sample) in Command::SAMPLES.iter().enumerate() {
            for round in 0..8 {
                let bytes = noise((8 * seed + round) as u64, 400);
                let command = sample(&mut Source::new(&bytes, format.version));
                if can_come(&command, format) {
                    let frame = encoded(&mut encoder, &command);
                    let got = decoder.decode(&frame).unwrap();
                    assert_eq!(got, Some((frame.len(), command)), "{format:?}");
                }
            }
        }
    }
}

#[test]
fn every_type_code_is_listed_once() {
    let mut codes: Vec<u8> = Vec::new();
    for sample in Command::SAMPLES {
        for seed in 0..64 {
            codes.push(sample(&mut Source::new(&noise(seed, 64), 12)).code());
        }
    }
    codes.sort_unstable();
    codes.dedup();
    let all = (1..=12).chain(14..=34).chain([40, 50]).chain(52..=55).chain([60, 61, 65]);
    assert_eq!(codes, all.chain(90..=92).chain(100..=103).chain(110..=112).chain(120..=124).collect::<Vec<u8>>());
}

#[test]
fn a_stream_of_bits_may_have_any_length() {
    // Each id takes three bits, so that the stream has all lengths about 64 and 256 bytes, where its own length takes more.
    for count in (0..10).chain(145..160).chain(655..675).chain([4000]) {
        let (mut decoder, mut encoder) = pair(format(12, true, false, true));
        let id = crate::ids::BrokerId { value: Some("b".into()) };
        let message = crate::message::Message { broker_path: Some(vec![id; count]), ..Default::default() };
        let command = MessageDispatch { message: Some(message.into()), ..MessageDispatch::default() }.into();
        for _ in 0..2 {
            let frame = encoded(&mut encoder, &command);
            assert_eq!(decoder.decode(&frame).unwrap(), Some((frame.len(), command.clone())), "{count}");
        }
    }
}

#[test]
fn after_a_refusal_both_caches_agree() {
    for tight in [false, true] {
        let (mut decoder, mut encoder) = pair(format(12, tight, true, true));
        let id = |name: &str| {
            Some(crate::ids::ConsumerId { connection_id: Some(name.to_owned().into()), ..Default::default() })
        };
        let dispatch = |name: &str| Command::from(MessageDispatch { consumer_id: id(name), ..Default::default() });
        let long = crate::connection::ConsumerInfo {
            consumer_id: id("second"),
            selector: Some("x".repeat(70_000).into()),
            ..Default::default()
        };
        let mut out = encoded(&mut encoder, &dispatch("first"));
        let before = out.clone();
        assert!(encoder.encode(&long, &mut out).is_err());
        assert_eq!(out, before);
        for name in ["second", "first", "second"] {
            encoder.encode(&dispatch(name), &mut out).unwrap();
        }
        let got = decoded(&mut decoder, &out, &[]);
        assert_eq!(got, ["first", "second", "first", "second"].map(dispatch));
    }
}

#[test]
fn a_frame_that_the_peer_does_not_take_is_not_sent() {
    let (_, mut encoder) = pair(WireFormat { frame_max: 10, ..WireFormat::INITIAL });
    let mut out = Vec::new();
    encoder.encode(&crate::response::Response::to(1), &mut out).unwrap();
    assert_eq!(out.len(), 4 + 10);
    assert!(encoder.encode(&crate::response::IntegerResponse::default(), &mut out).is_err());
    assert_eq!(out.len(), 4 + 10);
}

#[test]
fn nothing_is_something() {
    for format in formats() {
        let (mut decoder, mut encoder) = pair(format);
        let frame = encoded(&mut encoder, &Command::Null);
        assert_eq!(decoder.decode(&frame).unwrap(), Some((frame.len(), Command::Null)));
    }
}

proptest! {
    #[test]
    fn conversations_come_back_in_any_pieces(
        seeds in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12),
        version in 1..=12,
        tight: bool,
        cache: bool,
        size_prefix: bool,
        stack_traces: bool,
        pieces in prop::collection::vec(1..40usize, 0..8),
    ) {
        let format = WireFormat { stack_traces, ..format(version, tight, cache, size_prefix) };
        let (mut decoder, mut encoder) = pair(format);
        let commands: Vec<Command<'_>> = seeds
            .iter()
            .map(|seed| Command::sample(&mut Source::new(seed, version)))
            .filter(|command| can_come(command, format))
            .collect();
        let mut bytes = Vec::new();
        for command in &commands {
            encoder.encode(command, &mut bytes).unwrap();
        }
        let got = decoded(&mut decoder, &bytes, &pieces);
        if stack_traces {
            prop_assert_eq!(got, commands);
        } else {
            // What is not sent does not come back, but the rest is the same again.
            let (mut decoder, mut encoder) = pair(format);
            let mut again = Vec::new();
            for command in &got {
                encoder.encode(command, &mut again).unwrap();
            }
            prop_assert_eq!(&again, &bytes);
            prop_assert_eq!(decoded(&mut decoder, &again, &[]), got);
        }
    }
}
