"""aio-pika against the broker in AMQP_URI."""

import asyncio
import datetime
import decimal
import hashlib
import os
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import DeliveryError
from aio_pika.patterns import RPC, Master
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotImplemented,
    InvalidFrameError,
    ProbableAuthenticationError,
)

from checks import Suite, amqp_uri, equal, restart_broker, unique

URI = urlsplit(amqp_uri())
VHOST = unquote(URI.path[1:])
SECONDS = 5


class Session:
    """One check's connections, and the durable things that it must not leave behind."""

    def __init__(self):
        self._connections = []
        self._queues = []
        self._exchanges = []

    async def connect(self, robust=False):
        connect = aio_pika.connect_robust if robust else aio_pika.connect
        connection = await connect(amqp_uri(), **({"reconnect_interval": 0.1} if robust else {}))
        self._connections.append(connection)
        return connection

    async def channel(self, **options):
        return await (await self.connect()).channel(**options)

    def queue_name(self):
        self._queues.append(unique("q"))
        return self._queues[-1]

    async def queue(self, channel, bodies=(), **options):
        """A new durable queue that holds `bodies`."""
        queue = await channel.declare_queue(self.queue_name(), durable=True, **options)
        for body in bodies:
            await channel.default_exchange.publish(Message(body), queue.name)
        return queue

    async def exchange(self, channel, kind, **options):
        self._exchanges.append(unique("x"))
        return await channel.declare_exchange(self._exchanges[-1], kind, durable=True, **options)

    async def close(self):
        for connection in self._connections:
            await connection.close()
        if not self._queues and not self._exchanges:
            return
        async with await aio_pika.connect(amqp_uri()) as connection:
            channel = await connection.channel()
            for name in self._queues:
                await channel.queue_delete(name)
            for name in self._exchanges:
                await channel.exchange_delete(name)


def run(function):
    async def with_session():
        session = Session()
        try:
            await function(session)
        finally:
            await session.close()

    asyncio.run(with_session())


suite = Suite(run)


# Helpers


def numbered(count):
    return [b"m%d" % number for number in range(count)]


def digest(body):
    return hashlib.sha256(body).hexdigest()


