// stompjs in a headless Chromium, over WebSocket, against the broker in STOMP_WS_URI; user and password are those of STOMP_URI.

import { check, runSuite } from './contract.js';
import { Page } from './page.js';
import { stompChecks } from './stomp_checks.js';
import { facts } from './stomp_facts.js';

const FILES = {
  '/checks.js': 'browser/stomp.js',
  '/stomp_checks.js': 'stomp_checks.js',
  '/stomp.umd.js': 'node_modules/@stomp/stompjs/bundles/stomp.umd.js',
};
const page = new Page(FILES, facts);
await page.open();
for (const { name, milliseconds } of stompChecks(undefined, undefined, facts, undefined)) {
  check(name, () => page.run(name), milliseconds);
}
await runSuite(() => ({ close() {} }));
