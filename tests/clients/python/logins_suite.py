"""Logins that other servers judge, by pika and paho: an issuer of tokens, a directory, a server of the operator's own.

`BACKEND` says which, `ISSUER` where tokens are. `alice` may do everything with names that begin with `roadstead.`, and publish
and subscribe to what is below `of/alice`; `bob` may only read. Neither may enter the vhost `elsewhere`, and neither is one of
the broker's own users. Where names have passwords, they are the names with `'s secret` behind them.
"""

import base64
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from checks import Suite, amqp_uri, equal, unique
from paho_session import SECONDS, Refused, connected, get

GUEST = pika.URLParameters(amqp_uri())
BACKEND = os.environ["BACKEND"]
NOT_AUTHORIZED, BAD_USER, MAXIMUM_CONNECT_TIME = 0x87, 0x86, 0xA0

OWN = [f"rabbitmq.{access}:%2F/roadstead.*" for access in ("configure", "write", "read")]
ALICE = [
    *OWN,
    *(f"rabbitmq.{access}:%2F/mqtt-subscription-*" for access in ("configure", "write", "read")),
    "rabbitmq.write:%2F/amq.default",
    "rabbitmq.write:%2F/amq.topic/of.alice.*",
    "rabbitmq.read:%2F/amq.topic/of.alice.*",
    "rabbitmq.tag:management",
]
SCOPES = {"alice": ALICE, "bob": ["rabbitmq.read:%2F/roadstead.*"]}

suite = Suite(lambda check: check())


def token(client, scopes=None, **more):
    fields = {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_secret": f"{client}'s secret",
        "scope": " ".join(scopes or SCOPES[client]),
        **more,
    }
    body = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(f"{os.environ['ISSUER']}/token", body, SECONDS) as answer:
        return json.load(answer)["access_token"]


def credentials(name):
    """The user name and password by which somebody logs in."""
    return ("", token(name)) if BACKEND == "oauth2" else (name, f"{name}'s secret")


@contextmanager
def amqp(user, password, vhost="/"):
    login = pika.PlainCredentials(user, password)
    connection = pika.BlockingConnection(pika.ConnectionParameters(GUEST.host, GUEST.port, vhost, credentials=login))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def mqtt(user, password, will=None):
    return connected(int(os.environ["MQTT_PORT"]), user, password, will=will)


def refused(connection, action, text):
    channel = connection.channel()
    try:
        action(channel)
        channel.queue_declare(unique("own"), passive=True)  # a round trip
    except ChannelClosedByBroker as error:
        equal(error.reply_code, 403)
        assert text in error.reply_text, error.reply_text
        return
    raise AssertionError(f"allowed, but expected: {text}")


@suite.check("amqp-work")
def _():
    with amqp(*credentials("alice")) as connection:
        channel = connection.channel()
        name = channel.queue_declare(unique("own")).method.queue
        channel.confirm_delivery()
        for body in (b"1", b"2"):  # the second goes by what is remembered of the first
            channel.basic_publish("", name, body)
        with amqp(*credentials("bob")) as other:
            equal(other.channel().basic_get(name, auto_ack=True)[2], b"1")
            refused(other, lambda channel: channel.basic_publish("", name, b"3"), "write access to exchange 'amq.default'")
            refused(other, lambda channel: channel.queue_delete(name), f"configure access to queue '{name}'")
        equal(channel.basic_get(name, auto_ack=True)[2], b"2")
        channel.queue_delete(name)


@suite.check("amqp-names-of-others")
def _():
    with amqp(*credentials("alice")) as connection:
        refused(connection, lambda channel: channel.queue_declare("other"), "configure access to queue 'other'")
        refused(connection, lambda channel: channel.basic_publish("amq.direct", "k", b""), "write access to exchange")


@suite.check("amqp-topics")
def _():
    with amqp(*credentials("alice")) as connection:
        channel = connection.channel()
        name = channel.queue_declare(unique("own"), exclusive=True).method.queue
        channel.queue_bind(name, "amq.topic", "of.alice.x")
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", "of.alice.x", b"1")
        equal(channel.basic_get(name, auto_ack=True)[2], b"1")
        text = "topic 'of.bob.x' in exchange 'amq.topic'"
        refused(connection, lambda channel: channel.basic_publish("amq.topic", "of.bob.x", b""), text)
        refused(connection, lambda channel: channel.queue_bind(name, "amq.topic", "of.bob.x"), text)


@suite.check("amqp-vhost")
def _():
    try:
        with amqp(*credentials("alice"), vhost="elsewhere"):
            pass
    except ProbableAccessDeniedError as error:
        assert "access to vhost 'elsewhere' refused for user 'alice'" in str(error), str(error)
        return
    raise AssertionError("alice entered")


@suite.check("amqp-refused-logins")
def _():
    user, password = credentials("alice")
    for login in [(user, ""), (user, password[:-2]), ("mallory", "mallory's secret"), ("alice,cn=x", "alice's secret"), ("*", "x")]:
        try:
            with amqp(*login):
                pass
        except ProbableAuthenticationError as error:
            assert "(403)" in str(error), str(error)
            continue
        raise AssertionError(f"logged in as {login[0]!r}")


@suite.check("amqp-own-users")
def _():
    with amqp("guest", "guest") as connection:
        connection.channel().queue_declare(unique("own"), exclusive=True)


