import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { check, nextEvent, restartBroker, until } from './contract.js';
import {
  bodies,
  confirmed,
  Consumer,
  digest,
  drain,
  get,
  numbered,
  quiet,
  ready,
  synchronise,
  unique,
  uri,
} from './session.js';

const { deepEqual, equal, match, notEqual, ok } = assert;
const text = (message) => message.content.toString();

// Declarations

check('declare-durable-queue', async (session) => {
  const channel = await session.channel();
  const name = session.queueName();
  deepEqual({ ...(await channel.assertQueue(name)) }, { queue: name, messageCount: 0, consumerCount: 0 });
  channel.sendToQueue(name, Buffer.from('one'));
  await until(async () => (await ready(channel, name)) === 1, 'one message is ready');
  equal((await channel.assertQueue(name)).messageCount, 1);
});

check('declare-passive-counts', async (session) => {
  const channel = await session.channel();
  const name = await session.queue(channel, numbered(3));
  await (await Consumer.start(channel, name)).take(3);
  deepEqual({ ...(await channel.checkQueue(name)) }, { queue: name, messageCount: 0, consumerCount: 1 });
});

check('declare-server-named-queue', async (session) => {
  const channel = await session.channel();
  const first = (await channel.assertQueue('', { exclusive: true })).queue;
  const second = (await channel.assertQueue('', { exclusive: true })).queue;
  match(first, /^amq\.gen-/);
  notEqual(first, second);
  channel.sendToQueue(first, Buffer.from('x'));
  await until(async () => (await ready(channel, first)) === 1, 'the message is routed by the generated name');
});

check('purge-and-delete-return-counts', async (session) => {
  const channel = await session.channel();
  const name = await session.queue(channel, numbered(4));
  equal((await channel.purgeQueue(name)).messageCount, 4);
  channel.sendToQueue(name, Buffer.from('last'));
  await until(async () => (await ready(channel, name)) === 1, 'one message is ready');
  equal((await channel.deleteQueue(name)).messageCount, 1);
  equal((await channel.deleteQueue(name)).messageCount, 0);
});

/** Binds one queue per binding, publishes, and returns what each queue got. */
async function routes(session, type, bindings, messages) {
  const channel = await session.confirmChannel();
  const exchange = await session.exchange(channel, type);
  const queues = [];
  for (const { key = '', match: headers } of bindings) {
    const queue = await session.queue(channel);
    await channel.bindQueue(queue, exchange, key, headers);
    queues.push(queue);
  }
  for (const { key = '', headers, body } of messages) await confirmed(channel, exchange, key, body, { headers });
  return Promise.all(queues.map((queue) => drain(channel, queue)));
}

const routesKeys = (session, type, patterns, keys) =>
  routes(
    session,
    type,
    patterns.map((key) => ({ key })),
    keys.map((key) => ({ key, body: key })),
  );

check('exchange-direct', async (session) => {
  deepEqual(await routesKeys(session, 'direct', ['a', 'b'], ['a', 'b', 'c']), [['a'], ['b']]);
});

check('exchange-fanout', async (session) => {
  deepEqual(await routesKeys(session, 'fanout', ['', 'x'], ['a', 'b']), [
    ['a', 'b'],
    ['a', 'b'],
  ]);
});

check('exchange-topic', async (session) => {
  const got = await routesKeys(session, 'topic', ['a.*', 'a.#', '*.*.c', '#'], ['a', 'a.b', 'a.b.c', 'x']);
  deepEqual(got, [['a.b'], ['a', 'a.b', 'a.b.c'], ['a.b.c'], ['a', 'a.b', 'a.b.c', 'x']]);
});

check('exchange-headers', async (session) => {
  const wanted = { shape: 'round', size: 1 };
  const bindings = [{ match: { 'x-match': 'all', ...wanted } }, { match: { 'x-match': 'any', ...wanted } }];
  const messages = [
    { body: 'both', headers: { shape: 'round', size: 1, more: true } },
    { body: 'shape', headers: { shape: 'round' } },
    { body: 'neither', headers: { size: 2 } },
  ];
  deepEqual(await routes(session, 'headers', bindings, messages), [['both'], ['both', 'shape']]);
});

check('exchange-to-exchange-binding', async (session) => {
  const channel = await session.confirmChannel();
  const source = await session.exchange(channel, 'topic');
  const target = await session.exchange(channel, 'fanout');
  const queue = await session.queue(channel);
  await channel.bindQueue(queue, target, '');
  await channel.bindExchange(target, source, 'in.#');
  await confirmed(channel, source, 'in.one', 'through');
  deepEqual(await drain(channel, queue), ['through']);
  await channel.unbindExchange(target, source, 'in.#');
  await confirmed(channel, source, 'in.two', 'too late');
  deepEqual(await drain(channel, queue), []);
});

