"""Messages: quality of service, topics, sizes, properties, aliases and limits."""

import hashlib
import os
import time

from checks import equal
from mqtt import wire
from mqtt.session import FOR_EVER, each_version, numbered, suite, together
from mqtt.wire import CONNACK, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V31, V311

PROPERTIES = {
    "payload_format_indicator": 1,
    "content_type": "application/json; charset=utf-8",
    "response_topic": "replies/ä",
    "correlation_data": b"\x00\xff binary",
    "user_property": [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("ä", "日本")],
}


@each_version("qos-of-publish-and-subscription")
def qos_matrix(session, version):
    topic = session.topic()
    publisher = session.peer(version)
    listeners = [session.listener(topic, version=version, qos=qos) for qos in range(3)]
    for published in range(3):
        publisher.publish(topic, b"q%d" % published, published)
        for subscribed, listener in enumerate(listeners):
            listener.expect(topic, b"q%d" % published, qos=min(published, subscribed), retain=False)


@suite.check("between-versions")
def between_versions(session):
    topic = session.topic()
    versions = (V31, V311, V5)
    listeners = [session.listener(topic, version=version) for version in versions]
    for version in versions:
        session.peer(version).publish(topic, b"from %d" % version, qos=2)
        for listener in listeners:
            listener.expect(topic, b"from %d" % version, qos=2)


@each_version("order")
def order(session, version):
    publisher = session.peer(version)
    for qos in range(3):
        topic = session.topic()
        listener = session.listener(topic, version=version, qos=qos)
        mids = [publisher.send(topic, body, qos) for body in numbered(300)]
        equal(listener.payloads(300), numbered(300), f"the order with QoS {qos}")
        publisher.await_ack(mids[-1])


@suite.check("payload-sizes")
def sizes(session):
    topic = session.topic()
    listeners = [session.listener(topic, version=V311, qos=0), session.listener(topic)]
    publisher = session.peer()
    for size in (0, 1, 90, 100, 127, 128, 16_300, 16_400, 65_535, 65_536, 1024 * 1024):
        body = os.urandom(size)
        publisher.publish(topic, body, qos=size % 3)
        for listener in listeners:
            got = listener.next().payload
            equal((len(got), hashlib.sha256(got).digest()), (size, hashlib.sha256(body).digest()), f"{size} bytes")


UNUSUAL_TOPICS = [
    *("a.b", "a..b", ".", "a.b/c.d", "a*b", "*", "a>b", ">", "/", "//", "/a", "a/", "a//b", " ", "a b/ c", "ä/日本"),
    *("a\ufeffb", "A", "$", "a/$b", "\\", "%2F", "a:b", "a;b,c", "'\"", "..", "amq.topic"),
]


@suite.check("topics-byte-for-byte")
def topics(session):
    root = session.topic()
    everything = session.listener(f"{root}/#")
    publisher = session.peer()
    for end in UNUSUAL_TOPICS:
        topic = f"{root}/{end}"
        exact = session.listener(topic)
        publisher.publish(topic, end.encode())
        everything.expect(topic, end.encode())
        exact.expect(topic, end.encode())
        exact.close()


@suite.check("the-longest-topic")
def longest_topic(session):
    topic = session.topic("/")
    topic += "x" * (65_535 - len(topic))
    listener = session.listener(topic)
    session.peer().publish(topic, b"long")
    listener.expect(topic, b"long")


@suite.check("dollar-topics-need-their-name")
def dollar_topics(session):
    root = session.topic()
    wild = session.peer()
    equal(wild.subscribe("#", "+/#", "+/+/+", f"+/{root}"), [0] * 4, "the codes of SUBACK")
    session.peer().send(f"$roadstead/{root}", b"hidden")
    fence = session.peer()
    fence.publish(f"{root}/fence", b"fence")
    while (message := wild.next()).topic != f"{root}/fence":
        assert not message.topic.startswith("$"), f"a wildcard matched {message.topic}"


@each_version("dup-is-not-passed-on")
def dup(session, version):
    topic = session.topic()
    listener = session.connected(version)
    listener.subscribe((topic, 1))
    publisher = session.connected(version)
    publisher.publish(topic, b"x", qos=1, mid=7, dup=True)
    equal(publisher.expect(PUBACK).mid, 7, "the packet identifier")
    equal(listener.expect(PUBLISH).dup, False, "dup")


