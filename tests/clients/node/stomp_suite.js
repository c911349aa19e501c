// stompjs over WebSocket, as pages in browsers use it, against the broker in STOMP_WS_URI; users and passwords are those of STOMP_URI.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { check, restartBroker, runSuite, soon } from './contract.js';

const { deepEqual, equal, ok } = assert;
const { STOMP_URI: tcp, STOMP_WS_URI: ws } = process.env;
if (!tcp || !ws) {
  console.error('set STOMP_URI and STOMP_WS_URI, e.g. stomp://guest:guest@127.0.0.1:61613 and ws://127.0.0.1:15674/ws');
  process.exit(2);
}
const { username: login, password: passcode } = new URL(tcp.replace('stomp:', 'http:'));
const EXPIRES = { 'x-expires': '60000' };
const unique = (kind) => `roadstead.${kind}.${randomUUID().slice(0, 13)}`;

/** What comes one after the other, to be awaited. */
class Events {
  #ready = [];
  #waiting = [];

  push(event) {
    const waiting = this.#waiting.shift();
    waiting ? waiting(event) : this.#ready.push(event);
  }

  next(what) {
    return soon(
      new Promise((resolve) => (this.#ready.length > 0 ? resolve(this.#ready.shift()) : this.#waiting.push(resolve))),
      what,
    );
  }
}

class Peer {
  messages = new Events();
  errors = new Events();
  #connected = new Events();
  #receipts = 0;

  constructor(options) {
    this.client = new Client({
      webSocketFactory: () => new WebSocket(ws, ['v12.stomp', 'v11.stomp', 'v10.stomp']),
      connectHeaders: { login, passcode, host: '/' },
      heartbeatIncoming: 0,
      heartbeatOutgoing: 0,
      reconnectDelay: 0,
      onConnect: (frame) => this.#connected.push(frame),
      onStompError: (frame) => this.errors.push(frame),
      ...options,
    });
    this.client.activate();
  }

  connected() {
    return this.#connected.next('CONNECTED');
  }

  /** Waits for the receipt of what `act` does with it. */
  async receipt(act) {
    const receipt = `r${(this.#receipts += 1)}`;
    const told = new Promise((resolve) => this.client.watchForReceipt(receipt, resolve));
    act(receipt);
    await soon(told, 'receipt');
  }

  subscribe(destination, headers = {}) {
    return this.receipt((receipt) => {
      this.subscription = this.client.subscribe(destination, (message) => this.messages.push(message), {
        receipt,
        ...headers,
      });
    });
  }

  send(destination, body, headers = {}) {
    const content = typeof body === 'string' ? { body } : { binaryBody: body };
    return this.receipt((receipt) => this.client.publish({ destination, ...content, headers: { receipt, ...headers } }));
  }

  next() {
    return this.messages.next('message');
  }
}

class Session {
  #peers = [];

  async peer(options) {
    const peer = new Peer(options);
    this.#peers.push(peer);
    peer.frame = await peer.connected();
    return peer;
  }

  unconnected(options) {
    const peer = new Peer(options);
    this.#peers.push(peer);
    return peer;
  }

  async close() {
    await Promise.all(this.#peers.map((peer) => peer.client.deactivate({ force: true })));
  }
}

for (const [name, forceBinaryWSFrames] of [['text', false], ['binary', true]]) {
  check(`send-and-subscribe-in-${name}-frames`, async (session) => {
    const [peer, queue] = [await session.peer({ forceBinaryWSFrames }), `/queue/${unique('q')}`];
    await peer.subscribe(queue, EXPIRES);
    for (const body of ['hällo', 'ü'.repeat(300_000), '']) {
      await peer.send(queue, body, { colour: 'a:b\nc', persistent: 'true' });
      const message = await peer.next();
      ok(message.body === body, `another body of ${message.body.length} characters`);
      equal(message.headers.colour, 'a:b\nc');
    }
    await peer.send(queue, Uint8Array.of(0, 255, 10, 0), { 'content-type': 'application/octet-stream' });
    deepEqual([...(await peer.next()).binaryBody], [0, 255, 10, 0]);
  });
}

check('versions', async (session) => {
  for (const version of ['1.0', '1.1', '1.2']) {
    const peer = await session.peer({ stompVersions: { versions: [version], supportedVersions: () => version, protocolVersions: () => [] } });
    equal(peer.frame.headers.version, version);
  }
});

check('refused-login', async (session) => {
  const peer = session.unconnected({ connectHeaders: { login, passcode: 'wrong', host: '/' } });
  const error = await peer.errors.next('ERROR');
  deepEqual([error.headers.message, error.body], ['Bad CONNECT', `Access refused for user '${login}'`]);
});

check('acknowledgements', async (session) => {
  const [peer, queue] = [await session.peer(), `/queue/${unique('q')}`];
  await peer.subscribe(queue, { ack: 'client-individual', ...EXPIRES });
  for (const body of ['0', '1', '2']) await peer.send(queue, body);
  const messages = [await peer.next(), await peer.next(), await peer.next()];
  messages[1].ack();
  messages[0].nack();
  const again = await peer.next();
  deepEqual([again.body, again.headers.redelivered], ['0', 'true']);
  await peer.receipt((receipt) => peer.client.unsubscribe(peer.subscription.id, { receipt }));
  await peer.client.deactivate();
  const other = await session.peer();
  await other.subscribe(queue, EXPIRES);
  deepEqual([(await other.next()).body, (await other.next()).body], ['0', '2']);
});

check('transactions', async (session) => {
  const [peer, queue] = [await session.peer(), `/queue/${unique('q')}`];
  await peer.subscribe(queue, EXPIRES);
  for (const outcome of ['abort', 'commit']) {
    const transaction = peer.client.begin();
    peer.client.publish({ destination: queue, body: outcome, headers: { transaction: transaction.id } });
    transaction[outcome]();
  }
  equal((await peer.next()).body, 'commit');
});

check('heart-beats', async (session) => {
  const beats = new Events();
  const debug = (line) => line === '<<< PONG' && beats.push(line);
  const peer = await session.peer({ heartbeatIncoming: 1000, heartbeatOutgoing: 1000, debug });
  equal(peer.frame.headers['heart-beat'], '1000,1000');
  for (let count = 0; count < 3; count += 1) await beats.next('heart-beat');
  ok(peer.client.connected);
});

check('replies', async (session) => {
  const [asks, answers, queue] = [await session.peer(), await session.peer(), `/queue/${unique('q')}`];
  await answers.subscribe(queue, EXPIRES);
  const answer = new Events();
  asks.client.onUnhandledMessage = (message) => answer.push(message);
  await asks.send(queue, 'question', { 'reply-to': '/temp-queue/answers' });
  await answers.send((await answers.next()).headers['reply-to'], 'answer');
  const { body, headers } = await answer.next('answer');
  deepEqual([body, headers.subscription], ['answer', '/temp-queue/answers']);
});

check('restart', async (session) => {
  const [topic, options] = [`/topic/${unique('t')}`, { id: 'kept', durable: 'true', 'auto-delete': 'false' }];
  const subscriber = await session.peer();
  await subscriber.subscribe(topic, options);
  await subscriber.client.deactivate();
  const returning = await session.peer({ reconnectDelay: 50 });
  await returning.send(topic, 'before', { persistent: 'true' });
  await restartBroker();
  await returning.connected();
  await returning.send(topic, 'after', { persistent: 'true' });
  await returning.subscribe(topic, options);
  deepEqual([(await returning.next()).body, (await returning.next()).body], ['before', 'after']);
  await returning.receipt((receipt) => returning.client.unsubscribe('kept', { receipt, durable: 'true' }));
}, 60_000);

await runSuite(() => new Session());
