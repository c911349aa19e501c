"""Types of exchanges beyond the four of the protocol."""

import time

import pika
from pika.exceptions import AMQPError

from checks import Skipped, equal, wait_until
from pika_session import (
    VHOST,
    channel_refused,
    consume,
    drain,
    get_empty,
    is_rabbitmq,
    not_in_rabbitmq,
    numbered,
    ready,
    suite,
    synchronise,
)

KEYS = [f"key-{number}" for number in range(300)]


def bound(session, channel, exchange, *bindings):
    """A new queue for each of the binding keys."""
    queues = []
    for key in bindings:
        queues.append(session.queue(channel))
        channel.queue_bind(queues[-1], exchange, key)
    return queues


def spread(channel, exchange, queues, keys=KEYS, **properties):
    """Publishes once for each key, and returns which keys each queue got."""
    channel.confirm_delivery()
    for key in keys:
        channel.basic_publish(exchange, key, key.encode(), pika.BasicProperties(**properties), mandatory=True)
    got = [{body.decode() for body in drain(channel, queue)} for queue in queues]
    equal(sum(map(len, got)), len(set(keys)), "messages, each in one queue")
    return got


@suite.check("consistent-hash-exchange")
def consistent_hash(session):
    channel = session.channel()
    exchange = session.exchange(channel, "x-consistent-hash", durable=True)
    queues = bound(session, channel, exchange, "1", "3")
    light, heavy = spread(channel, exchange, queues)
    assert 30 < len(light) < 130, f"{len(light)} of 300 went to the queue of weight 1 of 4"
    equal(spread(channel, exchange, queues), [light, heavy], "the same keys again")


@suite.check("consistent-hash-moves-few-keys")
def consistent_hash_moves(session):
    channel = session.channel()
    exchange = session.exchange(channel, "x-consistent-hash", durable=True)
    queues = bound(session, channel, exchange, "2", "2")
    before = spread(channel, exchange, queues)
    queues += bound(session, channel, exchange, "2")
    after = spread(channel, exchange, queues)
    for old, new in zip(before, after, strict=False):
        equal(new - old, set(), "keys that moved between queues that stay")
    assert after[2], "the new queue got nothing"
    channel.queue_delete(queues.pop())
    equal(spread(channel, exchange, queues), before, "the keys when the new queue has gone")


@suite.check("consistent-hash-by-header-and-property")
def consistent_hash_by(session):
    channel = session.channel()
    for arguments, properties in (
        ({"hash-header": "customer"}, {"headers": {"customer": "c1"}}),
        ({"hash-property": "correlation_id"}, {"correlation_id": "c1"}),
    ):
        exchange = session.exchange(channel, "x-consistent-hash", arguments=arguments)
        got = spread(channel, exchange, bound(session, channel, exchange, "1", "1"), **properties)
        equal(sorted(map(len, got)), [0, 300], f"messages by {arguments}")


@suite.check("consistent-hash-refuses-a-weight-that-is-none")
def consistent_hash_refuses(session):
    connection = session.connect()
    channel = connection.channel()
    exchange = session.exchange(channel, "x-consistent-hash")
    queue = session.queue(channel)
    with channel_refused(406, 'PRECONDITION_FAILED - The binding key must be an integer: <<"heavy">>'):
        connection.channel().queue_bind(queue, exchange, "heavy")
    with channel_refused(406, "PRECONDITION_FAILED - The binding key must be greater than 0"):
        connection.channel().queue_bind(queue, exchange, "0")


@suite.check("modulus-hash-exchange")
def modulus_hash(session):
    channel = session.channel()
    exchange = session.exchange(channel, "x-modulus-hash", durable=True)
    queues = bound(session, channel, exchange, "a", "b", "c")
    got = spread(channel, exchange, queues)
    assert all(len(keys) > 40 for keys in got), [len(keys) for keys in got]
    equal(spread(channel, exchange, queues), got, "the same keys again")


@suite.check("random-exchanges")
def random_exchanges(session):
    channel = session.channel()
    for kind in ("x-random", "x-local-random"):
        exchange = session.exchange(channel, kind)
        got = spread(channel, exchange, bound(session, channel, exchange, "", "", ""))
        assert all(len(keys) > 40 for keys in got), [len(keys) for keys in got]


@suite.check("local-random-refuses-quorum-queues")
def local_random(session):
    channel = session.channel()
    exchange = session.exchange(channel, "x-local-random")
    queue = session.queue(channel, **{"x-queue-type": "quorum"})
    text = "Queue type rabbit_quorum_queue not valid for this exchange type"
    with channel_refused(406, f"PRECONDITION_FAILED - {text}"):
        channel.queue_bind(queue, exchange, "")


