"""Celery (its worker as a subprocess) and kombu against the broker in AMQP_URI."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

os.environ["ROADSTEAD_CELERY_NAME"] = f"roadstead.celery.{os.urandom(6).hex()}"

from amqp.exceptions import AccessRefused, NotAllowed, NotFound, PreconditionFailed
from celery import chain, group
from celery.exceptions import TaskRevokedError
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.transport.native_delayed_delivery import (
    MAX_LEVEL,
    bind_queue_to_native_delayed_delivery_exchange,
    calculate_routing_key,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

from celery_tasks import NAME, add, app, echo, fail, kill_worker_once, note, succeed_at_third_try
from checks import Suite, amqp_uri, equal, restart_broker, unique, wait_until

SECONDS = 10
VHOST = Connection(amqp_uri()).virtual_host
workers = []


def start_worker(queue, *options):
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-Q", queue, "-n", f"{queue}@%h", *options]
    process = subprocess.Popen(
        command + ["--loglevel", "WARNING"],
        cwd=Path(__file__).parent,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    workers.append(process)
    return process


def stop_workers():
    for process in workers:
        process.terminate()
    for process in workers:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def delete_names():
    with Connection(amqp_uri()) as connection:
        channel = connection.default_channel
        for queue in (NAME, f"{NAME}.crash", f"{NAME}.parked", f"{NAME}.ranked"):
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
        for exchange in (f"{NAME}.pidbox", f"reply.{NAME}.pidbox", f"{NAME}.events"):
            channel.exchange_delete(exchange)


# All checks share one thread: Celery's rpc back end keeps a reply queue per thread.
checks_thread = ThreadPoolExecutor(max_workers=1)
suite = Suite(lambda function: checks_thread.submit(function).result())


# Celery


@suite.check("worker-answers-ping", seconds=30)
def worker_answers_ping():
    start_worker(NAME, "--pool", "prefork", "--concurrency", "2")
    replies = []
    wait_until(lambda: replies.extend(app.control.ping(timeout=0.5)) or replies, 25, "the worker answers a ping")
    equal([list(reply.values()) for reply in replies], [[{"ok": "pong"}]])


@suite.check("task-result")
def task_result():
    equal(add.delay(2, 3).get(timeout=SECONDS), 5)


@suite.check("group-of-a-hundred-tasks", seconds=30)
def group_of_tasks():
    equal(group(add.s(n, n) for n in range(100))().get(timeout=25), [2 * n for n in range(100)])


@suite.check("chain-of-tasks")
def chain_of_tasks():
    equal(chain(add.s(1, 2), add.s(10), add.s(100))().get(timeout=SECONDS), 113)


@suite.check("retries-with-a-countdown")
def retries():
    equal(succeed_at_third_try.delay().get(timeout=SECONDS), 2)


@suite.check("failure-reaches-the-caller")
def failure():
    try:
        fail.delay("on purpose").get(timeout=SECONDS)
    except ValueError as error:
        equal(str(error), "on purpose")
    else:
        raise AssertionError("the task's exception was lost")


@suite.check("eta-is-kept")
def eta():
    due = datetime.now(timezone.utc) + timedelta(seconds=1)
    equal(echo.apply_async(("later",), eta=due).get(timeout=SECONDS), "later")
    assert datetime.now(timezone.utc) >= due, "the task ran too early"


@suite.check("expired-task-is-revoked")
def expired_task():
    result = echo.apply_async(("never",), expires=datetime.now(timezone.utc) - timedelta(seconds=5))
    try:
        result.get(timeout=SECONDS)
    except TaskRevokedError as error:
        equal(str(error), "expired")
    else:
        raise AssertionError("an expired task ran")


@suite.check("large-argument-and-result")
def large_argument():
    value = os.urandom(512 * 1024).hex()
    assert echo.delay(value).get(timeout=SECONDS) == value, "the value has changed"


@suite.check("remote-control-inspects-the-worker")
def remote_control():
    answers = list(app.control.inspect(timeout=2, limit=1).active_queues().values())
    equal([[queue["name"] for queue in queues] for queues in answers], [[NAME]])


@suite.check("events-report-a-task")
def events():
    succeeded = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-succeeded": succeeded.append})
        with receiver.consumer_context() as (events_connection, _, _):
            result = add.delay(20, 22)
            while not succeeded:
                events_connection.drain_events(timeout=SECONDS)
        equal((succeeded[0]["uuid"], succeeded[0]["result"]), (result.id, "42"))


@suite.check("acks-late-survives-a-killed-worker", seconds=40)
def killed_worker():
    queue = f"{NAME}.crash"
    first = start_worker(queue, "--pool", "solo")
    result = kill_worker_once.apply_async(queue=queue)
    equal(first.wait(20), -9, "the first worker's end")
    start_worker(queue, "--pool", "solo")
    equal(result.get(timeout=20), "redelivered")


@suite.check("tasks-by-priority")
def tasks_by_priority():
    ranked = f"{NAME}.ranked"
    arguments = {"x-max-priority": 9}
    with tempfile.TemporaryDirectory() as folder, Connection(amqp_uri()) as connection:
        notes = Path(folder, "notes")
        queue = Queue(ranked, Exchange(ranked), routing_key=ranked, queue_arguments=arguments, channel=connection)
        queue.declare()
        for priority in (0, 9, 5, 3):
            task = note.signature((str(notes), f"priority {priority}"), priority=priority)
            task.apply_async(exchange=ranked, routing_key=ranked, exchange_type="direct")
        # The worker of the solo pool does one task at a time.
        options = {"queue_arguments": arguments}
        solo = [name for name in ping_names() if name.startswith(f"{NAME}.crash@")]
        app.control.add_consumer(ranked, exchange=ranked, options=options, destination=solo, reply=True, timeout=5, limit=1)
        wait_until(lambda: len(lines(notes)) == 4, SECONDS, "the tasks have run")
        in_order = notes.read_text(encoding="utf-8").splitlines()
        equal(in_order, [f"priority {priority}" for priority in (9, 5, 3, 0)])


def ping_names():
    return [name for reply in app.control.ping(timeout=5, limit=2) for name in reply]


@suite.check("a-message-that-expires-is-no-task")
def expiring_task():
    parked = f"{NAME}.parked"
    echo.apply_async(("never",), queue=parked, expiration=0.05)
    with Connection(amqp_uri()) as connection:
        channel = connection.default_channel
        wait_until(lambda: channel.queue_declare(parked, passive=True).message_count == 0, 5, "the message has expired")


# kombu


@suite.check("kombu-native-delayed-delivery")
def kombu_delayed_delivery():
    """What Celery does for countdowns with quorum queues: a chain of queues whose dead letters are at least once."""
    exchange = Exchange(unique("x"), "topic")
    queue = Queue(unique("q"), exchange, routing_key="plant")
    with Connection(amqp_uri()) as connection:
        queue(connection).declare()
        prefixes = {kind: unique(kind) for kind in ("classic", "quorum")}
        try:
            for kind, prefix in prefixes.items():
                declare_native_delayed_delivery_exchanges_and_queues(connection, kind, prefix)
                bind_queue_to_native_delayed_delivery_exchange(connection, queue, prefix)
                key = calculate_routing_key(1, "plant")
                Producer(connection).publish(kind, exchange=level_name(MAX_LEVEL, prefix), routing_key=key)
            start = time.monotonic()
            wait_until(lambda: queue(connection).queue_declare(passive=True).message_count == 2, 10, "both have come")
            assert time.monotonic() - start > 0.5, "they came too early"
            equal({queue(connection).get(no_ack=True).payload for _ in prefixes}, set(prefixes))
        finally:
            queue(connection).delete()
            exchange(connection).delete()
            for prefix in prefixes.values():
                forget_delayed_delivery(connection.default_channel, prefix)


def forget_delayed_delivery(channel, prefix):
    for level in range(MAX_LEVEL + 1):
        channel.queue_delete(level_name(level, prefix))
        channel.exchange_delete(level_name(level, prefix))
    channel.exchange_delete(f"{prefix}_celery_delayed_delivery")


@suite.check("kombu-simple-queue")
def kombu_simple_queue():
    name = unique("q")
    with Connection(amqp_uri()) as connection:
        queue = connection.SimpleQueue(name)
        for number in range(5):
            queue.put({"number": number})
        first = queue.get(timeout=SECONDS)
        first.requeue()
        received = [queue.get(timeout=SECONDS) for _ in range(5)]
        equal(sorted(message.payload["number"] for message in received), list(range(5)))
        for message in received:
            message.ack()
        equal(queue.qsize(), 0, "messages left")
        queue.close()
        connection.default_channel.queue_delete(name)
        connection.default_channel.exchange_delete(name)


@suite.check("kombu-topic-exchange-and-compression")
def kombu_topic():
    exchange = Exchange(unique("x"), "topic")
    queue = Queue(unique("q"), exchange, routing_key="plant.#", max_length=10)
    sent = {"text": "x" * 10_000, "floats": [1.5, -2.25]}
    received = []
    with Connection(amqp_uri(), transport_options={"confirm_publish": True}) as connection:
        with Consumer(connection, [queue], accept=["json"], callbacks=[lambda body, message: received.append((body, message))]):
            properties = {"headers": {"number": 7, "void": None}, "priority": 3, "expiration": 60}
            Producer(connection).publish(sent, exchange=exchange, routing_key="plant.a", compression="zlib", **properties)
            while not received:  # the delivery may have come before the confirm
                connection.drain_events(timeout=SECONDS)
        body, message = received[0]
        equal(body, sent)
        equal((message.headers["number"], message.headers["void"]), (7, None), "headers")
        equal((message.properties["priority"], message.properties["expiration"]), (3, "60000"), "properties")
        message.ack()
        queue(connection).delete()
        exchange(connection).delete()


@suite.check("py-amqp-transactions")
def py_amqp_transactions():
    with Connection(amqp_uri()) as connection:
        channel = connection.channel()
        queue = Queue(unique("q"), channel=channel, exclusive=True)
        queue.declare()
        producer = Producer(channel, routing_key=queue.name)
        channel.tx_select()
        producer.publish("kept")
        channel.tx_commit()
        producer.publish("never")
        channel.tx_rollback()
        equal(queue.get(no_ack=True).payload, "kept")
        equal(queue.get(), None)


@suite.check("refusals")
def refusals():
    missing = unique("missing")
    cases = [
        (
            NotFound,
            404,
            f"NOT_FOUND - no queue '{missing}' in vhost '{VHOST}'",
            lambda c: c.queue_declare(missing, passive=True),
        ),
        (
            AccessRefused,
            403,
            "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
            lambda c: c.queue_declare("amq.mine"),
        ),
        (PreconditionFailed, 406, "PRECONDITION_FAILED - unknown exchange type 'x-nonsense'", declare_nonsense),
        (PreconditionFailed, 406, "PRECONDITION_FAILED - channel is not transactional", lambda c: c.tx_commit()),
        (NotAllowed, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'", reuse_consumer_tag),
    ]
    for kind, code, text, attempt in cases:
        with Connection(amqp_uri()) as connection:
            try:
                attempt(connection.channel())
            except kind as error:
                equal((error.reply_code, error.reply_text), (code, text))
            else:
                raise AssertionError(f"not refused with {text}")


def declare_nonsense(channel):
    channel.exchange_declare(unique("x"), "x-nonsense")


def reuse_consumer_tag(channel):
    queue = channel.queue_declare(exclusive=True).queue
    for _ in range(2):
        channel.basic_consume(queue, consumer_tag="twice")


# A restart of the broker


@suite.check("restart-keeps-tasks-and-the-worker-comes-back", seconds=75)
def restart():
    parked = f"{NAME}.parked"
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        for number in range(3):
            note.apply_async((str(notes), f"task {number}"), queue=parked)
        restart_broker()
        wait_until(lambda: consume_parked(parked), 50, "the worker is back and takes a remote command")
        wait_until(lambda: lines(notes) == [f"task {n}" for n in range(3)], SECONDS, "the parked tasks have run")
    equal(add.delay(3, 4).get(timeout=SECONDS), 7)


def consume_parked(queue):
    try:
        return app.control.add_consumer(queue, reply=True, timeout=1, limit=1)
    except OSError:  # the pooled connection was the old broker's
        return None


def lines(path):
    return sorted(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []


if __name__ == "__main__":
    suite.main(at_end=lambda: (stop_workers(), delete_names()))
