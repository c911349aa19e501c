// The checks of mqtt.js, for Node.js and for a browser.

import { equal, sleep, soon, text, unique } from './anywhere.js';
import { newTopic, Session, VERSIONS } from './mqtt_session.js';

const numbered = (count) => Array.from({ length: count }, (_, number) => `m${number}`);
const sorted = (values) => [...values].sort();

/** The bytes of a text, as mqtt.js wants them. */
const toBytes = (value) => {
  const bytes = new TextEncoder().encode(value);
  return globalThis.Buffer ? globalThis.Buffer.from(bytes) : bytes;
};

/** What runs in every version. */
const inEachVersion = {
  async qos(session) {
    const topic = newTopic();
    const listeners = [];
    for (const qos of [0, 1, 2]) listeners.push(await session.listener(topic, { qos }));
    const publisher = await session.connect();
    for (const qos of [0, 1, 2]) {
      await publisher.publish(topic, `with ${qos}`, { qos });
      for (const level of [0, 1, 2]) await listeners[level].expect(topic, `with ${qos}`, Math.min(qos, level));
    }
  },

  async order(session) {
    const publisher = await session.connect();
    for (const qos of [0, 1, 2]) {
      const topic = newTopic();
      const listener = await session.listener(topic, { qos });
      const [got] = await Promise.all([listener.payloads(50), publisher.publishAll(topic, numbered(50), { qos })]);
      equal(got, numbered(50), `the messages with QoS ${qos}`);
    }
  },

  async retained(session) {
    const topic = newTopic();
    const publisher = await session.connect();
    await session.retain(publisher, `${topic}/a`, 'a');
    await session.retain(publisher, `${topic}/b`, 'b');
    const late = await session.listener(`${topic}/+`);
    const got = (await late.take(2)).map(({ payload, packet }) => [text(payload), packet.retain]);
    equal(sorted(got.map(String)), ['a,true', 'b,true'], 'what is retained');
    await publisher.publish(`${topic}/a`, '', { qos: 1, retain: true });
    await late.expect(`${topic}/a`, '', 1);
    const later = await session.listener(`${topic}/+`);
    await later.expect(`${topic}/b`, 'b', 1, true);
    await publisher.publish(`${topic}/a`, 'live', { qos: 1 });
    await later.expect(`${topic}/a`, 'live', 1);
  },

  async 'offline-messages'(session) {
    const topic = newTopic();
    const kept = await session.kept();
    await kept.subscribe(topic, { qos: 1 });
    await kept.disconnect();
    const publisher = await session.connect();
    await publisher.publishAll(topic, numbered(20), { qos: 2 });
    const again = await session.kept(kept.id);
    if (session.version !== 'v3.1') equal(again.connack.sessionPresent, true, 'session present');
    equal(await again.payloads(20), numbered(20), 'the messages');
  },

  async will(session) {
    const topic = newTopic();
    const watcher = await session.listener(topic);
    const leaves = await session.connect({ will: { topic, payload: 'left', qos: 1 } });
    await leaves.disconnect();
    for (const qos of [0, 1, 2]) {
      const peer = await session.connect({ will: { topic, payload: `gone ${qos}`, qos } });
      await peer.drop();
      await watcher.expect(topic, `gone ${qos}`, qos);
    }
  },

  async 'shared-subscription'(session) {
    const topic = newTopic();
    const members = [];
    for (let count = 0; count < 3; count += 1) members.push(await session.listener(`$share/group/${topic}`, { qos: 1 }));
    const alone = await session.listener(topic, { qos: 1 });
    const publisher = await session.connect();
    await publisher.publishAll(topic, numbered(30));
    equal(await alone.payloads(30), numbered(30), 'what an ordinary subscriber got');
    const got = [];
    while (got.length < 30) {
      const member = members.find(({ messages }) => messages.length > 0);
      if (member) got.push(text((await member.next()).payload));
      else await soon(sleep(10), 'time');
    }
    equal(sorted(got), sorted(numbered(30)), 'what the group got');
  },

  async unsubscribe(session) {
    const topic = newTopic();
    const listener = await session.listener([`${topic}/a`, `${topic}/b`], { qos: 1 });
    await listener.unsubscribe(`${topic}/a`);
    const publisher = await session.connect();
    await publisher.publish(`${topic}/a`, 'a');
    await publisher.publish(`${topic}/b`, 'b');
    await listener.expect(`${topic}/b`, 'b', 1);
  },

  async 'large-payload'(session) {
    const topic = newTopic();
    const listener = await session.listener(topic);
    const body = toBytes('x'.repeat(1024 * 1024)).map((_, at) => (at * 7919) >> 3);
    await (await session.connect()).publish(topic, body, { qos: 2 });
    const { payload } = await listener.next();
    equal(payload.length, body.length, 'the length');
    equal(
      payload.every((byte, at) => byte === body[at]),
      true,
      'whether the bytes are the same',
    );
  },

  async takeover(session) {
    const first = await session.connect();
    const second = await session.connect({ clientId: first.id });
    await first.closes.next('end of the first connection');
    if (session.version === 'v5') equal(first.told, 0x8e, 'the code of DISCONNECT');
    const topic = newTopic();
    await second.subscribe(topic);
    await second.publish(topic, 'still there');
    await second.expect(topic, 'still there', 1);
  },

  /** The client's own store sends again what was not acknowledged when the connection broke. */
  async 'messages-over-a-broken-connection'(session) {
    const topic = newTopic();
    const listener = await session.listener(topic);
    const publisher = await session.kept(undefined, { reconnectPeriod: 20 });
    const sent = publisher.publishAll(topic, numbered(10), { qos: 2 });
    publisher.client.stream.destroy();
    const [got] = await Promise.all([listener.payloads(10), sent]);
    equal(sorted(got), sorted(numbered(10)), 'the messages');
    await publisher.publish(topic, 'fence', { qos: 2 });
    await listener.expect(topic, 'fence', 2);
  },
};

