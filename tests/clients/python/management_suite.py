"""The management API and the metrics, as scripts use them: requests as RabbitMQ's documentation has them, its `rabbitmqadmin`,
and Prometheus' `promtool`.

The broker is in MANAGEMENT_URI, AMQP_URI and PROMETHEUS_URI; `rabbitmqadmin` and `promtool` are below DEBIAN_TOOLS.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

import pika

from checks import Skipped, Suite, amqp_uri, equal, restart_broker, unique, wait_until

ROOT = "%2F"


def management():
    uri = os.environ.get("MANAGEMENT_URI")
    if not uri:
        sys.exit("MANAGEMENT_URI is not set, e.g. http://guest:guest@127.0.0.1:15672")
    return urllib.parse.urlsplit(uri)


def quoted(text):
    return urllib.parse.quote(text, safe="")


def call(method, path, body=None, user="guest:guest", expected=None, headers=None):
    """One request; returns status and decoded answer."""
    at = management()
    request = urllib.request.Request(f"http://{at.hostname}:{at.port}{path}", method=method)
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, data, timeout=10) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    if expected is not None and status != expected:
        raise AssertionError(f"{method} {path} is answered by {status} {text}, expected {expected}")
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def get(path, user="guest:guest"):
    return call("GET", f"/api{path}", user=user, expected=200)[1]


def put(path, body=None, expected=201):
    return call("PUT", f"/api{path}", {} if body is None else body, expected=expected)[1]


def post(path, body, expected=200):
    return call("POST", f"/api{path}", body, expected=expected)[1]


def delete(path, expected=204):
    return call("DELETE", f"/api{path}", expected=expected)[1]


def refused(method, path, body, status, reason, user="guest:guest"):
    answer = call(method, f"/api{path}", body, user=user, expected=status)[1]
    if reason not in str(answer.get("reason")):
        raise AssertionError(f"the reason is {answer.get('reason')!r}, expected {reason!r}")


def metrics(path="/metrics"):
    uri = os.environ.get("PROMETHEUS_URI")
    with urllib.request.urlopen(uri + path, timeout=10) as answer:
        return answer.read().decode()


def metric(text, name):
    """The sum of a metric's numbers."""
    lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
    if not lines:
        raise AssertionError(f"there is no {name}")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def tool(name):
    path = os.path.join(os.environ.get("DEBIAN_TOOLS", ""), "usr/bin", name)
    if not os.path.exists(path):
        raise Skipped(f"there is no {name}")
    return path


def rabbitmqadmin(*words, fails=False):
    at = management()
    command = [sys.executable, tool("rabbitmqadmin"), "-q", "-H", at.hostname, "-P", str(at.port), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"rabbitmqadmin {' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}")
    return done.stdout


class Client:
    """A connection of pika with a channel, closed at the end."""

    def __enter__(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(amqp_uri()))
        self.channel = self.connection.channel()
        return self

    def __exit__(self, *_):
        try:
            self.connection.close()
        except pika.exceptions.AMQPError:
            pass


suite = Suite(lambda function: function())
check = suite.check


@check("who-asks-must-log-in")
def _():
    status, answer = call("GET", "/api/overview", user=None)
    equal((status, answer["error"]), (401, "not_authorized"))
    refused("GET", "/overview", None, 401, "Not_Authorized", user="guest:wrong")
    refused("GET", "/overview", None, 401, "Not_Authorized", user="nobody:guest")
    equal(get("/whoami")["name"], "guest")
    equal(call("GET", "/health/live", user=None)[0], 200)


