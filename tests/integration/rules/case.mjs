// case.mjs: what a rule and its cases look like, and when what came is what the rule says
import { sleep } from '../lib/wait.mjs';

/** A rule, and the cases that show it: id, and what it says. */
export const rule = (id, says, ...cases) => ({ id, says, cases });

/**
 * A case: `run(world)` returns what is to be `want` of the official server, and of ours, unless it `differs`: then ours is `differs.want`, and `differs.why` is the first cell of the row
 * in docs/socketio.md that says so. `world`: 'calm' unless told. `alone`: there is nothing that the official server could be asked; `want` is ours then. `slow`: begins before others. `home`: not where each
 * request comes to another node.
 */
export const play = (name, run, want, { world = 'calm', differs, alone = false, slow = false, home = false } = {}) => ({ name, run, want, world, differs, alone, slow, home });

const connects = (f, eio) => typeof f === 'string' && f.startsWith('40') && (eio === 4 || f.length > 2);

/**
 * A case by frames over a WebSocket: what is sent once the connection is open, and what is to be heard, the open packet and heartbeats aside; `closed`: that ends the connection.
 * Behind a CONNECT its answer is waited for; behind a DISCONNECT a moment, for the official server is not done with it at once. differs: {why, said, closed}.
 */
export function frames(name, eio, send, said, { closed = false, world = 'calm', differs, socket = {} } = {}) {
  const run = async w => {
    const s = w.ws(eio, socket);
    await s.opened;
    await s.waitFor(t => t.startsWith('0{'), 'the open packet');
    if (eio === 3) await s.heardAll(1);
    for (const f of send) {
      const before = s.said().length;
      s.send(f);
      if (f === '41' || f.startsWith?.('41/')) await sleep(20);
      if (connects(f, eio)) await s.heardAll(before + 1, `the answer to ${f}`);
    }
    if (w.want.closed) await Promise.race([s.closed, sleep(4000)]);
    else { await s.heardAll(w.want.said.length); await sleep(60); }
    return { said: s.said(), closed: s.end === true };
  };
  return { ...play(name, run, { said, closed }, { world }), differs: differs && { why: differs.why, want: { said: differs.said ?? said, closed: differs.closed ?? closed } } };
}

/** Is it what is wanted? Where a pattern is wanted, it must match. */
export function fits(got, want) {
  if (want instanceof RegExp) return typeof got === 'string' && want.test(got);
  if (want === null || typeof want !== 'object') return got === want;
  if (got === null || typeof got !== 'object' || Array.isArray(got) !== Array.isArray(want)) return false;
  const names = Object.keys(want);
  return names.length === Object.keys(got).length && names.every(n => fits(got[n], want[n]));
}

export const show = v => JSON.stringify(v, (_, x) => (x instanceof RegExp ? `${x}` : x === undefined ? null : x));
