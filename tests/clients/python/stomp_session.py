"""Connections of STOMP by stomp.py, with what the broker says as queues of events."""

import os
import queue
import sys
from urllib.parse import urlsplit

import stomp
from stomp.adapter.ws import WSStompConnection

from checks import Suite, unique

SECONDS = 5


def address(variable, example):
    uri = os.environ.get(variable)
    if not uri:
        sys.exit(f"{variable} is not set, e.g. {example}")
    return urlsplit(uri)


BROKER = address("STOMP_URI", "stomp://guest:guest@127.0.0.1:61613")
WEBSOCKET = urlsplit(os.environ.get("STOMP_WS_URI", ""))
VERSIONS = {"v1.0": stomp.StompConnection10, "v1.1": stomp.StompConnection11, "v1.2": stomp.StompConnection12}


def get(events, what, seconds=SECONDS):
    try:
        return events.get(timeout=seconds)
    except queue.Empty:
        raise AssertionError(f"no {what} within {seconds} s") from None


class Listener(stomp.ConnectionListener):
    def __init__(self):
        self.messages, self.receipts, self.errors, self.ends = (queue.Queue() for _ in range(4))
        self.connected, self.beats = queue.Queue(), queue.Queue()

    def on_connected(self, frame):
        self.connected.put(frame.headers)

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame):
        self.errors.put(frame)

    def on_disconnected(self):
        self.ends.put(True)

    def on_heartbeat(self):
        self.beats.put(True)


class Client:
    """A connected client."""

    def __init__(self, version="v1.2", websocket=False, heartbeats=(0, 0), headers=None):
        place = WEBSOCKET if websocket else BROKER
        options = {"reconnect_attempts_max": 1, "heartbeats": heartbeats}
        if version == "v1.0":
            del options["heartbeats"]
        if websocket:
            connection = WSStompConnection([(place.hostname, place.port)], vhost="/", ws_path=place.path, **options)
        elif version == "v1.0":
            connection = VERSIONS[version]([(place.hostname, place.port)], **options)
        else:
            connection = VERSIONS[version]([(place.hostname, place.port)], vhost="/", **options)
        self.version, self.stomp, self.events, self._receipts = version, connection, Listener(), 0
        connection.set_listener("events", self.events)
        connection.connect(BROKER.username, BROKER.password, wait=True, headers=headers)
        self.headers = get(self.events.connected, "CONNECTED")

    def _receipt(self):
        self._receipts += 1
        return f"r{self._receipts}"

    def _await(self, receipt):
        told = get(self.events.receipts, f"receipt {receipt}")
        assert told == receipt, f"receipt {told} instead of {receipt}"

    def subscribe(self, destination, id="1", ack="auto", **headers):
        """Subscribes, and waits until that is done."""
        receipt = self._receipt()
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"receipt": receipt}
        self.stomp.subscribe(destination, id=id, ack=ack, headers=headers)
        self._await(receipt)

    def unsubscribe(self, id="1", **headers):
        receipt = self._receipt()
        self.stomp.unsubscribe(id=id, receipt=receipt, **headers)
        self._await(receipt)

    def post(self, destination, body, **headers):
        """Sends without waiting for a receipt."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.stomp.send(destination, body, headers=headers)

    def send(self, destination, body, **headers):
        """Sends, and waits until the broker has the message."""
        receipt = self._receipt()
        self.post(destination, body, receipt=receipt, **headers)
        self._await(receipt)

    def next(self, seconds=SECONDS):
        return get(self.events.messages, "message", seconds)

    def bodies(self, count):
        return [self.next().body for _ in range(count)]

    def _id(self, message):
        return message.headers["ack" if self.version == "v1.2" else "message-id"]

    def ack(self, message, **options):
        arguments = [self._id(message)] + (["1"] if self.version == "v1.1" else [])
        self.stomp.ack(*arguments, **options)

    def nack(self, message, **headers):
        arguments = [self._id(message)] + (["1"] if self.version == "v1.1" else [])
        self.stomp.nack(*arguments, **headers)

    def sync(self):
        """Waits until the broker has taken all that was sent."""
        transaction = unique("tx")
        receipt = self._receipt()
        self.stomp.begin(transaction)
        self.stomp.abort(transaction, headers={"receipt": receipt})
        self._await(receipt)

    def error(self):
        return get(self.events.errors, "ERROR")

    def ended(self):
        return get(self.events.ends, "end of the connection")

    def disconnect(self):
        receipt = self._receipt()
        self.stomp.disconnect(receipt)
        self._await(receipt)

    def drop(self):
        """Ends the connection without a word."""
        self.stomp.transport.disconnect_socket()


class Session:
    """One check's clients, and the queues that it must not leave behind."""

    def __init__(self):
        self._clients, self._queues = [], []

    def client(self, *arguments, **options):
        client = Client(*arguments, **options)
        self._clients.append(client)
        return client

    def queue(self):
        """A destination that is a queue; it deletes itself a while after its last consumer."""
        return "/queue/" + unique("q")

    def close(self):
        for client in self._clients:
            if client.stomp.is_connected():
                client.drop()


def run(function):
    session = Session()
    try:
        function(session)
    finally:
        session.close()


suite = Suite(run)


def each_version(name, versions=tuple(VERSIONS)):
    """Registers a check once for every version of STOMP; it gets the version."""

    def register(function):
        for version in versions:
            suite.check(f"{name}-{version}")(lambda session, version=version: function(session, version))
        return function

    return register
