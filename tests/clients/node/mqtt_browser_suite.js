// mqtt.js in a headless Chromium, over WebSocket, against the broker in MQTT_WS_URI.

import { check, runSuite } from './contract.js';
import { mqttChecks } from './mqtt_checks.js';
import { Page } from './page.js';

const { MQTT_URI: tcp, MQTT_WS_URI: ws } = process.env;
if (!tcp || !ws) {
  console.error('set MQTT_URI and MQTT_WS_URI, e.g. mqtt://guest:guest@127.0.0.1:1883 and ws://127.0.0.1:15675/ws');
  process.exit(2);
}
const FILES = {
  '/checks.js': 'browser/mqtt.js',
  '/mqtt_checks.js': 'mqtt_checks.js',
  '/mqtt_session.js': 'mqtt_session.js',
  '/mqtt.esm.js': 'node_modules/mqtt/dist/mqtt.esm.js',
};
const { username, password } = new URL(tcp);
const page = new Page(FILES, { ws: Object.assign(new URL(ws), { username, password }).href });
await page.open();
for (const { name, milliseconds } of mqttChecks(undefined, { ws }, undefined)) {
  check(name, () => page.run(name), milliseconds);
}
await runSuite(() => ({ close() {} }));