async def ready(channel, queue):
    return (await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count


async def drain(queue):
    bodies = []
    while message := await queue.get(no_ack=True, fail=False):
        bodies.append(message.body)
    return bodies


async def consume(queue, **options):
    """A consumer's deliveries, as an asyncio queue."""
    arrived = asyncio.Queue()
    tag = await queue.consume(arrived.put, **options)
    return tag, arrived


async def take(arrived, count):
    return [await asyncio.wait_for(arrived.get(), SECONDS) for _ in range(count)]


@asynccontextmanager
async def refused(kind, text):
    """Expects the broker's refusal; the client turns the reply code into the error's class."""
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except kind as error:
        equal(error.args[0], text, "the reply text")
    else:
        raise AssertionError(f"not refused with {text}")


# Declarations and routing


@suite.check("declare-durable-queue")
async def declare_durable_queue(session):
    channel = await session.channel()
    name = session.queue_name()
    result = (await channel.declare_queue(name, durable=True)).declaration_result
    equal((result.queue, result.message_count, result.consumer_count), (name, 0, 0))
    await channel.default_exchange.publish(Message(b"one"), name)
    equal((await channel.declare_queue(name, durable=True)).declaration_result.message_count, 1)


@suite.check("declare-server-named-queue")
async def declare_server_named_queue(session):
    channel = await session.channel()
    first, second = [await channel.declare_queue(exclusive=True) for _ in range(2)]
    assert first.name.startswith("amq.gen-"), first.name
    assert first.name != second.name


@suite.check("purge-and-delete-return-counts")
async def purge_and_delete(session):
    channel = await session.channel()
    queue = await session.queue(channel, numbered(4))
    equal((await queue.purge()).message_count, 4)
    await channel.default_exchange.publish(Message(b"last"), queue.name)
    equal((await queue.delete(if_empty=False)).message_count, 1)


async def routes_keys(session, kind, patterns, keys):
    channel = await session.channel()
    exchange = await session.exchange(channel, kind)
    queues = [await session.queue(channel) for _ in patterns]
    for queue, pattern in zip(queues, patterns):
        await queue.bind(exchange, pattern)
    for key in keys:
        await exchange.publish(Message(key.encode()), key, mandatory=False)
    return [[body.decode() for body in await drain(queue)] for queue in queues]


@suite.check("exchange-direct")
async def exchange_direct(session):
    equal(await routes_keys(session, ExchangeType.DIRECT, ["a", "b"], ["a", "b", "c"]), [["a"], ["b"]])


@suite.check("exchange-fanout")
async def exchange_fanout(session):
    equal(await routes_keys(session, ExchangeType.FANOUT, ["", "x"], ["a", "b"]), [["a", "b"]] * 2)


@suite.check("exchange-topic")
async def exchange_topic(session):
    got = await routes_keys(session, ExchangeType.TOPIC, ["a.*", "a.#", "*.*.c"], ["a", "a.b", "a.b.c", "x"])
    equal(got, [["a.b"], ["a", "a.b", "a.b.c"], ["a.b.c"]])


@suite.check("exchange-headers")
async def exchange_headers(session):
    channel = await session.channel()
    exchange = await session.exchange(channel, ExchangeType.HEADERS)
    every, some = await session.queue(channel), await session.queue(channel)
    wanted = {"shape": "round", "size": 1}
    await every.bind(exchange, arguments={"x-match": "all", **wanted})
    await some.bind(exchange, arguments={"x-match": "any", **wanted})
    for body, headers in ((b"both", wanted), (b"shape", {"shape": "round"}), (b"neither", {"size": 2})):
        await exchange.publish(Message(body, headers=headers), "", mandatory=False)
    equal((await drain(every), await drain(some)), ([b"both"], [b"both", b"shape"]))


@suite.check("exchange-to-exchange-binding")
async def exchange_to_exchange(session):
    channel = await session.channel()
    source = await session.exchange(channel, ExchangeType.TOPIC)
    target = await session.exchange(channel, ExchangeType.FANOUT)
    queue = await session.queue(channel)
    await queue.bind(target)
    await target.bind(source, "in.#")
    await source.publish(Message(b"through"), "in.one")
    equal(await drain(queue), [b"through"])
    await target.unbind(source, "in.#")
    await source.publish(Message(b"too late"), "in.two", mandatory=False)
    equal(await drain(queue), [])


# Publishing


@suite.check("publish-with-confirms")
async def publish_with_confirms(session):
    channel = await session.channel()
    queue = await session.queue(channel)
    messages = [Message(body, delivery_mode=DeliveryMode.PERSISTENT) for body in numbered(1000)]
    await asyncio.gather(*(channel.default_exchange.publish(message, queue.name) for message in messages))
    equal(sorted(await drain(queue)), sorted(numbered(1000)))


@suite.check("mandatory-return")
async def mandatory_return(session):
    channel = await session.channel(on_return_raises=True)
    try:
        await channel.default_exchange.publish(Message(b"back"), unique("nowhere"), mandatory=True)
    except DeliveryError as error:
        returned = error.message.delivery
        equal((returned.reply_code, returned.reply_text, error.message.body), (312, "NO_ROUTE", b"back"))
    else:
        raise AssertionError("an unroutable mandatory message was not returned")


@suite.check("reject-publish-nacks")
async def reject_publish(session):
    channel = await session.channel()
    queue = await session.queue(channel, [b"fits"], arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    try:
        await channel.default_exchange.publish(Message(b"too many"), queue.name)
    except DeliveryError:
        equal(await drain(queue), [b"fits"])
    else:
        raise AssertionError("a message over the limit was confirmed")


@suite.check("message-sizes")
async def message_sizes(session):
    channel = await session.channel()
    queue = await session.queue(channel)
    for size in (0, 1, 128 * 1024 - 8, 128 * 1024 + 1, 1_000_000, 16 * 1024 * 1024):
        sent = os.urandom(size)
        await channel.default_exchange.publish(Message(sent), queue.name)
        received = (await queue.get(no_ack=True)).body
        equal((len(received), digest(received)), (size, digest(sent)), f"a message of {size} bytes")


@suite.check("properties-round-trip")
async def properties_round_trip(session):
    channel = await session.channel()
    queue = await session.queue(channel)
    sent = Message(
        b"x",
        headers={"k": "v"},
        content_type="text/plain",
        content_encoding="gzip",
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=9,
        correlation_id="correlation",
        reply_to="reply.queue",
        expiration=60,
        message_id="message",
        timestamp=datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
        type="kind",
        user_id=unquote(URI.username),
        app_id="suite",
    )
    await channel.default_exchange.publish(sent, queue.name)
    received = await queue.get(no_ack=True)
    of_the_delivery = {"consumer_tag", "delivery_tag", "exchange", "redelivered", "routing_key", "cluster_id"}
    expected = {name: value for name, value in sent.info().items() if name not in of_the_delivery}
    assert {"headers", "timestamp", "expiration", "user_id"} <= set(expected), expected
    equal({name: received.info()[name] for name in expected}, expected)


@suite.check("header-types-round-trip")
async def header_types(session):
    channel = await session.channel()
    queue = await session.queue(channel)
    headers = {
        "bool": True,
        "int8": -5,
        "int16": -300,
        "uint16": 60_000,
        "int32": -70_000,
        "uint32": 4_000_000_000,
        "int64": -(2**40),
        "float": 1.25,
        "decimal": decimal.Decimal("3.14"),
        "string": "grüße \u2603",
        "time": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
        "void": None,
        "table": {"inner": {"deep": 1}},
        "array": [1, "two", None, True, 0.5, [3]],
        "bytes": bytearray(b"\x00\xff"),
    }
    await channel.default_exchange.publish(Message(b"x", headers=headers), queue.name)
    equal(dict((await queue.get(no_ack=True)).headers), headers)


@suite.check("tx-commit-and-rollback")
async def transactions(session):
    channel = await session.channel(publisher_confirms=False)
    queue = await session.queue(channel)
    exchange = channel.default_exchange
    async with channel.transaction():
        await exchange.publish(Message(b"kept"), queue.name)
        equal(await ready(channel, queue), 0, "messages before the commit")
    transaction = channel.transaction()
    await transaction.select()
    await exchange.publish(Message(b"never"), queue.name)
    await transaction.rollback()
    equal(await drain(queue), [b"kept"])


# Consuming


@suite.check("consume-with-manual-acks")
async def consume_with_manual_acks(session):
    channel = await session.channel()
    queue = await session.queue(channel, numbered(10))
    _, arrived = await consume(queue)
    messages = await take(arrived, 10)
    equal([message.body for message in messages], numbered(10))
    equal([message.delivery_tag for message in messages], list(range(1, 11)))
    for message in messages:
        await message.ack()
    await channel.close()
    equal(await ready(await session.channel(), queue), 0)


@suite.check("queue-iterator")
async def queue_iterator(session):
    channel = await session.channel()
    await channel.set_qos(prefetch_count=2)
    queue = await session.queue(channel, numbered(5))
    bodies = []
    async with queue.iterator(timeout=SECONDS) as messages:
        async for message in messages:
            async with message.process():
                bodies.append(message.body)
            if len(bodies) == 5:
                break
    equal(bodies, numbered(5))


@suite.check("process-requeues-on-error")
async def process_requeues(session):
    channel = await session.channel()
    queue = await session.queue(channel, [b"x"])
    try:
        async with (await queue.get()).process(requeue=True):
            raise LookupError("the handler fails")
    except LookupError:
        again = await queue.get(no_ack=True)
        equal((again.redelivered, again.body), (True, b"x"))


@suite.check("get-and-get-empty")
async def get_and_get_empty(session):
    channel = await session.channel()
    queue = await session.queue(channel, numbered(2))
    message = await queue.get()
    equal((message.body, message.message_count, message.redelivered), (b"m0", 1, False))
    await message.ack()
    equal(await drain(queue), [b"m1"])
    equal(await queue.get(fail=False), None)


@suite.check("nack-requeue-keeps-the-order")
async def nack_requeue(session):
    channel = await session.channel()
    queue = await session.queue(channel, numbered(5))
    held = [await queue.get() for _ in range(3)]
    for index in (1, 0, 2):
        await held[index].nack(requeue=True)
    again = [await queue.get(no_ack=True) for _ in range(5)]
    equal([message.body for message in again], numbered(5))
    equal([message.redelivered for message in again], [True, True, True, False, False])


@suite.check("reject-dead-letters")
async def reject_dead_letters(session):
    channel = await session.channel()
    grave = await session.queue(channel)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave.name}
    queue = await session.queue(channel, [b"bad"], arguments=arguments)
    _, dead = await consume(grave, no_ack=True)
    await (await queue.get()).reject(requeue=False)
    (message,) = await take(dead, 1)
    death = message.headers["x-death"][0]
    equal((message.body, death["reason"], death["queue"], death["count"]), (b"bad", "rejected", queue.name, 1))


@suite.check("expiry-dead-letters-in-order")
async def expiry_dead_letters(session):
    channel = await session.channel()
    grave = await session.queue(channel)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave.name, "x-message-ttl": 200}
    queue = await session.queue(channel, arguments=arguments)
    _, dead = await consume(grave, no_ack=True)
    for body, expiration in ((b"quick", 0.05), (b"slow", None)):
        await channel.default_exchange.publish(Message(body, expiration=expiration), queue.name)
    messages = await take(dead, 2)
    deaths = [(message.body, message.headers["x-death"][0].get("original-expiration")) for message in messages]
    equal(deaths, [(b"quick", "50"), (b"slow", None)])


