"""Where the broker is."""

import os
import sys
import uuid
from urllib.parse import urlsplit

EVENT_SECONDS = 5


def address(variable, example):
    uri = os.environ.get(variable)
    if not uri:
        sys.exit(f"{variable} is not set, e.g. {example}")
    return urlsplit(uri)


BROKER = address("MQTT_URI", "mqtt://guest:guest@127.0.0.1:1883")
WEBSOCKET = urlsplit(os.environ.get("MQTT_WS_URI", ""))
HAS_AMQP = "AMQP_URI" in os.environ


def new_id():
    """A client identifier that every broker takes in every version: at most 23 letters and digits."""
    return "roadstead" + uuid.uuid4().hex[:12]