@each_version("packet-identifiers-of-publish")
def packet_identifiers(session, version):
    topic = session.topic()
    raw = session.connected(version)
    for mid in (1, 255, 256, 65535):
        raw.publish(topic, b"x", qos=1, mid=mid)
        equal(raw.expect(PUBACK).mid, mid, "the packet identifier of PUBACK")
        raw.publish(topic, b"x", qos=2, mid=mid)
        equal(raw.expect(PUBREC).mid, mid, "the packet identifier of PUBREC")
        raw.exchange(PUBREL, mid, PUBCOMP)


@suite.check("acknowledgements-in-the-order-of-publishes")
def acks_in_order(session):
    topic = session.topic()
    raw = session.connected()
    for mid in range(1, 21):
        raw.publish(topic, b"x", qos=1, mid=mid)
    equal([ack.mid for ack in raw.take(PUBACK, 20)], list(range(1, 21)), "PUBACK")
    for mid in range(1, 11):
        raw.publish(topic, b"x", qos=2, mid=mid)
    equal([ack.mid for ack in raw.take(PUBREC, 10)], list(range(1, 11)), "PUBREC")
    raw.send(*(wire.ack(PUBREL, mid) for mid in range(1, 11)))
    equal([ack.mid for ack in raw.take(PUBCOMP, 10)], list(range(1, 11)), "PUBCOMP")


@each_version("qos-2-sent-again-arrives-once", ["v3.1", "v3.1.1"])
def sent_again(session, version):
    topic = session.topic()
    listener = session.listener(topic, version=version)
    raw = session.connected(version)
    for dup in (False, True):
        raw.publish(topic, b"once", qos=2, mid=5, dup=dup)
        equal(raw.expect(PUBREC).mid, 5, "the packet identifier of PUBREC")
    raw.exchange(PUBREL, 5, PUBCOMP)
    raw.publish(topic, b"the identifier is free", qos=2, mid=5)
    raw.expect(PUBREC)
    raw.exchange(PUBREL, 5, PUBCOMP)
    equal(listener.payloads(2), [b"once", b"the identifier is free"], "the messages")


@suite.check("unknown-packet-identifiers")
def unknown_identifiers(session):
    for version in (V31, V311, V5):
        raw = session.connected(version)
        answer = raw.exchange(PUBREL, 99, PUBCOMP)
        assert answer.code in (0, 0x92), f"the code of PUBCOMP is {answer.code}"
        raw.ack(PUBACK, 99)
        raw.ack(PUBCOMP, 98)
        raw.ping()


@suite.check("puback-codes")
def puback_codes(session):
    topic = session.topic()
    publisher = session.peer()
    assert publisher.publish(topic, b"nobody") in (0, 0x10)
    assert publisher.publish(topic, b"nobody", qos=2) in (0, 0x10)
    session.listener(topic)
    equal([publisher.publish(topic, b"x", qos) for qos in (1, 2)], [0, 0], "the codes with a subscriber")


