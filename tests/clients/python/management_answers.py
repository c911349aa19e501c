"""What the management API answers on one topology, as shapes: which fields there are, and of which types.

`management_answers.py record FILE` writes down the shapes of the broker in MANAGEMENT_URI and AMQP_URI; the recording of RabbitMQ
4.0 is in tests/management. As a suite, it compares the broker's answers with that, and with the list of differences beside it,
each of which has its reason.
"""

import json
import os
import sys
import time
import urllib.parse

import pika

from checks import Suite, amqp_uri
from management_suite import call, put, quoted

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDED = os.path.join(HERE, "../../management/rabbitmq-4.0.json")
DIFFERENCES = os.path.join(HERE, "../../management/differences.txt")

VHOST = "answers"
V = quoted(VHOST)

PATHS = f"""
overview overview?msg_rates_age=60&msg_rates_incr=5&lengths_age=60&lengths_incr=5
cluster-name nodes nodes/NODE nodes/NODE/memory whoami version extensions auth feature-flags deprecated-features
definitions definitions/{V} parameters parameters/operator_policy parameters/vhost-limits/{V} global-parameters
policies policies/{V} policies/{V}/p operator-policies operator-policies/{V} operator-policies/{V}/o
vhost-limits vhost-limits/{V} user-limits user-limits/answers
connections connections/CONNECTION connections/CONNECTION/channels connections/username/guest vhosts/{V}/connections
channels channels/CHANNEL vhosts/{V}/channels consumers consumers/{V}
exchanges exchanges/{V} exchanges/{V}/x exchanges/{V}/x/bindings/source exchanges/{V}/x/bindings/destination
queues queues/{V} queues/{V}/classic queues/{V}/quorum queues/{V}/stream queues/{V}/classic/bindings queues/detailed
queues?page=1&page_size=2&name=c&use_regex=true&pagination=true queues?columns=name,messages queues?disable_stats=true
queues?msg_rates_age=60&msg_rates_incr=5&lengths_age=60&lengths_incr=5
bindings bindings/{V} bindings/{V}/e/x/q/classic bindings/{V}/e/amq.topic/e/x bindings/{V}/e/x/q/classic/a.%2523
vhosts vhosts/{V} vhosts/{V}/permissions vhosts/{V}/topic-permissions
users users/answers users/answers/permissions users/answers/topic-permissions
permissions permissions/{V}/answers topic-permissions topic-permissions/{V}/answers topic-permissions/{V}/answers/amq.topic
aliveness-test/{V} health/checks/alarms health/checks/local-alarms health/checks/certificate-expiration/1/months
health/checks/port-listener/1 health/checks/protocol-listener/amqp health/checks/virtual-hosts
health/checks/node-is-quorum-critical auth/hash_password/secret
nowhere queues/nowhere queues/{V}/nowhere exchanges/{V}/nowhere users/nobody policies/{V}/nothing vhosts/nowhere
connections/nobody permissions/{V}/nobody bindings/{V}/e/x/q/nowhere
""".split()

