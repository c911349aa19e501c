//! Messages whose frames come one by one: larger than a frame, or cut by the end of the read buffer.

use std::sync::Arc;

use broker::{Message, Name, Parts, Traits, limits, publish::Batch};
use bytes::Bytes;

use super::AmqpSession;
use crate::{
    ORIGIN,
    mapping::{Code, Exception},
    properties::Properties,
    wire::{Frame, Reader, frame_type},
};

const NO_HEADER: &str = "expected content header for class 60, got non content header frame instead";

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) exchange: Name,
    pub(super) mandatory: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Header {
        routing_key: Box<str>,
    },
    /// The body of a message that is too large: nothing of it is kept, but all of it has to come before the client can be
    /// told, for its next frames would no longer fit.
    TooLarge {
        size: u64,
        missing: u64,
    },
    /// Routing key, properties and as much of the body as is there, in one piece.
    Body {
        block: Vec<u8>,
        routing_key_len: u16,
        properties_len: u32,
        missing: u64,
    },
}

impl Content {
    pub(super) fn new(exchange: Name, routing_key: &str, mandatory: bool) -> Self {
        Self { exchange, mandatory, stage: Stage::Header { routing_key: routing_key.into() } }
    }

    /// Bytes of its body that are kept until the rest comes.
    pub(super) fn unfinished_bytes(&self) -> u64 {
        match &self.stage {
            Stage::Body { block, routing_key_len, properties_len, .. } => {
                block.len() as u64 - u64::from(*routing_key_len) - u64::from(*properties_len)
            }
            Stage::Header { .. } | Stage::TooLarge { .. } => 0,
        }
    }

    /// A method came where content was due.
    pub(super) fn interrupted(&self) -> Exception {
        let text = match self.stage {
            Stage::Header { .. } => NO_HEADER,
            Stage::Body { .. } | Stage::TooLarge { .. } => "expected content body, got non content body frame instead",
        };
        Exception::new(Code::UnexpectedFrame, text).during((60, 40))
    }
}

impl Stage {
    fn after_header(routing_key: &str, properties: &[u8], size: u64, max: u64) -> Self {
        if size > max {
            return Self::TooLarge { size, missing: size };
        }
        // A body that is only announced gets no memory for it.
        let mut block = Vec::with_capacity(routing_key.len() + properties.len() + size.min(1 << 20) as usize);
        block.extend_from_slice(routing_key.as_bytes());
        block.extend_from_slice(properties);
        Self::Body {
            block,
            routing_key_len: routing_key.len() as u16,
            properties_len: properties.len() as u32,
            missing: size,
        }
    }
}

/// The body's size and the properties of a content header frame.
///
/// # Errors
/// If the header is malformed or of another class.
pub(super) fn read_header(payload: &[u8]) -> Result<(u64, &[u8]), Exception> {
    let mut reader = Reader::new(payload);
    let fields = (reader.short(), reader.short(), reader.longlong());
    let (Ok(class), Ok(weight), Ok(size)) = fields else {
        return Err(Exception::unknown_frame(frame_type::HEADER, payload));
    };
    if weight != 0 {
        return Err(Exception::new(Code::UnexpectedFrame, NO_HEADER).during((60, 40)));
    }
    if class != 60 {
        let text = format!("expected content header for class 60, got one for class {class} instead");
        return Err(Exception::new(Code::UnexpectedFrame, text).during((60, 40)));
    }
    Ok((size, reader.rest()))
}

