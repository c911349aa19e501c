"""pika (blocking connection) against the broker in AMQP_URI."""

import datetime
import decimal
import hashlib
import os

import pika
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    NackError,
    ProbableAuthenticationError,
    UnroutableError,
)

from checks import equal, restart_broker, unique, wait_until
from pika_session import (
    PARAMETERS,
    PERSISTENT,
    VHOST,
    await_deliveries,
    bodies,
    channel_refused,
    connection_refused,
    consume,
    consumers,
    drain,
    get,
    get_empty,
    numbered,
    ready,
    suite,
    synchronise,
)

# Declarations


@suite.check("declare-durable-queue")
def declare_durable_queue(session):
    channel = session.channel()
    name = session.queue_name()
    declared = channel.queue_declare(name, durable=True).method
    equal((declared.queue, declared.message_count, declared.consumer_count), (name, 0, 0), "declare-ok")
    channel.basic_publish("", name, b"one")
    wait_until(lambda: ready(channel, name) == 1, 5, "one message is ready")
    equal(channel.queue_declare(name, durable=True).method.message_count, 1, "count at the second declare")


@suite.check("declare-passive-counts")
def declare_passive_counts(session):
    channel = session.channel()
    name = session.queue(channel, numbered(3))
    consume(channel, name, 3)
    equal((ready(channel, name), consumers(channel, name)), (0, 1), "messages and consumers")


@suite.check("declare-server-named-queue")
def declare_server_named_queue(session):
    channel = session.channel()
    first = channel.queue_declare("", exclusive=True).method.queue
    second = channel.queue_declare("", exclusive=True).method.queue
    assert first.startswith("amq.gen-"), first
    assert first != second, "two server-named queues share a name"
    channel.basic_publish("", first, b"x")
    wait_until(lambda: ready(channel, first) == 1, 5, "the message is routed by the generated name")


@suite.check("exclusive-queue-goes-with-its-connection")
def exclusive_queue_goes(session):
    owner = session.connect()
    name = session.queue_name()
    owner.channel().queue_declare(name, exclusive=True)
    owner.close()
    with channel_refused(404, f"NOT_FOUND - no queue '{name}' in vhost '{VHOST}'"):
        session.channel().queue_declare(name, passive=True)


@suite.check("auto-delete-queue-goes-with-its-last-consumer")
def auto_delete_queue(session):
    connection = session.connect()
    channel = connection.channel()
    name = session.queue_name()
    channel.queue_declare(name, auto_delete=True, exclusive=True)
    tag = channel.basic_consume(name, lambda *_: None)
    equal(consumers(channel, name), 1, "consumers")
    channel.basic_cancel(tag)
    with channel_refused(404, f"NOT_FOUND - no queue '{name}' in vhost '{VHOST}'"):
        connection.channel().queue_declare(name, passive=True)


@suite.check("auto-delete-exchange-goes-with-its-last-binding")
def auto_delete_exchange(session):
    channel = session.channel()
    exchange = session.exchange(channel, "fanout", auto_delete=True)
    queue = session.queue(channel)
    channel.queue_bind(queue, exchange, "")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_unbind(queue, exchange, "")
    with channel_refused(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '{VHOST}'"):
        channel.exchange_declare(exchange, passive=True)


@suite.check("purge-and-delete-return-counts")
def purge_and_delete(session):
    channel = session.channel()
    name = session.queue(channel, numbered(4))
    equal(channel.queue_purge(name).method.message_count, 4, "purged messages")
    channel.basic_publish("", name, b"last")
    wait_until(lambda: ready(channel, name) == 1, 5, "one message is ready")
    equal(channel.queue_delete(name).method.message_count, 1, "messages deleted with the queue")
    equal(channel.queue_delete(name).method.message_count, 0, "deleting a missing queue")


# Routing


def routes(session, kind, bindings, published):
    """Binds one queue per entry of `bindings`, publishes, and returns what each queue got."""
    channel = session.channel()
    exchange = session.exchange(channel, kind)
    queues = []
    for key, arguments in bindings:
        queues.append(session.queue(channel))
        channel.queue_bind(queues[-1], exchange, key, arguments)
    channel.confirm_delivery()
    for key, headers, body in published:
        channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers))
    return [drain(channel, queue) for queue in queues]


@suite.check("exchange-direct")
def exchange_direct(session):
    got = routes(session, "direct", [("a", None), ("b", None)], [("a", None, b"1"), ("b", None, b"2"), ("c", None, b"3")])
    equal(got, [[b"1"], [b"2"]])


@suite.check("exchange-fanout")
def exchange_fanout(session):
    got = routes(session, "fanout", [("", None), ("ignored", None)], [("a", None, b"1"), ("", None, b"2")])
    equal(got, [[b"1", b"2"]] * 2)


@suite.check("exchange-topic")
def exchange_topic(session):
    keys = ["plant.seven.temp", "plant.temp", "plant", "", "plant..temp", "plant.a.b.temp"]
    patterns = ["plant.*.temp", "plant.#", "#", "*", "#.temp", "plant.#.temp"]
    got = routes(session, "topic", [(p, None) for p in patterns], [(k, None, k.encode()) for k in keys])
    expected = [
        ["plant.seven.temp", "plant..temp"],
        ["plant.seven.temp", "plant.temp", "plant", "plant..temp", "plant.a.b.temp"],
        keys,
        ["plant"],
        ["plant.seven.temp", "plant.temp", "plant..temp", "plant.a.b.temp"],
        ["plant.seven.temp", "plant.temp", "plant..temp", "plant.a.b.temp"],
    ]
    equal([[body.decode() for body in queue] for queue in got], expected)


