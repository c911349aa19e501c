// The console in a headless Chromium, driven by Playwright, against the broker in MANAGEMENT_URI, with traffic by AMQP and MQTT.
//
// Each page is looked at in light and dark and on a phone, and checked by axe; pictures go to SCREENSHOTS, if that is set.

import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import amqplib from 'amqplib';
import mqtt from 'mqtt';
import { chromium } from 'playwright-core';
import { check, runSuite } from './contract.js';

const { MANAGEMENT_URI: uri, AMQP_URI: amqp, MQTT_URI: mqttUri, SCREENSHOTS: pictures, CHROMIUM = 'chromium' } = process.env;
if (!uri || !amqp || !mqttUri) {
  console.error('set MANAGEMENT_URI, AMQP_URI and MQTT_URI, e.g. http://guest:guest@127.0.0.1:15672');
  process.exit(2);
}
const at = new URL(uri);
const ORIGIN = `http://${at.host}`;
const API = `${ORIGIN}/api`;
const LOGIN = { authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` };
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const QUEUE = 'orders of the day';
// No sandbox, because root may run this; the rest keeps it from looking for other machines.
const OPTIONS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-extensions',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

let browser;
let context;
let page;
/** What pages asked of others, and what went wrong in them. */
const foreign = [];
const errors = [];

async function open(options = {}) {
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  // The console says where it is right; axe is put in past that.
  page = await context.newPage();
  page.on('request', (request) => { if (new URL(request.url()).host !== at.host && !request.url().startsWith('blob:')) foreign.push(request.url()); });
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => { if (message.type() === 'error' && !/status of 40[0-9]/.test(message.text())) errors.push(message.text()); });
  page.on('dialog', (dialog) => dialog.accept());
}

async function logIn(user = 'guest', password = 'guest') {
  await page.goto(ORIGIN);
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Log in' }).click();
}

async function goTo(hash, heading) {
  await page.goto(`${ORIGIN}/#/${hash}`);
  await page.getByRole('heading', { level: 1, name: heading }).waitFor();
}

