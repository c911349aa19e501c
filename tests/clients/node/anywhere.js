// What checks share that run in Node.js and in a browser, so it uses nothing of either.

const EVENT_MILLISECONDS = 5_000;

export const text = (bytes) => new TextDecoder().decode(bytes);

export function unique(kind) {
  const random = crypto.getRandomValues(new Uint8Array(6));
  return kind + Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Compares what JSON can say. */
export function equal(actual, expected, what = 'value') {
  const [one, other] = [actual, expected].map((value) => JSON.stringify(value));
  if (one !== other) throw new Error(`${what} is ${one}, expected ${other}`);
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function within(milliseconds, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const soon = (promise, what, milliseconds = EVENT_MILLISECONDS) => within(milliseconds, promise, what);

/** Values that come when they come, and are taken one by one. */
export class Inbox {
  #values = [];
  #takers = [];

  put(value) {
    const taker = this.#takers.shift();
    if (taker) taker(value);
    else this.#values.push(value);
  }

  get length() {
    return this.#values.length;
  }

  next(what) {
    if (this.#values.length > 0) return this.#values.shift();
    return soon(new Promise((resolve) => this.#takers.push(resolve)), what);
  }
}
