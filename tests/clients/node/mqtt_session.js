// What the checks of mqtt.js share, in Node.js and in a browser.

import { equal, Inbox, soon, text, unique } from './anywhere.js';

export const newTopic = () => `roadstead/t/${unique('')}`;

/** A client whose events can be awaited. */
class Peer {
  constructor(client) {
    this.client = client;
    this.messages = new Inbox();
    this.closes = new Inbox();
    this.connects = new Inbox();
    this.told = undefined;
    client.on('connect', (packet) => this.connects.put(packet));
    client.on('message', (topic, payload, packet) => this.messages.put({ topic, payload, packet }));
    client.on('disconnect', (packet) => {
      this.told = packet.reasonCode;
    });
    client.on('close', () => this.closes.put('close'));
    client.on('error', () => {}); // a check sees that the connection doesn't come
  }

  get id() {
    return this.client.options.clientId;
  }

  async connected() {
    this.connack = await this.connects.next('CONNACK');
    return this;
  }

  /** The codes of SUBACK. */
  async subscribe(filters, options = { qos: 2 }) {
    const granted = await soon(this.client.subscribeAsync(filters, options), 'SUBACK');
    return granted.map(({ qos }) => qos);
  }

  unsubscribe(filters) {
    return soon(this.client.unsubscribeAsync(filters), 'UNSUBACK');
  }

  publish(topic, payload, options = { qos: 1 }) {
    return soon(this.client.publishAsync(topic, payload, options), 'acknowledgement');
  }

  /** Publishes in order, a few at a time, because mqtt.js doesn't look at the broker's receive maximum. */
  async publishAll(topic, payloads, options) {
    for (let start = 0; start < payloads.length; start += 10) {
      await Promise.all(payloads.slice(start, start + 10).map((payload) => this.publish(topic, payload, options)));
    }
  }

  next() {
    return this.messages.next('message');
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  async payloads(count) {
    return (await this.take(count)).map(({ payload }) => text(payload));
  }

  /** The next message's topic, payload, QoS and retain flag have to be these. */
  async expect(topic, payload, qos, retain = false) {
    const { topic: found, payload: body, packet } = await this.next();
    equal([found, text(body), packet.qos, packet.retain], [topic, payload, qos, retain], 'the message');
    return packet.properties ?? {};
  }

  disconnect(options) {
    return soon(this.client.endAsync(false, options), 'end of the connection');
  }

  /** Ends the connection without a word. */
  drop() {
    this.client.options.reconnectPeriod = 0;
    this.client.stream.destroy();
    return this.closes.next('end of the connection');
  }
}

export const VERSIONS = {
  'v3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  'v3.1.1': { protocolVersion: 4 },
  v5: { protocolVersion: 5 },
};

/** One check's clients, on one transport and in one version. */
export class Session {
  #peers = [];
  #retained = new Set();
  #kept = [];

  constructor(mqtt, uri, version = 'v5') {
    this.mqtt = mqtt;
    this.uri = uri;
    this.version = version;
  }

  start(options = {}) {
    const { username, password } = new URL(this.uri);
    const login = username ? { username, password } : {};
    const defaults = { clientId: unique('roadstead'), reconnectPeriod: 0, ...VERSIONS[this.version], ...login };
    const peer = new Peer(this.mqtt.connect(this.uri, { ...defaults, ...options }));
    this.#peers.push(peer);
    return peer;
  }

  connect(options) {
    return this.start(options).connected();
  }

  /** A client whose session stays. */
  kept(clientId = unique('roadstead'), options = {}) {
    const { properties, ...others } = options;
    this.#kept.push(clientId);
    const expiry = this.version === 'v5' ? { properties: { sessionExpiryInterval: 4294967295, ...properties } } : {};
    return this.connect({ clientId, clean: false, ...expiry, ...others });
  }

  async listener(filters, options) {
    const peer = await this.connect();
    await peer.subscribe(filters, options);
    return peer;
  }

  retain(peer, topic, payload, options = {}) {
    this.#retained.add(topic);
    return peer.publish(topic, payload, { qos: 1, ...options, retain: true });
  }

  async close() {
    for (const { client } of this.#peers) client.end(true);
    for (const clientId of this.#kept) {
      const peer = await this.connect({ clientId });
      await peer.disconnect();
    }
    if (this.#retained.size === 0) return;
    const cleaner = await this.connect();
    for (const topic of this.#retained) await cleaner.publish(topic, '', { qos: 1, retain: true });
    await cleaner.disconnect();
  }
}
