"""librabbitmq's command line tools (amqp-tools) against the broker in AMQP_URI."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

from checks import Skipped, Suite, amqp_uri, equal, restart_broker, unique

URI = urlsplit(amqp_uri())
VHOST = unquote(URI.path[1:])
SECONDS = 10


class Session:
    """Queues that are deleted when the check ends."""

    def __init__(self):
        self._queues = []

    def queue_name(self):
        self._queues.append(unique("q"))
        return self._queues[-1]

    def queue(self, *bodies):
        """A new durable queue that holds `bodies`."""
        name = self.queue_name()
        declare(name, "--durable")
        for body in bodies:
            publish(name, body)
        return name

    def close(self):
        for name in self._queues:
            tool("amqp-delete-queue", "-q", name)


def run(function):
    if not shutil.which("amqp-publish"):
        raise Skipped("amqp-tools is not installed")
    session = Session()
    try:
        function(session)
    finally:
        session.close()


suite = Suite(run)


def call(name, *options, uri=None, stdin=b""):
    return subprocess.run([name, "-u", uri or amqp_uri(), *options], input=stdin, capture_output=True, timeout=SECONDS)


def tool(name, *options, stdin=b""):
    """Runs a tool that must succeed and returns what it writes."""
    done = call(name, *options, stdin=stdin)
    equal((done.returncode, done.stderr), (0, b""), f"the end of {name}")
    return done.stdout


def refused(text, name, *options, **others):
    done = call(name, *options, **others)
    equal((done.returncode, done.stderr.decode().strip()), (1, text), f"the end of {name}")


def declare(name, *options):
    return tool("amqp-declare-queue", "-q", name, *options).decode().strip()


def publish(queue, body, *options):
    tool("amqp-publish", "-r", queue, *options, stdin=body)


def get(queue):
    return tool("amqp-get", "-q", queue)


def get_empty(queue):
    done = call("amqp-get", "-q", queue)
    equal((done.returncode, done.stdout), (2, b""), "amqp-get of an empty queue")


def consume(queue, count, *command, options=()):
    return tool("amqp-consume", "-q", queue, "-c", str(count), *options, *command)


@suite.check("declare-and-delete-a-queue")
def declare_and_delete(session):
    name = session.queue_name()
    equal(declare(name, "--durable"), name)
    publish(name, b"one")
    equal(tool("amqp-delete-queue", "-q", name), b"1\n", "the deleted queue's messages")


@suite.check("declare-server-named-queue")
def server_named_queue(session):
    name = declare("")
    assert name.startswith("amq.gen-"), name
    tool("amqp-delete-queue", "-q", name)


@suite.check("transient-queue-outlives-its-connection")
def transient_queue(session):
    name = session.queue_name()
    declare(name)
    publish(name, b"x")
    equal(get(name), b"x")


@suite.check("publish-and-get")
def publish_and_get(session):
    queue = session.queue(b"first", b"second")
    equal((get(queue), get(queue)), (b"first", b"second"))
    get_empty(queue)


@suite.check("publish-with-properties")
def publish_with_properties(session):
    queue = session.queue()
    properties = ["-p", "-C", "text/plain", "-E", "identity", "-t", "reply.queue", "-H", "shape: round", "-H", "size: 1"]
    publish(queue, b"x", *properties)
    equal(get(queue), b"x")


@suite.check("publish-line-by-line")
def publish_lines(session):
    queue = session.queue()
    publish(queue, b"a\nb\nc\n", "--line-buffered")
    equal(consume(queue, 3, "cat"), b"a\nb\nc\n")
    get_empty(queue)


@suite.check("message-sizes")
def message_sizes(session):
    queue = session.queue()
    for size in (0, 1, 128 * 1024 - 8, 128 * 1024 + 1, 16 * 1024 * 1024):
        sent = os.urandom(size)
        publish(queue, sent)
        received = get(queue)
        equal((len(received), hashlib.sha256(received).digest()), (size, hashlib.sha256(sent).digest()), f"{size} bytes")


@suite.check("consume-with-prefetch")
def consume_with_prefetch(session):
    queue = session.queue(*(b"%d\n" % number for number in range(20)))
    expected = b"".join(b"%d\n" % number for number in range(20))
    equal(consume(queue, 20, "cat", options=["-p", "3"]), expected)
    get_empty(queue)


@suite.check("consume-leaves-the-rest")
def consume_leaves_the_rest(session):
    queue = session.queue(b"a", b"b", b"c")
    equal(consume(queue, 2, "cat"), b"ab")
    equal(get(queue), b"c")
    get_empty(queue)


@suite.check("failing-consumer-returns-the-message")
def failing_consumer(session):
    queue = session.queue(b"a", b"b")
    equal(call("amqp-consume", "-q", queue, "-c", "1", "false").stdout, b"")
    equal(consume(queue, 2, "cat"), b"ab")


@suite.check("consume-from-an-exchange")
def consume_from_exchange(session):
    key = unique("key")
    command = ["amqp-consume", "-u", amqp_uri(), "-e", "amq.direct", "-r", key, "-x", "-c", "1", "cat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as consumer:
        end = time.monotonic() + SECONDS
        while consumer.poll() is None and time.monotonic() < end:  # it does not tell when its queue is bound
            tool("amqp-publish", "-e", "amq.direct", "-r", key, stdin=b"routed")
        consumer.kill()
        equal((consumer.returncode, consumer.stdout.read()), (0, b"routed"))


@suite.check("404-missing")
def missing(session):
    name = unique("missing")
    no_queue = f"server channel error 404, message: NOT_FOUND - no queue '{name}' in vhost '{VHOST}'"
    refused(f"basic.get: {no_queue}", "amqp-get", "-q", name)
    refused(f"basic.consume: {no_queue}", "amqp-consume", "-q", name, "cat")
    no_exchange = f"server channel error 404, message: NOT_FOUND - no exchange '{name}' in vhost '{VHOST}'"
    refused(f"closing channel: {no_exchange}", "amqp-publish", "-e", name, "-r", "k", stdin=b"x")
    equal(tool("amqp-delete-queue", "-q", name), b"0\n", "deleting a missing queue")


@suite.check("406-inequivalent-or-not-empty")
def precondition_failed(session):
    name = session.queue(b"x")
    about = f"server channel error 406, message: PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}'"
    text = f"queue.declare: {about} in vhost '{VHOST}': received 'false' but current is 'true'"
    refused(text, "amqp-declare-queue", "-q", name)
    not_empty = f"PRECONDITION_FAILED - queue '{name}' in vhost '{VHOST}' not empty"
    text = f"queue.delete: server channel error 406, message: {not_empty}"
    refused(text, "amqp-delete-queue", "-q", name, "--if-empty")


@suite.check("403-refused")
def access_refused(session):
    text = "server channel error 403, message: ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
    refused(f"queue.declare: {text}", "amqp-declare-queue", "-q", "amq.mine")
    wrong = URI._replace(netloc=f"{URI.username}:wrong@{URI.hostname}:{URI.port}").geturl()
    text = (
        "logging in to AMQP server: server connection error 403, message: ACCESS_REFUSED - "
        "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    )
    refused(text, "amqp-get", "-q", "any", uri=wrong)


@suite.check("530-missing-vhost")
def missing_vhost(session):
    text = "logging in to AMQP server: server connection error 530, message: NOT_ALLOWED - vhost no-such-vhost not found"
    refused(text, "amqp-get", "-q", "any", uri=URI._replace(path="/no-such-vhost").geturl())


@suite.check("restart-keeps-persistent-messages", seconds=60)
def restart(session):
    queue = session.queue()
    for body in (b"1", b"2", b"3"):
        publish(queue, body, "--persistent")
    publish(queue, b"transient")
    restart_broker()
    equal(consume(queue, 3, "cat"), b"123")
    get_empty(queue)


if __name__ == "__main__":
    suite.main()
