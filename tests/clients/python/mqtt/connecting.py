"""CONNECT, CONNACK, DISCONNECT, keep alive, and who a client is."""

import time

from checks import Skipped, equal
from mqtt import wire
from mqtt.address import HAS_AMQP, new_id
from mqtt.session import VERSIONS, each_version, suite, together
from mqtt.wire import CONNACK, DISCONNECT, V5, V31, V311

UNUSUAL_IDS = ["a b", "ä/ö", "a/b", "with.dots", "(a|b)*[c]$", "x" * 200, "'; --", "%00%2F", "日本"]


@each_version("connect")
def connect(session, version):
    answer = session.connected(version).connack
    equal(answer.present, False, "session present")


@suite.check("unusual-client-ids")
def unusual_ids(session):
    for client_id in UNUSUAL_IDS:
        session.connected(V311, client_id + new_id()).ping()


@suite.check("empty-client-id-v3.1")
def empty_id_v31(session):
    raw = session.raw(V31, "")
    raw.send(raw.connect_packet())
    raw.refused(2)


@suite.check("empty-client-id-v3.1.1")
def empty_id_v311(session):
    session.connected(V311, "").ping()
    session.connected(V311, "").ping()
    raw = session.raw(V311, "")
    raw.send(raw.connect_packet(clean=False))
    equal(raw.expect(CONNACK).code, 2, "the code of CONNACK")
    raw.closed()


@suite.check("assigned-client-id")
def assigned_id(session):
    first = session.connected(V5, "", session_expiry_interval=60)
    second = session.connected(V5, "")
    name = first.connack.properties["assigned_client_identifier"]
    assert name and name != second.connack.properties["assigned_client_identifier"], name
    first.disconnect()
    again = session.connected(V5, name, clean=False, session_expiry_interval=0)
    equal(again.connack.present, True, "session present with the assigned identifier")
    equal("assigned_client_identifier" in again.connack.properties, False, "an identifier is assigned to one who has one")


@suite.check("connack-announces-what-is-there")
def connack_properties(session):
    found = session.connected().connack.properties
    for name in ("retain", "wildcard_subscription", "subscription_identifier", "shared_subscription"):
        equal(found.get(f"{name}_available", 1), 1, name)
    equal(found.get("maximum_qos"), None, "the property maximum QoS, which is never 2")
    assert found.get("receive_maximum", 1) > 0, found
    assert found.get("maximum_packet_size", 1) > 0, found
    equal(found.get("session_expiry_interval", 0), 0, "the session expiry interval of one who asked for none")


@suite.check("no-response-information-unless-asked-for")
def response_information(session):
    for asked in ({}, {"request_response_information": 0}):
        found = session.connected(**asked).connack.properties
        equal("response_information" in found, False, "response information")
    session.connected(request_response_information=1).ping()


@suite.check("session-present")
def session_present(session):
    def present(clean):
        raw = session.connected(V311, client_id, clean)
        raw.disconnect()
        return raw.connack.present

    client_id = new_id()
    equal([present(clean) for clean in (False, False, True, False)], [False, True, False, False], "session present")


@suite.check("clean-start")
def clean_start(session):
    topic = session.topic()
    kept = session.kept()
    kept.subscribe(topic, qos=1)
    kept.disconnect()
    session.peer().publish(topic, b"for the old session")
    fresh = session.peer(client_id=kept.client_id)
    equal(fresh.connack.present, False, "session present")
    fresh.subscribe("$SYS/none")
    session.peer().publish(topic, b"nobody subscribes")
    fresh.subscribe(topic)
    session.peer().publish(topic, b"new")
    fresh.expect(topic, b"new")
    fresh.empty()


@each_version("takeover")
def takeover(session, version):
    topic = session.topic()
    first = session.kept(version)
    first.subscribe(topic, qos=1)
    second = session.kept(version, client_id=first.client_id)
    end = first.ended()
    if version == V5:
        equal((end.told, end.code), (True, 0x8E), "the end of the first connection")
    if version != V31:
        equal(second.connack.present, True, "session present")
    session.peer().publish(topic, b"to the second", qos=1)
    second.expect(topic, b"to the second")
    first.empty()


@suite.check("takeover-many-times")
def takeover_many_times(session):
    client_id = new_id()
    connections = [session.connected(V5, client_id) for _ in range(30)]
    for old in connections[:-1]:
        equal(old.expect(DISCONNECT).code, 0x8E, "the code of DISCONNECT")
        old.closed()
    connections[-1].ping()