@suite.check("recent-history-exchange")
def recent_history(session):
    channel = session.channel()
    channel.confirm_delivery()
    exchange = session.exchange(channel, "x-recent-history", arguments={"x-recent-history-length": 3})
    for body in numbered(5):
        channel.basic_publish(exchange, "any", body)
    secret = pika.BasicProperties(headers={"x-recent-history-no-store": True})
    channel.basic_publish(exchange, "any", b"secret", secret)
    [queue] = bound(session, channel, exchange, "")
    wait_until(lambda: ready(channel, queue) == 3, 5, "the history is there")
    equal(sorted(drain(channel, queue)), [b"m2", b"m3", b"m4"], "what a new queue gets")
    channel.basic_publish(exchange, "any", b"new")
    equal(drain(channel, queue), [b"new"])


@suite.check("jms-topic-exchange")
def jms_topic(session):
    channel = session.channel()
    not_in_rabbitmq(channel, "selectors as text")
    exchange = session.exchange(channel, "x-jms-topic", durable=True)
    selectors = ["colour = 'red' AND size > 3", "colour LIKE 'r%' OR JMSPriority >= 7", "size BETWEEN 1 AND 2", None]
    queues = []
    for selector in selectors:
        queues.append(session.queue(channel))
        channel.queue_bind(queues[-1], exchange, "topic", {"x-jms-selector": selector} if selector else None)
    channel.confirm_delivery()
    for body, headers, priority in (
        (b"large red", {"colour": "red", "size": 4}, 4),
        (b"small rose", {"colour": "rose", "size": 2}, 4),
        (b"urgent", {}, 9),
        (b"plain", {}, 4),
    ):
        channel.basic_publish(exchange, "topic", body, pika.BasicProperties(headers=headers, priority=priority))
    expected = [
        [b"large red"],
        [b"large red", b"small rose", b"urgent"],
        [b"small rose"],
        [b"large red", b"small rose", b"urgent", b"plain"],
    ]
    equal([drain(channel, queue) for queue in queues], expected)


def delayed(session, channel):
    """A delayed exchange that is direct then; RabbitMQ has it as a plugin."""
    try:
        arguments = {"x-delayed-type": "direct"}
        return session.exchange(channel, "x-delayed-message", durable=True, arguments=arguments)
    except AMQPError:
        if is_rabbitmq(channel):
            raise Skipped("RabbitMQ lacks its plugin for delayed messages") from None
        raise


def publish_delayed(channel, exchange, key, body, milliseconds):
    properties = pika.BasicProperties(headers={"x-delay": milliseconds, "own": 1}, delivery_mode=2)
    channel.basic_publish(exchange, key, body, properties)


@suite.check("delayed-messages-come-at-their-time")
def delayed_messages(session):
    channel = session.channel()
    exchange = delayed(session, channel)
    [queue] = bound(session, channel, exchange, "k")
    start = time.monotonic()
    for body, milliseconds in ((b"slow", 250), (b"quick", 100), (b"now", 0)):
        publish_delayed(channel, exchange, "k", body, milliseconds)
    deliveries = consume(channel, queue, 3, auto_ack=True)
    took = (time.monotonic() - start) * 1000
    equal([body for _, _, body in deliveries], [b"now", b"quick", b"slow"])
    assert 250 <= took < 3000, f"{took:.0f} ms"
    # What came late says so by a negative delay, so that it is not delayed again.
    headers = [properties.headers for _, properties, _ in deliveries]
    equal(headers[1:], [{"x-delay": -100, "own": 1}, {"x-delay": -250, "own": 1}], "headers")
    equal(ready(channel, queue), 0)


@suite.check("delayed-messages-go-where-bindings-lead-then")
def delayed_bindings(session):
    channel = session.channel()
    exchange = delayed(session, channel)
    [before] = bound(session, channel, exchange, "k")
    publish_delayed(channel, exchange, "k", b"x", 400)
    synchronise(channel)
    channel.queue_unbind(before, exchange, "k")
    [after] = bound(session, channel, exchange, "k")
    equal(consume(channel, after, 1, auto_ack=True)[0][2], b"x")
    get_empty(channel, before)


@suite.check("delayed-exchange-needs-a-type")
def delayed_type(session):
    connection = session.connect()
    delayed(session, connection.channel())
    for arguments in (None, {"x-delayed-type": "x-nonsense"}):
        try:
            connection.channel().exchange_declare(session.exchange_name(), "x-delayed-message", arguments=arguments)
        except AMQPError as error:
            equal(error.reply_code, 406, "code")
        else:
            raise AssertionError(f"{arguments} was accepted in {VHOST}")
