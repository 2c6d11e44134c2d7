// wait.mjs: waiting for something with a deadline, and free ports
import { createServer } from 'node:net';

export const sleep = ms => new Promise(yes => setTimeout(yes, ms));

/** Asks again and again until the answer is true; the error says what was waited for. An error marked final ends it at once. */
export async function until(ask, { what, ms = 10000, every = 25 }) {
  const end = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = undefined;
    } catch (e) {
      if (e.final) throw e;
      last = e;
    }
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${typeof what === 'function' ? what() : what}${last ? ` (last: ${last.message})` : ''}`);
    await sleep(every);
  }
}

/** A promise with a deadline. */
export function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`waited ${ms} ms for ${typeof what === 'function' ? what() : what}`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const given = new Set();

/** A port nobody listens on now, and which this process has not handed out before. */
export async function freePort() {
  for (;;) {
    const port = await new Promise((yes, no) => {
      const s = createServer();
      s.on('error', no);
      s.listen(0, '127.0.0.1', () => { const { port: p } = s.address(); s.close(() => yes(p)); });
    });
    if (!given.has(port)) { given.add(port); return port; }
  }
}
