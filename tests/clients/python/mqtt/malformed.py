"""What no client may send: the broker ends the connection, and says why with one of these codes, if it says anything."""

import time

from checks import equal
from mqtt import wire
from mqtt.address import BROKER, EVENT_SECONDS
from mqtt.session import each_version, suite
from mqtt.wire import PINGREQ, PUBACK, PUBLISH, PUBREL, SUBSCRIBE, UNSUBSCRIBE, V5, V31, V311, data, packet, u16

MALFORMED = (0x81, 0x82)
NO_PROPERTIES = b"\0"


def refused(cases):
    """Expects every connection to end; a case is what it is, its connection, and the codes that the end may have."""
    end = time.monotonic() + EVENT_SECONDS
    failures = []
    for what, raw, codes in cases:
        try:
            raw.refused(*codes, end=end)
        except AssertionError as failure:
            failures.append(f"{what}: {failure}")
    equal(failures, [], "what was not refused as it should be")


def table(name, version=V5):
    """Registers a check over cases: for each, the codes that the end may have, and what to send after CONNECT."""

    def register(function):
        @suite.check(name)
        def check(session):
            cases = []
            for what, codes, sent in function():
                cases.append((what, session.connected(version), codes))
                cases[-1][1].send(sent)
            refused(cases)
            session.connected(version).ping()

        return check

    return register


def refused_connects(session, version, packets, codes):
    cases = []
    for what, sent in packets:
        cases.append((what, session.raw(version), codes))
        cases[-1][1].send(sent)
    refused(cases)


@table("malformed-headers")
def headers():
    yield "five bytes of length", MALFORMED, b"\x30\x80\x80\x80\x80\x01"
    yield "type 0", MALFORMED, packet(0)
    yield "PINGREQ with flags", MALFORMED, packet(PINGREQ, flags=1)
    yield "SUBSCRIBE without its flags", MALFORMED, packet(SUBSCRIBE, u16(1) + NO_PROPERTIES + data("a") + b"\0")
    yield "UNSUBSCRIBE without its flags", MALFORMED, packet(UNSUBSCRIBE, u16(1) + NO_PROPERTIES + data("a"))
    yield "PUBREL without its flags", MALFORMED, packet(PUBREL, u16(1))
    yield "PUBACK with flags", MALFORMED, packet(PUBACK, u16(1), 2)
    yield "DISCONNECT with flags", MALFORMED, packet(wire.DISCONNECT, flags=1)


@table("packets-of-a-server")
def packets_of_a_server():
    yield "CONNACK", MALFORMED, packet(wire.CONNACK, b"\0\0\0")
    yield "SUBACK", MALFORMED, packet(wire.SUBACK, u16(1) + b"\0\0")
    yield "UNSUBACK", MALFORMED, packet(wire.UNSUBACK, u16(1) + b"\0\0")
    yield "PINGRESP", MALFORMED, packet(wire.PINGRESP)


@table("malformed-publish")
def publish():
    yield "QoS 3", MALFORMED, packet(PUBLISH, data("a") + u16(1) + NO_PROPERTIES, 6)
    yield "packet identifier 0", MALFORMED, wire.publish(V5, "a", qos=1, mid=0)
    yield "shorter than its topic", MALFORMED, packet(PUBLISH, u16(9) + b"abc")
    yield "without packet identifier", MALFORMED, packet(PUBLISH, data("a"), 2)
    yield "no topic", MALFORMED, packet(PUBLISH)
    yield "properties longer than the packet", MALFORMED, packet(PUBLISH, data("a") + b"\x7fx")