const PROPERTIES = {
  payloadFormatIndicator: true,
  contentType: 'text/plain',
  responseTopic: 'replies/a',
  userProperties: { b: ['1', '2'], a: 'ä' },
};

/** What only version 5 has. */
const inVersion5 = {
  async properties(session) {
    const topic = newTopic();
    const listener = await session.connect();
    await listener.subscribe(topic, { qos: 1, properties: { subscriptionIdentifier: 268435455 } });
    const publisher = await session.connect();
    const properties = { ...PROPERTIES, messageExpiryInterval: 1000, correlationData: toBytes('\0ä') };
    await publisher.publish(topic, 'x', { qos: 1, properties });
    const found = (await listener.next()).packet.properties;
    equal([999, 1000].includes(found.messageExpiryInterval), true, 'whether the expiry is what was sent');
    const { payloadFormatIndicator, contentType, responseTopic, userProperties } = found;
    equal({ payloadFormatIndicator, contentType, responseTopic, userProperties }, PROPERTIES, 'the properties');
    equal(found.subscriptionIdentifier, 268435455, 'the subscription identifier');
    equal([...found.correlationData], [0, 195, 164], 'the correlation data');
  },

  async 'identifiers-of-overlapping-subscriptions'(session) {
    const topic = newTopic();
    const listener = await session.connect();
    await listener.subscribe(`${topic}/+`, { qos: 0, properties: { subscriptionIdentifier: 1 } });
    await listener.subscribe(`${topic}/#`, { qos: 0, properties: { subscriptionIdentifier: 2 } });
    await (await session.connect()).publish(`${topic}/a`, 'x');
    const found = [];
    while (found.length < 2) found.push(...[(await listener.next()).packet.properties.subscriptionIdentifier].flat());
    equal(sorted(found), [1, 2], 'the identifiers');
  },

  async 'assigned-client-id'(session) {
    const { connack } = await session.connect({ clientId: '' });
    equal(connack.properties.assignedClientIdentifier.length > 0, true, 'whether an identifier is assigned');
  },

  async 'session-expiry'(session) {
    const clientId = unique('roadstead');
    const options = { clientId, clean: false };
    const lasts = await session.connect({ ...options, properties: { sessionExpiryInterval: 60 } });
    await lasts.disconnect();
    const again = await session.connect(options);
    equal(again.connack.sessionPresent, true, 'session present');
    await again.disconnect();
    equal((await session.connect(options)).connack.sessionPresent, false, 'session present after an expiry of 0');
  },

  async 'no-local-and-retain-options'(session) {
    const topic = newTopic();
    const other = await session.connect();
    await session.retain(other, topic, 'retained');
    const peer = await session.connect();
    await peer.subscribe(topic, { qos: 1, nl: true, rap: true, rh: 2 });
    await peer.publish(topic, 'own');
    await session.retain(other, topic, 'of another');
    await peer.expect(topic, 'of another', 1, true);
    const late = await session.listener(topic, { qos: 1, rh: 0 });
    await late.expect(topic, 'of another', 1, true);
    await session.retain(other, topic, 'last');
    await late.expect(topic, 'last', 1, false);
  },

  async 'topic-aliases'(session) {
    const topic = newTopic();
    const listener = await session.connect({ properties: { topicAliasMaximum: 10 } });
    await listener.subscribe(`${topic}/+`);
    const publisher = await session.connect({ autoUseTopicAlias: true });
    const topics = numbered(20).map((_, number) => `${topic}/${number % 3}`);
    for (const each of topics) await publisher.publish(each, each, { qos: 1 });
    for (const each of topics) await listener.expect(each, each, 1);
  },

  async 'will-with-properties'(session) {
    const topic = newTopic();
    const watcher = await session.listener(topic);
    const will = { topic, payload: 'gone', qos: 1, properties: { ...PROPERTIES, willDelayInterval: 1 } };
    const begun = Date.now();
    await (await session.kept(undefined, { will })).drop();
    const found = await watcher.expect(topic, 'gone', 1);
    equal(Date.now() - begun > 500, true, 'whether the will was delayed');
    const { payloadFormatIndicator, contentType, responseTopic, userProperties } = found;
    equal({ payloadFormatIndicator, contentType, responseTopic, userProperties }, PROPERTIES, 'the properties');
  },

  async 'request-and-response'(session) {
    const [requests, replies] = [newTopic(), newTopic()];
    const [responder, requester] = [await session.listener(requests), await session.listener(replies)];
    const properties = { responseTopic: replies, correlationData: toBytes('request 7') };
    await requester.publish(requests, 'ping', { qos: 1, properties });
    const request = (await responder.next()).packet.properties;
    const { correlationData } = request;
    await responder.publish(request.responseTopic, 'pong', { qos: 1, properties: { correlationData } });
    const found = await requester.expect(replies, 'pong', 1);
    equal(text(found.correlationData), 'request 7', 'the correlation data');
  },

  async 'receive-maximum'(session) {
    const topic = newTopic();
    const listener = await session.connect({ properties: { receiveMaximum: 2 } });
    await listener.subscribe(topic, { qos: 2 });
    const publisher = await session.connect();
    await publisher.publishAll(topic, numbered(20), { qos: 2 });
    equal(await listener.payloads(20), numbered(20), 'the messages');
  },

  async 'maximum-packet-size'(session) {
    const topic = newTopic();
    const listener = await session.connect({ properties: { maximumPacketSize: 500 } });
    await listener.subscribe(topic, { qos: 1 });
    const publisher = await session.connect();
    await publisher.publish(topic, 'x'.repeat(1000));
    await publisher.publish(topic, 'small');
    await listener.expect(topic, 'small', 1);
  },

  async 'reason-codes'(session) {
    const topic = newTopic();
    const peer = await session.connect();
    equal(await peer.subscribe({ [`${topic}/a`]: { qos: 1 }, [`${topic}/b`]: { qos: 2 } }), [1, 2], 'the codes of SUBACK');
    const { reasonCodes, granted } = await peer.unsubscribe([`${topic}/a`, `${topic}/none`]);
    equal([...(reasonCodes ?? granted)], [0, 0x11], 'the codes of UNSUBACK');
  },
};