@check("tags-say-who-may-what")
def _():
    vhost, name = unique("vhost"), unique("user")
    put(f"/vhosts/{vhost}")
    try:
        put(f"/users/{name}", {"password": "p", "tags": ""})
        who = f"{name}:p"
        refused("GET", "/overview", None, 401, "Not management user", user=who)
        put(f"/users/{name}", {"password": "p", "tags": "management"}, expected=204)
        equal(get("/vhosts", user=who), [])
        refused("GET", f"/queues/{ROOT}", None, 401, "access virtual host", user=who)
        refused("GET", "/nodes", None, 401, "Not monitor user", user=who)
        refused("GET", "/users", None, 401, "Not administrator user", user=who)
        refused("PUT", f"/policies/{vhost}/p", {"pattern": "", "definition": {"max-length": 1}}, 401, "policymaker", who)
        put(f"/permissions/{vhost}/{name}", {"configure": "^own", "write": "", "read": ""})
        equal([one["name"] for one in get("/vhosts", user=who)], [vhost])
        call("PUT", f"/api/queues/{vhost}/own", {}, user=who, expected=201)
        refused("PUT", f"/queues/{vhost}/other", {}, 401, "Access refused", user=who)
        put(f"/users/{name}", {"password": "p", "tags": ["monitoring"]}, expected=204)
        call("GET", "/api/nodes", user=who, expected=200)
        delete(f"/users/{name}")
        refused("GET", "/overview", None, 401, "Not_Authorized", user=who)
    finally:
        delete(f"/vhosts/{vhost}")


@check("queues-are-declared-and-deleted")
def _():
    name = unique("queue")
    path = f"/queues/{ROOT}/{name}"
    put(path, {"durable": True, "arguments": {"x-max-length": 7}})
    put(path, {"durable": True, "arguments": {"x-max-length": 7}}, expected=204)
    refused("PUT", path, {"durable": False, "arguments": {"x-max-length": 7}}, 400, "inequivalent arg 'durable'")
    refused("PUT", path, b"[", 400, "not_json")
    refused("PUT", f"/queues/{ROOT}/{name}2", {"arguments": {"x-max-length": "many"}}, 400, "invalid arg")
    queue = get(path)
    equal((queue["type"], queue["durable"], queue["arguments"]["x-max-length"]), ("classic", True, 7))
    equal((queue["state"], queue["messages"], queue["consumers"]), ("running", 0, 0))
    delete(path)
    delete(path, expected=404)
    refused("GET", path, None, 404, "Not Found")
    refused("GET", "/queues/nowhere", None, 404, "Not Found")


@check("messages-are-published-and-fetched")
def _():
    queue, exchange = unique("queue"), unique("exchange")
    put(f"/queues/{ROOT}/{queue}")
    put(f"/exchanges/{ROOT}/{exchange}", {"type": "topic"})
    post(f"/bindings/{ROOT}/e/{exchange}/q/{queue}", {"routing_key": "a.#", "arguments": {}}, expected=201)
    message = {"properties": {"delivery_mode": 2, "headers": {"n": 1}}, "routing_key": "a.b", "payload": "text"}
    path = f"/exchanges/{ROOT}/{exchange}/publish"
    equal(post(path, {**message, "payload_encoding": "string"}), {"routed": True})
    equal(post(path, {**message, "payload": "/w==", "payload_encoding": "base64"}), {"routed": True})
    equal(post(path, {**message, "routing_key": "b", "payload_encoding": "string"}), {"routed": False})
    refused("POST", path, {"routing_key": "a"}, 400, "{key_missing,properties}")
    refused("POST", path, {**message, "payload_encoding": "rot13"}, 400, "payload_encoding")
    refused("POST", path, {**message, "payload": "?", "payload_encoding": "base64"}, 400, "not base64")
    want = {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}
    first, second = post(f"/queues/{ROOT}/{queue}/get", want)
    equal((first["payload"], first["payload_encoding"], first["redelivered"]), ("text", "string", False))
    equal(first["properties"], {"headers": {"n": 1}, "delivery_mode": 2})
    equal((second["payload"], second["payload_encoding"], second["message_count"]), ("/w==", "base64", 0))
    first, _ = post(f"/queues/{ROOT}/{queue}/get", {**want, "ackmode": "ack_requeue_false", "truncate": 2})
    equal((first["payload"], first["payload_bytes"], first["redelivered"]), ("te", 4, True))
    equal(post(f"/queues/{ROOT}/{queue}/get", want), [])
    refused("POST", f"/queues/{ROOT}/{queue}/get", {"count": 1}, 400, "{key_missing,ackmode}")
    delete(f"/exchanges/{ROOT}/{exchange}?if-unused=true", expected=400)
    delete(f"/queues/{ROOT}/{queue}?if-empty=true&if-unused=true")
    delete(f"/exchanges/{ROOT}/{exchange}")


