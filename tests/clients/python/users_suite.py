"""Users and permissions, by pika and py-amqp, against a broker that has the harness's users.

`guest` may do everything, `imported` has the password `test12` by a hash of RabbitMQ's, `ursula` has none, and `limited`
(`secret`) may use `roadstead.own…` and publish to amq.topic with routing keys that begin with its name.
"""

import amqp
import pika
from amqp.exceptions import AccessRefused
from pika.exceptions import ChannelClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from checks import Suite, amqp_uri, equal, unique

GUEST = pika.URLParameters(amqp_uri())
HOST = f"{GUEST.host}:{GUEST.port}"
LIMITED = pika.PlainCredentials("limited", "secret")
REFUSED_LOGIN = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism {}. For details see the broker logfile."
)


class Session:
    """One check's connections, and a queue that only guest may use."""

    def __init__(self):
        self._connections = []
        self.guest = self.connect(GUEST.credentials).channel()
        self.foreign = self.guest.queue_declare(unique("foreign"), exclusive=False, auto_delete=True).method.queue

    def connect(self, credentials, vhost="/"):
        connection = pika.BlockingConnection(
            pika.ConnectionParameters(GUEST.host, GUEST.port, vhost, credentials=credentials)
        )
        self._connections.append(connection)
        return connection

    def limited(self):
        return self.connect(LIMITED).channel()

    def close(self):
        self.guest.queue_delete(self.foreign)
        for connection in self._connections:
            if connection.is_open:
                connection.close()


def run(function):
    session = Session()
    try:
        function(session)
    finally:
        session.close()


suite = Suite(run)


# Helpers


def own():
    return unique("own")


def refused(text, session, *actions):
    """Each of the actions closes its channel with this text."""
    for action in actions:
        channel = session.limited()
        try:
            action(channel)
            channel.queue_declare(own(), exclusive=True)  # a round trip
        except ChannelClosedByBroker as error:
            equal((error.reply_code, error.reply_text), (403, f"ACCESS_REFUSED - {text}"))
            continue
        raise AssertionError(f"allowed, but expected: {text}")


def refused_login(connect, mechanism="PLAIN"):
    try:
        connect()
    except ProbableAuthenticationError as error:
        assert REFUSED_LOGIN.format(mechanism) in str(error), str(error)
        return
    raise AssertionError("logged in")


# Checks


@suite.check("wrong-password")
def _(session):
    refused_login(lambda: session.connect(pika.PlainCredentials("limited", "Secret")))
    refused_login(lambda: session.connect(pika.PlainCredentials("limited", "")))
    refused_login(lambda: session.connect(pika.PlainCredentials("limited.", "secret")))


@suite.check("user-without-password")
def _(session):
    refused_login(lambda: session.connect(pika.PlainCredentials("ursula", "")))
    refused_login(lambda: session.connect(pika.PlainCredentials("ursula", "ursula")))


@suite.check("imported-hash")
def _(session):
    for _ in range(2):  # the second login is by the memory of the first
        session.connect(pika.PlainCredentials("imported", "test12")).channel()
        refused_login(lambda: session.connect(pika.PlainCredentials("imported", "test13")))


@suite.check("amqplain")
def _(session):
    with amqp.Connection(HOST, "limited", "secret", login_method="AMQPLAIN") as connection:
        queue = connection.channel().queue_declare(own(), exclusive=True).queue
        assert queue.startswith("roadstead.own"), queue
    try:
        amqp.Connection(HOST, "limited", "wrong", login_method="AMQPLAIN").connect()
    except AccessRefused as error:
        equal(error.reply_text, REFUSED_LOGIN.format("AMQPLAIN"))
        return
    raise AssertionError("logged in with a wrong password")


@suite.check("vhost-refused")
def _(session):
    session.connect(GUEST.credentials, "elsewhere").channel()
    for vhost, text in [
        ("elsewhere", "NOT_ALLOWED - access to vhost 'elsewhere' refused for user 'limited'"),
        ("nowhere", "NOT_ALLOWED - vhost nowhere not found"),
    ]:
        try:
            session.connect(LIMITED, vhost)
        except ProbableAccessDeniedError as error:
            assert "(530)" in str(error) and text in str(error), str(error)
            continue
        raise AssertionError(f"limited opened {vhost}")


@suite.check("own-names-are-allowed")
def _(session):
    channel = session.limited()
    exchange, queue = own(), own()
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, exchange)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "", b"allowed", mandatory=True)
    equal(channel.basic_get(queue, auto_ack=True)[2], b"allowed")


@suite.check("configure-refused")
def _(session):
    text = f"configure access to queue '{session.foreign}' in vhost '/' refused for user 'limited'"
    refused(
        text,
        session,
        lambda channel: channel.queue_declare(session.foreign, auto_delete=True),
        lambda channel: channel.queue_delete(session.foreign),
    )
    refused(
        "configure access to exchange 'roadstead.x' in vhost '/' refused for user 'limited'",
        session,
        lambda channel: channel.exchange_declare("roadstead.x"),
        lambda channel: channel.exchange_delete("roadstead.x"),
    )


@suite.check("read-refused")
def _(session):
    refused(
        f"read access to queue '{session.foreign}' in vhost '/' refused for user 'limited'",
        session,
        lambda channel: channel.basic_get(session.foreign),
        lambda channel: channel.basic_consume(session.foreign, print),
        lambda channel: channel.queue_purge(session.foreign),
    )
    refused(
        "read access to exchange 'amq.fanout' in vhost '/' refused for user 'limited'", session, bind_to("amq.fanout")
    )


def bind_to(exchange):
    def bind(channel):
        queue = channel.queue_declare(own(), exclusive=True).method.queue
        channel.queue_bind(queue, exchange)

    return bind


@suite.check("write-refused")
def _(session):
    refused(
        "write access to exchange 'amq.fanout' in vhost '/' refused for user 'limited'",
        session,
        lambda channel: channel.basic_publish("amq.fanout", "", b""),
    )
    refused(
        "write access to exchange 'amq.default' in vhost '/' refused for user 'limited'",
        session,
        lambda channel: channel.basic_publish("", session.foreign, b""),
    )
    refused(
        f"write access to queue '{session.foreign}' in vhost '/' refused for user 'limited'",
        session,
        lambda channel: channel.queue_bind(session.foreign, "amq.topic", "limited.#"),
    )
    equal(session.guest.queue_declare(session.foreign, passive=True).method.message_count, 0)


@suite.check("topic-refused")
def _(session):
    queue = session.guest.queue_declare("", exclusive=True).method.queue
    session.guest.queue_bind(queue, "amq.topic", "#")
    channel = session.limited()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "limited.news", b"allowed", mandatory=True)
    refused(
        "write access to topic 'guest.news' in exchange 'amq.topic' in vhost '/' refused for user 'limited'",
        session,
        lambda channel: channel.basic_publish("amq.topic", "guest.news", b""),
    )
    equal(session.guest.basic_get(queue, auto_ack=True)[2], b"allowed")
    equal(session.guest.basic_get(queue)[0], None, "a message that was refused")


@suite.check("channel-refused-connection-stays")
def _(session):
    connection = session.connect(LIMITED)
    channel = connection.channel()
    try:
        channel.queue_delete(session.foreign)
    except ChannelClosedByBroker:
        pass
    connection.channel().queue_declare(own(), exclusive=True)


if __name__ == "__main__":
    suite.main()
