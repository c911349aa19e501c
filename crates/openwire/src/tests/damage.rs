//! Bytes that nobody should send are refused, or are a command; nothing else happens.

use proptest::prelude::*;

use super::{
    FRAME_MAX, encoded, format, formats, pair,
    sample::{Source, noise},
};
use crate::{
    Command, Decoder, Malformed, WireFormat,
    response::{DataArrayResponse, ExceptionResponse},
    throwable::{StackTraceElement, Throwable},
};

/// Frames of every structure, in one format.
fn samples(format: WireFormat) -> Vec<Vec<u8>> {
    let frames = Command::SAMPLES.iter().enumerate().map(|(seed, sample)| {
        let (_, mut encoder) = pair(format);
        encoded(&mut encoder, &sample(&mut Source::new(&noise(seed as u64, 400), format.version)))
    });
    frames.filter(|frame| format.size_prefix || frame[0] != 0).collect()
}

fn decode(format: WireFormat, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let (mut decoder, _) = pair(format);
    Ok(decoder.decode(bytes)?.map(|(len, _)| len))
}

#[test]
fn a_beginning_of_a_frame_is_not_a_frame() {
    for format in formats().filter(|format| [1, 9, 12].contains(&format.version)) {
        for frame in samples(format) {
            assert_eq!(decode(format, &frame), Ok(Some(frame.len())));
            for len in 0..frame.len() {
                assert_eq!(decode(format, &frame[..len]), Ok(None), "{format:?} {frame:x?} {len}");
            }
        }
    }
}

