"""The turn of the checks that wait for time to pass."""

from mqtt.session import together

together.begin()