@check("messages-move-to-another-queue")
def _():
    a, b = unique("queue"), unique("queue")
    for name in (a, b):
        put(f"/queues/{ROOT}/{name}")
    publish = {"properties": {"delivery_mode": 2}, "routing_key": a, "payload_encoding": "string"}
    for number in range(5):
        post(f"/exchanges/{ROOT}/amq.default/publish", {**publish, "payload": str(number)})
    equal(post(f"/queues/{ROOT}/{a}/move", {"destination": b, "count": 3}), {"moved": 3})
    want = {"count": 9, "ackmode": "ack_requeue_true", "encoding": "auto"}
    equal([one["payload"] for one in post(f"/queues/{ROOT}/{b}/get", want)], ["0", "1", "2"])
    equal([one["payload"] for one in post(f"/queues/{ROOT}/{a}/get", want)], ["3", "4"])
    refused("POST", f"/queues/{ROOT}/{a}/move", {"destination": a}, 400, "where they are")
    refused("POST", f"/queues/{ROOT}/{a}/move", {"destination": "nowhere"}, 404, "no queue")
    delete(f"/queues/{ROOT}/{b}/contents")
    equal(post(f"/queues/{ROOT}/{b}/get", want), [])
    for name in (a, b):
        delete(f"/queues/{ROOT}/{name}")


@check("bindings-by-their-properties-key")
def _():
    queue, exchange = unique("queue"), unique("exchange")
    put(f"/queues/{ROOT}/{queue}")
    put(f"/exchanges/{ROOT}/{exchange}", {"type": "headers"})
    base = f"/bindings/{ROOT}/e/{exchange}/q/{queue}"
    for body in ({"routing_key": ""}, {"routing_key": "a b/#"}, {"routing_key": "a b/#", "arguments": {"x": 1}}):
        post(base, body, expected=201)
    keys = [one["properties_key"] for one in get(base)]
    equal((keys[0], keys[1], keys[2].startswith("a+b%2F%23~")), ("~", "a+b%2F%23", True))
    for key in keys:
        equal(get(f"{base}/{quoted(key)}")["properties_key"], key)
        delete(f"{base}/{quoted(key)}")
    equal(get(base), [])
    delete(f"{base}/~", expected=404)
    refused("POST", f"/bindings/{ROOT}/e/{exchange}/q/nowhere", {}, 404, "no queue 'nowhere'")
    equal([one["source"] for one in get(f"/queues/{ROOT}/{queue}/bindings")], [""])
    delete(f"/queues/{ROOT}/{queue}")
    delete(f"/exchanges/{ROOT}/{exchange}")


@check("lists-by-page-name-and-order")
def _():
    vhost = unique("vhost")
    put(f"/vhosts/{vhost}")
    for number in range(25):
        put(f"/queues/{vhost}/q{number:02}")
    page = get(f"/queues/{vhost}?page=2&page_size=10&sort=name&sort_reverse=true&columns=name,messages")
    equal((page["total_count"], page["page_count"], page["item_count"]), (25, 3, 10))
    equal(page["items"][0], {"name": "q14", "messages": 0})
    found = get(f"/queues/{vhost}?page=1&name=^q0&use_regex=true&pagination=true")
    equal((found["filtered_count"], found["total_count"]), (10, 25))
    refused("GET", f"/queues/{vhost}?page=9&page_size=10", None, 400, "page 9")
    refused("GET", f"/queues/{vhost}?page=x", None, 400, "page is 'x'")
    post(f"/exchanges/{vhost}/amq.default/publish",
         {"properties": {}, "routing_key": "q07", "payload": "x", "payload_encoding": "string"})
    equal(get(f"/queues/{vhost}?page=1&page_size=1&sort=messages&sort_reverse=true")["items"][0]["name"], "q07")
    equal(len(get(f"/queues/{vhost}?disable_stats=true")), 25)
    delete(f"/vhosts/{vhost}")


