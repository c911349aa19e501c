import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import amqp from 'amqplib';
import { nextEvent, soon, until } from './contract.js';

export const uri = new URL(process.env.AMQP_URI ?? 'missing:AMQP_URI');
export const vhost = decodeURIComponent(uri.pathname.slice(1));

export const unique = (kind) => `roadstead.${kind}.${randomBytes(6).toString('hex')}`;
export const numbered = (count) => Array.from({ length: count }, (_, number) => `m${number}`);
export const digest = (body) => createHash('sha256').update(body).digest('hex');

/** One check's connections, and the durable things that it must not leave behind. */
export class Session {
  #connections = [];
  #queues = [];
  #exchanges = [];

  async connect(options = {}, vhost = undefined) {
    const url = new URL(uri);
    if (vhost !== undefined) url.pathname = encodeURIComponent(vhost);
    // Without it, each round trip takes the 40 ms after which a kernel acknowledges what it got.
    const connection = await amqp.connect(url.href, { noDelay: true, ...options });
    connection.on('error', () => {}); // checks that expect one listen for themselves
    this.#connections.push(connection);
    return connection;
  }

  async channel() {
    return quiet(await (await this.connect()).createChannel());
  }

  async confirmChannel() {
    return quiet(await (await this.connect()).createConfirmChannel());
  }

  queueName() {
    this.#queues.push(unique('q'));
    return this.#queues.at(-1);
  }

  exchangeName() {
    this.#exchanges.push(unique('x'));
    return this.#exchanges.at(-1);
  }

  /** A new durable queue that holds `bodies`. */
  async queue(channel, bodies = [], options = {}) {
    const { queue } = await channel.assertQueue(this.queueName(), options);
    for (const body of bodies) channel.sendToQueue(queue, Buffer.from(body));
    await until(async () => (await ready(channel, queue)) === bodies.length, 'the messages are ready');
    return queue;
  }

  async exchange(channel, type, options = {}) {
    return (await channel.assertExchange(this.exchangeName(), type, options)).exchange;
  }

  async close() {
    for (const connection of this.#connections) {
      await connection.close().catch(() => {}); // a check may have made the broker close it
    }
    if (this.#queues.length + this.#exchanges.length === 0) return;
    const connection = await amqp.connect(uri.href, { noDelay: true });
    const channel = await connection.createChannel();
    for (const name of this.#queues) await channel.deleteQueue(name);
    for (const name of this.#exchanges) await channel.deleteExchange(name);
    await connection.close();
  }
}

export function quiet(channel) {
  channel.on('error', () => {});
  return channel;
}

export const ready = async (channel, queue) => (await channel.checkQueue(queue)).messageCount;

/** Returns when the broker has handled everything sent before. */
export const synchronise = (channel) => channel.prefetch(0);

/** Publishes in confirm mode; resolves to whether the broker took the message. */
export function confirmed(channel, exchange, key, body, options = {}) {
  const answer = new Promise((resolve) => {
    channel.publish(exchange, key, Buffer.from(body), options, (error) => resolve(error === null));
  });
  return soon(answer, 'confirm');
}

export async function get(channel, queue, options = { noAck: true }) {
  const message = await channel.get(queue, options);
  assert.notEqual(message, false, `${queue} is empty`);
  return message;
}

export async function drain(channel, queue) {
  const bodies = [];
  for (;;) {
    const message = await channel.get(queue, { noAck: true });
    if (message === false) return bodies;
    bodies.push(message.content.toString());
  }
}

/** A consumer whose deliveries can be awaited one by one; a cancel notification arrives as null. */
export class Consumer {
  #arrived = [];
  #wanted = [];

  static async start(channel, queue, options = {}) {
    const consumer = new Consumer();
    const { consumerTag } = await channel.consume(queue, (message) => consumer.#receive(message), options);
    consumer.tag = consumerTag;
    return consumer;
  }

  #receive(message) {
    const wanted = this.#wanted.shift();
    if (wanted) wanted(message);
    else this.#arrived.push(message);
  }

  get waiting() {
    return this.#arrived.length;
  }

  next() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return soon(new Promise((resolve) => this.#wanted.push(resolve)), 'delivery');
  }

  async take(count) {
    const messages = [];
    while (messages.length < count) messages.push(await this.next());
    return messages;
  }
}

export const bodies = (messages) => messages.map((message) => message.content.toString());

/** Expects the broker to close the channel that `attempt` uses, with this code and exact text. */
export async function channelRefused(connection, code, text, ...attempts) {
  for (const attempt of attempts) {
    const channel = await connection.createConfirmChannel();
    const closed = nextEvent(channel, 'error');
    Promise.resolve(attempt(channel)).catch(() => {}); // the call itself is rejected too
    expectReason(await closed, code, text);
  }
}

export async function connectionRefused(connection, code, text, attempt) {
  const closed = nextEvent(connection, 'error');
  const channel = quiet(await connection.createChannel());
  Promise.resolve(attempt(channel)).catch(() => {});
  expectReason(await closed, code, text);
}

export function expectReason(error, code, text) {
  assert.equal(error.code, code, error.message);
  const quoted = JSON.stringify(text);
  assert.ok(error.message.includes(quoted), `${error.message} does not contain ${quoted}`);
}
