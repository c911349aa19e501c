"""SUBSCRIBE and UNSUBSCRIBE: filters, options, identifiers and shared subscriptions."""

from checks import equal, wait_until
from mqtt import wire
from mqtt.address import EVENT_SECONDS
from mqtt.session import each_version, numbered, suite
from mqtt.wire import PUBACK, PUBLISH, SUBACK, UNSUBACK, V5, V31, V311

MATCHES = {
    "#": ["", "/", "a", "a/b", "a/b/c", "/a", "a/", "a//c"],
    "a/#": ["a", "a/b", "a/b/c", "a/", "a//c"],
    "a/b": ["a/b"],
    "a/+": ["a/b", "a/"],
    "+/b": ["a/b"],
    "a/+/c": ["a/b/c", "a//c"],
    "+": ["", "a"],
    "+/+": ["/", "a/b", "/a", "a/"],
    "/+": ["/", "/a"],
    "+/#": ["", "/", "a", "a/b", "a/b/c", "/a", "a/", "a//c"],
    "+/+/#": ["/", "a/b", "a/b/c", "/a", "a/", "a//c"],
}
TOPICS = MATCHES["#"]


@each_version("wildcards")
def wildcards(session, version):
    root, fence = session.topic("/"), session.topic()
    listeners = {each: session.listener(root + each, fence, version=version, qos=1) for each in MATCHES}
    publisher = session.peer(version)
    for topic in TOPICS:
        publisher.publish(root + topic, topic.encode())
    publisher.publish(fence, b"fence")
    for each, expected in MATCHES.items():
        got = [listeners[each].next().topic.removeprefix(root) for _ in [*expected, fence]]
        equal(got, [*expected, fence], f"what matches {each}")


@suite.check("filters-are-case-sensitive-and-exact")
def exact(session):
    root = session.topic("/")
    listener = session.listener(root + "Abc", root + "ä")
    publisher = session.peer()
    for topic in ("abc", "ABC", "Abcd", "Ab", "Abc/", "/Abc", "a", "a\u0308", "Abc"):
        publisher.publish(root + topic, topic.encode())
    listener.expect(root + "Abc", b"Abc")


@each_version("suback-codes")
def suback_codes(session, version):
    topic = session.topic()
    peer = session.peer(version)
    equal(peer.subscribe((f"{topic}/0", 0), (f"{topic}/2", 2), (f"{topic}/1", 1)), [0, 2, 1], "the codes of SUBACK")


@suite.check("unsuback-codes")
def unsuback_codes(session):
    topic = session.topic()
    peer = session.peer()
    peer.subscribe(f"{topic}/a", f"{topic}/+")
    equal(peer.unsubscribe(f"{topic}/none", f"{topic}/a", f"{topic}/b", f"{topic}/+"), [0x11, 0, 0x11, 0], "the codes")
    equal(peer.unsubscribe(f"{topic}/a"), [0x11], "the codes at the second time")


@each_version("unsubscribe")
def unsubscribe(session, version):
    topic = session.topic()
    listener = session.listener(f"{topic}/a", f"{topic}/b", version=version)
    publisher = session.peer(version)
    publisher.publish(f"{topic}/a", b"1")
    listener.expect(f"{topic}/a", b"1")
    listener.unsubscribe(f"{topic}/a", f"{topic}/+")
    publisher.publish(f"{topic}/a", b"2")
    publisher.publish(f"{topic}/b", b"3")
    listener.expect(f"{topic}/b", b"3")


BAD_FILTERS = [b"", b"a#", b"a/#/b", b"#/a", b"a+", b"+a/b", b"a/b+", b"##", b"++"]
BAD_SHARES = [b"$share", b"$share/g", b"$share/g/", b"$share//a", b"$share/g+/a", b"$share/#/a"]


@each_version("bad-filters")
def bad_filters(session, version):
    refused_filters(session, version, BAD_FILTERS)


@suite.check("bad-shared-filters")
def bad_shared_filters(session):
    refused_filters(session, V5, BAD_SHARES)


def refused_filters(session, version, filters):
    accepted = []
    for each in filters:
        raw = session.connected(version)
        raw.send(wire.subscribe(version, 7, (each, 0)))
        answer = raw.read()
        if answer and answer.kind == SUBACK and answer.codes[0] < 0x80:
            accepted.append(each)
        elif answer and answer.kind == SUBACK:
            raw.ping()
    equal(accepted, [], "filters that were accepted")


@suite.check("a-new-subscription-replaces-the-same-filter")
def replaces(session):
    topic = session.topic()
    listener = session.connected()
    publisher = session.peer()
    equal(listener.subscribe((topic, 2), subscription_identifier=5), [2], "the first code")
    equal(listener.subscribe((topic, 0)), [0], "the second code")
    publisher.publish(topic, b"1", qos=2)
    message = listener.expect(PUBLISH)
    equal((message.qos, message.properties), (0, {}), "QoS and properties")
    listener.subscribe((topic, 1), subscription_identifier=6)
    publisher.publish(topic, b"2", qos=2)
    message = listener.expect(PUBLISH)
    equal((message.payload, message.qos), (b"2", 1), "payload and QoS")
    equal(message.properties, {"subscription_identifier": [6]}, "the properties")
    listener.ping()


