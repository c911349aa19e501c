"""Who may connect by STOMP, how, and what he may do there: TLS, WebSocket over TLS, certificates, vhosts and permissions.

The ports are in STOMP_PORT, STOMPS_PORT, STOMP_WSS_PORT and WSS_PORT, the certificates where `tls_suite.py` has them. The users are
those of the harness.
"""

import os
import socket
import ssl

import websocket

from checks import Suite, equal, unique

CERTIFICATES = os.environ["CERTIFICATES"]
HOST = "127.0.0.1"
SECONDS = 5

suite = Suite(lambda check: check())


def port(name):
    return int(os.environ[name])


def context(client=None, ca="ca"):
    made = ssl.create_default_context(cafile=f"{CERTIFICATES}/{ca}.pem")
    if client:
        made.load_cert_chain(f"{CERTIFICATES}/{client}.pem", f"{CERTIFICATES}/{client}.key")
    return made


class Raw:
    """A connection that sends frames as they are written here, and reads whole ones."""

    def __init__(self, number, tls=None, path=None, protocol="v12.stomp"):
        if path:
            url = f"wss://{HOST}:{number}{path}"
            self._socket = websocket.create_connection(
                url, timeout=SECONDS, subprotocols=[protocol], sslopt={"context": tls}
            )
            self._read = self._socket.recv
        else:
            self._socket = socket.create_connection((HOST, number), SECONDS)
            if tls:
                self._socket = tls.wrap_socket(self._socket, server_hostname=HOST)
            self._read = lambda: self._socket.recv(65536)
        self._got = b""

    def send(self, command, body="", **headers):
        lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
        frame = f"{command}\n{lines}\n{body}\0"
        self._socket.send(frame if isinstance(self._socket, websocket.WebSocket) else frame.encode())

    def next(self):
        """The command, the headers and the body of the next frame."""
        while b"\0" not in self._got:
            more = self._read()
            assert more, "the end of the connection"
            self._got += more if isinstance(more, bytes) else more.encode()
        frame, self._got = self._got.lstrip(b"\n").split(b"\0", 1)
        head, body = frame.decode().split("\n\n", 1)
        command, *lines = head.split("\n")
        return command, dict(line.split(":", 1) for line in lines), body

    def connect(self, user=None, password=None, **headers):
        if user is not None:
            headers |= {"login": user, "passcode": password}
        self.send("CONNECT", accept_version="1.2", **headers)
        return self.next()

    def close(self):
        self._socket.close()


def echo(user=None, password=None, headers=None, **options):
    raw, topic = Raw(**options), unique("t")
    command, told, _ = raw.connect(user, password, **(headers or {}))
    equal((command, told.get("version")), ("CONNECTED", "1.2"), f"the answer to CONNECT ({told})")
    raw.send("SUBSCRIBE", id="1", destination=f"/topic/{topic}")
    raw.send("SEND", "x" * 100_000, destination=f"/topic/{topic}")
    command, _, body = raw.next()
    equal((command, body), ("MESSAGE", "x" * 100_000), "what came back")
    raw.close()


def refused(expected, user=None, password=None, headers=None, **options):
    raw = Raw(**options)
    command, told, body = raw.connect(user, password, **(headers or {}))
    equal((command, told["message"], body), ("ERROR", "Bad CONNECT", expected), "the refusal")
    raw.close()


@suite.check("stomp-over-tls")
def over_tls():
    echo("guest", "guest", number=port("STOMPS_PORT"), tls=context())


@suite.check("stomp-over-websocket-over-tls")
def over_wss():
    for name, path in (("STOMP_WSS_PORT", "/ws"), ("WSS_PORT", "/ws"), ("WSS_PORT", "/stomp"), ("WSS_PORT", "/")):
        echo("guest", "guest", number=port(name), tls=context(), path=path)
    try:
        Raw(port("STOMP_WSS_PORT"), context(), "/ws", "mqtt")
        raise AssertionError("another protocol was not refused")
    except websocket.WebSocketBadStatusException as error:
        equal(error.status_code, 400, "status")


