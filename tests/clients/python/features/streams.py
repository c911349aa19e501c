"""Streams: messages that stay, and readers that each go at their own pace."""

import datetime

import pika

from checks import equal, wait_until
from pika_session import (
    Inbox,
    VHOST,
    channel_refused,
    connection_refused,
    numbered,
    publish,
    ready,
    suite,
    synchronise,
)

STREAM = {"x-queue-type": "stream"}


def stream(session, channel, bodies=(), **arguments):
    """A new stream with these messages, each with a confirm."""
    channel.confirm_delivery()
    name = session.queue(channel, **STREAM, **arguments)
    for body in bodies:
        publish(channel, name, body)
    return name


def read(session, name, count, offset=None, **arguments):
    """What a new consumer gets: pairs of offset and body."""
    channel = session.channel()
    channel.basic_qos(prefetch_count=100)
    inbox = Inbox(channel)
    if offset is not None:
        arguments["x-stream-offset"] = offset
    inbox.consume(name, "reader", arguments=arguments)
    got = offsets_and_bodies(inbox.take(count))
    synchronise(channel)
    equal(offsets_and_bodies(inbox.deliveries), [], "deliveries beyond those expected")
    channel.close()
    return got


def offsets_and_bodies(deliveries):
    return [(properties.headers["x-stream-offset"], body) for _, properties, body in deliveries]


def all_of(count, start=0):
    return list(enumerate(numbered(count)))[start:]


@suite.check("offsets-of-a-stream")
def offsets(session):
    channel = session.channel()
    name = stream(session, channel, numbered(5))
    wait_until(lambda: ready(channel, name) == 5, 5, "the stream holds them")
    now = datetime.datetime.now(datetime.timezone.utc)
    cases = [("first", 0), (0, 0), (3, 3), ("1h", 0), (now - datetime.timedelta(hours=1), 0)]
    for offset, start in cases:
        equal(read(session, name, 5 - start, offset), all_of(5, start), f"from {offset}")
    equal(read(session, name, 0, "next"), [], "from next")
    equal(read(session, name, 0), [], "without an offset")


@suite.check("the-last-of-a-stream")
def last(session):
    channel = session.channel()
    name = stream(session, channel, numbered(3))
    reader = session.channel()
    reader.basic_qos(prefetch_count=100)
    inbox = Inbox(reader)
    inbox.consume(name, "reader", arguments={"x-stream-offset": "last"})
    got = inbox.take(1)
    while offsets_and_bodies(got)[-1][0] < 2:  # RabbitMQ begins with the last chunk
        got += inbox.take(1)
    equal(offsets_and_bodies(got)[-1], (2, b"m2"))


@suite.check("a-stream-from-next-on")
def from_next(session):
    channel = session.channel()
    name = stream(session, channel, numbered(2))
    readers = []
    for arguments in ({"x-stream-offset": "next"}, {}, {"x-stream-offset": 3}):
        reader = session.channel()
        reader.basic_qos(prefetch_count=10)
        readers.append(Inbox(reader))
        readers[-1].consume(name, "reader", arguments=arguments)
    for body in (b"two", b"three"):
        publish(channel, name, body)
    for reader, expected in zip(readers, ([(2, b"two"), (3, b"three")],) * 2 + ([(3, b"three")],), strict=True):
        equal(offsets_and_bodies(reader.take(len(expected))), expected)


@suite.check("a-stream-from-a-time-on")
def from_a_time(session):
    channel = session.channel()
    name = stream(session, channel, [b"before"])
    channel.connection.sleep(1.1)  # a timestamp counts seconds
    now = datetime.datetime.now(datetime.timezone.utc)
    publish(channel, name, b"after")
    equal(read(session, name, 1, now), [(1, b"after")], "from a timestamp")
    equal(read(session, name, 2, now - datetime.timedelta(days=1)), [(0, b"before"), (1, b"after")], "from yesterday")


@suite.check("many-read-one-stream")
def many_readers(session):
    channel = session.channel()
    name = stream(session, channel, numbered(100))
    for _ in range(3):
        equal(read(session, name, 100, "first"), all_of(100))
    left, right = session.channel(), session.channel()
    inboxes = []
    for reader in (left, right):
        reader.basic_qos(prefetch_count=200)
        inboxes.append(Inbox(reader))
        inboxes[-1].consume(name, "reader", arguments={"x-stream-offset": "first"})
    publish(channel, name, b"new")
    for inbox in inboxes:
        equal(offsets_and_bodies(inbox.take(101)), all_of(100) + [(100, b"new")])
    wait_until(lambda: ready(channel, name) == 101, 5, "all are still there")