@suite.check("priorities-and-a-single-active-consumer")
async def priorities(session):
    channel = await session.channel()
    arguments = {"x-max-priority": 5, "x-single-active-consumer": True}
    queue = await session.queue(channel, arguments=arguments)
    for priority in (1, 5, 3):
        await channel.default_exchange.publish(Message(b"%d" % priority, priority=priority), queue.name)
    tag, first = await consume(queue, no_ack=True)
    _, second = await consume(queue, no_ack=True)
    equal([message.body for message in await take(first, 3)], [b"5", b"3", b"1"])
    await queue.cancel(tag)
    await channel.default_exchange.publish(Message(b"next"), queue.name)
    equal([message.body for message in await take(second, 1)], [b"next"])


@suite.check("a-stream-is-read-twice")
async def stream(session):
    channel = await session.channel()
    queue = await session.queue(channel, numbered(5), arguments={"x-queue-type": "stream"})
    await channel.set_qos(prefetch_count=10)
    for offset, start in (("first", 0), (2, 2)):
        tag, arrived = await consume(queue, arguments={"x-stream-offset": offset})
        messages = await take(arrived, 5 - start)
        got = [(message.headers["x-stream-offset"], message.body) for message in messages]
        equal(got, list(enumerate(numbered(5)))[start:])
        await messages[-1].ack(multiple=True)
        await queue.cancel(tag)


