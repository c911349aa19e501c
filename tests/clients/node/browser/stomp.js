// The checks of stompjs, in the browser.

import { stompChecks } from './stomp_checks.js';
// It has no module of its own in one file, and makes itself known to all.
import './stomp.umd.js';

export const checksOf = (facts, restartBroker) => stompChecks(globalThis.StompJs.Client, WebSocket, facts, restartBroker);
