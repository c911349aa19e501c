"""The contract between a client suite and the harness that starts it.

A suite prints `ok NAME`, `not ok NAME: reason` or `skip NAME: reason` for each check, then `done`, and exits with 0 if and
only if nothing failed. It asks for a restart of the broker by printing `@restart`, and waits for `@restarted` on stdin; and
for definitions in the same way.
"""

import json
import os
import sys
import threading
import time
import traceback
import uuid

SUITE_SECONDS = 105
END_SECONDS = 10
CHECK_SECONDS = 15


class Skipped(Exception):
    """Raised by a check that cannot run here; the message says why."""


def equal(actual, expected, what="value"):
    if actual != expected:
        raise AssertionError(f"{what} is {actual!r}, expected {expected!r}")


def amqp_uri():
    uri = os.environ.get("AMQP_URI")
    if not uri:
        sys.exit("AMQP_URI is not set, e.g. amqp://guest:guest@127.0.0.1:5672/%2F")
    return uri


def unique(kind):
    return f"roadstead.{kind}.{uuid.uuid4().hex[:12]}"


def say(line):
    print(line, flush=True)


def reason(error):
    return " ".join((str(error) or repr(error)).split())


def ask(request, expected):
    """Asks the harness for something, and returns what its answer says beside the expected word."""
    say(request)
    answer = sys.stdin.readline()
    name = request.split()[0]
    if not answer:
        raise Skipped(f"nobody answers {name} on stdin")
    word, _, rest = answer.strip().partition(" ")
    if word == "@failed":
        raise AssertionError(f"{name} failed: {rest}")
    equal(word, expected, f"the answer to {name}")
    return rest


def restart_broker():
    ask("@restart", "@restarted")


def define(document):
    """Imports definitions in RabbitMQ's format."""
    ask(f"@define {json.dumps(document)}", "@defined")


def delete_policy(name):
    ask(f"@delete-policy {name}", "@deleted")


def exported_definitions():
    return json.loads(ask("@export", "@exported"))


def wait_until(condition, seconds, what):
    """Polls state that the broker does not announce, such as a count that only a passive declare shows."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Suite:
    """Collects checks in the order of their definition and runs each in a thread of its own, so that none can hang."""

    def __init__(self, run):
        """`run(function)` calls a check with whatever this suite's checks take, and cleans up after it."""
        self._run = run
        self._checks = []

    def check(self, name, seconds=CHECK_SECONDS):
        def register(function):
            self._checks.append((name, seconds, function))
            return function

        return register

    @staticmethod
    def wanted(name):
        return not sys.argv[1:] or name in sys.argv[1:]

    def main(self, at_end=lambda: None):
        end = time.monotonic() + SUITE_SECONDS
        failed = False
        for name, seconds, function in self._checks:
            if not self.wanted(name):
                continue
            verdict, why = self._verdict(function, min(seconds, end - time.monotonic()))
            failed |= verdict == "not ok"
            say(f"{verdict} {name}: {why}" if why else f"{verdict} {name}")
        self._finish(at_end)
        say("done")
        sys.stderr.flush()
        os._exit(1 if failed else 0)  # a check that timed out has left a thread behind

    @staticmethod
    def _finish(at_end):
        thread = threading.Thread(target=at_end, daemon=True)
        thread.start()
        thread.join(END_SECONDS)

    def _verdict(self, function, seconds):
        if seconds <= 0:
            return "not ok", f"the suite's {SUITE_SECONDS} s are over"
        outcome = []
        thread = threading.Thread(target=self._attempt, args=(function, outcome), daemon=True)
        thread.start()
        thread.join(seconds)
        return outcome[0] if outcome else ("not ok", f"no result within {seconds:.0f} s")

    def _attempt(self, function, outcome):
        try:
            self._run(function)
            outcome.append(("ok", ""))
        except Skipped as why:
            outcome.append(("skip", str(why)))
        except BaseException as error:
            outcome.append(("not ok", f"{type(error).__name__}: {reason(error)}"))
            traceback.print_exc()
