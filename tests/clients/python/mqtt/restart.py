"""What outlives the broker. All checks share one restart."""

import time

from checks import equal, restart_broker, wait_until
from mqtt.publishing import PROPERTIES
from mqtt.session import FOR_EVER, VERSIONS, Session, numbered, suite
from mqtt.wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V311


class Restart:
    """Checks are generators that yield once: there the broker ends and comes back."""

    def __init__(self):
        self._checks, self._begun = {}, {}

    def check(self, name):
        def register(function):
            self._checks[name] = function
            suite.check(name, seconds=60)(lambda _session: self._judge(name))
            return function

        return register

    def _judge(self, name):
        if not self._begun:
            self._begin()
        session, check, failure = self._begun[name]
        if failure:
            raise failure
        try:
            next(check, None)
        finally:
            session.close()

    def _begin(self):
        for name, function in self._checks.items():
            if suite.wanted(name):
                session = Session()
                check = function(session)
                self._begun[name] = (session, check, attempt(lambda: next(check)))
        failure = attempt(restart_broker)
        if failure:
            self._begun = {name: (*begun[:2], failure) for name, begun in self._begun.items()}


def attempt(step):
    try:
        step()
        return None
    except Exception as failure:
        return failure


restart = Restart()


def for_version(label, version):
    @restart.check(f"restart-keeps-the-session-{label}")
    def session_and_messages(session):
        topic = session.topic()
        kept = session.kept(version)
        kept.subscribe((f"{topic}/1", 1), (f"{topic}/2", 2))
        kept.disconnect()
        publisher = session.peer(version)
        for number, body in enumerate(numbered(20)):
            publisher.publish(f"{topic}/{1 + number % 2}", body, qos=2)
        yield
        kept = session.kept(version, client_id=kept.client_id)
        if label != "v3.1":
            equal(kept.connack.present, True, "session present")
        messages = kept.take(20)
        for qos in (1, 2):
            mine = [message.payload for message in messages if message.qos == qos]
            equal(mine, numbered(20)[qos - 1 :: 2], f"the messages with QoS {qos}")
        session.peer(version).publish(f"{topic}/1", b"after the restart")
        kept.expect(f"{topic}/1", b"after the restart")

    @restart.check(f"restart-keeps-a-connected-session-{label}")
    def connected(session):
        topic = session.topic()
        raw = session.connected(version, clean=False)
        raw.subscribe((topic, 2))
        publisher = session.peer()
        for body in numbered(3):
            publisher.publish(topic, body, qos=2)
        first = raw.take(PUBLISH, 3)
        raw.exchange(PUBREC, first[0].mid, PUBREL)
        raw.ping()
        yield
        raw = session.connected(version, raw.client_id, clean=False)
        found = [raw.read() for _ in range(3)]
        equal({each.mid for each in found if each.kind == PUBREL}, {first[0].mid}, "the identifiers of PUBREL")
        again = [(each.mid, each.payload, each.dup) for each in found if each.kind == PUBLISH]
        equal(again, [(each.mid, each.payload, True) for each in first[1:]], "what is sent again")
        raw.ack(PUBCOMP, first[0].mid)
        raw.ping()


for one in VERSIONS.items():
    for_version(*one)