check('alternate-exchange', async (session) => {
  const channel = await session.confirmChannel();
  const alternateExchange = await session.exchange(channel, 'fanout');
  const exchange = await session.exchange(channel, 'direct', { alternateExchange });
  const queue = await session.queue(channel);
  await channel.bindQueue(queue, alternateExchange, '');
  await confirmed(channel, exchange, 'unbound', 'caught', { mandatory: true });
  deepEqual(await drain(channel, queue), ['caught']);
});

// Publishing

check('publish-with-confirms', async (session) => {
  const channel = await session.confirmChannel();
  const queue = await session.queue(channel);
  for (const body of numbered(1000)) channel.sendToQueue(queue, Buffer.from(body), { persistent: true });
  await channel.waitForConfirms();
  equal(await ready(channel, queue), 1000);
  deepEqual(await drain(channel, queue), numbered(1000));
});

check('mandatory-return', async (session) => {
  const channel = await session.channel();
  const returned = nextEvent(channel, 'return');
  const missing = unique('nowhere');
  channel.publish('', missing, Buffer.from('back'), { mandatory: true, messageId: '7' });
  const { fields, properties, content } = await returned;
  deepEqual({ ...fields }, { replyCode: 312, replyText: 'NO_ROUTE', exchange: '', routingKey: missing });
  deepEqual([properties.messageId, content.toString()], ['7', 'back']);
});

check('mandatory-return-before-its-confirm', async (session) => {
  const channel = await session.confirmChannel();
  const returns = [];
  channel.on('return', (message) => returns.push(text(message)));
  equal(await confirmed(channel, '', unique('nowhere'), 'back', { mandatory: true }), true);
  deepEqual(returns, ['back']);
  equal(await confirmed(channel, '', unique('nowhere'), 'dropped'), true);
  deepEqual(returns, ['back']);
});

check('reject-publish-nacks', async (session) => {
  const channel = await session.confirmChannel();
  const queue = await session.queue(channel, [], { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
  equal(await confirmed(channel, '', queue, 'fits'), true);
  equal(await confirmed(channel, '', queue, 'too many'), false);
  deepEqual(await drain(channel, queue), ['fits']);
});

check('message-sizes', async (session) => {
  const channel = await session.confirmChannel();
  const queue = await session.queue(channel);
  for (const size of [0, 1, 128 * 1024 - 8, 128 * 1024 + 1, 1_000_000, 16 * 1024 * 1024]) {
    const sent = randomBytes(size);
    equal(await confirmed(channel, '', queue, sent, { mandatory: true }), true);
    const received = (await get(channel, queue)).content;
    deepEqual([received.length, digest(received)], [size, digest(sent)]);
  }
});

check('properties-round-trip', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel);
  const sent = {
    contentType: 'text/plain',
    contentEncoding: 'gzip',
    headers: { k: 'v' },
    deliveryMode: 2,
    priority: 9,
    correlationId: 'correlation',
    replyTo: 'reply.queue',
    expiration: '60000',
    messageId: 'message',
    timestamp: 1_700_000_000,
    type: 'kind',
    userId: decodeURIComponent(uri.username),
    appId: 'suite',
  };
  channel.sendToQueue(queue, Buffer.from('x'), sent);
  await synchronise(channel);
  const { properties } = await get(channel, queue);
  deepEqual({ ...properties, headers: { ...properties.headers } }, { ...sent, clusterId: undefined });
});

check('header-types-round-trip', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel);
  const typed = (type, value) => ({ '!': type, value });
  const sent = {
    byte: -5,
    short: -300,
    int: 70000,
    long: 2 ** 40,
    double: 1.5,
    float: typed('float', 0.25),
    unsignedByte: typed('uint8', 200),
    unsignedShort: typed('uint16', 60_000),
    unsignedInt: typed('uint32', 4_000_000_000),
    decimal: typed('decimal', { places: 2, digits: 314 }),
    timestamp: typed('timestamp', 1_700_000_000),
    yes: true,
    nothing: null,
    string: 'grüße ☃',
    bytes: Buffer.from([0, 255]),
    table: { inner: { deep: [1, 'two', null, true, [1.25]] } },
  };
  channel.sendToQueue(queue, Buffer.from('x'), { headers: sent });
  await synchronise(channel);
  const received = { ...(await get(channel, queue)).properties.headers };
  deepEqual(received, { ...sent, float: 0.25, unsignedByte: 200, unsignedShort: 60_000, unsignedInt: 4_000_000_000 });
});