@suite.check("exchange-headers")
def exchange_headers(session):
    bindings = [
        ("", {"x-match": "all", "shape": "round", "size": 1}),
        ("", {"x-match": "any", "shape": "round", "size": 1}),
        ("", {"shape": None}),
    ]
    published = [
        ("", {"shape": "round", "size": 1, "more": True}, b"both"),
        ("", {"shape": "round"}, b"shape"),
        ("", {"size": 1}, b"size"),
        ("", {"size": 2}, b"neither"),
    ]
    equal(routes(session, "headers", bindings, published), [[b"both"], [b"both", b"shape", b"size"], [b"both", b"shape"]])


@suite.check("exchange-to-exchange-binding")
def exchange_to_exchange(session):
    channel = session.channel()
    source = session.exchange(channel, "topic")
    target = session.exchange(channel, "fanout")
    queue = session.queue(channel)
    channel.queue_bind(queue, target, "")
    channel.exchange_bind(target, source, "in.#")
    channel.confirm_delivery()
    channel.basic_publish(source, "in.one", b"through")
    channel.basic_publish(source, "out.one", b"nowhere")
    equal(drain(channel, queue), [b"through"])
    channel.exchange_unbind(target, source, "in.#")
    channel.basic_publish(source, "in.two", b"too late")
    equal(drain(channel, queue), [])


@suite.check("two-bindings-one-copy")
def two_bindings_one_copy(session):
    channel = session.channel()
    exchange = session.exchange(channel, "topic")
    queue = session.queue(channel)
    channel.queue_bind(queue, exchange, "a.*")
    channel.queue_bind(queue, exchange, "*.b")
    channel.confirm_delivery()
    channel.basic_publish(exchange, "a.b", b"once")
    equal(drain(channel, queue), [b"once"])


@suite.check("alternate-exchange")
def alternate_exchange(session):
    channel = session.channel()
    alternate = session.exchange(channel, "fanout")
    exchange = session.exchange(channel, "direct", arguments={"alternate-exchange": alternate})
    queue = session.queue(channel)
    channel.queue_bind(queue, alternate, "")
    channel.confirm_delivery()
    channel.basic_publish(exchange, "unbound", b"caught", mandatory=True)
    equal(drain(channel, queue), [b"caught"])


@suite.check("cc-and-bcc-headers")
def cc_and_bcc(session):
    channel = session.channel()
    to, cc, bcc = (session.queue(channel) for _ in range(3))
    channel.confirm_delivery()
    channel.basic_publish("", to, b"letter", pika.BasicProperties(headers={"CC": [cc], "BCC": [bcc]}))
    for queue in (to, cc, bcc):
        _, properties, body = get(channel, queue)
        equal((properties.headers, body), ({"CC": [cc]}, b"letter"), "the copy")


# Publishing


@suite.check("publish-with-confirms")
def publish_with_confirms(session):
    channel = session.channel()
    queue = session.queue(channel)
    channel.confirm_delivery()
    for body in numbered(50):
        channel.basic_publish("", queue, body, PERSISTENT, mandatory=True)
    equal(ready(channel, queue), 50, "messages after their confirms")
    equal(drain(channel, queue), numbered(50))


@suite.check("mandatory-return")
def mandatory_return(session):
    channel = session.channel()
    returns = []
    channel.add_on_return_callback(lambda _, *returned: returns.append(returned))
    missing = unique("nowhere")
    channel.basic_publish("", missing, b"back", pika.BasicProperties(message_id="7"), mandatory=True)
    await_deliveries(channel, returns, 1)
    method, properties, body = returns[0]
    equal((method.reply_code, method.reply_text, method.exchange, method.routing_key), (312, "NO_ROUTE", "", missing))
    equal((properties.message_id, body), ("7", b"back"), "the returned message")


@suite.check("mandatory-return-before-its-confirm")
def mandatory_return_in_confirm_mode(session):
    channel = session.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", unique("nowhere"), b"back", mandatory=True)
    except UnroutableError as error:
        equal([(m.method.reply_code, m.body) for m in error.messages], [(312, b"back")])
    else:
        raise AssertionError("an unroutable mandatory message was not returned")
    channel.basic_publish("", unique("nowhere"), b"dropped")


@suite.check("message-sizes")
def message_sizes(session):
    channel = session.channel()
    queue = session.queue(channel)
    channel.confirm_delivery()
    for size in (0, 1, 128 * 1024 - 8, 128 * 1024 + 1, 1_000_000, 16 * 1024 * 1024):
        sent = os.urandom(size)
        channel.basic_publish("", queue, sent, mandatory=True)
        received = get(channel, queue)[2]
        equal((len(received), digest(received)), (size, digest(sent)), f"a message of {size} bytes")


def digest(body):
    return hashlib.sha256(body).hexdigest()


@suite.check("properties-round-trip")
def properties_round_trip(session):
    channel = session.channel()
    queue = session.queue(channel)
    sent = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="gzip",
        headers={"k": "v"},
        delivery_mode=2,
        priority=9,
        correlation_id="correlation",
        reply_to="reply.queue",
        expiration="60000",
        message_id="message",
        timestamp=1_700_000_000,
        type="kind",
        user_id=PARAMETERS.credentials.username,
        app_id="suite",
        cluster_id="cluster",
    )
    channel.basic_publish("", queue, b"x", sent)
    synchronise(channel)
    _, received, _ = get(channel, queue)
    equal(vars(received), vars(sent), "the properties")


