//! The checks of what only MQTT 5 has.

use std::time::Instant;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWillProperties, PublishProperties, RetainForwardRule, UnsubAckReason};

use crate::checks::{Run, numbered};
use crate::client::qos5;
use crate::session::{Options, Session, Will, new_id, new_topic};
use crate::suite::EVENT;

pub const ALL: [(&str, Run); 10] = [
    ("properties", properties),
    ("identifiers-of-overlapping-subscriptions", identifiers),
    ("options-of-subscriptions", options_of_subscriptions),
    ("session-expiry", session_expiry),
    ("will-with-properties", will_with_properties),
    ("request-and-response", request_and_response),
    ("topic-alias", topic_alias),
    ("receive-maximum", receive_maximum),
    ("maximum-packet-size", maximum_packet_size),
    ("codes-of-unsuback", codes_of_unsuback),
];

fn pairs() -> Vec<(String, String)> {
    [("b", "1"), ("a", "ä"), ("b", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn some_properties() -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("replies/a".to_owned()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: pairs(),
        ..PublishProperties::default()
    }
}

fn properties(session: &Session) {
    const ID: usize = 268_435_455;
    let (topic, listener) = (new_topic(), session.connect());
    listener.subscribe_with(vec![Filter::new(&topic, qos5(1))], Some(ID));
    let sent = PublishProperties { message_expiry_interval: Some(1000), ..some_properties() };
    session.connect().publish_with(&topic, "x", 1, sent);
    let mut found = listener.expect(&topic, "x", 1, false).properties;
    let left = found.message_expiry_interval.take();
    assert!(matches!(left, Some(999 | 1000)), "of 1000 s are left {left:?}");
    assert_eq!(found, PublishProperties { subscription_identifiers: vec![ID], ..some_properties() });
}

fn identifiers(session: &Session) {
    let (topic, listener) = (new_topic(), session.connect());
    for (id, filter) in [(1, format!("{topic}/+")), (2, format!("{topic}/#"))] {
        listener.subscribe_with(vec![Filter::new(filter, qos5(1))], Some(id));
    }
    let publisher = session.connect();
    publisher.publish(&format!("{topic}/a"), "both", 1, false);
    publisher.publish(&format!("{topic}/a/b"), "one", 1, false);
    // One copy with both identifiers, or a copy for each.
    let mut found = Vec::new();
    let last = loop {
        let message = listener.message();
        if message.payload == b"one" {
            break message;
        }
        found.extend(message.properties.subscription_identifiers);
    };
    found.sort_unstable();
    assert_eq!((found, last.properties.subscription_identifiers), (vec![1, 2], vec![2]));
}

fn options_of_subscriptions(session: &Session) {
    let (topic, other, client) = (new_topic(), session.connect(), session.connect());
    session.retain(&other, &topic, "retained");
    let filter = Filter {
        nolocal: true,
        preserve_retain: true,
        retain_forward_rule: RetainForwardRule::Never,
        ..Filter::new(&topic, qos5(1))
    };
    client.subscribe_with(vec![filter], None);
    client.publish(&topic, "own", 1, false);
    session.retain(&other, &topic, "of another");
    client.expect(&topic, "of another", 1, true);
}

fn session_expiry(session: &Session) {
    let id = new_id();
    let connect =
        |seconds| session.connect_as(&id, &Options { keep: true, expiry_s: Some(seconds), ..Options::default() });
    connect(60).0.disconnect();
    let (mut again, present) = connect(0);
    assert!(present, "the session is gone before its 60 s");
    again.disconnect();
    assert!(!connect(0).1, "the session has outlived its 0 s");
}

fn will_with_properties(session: &Session) {
    let topic = new_topic();
    let watcher = session.listener(&topic, 1);
    let properties = LastWillProperties {
        delay_interval: Some(1),
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("replies/a".to_owned()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user_properties: pairs(),
    };
    let will = Will { topic: topic.clone(), payload: "gone", qos: 1, retain: false, properties: Some(properties) };
    let begun = Instant::now();
    session.connect_as(&new_id(), &Options { keep: true, will: Some(will), ..Options::default() }).0.cut();
    assert_eq!(watcher.expect(&topic, "gone", 1, false).properties, some_properties());
    assert!(begun.elapsed() > EVENT / 10, "the delayed will came after {:?}", begun.elapsed());
}

fn request_and_response(session: &Session) {
    let (requests, replies) = (new_topic(), new_topic());
    let (responder, requester) = (session.listener(&requests, 1), session.listener(&replies, 1));
    let correlation_data = Some(Bytes::from_static(b"7"));
    let response_topic = Some(replies.clone());
    let sent = PublishProperties {
        response_topic,
        correlation_data: correlation_data.clone(),
        ..PublishProperties::default()
    };
    requester.publish_with(&requests, "ping", 1, sent);
    let request = responder.expect(&requests, "ping", 1, false).properties;
    let answer = PublishProperties { correlation_data: request.correlation_data, ..PublishProperties::default() };
    responder.publish_with(&request.response_topic.expect("a response topic"), "pong", 1, answer);
    assert_eq!(requester.expect(&replies, "pong", 1, false).properties.correlation_data, correlation_data);
}

fn topic_alias(session: &Session) {
    let topic = new_topic();
    let (listener, publisher) = (session.listener(&topic, 1), session.connect());
    for name in [topic.as_str(), "", ""] {
        let alias = PublishProperties { topic_alias: Some(2), ..PublishProperties::default() };
        publisher.publish_with(name, "x", 1, alias);
        listener.expect(&topic, "x", 1, false);
    }
}

fn receive_maximum(session: &Session) {
    let (topic, publisher) = (new_topic(), session.connect());
    let options = Options { receive_maximum: Some(2), manual_acks: true, ..Options::default() };
    let listener = session.connect_with(&options);
    listener.subscribe(&[&topic], 1);
    numbered(5).into_iter().for_each(|payload| publisher.publish(&topic, payload, 1, false));
    let held = [listener.message(), listener.message()];
    // An answer shows that no more was on the way.
    listener.publish(&format!("{topic}/other"), "", 1, false);
    assert!(listener.messages.try_recv().is_err(), "there is a third message");
    held.iter().for_each(|message| listener.acknowledge(message));
    assert_eq!(listener.payloads(2), ["2", "3"]);
}

fn maximum_packet_size(session: &Session) {
    let (topic, publisher) = (new_topic(), session.connect());
    let listener = session.connect_with(&Options { packet_max: Some(500), ..Options::default() });
    listener.subscribe(&[&topic], 1);
    publisher.publish(&topic, "x".repeat(1000), 1, false);
    publisher.publish(&topic, "small", 1, false);
    listener.expect(&topic, "small", 1, false);
}

fn codes_of_unsuback(session: &Session) {
    let (topic, client) = (new_topic(), session.connect());
    client.subscribe(&[&topic], 1);
    assert_eq!(client.unsubscribe(&topic), [UnsubAckReason::Success]);
    assert_eq!(client.unsubscribe(&topic), [UnsubAckReason::NoSubscriptionExisted]);
}
