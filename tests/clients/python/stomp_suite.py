"""stomp.py against the broker in STOMP_URI: its three versions, and what passes between STOMP and others."""

import os
import time
from contextlib import contextmanager
from queue import Queue
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pika
import stomp
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from checks import Skipped, equal, restart_broker, unique
from stomp_session import BROKER, VERSIONS, WEBSOCKET, Listener, Session, each_version, get, suite

EXPIRES = {"x_expires": "60000"}


@each_version("connect")
def connect(session, version):
    client = session.client(version)
    equal(client.headers["version"], version[1:], "version")
    assert client.headers["session"] and client.headers["server"]
    client.disconnect()


@suite.check("refused-login")
def refused(session):
    connection = stomp.StompConnection12([(BROKER.hostname, BROKER.port)], vhost="/", reconnect_attempts_max=1)
    events = Listener()
    connection.set_listener("events", events)
    connection.connect("guest", "wrong")
    error = get(events.errors, "ERROR")
    equal((error.headers["message"], error.body), ("Bad CONNECT", "Access refused for user 'guest'"), "the error")
    connection.transport.disconnect_socket()


@each_version("queue")
def through_a_queue(session, version):
    client, queue = session.client(version), session.queue()
    client.subscribe(queue, **EXPIRES)
    client.send(queue, "one: ü", colour="red", content_type="text/plain", persistent="true")
    message = client.next()
    equal((message.body, message.headers["destination"]), ("one: ü", queue), "body and destination")
    equal((message.headers["colour"], message.headers["content-type"]), ("red", "text/plain"), "headers")
    client.unsubscribe()


@each_version("escapes", versions=("v1.1", "v1.2"))
def escapes(session, version):
    client, queue = session.client(version), session.queue()
    client.subscribe(queue, **EXPIRES)
    client.send(queue, "x", colour="a:b\\c\nd")
    equal(client.next().headers["colour"], "a:b\\c\nd", "header")


@each_version("topic")
def through_a_topic(session, version):
    topic = unique("t")
    clients = [session.client(version) for _ in range(2)]
    for client in clients:
        client.subscribe(f"/topic/{topic}.*")
    clients[0].send(f"/topic/{topic}.a", "one")
    clients[0].send(f"/topic/{topic}.a.b", "no match")
    clients[0].send(f"/topic/{topic}.b", "two")
    for client in clients:
        equal(client.bodies(2), ["one", "two"], "bodies")


@suite.check("large-bodies")
def large(session):
    client, queue = session.client(), session.queue()
    client.subscribe(queue, **EXPIRES)
    body = "0123456789" * 200_000
    client.send(queue, body)
    assert client.next(10).body == body, "another body"


@each_version("ack-client")
def cumulative(session, version):
    first, queue = session.client(version), session.queue()
    first.subscribe(queue, ack="client", **EXPIRES)
    for number in range(3):
        first.send(queue, str(number))
    messages = [first.next() for _ in range(3)]
    first.ack(messages[1])
    first.sync()
    first.drop()
    second = session.client(version)
    second.subscribe(queue, **EXPIRES)
    message = second.next()
    equal((message.body, message.headers["redelivered"]), ("2", "true"), "what is left")


@each_version("ack-client-individual", versions=("v1.1", "v1.2"))
def individual(session, version):
    first, queue = session.client(version), session.queue()
    first.subscribe(queue, ack="client-individual", **EXPIRES)
    for number in range(3):
        first.send(queue, str(number))
    messages = [first.next() for _ in range(3)]
    first.ack(messages[1])
    first.nack(messages[0])
    again = first.next()
    equal((again.body, again.headers["redelivered"]), ("0", "true"), "what comes again")
    first.sync()
    first.drop()
    second = session.client(version)
    second.subscribe(queue, **EXPIRES)
    equal(second.bodies(2), ["0", "2"], "what is left")


@suite.check("nack-to-dead-letters")
def dead_letters(session):
    client, queue, letters = session.client(), session.queue(), session.queue()
    client.subscribe(letters, id="letters", **EXPIRES)
    arguments = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": letters.removeprefix("/queue/")}
    client.subscribe(queue, ack="client-individual", **EXPIRES, **arguments)
    client.send(queue, "dead", x_dead_letter_exchange="")
    client.nack(client.next(), requeue="false")
    message = client.next()
    equal((message.headers["subscription"], message.body), ("letters", "dead"), "the letter")
    equal(message.headers["x-first-death-reason"], "rejected", "its reason")


