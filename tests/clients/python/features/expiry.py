"""Messages and queues that last for a time."""

import time

import pika
from pika.exceptions import UnroutableError

from checks import equal, wait_until
from pika_session import (
    Inbox,
    consume,
    dead_lettering,
    drain,
    get_empty,
    is_rabbitmq,
    not_in_rabbitmq,
    publish,
    ready,
    suite,
    synchronise,
)

QUORUM = {"x-queue-type": "quorum"}


def expires(session, count, queue_arguments, **properties):
    """Publishes to a queue with these arguments, and returns the milliseconds until the message was a dead letter."""
    channel = session.channel()
    grave = session.queue(channel)
    inbox = Inbox(channel)
    inbox.consume(grave, "grave", auto_ack=True)
    queue = session.queue(channel, **dead_lettering(grave, **queue_arguments))
    start = time.monotonic()
    for _ in range(count):
        publish(channel, queue, b"mortal", **properties)
    for _, dead, _ in inbox.take(count):
        equal(dead.headers["x-death"][0]["reason"], "expired")
        equal(dead.expiration, None, "the expiration of a dead letter")
    took = (time.monotonic() - start) * 1000
    get_empty(channel, queue)
    return took


def about(took, expected):
    assert expected <= took < expected + 3000, f"{took:.0f} ms, expected about {expected}"


@suite.check("expiration-of-a-message")
def expiration(session):
    about(expires(session, 3, {}, expiration="100"), 100)


@suite.check("ttl-of-a-queue")
def queue_ttl(session):
    about(expires(session, 3, {"x-message-ttl": 100}), 100)


@suite.check("the-shorter-of-ttl-and-expiration")
def the_shorter(session):
    about(expires(session, 1, {"x-message-ttl": 100}, expiration="60000"), 100)
    about(expires(session, 1, {"x-message-ttl": 60_000}, expiration="100"), 100)


@suite.check("expiration-in-a-quorum-queue")
def quorum_expiration(session):
    about(expires(session, 2, QUORUM, expiration="100"), 100)
    about(expires(session, 2, QUORUM | {"x-message-ttl": 100}), 100)


@suite.check("expiration-in-a-priority-queue")
def priority_expiration(session):
    about(expires(session, 2, {"x-max-priority": 3}, expiration="100", priority=2), 100)


@suite.check("a-shorter-expiration-leaves-first")
def shorter_leaves_first(session):
    channel = session.channel()
    not_in_rabbitmq(channel, "expiry behind a message that stays")
    for arguments in ({}, QUORUM, {"x-max-priority": 3}):
        grave = session.queue(channel)
        queue = session.queue(channel, **dead_lettering(grave, **arguments))
        for expiration in ("60000", "250", "50", "150", None):
            publish(channel, queue, str(expiration).encode(), expiration=expiration)
        dead = [body for _, _, body in consume(channel, grave, 3, auto_ack=True)]
        equal(dead, [b"50", b"150", b"250"], "what has expired")
        equal(drain(channel, queue), [b"60000", b"None"], "what is left")


@suite.check("a-held-message-expires-when-it-comes-back")
def held_message(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, **dead_lettering(grave))
    publish(channel, queue, b"held", expiration="50")
    inbox = Inbox(channel)
    inbox.consume(queue, "holder")
    method, _, _ = inbox.take(1)[0]
    publish(channel, queue, b"marker")  # nobody else holds back the queue
    inbox.take(1)
    channel.connection.sleep(0.1)
    equal(ready(channel, grave), 0, "dead letters while it is held")
    channel.basic_cancel("holder")
    channel.basic_reject(method.delivery_tag, requeue=True)
    equal(consume(channel, grave, 1, auto_ack=True)[0][2], b"held")


@suite.check("expiration-zero-reaches-only-who-waits")
def expiration_zero(session):
    channel = session.channel()
    queue = session.queue(channel)
    publish(channel, queue, b"nobody waits", expiration="0")
    synchronise(channel)
    wait_until(lambda: ready(channel, queue) == 0, 5, "the message is gone")
    get_empty(channel, queue)
    inbox = Inbox(channel)
    inbox.consume(queue, "waiting", auto_ack=True)
    publish(channel, queue, b"somebody waits", expiration="0")
    equal(inbox.tags_and_bodies(1), [("waiting", b"somebody waits")])


def is_gone(channel, queue):
    """Publishing is no use of a queue, so it may be asked for in this way."""
    try:
        channel.basic_publish("", queue, b"", mandatory=True)
    except UnroutableError:
        return True
    return False


@suite.check("unused-queue-expires")
def unused_queue(session):
    channel = session.channel()
    channel.confirm_delivery()
    for arguments in ({}, QUORUM):
        queue = session.queue_name()
        start = time.monotonic()
        channel.queue_declare(queue, durable=True, arguments={"x-expires": 150} | arguments)
        seconds = 12 if is_rabbitmq(channel) else 5  # its quorum queues look every five seconds
        wait_until(lambda: is_gone(channel, queue), seconds, "the queue has expired")
        took = time.monotonic() - start
        assert took >= 0.15, f"gone after {took:.3f} s"


@suite.check("used-queue-does-not-expire")
def used_queue(session):
    channel = session.channel()
    channel.confirm_delivery()
    queue = session.queue(channel, **{"x-expires": 400})
    tag = channel.basic_consume(queue, lambda *_: None)
    channel.connection.sleep(0.6)
    equal(is_gone(channel, queue), False, "gone with a consumer")
    channel.basic_cancel(tag)
    for _ in range(4):
        channel.connection.sleep(0.15)
        channel.basic_get(queue, auto_ack=True)
    equal(is_gone(channel, queue), False, "gone while it is asked for messages")
    wait_until(lambda: is_gone(channel, queue), 5, "the queue has expired")


@suite.check("expired-queue-leaves-no-dead-letters")
def expired_queue(session):
    channel = session.channel()
    channel.confirm_delivery()
    grave = session.queue(channel)
    queue = session.queue_name()
    channel.queue_declare(queue, durable=True, arguments=dead_lettering(grave, **{"x-expires": 100}))
    channel.basic_publish("", queue, b"lost", pika.BasicProperties(delivery_mode=2))
    wait_until(lambda: is_gone(channel, queue), 5, "the queue has expired")
    get_empty(channel, grave)
