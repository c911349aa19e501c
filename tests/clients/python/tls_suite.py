"""TLS and certificates of clients, by pika, py-amqp and Python's ssl, against the broker at AMQPS_PORT.

Some checks need a broker that is configured for them, so the harness names those that it wants. CERTIFICATES is a folder
with `ca.pem`, the certificates and keys of the clients `ursula`, a user, and `nobody`, who is none, and one of the
`stranger`, whose authority, `foreign-ca.pem`, the broker doesn't know.
"""

import hashlib
import os
import socket
import ssl
import struct

import amqp
import pika
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ProbableAuthenticationError

from checks import Suite, amqp_uri, equal, unique

PLAIN = pika.URLParameters(amqp_uri())
HOST = PLAIN.host
PORT = int(os.environ["AMQPS_PORT"])
CERTIFICATES = os.environ["CERTIFICATES"]
SECONDS = 5
BOTH_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

suite = Suite(lambda check: check())


# Helpers


def context(client=None, version=None, ca="ca"):
    made = ssl.create_default_context(cafile=f"{CERTIFICATES}/{ca}.pem")
    if client:
        made.load_cert_chain(f"{CERTIFICATES}/{client}.pem", f"{CERTIFICATES}/{client}.key")
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def connect(credentials=PLAIN.credentials, **options):
    parameters = pika.ConnectionParameters(
        HOST,
        PORT,
        credentials=credentials,
        ssl_options=pika.SSLOptions(context(**options), HOST),
        blocked_connection_timeout=SECONDS,
        socket_timeout=SECONDS,
    )
    return pika.BlockingConnection(parameters)


def external():
    return pika.credentials.ExternalCredentials()


def tls(**options):
    return context(**options).wrap_socket(socket.create_connection((HOST, PORT), SECONDS), server_hostname=HOST)


def mechanisms(stream):
    """What the broker offers to a client that has said no more than which protocol it speaks."""
    stream.sendall(b"AMQP\x00\x00\x09\x01")
    frame = b""
    while len(frame) < 7 or len(frame) < 8 + struct.unpack(">I", frame[3:7])[0]:
        more = stream.recv(65536)
        assert more, f"the connection ended after {frame!r}"
        frame += more
    start = pika.spec.Connection.Start().decode(frame[7:-1], 4)
    return start.mechanisms.decode().split()


def round_trip(connection, body):
    channel = connection.channel()
    queue = channel.queue_declare(unique("q"), exclusive=True).method.queue
    channel.confirm_delivery()
    channel.basic_publish("", queue, body)
    equal(channel.basic_get(queue, auto_ack=True)[2], body)


def refused_by(alert, client=None, version=None):
    """The handshake is refused. In TLS 1.3 the client learns it only when it reads."""
    try:
        with tls(client=client, version=version) as stream:
            stream.sendall(b"AMQP\x00\x00\x09\x01")
            answer = stream.recv(65536)
    except ssl.SSLError as error:
        assert alert in (error.reason or ""), f"{error.reason} for a refusal by {alert}"
        return
    raise AssertionError(f"an answer of {len(answer)} bytes to a client that isn't trusted")


# Any client


@suite.check("tls-1.2")
def _():
    with tls(version=ssl.TLSVersion.TLSv1_2) as stream:
        equal(stream.version(), "TLSv1.2")
    with connect(version=ssl.TLSVersion.TLSv1_2) as connection:
        round_trip(connection, b"by TLS 1.2")


@suite.check("tls-1.3")
def _():
    with tls(version=ssl.TLSVersion.TLSv1_3) as stream:
        equal(stream.version(), "TLSv1.3")
    with connect(version=ssl.TLSVersion.TLSv1_3) as connection:
        round_trip(connection, b"by TLS 1.3")


@suite.check("bulk-over-tls", seconds=30)
def _():
    body = hashlib.shake_256(b"bulk").digest(8 << 20)
    with connect() as connection:
        round_trip(connection, body)
        # Where the last byte falls in the buffers on its way depends on the size.
        for size in range(400_000, 1_600_000, 40_001):
            round_trip(connection, body[:size])


