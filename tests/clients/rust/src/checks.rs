//! The checks of both versions.

use std::env;
use std::time::Duration;

use crate::checks_v5;
use crate::client::{Client, Said};
use crate::session::{Options, Place, Session, Version, Will, new_id, new_topic};
use crate::suite::{Check, EVENT, restart_broker, skip};

const CHECK: Duration = Duration::from_secs(15);
const RESTART: Duration = Duration::from_secs(60);
const VERSIONS: [(Version, &str); 2] = [(Version::V311, "v3.1.1"), (Version::V5, "v5")];

pub type Run = fn(&Session);

const FOR_EACH: [(&str, Run); 13] = [
    ("qos", qos),
    ("order", order),
    ("retained", retained),
    ("offline-messages", offline),
    ("unacknowledged-messages-come-again", unacknowledged),
    ("will", wills),
    ("retained-will", retained_will),
    ("shared-subscription", shared),
    ("unsubscribe", unsubscribe),
    ("payload-sizes", sizes),
    ("takeover", takeover),
    ("granted-qos", granted),
    ("wrong-password", wrong_password),
];

pub fn all() -> &'static [Check] {
    let mut checks = Vec::new();
    let check = |name: String, version, run: Run| Check {
        name,
        limit: CHECK,
        run: Box::new(move || run(&Session::new(version))),
    };
    for (name, run) in FOR_EACH {
        checks.extend(VERSIONS.map(|(version, suffix)| check(format!("{name}-{suffix}"), version, run)));
    }
    checks.extend(checks_v5::ALL.map(|(name, run)| check(name.to_owned(), Version::V5, run)));
    let name = "restart-keeps-sessions-and-retained".to_owned();
    checks.push(Check { name, limit: RESTART, run: Box::new(restart) });
    checks.leak()
}

pub fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn publish_all(client: &Client, topic: &str, payloads: &[String], qos: u8) {
    payloads.iter().for_each(|payload| client.publish(topic, payload.clone(), qos, false));
}

fn qos(session: &Session) {
    let (topic, publisher) = (new_topic(), session.connect());
    let listeners = [0, 1, 2].map(|qos| session.listener(&topic, qos));
    for qos in 0..=2 {
        publisher.publish(&topic, qos.to_string(), qos, false);
        for (granted, listener) in (0..).zip(&listeners) {
            listener.expect(&topic, &qos.to_string(), qos.min(granted), false);
        }
    }
}

fn order(session: &Session) {
    let publisher = session.connect();
    for qos in 0..=2 {
        let topic = new_topic();
        let listener = session.listener(&topic, qos);
        publish_all(&publisher, &topic, &numbered(100), qos);
        assert_eq!(listener.payloads(100), numbered(100));
    }
}

fn retained(session: &Session) {
    let (topic, publisher) = (new_topic(), session.connect());
    let (a, b, both) = (format!("{topic}/a"), format!("{topic}/b"), format!("{topic}/+"));
    session.retain(&publisher, &a, "a");
    session.retain(&publisher, &b, "b");
    let mut found = session.listener(&both, 1).payloads(2);
    found.sort();
    assert_eq!(found, ["a", "b"]);
    publisher.publish(&a, "", 1, true);
    let late = session.listener(&both, 1);
    late.expect(&b, "b", 1, true);
    publisher.publish(&a, "live", 1, false);
    late.expect(&a, "live", 1, false);
}

fn offline(session: &Session) {
    let (topic, id) = (new_topic(), new_id());
    let (mut kept, present) = session.keep(&id);
    assert!(!present, "there is a session of nobody");
    kept.subscribe(&[&topic], 2);
    kept.disconnect();
    publish_all(&session.connect(), &topic, &numbered(20), 2);
    let (again, present) = session.keep(&id);
    assert!(present, "the session is gone");
    assert_eq!(again.payloads(20), numbered(20));
}

/// With acknowledgements by hand, which rumqttc has. With quality of service 2 it forgets what it has received when its
/// connection ends, and then ends the next one because of the PUBREL that it gets.
fn unacknowledged(session: &Session) {
    let (topic, id) = (new_topic(), new_id());
    let options = Options { keep: true, manual_acks: true, ..Options::default() };
    let (mut kept, _) = session.connect_as(&id, &options);
    kept.subscribe(&[&topic], 1);
    publish_all(&session.connect(), &topic, &numbered(3), 1);
    assert_eq!(kept.payloads(3), numbered(3));
    kept.cut();
    let (mut again, present) = session.connect_as(&id, &options);
    assert!(present, "the session is gone");
    for payload in numbered(3) {
        let message = again.expect(&topic, &payload, 1, false);
        assert!(message.dup, "it is not marked as a duplicate");
        again.acknowledge(&message);
    }
    // By its answer the acknowledgements are taken; a connection that is taken over may lose what it has sent last.
    again.publish(&format!("{topic}/other"), "", 1, false);
    again.disconnect();
    let (last, _) = session.connect_as(&id, &options);
    last.publish(&topic, "next", 1, false);
    last.expect(&topic, "next", 1, false);
}

fn wills(session: &Session) {
    let topic = new_topic();
    let watcher = session.listener(&topic, 2);
    let will = |payload, qos| Some(Will { topic: topic.clone(), payload, qos, ..Will::default() });
    session.connect_with(&Options { will: will("left", 1), ..Options::default() }).disconnect();
    for qos in 0..=2 {
        session.connect_with(&Options { will: will("gone", qos), ..Options::default() }).cut();
        watcher.expect(&topic, "gone", qos, false);
    }
}

