// A page in a headless Chromium that runs checks one by one.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { restartBroker, within } from './contract.js';

const { CHROMIUM: chromium = 'chromium' } = process.env;
const START_MILLISECONDS = 15_000;
// No sandbox, because root may run this; the rest keeps it from looking for other machines.
const OPTIONS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-extensions'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
];
const FILES = { '/': 'browser/index.html', '/page.js': 'browser/page.js', '/anywhere.js': 'anywhere.js' };

/** The page, which asks for its next check with the result of the last one. */
export class Page {
  #server = createServer((request, response) => this.#answer(request, response));
  #browser;
  #profile = mkdtempSync(join(tmpdir(), 'roadstead-chromium-'));
  #files;
  #facts;
  #waiting;
  #report;
  #restartFailure;

  /** `files` are those of its checks, by their paths; one of them is /checks.js, which is told `facts`. */
  constructor(files, facts) {
    this.#files = { ...FILES, ...files };
    this.#facts = facts;
    process.on('exit', () => this.close());
  }

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
    if (request.url === '/facts') return response.end(JSON.stringify(this.#facts));
    const file = this.#files[request.url];
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
