"""Enhanced authentication: SCRAM-SHA-256 at the beginning, and again later."""

import base64
import hashlib
import hmac
import secrets

from checks import define, equal, unique
from mqtt import wire
from mqtt.session import suite
from mqtt.wire import AUTH, CONNACK, V5

METHOD = "SCRAM-SHA-256"
CONTINUE, AGAIN = 0x18, 0x19


def sign(key, text):
    return hmac.digest(key, text.encode(), "sha256")


class Scram:
    """The client's side of RFC 5802, for one login."""

    def __init__(self, user, password):
        self._password = password.encode()
        self._bare = f"n={user},r={secrets.token_hex(12)}"

    def first(self):
        return f"n,,{self._bare}".encode()

    def last(self, challenge):
        given = dict(each.split("=", 1) for each in challenge.decode().split(","))
        assert given["r"].startswith(self._bare.partition("r=")[2]), "the broker's nonce does not begin with the client's"
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(given["s"]), int(given["i"]))
        key = sign(salted, "Client Key")
        without = f"c=biws,r={given['r']}"
        whole = f"{self._bare},{challenge.decode()},{without}"
        signature = sign(hashlib.sha256(key).digest(), whole)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._expected = b"v=" + base64.b64encode(sign(sign(salted, "Server Key"), whole))
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def check(self, properties):
        equal(properties["authentication_method"], METHOD, "the method")
        equal(properties["authentication_data"], self._expected, "the broker's proof")


def auth(code, data):
    values = {"authentication_method": METHOD, "authentication_data": data}
    return wire.packet(AUTH, bytes([code]) + wire.properties(values))


def new_user(password):
    name = unique("scram")
    permissions = {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    user = {"name": name, "password": password, "hashing_algorithm": "scram-sha-256", "tags": []}
    define({"users": [user], "permissions": [permissions]})
    return name


def begin(raw, login):
    values = {"authentication_method": METHOD, "authentication_data": login.first()}
    raw.send(wire.connect(V5, raw.client_id, **values))
    return login.last(challenged(raw))


def challenged(raw):
    answer = raw.expect(AUTH)
    equal((answer.code, answer.properties["authentication_method"]), (CONTINUE, METHOD), "the challenge")
    return answer.properties["authentication_data"]


def logged_in(session, name, password):
    raw, login = session.raw(), Scram(name, password)
    raw.send(auth(CONTINUE, begin(raw, login)))
    answer = raw.expect(CONNACK)
    equal(answer.code, 0, "the code of CONNACK")
    login.check(answer.properties)
    return raw


@suite.check("scram")
def scram(session):
    name = new_user("p,ä=")
    raw = logged_in(session, name, "p,ä=")
    raw.ping()
    topic = session.topic()
    raw.subscribe((topic, 0))
    raw.publish(topic, b"who am I")
    equal(raw.expect(wire.PUBLISH).payload, b"who am I", "the message")
    plain = session.raw()
    plain.send(wire.connect(V5, plain.client_id, user=name, password="p,ä="))
    equal(plain.expect(CONNACK).code, 0, "the login with the same password")


@suite.check("scram-refusals")
def scram_refusals(session):
    name = new_user("right")
    for user, password in ((name, "wrong"), (unique("nobody"), "right"), ("guest", "guest")):
        raw = session.raw()
        raw.send(auth(CONTINUE, begin(raw, Scram(user, password))))
        raw.refused(0x86, 0x87)
    raw = session.raw()
    begin(raw, Scram(name, "right"))
    raw.send(wire.packet(wire.PINGREQ))
    raw.refused(0x82)
    raw = session.raw()
    begin(raw, Scram(name, "right"))
    raw.send(auth(AGAIN, b""))
    raw.refused(0x82)
    raw = session.raw()
    raw.send(wire.connect(V5, raw.client_id, authentication_method=METHOD, authentication_data=b"\xff"))
    raw.refused(0x86, 0x87)


@suite.check("scram-again")
def scram_again(session):
    name = new_user("secret")
    raw, login = logged_in(session, name, "secret"), Scram(name, "secret")
    raw.send(auth(AGAIN, login.first()))
    last = login.last(challenged(raw))
    raw.ping()
    raw.send(auth(CONTINUE, last))
    answer = raw.expect(AUTH)
    equal(answer.code, 0, "the code of AUTH")
    login.check(answer.properties)
    raw.ping()
    raw.send(auth(AGAIN, Scram(name, "wrong").first()))
    challenge = challenged(raw)
    raw.send(auth(CONTINUE, challenge))
    raw.refused(0x87)


@suite.check("scram-again-as-somebody-else")
def scram_somebody_else(session):
    raw = logged_in(session, new_user("one"), "one")
    login = Scram(new_user("two"), "two")
    raw.send(auth(AGAIN, login.first()))
    raw.send(auth(CONTINUE, login.last(challenged(raw))))
    raw.refused(0x87)
