// Runs the checks in the browser, one by one, as the server of this page asks for them.

import { checksOf } from './checks.js';

async function post(path, body) {
  const answer = await fetch(path, { method: 'POST', body });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.text();
}

async function attempt(check) {
  try {
    await check.run();
    return '';
  } catch (error) {
    return String(error);
  }
}

const facts = await (await fetch('/facts')).json();
const checks = checksOf(facts, () => post('/restart'));
for (let result = ''; ; ) {
  const name = await post('/next', result);
  result = await attempt(checks.find((each) => each.name === name));
}