@restart.check("restart-and-a-publisher-between-pubrec-and-pubrel")
def half_published(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(topic, qos=2)
    kept.disconnect()
    raw = session.connected(V311, clean=False)
    raw.publish(topic, b"once", qos=2, mid=3)
    raw.expect(PUBREC)
    yield
    raw = session.connected(V311, raw.client_id, clean=False)
    raw.publish(topic, b"once", qos=2, mid=3, dup=True)
    raw.expect(PUBREC)
    raw.exchange(PUBREL, 3, PUBCOMP)
    kept = session.kept(client_id=kept.client_id)
    session.peer().publish(topic, b"fence", qos=2)
    equal(kept.payloads(2), [b"once", b"fence"], "what arrived")


@restart.check("restart-keeps-retained")
def retained(session):
    topic = session.topic()
    publisher = session.peer()
    session.retain(publisher, f"{topic}/kept", b"{}", **PROPERTIES)
    session.retain(publisher, f"{topic}/qos-0", b"0", qos=0)
    session.retain(publisher, f"{topic}/cleared")
    publisher.publish(f"{topic}/cleared", b"", retain=True)
    yield
    listener = session.connected()
    listener.subscribe((f"{topic}/kept", 1))
    message = listener.expect(PUBLISH)
    equal((message.payload, message.qos, message.retain), (b"{}", 1, True), "the retained message")
    equal(message.properties, PROPERTIES, "its properties")
    listener.ack(PUBACK, message.mid)
    listener.subscribe((f"{topic}/cleared", 1))
    session.peer().publish(f"{topic}/cleared", b"live")
    equal(listener.expect(PUBLISH).payload, b"live", "the next message")


@restart.check("restart-keeps-properties-and-options")
def properties(session):
    topic = session.topic()
    kept = session.connected(clean=False)
    kept.subscribe((topic, 1 | 8), subscription_identifier=5)
    kept.drop()
    session.retain(session.peer(), topic, b"before", message_expiry_interval=1000, **PROPERTIES)
    yield
    session.retain(session.peer(), topic, b"after", qos=1)
    kept = session.connected(V5, kept.client_id, clean=False)
    before, after = kept.take(PUBLISH, 2)
    left = before.properties.pop("message_expiry_interval")
    assert 900 < left <= 1000, f"of 1000 s are left {left}"
    equal(before.properties, PROPERTIES | {"subscription_identifier": [5]}, "the properties of the message before")
    equal(after.properties, {"subscription_identifier": [5]}, "the properties of the message after")
    equal((before.retain, after.retain), (True, True), "the retain flags")


@restart.check("restart-keeps-a-shared-subscription")
def shared(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(f"$share/group/{topic}", qos=1)
    kept.disconnect()
    session.peer().publish(topic, b"before")
    yield
    session.peer().publish(topic, b"after")
    equal(session.kept(client_id=kept.client_id).payloads(2), [b"before", b"after"], "the messages")


@restart.check("restart-lets-sessions-expire")
def sessions_expire(session):
    ends = session.peer(clean=False, session_expiry_interval=1)
    ends.subscribe("roadstead/none", qos=1)
    ends.disconnect()
    begun = time.monotonic()
    yield
    time.sleep(max(0, begun + 3.5 - time.monotonic()))
    equal(session.kept(client_id=ends.client_id).connack.present, False, "session present after its expiry")


@restart.check("restart-lets-messages-expire")
def messages_expire(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(topic, qos=1)
    kept.disconnect()
    publisher = session.peer()
    publisher.publish(topic, b"old", message_expiry_interval=1)
    publisher.publish(topic, b"lasting")
    begun = time.monotonic()
    yield
    time.sleep(max(0, begun + 3.5 - time.monotonic()))
    session.kept(client_id=kept.client_id).expect(topic, b"lasting")


@restart.check("restart-ends-a-clean-session")
def clean(session):
    client = session.peer(session_expiry_interval=0)
    client.subscribe("roadstead/none", qos=1)
    yield
    equal(session.kept(client_id=client.client_id).connack.present, False, "session present")


@restart.check("restart-keeps-a-delayed-will")
def delayed_will(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(topic, qos=1)
    will = {"topic": topic, "payload": b"gone", "qos": 1, "properties": {"will_delay_interval": 2}}
    session.connected(clean=False, session_expiry_interval=FOR_EVER, will=will).drop()
    yield
    session.kept(client_id=kept.client_id).expect(topic, b"gone")


@restart.check("restart-and-a-client-that-comes-back")
def comes_back(session):
    topic = session.topic()
    client = session.unconnected(V311)
    client.persist()
    wait_until(client.client.is_connected, 5, "the client is connected")
    client.subscribe(topic, qos=1)
    yield
    session.peer().publish(topic, b"after the restart")
    client.expect(topic, b"after the restart")