@check("connections-channels-and-consumers", seconds=30)
def _():
    queue = unique("queue")
    with Client() as client:
        client.channel.queue_declare(queue)
        client.channel.basic_qos(prefetch_count=3)
        client.channel.confirm_delivery()
        client.channel.basic_consume(queue, lambda *_: None, consumer_tag="tag")
        for _ in range(10):
            client.channel.basic_publish("", queue, b"x" * 100)
        client.connection.process_data_events(0.2)
        own = [one for one in get("/connections") if one["client_properties"].get("product", "").startswith("Pika")]
        mine = [one for one in own if one["channels"] == 1][-1]
        equal((mine["user"], mine["vhost"], mine["protocol"], mine["ssl"]), ("guest", "/", "AMQP 0-9-1", False))
        wait_until(lambda: get(f"/connections/{quoted(mine['name'])}")["recv_oct_details"]["rate"] >= 0, 5, "a rate")
        (channel,) = get(f"/connections/{quoted(mine['name'])}/channels")
        equal((channel["prefetch_count"], channel["confirm"], channel["consumer_count"]), (3, True, 1))
        equal((channel["messages_unacknowledged"], channel["messages_unconfirmed"]), (3, 0))
        stats = channel["message_stats"]
        equal((stats["publish"], stats["confirm"], stats["deliver"]), (10, 10, 3))
        consumer = get(f"/channels/{quoted(channel['name'])}")["consumer_details"][0]
        equal((consumer["consumer_tag"], consumer["queue"]["name"], consumer["ack_required"]), ("tag", queue, True))
        seen = get(f"/queues/{ROOT}/{queue}")
        equal((seen["messages"], seen["messages_ready"], seen["messages_unacknowledged"]), (10, 7, 3))
        equal(seen["consumer_details"][0]["channel_details"]["connection_name"], mine["name"])
        call("DELETE", f"/api/connections/{quoted(mine['name'])}", headers={"X-Reason": "for a test"}, expected=204)
        try:
            client.connection.process_data_events(5)
            raise AssertionError("the connection goes on")
        except pika.exceptions.ConnectionClosedByBroker as closed:
            equal((closed.reply_code, closed.reply_text), (320, "CONNECTION_FORCED - for a test"))
    wait_until(lambda: mine["name"] not in [one["name"] for one in get("/connections")], 5, "the connection is gone")
    delete(f"/connections/{quoted(mine['name'])}", expected=404)
    delete(f"/queues/{ROOT}/{queue}")


@check("rates-and-curves", seconds=30)
def _():
    queue = unique("queue")
    with Client() as client:
        client.channel.queue_declare(queue)

        def moves():
            for _ in range(20):
                client.channel.basic_publish("", queue, b"x")
            client.connection.process_data_events(0.1)
            path = f"/queues/{ROOT}/{queue}?msg_rates_age=60&msg_rates_incr=5&lengths_age=60&lengths_incr=5"
            seen = get(path)
            details = seen.get("message_stats", {}).get("publish_details", {})
            return details.get("rate", 0) > 0 and len(details["samples"]) == 13 and seen["messages_details"]["rate"] > 0

        wait_until(moves, 15, "the queue has a rate and a curve")
        wait_until(lambda: get("/overview")["message_stats"]["publish_details"]["rate"] > 0, 10, "the overview has a rate")
        exchange = get(f"/exchanges/{ROOT}/amq.default")
        equal(exchange["message_stats"]["publish_in"], exchange["message_stats"]["publish_out"])
        client.channel.queue_delete(queue)