@suite.check("an-ack-is-credit-for-a-stream")
def credit(session):
    channel = session.channel()
    name = stream(session, channel, numbered(6))
    reader = session.channel()
    reader.basic_qos(prefetch_count=2)
    inbox = Inbox(reader)
    inbox.consume(name, "reader", arguments={"x-stream-offset": "first"})
    got = inbox.take(2)
    synchronise(channel)
    equal(inbox.deliveries, [], "deliveries over the prefetch")
    reader.basic_ack(got[1][0].delivery_tag, multiple=True)
    got += inbox.take(2)
    reader.basic_nack(got[3][0].delivery_tag, multiple=True, requeue=True)
    got += inbox.take(2)
    equal(offsets_and_bodies(got), all_of(6))
    equal({method.redelivered for method, _, _ in got}, {False}, "redelivered")


@suite.check("filters-of-a-stream")
def filters(session):
    channel = session.channel()
    name = stream(session, channel)
    for colour in ("red", "blue", None, "green", "red"):
        headers = {} if colour is None else {"x-stream-filter-value": colour}
        publish(channel, name, str(colour).encode(), headers=headers)
    cases = [
        ({"x-stream-filter": "red"}, [(0, b"red"), (4, b"red")]),
        ({"x-stream-filter": ["blue", "green"]}, [(1, b"blue"), (3, b"green")]),
        ({"x-stream-filter": "blue", "x-stream-match-unfiltered": True}, [(1, b"blue"), (2, b"None")]),
    ]
    for arguments, expected in cases:
        # RabbitMQ leaves out chunks, and a chunk may hold others too.
        reader = session.channel()
        reader.basic_qos(prefetch_count=10)
        inbox = Inbox(reader)
        inbox.consume(name, "reader", arguments=arguments | {"x-stream-offset": "first"})
        got = []
        while got[-1:] != expected[-1:]:
            got += offsets_and_bodies(inbox.take(1))
        equal(got, expected, f"with {arguments}")


@suite.check("a-stream-forgets-by-size")
def by_size(session):
    channel = session.channel()
    limits = {"x-max-length-bytes": 100_000, "x-stream-max-segment-size-bytes": 20_000}
    name = stream(session, channel, [bytes(5_000)] * 60 + [b"newest"], **limits)
    wait_until(lambda: first_offset(session, name) > 0, 5, "the oldest have gone")
    reader = session.channel()
    reader.basic_qos(prefetch_count=100)
    inbox = Inbox(reader)
    inbox.consume(name, "reader", arguments={"x-stream-offset": "first"})
    while inbox.take(1)[0][2] != b"newest":
        pass


def first_offset(session, name):
    channel = session.channel()
    channel.basic_qos(prefetch_count=1)
    inbox = Inbox(channel)
    inbox.consume(name, "reader", arguments={"x-stream-offset": "first"})
    offset, _ = offsets_and_bodies(inbox.take(1))[0]
    channel.close()
    return offset


@suite.check("what-a-stream-refuses")
def refusals(session):
    connection = session.connect()
    name = stream(session, connection.channel())
    about = f"queue '{name}' in vhost '{VHOST}'"
    with channel_refused(406, f"PRECONDITION_FAILED - consumer prefetch count is not set for stream {about}"):
        connection.channel().basic_consume(name, lambda *_: None)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1)
    text = f"NOT_IMPLEMENTED - automatic acknowledgement not supported by stream {about}"
    with connection_refused(540, text):
        channel.basic_consume(name, lambda *_: None, auto_ack=True)
    with connection_refused(540, f"NOT_IMPLEMENTED - basic.get not supported by stream queues {about}"):
        session.channel().basic_get(name)


@suite.check("an-exchange-feeds-a-stream")
def from_an_exchange(session):
    channel = session.channel()
    exchange = session.exchange(channel, "topic")
    name = stream(session, channel)
    channel.queue_bind(name, exchange, "plant.#")
    properties = pika.BasicProperties(headers={"number": 7}, message_id="m", content_type="text/plain")
    channel.basic_publish(exchange, "plant.seven", b"body", properties, mandatory=True)
    reader = session.channel()
    reader.basic_qos(prefetch_count=1)
    inbox = Inbox(reader)
    inbox.consume(name, "reader", arguments={"x-stream-offset": "first"})
    method, got, body = inbox.take(1)[0]
    equal((method.exchange, method.routing_key, body), (exchange, "plant.seven", b"body"))
    equal((got.headers, got.message_id, got.content_type), ({"number": 7, "x-stream-offset": 0}, "m", "text/plain"))
