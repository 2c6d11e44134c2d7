// polling.mjs: what a request of the long-polling transport costs, at the node that has its session and at another one, beside a WebSocket frame: CPU of both gateways and of Redis, and the time it takes.
// Usage: node tests/bench/polling.mjs [--requests N] [--rounds N] [--sessions N] [--window S]; XINDAO_GATEWAY: the binary (default: build/release/xindao-gateway). About 40 s. --window: --resume-window; with 0 nothing
// is written down for the case that a node dies.
// With --takeovers N: how long after kill -9 of its node a session has the first message, N times with a client that asks the other node then, and N times with one whose GET has been waiting there.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const WebSocket = createRequire(join(ROOT, 'tests/integration/package.json'))('ws');
const option = (name, otherwise) => { const i = process.argv.indexOf(`--${name}`); return i < 0 ? otherwise : Number(process.argv[i + 1]); };
const REQUESTS = option('requests', 3000), ROUNDS = option('rounds', 3), SESSIONS = option('sessions', 16), WINDOW = option('window', 60), DATA = 'x'.repeat(100);
const sleep = ms => new Promise(yes => setTimeout(yes, ms));
const free = () => new Promise(yes => { const s = net.createServer().listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => yes(port)); }); });
const median = list => [...list].sort((a, b) => a - b)[list.length >> 1];

/** HTTP over one connection that is kept: a question, then its answer. */
class Line {
  constructor(port) {
    this.text = '';
    this.socket = net.connect(port, '127.0.0.1').setNoDelay().on('data', d => this.#read(d)).on('error', e => this.no?.(e));
  }
  #read(d) {
    this.text += d.toString('latin1');
    const head = this.text.indexOf('\r\n\r\n'), length = head < 0 ? NaN : Number(/\r\ncontent-length: *(\d+)/i.exec(this.text)[1]);
    if (!(this.text.length >= head + 4 + length)) return;
    const body = this.text.slice(head + 4), status = this.text.slice(9, 12);
    this.text = '';
    if (status === '200') this.yes(body); else this.no(new Error(`${status} ${body}`));
  }
  ask(method, path, body) {
    const answer = new Promise((yes, no) => Object.assign(this, { yes, no }));
    this.socket.write(`${method} ${path} HTTP/1.1\r\nHost: bench\r\n${body === undefined ? '' : `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\n`}\r\n${body ?? ''}`);
    return answer;
  }
  close() { this.socket.destroy(); }
}

/** A WebSocket whose messages are waited for by how they begin. */
class Socket {
  static async open(url) {
    const s = new Socket();
    s.waiting = [];
    s.ws = new WebSocket(url, { perMessageDeflate: false });
    s.ws.on('message', d => { const text = d.toString(), i = s.waiting.findIndex(w => text.startsWith(w.what)); if (i >= 0) s.waiting.splice(i, 1)[0].yes(text); });
    await new Promise((yes, no) => { s.ws.once('open', yes); s.ws.once('error', no); });
    return s;
  }
  next(what) { return new Promise(yes => this.waiting.push({ what, yes })); }
  ask(text, what) { const answer = this.next(what); this.ws.send(text); return answer; }
  close() { this.ws.terminate(); }
}

const dir = mkdtempSync(join(tmpdir(), 'xd-bench-')), redisPort = await free(), ports = [await free(), await free()], started = [];
const start = (i, command, args) => { started[i] = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] }); };
const gateway = i => start(i + 1, process.env.XINDAO_GATEWAY ?? join(ROOT, 'build/release/xindao-gateway'), ['--insecure', '--listen', `127.0.0.1:${ports[i]}`, '--node', `bench${i}`, '--broker', `redis://127.0.0.1:${redisPort}`,
  '--message-rate', '0', '--resume-window', `${WINDOW}s`, '--max-connections-per-ip', '0', '--socketio-ping-interval', '60s', '--socketio-ping-timeout', '60s', '--log-level', 'error']);
