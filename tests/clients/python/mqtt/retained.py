"""Retained messages, and the options of a subscription that are about them."""

from checks import equal
from mqtt.publishing import PROPERTIES
from mqtt.session import each_version, suite
from mqtt.wire import PUBACK, PUBLISH


@each_version("retained")
def retained(session, version):
    topic = session.topic()
    publisher, live = session.peer(version), session.listener(topic, version=version)
    for qos in range(3):
        body = b"retained with QoS %d" % qos
        session.retain(publisher, topic, body, qos)
        live.expect(topic, body, qos=qos, retain=False)
        late = session.listener(topic, version=version)
        late.expect(topic, body, qos=qos, retain=True)
        late.close()


@each_version("retained-cleared-by-an-empty-payload")
def cleared(session, version):
    topic = session.topic()
    publisher, live = session.peer(version), session.listener(f"{topic}/+", version=version)
    for name in ("a", "b"):
        session.retain(publisher, f"{topic}/{name}")
        live.expect(f"{topic}/{name}", b"retained")
    publisher.publish(f"{topic}/a", b"", retain=True)
    live.expect(f"{topic}/a", b"", retain=False)
    late = session.listener(f"{topic}/+", version=version)
    late.expect(f"{topic}/b", b"retained", retain=True)
    publisher.publish(f"{topic}/a", b"live")
    late.expect(f"{topic}/a", b"live", retain=False)


@suite.check("retained-is-the-last-one")
def the_last_one(session):
    topic = session.topic()
    publisher = session.peer()
    for body in (b"1", b"2", b"3"):
        session.retain(publisher, topic, body)
    publisher.publish(topic, b"not retained")
    late = session.listener(topic)
    late.expect(topic, b"3", retain=True)
    publisher.publish(topic, b"live")
    late.expect(topic, b"live", retain=False)


@suite.check("retained-outlives-its-publisher")
def outlives(session):
    topic = session.topic()
    publisher = session.peer()
    session.retain(publisher, topic)
    publisher.drop()
    session.listener(topic).expect(topic, b"retained", retain=True)


@suite.check("retained-and-wildcards")
def wildcards(session):
    root = session.topic()
    publisher = session.peer()
    names = ["", "/", "/a", "/a/b", "/a/b/c", "/.a", "/b/b"]
    for name in names:
        session.retain(publisher, root + name, b"of " + name.encode())
    matching = {
        "/#": names,
        "/+/b": ["/a/b", "/b/b"],
        "/+": ["/", "/a", "/.a"],
        "/a/#": ["/a", "/a/b", "/a/b/c"],
        "/a/+/c": ["/a/b/c"],
        "": [""],
    }
    for each, expected in matching.items():
        listener = session.listener(root + each)
        messages = listener.take(len(expected))
        got = {message.payload.decode() for message in messages}
        equal(got, {f"of {name}" for name in expected}, f"what is retained for {each}")
        equal({message.retain for message in messages}, {True}, "the retain flags")
        listener.empty()


@suite.check("retained-for-every-filter-of-a-packet")
def every_filter(session):
    topic = session.topic()
    publisher = session.peer()
    for name in ("a", "b"):
        session.retain(publisher, f"{topic}/{name}", name.encode())
    listener = session.listener(f"{topic}/a", f"{topic}/b")
    equal(sorted(listener.payloads(2)), [b"a", b"b"], "the messages")


@suite.check("many-retained")
def many(session):
    root, count = session.topic(), 1000
    publisher = session.peer()
    topics = [f"{root}/{number}" for number in range(count)]
    for topic in topics[:-1]:
        publisher.send(topic, topic.encode(), qos=1, retain=True)
    session.retain(publisher, topics[-1], topics[-1].encode())
    session._retained.update(topics)
    got = {message.topic: message.payload for message in session.listener(f"{root}/+", qos=0).take(count)}
    equal(got, {topic: topic.encode() for topic in topics}, "what is retained")


@suite.check("retained-keeps-its-properties")
def keeps_properties(session):
    topic = session.topic()
    session.retain(session.peer(), topic, b"{}", **PROPERTIES)
    listener = session.connected()
    listener.subscribe((topic, 1), subscription_identifier=12)
    message = listener.expect(PUBLISH)
    listener.ack(PUBACK, message.mid)
    equal(message.properties, PROPERTIES | {"subscription_identifier": [12]}, "the properties")


@suite.check("retain-handling")
def handling(session):
    topic = session.topic()
    publisher = session.peer()
    session.retain(publisher, topic)
    expected = {0: [True, True], 1: [True, False], 2: [False, False]}
    for value, retained_comes in expected.items():
        listener = session.peer()
        for comes in retained_comes:
            listener.subscribe(topic, qos=1, retainHandling=value)
            if comes:
                listener.expect(topic, b"retained", retain=True)
            publisher.publish(topic, b"live")
            listener.expect(topic, b"live", retain=False)


@suite.check("subscribing-again-sends-retained-again-v3.1.1")
def again_v311(session):
    topic = session.topic()
    session.retain(session.peer(), topic)
    listener = session.listener(topic, version=4)
    listener.subscribe(topic)
    for _ in range(2):
        listener.expect(topic, b"retained", retain=True)


@suite.check("retain-as-published")
def as_published(session):
    topic = session.topic()
    publisher = session.peer()
    keeps, drops = session.peer(), session.peer()
    keeps.subscribe(topic, qos=1, retainAsPublished=True)
    drops.subscribe(topic, qos=1)
    for retain in (True, False):
        session.retain(publisher, topic) if retain else publisher.publish(topic, b"retained")
        keeps.expect(topic, b"retained", retain=retain)
        drops.expect(topic, b"retained", retain=False)
    late = session.peer()
    late.subscribe(topic, qos=1, retainAsPublished=True)
    late.expect(topic, b"retained", retain=True)


@suite.check("retained-then-live-each-once")
def once(session):
    topic = session.topic()
    publisher = session.peer()
    session.retain(publisher, topic, b"%d" % 0)
    listener = session.listener(topic)
    for number in range(1, 20):
        session.retain(publisher, topic, b"%d" % number)
    equal(listener.payloads(20), [b"%d" % number for number in range(20)], "the messages")
    listener.empty()
