"""A small MQTT client that sends exactly what it is told: for what paho hides, does by itself or refuses to do."""

import socket
import struct
import time
from types import SimpleNamespace

from checks import equal
from mqtt.address import BROKER, EVENT_SECONDS, new_id

V31, V311, V5 = 3, 4, 5
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)

PROPERTIES = {
    "payload_format_indicator": (1, "byte"),
    "message_expiry_interval": (2, "u32"),
    "content_type": (3, "text"),
    "response_topic": (8, "text"),
    "correlation_data": (9, "data"),
    "subscription_identifier": (11, "varint"),
    "session_expiry_interval": (17, "u32"),
    "assigned_client_identifier": (18, "text"),
    "server_keep_alive": (19, "u16"),
    "authentication_method": (21, "text"),
    "authentication_data": (22, "data"),
    "request_problem_information": (23, "byte"),
    "will_delay_interval": (24, "u32"),
    "request_response_information": (25, "byte"),
    "response_information": (26, "text"),
    "server_reference": (28, "text"),
    "reason_string": (31, "text"),
    "receive_maximum": (33, "u16"),
    "topic_alias_maximum": (34, "u16"),
    "topic_alias": (35, "u16"),
    "maximum_qos": (36, "byte"),
    "retain_available": (37, "byte"),
    "user_property": (38, "pair"),
    "maximum_packet_size": (39, "u32"),
    "wildcard_subscription_available": (40, "byte"),
    "subscription_identifier_available": (41, "byte"),
    "shared_subscription_available": (42, "byte"),
}
NAMES = {number: (name, kind) for name, (number, kind) in PROPERTIES.items()}
REPEATED = ("user_property", "subscription_identifier")
INTEGERS = {"byte": ">B", "u16": ">H", "u32": ">I"}


# Encoding


def u16(number):
    return struct.pack(">H", number)


def varint(number):
    encoded = bytearray()
    while True:
        number, low = divmod(number, 128)
        encoded.append(low | (128 if number else 0))
        if not number:
            return bytes(encoded)


def data(value):
    value = value.encode() if isinstance(value, str) else value
    return u16(len(value)) + value


def property_value(kind, value):
    if kind in INTEGERS:
        return struct.pack(INTEGERS[kind], value)
    if kind == "varint":
        return varint(value)
    return data(value[0]) + data(value[1]) if kind == "pair" else data(value)


def properties(values):
    encoded = b""
    for name, value in values.items():
        number, kind = PROPERTIES[name]
        for each in value if isinstance(value, list) else [value]:
            encoded += bytes([number]) + property_value(kind, each)
    return varint(len(encoded)) + encoded


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connect(version=V5, client_id="", clean=True, keep_alive=60, will=None, user=None, password=None, flags=0, **values):
    """`will` is a dictionary with a topic, and maybe with payload, qos, retain and properties."""
    will = will or {}
    flags |= 2 * clean | (4 if will else 0) | will.get("qos", 0) << 3 | will.get("retain", 0) << 5
    flags |= (password is not None) << 6 | (user is not None) << 7
    name = "MQIsdp" if version == V31 else "MQTT"
    body = data(name) + bytes([version, flags]) + u16(keep_alive)
    body += properties(values) if version == V5 else b""
    body += data(client_id)
    if will:
        body += properties(will.get("properties", {})) if version == V5 else b""
        body += data(will["topic"]) + data(will.get("payload", b""))
    body += b"" if user is None else data(user)
    return packet(CONNECT, body + (b"" if password is None else data(password)))


def publish(version, topic, payload=b"", qos=0, mid=None, retain=False, dup=False, **values):
    body = data(topic) + (b"" if mid is None else u16(mid))
    body += properties(values) if version == V5 else b""
    return packet(PUBLISH, body + payload, dup << 3 | qos << 1 | retain)


def subscribe(version, mid, *filters, **values):
    """Each filter comes with the byte of its options."""
    body = u16(mid) + (properties(values) if version == V5 else b"")
    return packet(SUBSCRIBE, body + b"".join(data(each) + bytes([options]) for each, options in filters), 2)


def unsubscribe(version, mid, *filters):
    body = u16(mid) + (properties({}) if version == V5 else b"")
    return packet(UNSUBSCRIBE, body + b"".join(data(each) for each in filters), 2)


def ack(kind, mid, code=None):
    return packet(kind, u16(mid) + (b"" if code is None else bytes([code])), 2 if kind == PUBREL else 0)


# Decoding


