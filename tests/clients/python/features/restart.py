"""What outlives the broker."""

import time

from pika.exceptions import AMQPConnectionError

from checks import equal, restart_broker
from features.dead_letters import AT_LEAST_ONCE
from features.exchanges import delayed, publish_delayed
from features.streams import all_of, read, stream
from pika_session import consume, dead_lettering, drain, numbered, publish, suite

PERSISTENT = {"delivery_mode": 2}


class Stream:
    """Its offsets are the same, and go on."""

    def __init__(self, session, channel):
        self._session = session
        self._name = stream(session, channel, numbered(3))

    def judge(self, channel):
        equal(read(self._session, self._name, 3, "first"), all_of(3), "the stream after the restart")
        publish(channel, self._name, b"m3")
        equal(read(self._session, self._name, 2, 2), all_of(4, 2), "the stream's end after the restart")


class Delayed:
    """Delayed messages come, those that are due meanwhile and those that are not, in order."""

    def __init__(self, session, channel):
        exchange = delayed(session, channel)
        self._queue = session.queue(channel)
        channel.queue_bind(self._queue, exchange, "k")
        self._due = time.monotonic() + 2
        publish_delayed(channel, exchange, "k", b"later", 2000)
        publish_delayed(channel, exchange, "k", b"meanwhile", 50)

    def judge(self, channel):
        got = [body for _, _, body in consume(channel, self._queue, 2, auto_ack=True)]
        equal(got, [b"meanwhile", b"later"], "the delayed messages")
        assert time.monotonic() > self._due, "a delayed message came too early"


class Priorities:
    def __init__(self, session, channel):
        self._queue = session.queue(channel, **{"x-max-priority": 5})
        for priority in (1, 5, 3):
            publish(channel, self._queue, str(priority).encode(), priority=priority, **PERSISTENT)

    def judge(self, channel):
        publish(channel, self._queue, b"4", priority=4)
        equal(drain(channel, self._queue), [b"5", b"4", b"3", b"1"], "by priority")


class Expiration:
    """The time goes on while the broker is down."""

    def __init__(self, session, channel):
        self._grave = session.queue(channel)
        self._queue = session.queue(channel, **dead_lettering(self._grave))
        for expiration in ("60000", "100"):
            publish(channel, self._queue, expiration.encode(), expiration=expiration, **PERSISTENT)

    def judge(self, channel):
        equal([body for _, _, body in consume(channel, self._grave, 1, auto_ack=True)], [b"100"], "what has expired")
        equal(drain(channel, self._queue), [b"60000"], "what has time left")


class DeadLetters:
    """A rejected message with its history, and one that must arrive and could not yet."""

    def __init__(self, session, channel):
        self._grave, self._target = session.queue(channel), session.queue_name()
        queue = session.queue(channel, **dead_lettering(self._grave))
        publish(channel, queue, b"rejected", **PERSISTENT)
        method, _, _ = channel.basic_get(queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        waiting = session.queue(channel, **dead_lettering(self._target, **AT_LEAST_ONCE))
        publish(channel, waiting, b"must arrive", expiration="1", **PERSISTENT)

    def judge(self, channel):
        _, properties, body = consume(channel, self._grave, 1, auto_ack=True)[0]
        equal((body, properties.headers["x-death"][0]["reason"]), (b"rejected", "rejected"))
        channel.queue_declare(self._target, durable=True)
        equal(consume(channel, self._target, 1, auto_ack=True)[0][2], b"must arrive")


class Policy:
    def __init__(self, session, channel):
        self._queue = session.queue(channel)
        session.policy(f"^{self._queue}$", {"max-length": 1})

    def judge(self, channel):
        for body in numbered(2):
            publish(channel, self._queue, body)
        equal(drain(channel, self._queue), [b"m1"], "with a policy of length 1")


@suite.check("restart-keeps-what-features-need", seconds=60)
def restart(session):
    channel = session.channel()
    channel.confirm_delivery()
    kinds = (Delayed, Stream, Priorities, Expiration, DeadLetters, Policy)
    features = [feature(session, channel) for feature in kinds]
    restart_broker()
    try:
        channel.basic_qos(prefetch_count=0)
    except AMQPConnectionError:
        pass
    channel = session.channel()
    channel.confirm_delivery()
    for feature in features:
        feature.judge(channel)
