//! The methods of AMQP 0-9-1 and RabbitMQ's extensions, both directions.
//!
//! Fields stand in the order of the wire. Consecutive bits share an octet there, and a [`Bits`] here; each method says
//! what they mean. Reserved fields are kept so that what is read can be written back.

use broker::value::Table;

use crate::wire::{Malformed, NOT_UTF8, Reader, frame_type, put_frame, put_longstr, put_shortstr, put_table};

/// Up to eight bits in an octet, the first one lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits(pub u8);

impl Bits {
    /// Bits in the order of their fields.
    pub fn of<const N: usize>(bits: [bool; N]) -> Self {
        Self(bits.iter().rev().fold(0, |octet, &bit| octet << 1 | u8::from(bit)))
    }

    /// The bit of field number `index`.
    pub fn get(self, index: u8) -> bool {
        self.0 >> index & 1 == 1
    }
}

/// A type of field.
trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed>;
    fn write(&self, out: &mut Vec<u8>);
}

impl Field<'_> for u8 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.octet()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
}

impl Field<'_> for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.short()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Field<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.long()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Field<'_> for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.longlong()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Field<'_> for Bits {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.octet().map(Self)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}

impl<'a> Field<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.shortstr()
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_shortstr(out, self);
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.longstr()
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_longstr(out, self);
    }
}

impl Field<'_> for Table {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.table()
    }
    fn write(&self, out: &mut Vec<u8>) {
        put_table(out, self);
    }
}

/// Why a payload is not a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMethod {
    /// No method has these numbers.
    Unknown(u16, u16),
    /// The method's fields are not as they must be.
    Malformed(u16, u16),
    /// A short string is not UTF-8.
    NotUtf8,
    /// Too short for a class and a method number.
    Truncated,
}

