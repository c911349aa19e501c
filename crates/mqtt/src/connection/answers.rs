//! The packets that answer a client's.

use crate::{
    mapping::Reason,
    packet::{Version, kind},
    properties::put_section,
    wire::put_varint,
};

/// A packet of type, flags and body.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.push(first);
    put_varint(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(super) fn ack(kind: u8, version: Version, packet_id: u16, reason: Reason) -> Vec<u8> {
    let first = kind << 4 | if kind == kind::PUBREL { 2 } else { 0 };
    let [high, low] = packet_id.to_be_bytes();
    if version == Version::V5 && reason != Reason::Success {
        return vec![first, 3, high, low, reason as u8];
    }
    vec![first, 2, high, low]
}

/// SUBACK or UNSUBACK with a reason for each filter; MQTT 3 has none in UNSUBACK.
pub(super) fn ack_filters(kind: u8, version: Version, packet_id: u16, reasons: &[u8]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        put_section(&mut body, &[]);
    }
    if version == Version::V5 || kind == kind::SUBACK {
        body.extend_from_slice(reasons);
    }
    packet(kind << 4, &body)
}