@suite.check("no-properties-stay-absent")
def no_properties(session):
    channel = session.channel()
    queue = session.queue(channel, [b"bare"])
    equal(vars(get(channel, queue)[1]), vars(pika.BasicProperties()), "the properties")


@suite.check("header-types-round-trip")
def header_types(session):
    """pika cannot send floating point numbers; the other suites do."""
    channel = session.channel()
    queue = session.queue(channel)
    headers = {
        "true": True,
        "false": False,
        "int": -5,
        "long": -(2**40),
        "largest": 2**63 - 1,
        "decimal": decimal.Decimal("3.14"),
        "string": "grüße \u2603",
        "empty": "",
        "long string": "s" * 3000,
        "bytes": b"\x00\xff",
        "time": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
        "void": None,
        "table": {"inner": {"deep": [1, "two", None]}},
        "array": [1, "two", True, None, {"k": 1}, []],
        "no table": {},
    }
    channel.basic_publish("", queue, b"x", pika.BasicProperties(headers=headers))
    synchronise(channel)
    received = get(channel, queue)[1].headers
    received["time"] = received["time"].replace(tzinfo=datetime.timezone.utc)
    received["bytes"] = as_bytes(received["bytes"])
    equal(received, headers, "the headers")


def as_bytes(value):
    return value if isinstance(value, bytes) else value.encode()


# Consuming


@suite.check("consume-with-manual-acks")
def consume_with_manual_acks(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(10))
    deliveries = consume(channel, queue, 10, consumer_tag="reader")
    equal(bodies(deliveries), numbered(10))
    equal([m.delivery_tag for m, _, _ in deliveries], list(range(1, 11)), "delivery tags")
    equal(
        {(m.consumer_tag, m.redelivered, m.exchange, m.routing_key) for m, _, _ in deliveries}, {("reader", False, "", queue)}
    )
    for method, _, _ in deliveries:
        channel.basic_ack(method.delivery_tag)
    channel.close()
    equal(ready(session.channel(), queue), 0, "messages after their acks")


@suite.check("consume-auto-ack")
def consume_auto_ack(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(5))
    equal(bodies(consume(channel, queue, 5, auto_ack=True)), numbered(5))
    channel.close()
    equal(ready(session.channel(), queue), 0, "messages after an automatic ack")


@suite.check("get-and-get-empty")
def get_and_get_empty(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(2))
    method, _, body = get(channel, queue, auto_ack=False)
    equal((method.delivery_tag, method.redelivered, method.message_count, method.routing_key), (1, False, 1, queue))
    equal(body, b"m0")
    channel.basic_ack(1)
    equal(get(channel, queue)[2], b"m1")
    get_empty(channel, queue)


@suite.check("ack-multiple")
def ack_multiple(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(6))
    consume(channel, queue, 6)
    channel.basic_ack(4, multiple=True)
    channel.close()
    channel = session.channel()
    equal(drain(channel, queue), [b"m4", b"m5"], "what was not acknowledged")


@suite.check("ack-tag-zero-multiple")
def ack_everything(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(3))
    channel.basic_ack(0, multiple=True)
    consume(channel, queue, 3)
    channel.basic_ack(0, multiple=True)
    channel.close()
    equal(ready(session.channel(), queue), 0, "messages")


@suite.check("nack-requeue-keeps-the-order")
def nack_requeue(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(5))
    tags = [get(channel, queue, auto_ack=False)[0].delivery_tag for _ in range(3)]
    channel.basic_nack(tags[1], requeue=True)
    channel.basic_nack(tags[0], requeue=True)
    channel.basic_nack(tags[2], requeue=True)
    again = [get(channel, queue) for _ in range(5)]
    equal([body for _, _, body in again], numbered(5))
    equal([method.redelivered for method, _, _ in again], [True, True, True, False, False], "redelivered flags")


@suite.check("nack-multiple-requeue")
def nack_multiple(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(4))
    consume(channel, queue, 4, consumer_tag="reader")
    channel.basic_cancel("reader")
    channel.basic_nack(3, multiple=True, requeue=True)
    synchronise(channel)
    equal(drain(channel, queue), [b"m0", b"m1", b"m2"])


@suite.check("reject-requeue-and-drop")
def reject(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(1))
    channel.basic_reject(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=True)
    method, _, body = get(channel, queue, auto_ack=False)
    equal((method.redelivered, body), (True, b"m0"))
    channel.basic_reject(method.delivery_tag, requeue=False)
    synchronise(channel)
    get_empty(channel, queue)


@suite.check("unacked-messages-return-when-the-connection-goes")
def unacked_messages_return(session):
    connection = session.connect()
    channel = connection.channel()
    queue = session.queue(channel, numbered(3))
    consume(channel, queue, 3)
    connection.close()
    channel = session.channel()
    wait_until(lambda: ready(channel, queue) == 3, 5, "the messages are back")
    again = [get(channel, queue) for _ in range(3)]
    equal([(method.redelivered, body) for method, _, body in again], [(True, body) for body in numbered(3)])


@suite.check("recover-requeues")
def recover(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(2))
    for _ in range(2):
        get(channel, queue, auto_ack=False)
    channel.basic_recover(requeue=True)
    again = [get(channel, queue) for _ in range(2)]
    equal([(method.redelivered, body) for method, _, body in again], [(True, b"m0"), (True, b"m1")])


