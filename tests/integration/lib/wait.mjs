// wait.mjs: waiting for something with a deadline, and free ports
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

export const sleep = ms => new Promise(yes => setTimeout(yes, ms));

/** How long something may take that is to happen, whatever the machine has to do besides: when it must be quick, a test measures that itself. */
export const PATIENCE_MS = 30000;

/** Notices how long the machine keeps us waiting: for promises in milliseconds, which are about an idle one. */
export class Stalls {
  constructor(every = 10) {
    let last = performance.now();
    this.longest = 0;
    this.timer = setInterval(() => {
      const now = performance.now();
      this.longest = Math.max(this.longest, now - last - every);
      last = now;
    }, every);
  }

  /** What is promised within ms, on this machine as it was since the beginning: nothing is added where nothing stalled. */
  allowing(ms) {
    clearInterval(this.timer);
    return ms + 20 * Math.round(Math.max(0, this.longest - 5));
  }
}

/** Asks again and again until the answer is true; the error says what was waited for. An error marked final ends it at once. */
export async function until(ask, { what, ms = PATIENCE_MS, every = 25 }) {
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

/** A port nobody listens on now, and which this process has not handed out before; below those that the system gives to outgoing connections, which would
 *  otherwise be in the way of a server that is to come back to its port. */
export async function freePort() {
  for (;;) {
    const port = await new Promise((yes, no) => {
      const s = createServer(), p = randomInt(11000, 32000);
      s.on('error', e => (e.code === 'EADDRINUSE' ? yes(null) : no(e)));
      s.listen(p, '127.0.0.1', () => s.close(() => yes(p)));
    });
    if (port !== null && !given.has(port)) { given.add(port); return port; }
  }
}
