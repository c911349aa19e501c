"""What the checks share: clients of paho, their steps, and what must not be left behind."""

import queue
import socket
import threading
from types import SimpleNamespace

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from checks import Suite, equal, unique
from mqtt.address import BROKER, EVENT_SECONDS, WEBSOCKET, new_id
from mqtt.wire import V5, V31, V311, Raw

VERSIONS = {"v3.1": V31, "v3.1.1": V311, "v5": V5}
FOR_EVER = 0xFFFFFFFF
KEPT = {"session_expiry_interval": FOR_EVER}


def get(events, what, seconds=EVENT_SECONDS):
    try:
        return events.get(timeout=seconds)
    except queue.Empty:
        raise AssertionError(f"no {what} within {seconds} s") from None


def paho_properties(kind, values):
    found = Properties(kind)
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            setattr(found, name.title().replace("_", ""), each)
    return found


def plain(found):
    """The properties of a packet as a dictionary with the names that `wire` uses."""
    if found is None:
        return {}
    names = {number: name.lower().replace(" ", "_") for name, number in found.names.items()}
    pairs = ((names[number], name.replace(" ", "")) for name, number in found.names.items())
    return {name: getattr(found, attribute) for name, attribute in pairs if hasattr(found, attribute)}


class Peer:
    """A client of paho whose events can be awaited."""

    def __init__(self, version, client_id, clean, will, transport, manual_ack):
        self.version, self.client_id, self._clean = version, client_id, clean
        options = {"clean_session": clean} if version != V5 else {}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=version,
            transport=transport,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
            **options,
        )
        self.client.max_inflight_messages_set(10)  # it ignores the broker's receive maximum
        if BROKER.username:
            self.client.username_pw_set(BROKER.username, BROKER.password)
        if will:
            self._set_will(**will)
        self.messages, self._connacks, self._ends = queue.Queue(), queue.Queue(), queue.Queue()
        self._acks, self._lock = {}, threading.Lock()
        self._listen()

    def _set_will(self, topic, payload=b"", qos=0, retain=False, properties=None):
        values = paho_properties(PacketTypes.WILLMESSAGE, properties or {}) if self.version == V5 else None
        self.client.will_set(topic, payload, qos, retain, values)

    def _listen(self):
        def connected(_client, _userdata, flags, code, properties):
            self._connacks.put(SimpleNamespace(present=flags.session_present, code=code, properties=plain(properties)))

        def disconnected(_client, _userdata, flags, code, properties):
            told = flags.is_disconnect_packet_from_server
            self._ends.put(SimpleNamespace(told=told, code=code.value, properties=plain(properties)))

        def acked(_client, _userdata, mid, codes, properties):
            codes = codes if isinstance(codes, list) else [codes]
            self._ack(mid).put(([code.value for code in codes], plain(properties)))

        self.client.on_connect, self.client.on_disconnect = connected, disconnected
        self.client.on_subscribe = self.client.on_unsubscribe = self.client.on_publish = acked
        self.client.on_message = lambda _client, _userdata, message: self.messages.put(message)

    def _ack(self, mid):
        with self._lock:
            return self._acks.setdefault(mid, queue.Queue())

    def persist(self, port=BROKER.port):
        """Connects, and does so again whenever the connection ends."""
        self.client.reconnect_delay_set(0.02, 0.1)
        self.client._reconnect_on_failure = True
        properties = paho_properties(PacketTypes.CONNECT, KEPT)
        options = {"clean_start": False, "properties": properties} if self.version == V5 else {}
        self.client.connect_async(BROKER.hostname, port, **options)
        self.client.loop_start()

    def connect(self, keep_alive=60, port=None, **properties):
        """Connects with success, and returns the CONNACK."""
        options = {}
        if self.version == V5:
            values = paho_properties(PacketTypes.CONNECT, properties)
            options = {"clean_start": self._clean, "properties": values}
        websocket = self.client.transport == "websockets"
        if websocket:
            self.client.ws_set_options(path=WEBSOCKET.path)
        port = port or (WEBSOCKET if websocket else BROKER).port
        self.client.connect(BROKER.hostname, port, keep_alive, **options)
        self.client.loop_start()
        answer = get(self._connacks, "CONNACK")
        assert not answer.code.is_failure, f"the connection was refused: {answer.code}"
        self.connack = answer
        return answer

    def subscribe(self, *filters, qos=0, properties=None, **options):
        """Subscribes to filters, each of them a text or a text with its QoS, and returns the codes of SUBACK."""
        pairs = [(each, qos) if isinstance(each, str) else each for each in filters]
        if self.version != V5:
            _, mid = self.client.subscribe(pairs)
        else:
            wanted = [(each, SubscribeOptions(level, **options)) for each, level in pairs]
            values = paho_properties(PacketTypes.SUBSCRIBE, properties or {})
            _, mid = self.client.subscribe(wanted, properties=values)
        return get(self._ack(mid), "SUBACK")[0]

    def unsubscribe(self, *filters):
        _, mid = self.client.unsubscribe(list(filters))
        return get(self._ack(mid), "UNSUBACK")[0]

    def send(self, topic, payload=b"", qos=0, retain=False, **properties):
        values = paho_properties(PacketTypes.PUBLISH, properties) if self.version == V5 else None
        return self.client.publish(topic, payload, qos, retain, values).mid

    def await_ack(self, mid, seconds=EVENT_SECONDS):
        """The code of the last acknowledgement of a message."""
        return get(self._ack(mid), "acknowledgement", seconds)[0][0]

    def publish(self, topic, payload=b"", qos=1, retain=False, **properties):
        """Publishes, waits for the acknowledgement and returns its code."""
        return self.await_ack(self.send(topic, payload, qos, retain, **properties))

    def next(self, seconds=EVENT_SECONDS):
        return get(self.messages, "message", seconds)

    def take(self, count, seconds=EVENT_SECONDS):
        return [self.next(seconds) for _ in range(count)]

    def payloads(self, count, seconds=EVENT_SECONDS):
        return [message.payload for message in self.take(count, seconds)]

    def expect(self, topic, payload, qos=None, retain=None):
        message = self.next()
        equal((message.topic, message.payload), (topic, payload), "topic and payload")
        if qos is not None:
            equal(message.qos, qos, "QoS")
        if retain is not None:
            equal(message.retain, retain, "retain flag")
        return message

    def empty(self):
        equal([message.payload for message in list(self.messages.queue)], [], "other messages")

    def ended(self, seconds=EVENT_SECONDS):
        """How the connection ended: whether the broker told so, and with which code."""
        return get(self._ends, "end of the connection", seconds)

    def disconnect(self, code=0, **properties):
        if self.version == V5:
            values = paho_properties(PacketTypes.DISCONNECT, properties)
            self.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=code), values)
        else:
            self.client.disconnect()
        self.ended()
        self.client.loop_stop()

    def drop(self):
        """Ends the connection without a word."""
        found = self.client.socket()
        getattr(found, "_socket", found).shutdown(socket.SHUT_RDWR)  # paho wraps that of a WebSocket
        self.ended()
        self.client.loop_stop()

    def close(self):
        if self.client.is_connected():
            self.client.disconnect()
        self.client.loop_stop()


