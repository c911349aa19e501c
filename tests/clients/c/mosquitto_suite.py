"""mosquitto's command line tools (mosquitto-clients) against the broker in MQTT_URI."""

import hashlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

from checks import Skipped, Suite, equal, restart_broker, unique
from mqtt.address import BROKER, EVENT_SECONDS, HAS_AMQP, new_id

VERSIONS = {"v3.1": "mqttv31", "v3.1.1": "mqttv311", "v5": "mqttv5"}
ADDRESS = ["-h", BROKER.hostname, "-p", str(BROKER.port)]
LOGIN = ["-u", BROKER.username, "-P", BROKER.password] if BROKER.username else []
MARK = "message "  # what begins the lines of messages, among those that -d adds


class Subscriber:
    """A running mosquitto_sub whose lines can be awaited."""

    def __init__(self, *options, form="%q %r %t %p"):
        tool = ["stdbuf", "-oL", "mosquitto_sub", *ADDRESS, *LOGIN, "-d", "-F", MARK + form, *options]
        self._process = subprocess.Popen(tool, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._lines, self._subscribed = queue.Queue(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._subscribed.wait(EVENT_SECONDS), "no SUBACK"

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(MARK):
                self._lines.put(line.removeprefix(MARK).rstrip("\n"))
            elif line.startswith("Subscribed"):
                self._subscribed.set()

    def next(self):
        try:
            return self._lines.get(timeout=EVENT_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no message within {EVENT_SECONDS} s") from None

    def take(self, count):
        return [self.next() for _ in range(count)]

    def waiting(self):
        return self._lines.qsize()

    def stop(self, number=signal.SIGTERM):
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(EVENT_SECONDS)


class Session:
    def __init__(self):
        self._subscribers, self._retained, self._kept = [], [], []

    def subscriber(self, *options, **others):
        self._subscribers.append(Subscriber(*options, **others))
        return self._subscribers[-1]

    def kept(self, *options):
        """The identifier of a session with subscriptions, whose client is not connected."""
        self._kept.append(new_id())
        tool("mosquitto_sub", "-c", "-i", self._kept[-1], "-E", *options)
        return self._kept[-1]

    def retain(self, topic, body, *options):
        self._retained.append(topic)
        publish(topic, body, "-r", *options)

    def topic(self, end=""):
        return unique("t").replace(".", "/") + end

    def close(self):
        for subscriber in self._subscribers:
            subscriber.stop()
        for client_id in self._kept:
            tool("mosquitto_pub", "-i", client_id, "-t", "roadstead/end", "-n")
        for topic in self._retained:
            tool("mosquitto_pub", "-t", topic, "-n", "-r")


def run(function):
    if not shutil.which("mosquitto_pub"):
        raise Skipped("mosquitto-clients is not installed")
    session = Session()
    try:
        function(session)
    finally:
        session.close()


suite = Suite(run)


def call(name, *options, stdin=b"", login=LOGIN):
    line = [name, *ADDRESS, *login, *options]
    return subprocess.run(line, input=stdin, capture_output=True, timeout=2 * EVENT_SECONDS)


def tool(name, *options, stdin=b""):
    """Runs a tool that must succeed and returns what it writes."""
    done = call(name, *options, stdin=stdin)
    equal((done.returncode, done.stderr), (0, b""), f"the end of {name}")
    return done.stdout


def publish(topic, body, *options):
    tool("mosquitto_pub", "-t", topic, "-m", body, *options)


def receive(client_id, count, *options):
    """The next messages of a session."""
    got = tool("mosquitto_sub", "-c", "-i", client_id, "-C", str(count), "-F", "%q %p", *options)
    return got.decode().splitlines()


def each_version(name, **options):
    def register(function):
        for label, version in VERSIONS.items():
            suite.check(f"{name}-{label}", **options)(lambda session, version=version: function(session, ["-V", version]))
        return function

    return register


@each_version("qos")
def qos(session, version):
    topic = session.topic()
    subscribers = [session.subscriber("-t", topic, "-q", str(level), *version) for level in range(3)]
    for published in range(3):
        publish(topic, "text", "-q", str(published), *version)
        for subscribed, subscriber in enumerate(subscribers):
            equal(subscriber.next(), f"{min(published, subscribed)} 0 {topic} text", "QoS, retain flag, topic, payload")


@each_version("offline-messages")
def offline(session, version):
    topic = session.topic()
    client_id = session.kept("-t", f"{topic}/+", "-q", "2", *version)
    for level in ("1", "2", "1"):
        publish(f"{topic}/a", f"with {level}", "-q", level, *version)
    got = receive(client_id, 3, "-t", f"{topic}/+", "-q", "2", *version)
    equal(sorted(got), ["1 with 1", "1 with 1", "2 with 2"], "the messages")


@each_version("retained")
def retained(session, version):
    topic = session.topic()
    for name in ("a", "b"):
        session.retain(f"{topic}/{name}", name, "-q", "1", *version)
    publish(f"{topic}/c", "not retained", *version)
    read = ["mosquitto_sub", "-t", f"{topic}/+", "-q", "1", "-F", "%r %p", *version]
    equal(sorted(tool(*read, "-C", "2").decode().splitlines()), ["1 a", "1 b"], "what is retained")
    tool("mosquitto_pub", "-t", f"{topic}/a", "-n", "-r", *version)
    subscriber = session.subscriber("-t", f"{topic}/+", *version, form="%r %p")
    publish(f"{topic}/a", "live", *version)
    equal(subscriber.take(2), ["1 b", "0 live"], "what is left, and what is new")


@each_version("will")
def will(session, version):
    topic = session.topic()
    watcher = session.subscriber("-t", f"{topic}/+", "-q", "2", *version, form="%q %r %p")
    options = ["-t", f"{topic}/none/at/all", "--will-topic", f"{topic}/will", "--will-payload", "gone", "--will-qos", "2"]
    session.subscriber(*options, *version).stop(signal.SIGKILL)
    equal(watcher.next(), "2 0 gone", "the will")
    session.subscriber(*options, *version).stop(signal.SIGTERM)
    if version == ["-V", "mqttv5"]:
        equal(watcher.next(), "2 0 gone", "the will of one that disconnects with it")
    publish(f"{topic}/fence", "fence", "-q", "2", *version)
    equal(watcher.next(), "2 0 fence", "what comes next")


@suite.check("retained-will")
def retained_will(session):
    topic = session.topic()
    watcher = session.subscriber("-t", topic)
    options = ["-t", f"{topic}/none", "--will-topic", topic, "--will-payload", "gone", "--will-retain"]
    session.subscriber(*options).stop(signal.SIGKILL)
    watcher.next()
    session._retained.append(topic)
    equal(tool("mosquitto_sub", "-t", topic, "-C", "1", "-F", "%r %p"), b"1 gone\n", "the retained will")


@each_version("shared-subscription")
def shared(session, version):
    topic = session.topic()
    members = [session.subscriber("-t", f"$share/group/{topic}", "-q", "1", *version, form="%p") for _ in range(2)]
    alone = session.subscriber("-t", topic, "-q", "1", *version, form="%p")
    lines = [f"line {number}" for number in range(40)]
    tool("mosquitto_pub", "-t", topic, "-q", "1", "-l", *version, stdin="\n".join(lines).encode())
    equal(alone.take(40), lines, "what an ordinary subscriber got")
    got = []
    while len(got) < 40:
        member = max(members, key=Subscriber.waiting)
        got.append(member.next())
    equal(sorted(got), sorted(lines), "what the group got")


@suite.check("line-by-line")
def line_by_line(session):
    topic = session.topic()
    subscriber = session.subscriber("-t", topic, "-q", "2", form="%p")
    lines = [f"line {number}" for number in range(500)]
    for level in ("0", "1", "2"):
        tool("mosquitto_pub", "-t", topic, "-q", level, "-l", stdin="\n".join(lines).encode())
        equal(subscriber.take(500), lines, f"the lines with QoS {level}")


@suite.check("a-large-file")
def large_file(session):
    topic, body = session.topic(), os.urandom(1024 * 1024)
    client_id = session.kept("-t", topic, "-q", "1")
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        tool("mosquitto_pub", "-t", topic, "-q", "1", "-f", file.name)
    got = tool("mosquitto_sub", "-c", "-i", client_id, "-t", topic, "-q", "1", "-C", "1", "-N")
    equal(hashlib.sha256(got).digest(), hashlib.sha256(body).digest(), "the file's digest")


@suite.check("repeat-and-empty")
def repeat(session):
    topic = session.topic()
    subscriber = session.subscriber("-t", topic, form="%l %p")
    publish(topic, "again", "--repeat", "3")
    tool("mosquitto_pub", "-t", topic, "-n")
    tool("mosquitto_pub", "-t", topic, "-s", stdin=b"whole\nstdin")
    equal(subscriber.take(4), ["5 again"] * 3 + ["0 "], "the messages")
    equal(subscriber.next(), "11 whole", "the first line of the last message")


@suite.check("unsubscribe")
def unsubscribe(session):
    topic = session.topic()
    client_id = session.kept("-t", f"{topic}/a", "-t", f"{topic}/b", "-q", "1")
    tool("mosquitto_sub", "-c", "-i", client_id, "-t", f"{topic}/b", "-q", "1", "-U", f"{topic}/a", "-E")
    for name in ("a", "b"):
        publish(f"{topic}/{name}", name, "-q", "1")
    equal(receive(client_id, 1, "-t", f"{topic}/b", "-q", "1"), ["1 b"], "the messages")


@suite.check("remove-retained")
def remove_retained(session):
    topic = session.topic()
    session.retain(topic, "old", "-q", "1")
    watcher = session.subscriber("-t", topic, form="%r %l")
    equal(watcher.next(), "1 3", "the retained message")
    session.subscriber("-t", topic, "--remove-retained")
    equal(watcher.next(), "0 0", "the message that clears")
    late = session.subscriber("-t", topic, form="%r %p")
    publish(topic, "live")
    equal(late.next(), "0 live", "the first message")


@suite.check("properties")
def properties(session):
    topic = session.topic()
    form = "%C|%D|%F|%R|%P|%S|%p"
    identity = ["-D", "subscribe", "subscription-identifier", "42"]
    subscriber = session.subscriber("-V", "mqttv5", "-t", topic, "-q", "1", *identity, form=form)
    sent = [
        ("content-type", "text/plain"),
        ("correlation-data", "request 7"),
        ("payload-format-indicator", "1"),
        ("response-topic", "replies/a"),
        ("user-property", "b", "1"),
        ("user-property", "a", "2"),
    ]
    options = [word for each in sent for word in ("-D", "publish", *each)]
    publish(topic, "text", "-V", "mqttv5", "-q", "1", *options)
    equal(subscriber.next(), "text/plain|request 7|1|replies/a|b:1 a:2|42|text", "the properties")


@suite.check("message-expiry")
def message_expiry(session):
    topic = session.topic()
    subscriber = session.subscriber("-V", "mqttv5", "-t", topic, form="%E %p")
    publish(topic, "x", "-V", "mqttv5", "-D", "publish", "message-expiry-interval", "1000")
    assert subscriber.next() in ("1000 x", "999 x")


@suite.check("session-expiry")
def session_expiry(session):
    topic, client_id = session.topic(), new_id()
    subscribe = ["mosquitto_sub", "-V", "mqttv5", "-i", client_id, "-t", topic, "-q", "1"]
    tool(*subscribe, "-c", "-x", "60", "-E")
    publish(topic, "kept", "-q", "1")
    equal(tool(*subscribe, "-c", "-x", "0", "-C", "1"), b"kept\n", "the message")
    publish(topic, "nobody's", "-q", "1")
    again = session.subscriber("-V", "mqttv5", "-c", "-x", "0", "-i", client_id, "-t", topic, "-q", "1", form="%p")
    publish(topic, "new", "-q", "1")
    equal(again.next(), "new", "the first message after the session's end")


@suite.check("topic-alias")
def topic_alias(session):
    topic = session.topic()
    subscriber = session.subscriber("-t", topic, form="%t %p")
    options = ["-V", "mqttv5", "-D", "publish", "topic-alias", "3", "-l"]
    tool("mosquitto_pub", "-t", topic, *options, stdin=b"1\n2\n3\n")
    equal(subscriber.take(3), [f"{topic} {number}" for number in (1, 2, 3)], "topics and payloads")


@suite.check("request-and-response")
def request_and_response(session):
    topic = session.topic()
    subscriber = session.subscriber("-V", "mqttv5", "-t", f"{topic}/requests", form="%R|%D|%p")
    tools = ["mosquitto_rr", *ADDRESS, *LOGIN, "-V", "mqttv5", "-t", f"{topic}/requests", "-e", f"{topic}/replies"]
    tools += ["-m", "ping", "-D", "publish", "correlation-data", "7", "-W", str(EVENT_SECONDS)]
    with subprocess.Popen(tools, stdout=subprocess.PIPE, text=True) as requester:
        response_topic, identity, body = subscriber.next().split("|")
        equal((response_topic, identity, body), (f"{topic}/replies", "7", "ping"), "the request")
        publish(response_topic, "pong", "-V", "mqttv5", "-D", "publish", "correlation-data", identity)
        equal(requester.communicate(timeout=EVENT_SECONDS)[0], "pong\n", "the response")


@suite.check("wrong-password")
def wrong_password(session):
    if not HAS_AMQP:
        raise Skipped("a broker without users takes any password")
    for version in VERSIONS.values():
        done = call("mosquitto_pub", "-V", version, "-t", "a", "-m", "x", login=["-u", "guest", "-P", "wrong"])
        assert done.returncode != 0, "the login succeeded"
        refusals = ("not authorised", "not authorized", "bad user name or password")
        assert any(text in done.stderr.decode().lower() for text in refusals), done.stderr


@suite.check("restart-keeps-sessions-and-retained", seconds=60)
def restart(session):
    topic = session.topic()
    sessions = {label: session.kept("-V", version, "-t", f"{topic}/+", "-q", "2") for label, version in VERSIONS.items()}
    for level in ("1", "2"):
        publish(f"{topic}/a", f"with {level}", "-q", level)
    session.retain(f"{topic}/retained/b", "retained", "-q", "1")
    restart_broker()
    publish(f"{topic}/a", "after", "-q", "1")
    for label, client_id in sessions.items():
        options = ["-V", VERSIONS[label], "-t", f"{topic}/+", "-q", "2"]
        got = sorted(receive(client_id, 3, *options))
        equal(got, ["1 after", "1 with 1", "2 with 2"], f"what the session of {label} got")
    equal(tool("mosquitto_sub", "-t", f"{topic}/retained/+", "-C", "1", "-F", "%r %p"), b"1 retained\n", "retained")


if __name__ == "__main__":
    suite.main()
