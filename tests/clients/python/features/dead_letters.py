"""Dead letters: from which queues, to where, and what their headers tell."""

import datetime

import pika

from checks import equal, wait_until
from pika_session import (
    consume,
    dead_lettering,
    drain,
    get,
    get_empty,
    not_in_rabbitmq,
    publish,
    ready,
    suite,
    synchronise,
)

AT_LEAST_ONCE = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-dead-letter-strategy": "at-least-once",
}


def death(reason, queue, count=1, exchange="", keys=None, **more):
    """One entry of x-death, without its time."""
    keys = [queue] if keys is None else keys
    return {"reason": reason, "queue": queue, "count": count, "exchange": exchange, "routing-keys": keys} | more


def first_and_last(first, last):
    """The headers x-first-death-... and x-last-death-... of two deaths."""
    headers = {}
    for which, of in (("first", first), ("last", last)):
        headers |= {f"x-{which}-death-{what}": of[what] for what in ("reason", "queue", "exchange")}
    return headers


def expect_deaths(properties, deaths, first, **more):
    """Expects exactly these headers, and times that are times."""
    headers = dict(properties.headers)
    times = [each.pop("time") for each in headers["x-death"]]
    assert all(isinstance(each, datetime.datetime) for each in times), times
    equal(headers, {"x-death": deaths} | first_and_last(first, deaths[0]) | more, "headers")


def await_letter(channel, queue):
    wait_until(lambda: ready(channel, queue) == 1, 5, f"a dead letter is in {queue}")
    return get(channel, queue, auto_ack=False)


@suite.check("headers-of-a-rejected-message")
def rejected(session):
    channel = session.channel()
    grave, exchange, source = session.queue(channel), session.exchange(channel, "topic"), session.exchange(channel)
    channel.queue_bind(grave, exchange, "plant.#")
    for kind in ("classic", "quorum"):
        queue = session.queue(channel, **{"x-dead-letter-exchange": exchange, "x-queue-type": kind})
        channel.queue_bind(queue, source, "plant.seven")
        channel.basic_publish(source, "plant.seven", b"bad", pika.BasicProperties(headers={"own": 1}, message_id="7"))
        wait_until(lambda: ready(channel, queue) == 1, 5, "the message is there")
        channel.basic_nack(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
        method, properties, body = await_letter(channel, grave)
        equal((method.exchange, method.routing_key, method.redelivered), (exchange, "plant.seven", False), "the letter")
        once = death("rejected", queue, exchange=source, keys=["plant.seven"])
        expect_deaths(properties, [once], once, own=1)
        equal((properties.message_id, body), ("7", b"bad"))
        channel.basic_ack(method.delivery_tag)
        channel.queue_unbind(queue, source, "plant.seven")


@suite.check("headers-of-an-expired-message")
def expired(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, **dead_lettering(grave))
    publish(channel, queue, b"old", expiration="50")
    _, properties, _ = await_letter(channel, grave)
    once = death("expired", queue, **{"original-expiration": "50"})
    expect_deaths(properties, [once], once)
    equal(properties.expiration, None, "expiration")


@suite.check("counts-over-two-rounds")
def two_rounds(session):
    channel = session.channel()
    retry, work = session.queue_name(), session.queue_name()
    channel.queue_declare(work, durable=True, arguments=dead_lettering(retry))
    channel.queue_declare(retry, durable=True, arguments=dead_lettering(work, **{"x-message-ttl": 50}))
    publish(channel, work, b"again and again")
    for count in range(4):
        method, properties, body = await_letter(channel, work)
        equal(body, b"again and again")
        if count:
            deaths = [death("expired", retry, count), death("rejected", work, count)]
            expect_deaths(properties, deaths, deaths[1])
        channel.basic_reject(method.delivery_tag, requeue=False)


@suite.check("carbon-copies-are-in-the-headers")
def carbon_copies(session):
    channel = session.channel()
    grave = session.queue(channel)
    copy = session.queue(channel, **dead_lettering(grave, **{"x-message-ttl": 0}))
    channel.basic_publish("", "nowhere", b"x", pika.BasicProperties(headers={"CC": [copy], "BCC": ["secret"]}))
    _, properties, _ = await_letter(channel, grave)
    deaths = properties.headers["x-death"]
    equal([each["routing-keys"] for each in deaths], [["nowhere", copy]], "routing keys")
    equal("BCC" in properties.headers, False, "BCC is shown")


@suite.check("an-expiry-cycle-ends")
def cycle(session):
    channel = session.channel()
    left, right = session.queue_name(), session.queue_name()
    channel.queue_declare(left, durable=True, arguments=dead_lettering(right, **{"x-message-ttl": 30}))
    channel.queue_declare(right, durable=True, arguments=dead_lettering(left, **{"x-message-ttl": 30}))
    publish(channel, left, b"round and round")
    wait_until(lambda: ready(channel, right) == 1, 5, "it has come to the right")
    wait_until(lambda: ready(channel, left) + ready(channel, right) == 0, 5, "the cycle is cut")
    equal(drain(channel, left), [])


@suite.check("unroutable-letters-are-gone")
def unroutable(session):
    channel = session.channel()
    queue = session.queue(channel, [b"x"], **{"x-dead-letter-exchange": "roadstead.no-such-exchange"})
    channel.basic_reject(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    synchronise(channel)
    get_empty(channel, queue)


@suite.check("dead-letter-exchange-by-policy")
def by_policy(session):
    channel = session.channel()
    grave, queue = session.queue(channel), session.queue(channel)
    publish(channel, queue, b"before the policy")
    definition = {"dead-letter-exchange": "", "dead-letter-routing-key": grave}
    policy = session.policy(f"^{queue}$", definition)
    synchronise(channel)
    channel.connection.sleep(0.2)  # RabbitMQ applies policies a moment later
    channel.basic_reject(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    method, properties, body = await_letter(channel, grave)
    once = death("rejected", queue)
    expect_deaths(properties, [once], once)
    equal(body, b"before the policy")
    channel.basic_ack(method.delivery_tag)
    session.drop_policy(policy)
    channel.connection.sleep(0.2)
    publish(channel, queue, b"after the policy")
    wait_until(lambda: ready(channel, queue) == 1, 5, "the message is there")
    channel.basic_reject(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    synchronise(channel)
    get_empty(channel, grave)


@suite.check("at-least-once")
def at_least_once(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, **dead_lettering(grave, **AT_LEAST_ONCE))
    publish(channel, queue, b"old", expiration="50")
    _, properties, body = consume(channel, grave, 1, auto_ack=True)[0]
    once = death("expired", queue, **{"original-expiration": "50"})
    expect_deaths(properties, [once], once)
    equal(body, b"old")


@suite.check("at-least-once-waits-for-its-target")
def at_least_once_waits(session):
    channel = session.channel()
    not_in_rabbitmq(channel, "a second attempt within three minutes")
    grave = session.queue_name()
    queue = session.queue(channel, **dead_lettering(grave, **AT_LEAST_ONCE, **{"x-max-length": 1}))
    channel.confirm_delivery()
    publish(channel, queue, b"stays", expiration="50")
    wait_until(lambda: ready(channel, queue) == 0, 5, "it has expired")
    channel.queue_declare(grave, durable=True)
    equal(consume(channel, grave, 1, auto_ack=True)[0][2], b"stays")