class Reader:
    def __init__(self, content):
        self._rest = content

    def take(self, count):
        assert len(self._rest) >= count, f"a packet of the broker lacks {count - len(self._rest)} bytes"
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def rest(self):
        return self.take(len(self._rest))

    def more(self):
        return bool(self._rest)

    def integer(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                assert byte or shift == 7, "a variable byte integer of the broker is longer than it needs to be"
                return number

    def data(self):
        return self.take(self.integer(">H"))

    def text(self):
        return self.data().decode()

    def value(self, kind):
        if kind in INTEGERS:
            return self.integer(INTEGERS[kind])
        if kind == "pair":
            return (self.text(), self.text())
        return {"varint": self.varint, "text": self.text, "data": self.data}[kind]()

    def properties(self):
        section = Reader(self.take(self.varint()))
        found = {}
        while section.more():
            name, kind = NAMES[section.varint()]
            value = section.value(kind)
            if name in REPEATED:
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"the broker sent {name} twice"
                found[name] = value
        return found


def decode(version, first, body):
    reader = Reader(body)
    kind, flags = first >> 4, first & 15
    found = SimpleNamespace(kind=kind, flags=flags, code=0, properties={}, size=len(body))
    has_properties = version == V5
    if kind == PUBLISH:
        found.dup, found.qos, found.retain = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
        found.topic = reader.text()
        found.mid = reader.integer(">H") if found.qos else None
        found.properties = reader.properties() if has_properties else {}
        found.payload = reader.rest()
        return found
    equal(flags, 2 if kind == PUBREL else 0, f"the flags of a packet of type {kind}")
    if kind == CONNACK:
        found.present, found.code = bool(reader.integer(">B")), reader.integer(">B")
        found.properties = reader.properties() if has_properties else {}
    elif kind in (SUBACK, UNSUBACK):
        found.mid = reader.integer(">H")
        found.properties = reader.properties() if has_properties else {}
        found.codes = list(reader.rest())
    elif kind != PINGRESP:
        found.mid = reader.integer(">H") if kind not in (DISCONNECT, AUTH) else None
        found.code = reader.integer(">B") if reader.more() else 0
        found.properties = reader.properties() if reader.more() else {}
    assert not reader.more(), f"the broker's packet of type {kind} has {len(reader.rest())} bytes too many"
    return found


# Connections


class Raw:
    """A connection of its own."""

    def __init__(self, version=V5, client_id=None, receive_buffer=None):
        self.version = version
        self.client_id = new_id() if client_id is None else client_id
        self._pending = b""
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((BROKER.hostname, BROKER.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *packets):
        self._socket.settimeout(EVENT_SECONDS)
        self._socket.sendall(b"".join(packets))

    def connect_packet(self, **options):
        login = {"user": BROKER.username, "password": BROKER.password}
        return connect(self.version, self.client_id, **login | options)

    def connect(self, **options):
        """Connects with success, and returns the CONNACK."""
        self.send(self.connect_packet(**options))
        answer = self.expect(CONNACK)
        equal(answer.code, 0, "the code of CONNACK")
        return answer

    def read(self, seconds=EVENT_SECONDS):
        """The next packet; none if the broker has closed the connection."""
        end = time.monotonic() + seconds
        while (found := self._buffered()) is None:
            if not self._fill(end):
                return None
        return found

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise AssertionError("the broker neither sent a packet nor closed the connection")
        self._socket.settimeout(left)
        try:
            received = self._socket.recv(65536)
        except TimeoutError:
            return True
        except OSError:  # a reset is an end too
            return False
        self._pending += received
        return bool(received)

    def _buffered(self):
        length, shift = 0, 0
        for at, byte in enumerate(self._pending[1:5], 2):
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        else:
            return None
        if len(self._pending) < at + length:
            return None
        first, body = self._pending[0], self._pending[at : at + length]
        self._pending = self._pending[at + length :]
        return decode(self.version, first, body)

    def expect(self, kind, seconds=EVENT_SECONDS):
        found = self.read(seconds)
        assert found is not None, f"the broker closed the connection; a packet of type {kind} was expected"
        equal(found.kind, kind, f"the type of the packet {vars(found)}")
        return found

    def take(self, kind, count):
        return [self.expect(kind) for _ in range(count)]

    def publish(self, topic, payload=b"", **options):
        self.send(publish(self.version, topic, payload, **options))

    def ack(self, kind, mid, code=None):
        self.send(ack(kind, mid, code))

    def exchange(self, kind, mid, answer):
        """Sends an acknowledgement, and returns the answer to it."""
        self.ack(kind, mid)
        found = self.expect(answer)
        equal(found.mid, mid, "the packet identifier")
        return found

    def subscribe(self, *filters, mid=60000, **values):
        self.send(subscribe(self.version, mid, *filters, **values))
        answer = self.expect(SUBACK)
        equal(answer.mid, mid, "the packet identifier of SUBACK")
        return answer.codes

    def ping(self):
        """Returns when the broker has read everything sent before, and has sent nothing but the answer."""
        self.send(packet(PINGREQ))
        self.expect(PINGRESP)

    def ping_among(self, *kinds):
        """As `ping`, when packets of these types may be on their way."""
        self.send(packet(PINGREQ))
        while (found := self.read()).kind != PINGRESP:
            assert found.kind in kinds, f"the broker sent {vars(found)}"

    def refused(self, *codes, end=None):
        """Expects the broker to close the connection, maybe with one of these codes, and returns the last code."""
        last = None
        end = end or time.monotonic() + EVENT_SECONDS
        while (found := self.read(max(end - time.monotonic(), 0.1))) is not None:
            if found.kind in (CONNACK, DISCONNECT):
                last = found.code
                assert last in codes, f"refused with {last:#04x}, expected one of {[hex(code) for code in codes]}"
        return last

    def disconnect(self, code=None, **values):
        body = b"" if code is None else bytes([code]) + (properties(values) if values else b"")
        self.send(packet(DISCONNECT, body))
        self._socket.shutdown(socket.SHUT_WR)
        while self.read() is not None:
            pass
        self.drop()

    def drop(self):
        """Closes the connection without a word."""
        self._socket.close()

    def closed(self):
        """Expects the end of the connection, and nothing else."""
        found = self.read()
        assert found is None, f"the broker sent {vars(found)}, the end was expected"