@suite.check("wrong-server-ca")
def _():
    for version in BOTH_VERSIONS:
        try:
            tls(ca="foreign-ca", version=version)
        except ssl.SSLCertVerificationError:
            continue
        raise AssertionError("the broker has a certificate of an authority that isn't its own")


@suite.check("external")
def _():
    for version in BOTH_VERSIONS:
        with connect(external(), client="ursula", version=version) as connection:
            round_trip(connection, b"of ursula")


@suite.check("external-is-the-common-name")
def _():
    with connect(external(), client="ursula") as connection:
        channel = connection.channel()
        channel.basic_publish("amq.fanout", "", b"", pika.BasicProperties(user_id="ursula"))
        channel.basic_publish("amq.fanout", "", b"", pika.BasicProperties(user_id="guest"))
        try:
            channel.queue_declare("", exclusive=True)
        except ChannelClosedByBroker as error:
            equal(error.reply_code, 406)
            assert "'guest'" in error.reply_text and "'ursula'" in error.reply_text, error.reply_text
            return
    raise AssertionError("ursula published as guest")


@suite.check("external-of-nobody")
def _():
    try:
        connect(external(), client="nobody")
    except ProbableAuthenticationError as error:
        assert "ACCESS_REFUSED" in str(error) and "EXTERNAL" in str(error), str(error)
        return
    raise AssertionError("somebody who is no user logged in by a certificate")


@suite.check("external-without-certificate")
def _():
    with tls() as stream:
        offered = mechanisms(stream)
    assert "EXTERNAL" not in offered and "PLAIN" in offered, offered
    with tls(client="ursula") as stream:
        offered = mechanisms(stream)
    assert "EXTERNAL" in offered and "PLAIN" in offered, offered
    with socket.create_connection((HOST, PLAIN.port), SECONDS) as stream:
        offered = mechanisms(stream)
    assert "EXTERNAL" not in offered and "PLAIN" in offered, offered


@suite.check("no-login-without-password")
def _():
    for password in ["", "ursula"]:
        try:
            connect(pika.PlainCredentials("ursula", password), client="ursula")
        except ProbableAuthenticationError:
            continue
        raise AssertionError(f"a user who has no password logged in with {password!r}")


@suite.check("foreign-certificate")
def _():
    for version in BOTH_VERSIONS:
        refused_by("UNKNOWN_CA", client="stranger", version=version)


@suite.check("amqplain-over-tls")
def _():
    connection = amqp.Connection(
        f"{HOST}:{PORT}",
        PLAIN.credentials.username,
        PLAIN.credentials.password,
        login_method="AMQPLAIN",
        ssl={"ca_certs": f"{CERTIFICATES}/ca.pem", "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": HOST},
        connect_timeout=SECONDS,
    )
    connection.connect()
    channel = connection.channel()
    queue = channel.queue_declare(unique("q"), exclusive=True).queue
    channel.basic_publish(amqp.Message("of py-amqp"), "", queue)
    equal(channel.basic_get(queue, no_ack=True).body, "of py-amqp")
    connection.close()


@suite.check("plain-client-on-the-tls-port")
def _():
    with socket.create_connection((HOST, PORT), SECONDS) as stream:
        stream.sendall(b"AMQP\x00\x00\x09\x01")
        answer = b""
        while more := stream.recv(4096):
            answer += more
    # Nothing, or an alert, which begins with its content type, 21.
    assert answer[:1] in (b"", b"\x15"), f"{answer!r} to a client that speaks no TLS"
    with connect() as connection:
        round_trip(connection, b"after a plain client")


# Brokers that are configured for a check


@suite.check("certificate-required")
def _():
    for version in BOTH_VERSIONS:
        refused_by("CERTIFICATE_REQUIRED" if version == BOTH_VERSIONS[1] else "", version=version)
    with connect(client="ursula") as connection:
        round_trip(connection, b"of guest, by a connection that ursula's certificate allows")


@suite.check("tls-1.2-refused")
def _():
    refused_by("PROTOCOL_VERSION", version=ssl.TLSVersion.TLSv1_2)
    try:
        connect(version=ssl.TLSVersion.TLSv1_2)
    except (AMQPConnectionError, ssl.SSLError):
        return
    raise AssertionError("TLS 1.2 where 1.3 is the oldest version")


if __name__ == "__main__":
    suite.main()
