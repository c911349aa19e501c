"""Which message is next, and who gets it."""

import time

from checks import equal, wait_until
from features.dead_letters import await_letter, death, expect_deaths
from pika_session import (
    Inbox,
    VHOST,
    channel_refused,
    consume,
    dead_lettering,
    drain,
    get,
    get_empty,
    is_rabbitmq,
    not_in_rabbitmq,
    numbered,
    publish,
    ready,
    suite,
    synchronise,
)

QUORUM = {"x-queue-type": "quorum"}


def publish_all(channel, queue, priorities):
    for priority in priorities:
        publish(channel, queue, str(priority).encode(), priority=priority)
    wait_until(lambda: ready(channel, queue) == len(priorities), 5, "all are there")


@suite.check("priorities-highest-first")
def priorities(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-max-priority": 10})
    publish_all(channel, queue, [0, 3, 10, None, 7, 200, 3])
    equal(drain(channel, queue), [b"10", b"200", b"7", b"3", b"3", b"0", b"None"])


@suite.check("priorities-for-a-consumer-that-is-slow")
def priorities_for_a_consumer(session):
    channel = session.channel()
    channel.basic_qos(prefetch_count=1)
    queue = session.queue(channel, **{"x-max-priority": 10})
    inbox = Inbox(channel)
    inbox.consume(queue, "slow")
    publish(channel, queue, b"first", priority=0)
    got = inbox.take(1)
    publish_all(channel, queue, [1, 9, 5])
    for _ in range(3):
        channel.basic_ack(got[-1][0].delivery_tag)
        got += inbox.take(1)
    equal([body for _, _, body in got], [b"first", b"9", b"5", b"1"])


@suite.check("a-message-that-comes-back-keeps-its-priority")
def requeued_priority(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-max-priority": 10})
    publish_all(channel, queue, [5, 5, 1])
    publish(channel, queue, b"high", priority=6)
    synchronise(channel)
    wait_until(lambda: ready(channel, queue) == 4, 5, "all are there")
    method, _, body = get(channel, queue, auto_ack=False)
    equal(body, b"high")
    publish(channel, queue, b"higher", priority=7)
    wait_until(lambda: ready(channel, queue) == 4, 5, "the next is there")
    channel.basic_reject(method.delivery_tag, requeue=True)
    synchronise(channel)
    equal(drain(channel, queue), [b"higher", b"high", b"5", b"5", b"1"])


@suite.check("priorities-of-a-quorum-queue")
def quorum_priorities(session):
    channel = session.channel()
    queue = session.queue(channel, **QUORUM)
    publish_all(channel, queue, [1, 1, 9])
    equal(drain(channel, queue), [b"9", b"1", b"1"])
    if not is_rabbitmq(channel):  # 4.0 knows normal and high only
        publish_all(channel, queue, [0, 3, None, 5, 31, 40])
        equal(drain(channel, queue), [b"31", b"40", b"5", b"None", b"3", b"0"])


@suite.check("consumers-by-priority")
def consumer_priorities(session):
    channel = session.channel()
    for arguments in ({}, QUORUM):
        inbox = Inbox(channel)
        queue = session.queue(channel, **arguments)
        channel.basic_qos(prefetch_count=2)
        for tag, priority in (("low", -1), ("high", 5), ("none", None)):
            with_priority = {} if priority is None else {"x-priority": priority}
            inbox.consume(queue, tag, arguments=with_priority)
        tags = []
        for body in numbered(6):
            publish(channel, queue, body)
            tags += [tag for tag, _ in inbox.tags_and_bodies(1)]
        equal(tags, ["high"] * 2 + ["none"] * 2 + ["low"] * 2, "who got them")
        for tag in ("low", "high", "none"):
            channel.basic_cancel(tag)


@suite.check("single-active-consumer-is-taken-over-from")
def single_active(session):
    for arguments in ({}, QUORUM):
        active, watching = session.connect(), session.channel()
        queue = session.queue(watching, **{"x-single-active-consumer": True} | arguments)
        first, second = Inbox(active.channel()), Inbox(watching)
        first.consume(queue, "first")
        second.consume(queue, "second")
        for body in numbered(3):
            publish(watching, queue, body)
        equal(first.tags_and_bodies(3), [("first", body) for body in numbered(3)])
        synchronise(watching)
        equal(second.deliveries, [], "deliveries of the one that waits")
        active.close()
        again = second.take(3)
        equal([(method.redelivered, body) for method, _, body in again], [(True, body) for body in numbered(3)])
        watching.basic_cancel("second")


@suite.check("exclusive-consumer-is-alone")
def exclusive(session):
    connection = session.connect()
    channel = connection.channel()
    queue = session.queue(channel)
    channel.basic_consume(queue, lambda *_: None, exclusive=True, consumer_tag="alone")
    text = f"ACCESS_REFUSED - queue '{queue}' in vhost '{VHOST}' in exclusive use"
    with channel_refused(403, text):
        connection.channel().basic_consume(queue, lambda *_: None)
    channel.basic_cancel("alone")
    other = connection.channel()
    other.basic_consume(queue, lambda *_: None, consumer_tag="not alone")
    with channel_refused(403, text):
        channel.basic_consume(queue, lambda *_: None, exclusive=True)
    alone = session.queue(other, **{"x-single-active-consumer": True})
    with channel_refused(403, f"ACCESS_REFUSED - queue '{alone}' in vhost '{VHOST}' in exclusive use"):
        other.basic_consume(alone, lambda *_: None, exclusive=True)


@suite.check("delivery-limit-and-count")
def delivery_limit(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, **dead_lettering(grave, **QUORUM, **{"x-delivery-limit": 2}))
    publish(channel, queue, b"poison")
    inbox = Inbox(channel)
    inbox.consume(queue, "weak")
    for count in (None, 1, 2):
        method, properties, _ = inbox.take(1)[0]
        equal((properties.headers or {}).get("x-delivery-count"), count, "x-delivery-count")
        equal(method.redelivered, bool(count), "redelivered")
        channel.basic_nack(method.delivery_tag, requeue=True)
    _, properties, body = await_letter(channel, grave)
    once = death("delivery_limit", queue)
    counts = {key: value for key, value in properties.headers.items() if key in ("x-delivery-count", "x-acquired-count")}
    equal(counts, {}, "the counts of the queue that it has left")
    expect_deaths(properties, [once], once)
    equal(body, b"poison")


def late(session, queue_arguments, consumer_arguments):
    """A delivery that is not settled in time goes to another consumer, and settling it later is no harm."""
    slow, quick = session.channel(), session.channel()
    queue = session.queue(slow, **queue_arguments)
    publish(slow, queue, b"slow")
    slow_inbox, quick_inbox = Inbox(slow), Inbox(quick)
    slow_inbox.consume(queue, "slow", arguments=consumer_arguments)
    tag = slow_inbox.take(1)[0][0].delivery_tag
    quick_inbox.consume(queue, "quick")
    method, _, body = quick_inbox.take(1)[0]
    equal((method.consumer_tag, method.redelivered, body), ("quick", True, b"slow"))
    slow.basic_ack(tag)
    synchronise(slow)
    equal(ready(slow, queue), 0, "messages")
    quick.basic_ack(method.delivery_tag)
    quick.basic_cancel("quick")
    publish(slow, queue, b"next")
    equal(slow_inbox.tags_and_bodies(1), [("slow", b"next")], "what the slow one gets when it is ready again")


@suite.check("consumer-timeout-of-a-queue")
def consumer_timeout_of_a_queue(session):
    not_in_rabbitmq(session.channel(), "consumer timeouts below a minute")
    for arguments in ({}, QUORUM, {"x-single-active-consumer": True}):
        late(session, {"x-consumer-timeout": 400} | arguments, {})


@suite.check("consumer-timeout-of-a-consumer")
def consumer_timeout_of_a_consumer(session):
    not_in_rabbitmq(session.channel(), "consumer timeouts below a minute")
    for arguments in ({}, QUORUM):
        late(session, arguments, {"x-consumer-timeout": 100})


@suite.check("who-settles-in-time-is-not-late")
def in_time(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-consumer-timeout": 60_000})
    publish(channel, queue, b"quick")
    method, _, _ = consume(channel, queue, 1)[0]
    channel.basic_ack(method.delivery_tag)
    synchronise(channel)
    get_empty(channel, queue)


@suite.check("delayed-retries")
def delayed_retries(session):
    channel = session.channel()
    not_in_rabbitmq(channel, "delayed retries, which came with 4.3")
    retries = {"x-delayed-retry-type": "all", "x-delayed-retry-min": 100, "x-delayed-retry-max": 150}
    queue = session.queue(channel, **QUORUM, **retries)
    publish(channel, queue, b"later")
    inbox = Inbox(channel)
    inbox.consume(queue, "eager")
    for count, milliseconds in ((1, 100), (2, 150), (3, 150)):
        channel.basic_nack(inbox.take(1)[0][0].delivery_tag, requeue=True)
        start = time.monotonic()
        publish(channel, queue, b"not held up")
        other = inbox.take(1)[0]
        equal(other[2], b"not held up")
        channel.basic_ack(other[0].delivery_tag)
        await_retry = inbox.take(1)[0]
        took = (time.monotonic() - start) * 1000
        assert took > milliseconds - 10, f"retry {count} after {took:.0f} ms"
        equal((await_retry[2], await_retry[1].headers["x-delivery-count"]), (b"later", count))
        inbox.deliveries.insert(0, await_retry)
