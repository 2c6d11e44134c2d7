// storm.mjs: thousands of sessions whose gateway was killed come back to another one, all at once
//
// node tests/bench/storm.mjs [--sessions 10000] [--rooms 100] [--missed 50] [--tls]
//
// Two gateways and a Redis. All sessions are on the first, which is killed (kill -9); then every room is told `missed` messages through the second, and all
// sessions connect to it and resume in the same instant. Meanwhile somebody else chats on the second gateway. Prints what they waited for, and what he did.
import net from 'node:net';
import tls from 'node:tls';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Cluster } from '../integration/lib/cluster.mjs';
import { offsetOf } from '../integration/lib/position.mjs';
import { sleep, until } from '../integration/lib/wait.mjs';

const options = parseArgs({ options: { sessions: { type: 'string', default: '10000' }, rooms: { type: 'string', default: '100' }, missed: { type: 'string', default: '50' }, tls: { type: 'boolean', default: false } } }).values;
const [SESSIONS, ROOMS, MISSED] = [options.sessions, options.rooms, options.missed].map(Number);
const OPENING = 200; // connections being opened at a time before the storm; in it there is no limit

process.env.XINDAO_GATEWAY ??= new URL('../../build/release/xindao-gateway', import.meta.url).pathname;
process.setMaxListeners(0);

/** The smallest client that will do: npm's ws takes too much of the machine for thousands of them. */
class Client {
  constructor(room) { Object.assign(this, { room, seen: 0, position: null, waiting: new Map() }); }

  connect(gateway, ca) {
    this.buffer = Buffer.alloc(0);
    this.upgraded = false;
    return new Promise((yes, no) => {
      this.welcomed = yes;
      const to = { host: '127.0.0.1', port: gateway.port, ca, servername: 'localhost' };
      this.socket = ca ? tls.connect(to) : net.connect(to);
      this.socket.setNoDelay(true);
      this.socket.on(ca ? 'secureConnect' : 'connect', () => this.socket.write(`GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`));
      this.socket.on('data', d => this.take(d));
      this.socket.on('error', e => { if (!this.abandoned) no(e); });
      this.socket.on('close', () => { if (!this.abandoned) no(new Error('the gateway closed a connection')); });
    });
  }

  abandon() { this.abandoned = true; this.socket.destroy(); this.abandoned = false; }

  /** A masked text frame; the mask is 0, so the payload is as it is. */
  send(o) {
    const payload = Buffer.from(JSON.stringify(o)), n = payload.length;
    const head = n < 126 ? Buffer.from([0x81, 0x80 | n, 0, 0, 0, 0]) : Buffer.from([0x81, 0xfe, n >> 8, n & 255, 0, 0, 0, 0]);
    this.socket.write(Buffer.concat([head, payload]));
  }

  take(d) {
    let b = this.buffer.length ? Buffer.concat([this.buffer, d]) : d;
    if (!this.upgraded) {
      const end = b.indexOf('\r\n\r\n');
      if (end < 0) { this.buffer = b; return; }
      if (!b.subarray(0, 12).equals(Buffer.from('HTTP/1.1 101'))) { this.socket.destroy(new Error(b.toString())); return; }
      this.upgraded = true;
      b = b.subarray(end + 4);
    }
    while (b.length >= 2) {
      const short = b[1], header = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (b.length < header) break;
      const n = short < 126 ? short : short === 126 ? b.readUInt16BE(2) : Number(b.readBigUInt64BE(2));
      if (b.length < header + n) break;
      if ((b[0] & 15) === 1) this.frame(JSON.parse(b.subarray(header, header + n)));
      b = b.subarray(header + n);
    }
    this.buffer = b;
  }

  frame(f) {
    if (f.type === 'welcome') {
      if (f.resumed) { this.resumedAt ??= performance.now(); return; }
      this.fresh = f;
      this.welcomed(f);
    } else if (f.type === 'ack' || f.type === 'error') {
      const wait = this.waiting.get(f.id);
      this.waiting.delete(f.id);
      wait?.(f);
    } else if (f.type === 'recovered') {
      if (!f.recovered) this.problem = `not recovered: ${f.reason}`;
    } else if (f.type === 'message') {
      if (this.position && offsetOf(f.position) !== offsetOf(this.position) + 1) this.problem = `after ${this.position} came ${f.position}`;
      this.position = f.position;
      this.firstAt ??= performance.now();
      if (++this.seen === MISSED) this.done?.();
    }
  }

