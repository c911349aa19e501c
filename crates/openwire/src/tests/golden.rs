//! Frames of ActiveMQ mean what they should, and are written as ActiveMQ writes them.

use super::pair;
use crate::{
    Command, Decoder, Encoder, Offer, WireFormat, body, connection::RemoveInfo, message::MessageKind, primitive,
};

const GOLDEN: &str = include_str!("golden.txt");

/// Conversations: a format each, and frames.
fn conversations() -> impl Iterator<Item = (WireFormat, Vec<Vec<u8>>)> {
    GOLDEN.split("\n\n").skip(1).map(|conversation| {
        let mut lines = conversation.lines().filter(|line| !line.starts_with('#'));
        let mut options = lines.next().unwrap().split(' ');
        let mut format = WireFormat { version: options.next().unwrap().parse().unwrap(), ..WireFormat::INITIAL };
        for option in options {
            match option {
                "tight" => format.tight = true,
                "cache" => format.cache_size = 1024,
                "traceless" => format.stack_traces = false,
                _ => panic!("{option}"),
            }
        }
        (format, lines.map(bytes).collect())
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn frames_come_back_as_they_were() {
    let mut count = 0;
    for (format, frames) in conversations() {
        let (mut decoder, mut encoder) = pair(format);
        for frame in frames {
            let (len, command) = decoder.decode(&frame).unwrap().unwrap();
            assert_eq!(len, frame.len());
            let mut out = Vec::new();
            encoder.encode(&command, &mut out).unwrap();
            assert_eq!(out, frame, "{command:?}");
            count += 1;
        }
    }
    assert_eq!(count, 19);
}

#[test]
fn frames_mean_what_they_should() {
    let mut seen = Vec::new();
    for (format, frames) in conversations() {
        let (mut decoder, _) = pair(format);
        for frame in frames {
            let (_, command) = decoder.decode(&frame).unwrap().unwrap();
            seen.push(describe(&command));
        }
    }
    let session = "session ID:h-1-2-0:1:1";
    let text = "Text ID:h-1-2-0:1:1:1:1 to queue://Q: hi, k=Text(\"v\"), 5, 1700000000000";
    let dispatch = "dispatch to ID:h-1-2-0:1:1:1 of queue://Q";
    let expected = [
        &[session; 6][..],
        &[text, text, text],
        &[dispatch, &format!("{dispatch}: {text}")],
        &["answer to 5", "answer to 5", "javax.jms.InvalidClientIDException: dup", "alive", "alive"],
        &["12 true 1024 Some(\"5.17.2\")", "localhost at tcp://localhost:61616", "1 true 0 None"],
    ];
    assert_eq!(seen, expected.concat());
}

fn describe(command: &Command<'_>) -> String {
    match command {
        Command::SessionInfo(info) => format!("session {}", info.session_id.as_ref().unwrap()),
        Command::Message(message) => {
            assert_eq!(message.kind, MessageKind::Text);
            let (key, value) =
                primitive::entries(message.marshalled_properties.as_ref().unwrap()).unwrap().next().unwrap().unwrap();
            format!(
                "{:?} {} to {}: {}, {key}={value:?}, {}, {}",
                message.kind,
                message.message_id.as_ref().unwrap(),
                message.destination.as_ref().unwrap(),
                body::text(message.content.as_ref().unwrap()).unwrap().unwrap(),
                message.base.command_id,
                message.timestamp,
            )
        }
        Command::MessageDispatch(dispatch) => {
            let (consumer, from) = (dispatch.consumer_id.as_ref().unwrap(), dispatch.destination.as_ref().unwrap());
            let message = dispatch.message.clone().map(|message| format!(": {}", describe(&message.into())));
            format!("dispatch to {consumer} of {from}{}", message.unwrap_or_default())
        }
        Command::Response(response) => format!("answer to {}", response.correlation_id),
        Command::ExceptionResponse(response) => response.exception.as_ref().unwrap().to_string(),
        Command::KeepAliveInfo(_) => "alive".into(),
        Command::WireFormatInfo(info) => {
            let offer = Offer::of(info).unwrap();
            format!("{} {} {} {:?}", offer.version, offer.cache_enabled, offer.cache_size, offer.provider_version)
        }
        Command::BrokerInfo(info) => {
            format!("{} at {}", info.broker_name.as_ref().unwrap(), info.broker_url.as_ref().unwrap())
        }
        _ => panic!("{command:?}"),
    }
}

#[test]
fn the_first_frame_is_read_by_a_new_decoder() {
    let mut out = Vec::new();
    Encoder::default().encode(&Offer::default().info(), &mut out).unwrap();
    let mut decoder = Decoder::new(4096);
    let (len, command) = decoder.decode(&out).unwrap().unwrap();
    let Command::WireFormatInfo(info) = command else { panic!("{command:?}") };
    assert_eq!((len, Offer::of(&info)), (out.len(), Ok(Offer::default())));
}

#[test]
fn small_numbers_are_short_in_the_tight_encoding() {
    let cases = [
        (0, "0c010000000000"),
        (1, "0c0108000000000001"),
        (0xffff, "0c010800000000ffff"),
        (0x1_0000, "0c01040000000000010000"),
        (0xffff_ffff, "0c010400000000ffffffff"),
        (0x1_0000_0000, "0c010c000000000000000100000000"),
        (-1, "0c010c00000000ffffffffffffffff"),
    ];
    let (mut decoder, mut encoder) = pair(super::format(12, true, false, false));
    for (number, frame) in cases {
        let info = RemoveInfo { last_delivered_sequence_id: number, ..RemoveInfo::default() };
        let mut out = Vec::new();
        encoder.encode(&info, &mut out).unwrap();
        assert_eq!(out, bytes(frame), "{number}");
        assert_eq!(decoder.decode(&out), Ok(Some((out.len(), info.into()))));
    }
}