// Consuming

check('consume-with-manual-acks', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(10));
  const messages = await (await Consumer.start(channel, queue, { consumerTag: 'reader' })).take(10);
  deepEqual(bodies(messages), numbered(10));
  messages.forEach(({ fields }, index) => {
    const expected = { consumerTag: 'reader', deliveryTag: index + 1, redelivered: false, exchange: '', routingKey: queue };
    deepEqual({ ...fields }, expected);
  });
  for (const message of messages) channel.ack(message);
  await channel.close();
  equal(await ready(await session.channel(), queue), 0);
});

check('get-and-get-empty', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(2));
  const message = await get(channel, queue, {});
  deepEqual([message.fields.messageCount, message.fields.redelivered, text(message)], [1, false, 'm0']);
  channel.ack(message);
  equal(text(await get(channel, queue)), 'm1');
  equal(await channel.get(queue), false);
});

check('ack-multiple', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(6));
  channel.ack((await (await Consumer.start(channel, queue)).take(6))[3], true);
  await channel.close();
  deepEqual(await drain(await session.channel(), queue), ['m4', 'm5']);
});

check('nack-requeue-keeps-the-order', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(5));
  const held = [await get(channel, queue, {}), await get(channel, queue, {}), await get(channel, queue, {})];
  for (const index of [1, 0, 2]) channel.nack(held[index], false, true);
  for (const [index, body] of numbered(5).entries()) {
    const message = await get(channel, queue);
    deepEqual([text(message), message.fields.redelivered], [body, index < 3]);
  }
});

check('nack-all', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(3));
  for (let count = 0; count < 3; count += 1) await get(channel, queue, {});
  channel.nackAll(true);
  await synchronise(channel);
  deepEqual(await drain(channel, queue), numbered(3));
});

check('reject-requeue-and-drop', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, ['m']);
  channel.reject(await get(channel, queue, {}), true);
  const again = await get(channel, queue, {});
  equal(again.fields.redelivered, true);
  channel.reject(again, false);
  await synchronise(channel);
  equal(await channel.get(queue), false);
});

check('reject-dead-letters', async (session) => {
  const channel = await session.channel();
  const grave = await session.queue(channel);
  const queue = await session.queue(channel, ['bad'], { deadLetterExchange: '', deadLetterRoutingKey: grave });
  const dead = await Consumer.start(channel, grave, { noAck: true });
  channel.reject(await get(channel, queue, {}), false);
  const message = await dead.next();
  const { time, ...death } = message.properties.headers['x-death'][0];
  equal(time['!'], 'timestamp');
  deepEqual(death, { count: 1, reason: 'rejected', queue, exchange: '', 'routing-keys': [queue] });
  equal(text(message), 'bad');
});

check('unacked-messages-return-when-the-channel-goes', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(3));
  await (await Consumer.start(channel, queue)).take(3);
  await channel.close();
  const again = await (await Consumer.start(await session.channel(), queue)).take(3);
  deepEqual(bodies(again), numbered(3));
  deepEqual(new Set(again.map(({ fields }) => fields.redelivered)), new Set([true]));
});

check('recover-requeues', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(2));
  const consumer = await Consumer.start(channel, queue);
  await consumer.take(2);
  await channel.recover();
  const again = await consumer.take(2);
  deepEqual(
    again.map((message) => [text(message), message.fields.redelivered]),
    [
      ['m0', true],
      ['m1', true],
    ],
  );
});

check('prefetch-per-consumer', async (session) => {
  const channel = await session.channel();
  const queues = [await session.queue(channel, numbered(6)), await session.queue(channel, numbered(6))];
  await channel.prefetch(2);
  for (const queue of queues) {
    const consumer = await Consumer.start(channel, queue);
    const [first] = await consumer.take(2);
    equal(await ready(channel, queue), 4);
    equal(consumer.waiting, 0);
    channel.ack(first);
    equal(text(await consumer.next()), 'm2');
  }
});

check('consumer-priority', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel);
  const low = await Consumer.start(channel, queue, { noAck: true, priority: 1 });
  const high = await Consumer.start(channel, queue, { noAck: true, priority: 5 });
  for (const body of numbered(4)) channel.sendToQueue(queue, Buffer.from(body));
  deepEqual(bodies(await high.take(4)), numbered(4));
  equal(low.waiting, 0);
});

