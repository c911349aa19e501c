// Features of queues, streams and exchanges that are asked for by arguments.

import assert from 'node:assert/strict';
import { check, define, deletePolicy, nextEvent, Skipped, until } from './contract.js';
import { bodies, channelRefused, confirmed, Consumer, drain, get, numbered, ready, synchronise, unique } from './session.js';

const { deepEqual, equal, ok } = assert;
const text = (message) => message.content.toString();
const quorum = { arguments: { 'x-queue-type': 'quorum' } };
const deadLettering = (grave) => ({ deadLetterExchange: '', deadLetterRoutingKey: grave });

export const isRabbitMQ = (channel) => channel.connection.serverProperties.platform.startsWith('Erlang');

/** Skips a check of what RabbitMQ 4.0 doesn't do, when it is the broker. */
function notInRabbitMQ(channel, what) {
  if (isRabbitMQ(channel)) throw new Skipped(`RabbitMQ lacks ${what}`);
}

/** A queue for dead letters, with a consumer, and one whose dead letters go there. */
async function withGrave(session, channel, options = {}) {
  const grave = await session.queue(channel);
  const dead = await Consumer.start(channel, grave, { noAck: true });
  return { dead, queue: await session.queue(channel, [], { ...deadLettering(grave), ...options }) };
}

// Dead letters

const death = (reason, queue, count = 1) => ({ count, reason, queue, exchange: '', 'routing-keys': [queue] });

/** Expects exactly these headers, and times that are times. */
function expectDeaths(message, deaths, first) {
  const { 'x-death': entries, ...others } = message.properties.headers;
  const seen = entries.map(({ time, ...entry }) => {
    equal(time['!'], 'timestamp');
    return entry;
  });
  deepEqual(seen, deaths);
  const expected = {};
  for (const what of ['reason', 'queue', 'exchange']) {
    expected[`x-first-death-${what}`] = first[what];
    expected[`x-last-death-${what}`] = deaths[0][what];
  }
  deepEqual(others, expected);
}

check('expiry-dead-letters', async (session) => {
  const channel = await session.channel();
  const { dead, queue } = await withGrave(session, channel, { messageTtl: 60_000 });
  const start = performance.now();
  channel.sendToQueue(queue, Buffer.from('old'), { expiration: 100 });
  const letter = await dead.next();
  ok(performance.now() - start >= 99, 'it lasted its time');
  deepEqual([text(letter), letter.properties.expiration], ['old', undefined]);
  const once = { ...death('expired', queue), 'original-expiration': '100' };
  expectDeaths(letter, [once], once);
});

check('a-shorter-expiration-leaves-first', async (session) => {
  const channel = await session.channel();
  notInRabbitMQ(channel, 'expiry behind a message that stays');
  const { dead, queue } = await withGrave(session, channel);
  for (const expiration of ['60000', '250', '50', '150']) {
    channel.sendToQueue(queue, Buffer.from(expiration), { expiration });
  }
  deepEqual(bodies(await dead.take(3)), ['50', '150', '250']);
  deepEqual(await drain(channel, queue), ['60000']);
});

check('unused-queue-expires', async (session) => {
  const channel = await session.confirmChannel();
  const queue = await session.queue(channel, [], { expires: 100 });
  let gone = false;
  channel.on('return', () => {
    gone = true;
  });
  await until(async () => {
    await confirmed(channel, '', queue, '', { mandatory: true });
    return gone;
  }, 'the queue has expired');
});

check('deaths-over-two-rounds', async (session) => {
  const channel = await session.channel();
  const work = session.queueName();
  const retry = session.queueName();
  await channel.assertQueue(work, deadLettering(retry));
  await channel.assertQueue(retry, { ...deadLettering(work), messageTtl: 50 });
  const consumer = await Consumer.start(channel, work);
  channel.sendToQueue(work, Buffer.from('again and again'));
  for (const count of [0, 1, 2]) {
    const message = await consumer.next();
    if (count > 0) {
      const deaths = [death('expired', retry, count), death('rejected', work, count)];
      expectDeaths(message, deaths, deaths[1]);
    }
    channel.reject(message, false);
  }
});

