"""Wills."""

import time

from checks import equal
from mqtt import wire
from mqtt.publishing import PROPERTIES
from mqtt.session import each_version, suite, together
from mqtt.wire import DISCONNECT, PUBLISH, V5, V31, V311, packet


def will(topic, qos=1, retain=False, payload=b"gone", **properties):
    return {"topic": topic, "payload": payload, "qos": qos, "retain": retain, "properties": properties}


@each_version("will")
def dropped(session, version):
    topic = session.topic()
    watcher = session.listener(topic, version=version)
    for qos in range(3):
        session.peer(version, will=will(topic, qos)).drop()
        watcher.expect(topic, b"gone", qos=qos, retain=False)


@each_version("no-will-after-disconnect")
def disconnected(session, version):
    topic = session.topic()
    watcher = session.listener(topic, version=version)
    session.connected(version, will=will(topic)).disconnect()
    session.connected(version, will=will(topic, payload=b"")).drop()
    watcher.expect(topic, b"")


@suite.check("will-after-disconnect-with-will")
def disconnect_with_will(session):
    topic = session.topic()
    watcher = session.listener(topic)
    session.connected(will=will(topic)).disconnect(4)
    watcher.expect(topic, b"gone")


@suite.check("will-after-a-protocol-error")
def protocol_error(session):
    topic = session.topic()
    watcher = session.listener(topic)
    for version in (V31, V311, V5):
        raw = session.connected(version, will=will(topic))
        raw.send(packet(0))
        raw.refused(0x81, 0x82)
        watcher.expect(topic, b"gone")


@suite.check("will-when-taken-over")
def taken_over(session):
    topic = session.topic()
    watcher = session.listener(topic)
    raw = session.connected(will=will(topic))
    session.connected(V5, raw.client_id)
    equal(raw.expect(DISCONNECT).code, 0x8E, "the code of DISCONNECT")
    watcher.expect(topic, b"gone")


@each_version("retained-will")
def retained(session, version):
    topic = session.topic()
    watcher = session.listener(topic, version=version)
    session.peer(version, will=will(topic, retain=True)).drop()
    watcher.expect(topic, b"gone", retain=False)
    session.listener(topic, version=version).expect(topic, b"gone", retain=True)


@suite.check("empty-retained-will-clears")
def clears(session):
    topic = session.topic()
    session.retain(session.peer(), topic)
    watcher = session.listener(topic)
    watcher.expect(topic, b"retained", retain=True)
    session.peer(will=will(topic, retain=True, payload=b"")).drop()
    watcher.expect(topic, b"", retain=False)
    late = session.listener(topic)
    session.peer().publish(topic, b"live")
    late.expect(topic, b"live", retain=False)


@suite.check("will-with-properties")
def with_properties(session):
    topic = session.topic()
    watcher = session.connected()
    watcher.subscribe((topic, 0))
    session.connected(will=will(topic, message_expiry_interval=1000, **PROPERTIES)).drop()
    message = watcher.expect(PUBLISH)
    left = message.properties.pop("message_expiry_interval")
    assert left in (999, 1000), left
    equal((message.payload, message.properties), (b"gone", PROPERTIES), "payload and properties")


@suite.check("will-with-a-large-payload")
def large(session):
    topic, body = session.topic(), bytes(range(256)) * 255
    watcher = session.listener(topic)
    session.connected(will=will(topic, payload=body)).drop()
    watcher.expect(topic, body)


@suite.check("a-new-will-replaces-the-old")
def replaced(session):
    topic = session.topic()
    watcher = session.listener(topic)
    raw = session.connected(clean=False, will=will(topic, payload=b"old"))
    raw.disconnect()
    session.connected(V5, raw.client_id, clean=False, will=will(topic, payload=b"new")).drop()
    watcher.expect(topic, b"new")
    session.connected(V5, raw.client_id, clean=False).drop()
    session.peer().publish(topic, b"fence")
    watcher.expect(topic, b"fence")


@suite.check("will-delay-needs-a-session")
def no_session(session):
    topic = session.topic()
    watcher = session.listener(topic)
    session.connected(will=will(topic, will_delay_interval=60)).drop()
    watcher.expect(topic, b"gone")


@together.check("will-at-the-end-of-keep-alive")
def keep_alive(session):
    topic = session.topic()
    watcher = session.listener(topic)
    session.connected(keep_alive=1, will=will(topic))
    watcher.expect(topic, b"gone")


@together.check("will-delay")
def delayed(session):
    topic = session.topic()
    watcher = session.listener(topic)
    raw = session.connected(clean=False, will=will(topic, will_delay_interval=2))
    start = time.monotonic()
    raw.drop()
    watcher.expect(topic, b"gone")
    took = time.monotonic() - start
    assert 1 <= took <= 4, f"the will came after {took:.1f} s"


@together.check("delayed-will-is-retained")
def delayed_retained(session):
    topic = session.topic()
    watcher = session.listener(topic)
    session.connected(clean=False, will=will(topic, retain=True, will_delay_interval=1)).drop()
    session._retained.add(topic)
    watcher.expect(topic, b"gone", retain=False)
    session.listener(topic).expect(topic, b"gone", retain=True)


@together.check("no-delayed-will-after-a-reconnect")
def reconnected(session):
    topic = session.topic()
    watcher = session.listener(topic)
    raw = session.connected(clean=False, will=will(topic, will_delay_interval=1))
    raw.drop()
    session.connected(V5, raw.client_id, clean=False).ping()
    time.sleep(2.5)
    session.peer().publish(topic, b"fence")
    watcher.expect(topic, b"fence")


@together.check("delayed-will-at-the-end-of-the-session")
def session_ends(session):
    topic = session.topic()
    watcher = session.listener(topic)
    session.connected(session_expiry_interval=1, will=will(topic, will_delay_interval=60)).drop()
    watcher.expect(topic, b"gone")


@suite.check("delayed-will-when-the-session-is-discarded")
def discarded(session):
    topic = session.topic()
    watcher = session.listener(topic)
    raw = session.connected(clean=False, will=will(topic, will_delay_interval=60))
    raw.drop()
    session.connected(V5, raw.client_id, clean=True)
    watcher.expect(topic, b"gone")


@suite.check("bad-will")
def bad(session):
    raw = session.raw()
    raw.send(raw.connect_packet(will=will("")))
    raw.refused(0x81, 0x82, 0x90)
    raw = session.raw()
    raw.send(wire.connect(V5, raw.client_id, will={"topic": "a", "qos": 3}))
    raw.refused(0x81, 0x82)