@suite.check("prefetch")
def prefetch(session):
    client, queue = session.client(), session.queue()
    client.subscribe(queue, ack="client", prefetch_count="1", **EXPIRES)
    client.send(queue, "one")
    client.send(queue, "two")
    message = client.next()
    client.sync()
    assert client.events.messages.empty(), "one more than is allowed"
    client.ack(message)
    equal(client.next().body, "two", "the next")


@each_version("transactions")
def transactions(session, version):
    client, queue = session.client(version), session.queue()
    client.subscribe(queue, **EXPIRES)
    for outcome in ("abort", "commit"):
        transaction = client.stomp.begin(unique("tx"))
        client.post(queue, outcome, transaction=transaction)
        client.sync()
        assert client.events.messages.empty(), "a message of a transaction that is not over"
        getattr(client.stomp, outcome)(transaction)
    equal(client.next().body, "commit", "the message")


@suite.check("transactions-with-acks")
def transacted_acks(session):
    client, queue = session.client(), session.queue()
    client.subscribe(queue, ack="client-individual", **EXPIRES)
    client.send(queue, "job")
    message = client.next()
    transaction = client.stomp.begin(unique("tx"))
    client.ack(message, transaction=transaction)
    client.stomp.abort(transaction)
    transaction = client.stomp.begin(unique("tx"))
    client.ack(message, transaction=transaction)
    client.post(queue, "result", transaction=transaction)
    client.stomp.commit(transaction)
    equal(client.next().body, "result", "what the transaction sent")
    client.sync()
    client.drop()
    other = session.client()
    other.subscribe(queue, **EXPIRES)
    equal(other.next().body, "result", "what is left")


@suite.check("heart-beats")
def heart_beats(session):
    client = session.client(heartbeats=(1000, 1000))
    equal(client.headers["heart-beat"], "1000,1000", "what was agreed on")
    for _ in range(2):
        client.events.beats.get(timeout=3)
    queue = session.queue()
    client.subscribe(queue, **EXPIRES)
    client.send(queue, "still there")
    equal(client.next().body, "still there", "the message")


@suite.check("replies")
def replies(session):
    asks, answers, queue = session.client(), session.client(), session.queue()
    answers.subscribe(queue, **EXPIRES)
    asks.post(queue, "question", reply_to="/temp-queue/answers", correlation_id="7", **EXPIRES)
    question = answers.next()
    equal(question.headers["correlation-id"], "7", "correlation")
    answers.post(question.headers["reply-to"], "answer")
    answer = asks.next()
    equal((answer.headers["subscription"], answer.body), ("/temp-queue/answers", "answer"), "the answer")


@suite.check("durable-subscription")
def durable(session):
    topic, options = unique("t"), {"durable": "true", "auto_delete": "false"}
    first = session.client()
    first.subscribe(f"/topic/{topic}", id="mine", **options)
    first.disconnect()
    session.client().send(f"/topic/{topic}", "while away")
    second = session.client()
    second.subscribe(f"/topic/{topic}", id="mine", **options)
    equal(second.next().body, "while away", "the message")
    second.unsubscribe("mine", durable="true")
    session.client().send(f"/topic/{topic}", "forgotten")
    third = session.client()
    third.subscribe(f"/topic/{topic}", id="mine", **options)
    third.send(f"/topic/{topic}", "new")
    equal(third.next().body, "new", "the message")
    third.unsubscribe("mine", durable="true")


@suite.check("selectors-of-topics")
def selected(session):
    topic, sender = "/topic/" + unique("t"), session.client()
    sender.subscribe(topic, selector="colour IN ('red', 'blue')")
    kept = {"durable": "true", "auto_delete": "false", "selector": "colour = 'red'"}
    first = session.client()
    first.subscribe(topic, id="kept", **kept)
    first.disconnect()
    for colour in ("red", "green", "blue"):
        sender.send(topic, colour, colour=colour, persistent="true")
    equal(sender.bodies(2), ["red", "blue"], "what the one wants")
    second = session.client()
    second.subscribe(topic, id="kept", **kept)
    sender.send(topic, "blue again", colour="blue")
    sender.send(topic, "red again", colour="red")
    equal(second.bodies(2), ["red", "red again"], "what the other wants")
    second.unsubscribe("kept", durable="true")


