// The checks of stompjs over WebSocket, for Node.js and for a browser.

import { equal, Inbox, soon, unique } from './anywhere.js';

const EXPIRES = { 'x-expires': '60000' };
const newName = (kind) => `roadstead.${kind}.${unique('')}`;

class Peer {
  messages = new Inbox();
  errors = new Inbox();
  #connected = new Inbox();
  #receipts = 0;

  constructor(Client, WebSocket, { ws, login, passcode }, options) {
    this.client = new Client({
      webSocketFactory: () => new WebSocket(ws, ['v12.stomp', 'v11.stomp', 'v10.stomp']),
      connectHeaders: { login, passcode, host: '/' },
      heartbeatIncoming: 0,
      heartbeatOutgoing: 0,
      reconnectDelay: 0,
      onConnect: (frame) => this.#connected.put(frame),
      onStompError: (frame) => this.errors.put(frame),
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
      this.subscription = this.client.subscribe(destination, (message) => this.messages.put(message), {
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
  #means;
  #peers = [];

  constructor(...means) {
    this.#means = means;
  }

  async peer(options) {
    const peer = this.unconnected(options);
    peer.frame = await peer.connected();
    return peer;
  }

  unconnected(options) {
    const peer = new Peer(...this.#means, options);
    this.#peers.push(peer);
    return peer;
  }

  async close() {
    await Promise.all(this.#peers.map((peer) => peer.client.deactivate({ force: true })));
  }
}

/** All checks; each opens its connections by `Client`, over `WebSocket`, to where `facts` says and as whom. */
export function stompChecks(Client, WebSocket, facts, restartBroker) {
  const checks = [];
  const check = (name, test, milliseconds) => checks.push({ name, milliseconds, run: () => within(test) });
  async function within(test) {
    const session = new Session(Client, WebSocket, facts);
    try {
      await test(session);
    } finally {
      await session.close();
    }
  }

  for (const [name, forceBinaryWSFrames] of [['text', false], ['binary', true]]) {
    check(`send-and-subscribe-in-${name}-frames`, async (session) => {
      const [peer, queue] = [await session.peer({ forceBinaryWSFrames }), `/queue/${newName('q')}`];
      await peer.subscribe(queue, EXPIRES);
      for (const body of ['hällo', 'ü'.repeat(300_000), '']) {
        await peer.send(queue, body, { colour: 'a:b\nc', persistent: 'true' });
        const message = await peer.next();
        equal(message.body === body, true, `whether the body of ${message.body.length} characters is the same`);
        equal(message.headers.colour, 'a:b\nc');
      }
      await peer.send(queue, Uint8Array.of(0, 255, 10, 0), { 'content-type': 'application/octet-stream' });
      equal([...(await peer.next()).binaryBody], [0, 255, 10, 0]);
    });
  }

  check('versions', async (session) => {
    for (const version of ['1.0', '1.1', '1.2']) {
      const peer = await session.peer({ stompVersions: { versions: [version], supportedVersions: () => version, protocolVersions: () => [] } });
      equal(peer.frame.headers.version, version);
    }
  });

  check('refused-login', async (session) => {
    const peer = session.unconnected({ connectHeaders: { login: facts.login, passcode: 'wrong', host: '/' } });
    const error = await peer.errors.next('ERROR');
    equal([error.headers.message, error.body], ['Bad CONNECT', `Access refused for user '${facts.login}'`]);
  });

  check('acknowledgements', async (session) => {
    const [peer, queue] = [await session.peer(), `/queue/${newName('q')}`];
    await peer.subscribe(queue, { ack: 'client-individual', ...EXPIRES });
    for (const body of ['0', '1', '2']) await peer.send(queue, body);
    const messages = [await peer.next(), await peer.next(), await peer.next()];
    messages[1].ack();
    messages[0].nack();
    const again = await peer.next();
    equal([again.body, again.headers.redelivered], ['0', 'true']);
    await peer.receipt((receipt) => peer.client.unsubscribe(peer.subscription.id, { receipt }));
    await peer.client.deactivate();
    const other = await session.peer();
    await other.subscribe(queue, EXPIRES);
    equal([(await other.next()).body, (await other.next()).body], ['0', '2']);
  });

  check('transactions', async (session) => {
    const [peer, queue] = [await session.peer(), `/queue/${newName('q')}`];
    await peer.subscribe(queue, EXPIRES);
    for (const outcome of ['abort', 'commit']) {
      const transaction = peer.client.begin();
      peer.client.publish({ destination: queue, body: outcome, headers: { transaction: transaction.id } });
      transaction[outcome]();
    }
    equal((await peer.next()).body, 'commit');
  });

  check('heart-beats', async (session) => {
    const beats = new Inbox();
    const debug = (line) => line === '<<< PONG' && beats.put(line);
    const peer = await session.peer({ heartbeatIncoming: 1000, heartbeatOutgoing: 1000, debug });
    equal(peer.frame.headers['heart-beat'], '1000,1000');
    for (let count = 0; count < 3; count += 1) await beats.next('heart-beat');
    equal(peer.client.connected, true);
  });

  check('replies', async (session) => {
    const [asks, answers, queue] = [await session.peer(), await session.peer(), `/queue/${newName('q')}`];
    await answers.subscribe(queue, EXPIRES);
    const answer = new Inbox();
    asks.client.onUnhandledMessage = (message) => answer.put(message);
    await asks.send(queue, 'question', { 'reply-to': '/temp-queue/answers' });
    await answers.send((await answers.next()).headers['reply-to'], 'answer');
    const { body, headers } = await answer.next('answer');
    equal([body, headers.subscription], ['answer', '/temp-queue/answers']);
  });

  check('restart', async (session) => {
    const [topic, options] = [`/topic/${newName('t')}`, { id: 'kept', durable: 'true', 'auto-delete': 'false' }];
    const subscriber = await session.peer();
    await subscriber.subscribe(topic, options);
    await subscriber.client.deactivate();
    const returning = await session.peer({ reconnectDelay: 50 });
    await returning.send(topic, 'before', { persistent: 'true' });
    await restartBroker();
    await returning.connected();
    await returning.send(topic, 'after', { persistent: 'true' });
    await returning.subscribe(topic, options);
    equal([(await returning.next()).body, (await returning.next()).body], ['before', 'after']);
    await returning.receipt((receipt) => returning.client.unsubscribe('kept', { receipt, durable: 'true' }));
  }, 60_000);
  return checks;
}