@suite.check("stomp-by-certificate")
def by_certificate():
    echo(number=port("STOMPS_PORT"), tls=context("ursula"))
    echo(number=port("WSS_PORT"), tls=context("ursula"), path="/ws")
    refused("Access refused for user 'nobody'", number=port("STOMPS_PORT"), tls=context("nobody"))


@suite.check("stomp-passwords")
def passwords():
    plain = port("STOMP_PORT")
    echo("imported", "test12", number=plain)
    echo(number=plain)
    refused("Access refused for user 'imported'", "imported", "test13", number=plain)
    refused("Access refused for user 'ursula'", "ursula", "", number=plain)
    refused("Access refused for user 'nobody'", "nobody", "x", number=plain)


@suite.check("stomp-vhosts")
def vhosts():
    plain = port("STOMP_PORT")
    for host in ("/", "elsewhere", "127.0.0.1", "broker.example.org"):
        echo("guest", "guest", {"host": host}, number=plain)
    refused("Virtual host 'nowhere' access denied", "guest", "guest", {"host": "nowhere"}, number=plain)
    refused("Virtual host 'elsewhere' access denied", "imported", "test12", {"host": "elsewhere"}, number=plain)


def outcome(login, command, body="", client_id="d1", **headers):
    """What comes of one frame: nothing, or the error."""
    raw = Raw(port("STOMP_PORT"))
    equal(raw.connect(*login, client_id=client_id)[0], "CONNECTED", "the answer to CONNECT")
    raw.send(command, body, receipt="r", **headers)
    command, told, text = raw.next()
    raw.close()
    return None if command == "RECEIPT" else (told["message"], text)


@suite.check("stomp-topic-permissions")
def topic_permissions():
    device = ("device", "secret")
    refusal = "ACCESS_REFUSED - {} access to topic '{}' in exchange 'amq.topic' in vhost '/' refused for user 'device'"
    equal(outcome(device, "SEND", destination="/topic/d1.state"), None, "a message to its own topic")
    equal(outcome(device, "SUBSCRIBE", id="1", destination="/topic/d1.*"), None, "a subscription to its own")
    for destination in ("/topic/d2.state", "/exchange/amq.topic/d2.state", "/topic/d1.state,/topic/d2.state"):
        expected = ("access_refused", refusal.format("write", "d2.state"))
        equal(outcome(device, "SEND", destination=destination), expected, f"a message to {destination}")
    for key, told in (("d2.*", "d2.*"), (">", "#")):
        expected = ("access_refused", refusal.format("read", told))
        equal(outcome(device, "SUBSCRIBE", id="1", destination=f"/topic/{key}"), expected, f"a subscription to {key}")
    for client_id in (".*", "d.|x", "[a-z0-9]+"):
        expected = ("access_refused", refusal.format("write", "d2.state"))
        equal(outcome(device, "SEND", client_id=client_id, destination="/topic/d2.state"), expected, client_id)


@suite.check("stomp-queue-permissions")
def queue_permissions():
    limited, own = ("limited", "secret"), "roadstead.own." + unique("q")
    refusal = "ACCESS_REFUSED - {} access to {} in vhost '/' refused for user 'limited'"
    subscribe = {"command": "SUBSCRIBE", "id": "1", "exclusive": "true"}
    equal(outcome(limited, destination=f"/queue/{own}", **subscribe), None, "a subscription to its own queue")
    expected = ("access_refused", refusal.format("configure", "queue 'other'"))
    equal(outcome(limited, destination="/queue/other", **subscribe), expected, "a subscription to another queue")
    expected = ("access_refused", refusal.format("write", "exchange 'amq.default'"))
    equal(outcome(limited, "SEND", destination=f"/queue/{own}", durable="false"), expected, "a message to a queue")
    command, _ = outcome(limited, "SUBSCRIBE", id="1", destination="/topic/limited.x")
    equal(command, "access_refused", "a queue with a name that it may not give")


if __name__ == "__main__":
    suite.main()