@suite.check("several-queues")
def several(session):
    client, sender, queues = session.client(), session.client(), [session.queue(), session.queue()]
    client.subscribe(",".join(queues), ack="client", prefetch_count="2")
    for queue in queues * 2:
        sender.send(queue, "x", **EXPIRES)
    messages = [client.next(), client.next()]
    equal([message.headers["destination"] for message in messages], queues, "where they come from")
    client.stomp.ack(messages[1].headers["ack"])
    equal(client.bodies(2), ["x", "x"], "what comes after one acknowledgement of both")
    client.unsubscribe()
    for queue in queues:
        delete(queue)


@suite.check("patterns-of-queues")
def pattern(session):
    client, sender, name = session.client(), session.client(), "/queue/" + unique("p")
    sender.send(f"{name}.a", "there")
    client.subscribe(f"{name}.*", **{"activemq.prefetchSize": "10"})
    sender.send(f"{name}.b", "made later")
    messages = [client.next(), client.next()]
    found = [(message.body, message.headers["destination"]) for message in messages]
    equal(found, [("there", f"{name}.a"), ("made later", f"{name}.b")], "what comes, and from where")
    client.unsubscribe()
    for queue in ("a", "b"):
        delete(f"{name}.{queue}")


@suite.check("stream")
def stream(session):
    client, queue = session.client(), session.queue()
    options = {"ack": "client", "prefetch_count": "10", "x_queue_type": "stream", "durable": "true"}
    client.subscribe(queue, **options)
    client.unsubscribe()
    for number in range(3):
        client.send(queue, str(number), persistent="true")
    client.subscribe(queue, id="2", x_stream_offset="offset=1", **options)
    message = client.next()
    equal((message.body, message.headers["x-stream-offset"]), ("1", "1"), "body and offset")
    delete(queue)


@suite.check("errors")
def errors(session):
    client = session.client()
    client.post("/exchange/roadstead.none/k", "x")
    error = client.error()
    equal(error.headers["message"], "not_found", "the error")
    equal(error.body, "NOT_FOUND - no exchange 'roadstead.none' in vhost '/'", "its text")
    client.ended()


@suite.check("websocket")
def websocket(session):
    if not WEBSOCKET.hostname:
        raise Skipped("STOMP_WS_URI is not set")
    client, other, queue = session.client(websocket=True), session.client(), session.queue()
    client.subscribe(queue, **EXPIRES)
    other.send(queue, "by TCP")
    client.send(queue, "by WebSocket")
    equal(client.bodies(2), ["by TCP", "by WebSocket"], "bodies")


@contextmanager
def channel():
    if "AMQP_URI" not in os.environ:
        raise Skipped("AMQP_URI is not set")
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
    try:
        yield connection.channel()
    finally:
        connection.close()


def delete(destination):
    with channel() as opened:
        opened.queue_delete(destination.removeprefix("/queue/"))


@suite.check("amqp-to-stomp")
def amqp_to_stomp(session):
    client, queue = session.client(), session.queue()
    client.subscribe(queue, **EXPIRES)
    properties = pika.BasicProperties(
        content_type="text/plain",
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="somewhere",
        message_id="m",
        timestamp=9,
        type="t",
        app_id="a",
        headers={"text": "x", "number": 5},
    )
    with channel() as opened:
        opened.basic_publish("", queue.removeprefix("/queue/"), b"from AMQP", properties)
        message = client.next()
    expected = {
        "content-type": "text/plain",
        "persistent": "true",
        "priority": "3",
        "correlation-id": "c",
        "reply-to": "/reply-queue/somewhere",
        "amqp-message-id": "m",
        "timestamp": "9",
        "type": "t",
        "app-id": "a",
        "text": "x",
        "number": "5",
    }
    equal(message.body, "from AMQP", "body")
    equal({name: message.headers.get(name) for name in expected}, expected, "headers")


@suite.check("stomp-to-amqp")
def stomp_to_amqp(session):
    client = session.client()
    with channel() as opened:
        queue = opened.queue_declare("", exclusive=True).method.queue
        opened.queue_bind(queue, "amq.topic", "roadstead.*.x")
        headers = {"content_type": "text/plain", "persistent": "true", "priority": "3", "correlation_id": "c"}
        headers |= {"amqp_message_id": "m", "timestamp": "9", "type": "t", "app_id": "a", "colour": "red"}
        client.send("/topic/roadstead.a.x", "from STOMP", **headers)
        method, found, body = opened.basic_get(queue, auto_ack=True)
    equal((method.exchange, method.routing_key, body), ("amq.topic", "roadstead.a.x", b"from STOMP"), "the message")
    told = (found.content_type, found.delivery_mode, found.priority, found.correlation_id, found.message_id)
    equal(told, ("text/plain", 2, 3, "c", "m"), "properties")
    equal((found.timestamp, found.type, found.app_id), (9, "t", "a"), "more properties")
    equal(found.headers["colour"], "red", "header")


