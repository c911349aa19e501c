"""What definitions bring: policies, virtual hosts, users and their limits."""

import base64
import hashlib
import re

import pika
from pika.exceptions import AMQPConnectionError, ConnectionClosedByBroker

from checks import define, equal, exported_definitions, unique, wait_until
from pika_session import (
    PARAMETERS,
    channel_refused,
    dead_lettering,
    drain,
    numbered,
    publish,
    ready,
    suite,
)

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def vhost_with(limits):
    """A new virtual host with limits, for the user of these checks."""
    vhost = unique("vhost")
    user = PARAMETERS.credentials.username
    parameter = {"vhost": vhost, "component": "vhost-limits", "name": "limits", "value": limits}
    permission = {"user": user, "vhost": vhost} | EVERYTHING
    define({"vhosts": [{"name": vhost}], "permissions": [permission], "parameters": [parameter]})
    return vhost


def user_with(limits):
    """A new user with limits and the password `secret`."""
    name, salt = unique("user"), b"\1\2\3\4"
    digest = base64.b64encode(salt + hashlib.sha256(salt + b"secret").digest()).decode()
    user = {"name": name, "password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
    permission = {"user": name, "vhost": PARAMETERS.virtual_host} | EVERYTHING
    define({"users": [user | {"limits": limits}], "permissions": [permission]})
    return name


def login_refused(session, text, **changes):
    try:
        session.connect(**changes)
    except AMQPConnectionError as error:
        said = str(error) + repr(error)
        assert f"(530) '{text}'" in said or f"(530, '{text}')" in said or f'(530) "{text}"' in said, said
    else:
        raise AssertionError(f"not refused with {text}")


@suite.check("a-policy-applies-from-then-on-until-it-is-deleted")
def policy(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(1))
    name = session.policy(f"^{queue}$", {"max-length": 2})
    wait_until(lambda: length_after_three(channel, queue) == 2, 5, "the policy applies")
    session.drop_policy(name)
    wait_until(lambda: length_after_three(channel, queue) > 2, 5, "the policy no longer applies")


def length_after_three(channel, queue):
    for body in numbered(3):
        publish(channel, queue, body)
    return len(drain(channel, queue))


@suite.check("the-policy-of-the-highest-priority-applies")
def policy_priority(session):
    channel = session.channel()
    queue = session.queue(channel)
    session.policy(f"^{queue}$", {"max-length": 5}, priority=1)
    high = session.policy(f"^{queue[:-1]}", {"max-length": 1}, priority=2)
    wait_until(lambda: length_after_three(channel, queue) == 1, 5, "the higher one applies")
    session.drop_policy(high)
    wait_until(lambda: length_after_three(channel, queue) == 3, 5, "the lower one applies")


@suite.check("a-policy-gives-messages-a-time")
def policy_ttl(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, **dead_lettering(grave))
    session.policy(f"^{queue}$", {"message-ttl": 50})
    channel.connection.sleep(0.2)  # RabbitMQ applies policies a moment later
    publish(channel, queue, b"mortal")
    wait_until(lambda: ready(channel, grave) == 1, 5, "it has expired")


@suite.check("a-policy-for-one-type-of-queue")
def policy_for_a_type(session):
    channel = session.channel()
    prefix = session.queue_name()
    queues = {kind: f"{prefix}.{kind}" for kind in ("classic", "quorum")}
    session.policy(f"^{prefix}", {"max-length": 1}, apply_to="quorum_queues")
    try:
        for kind, queue in queues.items():
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind})
        wait_until(lambda: length_after_three(channel, queues["quorum"]) == 1, 5, "the policy applies")
        equal(length_after_three(channel, queues["classic"]), 3, "messages of the other queue")
    finally:
        for queue in queues.values():
            channel.queue_delete(queue)


@suite.check("an-alternate-exchange-by-policy")
def policy_for_an_exchange(session):
    channel = session.channel()
    exchange, alternate = session.exchange(channel), session.exchange(channel, "fanout")
    queue = session.queue(channel)
    channel.queue_bind(queue, alternate, "")
    session.policy(f"^{exchange}$", {"alternate-exchange": alternate}, apply_to="exchanges")
    channel.confirm_delivery()

    def is_caught():
        channel.basic_publish(exchange, "bound to nothing", b"caught")
        return drain(channel, queue) == [b"caught"]

    wait_until(is_caught, 5, "the policy applies")


