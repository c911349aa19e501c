// mqtt.js over TCP and over WebSocket, against the broker in MQTT_URI and MQTT_WS_URI.

import mqtt from 'mqtt';
import { check, restartBroker, runSuite } from './contract.js';
import { mqttChecks } from './mqtt_checks.js';

const { MQTT_URI: tcp, MQTT_WS_URI: ws } = process.env;
if (!tcp || !ws) {
  console.error('set MQTT_URI and MQTT_WS_URI, e.g. mqtt://guest:guest@127.0.0.1:1883 and ws://127.0.0.1:15675/ws');
  process.exit(2);
}
const { username, password } = new URL(tcp);
const withLogin = Object.assign(new URL(ws), { username, password }).href;
for (const { name, milliseconds, run } of mqttChecks(mqtt, { tcp, ws: withLogin }, restartBroker)) {
  check(name, run, milliseconds);
}
await runSuite(() => ({ close() {} }));