# Requests that change something: method, path, body. Their answers have a shape too.
CHANGES = [
    ("PUT", f"queues/{V}/new", {"durable": True}),
    ("PUT", f"queues/{V}/new", {"durable": True}),
    ("PUT", f"queues/{V}/new", {"durable": False}),
    ("PUT", f"queues/{V}/new", []),
    ("PUT", f"exchanges/{V}/new", {"type": "direct"}),
    ("PUT", f"exchanges/{V}/new", {"type": "fanout"}),
    ("PUT", f"exchanges/{V}/newer", {"type": "nonsense"}),
    ("POST", f"bindings/{V}/e/new/q/new", {"routing_key": "k", "arguments": {}}),
    ("POST", f"bindings/{V}/e/new/q/nowhere", {"routing_key": "k"}),
    ("POST", f"exchanges/{V}/new/publish",
     {"properties": {"delivery_mode": 2}, "routing_key": "k", "payload": "x", "payload_encoding": "string"}),
    ("POST", f"exchanges/{V}/new/publish",
     {"properties": {}, "routing_key": "nowhere", "payload": "x", "payload_encoding": "string"}),
    ("POST", f"exchanges/{V}/new/publish", {"routing_key": "k"}),
    ("POST", f"queues/{V}/new/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}),
    ("POST", f"queues/{V}/new/get", {"count": 1}),
    ("POST", f"queues/{V}/nowhere/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}),
    ("DELETE", f"queues/{V}/new?if-empty=true", None),
    ("DELETE", f"exchanges/{V}/new?if-unused=true", None),
    ("DELETE", f"queues/{V}/new/contents", None),
    ("DELETE", f"queues/{V}/new", None),
    ("DELETE", f"queues/{V}/new", None),
    ("DELETE", f"exchanges/{V}/new", None),
    ("DELETE", f"exchanges/{V}/amq.topic", None),
    ("PUT", "users/answers-too", {"password": "p"}),
    ("PUT", "users/answers-too", {"password": "p", "tags": "monitoring"}),
    ("PUT", "users/answers-too", {"password": "q", "tags": ["monitoring"]}),
    ("DELETE", "users/answers-too", None),
    ("DELETE", "users/answers-too", None),
    ("PUT", "vhosts/answers-too", {"description": "d", "tags": "a,b"}),
    ("PUT", "vhosts/answers-too", {}),
    ("DELETE", "vhosts/answers-too", None),
    ("DELETE", "vhosts/answers-too", None),
    ("PUT", f"policies/{V}/new", {"pattern": "^x"}),
    ("PUT", f"policies/{V}/new", {"pattern": "(", "definition": {"max-length": 1}}),
    ("PUT", f"policies/{V}/new", {"pattern": "^x", "definition": {"nonsense": 1}}),
    ("PUT", f"policies/{V}/new", {"pattern": "^x", "definition": {"max-length": 1}}),
    ("DELETE", f"policies/{V}/new", None),
    ("DELETE", f"policies/{V}/new", None),
    ("PUT", f"permissions/{V}/answers", {"configure": ".*"}),
    ("PUT", f"permissions/{V}/nobody", {"configure": ".*", "write": ".*", "read": ".*"}),
    ("PUT", f"vhost-limits/{V}/nonsense", {"value": 1}),
    ("DELETE", f"vhost-limits/{V}/max-queues", None),
]


def topology():
    """One of everything, with some traffic. Returns the connection that makes it."""
    put(f"/vhosts/{V}", {"description": "", "tags": "a,b"})
    put("/users/answers", {"password": "p", "tags": "management"})
    put(f"/permissions/{V}/answers", {"configure": ".*", "write": ".*", "read": ".*"})
    put(f"/topic-permissions/{V}/answers", {"exchange": "amq.topic", "write": ".*", "read": ".*"})
    put(f"/policies/{V}/p", {"pattern": "^c", "definition": {"max-length": 1000}, "apply-to": "queues", "priority": 1})
    put(f"/operator-policies/{V}/o", {"pattern": "^c", "definition": {"max-length": 2000}, "apply-to": "queues"})
    put(f"/vhost-limits/{V}/max-queues", {"value": 100}, expected=204)
    put("/user-limits/answers/max-connections", {"value": 100}, expected=204)
    put("/global-parameters/answers", {"value": {"a": 1}})
    at = urllib.parse.urlsplit(amqp_uri())
    login = pika.PlainCredentials("guest", "guest")
    connection = pika.BlockingConnection(pika.ConnectionParameters(at.hostname, at.port, VHOST, login))
    channel = connection.channel()
    channel.exchange_declare("x", "topic", durable=True)
    for kind in ("classic", "quorum", "stream"):
        channel.queue_declare(kind, durable=True, arguments={"x-queue-type": kind})
    channel.queue_bind("classic", "x", "a.#")
    channel.queue_bind("classic", "x", "b", arguments={"n": 1})
    channel.queue_bind("quorum", "x", "a.#")
    channel.exchange_bind("x", "amq.topic", "z")
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=3)
    channel.basic_consume("classic", lambda *_: None, consumer_tag="tag")
    return connection, channel


def shape(value):
    """Types instead of values; the things of a list as one that has what any of them has."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        merged = {}
        for one in value:
            if not isinstance(one, dict):
                return [shape(one)]
            for key, inner in shape(one).items():
                if merged.get(key) in (None, "null", [], {}):
                    merged[key] = inner
                elif isinstance(inner, dict) and isinstance(merged[key], dict):
                    merged[key] = {**inner, **merged[key]}
        return [dict(sorted(merged.items()))] if merged else []
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else "text"


def answers():
    connection, channel = topology()
    try:
        end = time.monotonic() + 12
        # Statistics come some time after what they are of.
        while time.monotonic() < end:
            channel.basic_publish("x", "a.b", b"hello", pika.BasicProperties(delivery_mode=2, headers={"h": 1}))
            connection.process_data_events(0.3)
            seen = call("GET", f"/api/queues/{V}/classic")[1]
            known = call("GET", "/api/connections")[1]
            if known and "publish" in seen.get("message_stats", {}) and "channels" in known[0] and time.monotonic() > end - 6:
                break
        node = call("GET", "/api/nodes")[1][0]["name"]
        name = next(one["name"] for one in call("GET", f"/api/vhosts/{V}/connections")[1])
        found = {}
        for path in PATHS:
            real = path.replace("NODE", quoted(node)).replace("CONNECTION", quoted(name)).replace("CHANNEL", quoted(f"{name} (1)"))
            status, body = call("GET", f"/api/{real}")
            found[f"GET {path}"] = {"status": status, "body": shape(body)}
        for number, (method, path, body) in enumerate(CHANGES):
            status, said = call(method, f"/api/{path}", body)
            found[f"{number:02} {method} {path} {json.dumps(body)}"] = {"status": status, "body": shape(said)}
        return found
    finally:
        connection.close()
        for path in ("/users/answers", f"/vhosts/{V}", "/global-parameters/answers"):
            call("DELETE", f"/api{path}")


def differences(expected, actual, where=""):
    """What is in the one and not in the other, or is of another type there. What is there besides is no difference."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, inner in expected.items():
            path = f"{where}.{key}"
            if key not in actual:
                yield f"{path} is missing"
            else:
                yield from differences(inner, actual[key], path)
    elif isinstance(expected, list) and isinstance(actual, list):
        if expected and not actual:
            yield f"{where} is empty"
        elif expected:
            yield from differences(expected[0], actual[0], f"{where}[]")
    elif expected != actual and "null" not in (expected, actual):
        told = [one if isinstance(one, str) else type(one).__name__ for one in (expected, actual)]
        yield f"{where} is {told[1]}, expected {told[0]}"


suite = Suite(lambda function: function())


@suite.check("answers-have-rabbitmqs-shapes", seconds=60)
def _():
    with open(RECORDED, encoding="utf-8") as file:
        recorded = json.load(file)
    with open(DIFFERENCES, encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line and not line.startswith("#")]
    # What differs, as a part of what is said of it, and why.
    reasons = dict(line.split(" | ", 1) for line in lines)
    used, unknown = set(), []
    actual = answers()
    for request, expected in recorded.items():
        found = actual[request]
        told = [] if expected["status"] == found["status"] else [f"status is {found['status']}, expected {expected['status']}"]
        told += list(differences(expected["body"], found["body"], "body"))
        for difference in (f"{request}: {difference}" for difference in told):
            reason = next((part for part in reasons if part in difference), None)
            if reason:
                used.add(reason)
            else:
                unknown.append(difference)
    stale = sorted(reasons.keys() - used)
    for line in unknown:
        print(f"differs: {line}", file=sys.stderr)
    if unknown or stale:
        raise AssertionError(f"{len(unknown)} differences without a reason: {unknown[:3]}; {len(stale)} that are none: {stale[:3]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            json.dump(answers(), file, indent=1, sort_keys=True)
    else:
        suite.main()