/** Sessions of every version and transport, and what is retained, over one restart. */
async function restart(sessions, restartBroker) {
  const before = [];
  for (const session of sessions) {
    const topic = newTopic();
    const kept = await session.kept();
    await kept.subscribe(`${topic}/queue`, { qos: 2 });
    await kept.disconnect();
    const publisher = await session.connect();
    await publisher.publishAll(`${topic}/queue`, numbered(5), { qos: 2 });
    await session.retain(publisher, `${topic}/retained`, 'retained');
    const comesBack = await session.kept(undefined, { reconnectPeriod: 50 });
    await comesBack.subscribe(`${topic}/live`, { qos: 1 });
    before.push({ session, topic, kept, comesBack });
  }
  await restartBroker();
  for (const { session, topic, kept, comesBack } of before) {
    const again = await session.kept(kept.id);
    equal(await again.payloads(5), numbered(5), `the messages after the restart, ${session.version}`);
    await (await session.listener(`${topic}/retained`)).expect(`${topic}/retained`, 'retained', 1, true);
    await again.publish(`${topic}/live`, 'live');
    await comesBack.expect(`${topic}/live`, 'live', 1);
  }
}

/** All checks: `uris` has an address for each transport, and `restartBroker` returns when the broker is back. */
export function mqttChecks(mqtt, uris, restartBroker) {
  const checks = [];
  const add = (name, uri, version, run) => {
    const session = () => new Session(mqtt, uri, version);
    checks.push({ name, milliseconds: 15_000, run: () => within([session()], ([only]) => run(only)) });
  };
  for (const [transport, uri] of Object.entries(uris)) {
    for (const version of Object.keys(VERSIONS)) {
      for (const [name, run] of Object.entries(inEachVersion)) add(`${name}-${version}-${transport}`, uri, version, run);
    }
    for (const [name, run] of Object.entries(inVersion5)) add(`${name}-${transport}`, uri, 'v5', run);
  }
  const everywhere = () =>
    Object.values(uris).flatMap((uri) => Object.keys(VERSIONS).map((version) => new Session(mqtt, uri, version)));
  checks.push({
    name: 'restart-keeps-sessions-and-retained',
    milliseconds: 60_000,
    run: () => within(everywhere(), (sessions) => restart(sessions, restartBroker)),
  });
  return checks;
}

async function within(sessions, run) {
  try {
    await run(sessions);
  } finally {
    for (const session of sessions) await session.close();
  }
}