@check("policies-and-limits")
def _():
    vhost, user = unique("vhost"), unique("user")
    put(f"/vhosts/{vhost}")
    put(f"/users/{user}", {"password": "p", "tags": ""})
    put(f"/queues/{vhost}/q")
    path = f"/policies/{vhost}/p"
    put(path, {"pattern": "^q", "definition": {"max-length": 9}, "apply-to": "queues", "priority": 2})
    put(f"/operator-policies/{vhost}/o", {"pattern": "^q", "definition": {"max-length": 5}, "apply-to": "queues"})
    queue = get(f"/queues/{vhost}/q")
    equal((queue["policy"], queue["operator_policy"]), ("p", "o"))
    equal(queue["effective_policy_definition"], {"max-length": 5})
    refused("PUT", path, {"pattern": "^q"}, 400, "{key_missing,definition}")
    refused("PUT", path, {"pattern": "(", "definition": {"max-length": 1}}, 400, "Validation failed")
    refused("PUT", path, {"pattern": "", "definition": {"nonsense": 1}}, 400, "Validation failed")
    equal([one["name"] for one in get(f"/policies/{vhost}")], ["p"])
    delete(path)
    delete(path, expected=404)
    put(f"/vhost-limits/{vhost}/max-queues", {"value": 1}, expected=204)
    refused("PUT", f"/queues/{vhost}/q2", {}, 400, "queue limit")
    equal(get(f"/vhost-limits/{vhost}"), [{"vhost": vhost, "value": {"max-queues": 1}}])
    delete(f"/vhost-limits/{vhost}/max-queues")
    put(f"/user-limits/{user}/max-channels", {"value": 3}, expected=204)
    equal(get(f"/user-limits/{user}"), [{"user": user, "value": {"max-channels": 3}}])
    refused("PUT", f"/user-limits/{user}/nonsense", {"value": 1}, 400, "nonsense")
    delete(f"/users/{user}")
    delete(f"/vhosts/{vhost}")