@suite.check("wrong-password")
def wrong_password(session):
    if not HAS_AMQP:
        raise Skipped("a broker without users takes any password")
    for version, codes in ((V31, (4, 5)), (V311, (4, 5)), (V5, (0x86, 0x87))):
        for login in ({"password": "wrong"}, {"user": "nobody"}):
            raw = session.raw(version)
            raw.send(raw.connect_packet(**login))
            assert raw.refused(*codes) is not None, f"{login} was not refused by a CONNACK"


@suite.check("password-without-user-v3.1.1")
def password_without_user(session):
    raw = session.raw(V311)
    raw.send(wire.connect(V311, raw.client_id, password="x"))
    raw.refused(1, 4, 5)


@suite.check("unknown-protocols")
def unknown_protocols(session):
    for name, level in (("MQTT", 6), ("MQTT", 3), ("MQIsdp", 5), ("mqtt", 4), ("", 4), ("HTTP", 4)):
        raw = session.raw(V311)
        raw.send(wire.packet(wire.CONNECT, wire.data(name) + bytes([level, 2, 0, 60]) + wire.data(raw.client_id)))
        raw.refused(1, 0x84)


@suite.check("first-packet-is-no-connect")
def first_packet(session):
    for version in VERSIONS.values():
        raw = session.raw(version)
        raw.publish("a", b"b")
        raw.closed()
        raw = session.raw(version)
        raw.send(wire.packet(wire.PINGREQ))
        raw.closed()


@each_version("second-connect")
def second_connect(session, version):
    raw = session.connected(version)
    raw.send(raw.connect_packet())
    raw.refused(0x82)


@suite.check("unknown-authentication-method")
def authentication_method(session):
    raw = session.raw()
    raw.send(raw.connect_packet(authentication_method="roadstead-none"))
    raw.refused(0x8C)


@suite.check("authentication-data-without-method")
def authentication_data(session):
    raw = session.raw()
    raw.send(raw.connect_packet(authentication_data=b"x"))
    raw.refused(0x82, 0x8C)


@suite.check("auth-without-method")
def auth_without_method(session):
    raw = session.connected()
    raw.send(wire.packet(wire.AUTH, bytes([0x19]) + wire.properties({"authentication_method": "x"})))
    raw.refused(0x82, 0x8C)


@suite.check("expiry-cannot-begin-at-disconnect")
def expiry_at_disconnect(session):
    raw = session.connected()
    raw.send(wire.packet(DISCONNECT, bytes([0]) + wire.properties({"session_expiry_interval": 60})))
    raw.refused(0x82)
    equal(session.connected(V5, raw.client_id, clean=False).connack.present, False, "session present")


@suite.check("expiry-changed-at-disconnect")
def expiry_changed(session):
    raw = session.connected(session_expiry_interval=600)
    raw.disconnect(0, session_expiry_interval=0)
    again = session.connected(V5, raw.client_id, clean=False, session_expiry_interval=600)
    equal(again.connack.present, False, "session present after an expiry of 0")
    again.disconnect()
    again = session.connected(V5, raw.client_id, clean=False, session_expiry_interval=0)
    equal(again.connack.present, True, "session present after an expiry of 600")
    again.drop()
    session.connected(V5, raw.client_id, clean=True)


@suite.check("server-keep-alive")
def server_keep_alive(session):
    asked = 65535
    granted = session.connected(keep_alive=asked).connack.properties.get("server_keep_alive", asked)
    assert 0 < granted <= asked, granted
    modest = session.connected(keep_alive=5).connack.properties.get("server_keep_alive", 5)
    assert modest > 0, modest


@suite.check("end-right-after-disconnect")
def end_after_disconnect(session):
    for version in VERSIONS.values():
        session.connected(version).disconnect()


@together.check("keep-alive-ends-a-silent-connection")
def keep_alive(session):
    raws = [session.connected(version, keep_alive=1) for version in VERSIONS.values()]
    start = time.monotonic()
    for raw in raws:
        raw.refused(0x8D)
    took = time.monotonic() - start
    assert 1 <= took <= 4, f"the silent connections ended after {took:.1f} s"


@together.check("keep-alive-goes-on-with-pings")
def keep_alive_pings(session):
    raw = session.connected(keep_alive=1)
    busy = session.connected(keep_alive=1)
    for _ in range(8):
        time.sleep(0.4)
        raw.ping()
        busy.publish("roadstead/keep-alive")
    busy.ping()


@together.check("no-keep-alive-no-end")
def no_keep_alive(session):
    raw = session.connected(keep_alive=0)
    time.sleep(3)
    raw.ping()


@together.check("connection-without-connect-ends")
def login_timeout(session):
    if not HAS_AMQP:
        raise Skipped("the specification only says that it should be reasonable")
    raw = session.raw()
    raw.send(b"\x10")
    equal(raw.read(14), None, "the answer to no CONNECT")


