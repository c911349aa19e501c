"""Queues that hold so much and no more."""

from pika.exceptions import NackError

from checks import equal
from features.dead_letters import await_letter, death, expect_deaths
from pika_session import consume, dead_lettering, drain, is_rabbitmq, numbered, publish, ready, suite


def is_taken(channel, queue, body, **properties):
    """Whether a channel in confirm mode gets an ack."""
    try:
        publish(channel, queue, body, **properties)
    except NackError:
        return False
    return True


@suite.check("a-full-queue-dead-letters-its-head")
def full_queue(session):
    channel = session.channel()
    for limit in ({"x-max-length": 2}, {"x-max-length-bytes": 5}, {"x-queue-type": "quorum", "x-max-length": 2}):
        grave = session.queue(channel)
        queue = session.queue(channel, **dead_lettering(grave, **limit))
        for body in numbered(4):
            publish(channel, queue, body)
        dead = consume(channel, grave, 2, auto_ack=True)
        equal([body for _, _, body in dead], [b"m0", b"m1"], "the dead letters")
        once = death("maxlen", queue)
        expect_deaths(dead[0][1], [once], once)
        equal(drain(channel, queue), [b"m2", b"m3"], "what is left")


@suite.check("a-full-queue-nacks")
def nacks(session):
    channel = session.channel()
    channel.confirm_delivery()
    grave = session.queue(channel)
    refusing = dead_lettering(grave, **{"x-overflow": "reject-publish"})
    for limit in ({"x-max-length": 2}, {"x-max-length-bytes": 4}):
        queue = session.queue(channel, **refusing, **limit)
        taken = [is_taken(channel, queue, body) for body in numbered(4)]
        equal(taken, [True, True, False, False], "what was taken")
        equal(drain(channel, queue), numbered(2))
        equal(is_taken(channel, queue, b"m4"), True, "there is place again")
    equal(drain(channel, grave), [], "dead letters of reject-publish")


@suite.check("a-full-quorum-queue-nacks")
def quorum_nacks(session):
    channel = session.channel()
    channel.confirm_delivery()
    queue = session.queue(channel, **{"x-queue-type": "quorum", "x-max-length": 2, "x-overflow": "reject-publish"})
    taken = [is_taken(channel, queue, body) for body in numbered(10)]
    if not is_rabbitmq(channel):  # which is a little late
        equal(taken, [True] * 2 + [False] * 8, "what was taken")
    equal(taken[-1], False, "the last was taken")
    equal(len(drain(channel, queue)), sum(taken), "messages")


@suite.check("a-full-queue-nacks-and-dead-letters")
def nacks_and_dead_letters(session):
    channel = session.channel()
    channel.confirm_delivery()
    grave = session.queue(channel)
    overflow = {"x-max-length": 1, "x-overflow": "reject-publish-dlx"}
    queue = session.queue(channel, **dead_lettering(grave, **overflow))
    equal([is_taken(channel, queue, body) for body in numbered(2)], [True, False], "what was taken")
    _, properties, body = await_letter(channel, grave)
    once = death("maxlen", queue)
    expect_deaths(properties, [once], once)
    equal((body, drain(channel, queue)), (b"m1", [b"m0"]))


@suite.check("one-full-queue-of-two-nacks")
def one_of_two(session):
    channel = session.channel()
    channel.confirm_delivery()
    exchange = session.exchange(channel, "fanout")
    full = session.queue(channel, **{"x-max-length": 0, "x-overflow": "reject-publish"})
    roomy = session.queue(channel)
    for queue in (full, roomy):
        channel.queue_bind(queue, exchange, "")
    try:
        channel.basic_publish(exchange, "", b"half")
    except NackError:
        equal((ready(channel, full), drain(channel, roomy)), (0, [b"half"]))
    else:
        raise AssertionError("a message that one queue refused was confirmed")


@suite.check("a-policy-shortens-a-queue")
def policy_shortens(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, numbered(5), **dead_lettering(grave, **{"x-max-length": 10}))
    session.policy(f"^{queue}$", {"max-length": 2})
    dead = consume(channel, grave, 3, auto_ack=True)
    equal([body for _, _, body in dead], numbered(3), "the dead letters")
    equal(drain(channel, queue), [b"m3", b"m4"])
