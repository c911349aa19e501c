"""`$SYS`: what mosquitto's users know of their broker."""

from checks import equal
from mqtt import wire
from mqtt.session import suite
from mqtt.wire import V5, V311


@suite.check("sys-topics")
def sys_topics(session):
    watcher = session.peer(V311)
    watcher.subscribe("$SYS/broker/version", "$SYS/broker/clients/+", "$SYS/broker/uptime")
    found = {}
    while not {"version", "uptime", "clients/connected", "clients/total", "clients/maximum"} <= found.keys():
        message = watcher.next()
        assert message.retain, f"{message.topic} is not marked as retained"
        found[message.topic.removeprefix("$SYS/broker/")] = message.payload.decode()
    assert " version " in found["version"], f"no version: {found}"
    assert found["uptime"].endswith(" seconds"), f"no uptime: {found}"
    connected, total = int(found["clients/connected"]), int(found["clients/total"])
    assert 1 <= connected <= total, f"the numbers of clients do not agree: {found}"
    assert int(found["clients/maximum"]) >= connected, f"the numbers of clients do not agree: {found}"


@suite.check("sys-topics-count-messages")
def sys_counts(session):
    topic = session.topic()
    received = "$SYS/broker/publish/messages/received"

    def count():
        watcher = session.peer()
        watcher.subscribe(received)
        return int(watcher.next().payload)

    before = count()
    publisher = session.peer()
    for number in range(10):
        publisher.publish(topic, str(number).encode(), qos=1)
    assert count() >= before + 10, "the messages were not counted"


@suite.check("sys-topics-are-not-for-wildcards")
def sys_hidden(session):
    fence = session.topic()
    listener = session.listener("#", "+/broker/#", fence)
    watcher = session.peer()
    watcher.subscribe("$SYS/#")
    watcher.next()
    session.peer().publish(fence, b"fence")
    while (message := listener.next()).topic != fence:
        assert not message.topic.startswith("$"), f"a wildcard matches {message.topic}"
    equal(message.payload, b"fence", "the last message")


@suite.check("nobody-publishes-to-sys-topics")
def sys_protected(session):
    publisher = session.connected()
    publisher.send(wire.publish(V5, "$SYS/broker/version", b"forged", 1, 1, retain=True))
    publisher.read()
    watcher = session.peer()
    watcher.subscribe("$SYS/broker/version")
    assert b" version " in watcher.next().payload, "a client has changed what the broker says of itself"
