// The contract between a client suite and the harness that starts it.
//
// A suite prints `ok NAME`, `not ok NAME: reason` or `skip NAME: reason` for each check, then `done`, and exits with 0 if
// and only if nothing failed. It asks for a restart of the broker by printing `@restart`, and waits for `@restarted`.

import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { within } from './anywhere.js';

export { soon, within } from './anywhere.js';

const SUITE_MILLISECONDS = 110_000;
const CHECK_MILLISECONDS = 15_000;
const EVENT_MILLISECONDS = 5_000;

export class Skipped extends Error {}

const checks = [];

/** Registers a check; `run` gets a session of its own. */
export function check(name, run, milliseconds = CHECK_MILLISECONDS) {
  checks.push({ name, run, milliseconds });
}

/** Waits for an emitter's next event and returns its first argument. */
export async function nextEvent(emitter, event) {
  const signal = AbortSignal.timeout(EVENT_MILLISECONDS);
  const [first] = await once(emitter, event, { signal });
  return first;
}

/** Polls what the broker does not announce. */
export async function until(condition, what) {
  const end = Date.now() + EVENT_MILLISECONDS;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${EVENT_MILLISECONDS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Asks the harness for something, and waits for its answer. */
async function ask(request, expected) {
  console.log(request);
  const [name] = request.split(' ');
  const lines = createInterface({ input: process.stdin });
  const answer = await Promise.race([once(lines, 'line'), once(lines, 'close')]);
  lines.close();
  if (answer.length === 0) throw new Skipped(`nobody answers ${name} on stdin`);
  if (answer[0].trim() !== expected) throw new Error(`${name} was answered by ${answer[0]}`);
}

export const restartBroker = () => ask('@restart', '@restarted');

/** Imports definitions in RabbitMQ's format. */
export const define = (document) => ask(`@define ${JSON.stringify(document)}`, '@defined');

export const deletePolicy = (name) => ask(`@delete-policy ${name}`, '@deleted');

export async function runSuite(openSession) {
  const end = Date.now() + SUITE_MILLISECONDS;
  const only = process.argv.slice(2);
  let failed = false;
  for (const each of checks) {
    if (only.length > 0 && !only.includes(each.name)) continue;
    const verdict = await judge(each, openSession, Math.min(each.milliseconds, end - Date.now()));
    failed ||= verdict.startsWith('not ok');
    console.log(verdict);
  }
  console.log('done');
  process.exit(failed ? 1 : 0);
}

async function judge({ name, run, milliseconds }, openSession, left = milliseconds) {
  const session = openSession();
  const attempt = async () => {
    try {
      await run(session);
    } finally {
      await session.close();
    }
  };
  try {
    await within(Math.max(left, 0), attempt(), 'result');
    return `ok ${name}`;
  } catch (error) {
    if (error instanceof Skipped) return `skip ${name}: ${error.message}`;
    console.error(error);
    return `not ok ${name}: ${String(error).replace(/\s+/g, ' ')}`;
  }
}
