//! Tests of the whole codec.

mod damage;
mod golden;
mod negotiation;
mod round_trip;
pub(crate) mod sample;
mod versions;

use crate::{Command, Decoder, Encoder, WireFormat};

/// What frames are cut to in tests.
const FRAME_MAX: usize = 1 << 20;

fn pair(format: WireFormat) -> (Decoder, Encoder) {
    let (mut decoder, mut encoder) = (Decoder::new(FRAME_MAX), Encoder::default());
    decoder.switch(format);
    encoder.switch(format);
    (decoder, encoder)
}

/// A format by what may differ.
fn format(version: i32, tight: bool, cache: bool, size_prefix: bool) -> WireFormat {
    WireFormat { version, tight, cache_size: if cache { 16 } else { 0 }, size_prefix, ..WireFormat::INITIAL }
}

fn formats() -> impl Iterator<Item = WireFormat> {
    (1..=12).flat_map(|version| (0..8).map(move |bits| format(version, bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)))
}

fn encoded(encoder: &mut Encoder, command: &Command<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.encode(command, &mut out).unwrap();
    out
}