@suite.check("prefetch-per-consumer")
def prefetch_per_consumer(session):
    channel = session.channel()
    first, second = (session.queue(channel, numbered(9)) for _ in range(2))
    channel.basic_qos(prefetch_count=2)
    of_first = consume(channel, first, 2)
    of_second = consume(channel, second, 2)
    synchronise_deliveries(channel)
    equal((len(of_first), len(of_second)), (2, 2), "deliveries of two consumers with two each")
    equal((ready(channel, first), ready(channel, second)), (7, 7), "messages held back")


@suite.check("prefetch-ack-releases-the-next")
def prefetch_ack(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(6))
    channel.basic_qos(prefetch_count=2)
    deliveries = consume(channel, queue, 2)
    channel.basic_ack(1)
    await_deliveries(channel, deliveries, 3)
    channel.basic_ack(3, multiple=True)
    await_deliveries(channel, deliveries, 5)
    equal(bodies(deliveries), numbered(5))
    equal(ready(channel, queue), 1, "messages held back")


@suite.check("prefetch-per-channel")
def prefetch_per_channel(session):
    channel = session.channel()
    first, second = (session.queue(channel, numbered(5)) for _ in range(2))
    channel.basic_qos(prefetch_count=3, global_qos=True)
    deliveries = []
    for queue in (first, second):
        channel.basic_consume(queue, lambda _, *delivery: deliveries.append(delivery))
    await_deliveries(channel, deliveries, 3)
    equal(ready(channel, first) + ready(channel, second), 7, "messages held back")


def synchronise_deliveries(channel):
    """Whatever the broker would send without being asked has arrived after two round trips."""
    for _ in range(2):
        channel.queue_declare("", exclusive=True)


@suite.check("two-consumers-share-a-queue")
def two_consumers(session):
    channel = session.channel()
    queue = session.queue(channel)
    channel.basic_qos(prefetch_count=1)
    deliveries = []
    for tag in ("left", "right"):
        channel.basic_consume(queue, lambda _, *delivery: deliveries.append(delivery), consumer_tag=tag)
    for body in numbered(2):
        channel.basic_publish("", queue, body)
    await_deliveries(channel, deliveries, 2)
    equal({method.consumer_tag for method, _, _ in deliveries}, {"left", "right"}, "who got the two messages")


@suite.check("single-active-consumer")
def single_active_consumer(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-single-active-consumer": True})
    deliveries = []
    for tag in ("active", "waiting"):
        channel.basic_consume(queue, lambda _, *delivery: deliveries.append(delivery), consumer_tag=tag, auto_ack=True)
    for body in numbered(4):
        channel.basic_publish("", queue, body)
    await_deliveries(channel, deliveries, 4)
    equal({method.consumer_tag for method, _, _ in deliveries}, {"active"}, "who got the messages")
    channel.basic_cancel("active")
    channel.basic_publish("", queue, b"next")
    await_deliveries(channel, deliveries, 5)
    equal(deliveries[4][0].consumer_tag, "waiting", "who took over")


@suite.check("consumer-priority")
def consumer_priority(session):
    channel = session.channel()
    queue = session.queue(channel)
    deliveries = []
    for tag, priority in (("low", 1), ("high", 5)):
        channel.basic_consume(
            queue,
            lambda _, *delivery: deliveries.append(delivery),
            consumer_tag=tag,
            auto_ack=True,
            arguments={"x-priority": priority},
        )
    for body in numbered(4):
        channel.basic_publish("", queue, body)
    await_deliveries(channel, deliveries, 4)
    equal({method.consumer_tag for method, _, _ in deliveries}, {"high"}, "who got the messages")


@suite.check("cancel-keeps-unacked-deliveries")
def cancel_keeps_unacked(session):
    channel = session.channel()
    queue = session.queue(channel, numbered(2))
    consume(channel, queue, 2, consumer_tag="reader")
    channel.basic_cancel("reader")
    equal(consumers(channel, queue), 0, "consumers")
    channel.basic_ack(1)
    channel.basic_nack(2, requeue=True)
    synchronise(channel)
    equal(drain(channel, queue), [b"m1"])


@suite.check("consumer-cancel-notify")
def consumer_cancel_notify(session):
    connection = session.connect()
    channel = connection.channel()
    queue = session.queue(channel)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    channel.basic_consume(queue, lambda *_: None, consumer_tag="orphan")
    session.channel().queue_delete(queue)
    await_deliveries(channel, cancelled, 1)
    equal(cancelled, ["orphan"])
    assert channel.is_open


@suite.check("direct-reply-to")
def direct_reply_to(session):
    client, server = session.channel(), session.channel()
    requests = session.queue(server)
    replies = []
    client.basic_consume("amq.rabbitmq.reply-to", lambda _, *delivery: replies.append(delivery), auto_ack=True)
    client.basic_publish("", requests, b"ping", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="1"))
    _, request, body = consume(server, requests, 1, auto_ack=True)[0]
    assert request.reply_to.startswith("amq.rabbitmq.reply-to."), request.reply_to
    server.basic_publish("", request.reply_to, body + b" pong", pika.BasicProperties(correlation_id=request.correlation_id))
    await_deliveries(client, replies, 1)
    _, reply, body = replies[0]
    equal((reply.correlation_id, body), ("1", b"ping pong"), "the reply")


# Transactions


