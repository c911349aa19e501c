//! OpenWire frames from arbitrary bytes, in a format that the first two of them choose. What is read must be written to
//! something that is read as the same, and pieces must be read as the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openwire::{
    Command, Decoder, Encoder, Offer, WireFormat, body,
    primitive::{self, put_map, put_value},
};

const FRAME_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [version, options, input @ ..] = data else { return };
    let format = WireFormat {
        version: i32::from(version % 12) + 1,
        tight: options & 1 != 0,
        cache_size: if options & 2 != 0 { 16 } else { 0 },
        size_prefix: options & 4 != 0,
        stack_traces: options & 8 != 0,
        frame_max: FRAME_MAX,
    };
    let [mut decoder, mut pieces, mut again] = [(); 3].map(|()| Decoder::new(FRAME_MAX));
    let mut encoder = Encoder::default();
    [&mut decoder, &mut pieces, &mut again].into_iter().for_each(|decoder| decoder.switch(format));
    encoder.switch(format);
    let mut rest = input;
    while let Ok(Some((len, command))) = decoder.decode(rest) {
        check_pieces(&mut pieces, rest, len, &command);
        check_again(&mut encoder, &mut again, &command, format.size_prefix);
        check_content(&command);
        rest = &rest[len..];
    }
    check_values(input);
});

fn check_pieces(decoder: &mut Decoder, input: &[u8], len: usize, whole: &Command<'_>) {
    for end in (0..len).step_by(1 + len / 16) {
        assert_eq!(decoder.decode(&input[..end]), Ok(None));
    }
    assert_eq!(decoder.decode(&input[..len]).unwrap().as_ref(), Some(&(len, whole.clone())));
}

/// WireFormatInfo comes with a length even where other frames have none.
fn check_again(encoder: &mut Encoder, decoder: &mut Decoder, command: &Command<'_>, size_prefix: bool) {
    let mut out = Vec::new();
    // Longer names than the tight encoding can have may be read in one way and not written in the other.
    if encoder.encode(command, &mut out).is_ok() && (size_prefix || !matches!(command, Command::WireFormatInfo(_))) {
        let (len, again) = decoder.decode(&out).unwrap().unwrap();
        assert_eq!((len, &again), (out.len(), command));
        assert_eq!(&again.into_owned(), command);
    }
}

fn check_content(command: &Command<'_>) {
    match command {
        Command::Message(message) => {
            let _ = body::compressed(message);
            if let Some(content) = &message.content {
                let _ = body::text(content);
                check_values(content);
            }
        }
        Command::WireFormatInfo(info) => {
            if let Ok(offer) = Offer::of(info) {
                assert_eq!(Offer::of(&offer.info()).as_ref(), Ok(&offer));
                let both = Offer::default().negotiate(&offer).format();
                assert!((1..=12).contains(&both.version) && both.cache_size < 1 << 14);
            }
        }
        _ => {}
    }
}

fn check_values(bytes: &[u8]) {
    if let Ok(map) = primitive::entries(bytes).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        let mut out = Vec::new();
        if put_map(&mut out, &map).is_ok() {
            let again: Vec<_> = primitive::entries(&out).unwrap().map(Result::unwrap).collect();
            assert_eq!(format!("{again:?}"), format!("{map:?}"));
        }
    }
    for value in primitive::values(bytes).map_while(Result::ok) {
        let mut out = Vec::new();
        put_value(&mut out, &value).unwrap();
        assert_eq!(format!("{:?}", primitive::values(&out).next()), format!("{:?}", Some(Ok::<_, ()>(value))));
    }
}