@check("what-was-answered-outlives-a-crash-and-what-was-deleted-does-not", seconds=40)
def _():
    vhost, user = unique("vhost"), unique("user")
    put(f"/vhosts/{vhost}", {"description": "for a test", "tags": "a,b"})
    put(f"/users/{user}", {"password": "p", "tags": "monitoring"})
    put(f"/permissions/{vhost}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
    put(f"/queues/{vhost}/kept")
    put(f"/queues/{vhost}/gone")
    delete(f"/queues/{vhost}/gone")
    put(f"/vhosts/{vhost}-gone")
    put(f"/queues/{vhost}-gone/q")
    delete(f"/vhosts/{vhost}-gone")
    put(f"/users/{user}-gone", {"password": "p", "tags": ""})
    delete(f"/users/{user}-gone")
    restart_broker()
    equal((get(f"/vhosts/{vhost}")["description"], get(f"/vhosts/{vhost}")["tags"]), ("for a test", ["a", "b"]))
    equal([one["name"] for one in get(f"/queues/{vhost}", user=f"{user}:p")], ["kept"])
    for path in (f"/vhosts/{vhost}-gone", f"/users/{user}-gone"):
        refused("GET", path, None, 404, "Not Found")
    delete(f"/vhosts/{vhost}")
    equal(get(f"/users/{user}/permissions"), [])
    delete(f"/users/{user}")


@check("a-deleted-vhost-and-a-deleted-user-end-their-connections", seconds=30)
def _():
    vhost, user = unique("vhost"), unique("user")
    put(f"/vhosts/{vhost}")
    put(f"/users/{user}", {"password": "p", "tags": ""})
    put(f"/permissions/{vhost}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
    at = urllib.parse.urlsplit(amqp_uri())
    login = pika.PlainCredentials(user, "p")
    parameters = pika.ConnectionParameters(at.hostname, at.port, vhost, login)
    for path in (f"/users/{user}", f"/vhosts/{vhost}"):
        if path.startswith("/vhosts"):
            parameters.credentials = pika.PlainCredentials("guest", "guest")
        connection = pika.BlockingConnection(parameters)
        delete(path)
        try:
            connection.process_data_events(5)
            raise AssertionError("the connection goes on")
        except pika.exceptions.ConnectionClosedByBroker as closed:
            equal(closed.reply_code, 320)


@check("definitions-go-out-and-come-in", seconds=30)
def _():
    vhost = unique("vhost")
    put(f"/vhosts/{vhost}")
    put(f"/queues/{vhost}/q", {"arguments": {"x-queue-type": "quorum"}})
    put(f"/exchanges/{vhost}/x", {"type": "fanout"})
    post(f"/bindings/{vhost}/e/x/q/q", {}, expected=201)
    document = get(f"/definitions/{vhost}")
    equal(([one["name"] for one in document["queues"]], len(document["bindings"])), (["q"], 1))
    other = unique("vhost")
    put(f"/vhosts/{other}")
    post(f"/definitions/{other}", document, expected=204)
    equal(get(f"/definitions/{other}")["bindings"], document["bindings"])
    whole = get("/definitions")
    post("/definitions", whole, expected=204)
    refused("POST", "/definitions", {"queues": [{"name": "x"}]}, 400, "vhost")
    for name in (vhost, other):
        delete(f"/vhosts/{name}")


@check("health-checks")
def _():
    at = management()
    for path in ("alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical", "certificate-expiration/1/months",
                 f"port-listener/{at.port}", "protocol-listener/amqp", "protocol-listener/mqtt"):
        equal(get(f"/health/checks/{path}")["status"], "ok")
    for path in ("port-listener/1", "protocol-listener/gopher"):
        status, answer = call("GET", f"/api/health/checks/{path}")
        equal((status, answer["status"]), (503, "failed"))
    equal(get(f"/aliveness-test/{ROOT}"), {"status": "ok"})
    equal(call("GET", "/health/ready", user=None), (200, "ok"))


@check("rabbitmqadmin", seconds=60)
def _():
    queue, exchange, user, vhost = unique("queue"), unique("exchange"), unique("user"), unique("vhost")
    rabbitmqadmin("declare", "queue", f"name={queue}", "durable=true", 'arguments={"x-max-length":5}')
    rabbitmqadmin("declare", "exchange", f"name={exchange}", "type=topic")
    rabbitmqadmin("declare", "binding", f"source={exchange}", f"destination={queue}", "routing_key=k.#")
    rabbitmqadmin("publish", f"exchange={exchange}", "routing_key=k.1", "payload=hello")
    equal("hello" in rabbitmqadmin("get", f"queue={queue}", "ackmode=ack_requeue_true"), True)
    listed = json.loads(rabbitmqadmin("-f", "raw_json", "list", "queues", "name", "messages", "arguments"))
    equal([one for one in listed if one["name"] == queue],
          [{"name": queue, "messages": 1, "arguments": {"x-max-length": 5, "x-queue-type": "classic"}}])
    for what in ("exchanges", "bindings", "users", "vhosts", "permissions", "nodes", "connections", "channels", "consumers",
                 "parameters", "policies", "operator_policies"):
        rabbitmqadmin("list", what)
    rabbitmqadmin("show", "overview")
    rabbitmqadmin("declare", "vhost", f"name={vhost}")
    rabbitmqadmin("declare", "user", f"name={user}", "password=secret", "tags=monitoring")
    rabbitmqadmin("declare", "permission", f"vhost={vhost}", f"user={user}", "configure=.*", "write=.*", "read=.*")
    rabbitmqadmin("declare", "policy", "name=p", "pattern=^x", 'definition={"max-length":5}', "apply-to=queues")
    rabbitmqadmin("declare", "operator_policy", "name=p", "pattern=^x", 'definition={"max-length":5}', "apply-to=queues")
    rabbitmqadmin("declare", "vhost_limit", f"vhost={vhost}", "name=max-queues", "value=3")
    equal(rabbitmqadmin("-u", user, "-p", "secret", "-f", "tsv", "list", "vhosts", "name").split()[-1], vhost)
    rabbitmqadmin("purge", "queue", f"name={queue}")
    for what in (("queue", f"name={queue}"), ("exchange", f"name={exchange}"), ("policy", "name=p"),
                 ("operator_policy", "name=p"), ("permission", f"vhost={vhost}", f"user={user}"),
                 ("user", f"name={user}"), ("vhost", f"name={vhost}")):
        rabbitmqadmin("delete", *what)
    rabbitmqadmin("delete", "queue", f"name={queue}", fails=True)
    file = f"/tmp/{unique('definitions')}.json"
    try:
        rabbitmqadmin("export", file)
        rabbitmqadmin("import", file)
    finally:
        os.unlink(file)


@check("metrics-are-what-prometheus-takes", seconds=30)
def _():
    paths = ("/metrics", "/metrics/per-object",
             "/metrics/detailed?family=queue_coarse_metrics&family=channel_metrics&family=vhost_status&vhost=/")
    for path in paths:
        text = metrics(path)
        done = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
        equal((done.returncode, done.stdout + done.stderr), (0, ""), f"promtool's verdict on {path}")


@check("metrics-count-what-happens", seconds=30)
def _():
    queue = unique("queue")
    before = metrics()
    with Client() as client:
        client.channel.queue_declare(queue)
        client.channel.confirm_delivery()
        for _ in range(7):
            client.channel.basic_publish("", queue, b"x")
        client.channel.basic_publish("", "nowhere", b"x")
        client.channel.basic_get(queue, auto_ack=True)
        after = metrics()
        for name, number in (("received", 8), ("confirmed", 8), ("unroutable_dropped", 1), ("delivered_get_auto_ack", 1)):
            name = f"rabbitmq_global_messages_{name}_total"
            grown = metric(after, name) - (metric(before, name) if name + "{" in before else 0)
            equal(grown >= number, True, f"{name} grew by {grown}; at least {number}")
        labels = f'rabbitmq_queue_messages_ready{{vhost="/",queue="{queue}"}} 6'
        equal(labels in metrics("/metrics/per-object").splitlines(), True, labels)
        detailed = metrics("/metrics/detailed?family=queue_coarse_metrics&vhost=/")
        equal(labels.replace("rabbitmq_", "rabbitmq_detailed_") in detailed.splitlines(), True)
        equal("rabbitmq_detailed_channel" in detailed, False)
        client.channel.queue_delete(queue)


class Prometheus:
    """Prometheus itself, on a port of its own, scraping the broker each second."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory()
        config = os.path.join(self.directory.name, "prometheus.json")
        target = urllib.parse.urlsplit(os.environ["PROMETHEUS_URI"]).netloc
        job = {"job_name": "broker", "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [{"targets": [target]}]}
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"scrape_configs": [job]}, file)
        self.process = subprocess.Popen(
            [tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={self.directory.name}/data",
             "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "Listening on" in line:
                self.uri = "http://" + line.split("address=")[1].split()[0]
            if "Server is ready" in line:
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def query(self, expression):
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.uri}/api/v1/query?{query}", timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


@check("each-panel-of-the-dashboard-has-something-to-show", seconds=60)
def _():
    place = os.path.join(os.path.dirname(__file__), "../../../deploy/grafana-dashboard.json")
    with open(place, encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    asked = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]
    equal(len(asked) > 20, True, "whether the dashboard asks for much")
    with Prometheus() as prometheus:
        # A rate needs two scrapes.
        wait_until(lambda: prometheus.query('count_over_time(up{job="broker"}[1m]) >= 2'), 20, "two scrapes")
        equal(len(prometheus.query('rabbitmq_identity_info{job="broker"}')), 1, "what the list of jobs is made of")
        for title, expression in asked:
            expression = expression.replace("$job", "broker").replace("$__rate_interval", "1m")
            equal(len(prometheus.query(expression)) > 0, True, f"whether '{title}' has something to show by {expression}")


@check("mqtt-sessions-are-listed")
def _():
    equal(isinstance(get("/mqtt/sessions"), list), True)
    log = get("/log")
    equal((len(log["lines"]) > 0, get(f"/log?from={log['next']}")["next"] >= log["next"]), (True, True))


if __name__ == "__main__":
    suite.main()
