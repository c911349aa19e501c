"""Messages between MQTT and AMQP 0-9-1, through `amq.topic`, mapped as RabbitMQ maps them."""

from contextlib import contextmanager

import pika

from checks import Skipped, amqp_uri, equal, wait_until
from mqtt.address import HAS_AMQP
from mqtt.session import suite
from mqtt.wire import PUBACK, PUBLISH, PUBREC, V5

EXCHANGE = "amq.topic"


@contextmanager
def channel():
    if not HAS_AMQP:
        raise Skipped("AMQP_URI is not set")
    connection = pika.BlockingConnection(pika.URLParameters(amqp_uri()))
    try:
        opened = connection.channel()
        opened.confirm_delivery()
        yield opened
    finally:
        connection.close()


def key_of(topic):
    return topic.replace("/", ".")


def bound_queue(opened, *keys):
    queue = opened.queue_declare("", exclusive=True).method.queue
    for key in keys:
        opened.queue_bind(queue, EXCHANGE, key)
    return queue


def get(opened, queue):
    found = []

    def arrived():
        found[:] = opened.basic_get(queue, auto_ack=True)
        return found[0] is not None

    wait_until(arrived, 5, "a message in the queue")
    return found


def publish(opened, topic, body, **properties):
    opened.basic_publish(EXCHANGE, key_of(topic), body, pika.BasicProperties(**properties))


@suite.check("mqtt-to-amqp")
def mqtt_to_amqp(session):
    topic = session.topic()
    with channel() as opened:
        queue = bound_queue(opened, key_of(f"{topic}/*/c"))
        publisher = session.peer()
        for qos in (0, 1):
            publisher.publish(f"{topic}/b/c", b"%d" % qos, qos)
            publisher.publish(f"{topic}/b/d", b"not bound", qos)
            method, properties, body = get(opened, queue)
            equal((method.exchange, method.routing_key), (EXCHANGE, key_of(f"{topic}/b/c")), "exchange and key")
            equal((body, properties.delivery_mode), (b"%d" % qos, 1 + qos), "body and delivery mode")


@suite.check("amqp-to-mqtt")
def amqp_to_mqtt(session):
    topic = session.topic()
    with channel() as opened:
        listener = session.listener(f"{topic}/+/c", qos=1)
        for mode in (1, 2):
            publish(opened, f"{topic}/b/d", b"no match", delivery_mode=mode)
            publish(opened, f"{topic}/b/c", b"%d" % mode, delivery_mode=mode)
            listener.expect(f"{topic}/b/c", b"%d" % mode, qos=mode - 1, retain=False)
        publish(opened, f"{topic}//c", b"an empty level")
        listener.expect(f"{topic}//c", b"an empty level")


@suite.check("mqtt-to-amqp-properties")
def properties_to_amqp(session):
    topic = session.topic()
    with channel() as opened:
        queue = bound_queue(opened, key_of(topic))
        session.peer().publish(
            topic,
            b"x",
            content_type="text/plain",
            correlation_data=b"request 7",
            response_topic="replies/to/me",
            message_expiry_interval=60,
            user_property=[("shape", "round"), ("ä", "ö")],
        )
        _, properties, _ = get(opened, queue)
        equal((properties.content_type, properties.correlation_id), ("text/plain", "request 7"), "type and correlation")
        equal(properties.expiration, "60000", "expiration")
        equal(properties.headers, {"shape": "round", "ä": "ö", "x-reply-to-topic": "replies.to.me"}, "headers")


@suite.check("mqtt-to-amqp-binary-correlation-data")
def binary_correlation(session):
    topic = session.topic()
    with channel() as opened:
        queue = bound_queue(opened, key_of(topic))
        publisher = session.peer()
        for identity in (b"\xff\x00", b"x" * 300):
            publisher.publish(topic, b"x", correlation_data=identity)
            _, properties, _ = get(opened, queue)
            equal(properties.correlation_id, None, "correlation id")
            header = properties.headers["x-correlation-id"]
            equal(header.encode() if isinstance(header, str) else header, identity, "the header for it")


@suite.check("amqp-to-mqtt-properties")
def properties_to_mqtt(session):
    topic = session.topic()
    with channel() as opened:
        listener = session.connected()
        listener.subscribe((topic, 1))
        publish(
            opened,
            topic,
            b"x",
            delivery_mode=2,
            content_type="text/plain",
            correlation_id="request 7",
            headers={"shape": "round", "x-reply-to-topic": "replies.to.me"},
        )
        message = listener.expect(PUBLISH)
        listener.ack(PUBACK, message.mid)
        expected = {
            "content_type": "text/plain",
            "correlation_data": b"request 7",
            "response_topic": "replies/to/me",
            "user_property": [("shape", "round")],
        }
        equal(message.properties, expected, "the properties")


