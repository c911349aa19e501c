// The checks of mqtt.js, in the browser.

import { mqttChecks } from './mqtt_checks.js';
import mqtt from './mqtt.esm.js';

export const checksOf = (uris, restartBroker) => mqttChecks(mqtt, uris, restartBroker);
