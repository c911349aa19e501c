"""MQTT over WebSocket: paho's, and what only a client of our own does."""

import base64
import hashlib
import os
import socket
import struct

from checks import Skipped, equal
from mqtt import wire
from mqtt.address import BROKER, EVENT_SECONDS, WEBSOCKET, new_id
from mqtt.session import each_version, suite
from mqtt.wire import V311

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def need_websocket():
    if not WEBSOCKET.port:
        raise Skipped("MQTT_WS_URI is not set")


@each_version("websocket")
def websocket(session, version):
    need_websocket()
    topic = session.topic()
    peer = session.peer(version, transport="websockets")
    listener = session.listener(topic, version=version)
    peer.subscribe(topic, qos=2)
    for qos in range(3):
        body = os.urandom(200_000 * qos)
        peer.publish(topic, body, qos)
        listener.expect(topic, body, qos=qos)
        peer.expect(topic, body, qos=qos)


@suite.check("websocket-will")
def will(session):
    need_websocket()
    topic = session.topic()
    watcher = session.listener(topic)
    session.peer(transport="websockets", will={"topic": topic, "payload": b"gone", "qos": 1}).drop()
    watcher.expect(topic, b"gone")


class Frames:
    """A WebSocket connection, frame by frame."""

    def __init__(self, protocol="mqtt"):
        need_websocket()
        self._socket = socket.create_connection((WEBSOCKET.hostname, WEBSOCKET.port), EVENT_SECONDS)
        self._pending = b""
        key = base64.b64encode(os.urandom(16))
        offered = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
        head = (
            f"GET {WEBSOCKET.path} HTTP/1.1\r\nHost: {WEBSOCKET.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{offered}Sec-WebSocket-Key: {key.decode()}\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self.accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode()

    def answer(self):
        """The status of the broker's answer and its headers."""
        while b"\r\n\r\n" not in self._pending:
            received = self._socket.recv(4096)
            assert received, "the broker ended the connection without an answer"
            self._pending += received
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers

    def upgraded(self):
        status, headers = self.answer()
        equal((status, headers["sec-websocket-accept"]), (101, self.accept), "status and key")
        return headers

    def send(self, payload, kind=BINARY, end=True):
        mask = os.urandom(4)
        size = len(payload)
        length = bytes([128 | size]) if size < 126 else bytes([128 | 126]) + struct.pack(">H", size)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self._socket.sendall(bytes([end << 7 | kind]) + length + mask + masked)

    def _take(self, count):
        while len(self._pending) < count:
            received = self._socket.recv(65536)
            if not received:
                return None
            self._pending += received
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def frame(self):
        """Type and payload of the next frame; none at the end."""
        head = self._take(2)
        if head is None:
            return None
        assert head[1] < 126, "a small frame was expected, without a mask"
        return head[0] & 15, self._take(head[1])

    def ended(self):
        """Expects the end, maybe after a close frame."""
        try:
            while (found := self.frame()) is not None:
                equal(found[0], CLOSE, "the type of a frame before the end")
        except ConnectionError:
            pass


def connect_packet():
    return wire.connect(V311, new_id(), user=BROKER.username, password=BROKER.password)


CONNACK = b"\x20\x02\0\0"
PINGREQ, PINGRESP = wire.packet(wire.PINGREQ), wire.packet(wire.PINGRESP)


@suite.check("websocket-sub-protocol")
def sub_protocol(_session):
    for offered in ("mqtt", "mqtt, other", "other, mqtt"):
        equal(Frames(offered).upgraded().get("sec-websocket-protocol"), "mqtt", f"the protocol for {offered}")


@suite.check("websocket-frames-are-not-packets")
def frames(_session):
    connection = Frames()
    connection.upgraded()
    sent = connect_packet()
    connection.send(sent[:5], end=False)
    connection.send(sent[5:9], kind=0)
    connection.send(sent[9:] + PINGREQ + PINGREQ[:1])
    connection.send(PINGREQ[1:])
    got = b""
    while len(got) < 8:
        kind, payload = connection.frame()
        equal(kind, BINARY, "the type of the frame")
        got += payload
    equal(got, CONNACK + PINGRESP * 2, "the answers")


@suite.check("websocket-ping-and-close")
def ping_and_close(_session):
    connection = Frames()
    connection.upgraded()
    connection.send(connect_packet())
    equal(connection.frame(), (BINARY, CONNACK), "the first frame")
    connection.send(b"are you there", PING)
    equal(connection.frame(), (PONG, b"are you there"), "the answer to a ping")
    connection.send(struct.pack(">H", 1000), CLOSE)
    connection.ended()


@suite.check("websocket-text-frame")
def text_frame(_session):
    connection = Frames()
    connection.upgraded()
    connection.send(connect_packet(), TEXT)
    connection.ended()
