"""What the suites of pika share: a check's connections, and small steps of checks."""

import time
from contextlib import contextmanager

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from checks import Skipped, Suite, amqp_uri, define, delete_policy, equal, unique, wait_until

PARAMETERS = pika.URLParameters(amqp_uri())
VHOST = PARAMETERS.virtual_host
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Session:
    """One check's connections, and the durable things that it must not leave behind."""

    def __init__(self):
        self._connections = []
        self._queues = []
        self._exchanges = []
        self._policies = []

    def connect(self, **changes):
        parameters = pika.URLParameters(amqp_uri())
        for key, value in changes.items():
            setattr(parameters, key, value)
        connection = pika.BlockingConnection(parameters)
        self._connections.append(connection)
        return connection

    def channel(self):
        return self.connect().channel()

    def queue_name(self):
        self._queues.append(unique("q"))
        return self._queues[-1]

    def exchange_name(self):
        self._exchanges.append(unique("x"))
        return self._exchanges[-1]

    def queue(self, channel, bodies=(), **arguments):
        """A new durable queue that holds `bodies`."""
        name = self.queue_name()
        channel.queue_declare(name, durable=True, arguments=arguments or None)
        for body in bodies:
            channel.basic_publish("", name, body)
        wait_until(lambda: ready(channel, name) == len(bodies), 5, f"{len(bodies)} messages are ready")
        return name

    def exchange(self, channel, kind="direct", **options):
        name = self.exchange_name()
        channel.exchange_declare(name, kind, **options)
        return name

    def policy(self, pattern, definition, priority=0, apply_to="queues"):
        """A new policy for what has matching names."""
        name = unique("policy")
        policy = {"vhost": "/", "name": name, "pattern": pattern, "apply-to": apply_to, "definition": definition}
        define({"policies": [policy | {"priority": priority}]})
        self._policies.append(name)
        return name

    def drop_policy(self, name):
        delete_policy(name)
        self._policies.remove(name)

    def close(self):
        for policy in self._policies:
            delete_policy(policy)
        for connection in self._connections:
            if connection.is_open:
                connection.close()
        if self._queues or self._exchanges:
            self._delete_names()

    def _delete_names(self):
        connection = pika.BlockingConnection(PARAMETERS)
        channel = connection.channel()
        for name in self._queues:
            channel.queue_delete(name)
        for name in self._exchanges:
            channel.exchange_delete(name)
        connection.close()


def run(function):
    session = Session()
    try:
        function(session)
    finally:
        session.close()


suite = Suite(run)


# Helpers


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def consumers(channel, queue):
    return channel.queue_declare(queue, passive=True).method.consumer_count


def get(channel, queue, auto_ack=True):
    method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
    assert method is not None, f"{queue} is empty"
    return method, properties, body


def get_empty(channel, queue):
    equal(channel.basic_get(queue)[0], None, "a message of an empty queue")


def drain(channel, queue):
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def consume(channel, queue, count, **options):
    """The next `count` deliveries of a consumer that stays."""
    deliveries = []
    channel.basic_consume(queue, lambda _, *delivery: deliveries.append(delivery), **options)
    await_deliveries(channel, deliveries, count)
    return deliveries


def await_deliveries(channel, deliveries, count, seconds=5):
    deadline = time.monotonic() + seconds
    while len(deliveries) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(deliveries)} deliveries, expected {count}"
        channel.connection.process_data_events(time_limit=left)


class Inbox:
    """What consumers of one channel have got, each with the tag that it is known by."""

    def __init__(self, channel):
        self._channel = channel
        self.deliveries = []

    def consume(self, queue, tag, **options):
        self._channel.basic_consume(queue, lambda _, *got: self.deliveries.append(got), consumer_tag=tag, **options)

    def take(self, count, seconds=5):
        """The next `count` deliveries."""
        await_deliveries(self._channel, self.deliveries, count, seconds)
        taken, self.deliveries[:count] = self.deliveries[:count], []
        return taken

    def tags_and_bodies(self, count):
        return [(method.consumer_tag, body) for method, _, body in self.take(count)]


def bodies(deliveries):
    return [body for _, _, body in deliveries]


def numbered(count):
    return [b"m%d" % number for number in range(count)]


def dead_lettering(to, **arguments):
    """Arguments of a queue whose dead letters go to the queue `to`."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to} | arguments


def publish(channel, queue, body, **properties):
    channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def is_rabbitmq(channel):
    return channel.connection._impl.server_properties["platform"].startswith("Erlang")


def not_in_rabbitmq(channel, what):
    """Skips a check of what RabbitMQ 4.0 doesn't do, when it is the broker."""
    if is_rabbitmq(channel):
        raise Skipped(f"RabbitMQ lacks {what}")


def synchronise(channel):
    """Returns when the broker has handled everything sent before; raises if it has closed the channel."""
    channel.basic_qos(prefetch_count=0)


@contextmanager
def refused(kind, code, text):
    try:
        yield
    except kind as error:
        equal((error.reply_code, error.reply_text), (code, text), "the refusal")
    else:
        raise AssertionError(f"not refused with {code} {text}")


def channel_refused(code, text):
    return refused(ChannelClosedByBroker, code, text)


def connection_refused(code, text):
    return refused(ConnectionClosedByBroker, code, text)