@suite.check("properties-are-passed-on")
def properties(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((topic, 2))
    for qos in range(3):
        session.peer().publish(topic, b'{"a": 1}', qos, **PROPERTIES)
        message = listener.expect(PUBLISH)
        equal((message.topic, message.payload, message.properties), (topic, b'{"a": 1}', PROPERTIES), f"QoS {qos}")
        if qos == 1:
            listener.ack(PUBACK, message.mid)


@suite.check("no-properties-are-made-up")
def no_properties(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((topic, 0))
    session.peer().publish(topic, b"plain")
    equal(listener.expect(PUBLISH).properties, {}, "the properties")
    session.peer(V311).publish(topic, b"plain")
    equal(listener.expect(PUBLISH).properties, {}, "the properties of a message of MQTT 3.1.1")
    session.peer().publish(topic, b"\xff", payload_format_indicator=0, content_type="", correlation_data=b"")
    found = listener.expect(PUBLISH).properties
    equal(found.pop("payload_format_indicator", 0), 0, "the payload format")
    equal(found, {"content_type": "", "correlation_data": b""}, "empty properties")


@suite.check("many-user-properties")
def user_properties(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((topic, 0))
    pairs = [(f"name {number % 7}", "v" * number) for number in range(300)]
    session.peer().publish(topic, b"x", user_property=pairs)
    equal(listener.expect(PUBLISH).properties, {"user_property": pairs}, "the properties")


@suite.check("request-and-response")
def request_and_response(session):
    requests, replies = session.topic(), session.topic()
    responder, requester = session.listener(requests), session.listener(replies)
    for number in range(3):
        identity = b"request %d" % number
        requester.send(requests, b"ping", qos=1, response_topic=replies, correlation_data=identity)
        request = responder.next().properties
        responder.send(request.ResponseTopic, b"pong", qos=1, correlation_data=request.CorrelationData)
        equal(requester.next().properties.CorrelationData, identity, "the correlation data")


# Aliases


@suite.check("topic-alias-of-a-client")
def alias_of_client(session):
    first, second = session.topic(), session.topic()
    listener = session.listener(first, second)
    raw = session.connected()
    maximum = raw.connack.properties.get("topic_alias_maximum", 0)
    assert maximum >= 2, f"the broker takes {maximum} aliases"
    raw.publish(first, b"1", topic_alias=1)
    raw.publish(second, b"2", topic_alias=maximum)
    raw.publish("", b"3", topic_alias=1)
    raw.publish("", b"4", topic_alias=maximum, qos=1, mid=9)
    raw.expect(PUBACK)
    raw.publish(second, b"5", topic_alias=1)
    raw.publish("", b"6", topic_alias=1)
    got = [(message.topic, message.payload) for message in listener.take(6)]
    equal(got, [(first, b"1"), (second, b"2"), (first, b"3"), (second, b"4"), (second, b"5"), (second, b"6")], "messages")


@suite.check("topic-alias-does-not-reach-subscribers")
def alias_stays(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((topic, 0))
    raw = session.connected()
    raw.publish(topic, b"1", topic_alias=1)
    raw.publish("", b"2", topic_alias=1)
    for message in listener.take(PUBLISH, 2):
        equal((message.topic, message.properties), (topic, {}), "topic and properties")


@suite.check("bad-topic-aliases")
def bad_aliases(session):
    def attempt(topic, alias, *codes):
        raw = session.connected()
        raw.publish(topic, b"x", **({"topic_alias": alias} if alias is not None else {}))
        raw.refused(*codes)

    maximum = session.connected().connack.properties.get("topic_alias_maximum", 0)
    attempt("a", 0, 0x94, 0x82, 0x81)
    attempt("", 1, 0x82, 0x94)
    attempt("", None, 0x82, 0x81, 0x90)
    if maximum < 65535:
        attempt("a", maximum + 1, 0x94)


@suite.check("topic-alias-ends-with-the-connection")
def alias_ends(session):
    topic = session.topic()
    raw = session.connected(clean=False)
    raw.publish(topic, b"1", topic_alias=1)
    raw.ping()
    raw.drop()
    again = session.connected(V5, raw.client_id, clean=False)
    again.publish("", b"2", topic_alias=1)
    again.refused(0x82, 0x94)


@suite.check("topic-aliases-of-the-broker")
def aliases_of_broker(session):
    root = session.topic()
    for maximum in (0, 2, 10):
        listener = session.connected(topic_alias_maximum=maximum)
        listener.subscribe((f"{root}/+", 0))
        publisher, aliases = session.peer(), {}
        sent = [(f"{root}/{number % 4}", b"%d" % number) for number in range(24)]
        for topic, body in sent:
            publisher.send(topic, body)
        got = []
        for message in listener.take(PUBLISH, 24):
            alias = message.properties.get("topic_alias")
            assert alias is None or 1 <= alias <= maximum, f"alias {alias}, with a maximum of {maximum}"
            if message.topic:
                aliases[alias] = message.topic
            got.append((message.topic or aliases[alias], message.payload))
        equal(got, sent, "the messages")


# Limits


@suite.check("receive-maximum-of-a-client")
def receive_maximum(session):
    topic = session.topic()
    listener = session.connected(receive_maximum=3)
    listener.subscribe((topic, 2))
    publisher = session.peer()
    for number in range(8):
        publisher.publish(topic, b"%d" % number, qos=1 + number % 2)
    first = listener.take(PUBLISH, 3)
    listener.ping()
    publisher.publish(topic, b"QoS 0 is not counted", qos=0)
    listener.expect(PUBLISH)
    listener.ping()
    waiting, got = first, [message.payload for message in first]
    while waiting:
        message = waiting.pop(0)
        if message.qos == 1:
            listener.ack(PUBACK, message.mid)
        else:
            listener.exchange(PUBREC, message.mid, PUBREL)
            listener.ping()  # a PUBREC without failure gives no credit
            listener.ack(PUBCOMP, message.mid)
        if len(got) < 8:
            waiting.append(listener.expect(PUBLISH))
            got.append(waiting[-1].payload)
        listener.ping()
    equal(got, [b"%d" % number for number in range(8)], "the messages")


@suite.check("a-failed-pubrec-ends-a-delivery")
def failed_pubrec(session):
    topic = session.topic()
    listener = session.connected(receive_maximum=1)
    listener.subscribe((topic, 2))
    publisher = session.peer()
    for body in numbered(2):
        publisher.publish(topic, body, qos=2)
    listener.ack(PUBREC, listener.expect(PUBLISH).mid, 0x83)
    message = listener.expect(PUBLISH)
    equal(message.payload, b"m1", "the next message")
    listener.exchange(PUBREC, message.mid, PUBREL)


@suite.check("receive-maximum-of-the-broker")
def receive_maximum_of_broker(session):
    topic = session.topic()
    raw = session.connected()
    maximum = raw.connack.properties.get("receive_maximum", 65535)
    if maximum < 65535:
        raw.send(*(wire.publish(V5, topic, b"x", qos=2, mid=mid) for mid in range(1, maximum + 2)))
        refused_with(raw, 0x93)
    fine = session.connected()
    count = min(maximum, 200)
    fine.send(*(wire.publish(V5, topic, b"x", qos=2, mid=mid) for mid in range(1, count + 1)))
    fine.take(PUBREC, count)
    fine.publish(topic, b"QoS 0 is not counted")
    fine.ping()


def refused_with(raw, code):
    while (found := raw.read()) is not None and found.kind != DISCONNECT:
        pass
    if found is not None:
        equal(found.code, code, "the code of DISCONNECT")
        raw.closed()


def largest_payload(size, topic):
    """How much fits into a PUBLISH of `size` bytes, between 131 and 16,386, without properties and with an identifier."""
    return size - 1 - 2 - 2 - len(topic) - 2 - 1


@suite.check("maximum-packet-size-of-a-client")
def maximum_packet_size(session):
    topic = session.topic()
    listener = session.connected(maximum_packet_size=200)
    listener.subscribe((topic, 2))
    publisher = session.peer()
    room = largest_payload(200, topic)
    for qos in (1, 2):
        for size in (room - 1, room, 5000):
            equal(publisher.publish(topic, b"x" * size, qos), 0, "the code of the acknowledgement")
    messages = listener.take(PUBLISH, 4)
    got = [(message.qos, len(message.payload)) for message in messages]
    equal(got, [(1, room - 1), (1, room), (2, room - 1), (2, room)], "QoS and size of what came")
    for message in messages[:2]:
        listener.ack(PUBACK, message.mid)
    publisher.publish(topic, b"small")
    equal(listener.expect(PUBLISH).payload, b"small", "the message after those that are too large")


@suite.check("maximum-packet-size-to-the-byte")
def to_the_byte(session):
    topic = session.topic()
    listener = session.connected(maximum_packet_size=200)
    listener.subscribe((topic, 1))
    publisher = session.peer()
    publisher.publish(topic, b"x" * (largest_payload(200, topic) + 1))
    publisher.publish(topic, b"small")
    equal(listener.expect(PUBLISH).payload, b"small", "the message after one of 201 bytes")


@suite.check("maximum-packet-size-does-not-hold-up")
def too_large_frees_its_place(session):
    topic = session.topic()
    listener = session.connected(maximum_packet_size=100, receive_maximum=1)
    listener.subscribe((topic, 1))
    publisher = session.peer()
    for _ in range(5):
        publisher.publish(topic, b"x" * 1000)
    publisher.publish(topic, b"small")
    equal(listener.expect(PUBLISH).payload, b"small", "the only message that fits")


@suite.check("maximum-packet-size-of-the-broker")
def maximum_packet_size_of_broker(session):
    raw = session.connected()
    maximum = raw.connack.properties.get("maximum_packet_size")
    if maximum:
        raw.send(b"\x30" + wire.varint(maximum + 1) + wire.data("roadstead"))
        refused_with(raw, 0x95)
    assert (maximum or FOR_EVER) > 1024 * 1024, f"the broker takes packets of {maximum} bytes only"


@suite.check("a-huge-packet-before-connect")
def huge_before_connect(session):
    for kind in (wire.CONNECT, PUBLISH):
        raw = session.raw()
        raw.send(bytes([kind << 4]) + b"\xff\xff\xff\x7f" + b"\0\4MQTT\5\2")
        if kind == PUBLISH:
            raw.refused(0x81, 0x82, 0x95)
        else:
            raw.drop()
    session.connected().ping()


@suite.check("slow-subscriber")
def slow_subscriber(session):
    topic, body = session.topic(), os.urandom(64 * 1024)
    slow = session.raw(V5, receive_buffer=8192)
    slow.connect(receive_maximum=65535)
    slow.subscribe((topic, 1))
    fast = session.listener(topic, qos=1)
    publisher = session.peer()
    for number in range(160):
        publisher.send(topic, b"%03d" % number + body, qos=1)
    expected = [b"%03d" % number for number in range(160)]
    equal([message.payload[:3] for message in fast.take(160)], expected, "what the fast subscriber got")
    got = []
    for _ in range(160):
        message = slow.expect(PUBLISH)
        slow.ack(PUBACK, message.mid)
        got.append(message.payload[:3])
    equal(got, expected, "what the slow subscriber got")


# Expiry


@together.check("message-expiry-counts-down")
def expiry_counts_down(session):
    topic = session.topic()
    kept = session.connected(clean=False)
    kept.subscribe((f"{topic}/#", 1))
    kept.disconnect()
    publisher = session.peer()
    publisher.publish(f"{topic}/offline", b"x", message_expiry_interval=100)
    session.retain(publisher, f"{topic}/retained", message_expiry_interval=100)
    publisher.publish(f"{topic}/none", b"x")
    time.sleep(2.1)
    kept = session.connected(V5, kept.client_id, clean=False)
    offline = {message.topic: message.properties for message in kept.take(PUBLISH, 3)}
    retained = session.connected()
    retained.subscribe((f"{topic}/retained", 1))
    late = retained.expect(PUBLISH).properties
    left = [found.get("message_expiry_interval") for found in (offline[f"{topic}/offline"], late)]
    assert all(seconds in (96, 97, 98) for seconds in left), f"of 100 s are left {left}, 2 s later"
    equal(offline[f"{topic}/none"], {}, "the properties of a message without expiry")


@suite.check("message-expiry-passed-on-at-once")
def expiry_at_once(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((topic, 0))
    for seconds in (1000, FOR_EVER):
        session.peer().publish(topic, b"x", message_expiry_interval=seconds)
        left = listener.expect(PUBLISH).properties["message_expiry_interval"]
        assert left in (seconds, seconds - 1), left


@together.check("expired-messages-are-not-delivered")
def expired(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(f"{topic}/#", qos=2)
    kept.disconnect()
    publisher = session.peer()
    for qos in (1, 2):
        publisher.publish(f"{topic}/a", b"old", qos, message_expiry_interval=1)
        publisher.publish(f"{topic}/a", b"lasting", qos, message_expiry_interval=60)
    session.retain(publisher, f"{topic}/retained", message_expiry_interval=1)
    time.sleep(2.6)
    kept = session.kept(client_id=kept.client_id)
    equal(kept.payloads(2), [b"lasting"] * 2, "what is left for the session")
    publisher.publish(f"{topic}/a", b"new")
    equal(kept.next().payload, b"new", "the next message")
    fresh = session.listener(f"{topic}/retained")
    publisher.publish(f"{topic}/retained", b"not retained")
    fresh.expect(f"{topic}/retained", b"not retained")


@suite.check("connack-comes-first")
def connack_first(session):
    topic = session.topic()
    kept = session.connected(clean=False)
    kept.subscribe((topic, 1))
    kept.drop()
    session.peer().publish(topic, b"waiting")
    raw = session.raw(V5, kept.client_id)
    raw.send(raw.connect_packet(clean=False))
    equal([raw.read().kind, raw.read().kind], [CONNACK, PUBLISH], "the types of the first packets")