macro_rules! methods {
    ($($(#[$doc:meta])* ($class:literal, $id:literal) $name:ident { $($field:ident: $type:ty),* })*) => {
        /// A method with its fields.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "the fields are the specification's")]
        pub enum Method<'a> {
            $($(#[$doc])* $name { $($field: $type),* },)*
        }

        impl<'a> Method<'a> {
            /// Reads the payload of a method frame.
            ///
            /// # Errors
            /// If it is not a method of this list, or its fields are malformed.
            pub fn read(payload: &'a [u8]) -> Result<Self, BadMethod> {
                let mut reader = Reader::new(payload);
                let (Ok(class), Ok(id)) = (reader.short(), reader.short()) else { return Err(BadMethod::Truncated) };
                let mut read = || -> Result<Option<Self>, Malformed> {
                    Ok(Some(match (class, id) {
                        $(($class, $id) => Self::$name { $($field: <$type as Field<'a>>::read(&mut reader)?),* },)*
                        _ => return Ok(None),
                    }))
                };
                match read() {
                    Ok(Some(_)) if !reader.rest().is_empty() => Err(BadMethod::Malformed(class, id)),
                    Ok(Some(method)) => Ok(method),
                    Ok(None) => Err(BadMethod::Unknown(class, id)),
                    Err(NOT_UTF8) => Err(BadMethod::NotUtf8),
                    Err(Malformed(_)) => Err(BadMethod::Malformed(class, id)),
                }
            }

            /// Class and method number.
            pub fn id(&self) -> (u16, u16) {
                match self {
                    $(Self::$name { .. } => ($class, $id),)*
                }
            }

            /// Appends the payload of a method frame.
            fn write(&self, out: &mut Vec<u8>) {
                let (class, id) = self.id();
                Field::write(&class, out);
                Field::write(&id, out);
                match self {
                    $(Self::$name { $($field),* } => { $(Field::write($field, out);)* })*
                }
            }
        }
    };
}

impl Method<'_> {
    /// Appends the whole frame.
    pub fn put(&self, out: &mut Vec<u8>, channel: u16) {
        put_frame(out, frame_type::METHOD, channel, |out| self.write(out));
    }
}

methods! {
    (10, 10) ConnectionStart { major: u8, minor: u8, properties: Table, mechanisms: &'a [u8], locales: &'a [u8] }
    (10, 11) ConnectionStartOk { properties: Table, mechanism: &'a str, response: &'a [u8], locale: &'a str }
    (10, 20) ConnectionSecure { challenge: &'a [u8] }
    (10, 21) ConnectionSecureOk { response: &'a [u8] }
    (10, 30) ConnectionTune { channel_max: u16, frame_max: u32, heartbeat: u16 }
    (10, 31) ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 }
    (10, 40) ConnectionOpen { vhost: &'a str, reserved_1: &'a str, reserved_2: Bits }
    (10, 41) ConnectionOpenOk { reserved_1: &'a str }
    (10, 50) ConnectionClose { code: u16, text: &'a str, class: u16, method: u16 }
    (10, 51) ConnectionCloseOk {}
    (10, 60) ConnectionBlocked { reason: &'a str }
    (10, 61) ConnectionUnblocked {}
    (10, 70) ConnectionUpdateSecret { secret: &'a [u8], reason: &'a str }
    (10, 71) ConnectionUpdateSecretOk {}
    (20, 10) ChannelOpen { reserved_1: &'a str }
    (20, 11) ChannelOpenOk { reserved_1: &'a [u8] }
    /// Bits: active.
    (20, 20) ChannelFlow { bits: Bits }
    /// Bits: active.
    (20, 21) ChannelFlowOk { bits: Bits }
    (20, 40) ChannelClose { code: u16, text: &'a str, class: u16, method: u16 }
    (20, 41) ChannelCloseOk {}
    /// Bits: exclusive, passive, active, write, read.
    (30, 10) AccessRequest { realm: &'a str, bits: Bits }
    (30, 11) AccessRequestOk { ticket: u16 }
    /// Bits: passive, durable, auto-delete, internal, no-wait.
    (40, 10) ExchangeDeclare { ticket: u16, exchange: &'a str, kind: &'a str, bits: Bits, arguments: Table }
    (40, 11) ExchangeDeclareOk {}
    /// Bits: if-unused, no-wait.
    (40, 20) ExchangeDelete { ticket: u16, exchange: &'a str, bits: Bits }
    (40, 21) ExchangeDeleteOk {}
    /// Bits: no-wait.
    (40, 30) ExchangeBind {
        ticket: u16, destination: &'a str, source: &'a str, routing_key: &'a str, bits: Bits, arguments: Table
    }
    (40, 31) ExchangeBindOk {}
    /// Bits: no-wait.
    (40, 40) ExchangeUnbind {
        ticket: u16, destination: &'a str, source: &'a str, routing_key: &'a str, bits: Bits, arguments: Table
    }
    (40, 51) ExchangeUnbindOk {}
    /// Bits: passive, durable, exclusive, auto-delete, no-wait.
    (50, 10) QueueDeclare { ticket: u16, queue: &'a str, bits: Bits, arguments: Table }
    (50, 11) QueueDeclareOk { queue: &'a str, messages: u32, consumers: u32 }
    /// Bits: no-wait.
    (50, 20) QueueBind {
        ticket: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str, bits: Bits, arguments: Table
    }
    (50, 21) QueueBindOk {}
    /// Bits: no-wait.
    (50, 30) QueuePurge { ticket: u16, queue: &'a str, bits: Bits }
    (50, 31) QueuePurgeOk { messages: u32 }
    /// Bits: if-unused, if-empty, no-wait.
    (50, 40) QueueDelete { ticket: u16, queue: &'a str, bits: Bits }
    (50, 41) QueueDeleteOk { messages: u32 }
    (50, 50) QueueUnbind { ticket: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str, arguments: Table }
    (50, 51) QueueUnbindOk {}
    /// Bits: global.
    (60, 10) BasicQos { size: u32, count: u16, bits: Bits }
    (60, 11) BasicQosOk {}
    /// Bits: no-local, no-ack, exclusive, no-wait.
    (60, 20) BasicConsume { ticket: u16, queue: &'a str, consumer_tag: &'a str, bits: Bits, arguments: Table }
    (60, 21) BasicConsumeOk { consumer_tag: &'a str }
    /// Bits: no-wait.
    (60, 30) BasicCancel { consumer_tag: &'a str, bits: Bits }
    (60, 31) BasicCancelOk { consumer_tag: &'a str }
    /// Bits: mandatory, immediate.
    (60, 40) BasicPublish { ticket: u16, exchange: &'a str, routing_key: &'a str, bits: Bits }
    (60, 50) BasicReturn { code: u16, text: &'a str, exchange: &'a str, routing_key: &'a str }
    /// Bits: redelivered.
    (60, 60) BasicDeliver {
        consumer_tag: &'a str, delivery_tag: u64, bits: Bits, exchange: &'a str, routing_key: &'a str
    }
    /// Bits: no-ack.
    (60, 70) BasicGet { ticket: u16, queue: &'a str, bits: Bits }
    /// Bits: redelivered.
    (60, 71) BasicGetOk { delivery_tag: u64, bits: Bits, exchange: &'a str, routing_key: &'a str, messages: u32 }
    (60, 72) BasicGetEmpty { reserved_1: &'a str }
    /// Bits: multiple.
    (60, 80) BasicAck { delivery_tag: u64, bits: Bits }
    /// Bits: requeue.
    (60, 90) BasicReject { delivery_tag: u64, bits: Bits }
    /// Bits: requeue.
    (60, 100) BasicRecoverAsync { bits: Bits }
    /// Bits: requeue.
    (60, 110) BasicRecover { bits: Bits }
    (60, 111) BasicRecoverOk {}
    /// Bits: multiple, requeue.
    (60, 120) BasicNack { delivery_tag: u64, bits: Bits }
    /// Bits: no-wait.
    (85, 10) ConfirmSelect { bits: Bits }
    (85, 11) ConfirmSelectOk {}
    (90, 10) TxSelect {}
    (90, 11) TxSelectOk {}
    (90, 20) TxCommit {}
    (90, 21) TxCommitOk {}
    (90, 30) TxRollback {}
    (90, 31) TxRollbackOk {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    fn round_trip(method: &Method<'_>) {
        let mut bytes = Vec::new();
        method.put(&mut bytes, 3);
        let frame = frame(&bytes, 131_072).unwrap().unwrap();
        assert_eq!(Method::read(frame.payload).as_ref(), Ok(method));
        for len in 4..frame.payload.len() {
            let (class, id) = method.id();
            assert_eq!(Method::read(&frame.payload[..len]), Err(BadMethod::Malformed(class, id)));
        }
    }

    #[test]
    fn methods_read_back_and_cut_ones_are_refused() {
        let mut arguments = Table::default();
        arguments.push("x-max-length", broker::Value::I32(5));
        let bits = Bits::of([true, false, true]);
        round_trip(&Method::QueueDeclare { ticket: 1, queue: "q", bits, arguments: arguments.clone() });
        round_trip(&Method::ConnectionStartOk {
            properties: arguments,
            mechanism: "PLAIN",
            response: b"\0u\0p",
            locale: "en_US",
        });
        let (exchange, routing_key) = ("x", "k");
        round_trip(&Method::BasicDeliver { consumer_tag: "c", delivery_tag: 1 << 40, bits, exchange, routing_key });
        round_trip(&Method::ExchangeUnbindOk {});
    }

    #[test]
    fn bits_stand_in_the_order_of_their_fields() {
        // The octet of queue.declare with durable and no-wait, as clients send it.
        assert_eq!(Bits::of([false, true, false, false, true]), Bits(0b1_0010));
        assert!(Bits(0b10).get(1) && !Bits(0b10).get(0));
        assert_eq!(Method::read(&[0, 60, 0, 99]), Err(BadMethod::Unknown(60, 99)));
    }
}