@suite.check("mqtt-work")
def _():
    with mqtt(*credentials("alice")) as (client, events):
        for qos in (0, 1):
            client.subscribe("of/alice/#", qos)
            equal(get(events.acks, "SUBACK"), qos)
            client.publish("of/alice/x", b"1", qos)
            equal(get(events.messages, "message"), ("of/alice/x", b"1"))
            equal(get(events.acks, "PUBACK"), 0)
        client.publish("of/bob/x", b"2", 1)
        equal(get(events.acks, "PUBACK"), NOT_AUTHORIZED)


@suite.check("mqtt-will")
def _():
    with mqtt(*credentials("alice")) as (client, events):
        client.subscribe("of/alice/#", 1)
        equal(get(events.acks, "SUBACK"), 1)
        for topic, arrives in [("of/bob/gone", False), ("of/alice/gone", True)]:
            with mqtt(*credentials("alice"), will=(topic, b"1", 1)) as (other, _):
                other.socket().close()
            if arrives:
                equal(get(events.messages, "will"), (topic, b"1"))


@suite.check("mqtt-refused-logins")
def _():
    user, password = credentials("alice")
    for login in [(user, password[:-2]), ("mallory", "mallory's secret")]:
        try:
            with mqtt(*login):
                raise AssertionError(f"logged in as {login[0]!r}")
        except Refused as refusal:
            equal(refusal.code, BAD_USER)


@suite.check("management")
def _():
    def ask(path, user, password):
        plain = base64.b64encode(f"{user}:{password}".encode()).decode()
        login = f"Basic {plain}" if user else f"Bearer {password}"
        address = f"http://{GUEST.host}:{os.environ['MANAGEMENT_PORT']}/api/{path}"
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Authorization": login}), timeout=SECONDS) as answer:
            return json.load(answer)

    user, password = credentials("alice")
    who = ask("whoami", user, password)
    equal(who["name"], "alice")
    assert "management" in who["tags"], who
    equal([vhost["name"] for vhost in ask("vhosts", user, password)], ["/"])
    try:
        ask("whoami", user, f"{password[:-2]}")
    except urllib.error.HTTPError as error:
        equal(error.code, 401)
        return
    raise AssertionError("somebody came in")


@suite.check("each-token-for-itself")
def _():
    with amqp("", token("alice")) as one, amqp("", token("alice", ["rabbitmq.read:%2F/roadstead.*"])) as other:
        name = one.channel().queue_declare(unique("own"), exclusive=False, auto_delete=True).method.queue
        refused(other, lambda channel: channel.queue_declare(unique("own")), "configure access")
        one.channel().queue_delete(name)


@suite.check("tokens-for-others")
def _():
    for bad in [token("alice", audience="elsewhere"), token("alice", ["other.read:*/*"])]:
        try:
            with amqp("", bad):
                raise AssertionError("entered")
        except (ProbableAuthenticationError, ProbableAccessDeniedError):
            pass


@suite.check("signatures")
def _():
    for name in ("alice", "bob", "carol"):  # RS256, ES256, PS256
        with amqp("", token(name, OWN)) as connection:
            connection.channel().queue_declare(unique("own"), exclusive=True)


@suite.check("amqp-expiry")
def _():
    with amqp("", token("alice", seconds=2)) as connection:
        connection.channel()
        try:
            connection.process_data_events(time_limit=10)
        except ConnectionClosedByBroker as error:
            equal((error.reply_code, error.reply_text), (320, "CONNECTION_FORCED - credential expired"))
            return
    raise AssertionError("still open")


@suite.check("mqtt-expiry")
def _():
    with mqtt("", token("alice", seconds=2)) as (_, events):
        equal(get(events.ends, "end", 10), MAXIMUM_CONNECT_TIME)


@suite.check("update-secret")
def _():
    with amqp("", token("alice", seconds=3)) as connection:
        channel = connection.channel()
        name = channel.queue_declare(unique("own"), exclusive=True).method.queue
        channel.confirm_delivery()
        channel.basic_publish("", name, b"1")
        connection.update_secret(token("alice", [*OWN]), "it expires")
        connection.process_data_events(time_limit=4)  # longer than the first token lives
        equal(channel.basic_get(name, auto_ack=True)[2], b"1")
        # The route that was remembered went with the permission.
        refused(connection, lambda channel: channel.basic_publish("", name, b""), "write access to exchange 'amq.default'")


@suite.check("update-secret-of-somebody-else")
def _():
    with amqp("", token("alice")) as connection:
        try:
            connection.update_secret(token("bob"), "a mistake")
            connection.process_data_events(time_limit=SECONDS)
        except ConnectionClosedByBroker as error:
            equal(error.reply_code, 530)
            assert "New secret was refused" in error.reply_text, error.reply_text
            return
    raise AssertionError("taken")


@suite.check("update-secret-cancels")
def _():
    with amqp("", token("alice")) as connection:
        channel = connection.channel()
        name = channel.queue_declare(unique("own"), exclusive=True).method.queue
        cancelled = threading.Event()
        channel.add_on_cancel_callback(lambda _frame: cancelled.set())
        channel.basic_consume(name, lambda *_: None)
        connection.update_secret(token("alice", ["rabbitmq.configure:%2F/*"]), "less is enough")
        connection.process_data_events(time_limit=1)
        assert cancelled.is_set(), "the consumer is still there"


suite.main()
