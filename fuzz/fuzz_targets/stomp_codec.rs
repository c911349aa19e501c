//! STOMP frames and destinations from arbitrary bytes. However a frame comes in pieces it must be the same, a frame that is
//! written must read back, and what a destination is told as must be read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stomp::{
    destination::{Destination, of_routing},
    message::Stored,
    wire::{self, Decoder, Frame, Limits, Version},
};

fn decoder(version: Version) -> Decoder {
    let mut decoder = Decoder::new();
    decoder.limits = Limits::after_login(1 << 16, 1 << 16);
    decoder.version = version;
    decoder
}

fuzz_target!(|data: &[u8]| {
    for version in Version::ALL {
        let whole = decoder(version).decode(data);
        let mut pieces = decoder(version);
        let mut found = Ok(None);
        for end in 0..=data.len() {
            found = pieces.decode(&data[..end]);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        if let Ok(Some((frame, len))) = &whole {
            assert!(*len <= data.len());
            assert_eq!(found, whole);
            check(frame, version);
        }
    }
    let mut stored = Stored::new(data).headers();
    assert!(stored.by_ref().count() <= data.len());
});

fn check(frame: &Frame<'_>, version: Version) {
    let headers: Vec<(&str, &str)> = frame.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let told: Vec<(&str, &str)> = headers
        .iter()
        .copied()
        .filter(|(name, value)| wire::can_tell(name, version) && wire::can_tell(value, version))
        .filter(|(name, _)| *name != "content-length" && !(version == Version::V10 && name.contains(':')))
        .collect();
    let bytes = wire::frame("MESSAGE", &told, frame.body, version);
    let again = decoder(version).decode(&bytes).expect("it was written").expect("it is whole").0;
    let read: Vec<(&str, &str)> = again.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!((&read[..told.len()], again.body), (&told[..], frame.body));
    for destination in frame.headers.iter().filter_map(|(_, value)| Destination::parse(value).ok()) {
        if let Some((exchange, key)) = destination.routing() {
            let text = of_routing(exchange, key);
            let routing = Destination::parse(&text).ok();
            if !key.is_empty() && !exchange.is_empty() {
                assert_eq!(routing.as_ref().and_then(Destination::routing), Some((exchange, key)), "{text}");
            }
        }
    }
    let stored = Stored::bytes_of(frame, None);
    assert!(Stored::new(&stored).headers().count() <= headers.len());
}
