"""Who may connect by MQTT, how, and what he may do there: TLS, WebSocket over TLS, certificates, vhosts and permissions.

The ports are in MQTT_PORT, MQTTS_PORT, MQTT_WSS_PORT and WSS_PORT, the certificates where `tls_suite.py` has them. The users are
those of the harness.
"""

import os
import ssl

from checks import Suite, equal, unique
from paho_session import Refused, connected, get

CERTIFICATES = os.environ["CERTIFICATES"]
BAD_USER, NOT_AUTHORIZED = 0x86, 0x87

suite = Suite(lambda check: check())


def port(name):
    return int(os.environ[name])


def context(client=None, ca="ca"):
    made = ssl.create_default_context(cafile=f"{CERTIFICATES}/{ca}.pem")
    if client:
        made.load_cert_chain(f"{CERTIFICATES}/{client}.pem", f"{CERTIFICATES}/{client}.key")
    return made


def refused(*codes, **options):
    try:
        with connected(**options):
            raise AssertionError("the connection was not refused")
    except Refused as refusal:
        assert refusal.code in codes, str(refusal)


def subscribe(client, events, topic):
    client.subscribe(topic, 1)
    return get(events.acks, "SUBACK")


def publish(client, events, topic, body=b"x"):
    client.publish(topic, body, 1)
    return get(events.acks, "PUBACK")


def echo(**options):
    topic, body = unique("t"), os.urandom(100_000)
    with connected(**options) as (client, events):
        equal(subscribe(client, events, topic), 1, "the code of SUBACK")
        equal(publish(client, events, topic, body), 0, "the code of PUBACK")
        equal(get(events.messages, "message"), (topic, body), "what came back")


@suite.check("mqtt-over-tls")
def over_tls():
    echo(port=port("MQTTS_PORT"), user="guest", password="guest", tls=context())


@suite.check("mqtt-over-websocket-over-tls")
def over_wss():
    echo(port=port("MQTT_WSS_PORT"), user="guest", password="guest", tls=context(), path="/ws")
    echo(port=port("WSS_PORT"), user="guest", password="guest", tls=context(), path="/mqtt")


@suite.check("mqtt-by-certificate")
def by_certificate():
    echo(port=port("MQTTS_PORT"), tls=context("ursula"))
    echo(port=port("WSS_PORT"), tls=context("ursula"), path="/")
    refused(BAD_USER, port=port("MQTTS_PORT"), tls=context("nobody"))


@suite.check("mqtt-foreign-certificate")
def foreign_certificate():
    for options in ({"tls": context("stranger")}, {"tls": context(ca="foreign-ca")}):
        try:
            with connected(port("MQTTS_PORT"), **options):
                raise AssertionError("the connection was not refused")
        except (ssl.SSLError, OSError):
            pass
        except AssertionError as error:
            # The end of the handshake may come only with the first read.
            assert "no CONNACK" in str(error), str(error)


@suite.check("mqtt-passwords")
def passwords():
    plain = port("MQTT_PORT")
    echo(port=plain, user="imported", password="test12")
    echo(port=plain)
    refused(BAD_USER, port=plain, user="imported", password="test13")
    refused(BAD_USER, port=plain, user="ursula", password="")
    refused(BAD_USER, port=plain, user="nobody", password="x")


@suite.check("mqtt-vhost-in-the-user-name")
def vhosts():
    plain, topic = port("MQTT_PORT"), unique("t")
    here = {"port": plain, "user": "guest", "password": "guest"}
    with connected(**here) as (one, ones), connected(**here | {"user": "elsewhere:guest"}) as (other, others):
        for client, events in ((one, ones), (other, others)):
            equal(subscribe(client, events, topic), 1, "the code of SUBACK")
        equal(publish(other, others, topic, b"there"), 0, "the code of PUBACK")
        equal(publish(one, ones, topic, b"here"), 0, "the code of PUBACK")
        equal(get(ones.messages, "message"), (topic, b"here"), "what the first gets")
        equal(get(others.messages, "message"), (topic, b"there"), "what the second gets")
    refused(BAD_USER, NOT_AUTHORIZED, port=plain, user="nowhere:guest", password="guest")
    refused(NOT_AUTHORIZED, port=plain, user="elsewhere:imported", password="test12")


@suite.check("mqtt-topic-permissions")
def topic_permissions():
    login = {"port": port("MQTT_PORT"), "user": "device", "password": "secret"}
    with connected(client_id="d1", **login) as (client, events):
        equal(publish(client, events, "d1/state"), 0x10, "a publish to its own topic")
        equal(publish(client, events, "d2/state"), NOT_AUTHORIZED, "a publish to another's")
        equal(subscribe(client, events, "d1/#"), 1, "a subscription to its own topics")
        equal(subscribe(client, events, "d2/#"), NOT_AUTHORIZED, "a subscription to another's")
        equal(subscribe(client, events, "#"), NOT_AUTHORIZED, "a subscription to all")


@suite.check("mqtt-client-identifiers-are-no-patterns")
def no_patterns():
    login = {"port": port("MQTT_PORT"), "user": "device", "password": "secret"}
    for client_id in (".*", "d.|x", "(d2)", "[a-z0-9]+"):
        with connected(client_id=client_id, **login) as (client, events):
            equal(publish(client, events, "d2/state"), NOT_AUTHORIZED, f"a publish of {client_id}")


@suite.check("mqtt-queue-permissions")
def queue_permissions():
    with connected(port("MQTT_PORT"), "limited", "secret") as (client, events):
        equal(subscribe(client, events, "limited/x"), NOT_AUTHORIZED, "a queue that is not its own")


if __name__ == "__main__":
    suite.main()
