"""Connections of MQTT 5 by paho, with what the broker says as queues of events."""

import queue
from contextlib import contextmanager
from types import SimpleNamespace

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

HOST = "127.0.0.1"
SECONDS = 5


class Refused(Exception):
    def __init__(self, code):
        super().__init__(f"refused with {code:#04x}")
        self.code = code


def get(events, what, seconds=SECONDS):
    try:
        return events.get(timeout=seconds)
    except queue.Empty:
        raise AssertionError(f"no {what} within {seconds} s") from None


@contextmanager
def connected(port, user=None, password=None, client_id="", tls=None, path=None, will=None):
    transport = "websockets" if path else "tcp"
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, transport=transport, reconnect_on_failure=False
    )
    if user is not None:
        client.username_pw_set(user, password)
    if will:
        client.will_set(*will)
    if tls:
        client.tls_set_context(tls)
    if path:
        client.ws_set_options(path=path)
    events = SimpleNamespace(connack=queue.Queue(), acks=queue.Queue(), messages=queue.Queue(), ends=queue.Queue())
    client.on_connect = lambda _client, _userdata, _flags, code, _properties: events.connack.put(code.value)
    client.on_subscribe = lambda _client, _userdata, _mid, codes, _properties: events.acks.put(codes[0].value)
    client.on_publish = lambda _client, _userdata, _mid, code, _properties: events.acks.put(code.value)
    client.on_message = lambda _client, _userdata, message: events.messages.put((message.topic, message.payload))
    client.on_disconnect = lambda _client, _userdata, _flags, code, _properties: events.ends.put(code.value)
    client.connect(HOST, port, 60)
    client.loop_start()
    try:
        code = get(events.connack, "CONNACK")
        if code:
            raise Refused(code)
        yield client, events
    finally:
        client.disconnect()
        client.loop_stop()