check('max-length-dead-letters', async (session) => {
  const channel = await session.channel();
  for (const limit of [{ maxLength: 2 }, { arguments: { 'x-max-length-bytes': 5 } }]) {
    const { dead, queue } = await withGrave(session, channel, limit);
    for (const body of numbered(4)) channel.sendToQueue(queue, Buffer.from(body));
    const letters = await dead.take(2);
    deepEqual(bodies(letters), numbered(2));
    expectDeaths(letters[0], [death('maxlen', queue)], death('maxlen', queue));
    deepEqual(await drain(channel, queue), ['m2', 'm3']);
  }
});

check('reject-publish-dead-letters', async (session) => {
  const channel = await session.confirmChannel();
  const full = { maxLength: 1, arguments: { 'x-overflow': 'reject-publish-dlx' } };
  const { dead, queue } = await withGrave(session, channel, full);
  deepEqual([await confirmed(channel, '', queue, 'fits'), await confirmed(channel, '', queue, 'too many')], [true, false]);
  deepEqual(bodies(await dead.take(1)), ['too many']);
  deepEqual(await drain(channel, queue), ['fits']);
});

check('dead-letter-exchange-by-policy', async (session) => {
  const channel = await session.channel();
  const grave = await session.queue(channel);
  const queue = await session.queue(channel, ['before', 'after']);
  const dead = await Consumer.start(channel, grave, { noAck: true });
  const name = unique('policy');
  const definition = { 'dead-letter-exchange': '', 'dead-letter-routing-key': grave, 'message-ttl': 60_000 };
  await define({ policies: [{ vhost: '/', name, pattern: `^${queue}$`, 'apply-to': 'queues', definition, priority: 0 }] });
  if (isRabbitMQ(channel)) await new Promise((resolve) => setTimeout(resolve, 200)); // it applies policies a moment later
  channel.reject(await get(channel, queue, {}), false);
  const letter = await dead.next();
  expectDeaths(letter, [death('rejected', queue)], death('rejected', queue));
  await deletePolicy(name);
  if (isRabbitMQ(channel)) await new Promise((resolve) => setTimeout(resolve, 200));
  channel.reject(await get(channel, queue, {}), false);
  await synchronise(channel);
  deepEqual([text(letter), dead.waiting], ['before', 0]);
});

// Turns

async function sendWithPriorities(channel, queue, priorities) {
  for (const priority of priorities) channel.sendToQueue(queue, Buffer.from(String(priority)), { priority });
  await until(async () => (await ready(channel, queue)) === priorities.length, 'the messages are ready');
}

check('priorities-highest-first', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, [], { maxPriority: 10 });
  await sendWithPriorities(channel, queue, [0, 3, 10, 7, 200, 3]);
  deepEqual(await drain(channel, queue), ['10', '200', '7', '3', '3', '0']);
  const another = await session.queue(channel, [], quorum);
  await sendWithPriorities(channel, another, [1, 1, 9]);
  deepEqual(await drain(channel, another), ['9', '1', '1']);
});

check('consumers-by-priority', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel);
  await channel.prefetch(2);
  const low = await Consumer.start(channel, queue, { priority: -1 });
  const high = await Consumer.start(channel, queue, { priority: 5 });
  for (const body of numbered(4)) channel.sendToQueue(queue, Buffer.from(body));
  deepEqual(bodies(await high.take(2)), ['m0', 'm1']);
  deepEqual(bodies(await low.take(2)), ['m2', 'm3']);
});

check('single-active-consumer-is-taken-over-from', async (session) => {
  const channel = await session.channel();
  const queue = await session.queue(channel, [], { arguments: { 'x-single-active-consumer': true } });
  const active = await session.channel();
  const first = await Consumer.start(active, queue);
  const second = await Consumer.start(channel, queue);
  for (const body of numbered(5)) channel.sendToQueue(queue, Buffer.from(body));
  deepEqual(bodies(await first.take(5)), numbered(5));
  await synchronise(channel);
  equal(second.waiting, 0);
  await active.close();
  const again = await second.take(5);
  deepEqual(bodies(again), numbered(5));
  equal(again[0].fields.redelivered, true);
});