@suite.check("prefetch-per-consumer")
async def prefetch_per_consumer(session):
    channel = await session.channel()
    await channel.set_qos(prefetch_count=2)
    queue = await session.queue(channel, numbered(6))
    _, arrived = await consume(queue)
    first, _ = await take(arrived, 2)
    equal((await ready(channel, queue), arrived.qsize()), (4, 0))
    await first.ack()
    equal([message.body for message in await take(arrived, 1)], [b"m2"])


@suite.check("consumer-cancel-notify")
async def consumer_cancel_notify(session):
    channel = await session.channel()
    queue = await session.queue(channel)

    tag, _ = await consume(queue)
    underlying = await channel.get_underlay_channel()
    assert tag in underlying.consumers, underlying.consumers
    await (await session.channel()).queue_delete(queue.name)
    async with asyncio.timeout(SECONDS):
        while tag in underlying.consumers:  # the client has no event for it
            await asyncio.sleep(0.01)
    assert not channel.is_closed
    await session.queue(channel)


@suite.check("direct-reply-to")
async def direct_reply_to(session):
    client, server = await session.channel(), await session.channel()
    requests = await session.queue(server)
    replies = await client.get_queue("amq.rabbitmq.reply-to")
    _, answered = await consume(replies, no_ack=True)
    request = Message(b"ping", reply_to=replies.name, correlation_id="1")
    await client.default_exchange.publish(request, requests.name)
    received = await requests.get(no_ack=True)
    assert received.reply_to.startswith("amq.rabbitmq.reply-to."), received.reply_to
    answer = Message(received.body + b" pong", correlation_id=received.correlation_id)
    await server.default_exchange.publish(answer, received.reply_to)
    (reply,) = await take(answered, 1)
    equal((reply.correlation_id, reply.body), ("1", b"ping pong"))


@suite.check("rpc-pattern")
async def rpc_pattern(session):
    server = await RPC.create(await session.channel())
    client = await RPC.create(await session.channel())
    method = unique("method")

    async def multiply(*, left, right):
        return left * right

    await server.register(method, multiply, auto_delete=True)
    answers = await asyncio.gather(*(client.call(method, {"left": n, "right": n}) for n in range(20)))
    equal(answers, [n * n for n in range(20)])
    await client.close()
    await server.close()


@suite.check("master-worker-pattern")
async def master_worker_pattern(session):
    master = Master(await session.channel())
    done = asyncio.Queue()

    async def work(*, number):
        await done.put(number)

    name = session.queue_name()
    worker = await master.create_worker(name, work, durable=True)
    for number in range(10):
        await master.create_task(name, {"number": number})
    equal(sorted(await take(done, 10)), list(range(10)))
    await worker.close()


@suite.check("two-thousand-channels", seconds=40)
async def two_thousand_channels(session):
    connection = await session.connect()
    channels = [await connection.channel(publisher_confirms=False) for _ in range(2000)]
    queue = await session.queue(channels[0])
    for index in (0, 999, 1999):
        await channels[index].default_exchange.publish(Message(b"%d" % index), queue.name)
        await channels[index].set_qos(prefetch_count=1)
    equal(await drain(queue), [b"0", b"999", b"1999"])
    equal(len({channel.number for channel in channels}), 2000)