async function picture(name) {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

/** Fails with what axe finds. */
async function accessible(where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  if (violations.length) {
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 120)).join(' | ')}`);
    throw new Error(`${where}: ${told.join('; ')}`);
  }
}

async function call(method, path, body) {
  const answer = await fetch(API + path, { method, headers: LOGIN, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  const text = await answer.text();
  return text === '' ? null : JSON.parse(text);
}

/** Publishers, a consumer that lags, a queue without one, a session of MQTT. */
async function traffic() {
  const connection = await amqplib.connect(amqp, { clientProperties: { connection_name: 'shop' } });
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange('sales', 'topic', { durable: true });
  await channel.assertQueue(QUEUE, { durable: true });
  await channel.assertQueue('nobody cares', { durable: true });
  await channel.bindQueue(QUEUE, 'sales', 'order.#');
  await channel.bindQueue('nobody cares', 'sales', 'order.cancelled');
  await channel.prefetch(10);
  await channel.consume(QUEUE, (message) => setTimeout(() => { try { channel.ack(message); } catch { /* it is over */ } }, 20));
  const timer = setInterval(() => {
    for (let i = 0; i < 20; i += 1) channel.publish('sales', i % 5 ? 'order.paid' : 'order.cancelled', Buffer.from(`order ${i}`), { persistent: true });
  }, 100);
  const client = await mqtt.connectAsync(mqttUri, { clientId: 'meter-7', clean: false, protocolVersion: 5, properties: { sessionExpiryInterval: 600 } });
  await client.subscribeAsync('meters/+/power', { qos: 1 });
  await client.publishAsync('meters/7/power', '230', { qos: 1, retain: true });
  timer.unref();
}

check('a-login-is-asked-for', async () => {
  await open();
  await logIn('guest', 'wrong');
  await page.getByRole('alert').filter({ hasText: 'wrong' }).waitFor();
  await accessible('login');
  await picture('login');
  await logIn();
  await page.getByRole('navigation', { name: 'Pages' }).waitFor();
});

check('it-is-there-within-a-second', async () => {
  await open();
  await logIn();
  await page.getByText('Messages in queues').waitFor();
  const begin = Date.now();
  await page.reload();
  await page.getByText('Messages in queues').waitFor();
  const took = Date.now() - begin;
  if (took > 1000) throw new Error(`the first screen took ${took} ms`);
});

check('the-first-screen-says-what-is-wrong', async () => {
  await traffic();
  await open();
  await logIn();
  const note = page.getByRole('list', { name: 'Problems' }).getByText('no consumer');
  await note.waitFor({ timeout: 20_000 });
  await page.waitForFunction(() => document.querySelectorAll('svg.chart polyline').length >= 6, null, { timeout: 20_000 });
  await page.getByRole('region', { name: 'Protocols' }).getByRole('row', { name: /^AMQP 0-9-1 .*\/s\)/ }).waitFor({ timeout: 20_000 });
  await accessible('overview');
  await picture('overview');
}, 40_000);

const PAGES = [
  ['connections', 'Connections'], ['channels', 'Channels'], ['exchanges', 'Exchanges'], ['queues', 'Queues and streams'],
  ['policies', 'Policies'], ['users', 'Users'], ['vhosts', 'Vhosts'], ['definitions', 'Definitions'], ['mqtt', 'MQTT'], ['log', 'Log'],
];
for (const [hash, heading] of PAGES) {
  check(`page-${hash}`, async () => {
    await open();
    await logIn();
    await goTo(hash, heading);
    await accessible(hash);
    await picture(hash);
  });
}

check('a-queue-with-all-that-can-be-done', async () => {
  await open();
  await logIn();
  await goTo('queues', 'Queues and streams');
  await page.getByRole('button', { name: 'Add a queue' }).click();
  const add = page.getByRole('form', { name: 'Add a queue' });
  await add.getByLabel('Name').fill('by hand');
  await add.getByLabel('Further arguments').fill('{"x-max-length": 7}');
  await add.getByRole('button', { name: 'Add a queue' }).click();
  await page.getByRole('link', { name: 'by hand' }).click();
  await page.getByRole('heading', { level: 1, name: 'by hand' }).waitFor();
  await page.getByRole('button', { name: 'Publish', exact: true }).click();
  const publish = page.getByRole('form', { name: 'Publish' });
  await publish.getByLabel('Message').fill('hello from the console');
  await publish.getByRole('button', { name: 'Publish' }).click();
  await page.getByRole('status').filter({ hasText: 'Published' }).waitFor();
  await page.getByRole('button', { name: 'Look', exact: true }).click();
  await page.getByText('hello from the console').waitFor();
  await page.getByRole('button', { name: 'Move messages' }).click();
  const move = page.getByRole('form', { name: 'Move messages' });
  await move.getByLabel('To queue').fill('nobody cares');
  await move.getByRole('button', { name: 'Move messages' }).click();
  await page.getByRole('status').filter({ hasText: '1 messages were moved' }).waitFor();
  await page.getByRole('button', { name: 'Bind', exact: true }).click();
  const bind = page.getByRole('form', { name: 'Bind' });
  await bind.getByLabel('From exchange').fill('sales');
  await bind.getByLabel('Key').fill('order.late');
  await bind.getByRole('button', { name: 'Bind' }).click();
  await page.getByRole('cell', { name: 'order.late' }).waitFor();
  await accessible('queue');
  await page.getByRole('button', { name: 'Unbind' }).click();
  await page.getByRole('cell', { name: 'order.late' }).waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByRole('heading', { level: 1, name: 'Queues and streams' }).waitFor();
}, 40_000);

check('details-with-charts-and-pictures', async () => {
  await open();
  await logIn();
  await goTo(`queues/%2F/${encodeURIComponent(QUEUE)}`, QUEUE);
  await page.getByRole('img', { name: /bindings lead to/ }).waitFor();
  await accessible('queue');
  await picture('queue');
  await goTo('exchanges/%2F/sales', 'sales');
  await accessible('exchange');
  await picture('exchange');
  const [connection] = await call('GET', '/connections?name=');
  const shop = (await call('GET', '/connections')).find((one) => one.user_provided_name === 'shop') ?? connection;
  await goTo(`connections/${encodeURIComponent(shop.name)}`, shop.name);
  await accessible('connection');
  await picture('connection');
  await page.getByRole('link', { name: '1', exact: true }).click();
  await page.getByRole('heading', { level: 1, name: `${shop.name} (1)` }).waitFor();
  await picture('channel');
  await goTo('users/guest', 'guest');
  await accessible('user');
  await picture('user');
}, 40_000);

check('policies-users-and-vhosts-by-hand', async () => {
  await open();
  await logIn();
  await goTo('vhosts', 'Vhosts');
  await page.getByRole('button', { name: 'Add a vhost' }).click();
  const vhost = page.getByRole('form', { name: 'Add a vhost' });
  await vhost.getByLabel('Name').fill('test');
  await vhost.getByRole('button', { name: 'Add a vhost' }).click();
  await page.getByRole('button', { name: 'Delete' }).waitFor();
  await goTo('users', 'Users');
  await page.getByRole('button', { name: 'Add a user' }).click();
  const user = page.getByRole('form', { name: 'Add a user' });
  await user.getByLabel('Name').fill('ursula');
  await user.getByLabel('Password').fill('secret');
  await user.getByLabel('Tags').fill('monitoring');
  await user.getByRole('button', { name: 'Add a user' }).click();
  await page.getByRole('link', { name: 'ursula' }).click();
  await page.getByRole('button', { name: 'Set permissions' }).click();
  const permit = page.getByRole('form', { name: 'Set permissions' });
  await permit.getByLabel('Vhost').selectOption('test');
  await permit.getByRole('button', { name: 'Set permissions' }).click();
  await page.getByRole('cell', { name: 'test' }).waitFor();
  await goTo('policies', 'Policies');
  await page.getByRole('button', { name: 'Set a policy' }).click();
  const policy = page.getByRole('form', { name: 'Set a policy' });
  await policy.getByLabel('Name', { exact: true }).fill('short');
  await policy.getByLabel('Names that it applies to').fill('^x');
  await policy.getByLabel('What it says').fill('not JSON');
  await policy.getByRole('button', { name: 'Set a policy' }).click();
  await page.getByRole('alert').filter({ hasText: 'not JSON' }).waitFor();
  await policy.getByLabel('What it says').fill('{"max-length": 5}');
  await policy.getByRole('button', { name: 'Set a policy' }).click();
  await page.getByRole('cell', { name: 'short' }).waitFor();
  await page.getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('cell', { name: 'short' }).waitFor({ state: 'detached' });
  await call('DELETE', '/users/ursula');
  await call('DELETE', '/vhosts/test');
}, 40_000);

check('definitions-go-out-and-come-in', async () => {
  await open({ acceptDownloads: true });
  await logIn();
  await goTo('definitions', 'Definitions');
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
  const file = await download.path();
  if (!JSON.parse(readFileSync(file, 'utf8')).queues.length) throw new Error('no queues were exported');
  await page.getByLabel('File').setInputFiles({ name: 'd.json', mimeType: 'application/json', buffer: readFileSync(file) });
  await page.getByRole('button', { name: 'Import' }).click();
  await page.getByRole('status').filter({ hasText: 'd.json was imported' }).waitFor();
});

check('a-connection-is-closed-by-hand', async () => {
  const connection = await amqplib.connect(amqp, { clientProperties: { connection_name: 'victim' } });
  const closed = new Promise((resolve) => connection.once('close', resolve));
  await open();
  await logIn();
  const { name } = (await call('GET', '/connections')).find((one) => one.user_provided_name === 'victim');
  await goTo(`connections/${encodeURIComponent(name)}`, name);
  await page.getByRole('button', { name: 'Close this connection' }).first().click();
  await page.getByRole('form', { name: 'Close this connection' }).getByRole('button').click();
  const { message } = (await closed) ?? {};
  if (!/CONNECTION_FORCED|CONNECTION-FORCED|320/.test(message)) throw new Error(`the client was told: ${message}`);
});

check('ten-thousand-queues-stay-usable', async () => {
  const vhost = 'many';
  await call('PUT', `/vhosts/${vhost}`, {});
  const queues = Array.from({ length: 10_000 }, (_, i) => ({ name: `queue-${i}`, durable: false, auto_delete: false, arguments: {} }));
  await call('POST', `/definitions/${vhost}`, { queues });
  await open();
  await logIn();
  const begin = Date.now();
  await goTo('queues', 'Queues and streams');
  await page.getByText(/of 10,0\d\d/).waitFor();
  const took = Date.now() - begin;
  if (took > 2000) throw new Error(`the list took ${took} ms`);
  await page.getByLabel('Name contains').fill('queue-9999');
  await page.getByText(/^1 of 10,0/).waitFor();
  await page.getByLabel('Name contains').fill('');
  await page.getByRole('button', { name: /^Ready/ }).click();
  await page.getByRole('columnheader', { name: /^Ready/ }).and(page.locator('[aria-sort=ascending]')).waitFor();
  await page.getByRole('button', { name: 'Next' }).click();
  await page.getByText('Page 2 of').waitFor();
  await picture('many-queues');
  await call('DELETE', `/vhosts/${vhost}`);
}, 60_000);

check('by-keyboard-in-the-dark-and-on-a-phone', async () => {
  await open({ colorScheme: 'dark', viewport: { width: 390, height: 800 } });
  await logIn();
  await page.getByRole('navigation', { name: 'Pages' }).waitFor();
  await accessible('overview on a phone, dark');
  await picture('phone-dark');
  const isWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  if (isWide) throw new Error('the page is wider than the phone');
  await page.reload();
  await page.getByRole('navigation', { name: 'Pages' }).waitFor();
  await page.keyboard.press('Tab');
  const first = await page.evaluate(() => document.activeElement.textContent);
  if (first !== 'Skip to the page') throw new Error(`the first stop of Tab is ${first}`);
  await page.getByRole('link', { name: 'Queues', exact: true }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'Queues and streams' }).waitFor();
  await accessible('queues on a phone, dark');
});

check('nothing-comes-from-elsewhere-and-nothing-breaks', async () => {
  if (foreign.length) throw new Error(`the console asked for ${foreign.join(', ')}`);
  if (errors.length) throw new Error(errors.join('; '));
});

browser = await chromium.launch({ executablePath: `/usr/bin/${CHROMIUM}`, args: OPTIONS });
// What goes on in the background ends with the process.
await runSuite(() => ({ close: () => context?.close() }));