@table("malformed-topics")
def topics():
    codes = (*MALFORMED, 0x90)
    for topic in (b"", b"a/#", b"+/a", b"a+", b"a\0b", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"):
        yield repr(topic), codes, packet(PUBLISH, data(topic) + NO_PROPERTIES + b"x")


@table("malformed-properties")
def properties():
    def with_properties(section):
        return packet(PUBLISH, data("a") + wire.varint(len(section)) + section)

    indicator, expiry = b"\x01\x01", b"\x02\0\0\0\x01"
    yield "unknown", MALFORMED, with_properties(b"\x7f\0")
    yield "twice", MALFORMED, with_properties(expiry + expiry)
    yield "payload format twice", MALFORMED, with_properties(indicator + indicator)
    yield "of another packet", MALFORMED, with_properties(b"\x21\0\x01")
    yield "cut", MALFORMED, with_properties(b"\x02\0\0")
    yield "payload format 2", MALFORMED, with_properties(b"\x01\x02")
    yield "a response topic with a wildcard", (*MALFORMED, 0x90), with_properties(b"\x08" + data("a/#"))
    yield "a length that is too long", MALFORMED, packet(PUBLISH, data("a") + b"\x80\x80\x80\x80\x01")


@table("subscription-identifier-from-a-client")
def subscription_identifier():
    yield "in PUBLISH", MALFORMED, wire.publish(V5, "a", subscription_identifier=1)


@table("malformed-subscribe")
def subscribe():
    yield "no filter", MALFORMED, wire.subscribe(V5, 1)
    yield "packet identifier 0", MALFORMED, wire.subscribe(V5, 0, ("a", 0))
    yield "QoS 3", MALFORMED, wire.subscribe(V5, 1, ("a", 3))
    yield "reserved bits", MALFORMED, wire.subscribe(V5, 1, ("a", 0x40))
    yield "retain handling 3", MALFORMED, wire.subscribe(V5, 1, ("a", 0x30))
    yield "no options", MALFORMED, packet(SUBSCRIBE, u16(1) + NO_PROPERTIES + data("a"), 2)
    yield "subscription identifier 0", MALFORMED, wire.subscribe(V5, 1, ("a", 0), subscription_identifier=0)
    twice = b"\x04\x0b\x01\x0b\x02"
    yield "two subscription identifiers", MALFORMED, packet(SUBSCRIBE, u16(1) + twice + data("a") + b"\0", 2)
    yield "no local with a shared subscription", MALFORMED, wire.subscribe(V5, 1, ("$share/g/a", 4))
    yield "bad text", (*MALFORMED, 0x8F), wire.subscribe(V5, 1, (b"\xff", 0))


@table("malformed-unsubscribe")
def unsubscribe():
    yield "no filter", MALFORMED, wire.unsubscribe(V5, 1)
    yield "packet identifier 0", MALFORMED, wire.unsubscribe(V5, 0, "a")


@table("malformed-subscribe-v3.1.1", V311)
def subscribe_v311():
    yield "no filter", (), wire.subscribe(V311, 1)
    yield "QoS 3", (), wire.subscribe(V311, 1, ("a", 3))
    yield "reserved bits", (), wire.subscribe(V311, 1, ("a", 0x40))
    yield "no filter to unsubscribe", (), wire.unsubscribe(V311, 1)
    yield "without its flags", (), packet(SUBSCRIBE, u16(1) + data("a") + b"\0")


@each_version("malformed-connect")
def connect(session, version):
    login = {"user": BROKER.username, "password": BROKER.password}
    good = wire.connect(version, "roadsteadx", **login)
    will = {"topic": "a"}
    packets = [
        ("a will of QoS 3", wire.connect(version, "x", will=will | {"qos": 3}, **login)),
        ("a cut packet", packet(wire.CONNECT, good[2:-4])),
        ("a topic of the will with a wildcard", wire.connect(version, "x", will={"topic": "a/#"}, **login)),
        ("bad text", wire.connect(version, b"\xff", **login)),
    ]
    if version != V31:
        packets += [
            ("a will without its flag", wire.connect(version, "x", flags=0x08, **login)),
            ("the reserved flag", wire.connect(version, "x", flags=0x01, **login)),
            ("too many bytes", packet(wire.CONNECT, good[2:] + b"x")),
            ("flags of the header", packet(wire.CONNECT, good[2:], 1)),
        ]
    refused_connects(session, version, packets, (1, 2, 4, 5, *MALFORMED, 0x85, 0x90))


@suite.check("malformed-connect-properties")
def connect_properties(session):
    packets = [
        ("receive maximum 0", wire.connect(client_id="x", receive_maximum=0)),
        ("maximum packet size 0", wire.connect(client_id="x", maximum_packet_size=0)),
        ("request problem information 2", wire.connect(client_id="x", request_problem_information=2)),
        ("request response information 2", wire.connect(client_id="x", request_response_information=2)),
        ("a property of PUBLISH", wire.connect(client_id="x", topic_alias=1)),
        ("a property twice", wire.connect(client_id="x", session_expiry_interval=[1, 1])),
        ("will delay without a will", wire.connect(client_id="x", will_delay_interval=1)),
    ]
    refused_connects(session, V5, packets, MALFORMED)


@suite.check("one-byte-at-a-time")
def one_byte_at_a_time(session):
    raw = session.raw()
    topic = session.topic()
    stream = raw.connect_packet() + wire.subscribe(V5, 7, (topic, 1)) + wire.publish(V5, topic, b"x" * 200, qos=1, mid=8)
    for byte in stream:
        raw.send(bytes([byte]))
    kinds = sorted(raw.read().kind for _ in range(4))
    assert kinds == [wire.CONNACK, PUBLISH, PUBACK, wire.SUBACK], kinds


@suite.check("many-packets-at-once")
def many_packets_at_once(session):
    raw = session.raw(V311)
    topic = session.topic()
    publishes = [wire.publish(V311, topic, b"%d" % number) for number in range(500)]
    raw.send(raw.connect_packet(), wire.subscribe(V311, 7, (topic, 0)), *publishes)
    raw.expect(wire.CONNACK)
    raw.expect(wire.SUBACK)
    assert [each.payload for each in raw.take(PUBLISH, 500)] == [b"%d" % number for number in range(500)]
