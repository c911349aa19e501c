//! Frames: a length, a type code, and a structure.

use std::mem;

use crate::{
    cache::{Received, Sent},
    command::Command,
    error::{Malformed, Unencodable},
    input::Input,
    offer::WireFormat,
    reader::Reader,
    structure::Structure,
    writer::{Bits, Writer},
};

/// Type code of WireFormatInfo, which is always loose.
const WIRE_FORMAT_INFO: u8 = 1;

/// Type code of a frame without anything.
const NULL: u8 = 0;

/// How often a frame without a length may be found not to be there as a whole. Each time it is read from its start, so this
/// bounds what a peer can make of sending it byte by byte; an honest one is there after a few.
const ATTEMPTS_MAX: u32 = 1024;

/// Reads what a peer sends.
///
/// Frames with a length are read once they are there. One without is read as far as it is there; where its reading stopped
/// tells how many bytes it has at least, and it is not tried again before they have come. A field is never in the way twice, so
/// the tries are at most as many as fields, and at most 1024; a body counts as one field however long it is.
///
/// No room is made for anything before its bytes are there. Names and bodies stay in the input; structures take up to 50 times
/// their bytes, and are bounded by number (65536 to a frame) and depth (32). What the caches keep is bounded by their size and
/// by a megabyte.
#[derive(Debug)]
pub struct Decoder {
    format: WireFormat,
    cache: Option<Received>,
    frame_max: usize,
    /// Bytes that the frame without a length has at least.
    needed: usize,
    attempts: u32,
}

impl Decoder {
    /// For the beginning of a connection. No frame may be longer than `frame_max` bytes.
    pub fn new(frame_max: usize) -> Self {
        Self { format: WireFormat::INITIAL, cache: None, frame_max, needed: 0, attempts: 0 }
    }

    /// From the next frame on, which is what follows the peer's WireFormatInfo, frames look so. The cache is empty.
    pub fn switch(&mut self, format: WireFormat) {
        self.format = format;
        self.cache = (format.cache_size > 0).then(|| Received::new(format.cache_size));
        (self.needed, self.attempts) = (0, 0);
    }

    /// No frame from the next one on may be longer than so many bytes, the length before it not counted.
    pub fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// The frame at the start of `input`, and how many bytes it takes with its length; nothing if it is not all there yet.
    /// Then nothing of it was taken, and the next call has to begin with the same bytes.
    ///
    /// # Errors
    /// If it is too long, which is known before it has come, or cannot be right. The connection has to end then.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Command<'a>)>, Malformed> {
        if !self.format.size_prefix {
            return self.decode_unmeasured(input);
        }
        let Some((size, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
        let size = usize::try_from(i32::from_be_bytes(*size)).map_err(|_| TOO_LONG)?;
        if size > self.frame_max {
            return Err(TOO_LONG);
        }
        let Some(frame) = rest.get(..size) else { return Ok(None) };
        let mut left = Input::new(frame);
        let command = self.command(&mut left)?;
        if !left.rest().is_empty() {
            return Err(Malformed::new("the frame is longer than what is in it"));
        }
        Ok(Some((4 + size, command)))
    }

    fn decode_unmeasured<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Command<'a>)>, Malformed> {
        if input.len() < self.needed.max(1) {
            return Ok(None);
        }
        let mut left = Input::new(&input[..input.len().min(self.frame_max)]);
        if let Some(cache) = &mut self.cache {
            cache.begin();
        }
        let command = self.command(&mut left);
        if let Some(cache) = &mut self.cache {
            cache.end(command.is_ok());
        }
        if command.is_ok() || left.short_by() == 0 {
            (self.needed, self.attempts) = (0, 0);
            return command.map(|command| Some((input.len().min(self.frame_max) - left.rest().len(), command)));
        }
        self.needed = input.len().min(self.frame_max) + left.short_by();
        if self.needed > self.frame_max {
            return Err(TOO_LONG);
        }
        self.attempts += 1;
        if self.attempts > ATTEMPTS_MAX {
            return Err(Malformed::new("a frame comes in too many pieces"));
        }
        Ok(None)
    }

    fn command<'a>(&mut self, input: &mut Input<'a>) -> Result<Command<'a>, Malformed> {
        let code = input.u8()?;
        if code == NULL {
            return Ok(Command::Null);
        }
        let WireFormat { version, stack_traces, tight, .. } = self.format;
        let cache = self.cache.as_mut();
        if tight && code != WIRE_FORMAT_INFO {
            read(Reader::<true>::new(input.clone(), version, stack_traces, cache), code, input)
        } else {
            read(Reader::<false>::new(input.clone(), version, stack_traces, cache), code, input)
        }
    }
}