# Refusals: the class stands for the code, the text is exact


@suite.check("404-missing")
async def missing(session):
    connection = await session.connect()
    name = unique("missing")
    async with refused(ChannelNotFoundEntity, f"NOT_FOUND - no queue '{name}' in vhost '{VHOST}'"):
        await (await connection.channel()).declare_queue(name, passive=True)
    async with refused(ChannelNotFoundEntity, f"NOT_FOUND - no exchange '{name}' in vhost '{VHOST}'"):
        await (await connection.channel()).declare_exchange(name, passive=True)


@suite.check("405-exclusive-queue-of-another-connection")
async def locked_queue(session):
    name = session.queue_name()
    await (await session.channel()).declare_queue(name, exclusive=True)
    text = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '{VHOST}'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the original declaration."
    )
    async with refused(ChannelLockedResource, text):
        await (await session.channel()).declare_queue(name, exclusive=True)


@suite.check("406-inequivalent-queue")
async def inequivalent_queue(session):
    queue = await session.queue(await session.channel())
    text = (
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue.name}' in vhost '{VHOST}': "
        "received 'false' but current is 'true'"
    )
    async with refused(ChannelPreconditionFailed, text):
        await (await session.channel()).declare_queue(queue.name, durable=False)


@suite.check("406-confirm-then-tx")
async def confirm_then_tx(session):
    channel = await session.channel(publisher_confirms=True)
    async with refused(ChannelPreconditionFailed, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"):
        underlying = await channel.get_underlay_channel()
        await underlying.tx_select()


@suite.check("403-refused")
async def access_refused(session):
    connection = await session.connect()
    text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
    async with refused(ChannelAccessRefused, text):
        await (await connection.channel()).declare_queue("amq.mine")
    queue = await session.queue(await connection.channel())
    await queue.consume(lambda _: None, exclusive=True)
    async with refused(ChannelAccessRefused, f"ACCESS_REFUSED - queue '{queue.name}' in vhost '{VHOST}' in exclusive use"):
        other = await (await connection.channel()).get_queue(queue.name)
        await other.consume(lambda _: None)


@suite.check("403-wrong-password")
async def wrong_password(session):
    text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    async with refused(ProbableAuthenticationError, text):
        await aio_pika.connect(with_password("wrong"))


def with_password(password):
    return URI._replace(netloc=f"{URI.username}:{password}@{URI.hostname}:{URI.port}").geturl()


@suite.check("530-missing-vhost")
async def missing_vhost(session):
    """The client does not show the code and text of a connection.close that answers connection.open."""
    try:
        await aio_pika.connect(URI._replace(path="/no-such-vhost").geturl())
    except InvalidFrameError as error:
        assert "got <Connection.Close" in str(error), error
    else:
        raise AssertionError("a missing vhost was accepted")


@suite.check("540-not-implemented")
async def not_implemented(session):
    channel = await session.channel()
    async with refused(ConnectionNotImplemented, "NOT_IMPLEMENTED - active=false"):
        await channel.flow(active=False)


# A restart of the broker: what was confirmed is still there, and the robust connection comes back with its consumer


@suite.check("restart-and-robust-connection", seconds=60)
async def restart(session):
    channel = await session.channel()
    kept = await session.queue(channel)
    for body in numbered(5):
        await channel.default_exchange.publish(Message(body, delivery_mode=DeliveryMode.PERSISTENT), kept.name)
    await channel.default_exchange.publish(Message(b"transient"), kept.name)
    connection = await session.connect(robust=True)
    back = asyncio.Event()
    connection.reconnect_callbacks.add(lambda *_: back.set())
    robust_channel = await connection.channel()
    exchange = await session.exchange(robust_channel, ExchangeType.TOPIC)
    queue = await robust_channel.declare_queue(unique("exclusive"), exclusive=True)
    await queue.bind(exchange, "again.#")
    _, arrived = await consume(queue)

    await asyncio.to_thread(restart_broker)

    await asyncio.wait_for(back.wait(), 20)
    fresh = await session.channel()
    equal(await drain(await fresh.get_queue(kept.name)), numbered(5), "the messages after the restart")
    await publish_until_routed(await fresh.get_exchange(exchange.name), "again.now", b"after")
    (message,) = await take(arrived, 1)
    equal(message.body, b"after")
    await message.ack()


async def publish_until_routed(exchange, key, body):
    """The client binds its queue again at some time after it has connected."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await exchange.publish(Message(body), key, mandatory=True)
                return
            except DeliveryError:
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    suite.main()