@suite.check("the-same-filter-twice-in-one-packet")
def same_filter_twice(session):
    topic = session.topic()
    listener = session.connected(V311)
    equal(listener.subscribe((topic, 2), (topic, 0)), [2, 0], "the codes")
    session.peer().publish(topic, b"x", qos=1)
    equal(listener.expect(PUBLISH).qos, 0, "QoS")
    listener.ping()


@suite.check("overlapping-subscriptions-v3.1.1")
def overlapping(session):
    topic = session.topic()
    listener = session.listener((f"{topic}/#", 0), (f"{topic}/+", 2), (f"{topic}/a", 1), version=V311)
    publisher = session.peer(V311)
    publisher.publish(f"{topic}/a", b"x", qos=2)
    publisher.publish(f"{topic}/b/c", b"end", qos=2)
    levels = []
    while (message := listener.next()).payload == b"x":
        levels.append(message.qos)
    equal(max(levels), 2, "the highest QoS of the messages")
    assert len(levels) <= 3, f"there were {len(levels)} messages"


@suite.check("subscription-identifiers")
def identifiers(session):
    topic = session.topic()
    listener = session.connected()
    numbers = {"a": 1, "b": 127, "c": 128, "d": 16_384, "e": 2_097_152, "f": 268_435_455}
    for name, number in numbers.items():
        equal(listener.subscribe((f"{topic}/{name}", 0), subscription_identifier=number), [0], "the codes")
    publisher = session.peer()
    for name, number in numbers.items():
        publisher.publish(f"{topic}/{name}", b"x")
        equal(listener.expect(PUBLISH).properties, {"subscription_identifier": [number]}, "the properties")


