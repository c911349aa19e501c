"""What a session keeps: subscriptions, queued messages, and where every delivery stands."""

import time

from checks import equal
from mqtt.proxy import Proxy
from mqtt.session import each_version, numbered, suite, together
from mqtt.wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V31, V311


@each_version("offline-messages-in-order")
def offline(session, version):
    topic = session.topic()
    kept = session.kept(version)
    kept.subscribe((f"{topic}/1", 1), (f"{topic}/2", 2))
    kept.disconnect()
    publisher = session.peer(version)
    for number, body in enumerate(numbered(100)):
        publisher.publish(f"{topic}/{1 + number % 2}", body, qos=2)
    kept = session.kept(version, client_id=kept.client_id)
    messages = kept.take(100)
    for qos in (1, 2):
        mine = [message.payload for message in messages if message.qos == qos]
        equal(mine, numbered(100)[qos - 1 :: 2], f"the messages with QoS {qos}")
    publisher.publish(f"{topic}/1", b"live")
    kept.expect(f"{topic}/1", b"live")


@each_version("a-dropped-session-keeps-its-messages")
def dropped(session, version):
    topic = session.topic()
    kept = session.kept(version)
    kept.subscribe(topic, qos=1)
    kept.drop()
    session.peer(version).publish(topic, b"waiting")
    session.kept(version, client_id=kept.client_id).expect(topic, b"waiting", qos=1)


@suite.check("subscriptions-last-with-their-options")
def subscriptions_last(session):
    topic = session.topic()
    kept = session.connected(clean=False)
    retain_as_published = 8
    kept.subscribe((topic, 1 | retain_as_published), subscription_identifier=77)
    kept.drop()
    kept = session.connected(V5, kept.client_id, clean=False)
    session.retain(session.peer(), topic, qos=2)
    message = kept.expect(PUBLISH)
    equal((message.qos, message.retain), (1, True), "QoS and retain flag")
    equal(message.properties, {"subscription_identifier": [77]}, "the properties")


@suite.check("clean-session-v3.1.1-ends-with-its-connection")
def clean_session(session):
    topic = session.topic()
    kept = session.kept(V311)
    kept.subscribe(topic, qos=1)
    kept.disconnect()
    session.peer(V311, client_id=kept.client_id).disconnect()
    session.peer().publish(topic, b"nobody's")
    again = session.kept(V311, client_id=kept.client_id)
    equal(again.connack.present, False, "session present")


@suite.check("a-session-is-the-same-in-every-version")
def between_versions(session):
    topic = session.topic()
    kept = session.kept(V311)
    kept.subscribe(topic, qos=1)
    kept.disconnect()
    session.peer().publish(topic, b"x", content_type="text/plain")
    again = session.kept(V5, client_id=kept.client_id)
    equal(again.connack.present, True, "session present")
    again.expect(topic, b"x")


@together.check("session-expiry")
def expiry(session):
    topic = session.topic()
    ends = session.peer(clean=False, session_expiry_interval=1)
    lasts = session.peer(clean=False, session_expiry_interval=120)
    for peer in (ends, lasts):
        peer.subscribe(topic, qos=1)
        peer.drop()
    session.peer().publish(topic, b"waiting")
    time.sleep(3)
    again = session.kept(client_id=ends.client_id)
    equal(again.connack.present, False, "session present after its expiry")
    again = session.kept(client_id=lasts.client_id)
    equal(again.connack.present, True, "session present before its expiry")
    again.expect(topic, b"waiting")


@suite.check("session-expiry-0")
def expiry_0(session):
    raw = session.connected(session_expiry_interval=0)
    raw.subscribe(("roadstead/none", 1))
    raw.drop()
    watcher = session.connected(V5, raw.client_id, clean=False)
    equal(watcher.connack.present, False, "session present")


# Deliveries that the end of the connection interrupts. First the client publishes.


def back(session, raw):
    """The same client on a new connection, with its session."""
    raw.drop()
    again = session.connected(raw.version, raw.client_id, clean=False)
    equal(again.connack.present, raw.version != V31, "session present")  # 3.1 doesn't tell
    return again