fn retained_will(session: &Session) {
    let topic = new_topic();
    let watcher = session.listener(&topic, 1);
    session.will_be_retained(&topic);
    let will = Will { topic: topic.clone(), payload: "gone", qos: 1, retain: true, properties: None };
    session.connect_with(&Options { will: Some(will), ..Options::default() }).cut();
    watcher.expect(&topic, "gone", 1, false);
    session.listener(&topic, 1).expect(&topic, "gone", 1, true);
}

fn shared(session: &Session) {
    const MESSAGES: usize = 40;
    let topic = new_topic();
    let filter = format!("$share/group/{topic}");
    let members = [session.listener(&filter, 1), session.listener(&filter, 1)];
    let alone = session.listener(&topic, 1);
    publish_all(&session.connect(), &topic, &numbered(MESSAGES), 1);
    assert_eq!(alone.payloads(MESSAGES), numbered(MESSAGES));
    // Each has one at least; the rest is shared somehow.
    let mut found: Vec<String> = members.iter().flat_map(|member| member.payloads(1)).collect();
    while found.len() < MESSAGES {
        let more: Vec<_> = members.iter().filter_map(|member| member.messages.recv_timeout(EVENT / 50).ok()).collect();
        assert!(!more.is_empty(), "the group got {} messages", found.len());
        found.extend(more.into_iter().map(|message| String::from_utf8(message.payload).expect("it is text")));
    }
    found.sort_by_key(|payload| payload.parse::<usize>().expect("it is a number"));
    assert_eq!(found, numbered(MESSAGES));
}

fn unsubscribe(session: &Session) {
    let topic = new_topic();
    let (a, b) = (format!("{topic}/a"), format!("{topic}/b"));
    let (listener, publisher) = (session.connect(), session.connect());
    listener.subscribe(&[&a, &b], 1);
    listener.unsubscribe(&a);
    publisher.publish(&a, "a", 1, false);
    publisher.publish(&b, "b", 1, false);
    listener.expect(&b, "b", 1, false);
}

fn sizes(session: &Session) {
    let topic = new_topic();
    let (listener, publisher) = (session.listener(&topic, 2), session.connect());
    for (index, size) in [0_usize, 1, 127, 128, 16_384, 1024 * 1024].into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|place| (place * 31 + place / 251) as u8).collect();
        publisher.publish(&topic, payload.clone(), (index % 3) as u8, false);
        assert!(listener.message().payload == payload, "a payload of {size} bytes came otherwise");
    }
}

fn takeover(session: &Session) {
    let id = new_id();
    let (first, _) = session.connect_as(&id, &Options::default());
    let (second, _) = session.connect_as(&id, &Options::default());
    match first.hear("end of the first connection") {
        Said::Lost(reason) if session.version == Version::V5 => {
            assert!(reason.contains("SessionTakenOver"), "{reason}")
        }
        Said::Lost(_) => {}
        other => panic!("{other:?} instead of the end"),
    }
    let topic = new_topic();
    second.subscribe(&[&topic], 1);
    second.publish(&topic, "still there", 1, false);
    second.expect(&topic, "still there", 1, false);
}

fn granted(session: &Session) {
    let (topic, client) = (new_topic(), session.connect());
    let (a, b) = (format!("{topic}/a"), format!("{topic}/b/#"));
    for qos in 0..=2 {
        assert_eq!(client.subscribe(&[&a, &b], qos), [Some(qos), Some(qos)]);
    }
}

fn wrong_password(session: &Session) {
    if env::var_os("AMQP_URI").is_none() {
        skip("a broker without users takes any password");
    }
    let options = Options { password: Some("wrong".to_owned()), ..Options::default() };
    let client = Client::new(session.version, &new_id(), &Place::of_broker(), &options);
    let reason = if session.version == Version::V5 { "BadUserNamePassword" } else { "NotAuthorized" };
    match client.hear("refusal") {
        Said::Lost(text) => assert!(text.contains(reason), "{text}"),
        other => panic!("{other:?} instead of a refusal"),
    }
}

/// What the clients of both versions have before a restart of the broker, they have after it.
fn restart() {
    let sessions = VERSIONS.map(|(version, _)| Session::new(version));
    let before = sessions.each_ref().map(before_restart);
    restart_broker();
    for (session, (topic, id, comes_back)) in sessions.iter().zip(before) {
        let (kept, present) = session.keep(&id);
        assert!(present, "the session is gone");
        assert_eq!(kept.payloads(5), numbered(5));
        let retained = format!("{topic}/retained");
        session.listener(&retained, 1).expect(&retained, "retained", 1, true);
        while !matches!(comes_back.hear("session after the restart"), Said::Connected { session_present: true }) {}
        session.connect().publish(&format!("{topic}/live"), "live", 1, false);
        assert_eq!(comes_back.payloads(1), ["live"]);
    }
}

fn before_restart(session: &Session) -> (String, String, Client) {
    let (topic, id, publisher) = (new_topic(), new_id(), session.connect());
    let (mut kept, _) = session.keep(&id);
    let queue = format!("{topic}/queue");
    kept.subscribe(&[&queue], 2);
    kept.disconnect();
    publish_all(&publisher, &queue, &numbered(5), 2);
    session.retain(&publisher, &format!("{topic}/retained"), "retained");
    let options = Options { keep: true, comes_back: true, ..Options::default() };
    let (comes_back, _) = session.connect_as(&new_id(), &options);
    comes_back.subscribe(&[&format!("{topic}/live")], 1);
    (topic, id, comes_back)
}