start(0, 'redis-server', ['--port', String(redisPort), '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no']);
for (const i of ports.keys()) gateway(i);

/** Milliseconds of CPU so far: of Redis, of the node that has the sessions, of the other one. */
const cpu = () => started.map(p => readdirSync(`/proc/${p.pid}/task`).reduce((ns, t) => ns + Number(readFileSync(`/proc/${p.pid}/task/${t}/schedstat`, 'utf8').split(' ')[0]), 0) / 1e6);

async function ready(port) {
  for (let i = 0; i < 200; i++, await sleep(25)) {
    const line = new Line(port);
    if (await line.ask('GET', '/readyz').then(() => true, () => false)) { line.close(); return; }
    line.close();
  }
  throw new Error('a gateway did not get ready');
}

/** Somebody in a room of his own, and somebody who publishes there; both at the first node, where `asked` is the one that requests go to. */
async function pair(i, asked) {
  const room = `bench-${i}`, to = `ws://127.0.0.1:${ports[0]}`, speaker = await Socket.open(`${to}/ws`);
  await speaker.ask(`{"type":"join","id":"j","room":"${room}"}`, '{"type":"ack"');
  const publish = () => speaker.ask(`{"type":"publish","id":"p","room":"${room}","event":"e","echo":false,"data":"${DATA}"}`, '{"type":"ack"');
  if (asked === null) {
    const s = await Socket.open(`${to}/socket.io/?EIO=4&transport=websocket`);
    await s.ask('40', '40');
    await s.ask(`420["join","${room}"]`, '430');
    return { publish, hear: () => s.next('42["e"'), say: () => s.ask(`421["publish",{"room":"${room}","event":"m","echo":false,"data":"${DATA}"}]`, '431'), close: () => { s.close(); speaker.close(); } };
  }
  const line = new Line(ports[0]), path = '/socket.io/?EIO=4&transport=polling', sid = /"sid":"([^"]+)"/.exec(await line.ask('GET', path))[1], at = `${path}&sid=${sid}`;
  const get = new Line(ports[asked]), post = new Line(ports[asked]);
  await line.ask('POST', at, '40');
  await line.ask('POST', at, `420["join","${room}"]`);
  for (let heard = ''; !heard.includes('430'); heard += await line.ask('GET', at));
  line.close();
  const hear = async () => { const text = await get.ask('GET', at); if (!text.startsWith('42["e"') || text.includes('\x1e')) throw new Error(`not the one message: ${text.slice(0, 80)}`); };
  return { publish, hear, say: () => post.ask('POST', at, `42["publish",{"room":"${room}","event":"m","echo":false,"data":"${DATA}"}]`), close: () => { for (const x of [get, post, speaker]) x.close(); } };
}

// What is waited for, and how long that took: a message that is there already, asked for by GET; or a WebSocket that has it by the time its publisher has the ack.
const KINDS = {
  hear: async (p, asked) => {
    if (asked === null) { const heard = p.hear(), began = performance.now(); await p.publish(); await heard; return performance.now() - began; }
    await p.publish();
    const began = performance.now();
    await p.hear();
    return performance.now() - began;
  },
  say: async p => { const began = performance.now(); await p.say(); return performance.now() - began; },
};

async function measure(kind, asked, sessions, requests) {
  const pairs = await Promise.all(Array.from({ length: sessions }, (_, i) => pair(`${kind}-${asked}-${i}`, asked))), times = [];
  for (const p of pairs) for (let i = 0; i < 5; i++) await KINDS[kind](p, asked);
  await sleep(50);
  const before = cpu();
  let left = requests;
  await Promise.all(pairs.map(async p => { while (left-- > 0) times.push(await KINDS[kind](p, asked)); }));
  await sleep(50);
  const used = cpu().map((ms, i) => (ms - before[i]) * 1000 / requests);
  for (const p of pairs) p.close();
  await sleep(50);
  return { used, time: median(times) };
}