const TOO_LONG: Malformed = Malformed::new("the frame is longer than is allowed");

fn read<'a, const TIGHT: bool>(
    mut reader: Reader<'a, '_, TIGHT>,
    code: u8,
    input: &mut Input<'a>,
) -> Result<Command<'a>, Malformed> {
    let command = reader.root(code);
    *input = reader.input;
    command
}

/// Writes what a peer is sent.
#[derive(Debug)]
pub struct Encoder {
    format: WireFormat,
    cache: Option<Sent>,
    bits: Bits,
    /// By type code, how long the stream of bits was the last time, up to 255 bytes. It stands before what is written with it,
    /// which is moved if it turns out longer or shorter; frames of a kind mostly agree.
    bits_len: [u8; 256],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { format: WireFormat::INITIAL, cache: None, bits: Bits::default(), bits_len: [0; 256] }
    }
}

impl Encoder {
    /// From the next frame on, which is what follows our WireFormatInfo, frames look so. The cache is empty.
    pub fn switch(&mut self, format: WireFormat) {
        self.format = format;
        self.cache = (format.cache_size > 0).then(|| Sent::new(format.cache_size));
    }

    /// The format in use.
    pub fn format(&self) -> WireFormat {
        self.format
    }

    /// Appends a frame with a command, such as a [`Command`] or one of those that it may hold. What is in it is copied once.
    ///
    /// # Errors
    /// If it has no form, or is longer than the peer takes. Nothing is appended then.
    pub fn encode<'a>(&mut self, command: &impl Structure<'a>, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let start = out.len();
        let code = command.code();
        let size_prefix = self.format.size_prefix || code == WIRE_FORMAT_INFO;
        if size_prefix {
            out.extend_from_slice(&[0; 4]);
        }
        let frame_start = out.len();
        out.push(code);
        let problem = match code {
            NULL => None,
            _ if self.format.tight && code != WIRE_FORMAT_INFO => self.tight(command, out),
            _ => self.loose(command, out),
        };
        let size = out.len() - frame_start;
        let problem = problem.or((size > self.format.frame_max).then_some("the frame is longer than the peer takes"));
        if let Some(problem) = problem {
            out.truncate(start);
            // The cache may have what the peer is never told.
            if let Some(cache) = &mut self.cache {
                cache.forget();
            }
            return Err(Unencodable { problem });
        }
        if size_prefix && let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&(size as u32).to_be_bytes());
        }
        Ok(())
    }

    fn loose<'a>(&mut self, command: &impl Structure<'a>, out: &mut Vec<u8>) -> Option<&'static str> {
        let WireFormat { version, stack_traces, .. } = self.format;
        let cache = self.cache.as_mut();
        let mut writer = Writer::<false>::new(mem::take(out), mem::take(&mut self.bits), version, stack_traces, cache);
        command.write(&mut writer);
        let problem;
        (*out, self.bits, problem) = writer.end();
        problem
    }

    fn tight<'a>(&mut self, command: &impl Structure<'a>, out: &mut Vec<u8>) -> Option<&'static str> {
        let expected = &mut self.bits_len[usize::from(command.code())];
        let start = out.len();
        let place = usize::from(*expected).max(1);
        out.resize(start + place, 0);
        self.bits.clear();
        let WireFormat { version, stack_traces, .. } = self.format;
        let cache = self.cache.as_mut();
        let mut writer = Writer::<true>::new(mem::take(out), mem::take(&mut self.bits), version, stack_traces, cache);
        command.write(&mut writer);
        let problem;
        (*out, self.bits, problem) = writer.end();
        let len = self.bits.stream_len();
        *expected = u8::try_from(len).unwrap_or(u8::MAX);
        let body_end = out.len();
        if len > place {
            out.resize(body_end + len - place, 0);
            out.copy_within(start + place..body_end, start + len);
        } else if len < place {
            out.copy_within(start + place.., start + len);
            out.truncate(body_end - (place - len));
        }
        problem.or(match out.get_mut(start..start + len).and_then(|place| self.bits.write(place)) {
            Some(()) => None,
            None => Some("the stream of booleans is longer than its length can tell"),
        })
    }
}
