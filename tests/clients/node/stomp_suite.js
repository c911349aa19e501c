// stompjs over WebSocket, in Node.js, against the broker in STOMP_WS_URI; user and password are those of STOMP_URI.

import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { check, restartBroker, runSuite } from './contract.js';
import { stompChecks } from './stomp_checks.js';
import { facts } from './stomp_facts.js';

for (const { name, milliseconds, run } of stompChecks(Client, WebSocket, facts, restartBroker)) {
  check(name, run, milliseconds);
}
await runSuite(() => ({ close() {} }));