#[test]
fn a_frame_that_ends_within_a_field_or_after_the_last_is_refused() {
    for format in formats().filter(|format| format.size_prefix && format.version == 12) {
        for frame in samples(format) {
            for len in (5..frame.len()).chain([frame.len() + 1]) {
                let mut cut = frame.clone();
                cut.resize(len, 0);
                let size = (len as u32 - 4).to_be_bytes();
                cut[..4].copy_from_slice(&size);
                assert!(decode(format, &cut).is_err(), "{format:?} {frame:x?} {len}");
            }
        }
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    for format in formats().filter(|format| format.version == 12) {
        for frame in samples(format) {
            for at in 0..8 * frame.len() {
                let mut flipped = frame.clone();
                flipped[at / 8] ^= 1 << (at % 8);
                if let Ok(Some(len)) = decode(format, &flipped) {
                    assert!(len <= flipped.len());
                }
            }
        }
    }
}

#[test]
fn a_frame_that_is_too_long_is_known_by_its_length() {
    let mut decoder = Decoder::new(100);
    assert_eq!(decoder.decode(&[0, 0, 0]), Ok(None));
    assert!(decoder.decode(&[0, 0, 0, 101]).is_err());
    assert!(decoder.decode(&[0xff, 0, 0, 0]).is_err());
    assert_eq!(decoder.decode(&[0, 0, 0, 100]), Ok(None));
    decoder.set_frame_max(99);
    assert!(decoder.decode(&[0, 0, 0, 100]).is_err());
}

#[test]
fn without_lengths_a_body_that_is_too_long_is_known_by_its_own() {
    let (mut decoder, _) = pair(format(12, false, false, false));
    // PartialCommand with a piece of so many bytes.
    let head = |len: usize| [&[60, 0, 0, 0, 0, 1][..], &(len as u32).to_be_bytes()].concat();
    assert_eq!(decoder.decode(&head(FRAME_MAX - 10)), Ok(None));
    let (mut decoder, _) = pair(format(12, false, false, false));
    assert!(decoder.decode(&head(FRAME_MAX)).is_err());
}

#[test]
fn without_lengths_a_frame_may_not_come_in_very_many_pieces() {
    let (mut decoder, _) = pair(format(12, false, false, false));
    // DataArrayResponse with many ids without a name: each byte ends a field.
    let mut frame = vec![33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0xff];
    frame.extend([1, 124, 0].repeat(0x7fff));
    assert!(matches!(pair(format(12, false, false, false)).0.decode(&frame), Ok(Some(_))));
    let mut pieces = (1..frame.len()).map(|len| decoder.decode(&frame[..len]));
    let end = pieces.position(|piece| piece.is_err());
    assert!(end.is_some_and(|end| (1000..2000).contains(&end)), "{end:?}");
}

#[test]
fn a_frame_that_is_tried_again_finds_the_cache_as_it_was() {
    let (mut decoder, _) = pair(format(12, false, true, false));
    let head = [20, 0, 0, 0, 0, 0];
    let tail = [0; 10];
    // MessagePull with a consumer, new at 0, and a destination that is null, new at 1.
    let consumer = [&[1, 0, 0, 1, 122, 1, 0, 1, b'a'][..], &[0; 16], &[1, 0, 1, 0]].concat();
    let first = [&head[..], &consumer, &tail].concat();
    assert!(matches!(decoder.decode(&first), Ok(Some(_))));
    // The same consumer, and a destination that takes its place.
    let second = [&head[..], &[0, 0, 0, 1, 0, 0, 1, 100, 1, 0, 1, b'Q'], &tail].concat();
    for len in 0..second.len() {
        assert_eq!(decoder.decode(&second[..len]), Ok(None));
    }
    let (_, command) = decoder.decode(&second).unwrap().unwrap();
    let Command::MessagePull(pull) = command else { panic!("{command:?}") };
    assert_eq!(pull.consumer_id.unwrap().to_string(), "a:0:0");
    assert_eq!(pull.destination.unwrap().to_string(), "queue://Q");
}

#[test]
fn structures_lie_in_each_other_only_so_deep() {
    for tight in [false, true] {
        let nested = |depth: usize| {
            (0..depth).fold(Command::KeepAliveInfo(Default::default()), |inner, _| {
                crate::response::DataResponse { data: Some(Box::new(inner)), ..Default::default() }.into()
            })
        };
        let format = format(12, tight, false, true);
        let (mut decoder, mut encoder) = pair(format);
        assert!(matches!(decoder.decode(&encoded(&mut encoder, &nested(32))), Ok(Some(_))));
        assert!(decoder.decode(&encoded(&mut encoder, &nested(33))).is_err());
    }
}

#[test]
fn a_frame_has_only_so_many_parts() {
    let message = |calls: usize| {
        let trace = vec![StackTraceElement::default(); calls];
        let cause = Throwable { stack_trace: trace.clone(), ..Throwable::default() };
        let exception = Throwable { stack_trace: trace, cause: Some(Box::new(cause)), ..Throwable::default() };
        ExceptionResponse { exception: Some(Box::new(exception)), ..ExceptionResponse::default() }.into()
    };
    for tight in [false, true] {
        let (mut decoder, mut encoder) = pair(format(12, tight, false, true));
        assert!(matches!(decoder.decode(&encoded(&mut encoder, &message(32_700))), Ok(Some(_))));
        let most = Command::from(DataArrayResponse { data: Some(vec![message(11_000); 3]), ..Default::default() });
        assert!(decoder.decode(&encoded(&mut encoder, &most)).is_err());
    }
}

#[test]
fn a_cache_refuses_what_it_does_not_have() {
    let remove = |is_new: u8, index: i16, rest: &[u8]| {
        let [high, low] = index.to_be_bytes();
        [&[9, 0, 0, 0, 0, 0, is_new, high, low][..], rest].concat()
    };
    let connection = [1, 120, 1, 0, 1, b'a', 0, 0];
    let (mut decoder, _) = pair(format(12, false, true, false));
    // An index of -1 is taken for what it is worth.
    assert!(matches!(decoder.decode(&remove(1, -1, &connection)), Ok(Some(_))));
    assert!(decoder.decode(&remove(0, -1, &[0, 0])).is_err());
    assert!(decoder.decode(&remove(0, 0, &[0, 0])).is_err());
    assert!(decoder.decode(&remove(1, 16, &connection)).is_err());
    assert!(matches!(decoder.decode(&remove(1, 15, &connection)), Ok(Some(_))));
    assert!(matches!(decoder.decode(&remove(0, 15, &[0, 0])), Ok(Some(_))));
    // SessionInfo cannot refer to a connection's id.
    assert!(decoder.decode(&[4, 0, 0, 0, 0, 0, 0, 0, 15]).is_err());
}

#[test]
fn a_cache_takes_names_of_a_megabyte() {
    let (mut decoder, _) = pair(WireFormat { cache_size: 1000, ..format(12, false, true, false) });
    let remove = |index: i16| {
        let mut frame = vec![9, 0, 0, 0, 0, 0, 1];
        frame.extend(index.to_be_bytes());
        frame.extend([1, 120, 1, 0x80, 0]);
        frame.extend([b'x'; 0x8000]);
        frame.extend([0, 0]);
        frame
    };
    for _ in 0..3 {
        assert!((0..32).all(|index| matches!(decoder.decode(&remove(index)), Ok(Some(_)))));
    }
    assert!(decoder.decode(&remove(32)).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_commands_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        code in prop::sample::select((0..=124).collect::<Vec<u8>>()),
        version in 1..=12,
        tight: bool,
        cache: bool,
    ) {
        let format = format(version, tight, cache, false);
        let _ = decode(format, &[&[code][..], &bytes].concat());
    }
}