@suite.check("definitions-of-queues-exchanges-and-bindings")
def topology(session):
    channel = session.channel()
    queue, exchange = session.queue_name(), session.exchange_name()
    common = {"vhost": "/", "durable": True, "auto_delete": False}
    queues = [common | {"name": queue, "arguments": {"x-max-length": 2}}]
    exchanges = [common | {"name": exchange, "type": "topic", "internal": False, "arguments": {}}]
    ends = {"source": exchange, "destination": queue, "destination_type": "queue"}
    bindings = [ends | {"vhost": "/", "routing_key": "a.#", "arguments": {}}]
    define({"queues": queues, "exchanges": exchanges, "bindings": bindings})
    channel.queue_declare(queue, durable=True, arguments={"x-max-length": 2})
    channel.confirm_delivery()
    for body in numbered(3):
        channel.basic_publish(exchange, "a.b", body, mandatory=True)
    equal(drain(channel, queue), [b"m1", b"m2"])


@suite.check("definitions-export-what-was-declared")
def export(session):
    channel = session.channel()
    exchange = session.exchange(channel, "headers", durable=True)
    arguments = {"x-max-priority": 5, "x-dead-letter-exchange": exchange}
    queue = session.queue(channel, **arguments)
    channel.queue_bind(queue, exchange, "key", {"x-match": "any", "size": 1})
    name = session.policy(f"^{queue}$", {"max-length": 7})
    document = exported_definitions()
    [declared] = [each for each in document["queues"] if each["name"] == queue]
    sent = {key: value for key, value in declared["arguments"].items() if key != "x-queue-type"}
    equal((sent, declared["durable"]), (arguments, True), "the queue")
    [declared] = [each for each in document["exchanges"] if each["name"] == exchange]
    equal((declared["type"], declared["durable"]), ("headers", True), "the exchange")
    [binding] = [each for each in document["bindings"] if each["source"] == exchange]
    described = (binding["destination"], binding["routing_key"], binding["arguments"])
    equal(described, (queue, "key", {"x-match": "any", "size": 1}), "the binding")
    [policy] = [each for each in document["policies"] if each["name"] == name]
    equal(policy["definition"], {"max-length": 7}, "the policy")


@suite.check("limit-of-queues-of-a-vhost")
def max_queues(session):
    vhost = vhost_with({"max-queues": 2})
    connection = session.connect(virtual_host=vhost)
    channel = connection.channel()
    for name in ("q1", "q2", "q2"):
        channel.queue_declare(name, exclusive=True)
    refusal = f"PRECONDITION_FAILED - cannot declare queue 'q3': queue limit in vhost '{vhost}' (2) is reached"
    with channel_refused(406, refusal):
        connection.channel().queue_declare("q3", exclusive=True)
    channel.queue_delete("q1")
    channel.queue_declare("q3", exclusive=True)


@suite.check("limit-of-connections-of-a-vhost")
def max_connections(session):
    vhost = vhost_with({"max-connections": 1})
    first = session.connect(virtual_host=vhost)
    user = PARAMETERS.credentials.username
    text = f"NOT_ALLOWED - access to vhost '{vhost}' refused for user '{user}': connection limit (1) is reached"
    first.sleep(0.2)  # RabbitMQ counts a moment later
    login_refused(session, text, virtual_host=vhost)
    first.close()
    wait_until(lambda: connects(session, virtual_host=vhost), 5, "the place is free again")


def connects(session, **changes):
    try:
        session.connect(**changes)
    except AMQPConnectionError:
        return False
    return True


@suite.check("limit-of-connections-of-a-user")
def user_connections(session):
    name = user_with({"max-connections": 1})
    credentials = pika.PlainCredentials(name, "secret")
    first = session.connect(credentials=credentials)
    first.sleep(0.2)  # RabbitMQ counts a moment later
    text = f"NOT_ALLOWED - connection refused for user '{name}': user connection limit (1) is reached"
    login_refused(session, text, credentials=credentials)
    first.close()
    wait_until(lambda: connects(session, credentials=credentials), 5, "the place is free again")


@suite.check("limit-of-channels-of-a-user")
def user_channels(session):
    name = user_with({"max-channels": 2})
    connection = session.connect(credentials=pika.PlainCredentials(name, "secret"))
    for _ in range(2):
        connection.channel()
        connection.sleep(0.1)  # RabbitMQ counts a moment later
    try:
        connection.channel()
    except ConnectionClosedByBroker as error:
        equal(error.reply_code, 530, "code")
        text = re.sub("'[^']+@[^']+'", f"'{name}'", error.reply_text)  # RabbitMQ names its node for the user
        limit = "has reached the maximum allowed user limit of (2)"
        equal(text, f"NOT_ALLOWED - number of channels opened for user '{name}' {limit}")
    else:
        raise AssertionError("a third channel of two")