@suite.check("one-identifier-for-several-filters")
def one_identifier(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((f"{topic}/a", 0), (f"{topic}/b", 0), subscription_identifier=9)
    for name in ("a", "b"):
        session.peer().publish(f"{topic}/{name}", b"x")
        equal(listener.expect(PUBLISH).properties, {"subscription_identifier": [9]}, "the properties")


@suite.check("identifiers-of-overlapping-subscriptions")
def overlapping_identifiers(session):
    topic = session.topic()
    listener = session.connected()
    for number, each in enumerate([f"{topic}/#", f"{topic}/+", f"{topic}/a"], 1):
        listener.subscribe((each, 0), subscription_identifier=number)
    listener.subscribe((f"{topic}/a/#", 0))
    publisher = session.peer()
    publisher.publish(f"{topic}/a", b"x")
    publisher.publish(f"{topic}/b/c", b"end")
    found = []
    while (message := listener.expect(PUBLISH)).payload == b"x":
        found += message.properties.get("subscription_identifier", [])
    equal(sorted(found), [1, 2, 3], "the identifiers of all copies")


@suite.check("no-local")
def no_local(session):
    topic = session.topic()
    peer, other = session.peer(), session.peer()
    peer.subscribe(topic, qos=1, noLocal=True)
    session.listener(topic)
    peer.publish(topic, b"own")
    other.publish(topic, b"of another")
    peer.expect(topic, b"of another")


@suite.check("a-new-subscription-replaces-no-local")
def replaces_no_local(session):
    topic = session.topic()
    peer = session.peer()
    peer.subscribe(topic, qos=1, noLocal=True)
    peer.subscribe(topic, qos=1)
    peer.publish(topic, b"own")
    peer.expect(topic, b"own")


@suite.check("no-local-lasts-over-a-reconnect")
def no_local_lasts(session):
    topic = session.topic()
    peer = session.kept()
    peer.subscribe(topic, qos=1, noLocal=True)
    peer.disconnect()
    peer = session.kept(client_id=peer.client_id)
    peer.publish(topic, b"own")
    session.peer().publish(topic, b"of another")
    peer.expect(topic, b"of another")


@suite.check("thousands-of-subscriptions")
def thousands(session):
    topic, count = session.topic(), 5000
    kept = session.kept(V311)
    for start in range(0, count, 500):
        names = [f"{topic}/{number}/+" for number in range(start, start + 500)]
        equal(kept.subscribe(*names, qos=1), [1] * 500, "the codes of SUBACK")
    publisher = session.peer()
    picked = [f"{topic}/{number}/x" for number in range(0, count, 50)]
    for each in picked:
        publisher.send(each, each.encode(), qos=1)
    equal({message.topic for message in kept.take(100)}, set(picked), "the messages")
    kept.disconnect()
    for each in picked:
        publisher.publish(each, each.encode())
    kept = session.kept(V311, client_id=kept.client_id)
    equal({message.topic for message in kept.take(100)}, set(picked), "the messages after a reconnect")
    kept.unsubscribe(*(f"{topic}/{number}/+" for number in range(1, count)))
    publisher.publish(f"{topic}/{count - 1}/x", b"not any more")
    publisher.publish(f"{topic}/0/x", b"still")
    kept.expect(f"{topic}/0/x", b"still")


# Shared subscriptions


def shared_members(session, name, topic, count, version=V5):
    return [session.listener(f"$share/{name}/{topic}", version=version, qos=1) for _ in range(count)]


def collect(members, count):
    """What each member got, when together they have got `count` messages."""
    got = [[] for _ in members]

    def all_there():
        for mine, member in zip(got, members):
            while not member.messages.empty():
                mine.append(member.next().payload)
        return sum(map(len, got)) >= count

    wait_until(all_there, EVENT_SECONDS, f"the group has {count} messages")
    return got


@each_version("shared-subscription")
def shared(session, version):
    topic = session.topic()
    group = shared_members(session, "group", f"{topic}/+", 3, version)
    other = shared_members(session, "other", f"{topic}/#", 1, version)[0]
    alone = session.listener(f"{topic}/+", version=version, qos=1)
    publisher = session.peer(version)
    for number, body in enumerate(numbered(90)):
        publisher.send(f"{topic}/{number % 5}", body, qos=1)
    expected = sorted(numbered(90))
    got = collect(group, 90)
    equal(sorted(sum(got, [])), expected, "what the group got")
    assert all(len(each) >= 10 for each in got), f"the members got {[len(each) for each in got]} messages"
    equal(sorted(other.payloads(90)), expected, "what the other group got")
    equal(sorted(alone.payloads(90)), expected, "what the ordinary subscriber got")


@suite.check("shared-subscription-member-leaves")
def shared_member_leaves(session):
    topic = session.topic()
    stays, leaves, ends = shared_members(session, "group", topic, 3)
    leaves.unsubscribe(f"$share/group/{topic}")
    ends.disconnect()
    publisher = session.peer()
    for body in numbered(10):
        publisher.publish(topic, body)
    equal(stays.payloads(10), numbered(10), "what the last member got")
    leaves.empty()


@suite.check("shared-subscription-and-offline-members")
def shared_offline(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(f"$share/group/{topic}", qos=1)
    online = shared_members(session, "group", topic, 1)[0]
    kept.disconnect()
    publisher = session.peer()
    for body in numbered(10):
        publisher.publish(topic, body)
    again = session.kept(client_id=kept.client_id)
    equal(sorted(sum(collect([online, again], 10), [])), numbered(10), "the messages of both members")


@suite.check("shared-subscription-alone-offline-keeps-its-messages")
def shared_alone_offline(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(f"$share/group/{topic}", qos=1)
    kept.disconnect()
    publisher = session.peer()
    for body in numbered(5):
        publisher.publish(topic, body)
    equal(session.kept(client_id=kept.client_id).payloads(5), numbered(5), "what the session got")


@suite.check("shared-subscription-gets-no-retained")
def shared_retained(session):
    topic = session.topic()
    publisher = session.peer()
    session.retain(publisher, topic)
    member = shared_members(session, "group", topic, 1)[0]
    publisher.publish(topic, b"live")
    member.expect(topic, b"live", retain=False)


@suite.check("shared-subscription-identifier")
def shared_identifier(session):
    topic = session.topic()
    listener = session.connected()
    listener.subscribe((f"$share/group/{topic}", 1), subscription_identifier=3)
    listener.subscribe((topic, 1), subscription_identifier=4)
    session.peer().publish(topic, b"x")
    found = []
    while len(found) < 2:
        message = listener.expect(PUBLISH)
        found += message.properties["subscription_identifier"]
        listener.ack(PUBACK, message.mid)
    equal(sorted(found), [3, 4], "the identifiers")


@suite.check("shared-qos-2-in-flight-stays-with-its-session")
def shared_qos_2(session):
    topic = session.topic()
    first = session.connected(clean=False)
    first.subscribe((f"$share/group/{topic}", 2))
    publisher = session.peer()
    publisher.publish(topic, b"begun", qos=2)
    message = first.expect(PUBLISH)
    first.exchange(wire.PUBREC, message.mid, wire.PUBREL)
    first.drop()
    second = session.listener(f"$share/group/{topic}")
    again = session.connected(V5, first.client_id, clean=False)
    equal(again.expect(wire.PUBREL).mid, message.mid, "the packet identifier of PUBREL")
    again.ack(wire.PUBCOMP, message.mid)
    again.send(wire.unsubscribe(V5, 9, f"$share/group/{topic}"))
    equal(again.expect(UNSUBACK).codes, [0], "the codes")
    publisher.publish(topic, b"next", qos=2)
    second.expect(topic, b"next")


@suite.check("unsubscribe-completes-what-was-begun")
def unsubscribe_completes(session):
    topic = session.topic()
    listener = session.connected(V31)
    listener.subscribe((topic, 2))
    session.peer().publish(topic, b"begun", qos=2)
    message = listener.expect(PUBLISH)
    listener.send(wire.unsubscribe(V31, 9, topic))
    equal(listener.expect(UNSUBACK).mid, 9, "the packet identifier of UNSUBACK")
    listener.exchange(wire.PUBREC, message.mid, wire.PUBREL)
    listener.ack(wire.PUBCOMP, message.mid)
    listener.ping()
