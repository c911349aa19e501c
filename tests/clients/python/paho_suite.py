"""paho-mqtt, and a small client of our own, against the broker in MQTT_URI."""

import mqtt.authentication
import mqtt.connecting
import mqtt.interworking
import mqtt.malformed
import mqtt.publishing
import mqtt.retained
import mqtt.sessions
import mqtt.subscribing
import mqtt.sys_topics
import mqtt.websocket
import mqtt.wills
import mqtt.late  # it begins what waits for time
import mqtt.restart  # the last, because it ends what the others use
from mqtt.session import suite

if __name__ == "__main__":
    suite.main()