@suite.check("amqp-expiration-becomes-message-expiry")
def expiration(session):
    topic = session.topic()
    with channel() as opened:
        listener = session.connected()
        listener.subscribe((topic, 1))
        publish(opened, topic, b"x", expiration="60000")
        left = listener.expect(PUBLISH).properties.get("message_expiry_interval")
        assert left in (59, 60), f"of 60 s are left {left}"


@suite.check("amqp-headers-become-user-properties")
def headers(session):
    topic = session.topic()
    with channel() as opened:
        listener = session.connected()
        listener.subscribe((topic, 1))
        publish(opened, topic, b"x", headers={"text": "ä", "whole": 7, "true": True})
        found = dict(listener.expect(PUBLISH).properties["user_property"])
        equal(found, {"text": "ä", "whole": "7", "true": "true"}, "the user properties")


@suite.check("request-by-mqtt-response-by-amqp")
def request_and_response(session):
    requests, replies = session.topic(), session.topic()
    with channel() as opened:
        queue = bound_queue(opened, key_of(requests))
        requester = session.listener(replies)
        requester.publish(requests, b"ping", response_topic=replies, correlation_data=b"1")
        _, properties, body = get(opened, queue)
        reply_to = properties.headers["x-reply-to-topic"]
        answer = pika.BasicProperties(correlation_id=properties.correlation_id)
        opened.basic_publish(EXCHANGE, reply_to, body + b" pong", answer)
        message = requester.expect(replies, b"ping pong")
        equal(message.properties.CorrelationData, b"1", "the correlation data")


@suite.check("amqp-to-an-offline-session")
def offline(session):
    topic = session.topic()
    with channel() as opened:
        kept = session.kept()
        kept.subscribe(topic, qos=1)
        kept.disconnect()
        for number in range(3):
            publish(opened, topic, b"%d" % number, delivery_mode=2)
        equal(session.kept(client_id=kept.client_id).payloads(3), [b"0", b"1", b"2"], "the messages")


@suite.check("a-refused-publish-frees-its-identifier")
def refused_publish(session):
    topic = session.topic()
    with channel() as opened:
        full = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = opened.queue_declare("", exclusive=True, arguments=full).method.queue
        opened.queue_bind(queue, EXCHANGE, key_of(topic))
        raw = session.raw(V5)
        if "maximum_qos" in raw.connect(session_expiry_interval=60).properties:
            raise Skipped("the broker has no QoS 2")
        raw.publish(topic, b"first", qos=2, mid=1)
        equal(raw.expect(PUBREC).code, 0, "the code of PUBREC")
        raw.publish(topic, b"second", qos=2, mid=2)
        equal(raw.expect(PUBREC).code, 0x97, "the code of PUBREC")
        equal(get(opened, queue)[2], b"first", "the message")
        raw.publish(topic, b"third", qos=2, mid=2)
        equal(raw.expect(PUBREC).code, 0, "the code of PUBREC")
        equal(get(opened, queue)[2], b"third", "the message")
        raw.disconnect(0, session_expiry_interval=0)


@suite.check("a-will-goes-to-amqp")
def will(session):
    topic = session.topic()
    with channel() as opened:
        queue = bound_queue(opened, key_of(topic))
        session.peer(will={"topic": topic, "payload": b"gone", "qos": 1}).drop()
        method, properties, body = get(opened, queue)
        equal((method.routing_key, properties.delivery_mode, body), (key_of(topic), 2, b"gone"), "the will")


@suite.check("retained-goes-to-amqp-once")
def retained(session):
    topic = session.topic()
    with channel() as opened:
        queue = bound_queue(opened, key_of(topic))
        session.retain(session.peer(), topic, b"x")
        equal(get(opened, queue)[2], b"x", "the message")
        late = bound_queue(opened, key_of(topic))
        publish(opened, topic, b"live")
        equal(get(opened, late)[2], b"live", "the first message of a queue that is bound later")


@suite.check("large-messages-both-ways")
def large(session):
    topic, body = session.topic(), bytes(range(256)) * 4096
    with channel() as opened:
        queue = bound_queue(opened, key_of(topic))
        listener = session.listener(topic, qos=1)
        publish(opened, topic, body)
        session.peer().publish(topic, body)
        equal([found == body for found in listener.payloads(2)], [True, True], "what the subscriber got")
        equal([get(opened, queue)[2] == body for _ in range(2)], [True, True], "what the queue got")
