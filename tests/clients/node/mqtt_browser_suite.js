// mqtt.js in a headless Chromium, over WebSocket, against the broker in MQTT_WS_URI.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { check, restartBroker, runSuite, within } from './contract.js';
import { mqttChecks } from './mqtt_checks.js';

const { MQTT_URI: tcp, MQTT_WS_URI: ws, CHROMIUM: chromium = 'chromium' } = process.env;
if (!tcp || !ws) {
  console.error('set MQTT_URI and MQTT_WS_URI, e.g. mqtt://guest:guest@127.0.0.1:1883 and ws://127.0.0.1:15675/ws');
  process.exit(2);
}
const START_MILLISECONDS = 15_000;
// No sandbox, because root may run this; the rest keeps it from looking for other machines.
const OPTIONS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-extensions'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
];
const FILES = {
  '/': 'browser/index.html',
  '/page.js': 'browser/page.js',
  '/mqtt_checks.js': 'mqtt_checks.js',
  '/mqtt_session.js': 'mqtt_session.js',
  '/mqtt.esm.js': 'node_modules/mqtt/dist/mqtt.esm.js',
};

/** The page, which asks for its next check with the result of the last one. */
class Page {
  #server = createServer((request, response) => this.#answer(request, response));
  #browser;
  #profile = mkdtempSync(join(tmpdir(), 'roadstead-chromium-'));
  #waiting;
  #report;
  #restartFailure;

  async open() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = `http://127.0.0.1:${this.#server.address().port}/`;
    const ready = new Promise((resolve) => (this.#report = resolve));
    const options = [...OPTIONS, `--user-data-dir=${this.#profile}`, address];
    this.#browser = spawn(chromium, options, { stdio: ['ignore', 'ignore', 'inherit'] });
    const failed = new Promise((_, reject) => this.#browser.once('error', reject));
    await within(START_MILLISECONDS, Promise.race([ready, failed]), 'page in the browser');
  }

  /** Runs a check in the browser. */
  async run(name) {
    const result = new Promise((resolve) => (this.#report = resolve));
    this.#waiting.end(name);
    const failure = await result;
    if (this.#restartFailure) throw this.#restartFailure;
    if (failure) throw new Error(failure);
  }

  close() {
    this.#browser?.kill('SIGKILL');
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  async #answer(request, response) {
    if (request.method === 'POST') return this.#order(request, response);
    if (request.url === '/uris') return response.end(JSON.stringify({ ws: withLogin() }));
    const file = FILES[request.url];
    if (!file) return response.writeHead(404).end();
    response.setHeader('Content-Type', file.endsWith('.html') ? 'text/html' : 'text/javascript');
    response.end(readFileSync(new URL(file, import.meta.url)));
  }

  async #order(request, response) {
    const body = await text(request);
    if (request.url === '/next') {
      this.#waiting = response;
      return this.#report(body);
    }
    try {
      await restartBroker();
      response.end();
    } catch (failure) {
      this.#restartFailure = failure;
      response.writeHead(500).end(String(failure));
    }
  }
}

function withLogin() {
  const { username, password } = new URL(tcp);
  return Object.assign(new URL(ws), { username, password }).href;
}

const page = new Page();
process.on('exit', () => page.close());
await page.open();
for (const { name, milliseconds } of mqttChecks(undefined, { ws }, undefined)) {
  check(name, () => page.run(name), milliseconds);
}
await runSuite(() => ({ close() {} }));