/** Milliseconds from the end of its node to the first message that a session has at the other one, where somebody says something every 5 ms. */
async function takeover(i, waiting) {
  const room = `takeover-${i}`, speaker = await Socket.open(`ws://127.0.0.1:${ports[1]}/ws`), line = new Line(ports[0]), path = '/socket.io/?EIO=4&transport=polling', at = `${path}&sid=${/"sid":"([^"]+)"/.exec(await line.ask('GET', path))[1]}`;
  await speaker.ask(`{"type":"join","id":"j","room":"${room}"}`, '{"type":"ack"');
  await line.ask('POST', at, '40');
  await line.ask('POST', at, `420["join","${room}"]`);
  for (let heard = ''; !heard.includes('430'); heard += await line.ask('GET', at));
  line.close();
  const other = new Line(ports[1]);
  let answer = waiting ? other.ask('GET', at) : undefined;
  await sleep(200 + (waiting ? Math.random() * 2000 : 0)); // the waiting node asks about the other one every two seconds
  const gone = new Promise(yes => started[1].once('exit', yes)), began = performance.now();
  started[1].kill('SIGKILL');
  await gone;
  let n = 0;
  const saying = setInterval(() => speaker.ws.send(`{"type":"publish","room":"${room}","event":"n","data":${++n}}`), 5);
  answer ??= other.ask('GET', at);
  for (let text = ''; !text.includes('42["n"'); answer = other.ask('GET', at)) text = await answer;
  const took = performance.now() - began;
  clearInterval(saying);
  answer.catch(() => {});
  for (const x of [other, speaker]) x.close();
  gateway(0);
  await ready(ports[0]);
  return took;
}

async function takeovers(n) {
  for (const [waiting, what] of [[false, 'asks the other node then'], [true, 'has a GET waiting at the other node']]) {
    const times = [];
    for (let i = 0; i < n; i++) times.push(await takeover(`${waiting}-${i}`, waiting));
    times.sort((a, b) => a - b);
    console.log(`a client that ${what}: first message after ${median(times).toFixed(0)} ms (median of ${n}; ${times[0].toFixed(0)} to ${times.at(-1).toFixed(0)})`);
  }
}

let status = 1;
const late = setTimeout(() => { console.error('it took too long'); finish(); }, 120000);
function finish() {
  clearTimeout(late);
  for (const p of started) p.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
  process.exit(status);
}
try {
  for (const port of ports) await ready(port);
  const found = new Map(), kill = option('takeovers', 0);
  if (kill > 0) { await takeovers(kill); status = 0; finish(); }
  const cases = Object.keys(KINDS).flatMap(kind => [null, 0, 1].map(asked => [kind, asked]));
  for (let i = 0; i < ROUNDS; i++) for (const [kind, asked] of cases) {
    const busy = await measure(kind, asked, SESSIONS, REQUESTS), alone = await measure(kind, asked, 1, REQUESTS / 10), key = `${kind} ${asked}`;
    found.set(key, [...found.get(key) ?? [], [...busy.used, busy.time * 1000, alone.time * 1000]]);
  }
  const what = { hear: ['a message, published and heard by WebSocket', 'a message, by GET at the home node', 'a message, by GET at another node'], say: ['a publish, by WebSocket with its ack', 'a publish, by POST at the home node', 'a publish, by POST at another node'] };
  console.log(`| µs, medians of ${ROUNDS} | CPU of the home node | CPU of the other node | CPU of Redis | together | time, ${SESSIONS} at once | time, one alone |\n|---|---|---|---|---|---|---|`);
  for (const [kind, asked] of cases) {
    const [redis, home, other, busy, alone] = [0, 1, 2, 3, 4].map(i => median(found.get(`${kind} ${asked}`).map(f => f[i])));
    console.log(`| ${[what[kind][asked === null ? 0 : asked + 1], ...[home, other, redis, home + other + redis].map(x => x.toFixed(1)), busy.toFixed(0), alone.toFixed(0)].join(' | ')} |`);
  }
  status = 0;
} finally {
  finish();
}