check('exclusive-consumer-is-alone', async (session) => {
  const connection = await session.connect();
  const channel = await connection.createChannel();
  const queue = await session.queue(channel);
  await channel.consume(queue, () => {}, { exclusive: true });
  const refusal = `ACCESS_REFUSED - queue '${queue}' in vhost '/' in exclusive use`;
  await channelRefused(connection, 403, refusal, (other) => other.consume(queue, () => {}));
});

check('delivery-limit-and-count', async (session) => {
  const channel = await session.channel();
  const limited = { arguments: { ...quorum.arguments, 'x-delivery-limit': 2 } };
  const { dead, queue } = await withGrave(session, channel, limited);
  const consumer = await Consumer.start(channel, queue);
  channel.sendToQueue(queue, Buffer.from('poison'));
  for (const count of [undefined, 1, 2]) {
    const message = await consumer.next();
    equal(message.properties.headers['x-delivery-count'], count);
    channel.nack(message, false, true);
  }
  const letter = await dead.next();
  equal(text(letter), 'poison');
  expectDeaths(letter, [death('delivery_limit', queue)], death('delivery_limit', queue));
});

check('consumer-timeout', async (session) => {
  const [slow, quick] = [await session.channel(), await session.channel()];
  notInRabbitMQ(slow, 'consumer timeouts below a minute');
  for (const options of [{}, quorum]) {
    const queue = await session.queue(slow, ['late'], options);
    const late = await (await Consumer.start(slow, queue, { arguments: { 'x-consumer-timeout': 100 } })).next();
    const again = await (await Consumer.start(quick, queue)).next();
    deepEqual([text(again), again.fields.redelivered], ['late', true]);
    slow.ack(late);
    await synchronise(slow);
    quick.ack(again);
    await synchronise(quick);
    equal(await ready(quick, queue), 0);
  }
});

check('delayed-retries', async (session) => {
  const channel = await session.channel();
  notInRabbitMQ(channel, 'delayed retries, which came with 4.3');
  // A reject says that the delivery has failed, a nack gives it back.
  const [nack, reject] = [(message) => channel.nack(message, false, true), (message) => channel.reject(message, true)];
  for (const [type, late, soon] of [['failed', reject, nack], ['returned', nack, reject]]) {
    const retries = { 'x-delayed-retry-type': type, 'x-delayed-retry-min': 150, 'x-delayed-retry-max': 200 };
    const queue = await session.queue(channel, [], { arguments: { ...quorum.arguments, ...retries } });
    const consumer = await Consumer.start(channel, queue);
    channel.sendToQueue(queue, Buffer.from('later'));
    const start = performance.now();
    soon(await consumer.next());
    late(await consumer.next());
    equal(text(await consumer.next()), 'later');
    const took = performance.now() - start;
    ok(took >= 199 && took < 2000, `${type}: ${took} ms`);
  }
});

// Streams

const stream = { arguments: { 'x-queue-type': 'stream' } };

async function reader(session, queue, options) {
  const channel = await session.channel();
  await channel.prefetch(100);
  return Consumer.start(channel, queue, { arguments: options });
}

const offsets = (messages) => messages.map((message) => [message.properties.headers['x-stream-offset'], text(message)]);
const from = (first, end) => numbered(end).map((body, offset) => [offset, body]).slice(first);

check('offsets-of-a-stream', async (session) => {
  const channel = await session.confirmChannel();
  const queue = await session.queue(channel, [], stream);
  for (const body of numbered(5)) equal(await confirmed(channel, '', queue, body), true);
  const hourAgo = { '!': 'timestamp', value: Math.floor(Date.now() / 1000) - 3600 };
  const cases = [['first', 0], [3, 3], [hourAgo, 0], ['1h', 0], ['next', 5], [undefined, 5]];
  const readers = [];
  for (const [offset, first] of cases) {
    const consumer = await reader(session, queue, offset === undefined ? {} : { 'x-stream-offset': offset });
    readers.push(consumer);
    deepEqual(offsets(await consumer.take(5 - first)), from(first, 5), `from ${JSON.stringify(offset)}`);
  }
  await confirmed(channel, '', queue, 'm5');
  for (const consumer of readers) deepEqual(offsets(await consumer.take(1)), [[5, 'm5']]);
});