@suite.check("tx-commit")
def tx_commit(session):
    channel, other = session.channel(), session.channel()
    queue = session.queue(channel, [b"old"])
    channel.tx_select()
    channel.basic_ack(get(channel, queue, auto_ack=False)[0].delivery_tag)
    for body in numbered(3):
        channel.basic_publish("", queue, body, PERSISTENT)
    synchronise(channel)
    equal(ready(other, queue), 0, "messages before the commit")
    channel.tx_commit()
    equal(drain(other, queue), numbered(3), "messages after the commit")
    channel.close()
    get_empty(other, queue)


@suite.check("tx-rollback")
def tx_rollback(session):
    channel = session.channel()
    queue = session.queue(channel, [b"old"])
    channel.tx_select()
    tag = get(channel, queue, auto_ack=False)[0].delivery_tag
    channel.basic_ack(tag)
    channel.basic_publish("", queue, b"never")
    channel.tx_rollback()
    equal(ready(channel, queue), 0, "messages after the roll-back")
    channel.basic_ack(tag)
    channel.tx_commit()
    channel.close()
    equal(ready(session.channel(), queue), 0, "messages after the acknowledgement's commit")


# Queue arguments


@suite.check("reject-dead-letters")
def reject_dead_letters(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue(channel, [b"bad"], **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
    channel.basic_reject(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    wait_until(lambda: ready(channel, grave) == 1, 5, "the message is dead-lettered")
    method, properties, body = get(channel, grave)
    death = properties.headers["x-death"][0]
    death.pop("time")
    equal(death, {"count": 1, "reason": "rejected", "queue": queue, "exchange": "", "routing-keys": [queue]}, "x-death")
    equal(
        {key: value for key, value in properties.headers.items() if key != "x-death"},
        {
            "x-first-death-reason": "rejected",
            "x-first-death-queue": queue,
            "x-first-death-exchange": "",
            "x-last-death-reason": "rejected",
            "x-last-death-queue": queue,
            "x-last-death-exchange": "",
        },
        "the other headers",
    )
    equal((method.redelivered, method.routing_key, body), (False, grave, b"bad"))


@suite.check("expiry-dead-letters")
def expiry_dead_letters(session):
    channel = session.channel()
    grave = session.queue(channel)
    queue = session.queue_name()
    arguments = {"x-message-ttl": 60_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.basic_publish("", queue, b"old", pika.BasicProperties(expiration="50"))
    _, properties, body = consume(channel, grave, 1, auto_ack=True)[0]
    equal((properties.expiration, body), (None, b"old"))
    death = properties.headers["x-death"][0]
    equal((death["reason"], death["original-expiration"]), ("expired", "50"), "x-death")
    get_empty(channel, queue)


@suite.check("max-length-drops-the-head")
def max_length(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-max-length": 3})
    channel.confirm_delivery()
    for body in numbered(5):
        channel.basic_publish("", queue, body)
    equal(drain(channel, queue), [b"m2", b"m3", b"m4"])


@suite.check("reject-publish-nacks")
def reject_publish(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"fits")
    try:
        channel.basic_publish("", queue, b"too many")
    except NackError:
        equal(drain(channel, queue), [b"fits"])
    else:
        raise AssertionError("a message over the limit was confirmed")


@suite.check("priority-queue")
def priority_queue(session):
    channel = session.channel()
    queue = session.queue(channel, **{"x-max-priority": 5})
    for priority, body in ((1, b"low"), (5, b"high"), (None, b"none"), (9, b"capped"), (3, b"middle")):
        channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
    synchronise(channel)
    equal(drain(channel, queue), [b"high", b"capped", b"middle", b"low", b"none"])


@suite.check("queue-expires-when-unused")
def queue_expires(session):
    channel = session.channel()
    watcher = session.connect()
    queue = session.queue(channel, **{"x-expires": 100})

    def gone():
        try:
            watcher.channel().queue_purge(queue)
        except ChannelClosedByBroker as error:
            equal(error.reply_code, 404)
            return True
        return False

    wait_until(gone, 5, "the queue has expired")


# Connections and channels


@suite.check("two-thousand-channels", seconds=40)
def two_thousand_channels(session):
    connection = session.connect()
    channels = [connection.channel() for _ in range(2000)]
    queue = session.queue(channels[0])
    for channel in (channels[0], channels[999], channels[1999]):
        channel.basic_publish("", queue, b"%d" % channel.channel_number)
        synchronise(channel)
    expected = [b"%d" % channels[index].channel_number for index in (0, 999, 1999)]
    equal(drain(channels[1500], queue), expected)
    equal(len({channel.channel_number for channel in channels}), 2000, "channel numbers")


@suite.check("channel-number-is-reused-after-an-error")
def channel_reuse(session):
    connection = session.connect()
    for _ in range(3):
        channel = connection.channel(7)
        missing = unique("missing")
        with channel_refused(404, f"NOT_FOUND - no queue '{missing}' in vhost '{VHOST}'"):
            channel.queue_declare(missing, passive=True)
    connection.channel(7).queue_declare("", exclusive=True)


@suite.check("server-properties")
def server_properties(session):
    properties = session.connect()._impl.server_properties
    equal(properties["product"], "RabbitMQ", "product")
    expected = {
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    }
    capabilities = properties["capabilities"]
    equal({name for name in expected if capabilities.get(name) is True}, expected, "capabilities")


@suite.check("small-frames")
def small_frames(session):
    connection = session.connect(frame_max=8192)
    channel = connection.channel()
    queue = session.queue(channel)
    channel.confirm_delivery()
    sent = os.urandom(100_000)
    channel.basic_publish("", queue, sent)
    equal(digest(get(channel, queue)[2]), digest(sent), "a message in frames of 8 KiB")


@suite.check("heartbeats-keep-an-idle-connection")
def heartbeats(session):
    connection = session.connect(heartbeat=1)
    connection.process_data_events(time_limit=3.5)  # longer than the two missed beats that would end it
    assert connection.is_open
    connection.channel().queue_declare("", exclusive=True)


@suite.check("update-secret")
def update_secret(session):
    connection = session.connect()
    connection.update_secret(PARAMETERS.credentials.password, "renewal")
    connection.channel().queue_declare("", exclusive=True)


# Refusals: code and exact text


@suite.check("404-missing-queue")
def missing_queue(session):
    connection = session.connect()
    missing = unique("missing")
    text = f"NOT_FOUND - no queue '{missing}' in vhost '{VHOST}'"
    for attempt in (
        lambda channel: channel.queue_declare(missing, passive=True),
        lambda channel: channel.basic_get(missing),
        lambda channel: channel.basic_consume(missing, lambda *_: None),
        lambda channel: channel.queue_purge(missing),
        lambda channel: channel.queue_bind(missing, "amq.direct", "k"),
    ):
        with channel_refused(404, text):
            attempt(connection.channel())


@suite.check("404-missing-exchange")
def missing_exchange(session):
    connection = session.connect()
    queue = session.queue(connection.channel())
    missing = unique("missing")
    text = f"NOT_FOUND - no exchange '{missing}' in vhost '{VHOST}'"
    for attempt in (
        lambda channel: channel.exchange_declare(missing, passive=True),
        lambda channel: channel.queue_bind(queue, missing, "k"),
        lambda channel: channel.exchange_bind(missing, "amq.direct", "k"),
        lambda channel: (channel.basic_publish(missing, "k", b"x"), synchronise(channel)),
    ):
        with channel_refused(404, text):
            attempt(connection.channel())


@suite.check("405-exclusive-queue-of-another-connection")
def locked_queue(session):
    name = session.queue_name()
    session.channel().queue_declare(name, exclusive=True)
    intruder = session.connect()
    text = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '{VHOST}'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the original declaration."
    )
    for attempt in (
        lambda channel: channel.queue_declare(name, exclusive=True),
        lambda channel: channel.queue_declare(name, passive=True),
        lambda channel: channel.basic_get(name),
        lambda channel: channel.basic_consume(name, lambda *_: None),
        lambda channel: channel.queue_purge(name),
        lambda channel: channel.queue_delete(name),
    ):
        with channel_refused(405, shortened(text)):
            attempt(intruder.channel())


def shortened(text):
    """A reply text is a short string: RabbitMQ cuts it to 255 characters."""
    return text if len(text) <= 255 else text[:252] + "..."


@suite.check("406-inequivalent-queue")
def inequivalent_queue(session):
    connection = session.connect()
    queue = session.queue(connection.channel(), **{"x-message-ttl": 1000, "x-max-length": 5})
    about = f"for queue '{queue}' in vhost '{VHOST}'"
    cases = [
        (
            {"durable": False, "arguments": {"x-message-ttl": 1000, "x-max-length": 5}},
            f"PRECONDITION_FAILED - inequivalent arg 'durable' {about}: received 'false' but current is 'true'",
        ),
        (
            {"durable": True, "auto_delete": True, "arguments": {"x-message-ttl": 1000, "x-max-length": 5}},
            f"PRECONDITION_FAILED - inequivalent arg 'auto_delete' {about}: received 'true' but current is 'false'",
        ),
        (
            {"durable": True, "arguments": {"x-message-ttl": 2000, "x-max-length": 5}},
            f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' {about}: received '2000' but current is '1000'",
        ),
        (
            {"durable": True, "arguments": {"x-message-ttl": 1000}},
            f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' {about}: "
            "received none but current is the value '5' of type 'signedint'",
        ),
    ]
    for options, text in cases:
        with channel_refused(406, text):
            connection.channel().queue_declare(queue, **options)


@suite.check("406-inequivalent-queue-argument")
def inequivalent_queue_argument(session):
    connection = session.connect()
    overflow = {"x-overflow": "drop-head"}
    for first, second, key, text in (
        (None, {"x-message-ttl": 6}, "x-message-ttl", "received the value '6' of type 'signedint' but current is none"),
        ({"x-expires": 2**33}, None, "x-expires", "received none but current is the value '8589934592' of type 'long'"),
        (overflow, None, "x-overflow", "received none but current is the value 'drop-head' of type 'longstr'"),
        (overflow, {"x-overflow": "reject-publish"}, "x-overflow", "received 'reject-publish' but current is 'drop-head'"),
    ):
        channel = connection.channel()
        queue = session.queue_name()
        channel.queue_declare(queue, exclusive=True, arguments=first)
        about = f"inequivalent arg '{key}' for queue '{queue}' in vhost '{VHOST}'"
        with channel_refused(406, f"PRECONDITION_FAILED - {about}: {text}"):
            channel.queue_declare(queue, exclusive=True, arguments=second)


@suite.check("406-invalid-queue-argument")
def invalid_queue_argument(session):
    connection = session.connect()
    for key, value, text in (
        ("x-expires", 0, "{value_zero,0}"),
        ("x-expires", -1, "{value_negative,-1}"),
        ("x-message-ttl", -1, "{value_negative,-1}"),
        ("x-message-ttl", 315_360_000_001, "{value_too_large,315360000001}"),
        ("x-message-ttl", "5", '"expected integer, got longstr"'),
        ("x-max-length", -1, "{value_negative,-1}"),
        ("x-max-priority", 256, "{max_value_exceeded,256}"),
        ("x-overflow", "nonsense", "invalid_overflow"),
        ("x-queue-type", "nonsense", "\"unsupported queue type 'nonsense'\""),
        ("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
        ("x-single-active-consumer", "yes", "{unacceptable_type,longstr}"),
    ):
        queue = session.queue_name()
        about = f"invalid arg '{key}' for queue '{queue}' in vhost '{VHOST}'"
        with channel_refused(406, f"PRECONDITION_FAILED - {about}: {text}"):
            connection.channel().queue_declare(queue, exclusive=True, arguments={key: value})


@suite.check("406-invalid-message")
def invalid_message(session):
    connection = session.connect()
    for options, text in (
        ({"expiration": "abc"}, "invalid expiration 'abc': no_integer"),
        ({"expiration": "-1"}, "invalid expiration '-1': {value_negative,-1}"),
        ({"expiration": "1.5"}, "invalid expiration '1.5': {leftover_string,\".5\"}"),
        ({"headers": {"CC": "a"}}, 'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
    ):
        channel = connection.channel()
        with channel_refused(406, f"PRECONDITION_FAILED - {text}"):
            channel.basic_publish("", "any", b"x", pika.BasicProperties(**options))
            synchronise(channel)


@suite.check("406-invalid-x-match")
def invalid_match(session):
    channel = session.channel()
    queue = session.queue(channel)
    text = 'Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'
    with channel_refused(406, f"PRECONDITION_FAILED - {text}"):
        channel.queue_bind(queue, "amq.headers", "", {"x-match": "some"})


@suite.check("404-no-previous-queue")
def no_previous_queue(session):
    connection = session.connect()
    for attempt in (lambda channel: channel.basic_get(""), lambda channel: channel.queue_bind("", "amq.direct", "k")):
        with channel_refused(404, "NOT_FOUND - no previously declared queue"):
            attempt(connection.channel())


@suite.check("404-text-is-cut-at-255-characters")
def long_text(session):
    name = "n" * 250
    with channel_refused(404, shortened(f"NOT_FOUND - no queue '{name}' in vhost '{VHOST}'")):
        session.channel().queue_declare(name, passive=True)


@suite.check("removing-what-is-missing-is-no-error")
def remove_missing(session):
    channel = session.channel()
    missing = unique("missing")
    equal(channel.queue_delete(missing).method.message_count, 0, "messages deleted")
    channel.exchange_delete(missing)
    channel.queue_unbind(missing, "amq.direct", "k")
    channel.exchange_unbind(missing, "amq.direct", "k")
    synchronise(channel)
    assert channel.is_open


@suite.check("406-inequivalent-exchange")
def inequivalent_exchange(session):
    connection = session.connect()
    exchange = session.exchange(connection.channel(), "direct")
    about = f"for exchange '{exchange}' in vhost '{VHOST}'"
    cases = [
        ({"exchange_type": "fanout"}, f"inequivalent arg 'type' {about}: received 'fanout' but current is 'direct'"),
        ({"durable": True}, f"inequivalent arg 'durable' {about}: received 'true' but current is 'false'"),
    ]
    for options, text in cases:
        with channel_refused(406, f"PRECONDITION_FAILED - {text}"):
            connection.channel().exchange_declare(exchange, **options)


@suite.check("406-unknown-delivery-tag")
def unknown_delivery_tag(session):
    connection = session.connect()
    for settle in (
        lambda channel: channel.basic_ack(42),
        lambda channel: channel.basic_nack(42),
        lambda channel: channel.basic_reject(42),
    ):
        channel = connection.channel()
        with channel_refused(406, "PRECONDITION_FAILED - unknown delivery tag 42"):
            settle(channel)
            synchronise(channel)


@suite.check("406-double-ack")
def double_ack(session):
    channel = session.channel()
    queue = session.queue(channel, [b"x"])
    get(channel, queue, auto_ack=False)
    channel.basic_ack(1)
    with channel_refused(406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        channel.basic_ack(1)
        synchronise(channel)


@suite.check("406-queue-in-use-or-not-empty")
def queue_in_use(session):
    connection = session.connect()
    channel = connection.channel()
    queue = session.queue(channel, [b"x"])
    with channel_refused(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '{VHOST}' not empty"):
        connection.channel().queue_delete(queue, if_empty=True)
    consume(channel, queue, 1)
    with channel_refused(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '{VHOST}' in use"):
        connection.channel().queue_delete(queue, if_unused=True)


@suite.check("406-exchange-in-use")
def exchange_in_use(session):
    channel = session.channel()
    exchange = session.exchange(channel)
    channel.queue_bind(session.queue(channel), exchange, "k")
    with channel_refused(406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '{VHOST}' in use"):
        channel.exchange_delete(exchange, if_unused=True)


@suite.check("406-unknown-exchange-type")
def unknown_exchange_type(session):
    with channel_refused(406, "PRECONDITION_FAILED - unknown exchange type 'x-nonsense'"):
        session.channel().exchange_declare(session.exchange_name(), "x-nonsense")


@suite.check("406-modes-of-a-channel")
def channel_modes(session):
    connection = session.connect()
    for attempt, text in (
        (lambda channel: channel.tx_commit(), "channel is not transactional"),
        (lambda channel: channel.tx_rollback(), "channel is not transactional"),
        (lambda channel: (channel.tx_select(), channel.confirm_delivery()), "cannot switch from tx to confirm mode"),
        (lambda channel: (channel.confirm_delivery(), channel.tx_select()), "cannot switch from confirm to tx mode"),
    ):
        with channel_refused(406, f"PRECONDITION_FAILED - {text}"):
            attempt(connection.channel())


@suite.check("406-message-too-large")
def message_too_large(session):
    channel = session.channel()
    channel.confirm_delivery()
    text = "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216"
    with channel_refused(406, text):
        channel.basic_publish("", unique("any"), bytes(16 * 1024 * 1024 + 1))


@suite.check("406-bad-user-id")
def bad_user_id(session):
    channel = session.channel()
    user = PARAMETERS.credentials.username
    text = f"PRECONDITION_FAILED - user_id property set to 'impostor' but authenticated user was '{user}'"
    with channel_refused(406, text):
        channel.basic_publish("", "any", b"x", pika.BasicProperties(user_id="impostor"))
        synchronise(channel)


@suite.check("406-reply-consumer")
def reply_consumer(session):
    connection = session.connect()
    with channel_refused(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
        connection.channel().basic_consume("amq.rabbitmq.reply-to", lambda *_: None)
    channel = connection.channel()
    with channel_refused(406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        channel.basic_publish("", "any", b"x", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        synchronise(channel)


@suite.check("403-reserved-names")
def reserved_names(session):
    connection = session.connect()
    with channel_refused(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"):
        connection.channel().queue_declare("amq.mine", exclusive=True)
    with channel_refused(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"):
        connection.channel().exchange_declare("amq.mine", "direct")
    with channel_refused(403, f"ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '{VHOST}' not allowed"):
        connection.channel().exchange_delete("amq.direct")


@suite.check("403-default-exchange")
def default_exchange(session):
    connection = session.connect()
    queue = session.queue(connection.channel())
    for attempt in (
        lambda channel: channel.exchange_declare("", passive=True),
        lambda channel: channel.exchange_delete(""),
        lambda channel: channel.queue_bind(queue, "", "k"),
        lambda channel: channel.queue_unbind(queue, "", queue),
    ):
        with channel_refused(403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
            attempt(connection.channel())


@suite.check("403-internal-exchange")
def internal_exchange(session):
    channel = session.channel()
    exchange = session.exchange(channel, internal=True)
    with channel_refused(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '{VHOST}'"):
        channel.basic_publish(exchange, "k", b"x")
        synchronise(channel)


@suite.check("403-exclusive-consumer")
def exclusive_consumer(session):
    connection = session.connect()
    channel = connection.channel()
    queue = session.queue(channel)
    channel.basic_consume(queue, lambda *_: None, exclusive=True)
    with channel_refused(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '{VHOST}' in exclusive use"):
        connection.channel().basic_consume(queue, lambda *_: None)


@suite.check("403-wrong-password")
def wrong_password(session):
    text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    credentials = pika.PlainCredentials(PARAMETERS.credentials.username, "wrong")
    try:
        session.connect(credentials=credentials)
    except ProbableAuthenticationError as error:
        assert f"(403) '{text}'" in str(error), error
    else:
        raise AssertionError("a wrong password was accepted")


@suite.check("530-missing-vhost")
def missing_vhost(session):
    try:
        session.connect(virtual_host="no-such-vhost")
    except AMQPConnectionError as error:
        assert "(530) 'NOT_ALLOWED - vhost no-such-vhost not found'" in str(error) + repr(error), repr(error)
    else:
        raise AssertionError("a missing vhost was accepted")


@suite.check("540-not-implemented")
def not_implemented(session):
    for attempt, text in (
        (lambda channel: channel.basic_qos(prefetch_size=1), "prefetch_size!=0 (1)"),
        (lambda channel: channel.basic_recover(requeue=False), "requeue=false"),
        (lambda channel: channel.flow(False), "active=false"),
    ):
        channel = session.channel()
        with connection_refused(540, f"NOT_IMPLEMENTED - {text}"):
            attempt(channel)


# A restart of the broker


@suite.check("restart-keeps-durable-things", seconds=60)
def restart(session):
    channel = session.channel()
    exchange = session.exchange(channel, "topic", durable=True)
    queue = session.queue(channel)
    transient = session.exchange(channel, "fanout", durable=False)
    channel.queue_bind(queue, exchange, "kept.*")
    channel.confirm_delivery()
    for body in numbered(5):
        channel.basic_publish(exchange, "kept.now", body, PERSISTENT, mandatory=True)
    channel.basic_publish(exchange, "kept.now", b"transient", mandatory=True)
    channel.basic_ack(get(channel, queue, auto_ack=False)[0].delivery_tag)
    get(channel, queue, auto_ack=False)
    synchronise(channel)
    restart_broker()
    connection_is_gone(channel)
    connection = session.connect()
    channel = connection.channel()
    equal(drain(channel, queue), numbered(5)[1:], "the messages after the restart")
    channel.confirm_delivery()
    channel.basic_publish(exchange, "kept.later", b"new", mandatory=True)
    equal(drain(channel, queue), [b"new"])
    with channel_refused(404, f"NOT_FOUND - no exchange '{transient}' in vhost '{VHOST}'"):
        connection.channel().exchange_declare(transient, passive=True)


def connection_is_gone(channel):
    try:
        synchronise(channel)
    except (AMQPConnectionError, ChannelClosedByBroker):
        return
    raise AssertionError("the connection has outlived the broker")


if __name__ == "__main__":
    suite.main()