class Session:
    """One check's clients, and the topics and sessions that it must not leave behind."""

    def __init__(self):
        self._peers, self._raws = [], []
        self._retained, self._kept = set(), {}

    def topic(self, end=""):
        return unique("t").replace(".", "/") + end

    def peer(self, version=V5, client_id=None, clean=True, will=None, manual_ack=False, transport="tcp", **connect):
        """A connected client. Its session ends with it, unless `clean` is false."""
        peer = self.unconnected(version, client_id, clean, will, manual_ack, transport)
        peer.connect(**connect)
        return peer

    def unconnected(self, version=V5, client_id=None, clean=False, will=None, manual_ack=False, transport="tcp"):
        client_id = new_id() if client_id is None else client_id
        peer = Peer(version, client_id, clean, will, transport, manual_ack)
        self._peers.append(peer)
        if not clean:
            self._kept[client_id] = version
        if will and will.get("retain"):
            self._retained.add(will["topic"])
        return peer

    def kept(self, version=V5, client_id=None, **options):
        """A connected client whose session stays."""
        if version == V5:
            options = KEPT | options
        return self.peer(version, client_id, clean=False, **options)

    def listener(self, *filters, version=V5, qos=2):
        peer = self.peer(version)
        peer.subscribe(*filters, qos=qos)
        return peer

    def raw(self, version=V5, client_id=None, **options):
        """An open connection on which nothing has been sent."""
        raw = Raw(version, client_id, **options)
        self._raws.append(raw)
        return raw

    def connected(self, version=V5, client_id=None, clean=True, **options):
        raw = self.raw(version, client_id)
        if not clean:
            self._kept[raw.client_id] = version
            if version == V5:
                options = KEPT | options
        raw.connack = raw.connect(clean=clean, **options)
        return raw

    def retain(self, peer, topic, payload=b"retained", qos=1, **properties):
        self._retained.add(topic)
        return peer.publish(topic, payload, qos, True, **properties)

    def close(self):
        for raw in self._raws:
            raw.drop()
        for peer in self._peers:
            peer.close()
        for client_id, version in self._kept.items():
            Raw(version, client_id).connect()
        if self._retained:
            cleaner = Raw(V5)
            cleaner.connect()
            for topic in self._retained:
                cleaner.publish(topic, retain=True)
            cleaner.ping()


def run(function):
    session = Session()
    try:
        function(session)
    finally:
        session.close()


suite = Suite(run)


def each_version(name, versions=tuple(VERSIONS), **options):
    """Registers a check once for every version of MQTT; it gets the version."""

    def register(function):
        for label in versions:
            version = VERSIONS[label]
            suite.check(f"{name}-{label}", **options)(lambda session, version=version: function(session, version))
        return function

    return register


class Together:
    """Checks that wait for time to pass. They begin before all others, and are judged when `begin` has its turn."""

    def __init__(self):
        self._checks = {}

    def check(self, name):
        def register(function):
            self._checks[name] = function
            return function

        return register

    def begin(self):
        for name, function in self._checks.items():
            if suite.wanted(name):
                outcome = queue.Queue()
                suite.check(name)(lambda _session, outcome=outcome: self._judge(outcome))
                threading.Thread(target=self._attempt, args=(function, outcome), daemon=True).start()

    @staticmethod
    def _judge(outcome):
        failure = outcome.get()
        if failure:
            raise failure

    @staticmethod
    def _attempt(function, outcome):
        try:
            run(function)
            outcome.put(None)
        except BaseException as failure:
            outcome.put(failure)


together = Together()


def numbered(count):
    return [b"m%d" % number for number in range(count)]

