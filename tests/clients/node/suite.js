// amqplib against the broker in AMQP_URI.

import { runSuite } from './contract.js';
import { Session } from './session.js';
import './checks.js';
import './features.js';
import './refusals.js';

if (!process.env.AMQP_URI) {
  console.error('AMQP_URI is not set, e.g. amqp://guest:guest@127.0.0.1:5672/%2F');
  process.exit(2);
}
await runSuite(() => new Session());