check('cancel-keeps-unacked-deliveries', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, numbered(2));
  const consumer = await Consumer.start(channel, queue);
  const [first, second] = await consumer.take(2);
  await channel.cancel(consumer.tag);
  equal((await channel.checkQueue(queue)).consumerCount, 0);
  channel.ack(first);
  channel.nack(second);
  await synchronise(channel);
  deepEqual(await drain(channel, queue), ['m1']);
});

check('consumer-cancel-notify', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel);
  const orphan = await Consumer.start(channel, queue);
  const cancelled = orphan.next();
  await (await session.channel()).deleteQueue(queue);
  equal(await cancelled, null);
  await synchronise(channel);
});

check('delete-ok-before-the-cancel-of-its-own-consumer', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel);
  const order = [];
  const orphan = await Consumer.start(channel, queue);
  const cancelled = orphan.next().then(() => order.push('cancel'));
  await Promise.all([channel.deleteQueue(queue).then(() => order.push('delete-ok')), cancelled]);
  deepEqual(order, ['delete-ok', 'cancel']);
});

check('direct-reply-to', async (session) => {
  const client = await session.channel();
  const server = await session.channel();
  const requests = await session.queue(server);
  const replies = await Consumer.start(client, 'amq.rabbitmq.reply-to', { noAck: true });
  client.sendToQueue(requests, Buffer.from('ping'), { replyTo: 'amq.rabbitmq.reply-to', correlationId: '1' });
  const request = await (await Consumer.start(server, requests, { noAck: true })).next();
  const { replyTo, correlationId } = request.properties;
  match(replyTo, /^amq\.rabbitmq\.reply-to\../);
  server.sendToQueue(replyTo, Buffer.from(`${text(request)} pong`), { correlationId });
  const reply = await replies.next();
  deepEqual([reply.properties.correlationId, text(reply)], ['1', 'ping pong']);
});

// Connections

check(
  'two-thousand-channels',
  async (session) => {
    const connection = await session.connect();
    const channels = [];
    for (let count = 0; count < 2000; count += 1) channels.push(quiet(await connection.createChannel()));
    const queue = await session.queue(channels[0]);
    channels.forEach((channel, index) => channel.sendToQueue(queue, Buffer.from(String(index))));
    await Promise.all(channels.map(synchronise));
    const expected = new Set(channels.map((_, index) => String(index)));
    deepEqual(new Set(await drain(channels[1500], queue)), expected);
  },
  40_000,
);

check('update-secret', async (session) => {
  const connection = await session.connect();
  const updated = nextEvent(connection, 'update-secret-ok');
  await connection.updateSecret(Buffer.from(decodeURIComponent(uri.password)), 'renewal');
  await updated;
  ok((await (await connection.createChannel()).assertQueue('', { exclusive: true })).queue);
});

// A restart: what was confirmed is still there, and the client's own recovery comes back.

check(
  'restart-and-automatic-recovery',
  async (session) => {
    const channel = await session.confirmChannel();
    const exchange = await session.exchange(channel, 'topic');
    const queue = await session.queue(channel);
    await channel.bindQueue(queue, exchange, 'kept.*');
    for (const body of numbered(5)) await confirmed(channel, exchange, 'kept.now', body, { persistent: true });
    await confirmed(channel, exchange, 'kept.now', 'transient');
    const recovering = await recoveringConsumer(session, exchange);
    const closed = nextEventEver(channel, 'close');

    await restartBroker();

    await closed;
    const fresh = await session.confirmChannel();
    deepEqual(await drain(fresh, queue), numbered(5));
    await recovering.setUpAgain;
    await confirmed(fresh, exchange, 'recovered.now', 'after', { mandatory: true });
    equal(text(await recovering.consumer().next()), 'after');
  },
  60_000,
);

const nextEventEver = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

/** A consumer that the client's recovery sets up again after the restart. */
async function recoveringConsumer(session, exchange) {
  let consumer;
  let setUps = 0;
  let again;
  const setUpAgain = new Promise((resolve) => {
    again = resolve;
  });
  const setup = async (model) => {
    const channel = quiet(await model.createChannel());
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, exchange, 'recovered.#');
    consumer = await Consumer.start(channel, queue, { noAck: true });
    setUps += 1;
    if (setUps === 2) again();
  };
  await session.connect({ recovery: { initialDelay: 50, maxDelay: 200, setup } });
  return { setUpAgain, consumer: () => consumer };
}