  call(o) {
    const id = this.waiting.size + 1 + Math.floor(performance.now() * 1000);
    return new Promise(yes => { this.waiting.set(id, yes); this.send({ id, ...o }); });
  }
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
const spread = values => {
  const v = [...values].sort((a, b) => a - b);
  return `median ${quantile(v, 0.5).toFixed(0)}, 99 % ${quantile(v, 0.99).toFixed(0)}, most ${v.at(-1).toFixed(0)} ms`;
};

async function inGroups(items, size, act) {
  for (let i = 0; i < items.length; i += size) await Promise.all(items.slice(i, i + size).map(act));
}

/** Somebody who has nothing to do with it: publishes all the time and notes how long each acknowledgement took. */
function bystander(client) {
  const waits = [];
  let on = true;
  const run = (async () => {
    while (on) {
      const at = performance.now();
      const ack = await client.call({ type: 'publish', room: 'bystander', data: 1 });
      if (ack.type !== 'ack') throw new Error(`the bystander was refused: ${JSON.stringify(ack)}`);
      waits.push(performance.now() - at);
      await sleep(20);
    }
  })();
  return { waits, stop: async () => { on = false; await run; } };
}

const cluster = await Cluster.start({
  gateways: 2, insecure: !options.tls, redis: { aof: true },
  flags: ['--resume-window', '10m', '--max-connections-per-ip', '0', '--policy', 'room-* retain-count=1000 retain-age=10m notices=off', '--policy', '* retain-count=0'],
});
try {
  const [first, second] = cluster.gateways, ca = options.tls ? cluster.ca : undefined;
  const clients = Array.from({ length: SESSIONS }, (_, i) => new Client(`room-${i % ROOMS}`));
  await inGroups(clients, OPENING, async c => {
    await c.connect(first, ca);
    const ack = await c.call({ type: 'join', room: c.room });
    if (ack.type !== 'ack') throw new Error(JSON.stringify(ack));
    c.position = ack.position;
  });
  console.log(`sessions: ${SESSIONS} in ${ROOMS} rooms, ${options.tls ? 'wss' : 'ws'}`);
  const other = new Client('bystander');
  await other.connect(second, ca);
  await other.call({ type: 'join', room: 'bystander' });
  await other.call({ type: 'publish', room: 'bystander', data: 0 });

  clients.forEach(c => { c.abandoned = true; });
  await first.kill();
  clients.forEach(c => c.abandon());
  const writer = new Client('');
  await writer.connect(second, ca);
  for (let r = 0; r < ROOMS; r++) {
    await writer.call({ type: 'join', room: `room-${r}` });
    const acks = await Promise.all(Array.from({ length: MISSED }, (_, i) => writer.call({ type: 'publish', room: `room-${r}`, data: i })));
    if (acks.some(a => a.type !== 'ack')) throw new Error(JSON.stringify(acks.find(a => a.type !== 'ack')));
    await writer.call({ type: 'leave', room: `room-${r}` });
  }
  const calm = bystander(other);
  await sleep(2000);
  await calm.stop();

  const storm = bystander(other), before = await second.metrics(), cpu = cpuSeconds(second), start = performance.now();
  await Promise.all(clients.map(async c => {
    const told = c.fresh, position = c.position;
    const all = new Promise(yes => { c.done = yes; });
    c.startedAt = performance.now();
    await c.connect(second, ca);
    c.connectedAt = performance.now();
    c.send({ type: 'resume', id: 1, session: told.session, token: told.token, positions: [{ room: c.room, position }] });
    await all;
    c.doneAt = performance.now();
  }));
  const took = performance.now() - start;
  await storm.stop();
  const after = await second.metrics();
  const broken = clients.filter(c => c.problem);
  console.log(`all back, every message there: ${(took / 1000).toFixed(1)} s, ${(SESSIONS * MISSED).toLocaleString('en')} messages replayed, ${broken.length} sessions with something missing`);
  console.log(`from connecting to the first missed message: ${spread(clients.map(c => c.firstAt - c.startedAt))}`);
  console.log(`from resume to the first missed message: ${spread(clients.map(c => c.firstAt - c.connectedAt))}`);
  console.log(`the bystander's acknowledgements: ${spread(calm.waits)} before, ${spread(storm.waits)} in the storm`);
  console.log(`CPU of the second gateway: ${(cpuSeconds(second) - cpu).toFixed(1)} s; turns of its loop over 100 ms: ${over(after) - over(before)}`);
  if (broken.length) { console.log(broken[0].problem); process.exitCode = 1; }
  await until(async () => (await second.metrics()).sum('xindao_sessions') >= SESSIONS, { what: 'all sessions on the second gateway' });
  clients.forEach(c => c.abandon());
  other.abandon();
  writer.abandon();
} finally {
  await cluster.stop();
}

/** User and system time of a gateway; the kernel counts hundredths of a second. */
function cpuSeconds(gateway) {
  const fields = readFileSync(`/proc/${gateway.process.pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function over(metrics) { return metrics.sum('xindao_loop_lag_seconds_count') - metrics.sum('xindao_loop_lag_seconds_bucket', { le: '0.1' }); }
