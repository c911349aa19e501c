// The error paths: each asserts the code and the exact text, which clients match on.

import assert from 'node:assert/strict';
import amqp from 'amqplib';
import { check } from './contract.js';
import { channelRefused, connectionRefused, Consumer, unique, uri, vhost } from './session.js';

const body = Buffer.from('x');

check('404-missing-queue', async (session) => {
  const missing = unique('missing');
  await channelRefused(
    await session.connect(),
    404,
    `NOT_FOUND - no queue '${missing}' in vhost '${vhost}'`,
    (channel) => channel.checkQueue(missing),
    (channel) => channel.get(missing),
    (channel) => channel.consume(missing, () => {}),
    (channel) => channel.purgeQueue(missing),
    (channel) => channel.bindQueue(missing, 'amq.direct', 'k'),
  );
});

check('404-missing-exchange', async (session) => {
  const connection = await session.connect();
  const queue = await session.queue(await connection.createChannel());
  const missing = unique('missing');
  await channelRefused(
    connection,
    404,
    `NOT_FOUND - no exchange '${missing}' in vhost '${vhost}'`,
    (channel) => channel.checkExchange(missing),
    (channel) => channel.bindQueue(queue, missing, 'k'),
    (channel) => channel.bindExchange(missing, 'amq.direct', 'k'),
    (channel) => channel.publish(missing, 'k', body),
  );
});

check('405-exclusive-queue-of-another-connection', async (session) => {
  const name = session.queueName();
  await (await session.channel()).assertQueue(name, { exclusive: true });
  await channelRefused(
    await session.connect(),
    405,
    `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${name}' in vhost '${vhost}'. It could be originally ` +
      'declared on another connection or the exclusive property value does not match that of the original declaration.',
    (channel) => channel.assertQueue(name, { exclusive: true }),
    (channel) => channel.checkQueue(name),
    (channel) => channel.get(name),
    (channel) => channel.consume(name, () => {}),
    (channel) => channel.deleteQueue(name),
  );
});

check('406-inequivalent-queue', async (session) => {
  const connection = await session.connect();
  const queue = await session.queue(await connection.createChannel(), [], { messageTtl: 60_000 });
  const about = `for queue '${queue}' in vhost '${vhost}'`;
  await channelRefused(
    connection,
    406,
    `PRECONDITION_FAILED - inequivalent arg 'durable' ${about}: received 'false' but current is 'true'`,
    (channel) => channel.assertQueue(queue, { durable: false, messageTtl: 60_000 }),
  );
  await channelRefused(
    connection,
    406,
    `PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' ${about}: ` +
      "received none but current is the value '60000' of type 'signedint'",
    (channel) => channel.assertQueue(queue),
  );
});

check('406-inequivalent-exchange', async (session) => {
  const connection = await session.connect();
  const exchange = await session.exchange(await connection.createChannel(), 'direct');
  await channelRefused(
    connection,
    406,
    `PRECONDITION_FAILED - inequivalent arg 'type' for exchange '${exchange}' in vhost '${vhost}': ` +
      "received 'fanout' but current is 'direct'",
    (channel) => channel.assertExchange(exchange, 'fanout'),
  );
});

check('406-unknown-delivery-tag', async (session) => {
  const unknown = { fields: { deliveryTag: 42 } };
  await channelRefused(
    await session.connect(),
    406,
    'PRECONDITION_FAILED - unknown delivery tag 42',
    (channel) => channel.ack(unknown),
    (channel) => channel.ack(unknown, true),
    (channel) => channel.nack(unknown),
    (channel) => channel.reject(unknown),
  );
});

check('406-queue-in-use-or-not-empty', async (session) => {
  const connection = await session.connect();
  const channel = await connection.createChannel();
  const queue = await session.queue(channel, ['x']);
  const about = `PRECONDITION_FAILED - queue '${queue}' in vhost '${vhost}'`;
  await channelRefused(connection, 406, `${about} not empty`, (other) => other.deleteQueue(queue, { ifEmpty: true }));
  await (await Consumer.start(channel, queue)).next();
  await channelRefused(connection, 406, `${about} in use`, (other) => other.deleteQueue(queue, { ifUnused: true }));
});

check('406-unknown-exchange-type', async (session) => {
  const name = session.exchangeName();
  const text = "PRECONDITION_FAILED - unknown exchange type 'x-nonsense'";
  await channelRefused(await session.connect(), 406, text, (channel) => channel.assertExchange(name, 'x-nonsense'));
});

check('406-message-too-large', async (session) => {
  const text = 'PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216';
  const large = Buffer.alloc(16 * 1024 * 1024 + 1);
  await channelRefused(await session.connect(), 406, text, (channel) => channel.sendToQueue('any', large));
});

check('403-reserved-names', async (session) => {
  const connection = await session.connect();
  const reserved = (kind) => `ACCESS_REFUSED - ${kind} name 'amq.mine' contains reserved prefix 'amq.*'`;
  await channelRefused(connection, 403, reserved('queue'), (channel) => channel.assertQueue('amq.mine'));
  await channelRefused(connection, 403, reserved('exchange'), (channel) => channel.assertExchange('amq.mine', 'direct'));
  const system = `ACCESS_REFUSED - deletion of system exchange 'amq.fanout' in vhost '${vhost}' not allowed`;
  await channelRefused(connection, 403, system, (channel) => channel.deleteExchange('amq.fanout'));
});

check('403-default-exchange', async (session) => {
  const connection = await session.connect();
  const queue = await session.queue(await connection.createChannel());
  await channelRefused(
    connection,
    403,
    'ACCESS_REFUSED - operation not permitted on the default exchange',
    (channel) => channel.checkExchange(''),
    (channel) => channel.deleteExchange(''),
    (channel) => channel.bindQueue(queue, '', 'k'),
  );
});

check('403-internal-exchange', async (session) => {
  const connection = await session.connect();
  const exchange = await session.exchange(await connection.createChannel(), 'direct', { internal: true });
  const text = `ACCESS_REFUSED - cannot publish to internal exchange '${exchange}' in vhost '${vhost}'`;
  await channelRefused(connection, 403, text, (channel) => channel.publish(exchange, 'k', body));
});

check('403-exclusive-consumer', async (session) => {
  const connection = await session.connect();
  const channel = await connection.createChannel();
  const queue = await session.queue(channel);
  await channel.consume(queue, () => {}, { exclusive: true });
  const text = `ACCESS_REFUSED - queue '${queue}' in vhost '${vhost}' in exclusive use`;
  await channelRefused(connection, 403, text, (other) => other.consume(queue, () => {}));
});

check('403-wrong-password', async () => {
  const wrong = new URL(uri);
  wrong.password = 'wrong';
  const text = 'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.';
  await assert.rejects(amqp.connect(wrong.href), ({ message }) => {
    assert.ok(message.includes('403 ') && message.includes(`"${text}"`), message);
    return true;
  });
});

check('530-missing-vhost', async () => {
  const wrong = new URL(uri);
  wrong.pathname = '/no-such-vhost';
  // The client does not show the code and text of a connection.close that answers connection.open.
  await assert.rejects(amqp.connect(wrong.href), /Expected ConnectionOpenOk; got <ConnectionClose channel:0>/);
});

check('530-reused-consumer-tag', async (session) => {
  const connection = await session.connect();
  await connectionRefused(connection, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'", async (channel) => {
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.consume(queue, () => {}, { consumerTag: 'twice' });
    await channel.consume(queue, () => {}, { consumerTag: 'twice' });
  });
});