@suite.check("requests-by-amqp")
def requests_by_amqp(session):
    client, queue = session.client(), session.queue()
    client.subscribe(queue, **EXPIRES)
    answers = []
    with channel() as opened:
        opened.basic_consume("amq.rabbitmq.reply-to", lambda _c, _m, _p, body: answers.append(body), auto_ack=True)
        properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
        opened.basic_publish("", queue.removeprefix("/queue/"), b"question", properties)
        client.post(client.next().headers["reply-to"], "answer")
        end = time.monotonic() + 5
        while not answers and time.monotonic() < end:
            opened.connection.process_data_events(0.1)
    equal(answers, [b"answer"], "answers")


@contextmanager
def mqtt_client():
    """A client of MQTT 5, and the messages that it gets."""
    if "MQTT_URI" not in os.environ:
        raise Skipped("MQTT_URI is not set")
    place, events, messages = urlsplit(os.environ["MQTT_URI"]), Queue(), Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False)
    client.username_pw_set(place.username, place.password)
    client.on_connect = client.on_subscribe = lambda *_: events.put(True)
    client.on_message = lambda _client, _userdata, message: messages.put(message)
    client.connect(place.hostname, place.port)
    client.loop_start()
    try:
        get(events, "CONNACK")
        yield client, events, messages
    finally:
        client.disconnect()
        client.loop_stop()


@suite.check("mqtt-to-stomp-and-back")
def mqtt(session):
    topic = unique("t")
    client = session.client()
    client.subscribe(f"/topic/{topic}.*")
    with mqtt_client() as (other, events, messages):
        other.subscribe(f"{topic.replace('.', '/')}/answers", 1)
        get(events, "SUBACK")
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "text/plain"
        properties.ResponseTopic = f"{topic.replace('.', '/')}/answers"
        properties.CorrelationData = b"7"
        properties.UserProperty = ("colour", "red")
        other.publish(f"{topic.replace('.', '/')}/asks", "question", 1, properties=properties)
        message = client.next()
        equal(message.body, "question", "the question")
        expected = {
            "destination": f"/topic/{topic}.asks",
            "content-type": "text/plain",
            "reply-to": f"/topic/{topic}.answers",
            "correlation-id": "7",
            "colour": "red",
            "persistent": "true",
        }
        equal({name: message.headers.get(name) for name in expected}, expected, "headers")
        client.post(message.headers["reply-to"], "answer", correlation_id="7", colour="blue")
        answer = get(messages, "answer")
        told = (answer.payload, answer.properties.CorrelationData, answer.properties.UserProperty)
        equal(told, (b"answer", b"7", [("colour", "blue")]), "the answer")


@suite.check("restart", seconds=60)
def restart(session):
    """What outlives the broker: messages of queues, of durable subscriptions, and of transactions."""
    client, queue, topic = session.client(), session.queue(), unique("t")
    options = {"durable": "true", "auto_delete": "false"}
    client.subscribe(queue, ack="client")
    client.subscribe(f"/topic/{topic}", id="kept", ack="client", **options)
    client.send(queue, "one", persistent="true")
    client.send(f"/topic/{topic}", "two", persistent="true")
    transaction = client.stomp.begin(unique("tx"))
    client.post(queue, "three", persistent="true", transaction=transaction)
    client.stomp.commit(transaction)
    client.sync()
    lost = client.stomp.begin(unique("tx"))
    client.post(queue, "never", persistent="true", transaction=lost)
    client.sync()
    restart_broker()
    second = Session().client()
    second.subscribe(queue)
    equal(second.bodies(2), ["one", "three"], "what the queue has kept")
    second.subscribe(f"/topic/{topic}", id="kept", **options)
    equal(second.next().body, "two", "what the subscription has kept")
    assert second.events.messages.empty(), "more than that"
    second.unsubscribe("kept", durable="true")
    second.disconnect()
    delete(queue)


if __name__ == "__main__":
    assert set(VERSIONS) == {"v1.0", "v1.1", "v1.2"}
    suite.main()