impl AmqpSession {
    /// A header or body frame.
    pub(super) fn content_frame(&mut self, frame: Frame<'_>, batch: &mut Batch<'_>) -> Result<(), Exception> {
        let max = self.broker.settings.message_bytes_max;
        let number = frame.channel;
        let Some(channel) = self.channel(number) else { return Ok(()) };
        let Some(content) = channel.content.as_mut() else {
            let text = "expected method frame, got non method frame instead";
            return Err(Exception::new(Code::UnexpectedFrame, text));
        };
        match (&mut content.stage, frame.kind) {
            (Stage::Header { routing_key }, frame_type::HEADER) => {
                let (size, properties) = read_header(frame.payload)?;
                content.stage = Stage::after_header(routing_key, properties, size, max);
                if size > 0 {
                    return Ok(());
                }
            }
            (Stage::Body { block, missing, .. }, frame_type::BODY) => {
                *missing = left_of_body(*missing, frame.payload.len())?;
                block.extend_from_slice(frame.payload);
                if *missing > 0 {
                    return self.count_unfinished(frame.payload.len());
                }
            }
            (Stage::TooLarge { size, missing }, frame_type::BODY) => {
                *missing = left_of_body(*missing, frame.payload.len())?;
                if *missing > 0 {
                    return Ok(());
                }
                return Err(too_large(*size, max));
            }
            _ => return Err(content.interrupted()),
        }
        let Some(content) = channel.content.take() else { return Ok(()) };
        let last = if frame.kind == frame_type::BODY { frame.payload.len() as u64 } else { 0 };
        self.unfinished_bytes -= content.unfinished_bytes() - last;
        self.complete(number, content, batch).map_err(|exception| exception.during((60, 40)))
    }

    /// A client may begin several messages at once, but not with all the memory there is.
    fn count_unfinished(&mut self, len: usize) -> Result<(), Exception> {
        self.unfinished_bytes += len as u64;
        let max = self.broker.settings.unfinished_bytes_max;
        if self.unfinished_bytes <= max {
            return Ok(());
        }
        let text = format!("unfinished messages on this connection take more than {max} bytes");
        Err(Exception::new(Code::ResourceError, text).during((60, 40)))
    }

    fn complete(&mut self, number: u16, content: Content, batch: &mut Batch<'_>) -> Result<(), Exception> {
        let Stage::Body { block, routing_key_len, properties_len, .. } = content.stage else { return Ok(()) };
        let (head, tail) = block.split_at(routing_key_len as usize);
        let raw = &tail[..properties_len as usize];
        let routing_key = std::str::from_utf8(head).unwrap_or_default().to_owned();
        let properties = Properties::read(raw).map_err(|malformed| bad_properties(malformed.0))?;
        let vetted = self.vet(number, &content.exchange, &routing_key, &properties)?;
        let (durable, priority, ttl_ms) = (properties.is_persistent(), properties.priority, properties.ttl_ms());
        let (block, properties_len) = match vetted.properties {
            None => (Bytes::from(block), properties_len),
            Some(changed) => {
                let payload = &tail[properties_len as usize..];
                ([head, &changed, &vetted.annotations, payload].concat().into(), changed.len() as u32)
            }
        };
        let annotations_len = vetted.annotations.len() as u32;
        let arrived = self.broker.now();
        let parts = Parts { routing_key_len, properties_len, annotations_len };
        let traits = Traits { origin: ORIGIN, durable, priority, arrived, due: ttl_ms.map(|ttl| arrived.plus(ttl)) };
        let message = Message::from_block(content.exchange, block, parts, traits);
        self.accept(number, vetted.route, broker::publish::Body::Owned(Arc::new(message)), content.mandatory, batch);
        Ok(())
    }
}

/// Properties that cannot be read.
pub(super) fn bad_properties(problem: &str) -> Exception {
    Exception::new(Code::FrameError, format!("cannot decode properties: {problem}"))
}

fn left_of_body(missing: u64, len: usize) -> Result<u64, Exception> {
    missing.checked_sub(len as u64).ok_or_else(|| {
        let text = "content body is longer than its header declares";
        Exception::new(Code::FrameError, text).during((60, 40))
    })
}

fn too_large(size: u64, max: u64) -> Exception {
    let text = if max == limits::MESSAGE_BYTES_CEILING {
        format!("message size {size} is larger than max size {max}")
    } else {
        format!("message size {size} is larger than configured max size {max}")
    };
    Exception::new(Code::PreconditionFailed, text).during((60, 40))
}