@each_version("publisher-is-cut-before-pubrec", ["v3.1.1", "v5"])
def before_pubrec(session, version):
    topic = session.topic()
    listener = session.listener(topic)
    raw = session.connected(version, clean=False)
    raw.publish(topic, b"once", qos=2, mid=3)
    raw.ping_among(PUBREC)
    raw = back(session, raw)
    raw.publish(topic, b"once", qos=2, mid=3, dup=True)
    equal(raw.expect(PUBREC).code, 0, "the code of PUBREC")
    raw.exchange(PUBREL, 3, PUBCOMP)
    only_once(raw, topic, listener)


@each_version("publisher-is-cut-before-pubrel", ["v3.1.1", "v5"])
def before_pubrel(session, version):
    topic = session.topic()
    listener = session.listener(topic)
    raw = session.connected(version, clean=False)
    raw.publish(topic, b"once", qos=2, mid=3)
    raw.expect(PUBREC)
    raw = back(session, raw)
    equal(raw.exchange(PUBREL, 3, PUBCOMP).code, 0, "the code of PUBCOMP")
    only_once(raw, topic, listener)


@each_version("publisher-is-cut-before-pubcomp", ["v3.1.1", "v5"])
def before_pubcomp(session, version):
    topic = session.topic()
    listener = session.listener(topic)
    raw = session.connected(version, clean=False)
    raw.publish(topic, b"once", qos=2, mid=3)
    raw.expect(PUBREC)
    raw.ack(PUBREL, 3)
    raw.ping_among(PUBCOMP)
    raw = back(session, raw)
    assert raw.exchange(PUBREL, 3, PUBCOMP).code in (0, 0x92)
    only_once(raw, topic, listener)


def only_once(raw, topic, listener):
    raw.publish(topic, b"fence", qos=2, mid=3)
    raw.expect(PUBREC)
    raw.exchange(PUBREL, 3, PUBCOMP)
    equal(listener.payloads(2), [b"once", b"fence"], "what arrived")


# Then the client receives.


@each_version("subscriber-is-cut-before-puback")
def before_puback(session, version):
    topic = session.topic()
    raw = session.connected(version, clean=False)
    raw.subscribe((topic, 1))
    publisher = session.peer()
    for body in numbered(3):
        publisher.publish(topic, body)
    first = raw.take(PUBLISH, 3)
    raw.ack(PUBACK, first[0].mid)
    raw.ping()
    raw = back(session, raw)
    again = raw.take(PUBLISH, 2)
    equal([(each.mid, each.payload) for each in again], [(each.mid, each.payload) for each in first[1:]], "messages")
    equal([each.dup for each in again], [True, True], "dup")
    publisher.publish(topic, b"new")
    new = raw.expect(PUBLISH)
    equal((new.payload, new.dup), (b"new", False), "the next message")
    assert new.mid not in [each.mid for each in again], "a packet identifier is used twice"


@each_version("subscriber-is-cut-before-pubrec")
def subscriber_before_pubrec(session, version):
    topic = session.topic()
    raw, publisher, first = receiver(session, version, topic)
    raw = back(session, raw)
    again = raw.expect(PUBLISH)
    equal((again.mid, again.payload, again.dup), (first.mid, b"once", True), "the message")
    raw.exchange(PUBREC, again.mid, PUBREL)
    raw.ack(PUBCOMP, again.mid)
    nothing_more(raw, publisher, topic)


@each_version("subscriber-is-cut-before-pubrel")
def subscriber_before_pubrel(session, version):
    topic = session.topic()
    raw, publisher, first = receiver(session, version, topic)
    raw.exchange(PUBREC, first.mid, PUBREL)
    raw = back(session, raw)
    equal(raw.expect(PUBREL).mid, first.mid, "the packet identifier of PUBREL")
    raw.ack(PUBCOMP, first.mid)
    nothing_more(raw, publisher, topic)


