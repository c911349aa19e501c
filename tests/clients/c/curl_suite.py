"""curl against the management API in MANAGEMENT_URI, as RabbitMQ's documentation has people call it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

from checks import Skipped, Suite, equal, unique

URI = urlsplit(os.environ["MANAGEMENT_URI"])
BASE = f"http://{URI.hostname}:{URI.port}"
USER = f"{URI.username}:{URI.password}"
SECONDS = "10"


class Session:
    def close(self):
        pass


def run(function):
    if not shutil.which("curl"):
        raise Skipped("curl is not installed")
    function(Session())


suite = Suite(run)


def curl(path, *options, user=USER):
    """The status of the answer, and its body."""
    command = ["curl", "-s", "-m", SECONDS, "-u", user, "-w", "\n%{http_code}", *options, BASE + path]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    body, _, status = answer.rpartition("\n")
    return int(status), body


def put(path, body="{}", **more):
    return curl(path, "-H", "content-type:application/json", "-XPUT", f"-d{body}", **more)


@suite.check("vhosts-are-listed-made-and-deleted")
def vhosts(_):
    name = unique("vhost")
    status, body = curl("/api/vhosts", "-i")
    equal(status, 200, "the status of the list")
    equal("content-type: application/json" in body.lower(), True, "whether it is JSON")
    equal(put(f"/api/vhosts/{name}")[0], 201, "the status of a new one")
    equal(put(f"/api/vhosts/{name}", '{"description":"QA", "tags":"qa,project-a"}')[0], 204, "the status of a change")
    described = json.loads(curl(f"/api/vhosts/{name}")[1])
    equal((described["description"], described["tags"]), ("QA", ["qa", "project-a"]), "what it is like")
    equal(curl(f"/api/vhosts/{name}", "-XDELETE")[0], 204, "the status of the end")
    equal(curl(f"/api/vhosts/{name}")[0], 404, "the status afterwards")


@suite.check("channels-are-sorted-with-some-of-their-columns")
def channels(_):
    rates = "message_stats.publish_details.rate,message_stats.deliver_get_details.rate"
    query = f"sort=message_stats.publish_details.rate&sort_reverse=true&columns=name,{rates}"
    status, body = curl(f"/api/channels?{query}")
    equal((status, isinstance(json.loads(body), list)), (200, True), "the list")


@suite.check("exchanges-are-made-and-deleted")
def exchanges(_):
    path = f"/api/exchanges/%2F/{unique('exchange')}"
    equal(put(path, '{"type":"direct","durable":true}')[0], 201, "the status of a new one")
    equal(put(path, '{"type":"direct","durable":true}')[0], 204, "the status of the same again")
    status, body = put(path, '{"type":"fanout","durable":true}')
    equal((status, json.loads(body)["error"]), (400, "bad_request"), "another one of the name")
    equal(curl(path, "-XDELETE")[0], 204, "the status of the end")


@suite.check("messages-are-published-and-fetched")
def messages(_):
    name = unique("queue")
    equal(put(f"/api/queues/%2F/{name}", '{"durable":true,"arguments":{"x-queue-type":"quorum"}}')[0], 201, "the queue")
    message = {"properties": {}, "routing_key": name, "payload": "my body", "payload_encoding": "string"}
    status, body = curl("/api/exchanges/%2F/amq.default/publish", "-XPOST", f"-d{json.dumps(message)}")
    equal((status, json.loads(body)), (200, {"routed": True}), "what was published")
    wish = {"count": 5, "ackmode": "ack_requeue_false", "encoding": "auto", "truncate": 50000}
    status, body = curl(f"/api/queues/%2F/{name}/get", "-XPOST", f"-d{json.dumps(wish)}")
    equal([one["payload"] for one in json.loads(body)], ["my body"], "what was fetched")
    equal(curl(f"/api/queues/%2F/{name}?if-empty=true", "-XDELETE")[0], 204, "the end of the queue")


@suite.check("users-and-permissions")
def users(_):
    name = unique("user")
    equal(put(f"/api/users/{name}", '{"password":"secret","tags":"monitoring"}')[0], 201, "the status of a new user")
    permissions = '{"configure":"^$","write":"^$","read":".*"}'
    equal(put(f"/api/permissions/%2F/{name}", permissions)[0], 201, "the status of his permissions")
    status, body = curl("/api/whoami", user=f"{name}:secret")
    equal((status, json.loads(body)["tags"]), (200, ["monitoring"]), "who he is")
    equal(curl("/api/whoami", user=f"{name}:wrong")[0], 401, "the status of a wrong password")
    equal(put(f"/api/vhosts/{unique('vhost')}", user=f"{name}:secret")[0], 401, "the status of what he must not")
    equal(curl(f"/api/users/{name}", "-XDELETE")[0], 204, "the status of his end")


@suite.check("policies-and-parameters")
def policies(_):
    name = unique("policy")
    policy = '{"pattern":"^amq.", "definition": {"max-length":10}, "priority":0, "apply-to": "queues"}'
    equal(put(f"/api/policies/%2F/{name}", policy)[0], 201, "the status of a new policy")
    equal(json.loads(curl(f"/api/policies/%2F/{name}")[1])["definition"], {"max-length": 10}, "its definition")
    equal(curl(f"/api/policies/%2F/{name}", "-XDELETE")[0], 204, "the status of its end")
    equal(put(f"/api/global-parameters/{name}", '{"value":{"guest":"/"}}')[0], 201, "the status of a parameter")
    equal(curl(f"/api/global-parameters/{name}", "-XDELETE")[0], 204, "the status of its end")


@suite.check("health-checks")
def health(_):
    for path in ("alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical", f"port-listener/{URI.port}",
                 "protocol-listener/http", "certificate-expiration/1/months"):
        status, body = curl(f"/api/health/checks/{path}")
        equal((status, json.loads(body)["status"]), (200, "ok"), path)
    status, body = curl("/api/health/checks/port-listener/1")
    equal((status, json.loads(body)["status"]), (503, "failed"), "a port where nobody listens")
    equal(json.loads(curl("/api/aliveness-test/%2F")[1]), {"status": "ok"}, "the test of a vhost")


@suite.check("definitions-go-out-and-in")
def definitions(_):
    status, body = curl("/api/definitions", "-o-")
    exported = json.loads(body)
    equal((status, "users" in exported and "queues" in exported), (200, True), "the export")
    name = unique("queue")
    queue = {"name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
    imported = json.dumps({"queues": [queue]})
    status, _ = curl("/api/definitions", "-H", "content-type:application/json", "-XPOST", f"-d{imported}")
    equal(status, 204, "the status of the import")
    equal(curl(f"/api/queues/%2F/{name}", "-XDELETE")[0], 204, "the queue that was imported")


@suite.check("a-page-of-queues")
def pages(_):
    names = [unique("page") for _ in range(3)]
    for name in names:
        put(f"/api/queues/%2F/{name}")
    part = names[0].rsplit(".", 1)[0]
    status, body = curl(f"/api/queues/%2F?page=1&page_size=2&name={part}&use_regex=false&pagination=true")
    page = json.loads(body)
    equal((status, page["item_count"], page["page_size"]), (200, 2, 2), "the page")
    for name in names:
        equal(curl(f"/api/queues/%2F/{name}", "-XDELETE")[0], 204, "the end of a queue")


if __name__ == "__main__":
    suite.main()