check('filters-of-a-stream', async (session) => {
  const channel = await session.confirmChannel();
  const queue = await session.queue(channel, [], stream);
  for (const colour of ['red', 'blue', 'red']) {
    await confirmed(channel, '', queue, colour, { headers: { 'x-stream-filter-value': colour } });
  }
  await confirmed(channel, '', queue, 'plain');
  const red = await reader(session, queue, { 'x-stream-offset': 'first', 'x-stream-filter': 'red' });
  deepEqual(offsets(await red.take(2)), [[0, 'red'], [2, 'red']]);
  const filter = { 'x-stream-filter': 'blue', 'x-stream-match-unfiltered': true };
  const blue = await reader(session, queue, { 'x-stream-offset': 'first', ...filter });
  deepEqual(offsets(await blue.take(2)), [[1, 'blue'], [3, 'plain']]);
});

// Exchanges

check('delayed-messages-come-at-their-time', async (session) => {
  const channel = await session.channel();
  notInRabbitMQ(channel, 'its plugin for delayed messages');
  const exchange = await session.exchange(channel, 'x-delayed-message', { arguments: { 'x-delayed-type': 'topic' } });
  const queue = await session.queue(channel);
  await channel.bindQueue(queue, exchange, 'plant.#');
  const consumer = await Consumer.start(channel, queue, { noAck: true });
  const start = performance.now();
  for (const [body, delay] of [['slow', 250], ['quick', 100], ['now', 0]]) {
    channel.publish(exchange, 'plant.seven', Buffer.from(body), { headers: { 'x-delay': delay } });
  }
  const messages = await consumer.take(3);
  ok(performance.now() - start >= 249, 'the last came at its time');
  deepEqual(bodies(messages), ['now', 'quick', 'slow']);
  equal(messages[2].properties.headers['x-delay'], -250);
});

check('recent-history-exchange', async (session) => {
  const channel = await session.confirmChannel();
  const length = { arguments: { 'x-recent-history-length': 2 } };
  const exchange = await session.exchange(channel, 'x-recent-history', length);
  for (const body of numbered(4)) await confirmed(channel, exchange, 'any', body);
  const queue = await session.queue(channel);
  const consumer = await Consumer.start(channel, queue, { noAck: true });
  await channel.bindQueue(queue, exchange, '');
  deepEqual(bodies(await consumer.take(2)).sort(), ['m2', 'm3']);
});

check('hashing-and-random-exchanges', async (session) => {
  const channel = await session.confirmChannel();
  for (const type of ['x-consistent-hash', 'x-modulus-hash', 'x-random']) {
    const exchange = await session.exchange(channel, type);
    const queues = [await session.queue(channel), await session.queue(channel)];
    for (const queue of queues) await channel.bindQueue(queue, exchange, '1');
    for (const key of numbered(100)) channel.publish(exchange, key, Buffer.from(key));
    await channel.waitForConfirms();
    const got = [await drain(channel, queues[0]), await drain(channel, queues[1])];
    equal(got[0].length + got[1].length, 100, type);
    ok(Math.min(got[0].length, got[1].length) > 10, `${type}: ${got[0].length} and ${got[1].length}`);
  }
});

// Limits

check('limit-of-queues-of-a-vhost', async (session) => {
  const vhost = unique('vhost');
  const permission = { user: 'guest', vhost, configure: '.*', write: '.*', read: '.*' };
  const parameter = { vhost, component: 'vhost-limits', name: 'limits', value: { 'max-queues': 1 } };
  await define({ vhosts: [{ name: vhost }], permissions: [permission], parameters: [parameter] });
  const connection = await session.connect({}, vhost);
  await (await connection.createChannel()).assertQueue('one', { exclusive: true });
  const refusal = `PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '${vhost}' (1) is reached`;
  await channelRefused(connection, 406, refusal, (channel) => channel.assertQueue('two', { exclusive: true }));
});