@each_version("subscriber-is-cut-after-pubcomp")
def subscriber_after_pubcomp(session, version):
    topic = session.topic()
    raw, publisher, first = receiver(session, version, topic)
    raw.exchange(PUBREC, first.mid, PUBREL)
    raw.ack(PUBCOMP, first.mid)
    raw.ping()
    nothing_more(back(session, raw), publisher, topic)


def receiver(session, version, topic):
    """A client to which the first of its messages has been sent, and who publishes."""
    raw = session.connected(version, clean=False)
    raw.subscribe((topic, 2))
    publisher = session.peer()
    publisher.publish(topic, b"once", qos=2)
    return raw, publisher, raw.expect(PUBLISH)


def nothing_more(raw, publisher, topic):
    publisher.publish(topic, b"fence", qos=2)
    message = raw.expect(PUBLISH)
    equal((message.payload, message.dup), (b"fence", False), "the next message")


@suite.check("cut-in-every-state-at-once")
def every_state(session):
    topic = session.topic()
    raw = session.connected(V5, clean=False)
    raw.subscribe((topic, 2))
    publisher = session.peer()
    for body in numbered(4):
        publisher.publish(topic, body, qos=2)
    mids = [message.mid for message in raw.take(PUBLISH, 4)]
    raw.exchange(PUBREC, mids[0], PUBREL)
    raw.ack(PUBCOMP, mids[0])
    raw.exchange(PUBREC, mids[1], PUBREL)
    raw.ping()
    raw = back(session, raw)
    found = [raw.read() for _ in range(3)]
    equal({(each.kind, each.mid) for each in found}, {(PUBREL, mids[1]), (PUBLISH, mids[2]), (PUBLISH, mids[3])}, "packets")
    equal([each.mid for each in found if each.kind == PUBLISH], mids[2:], "the order of what is sent again")


@suite.check("what-was-sent-comes-again-before-what-was-not")
def order_after_reconnect(session):
    topic = session.topic()
    raw = session.connected(clean=False, receive_maximum=5)
    raw.subscribe((topic, 1))
    publisher = session.peer()
    for body in numbered(12):
        publisher.publish(topic, body)
    raw.take(PUBLISH, 5)
    raw = back(session, raw)
    equal([message.payload for message in raw.take(PUBLISH, 12)], numbered(12), "the messages")


@each_version("every-message-over-a-bad-network", ["v3.1.1", "v5"])
def bad_network(session, version):
    """Every connection breaks after a number of bytes, in the middle of anything; the client resumes."""
    topic, count = session.topic(), 40
    listener = session.listener(topic)
    with Proxy([70, 150, 301, 500, 633, 904, 1111]) as proxy:
        publisher = session.unconnected(version)
        for number in range(count):
            publisher.send(topic, b"%02d" % number + b"x" * 30, qos=1 + number % 2)
        publisher.persist(proxy.port)
        got = []
        while len(set(got)) < count:
            message = listener.next()
            got.append((message.qos, message.payload[:2]))
        exactly = [payload for qos, payload in got if qos == 2]
        equal(exactly, [b"%02d" % number for number in range(1, count, 2)], "the messages with QoS 2")
        assert proxy.breaks >= 5, f"only {proxy.breaks} connections broke"


@suite.check("two-sessions-one-message")
def two_sessions(session):
    topic = session.topic()
    sessions = [session.kept() for _ in range(10)]
    for kept in sessions:
        kept.subscribe(topic, qos=1)
        kept.disconnect()
    session.peer().publish(topic, b"to all")
    for kept in sessions:
        session.kept(client_id=kept.client_id).expect(topic, b"to all", qos=1)


@suite.check("a-wide-window-of-packet-identifiers")
def wide_window(session):
    topic, count = session.topic(), 2000
    raw = session.connected(clean=False)
    raw.subscribe((topic, 1))
    publisher = session.peer()
    for number in range(count):
        mid = publisher.send(topic, b"%d" % number, qos=1)
    publisher.await_ack(mid, 10)
    mids = set()
    for number in range(count):
        message = raw.expect(PUBLISH)
        equal(message.payload, b"%d" % number, "the message")
        mids.add(message.mid)
        raw.ack(PUBACK, message.mid)
    assert 0 not in mids and None not in mids
    raw.ping()
