// api-random.test.mjs: many requests made up from docs/openapi.yaml, some nearly right, most wrong: whatever comes, no 5xx, no crash, always JSON, and every operation has been done. SEED=N makes up the same requests again
import { after, before, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash, randomInt } from 'node:crypto';
import https from 'node:https';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, ROOT } from './lib/cluster.mjs';
import { operations } from './lib/openapi.mjs';

const ADMIN = 'xdk_random_admin_0123456789abcdef', READER = 'xdk_random_reader_0123456789abcdef', REQUESTS = 2500;
const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
const sha256 = key => createHash('sha256').update(key).digest('hex');

/** mulberry32; each request has a state of its own, so that it is the same whatever came before it. */
let state = 0;
const begin = n => { state = (seed + Math.imul(n, 0x9e3779b1)) | 0; };
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const below = n => Math.floor(random() * n), pick = list => list[below(list.length)], chance = p => random() < p;

const NAMES = () => pick(['lobby', 'alice', 'a', '$all', '$user:alice', '', ' ', '%', '%zz', '%00', '%2F', '%2e%2e', '..', '%ff', '你好', 'x'.repeat(300), '*', '{}', 'null', '-1', session, session]);
const VALUES = () => pick([null, true, 0, -1, 1e308, 7, 4000, '', 'x', 'lobby', 'alice', session, '\u0000', '\ud800', '😀', 'x'.repeat(200), [], {}, [[]], ['alice', 7], { user: 'alice' }, { users: ['alice', 'bob'] }, { session }, { sessions: [session, ''] },
  { a: null, b: [1, { c: 2 }] }, 'AAAA', 'AA==', '====']);
const MEMBERS = ['room', 'data', 'data_base64', 'event', 'key', 'except', 'to', 'messages', 'attributes', 'reason', 'until', 'for', 'jti', 'user', 'before', 'expires', 'more'];
let session = 'none';

function object(depth = 0) {
  const o = {};
  for (let i = below(6); i > 0; i--) o[pick(MEMBERS)] = depth < 3 && chance(0.2) ? (chance(0.5) ? object(depth + 1) : [object(depth + 1), object(depth + 1)]) : VALUES();
  return o;
}

function body() {
  const kind = random();
  if (kind < 0.25) return JSON.stringify({ room: pick(['lobby', 'a']), data: VALUES(), ...(chance(0.3) && object()) });
  if (kind < 0.35) return JSON.stringify({ to: { [pick(['user', 'session'])]: pick(['alice', session]) }, data: VALUES() });
  if (kind < 0.45) return JSON.stringify({ messages: Array.from({ length: below(5) }, () => (chance(0.8) ? { room: 'lobby', data: 1 } : VALUES())) });
  if (kind < 0.55) return JSON.stringify({ attributes: { [pick(['a', 'b', ''])]: VALUES() } });
  if (kind < 0.62) return JSON.stringify({ ...(chance(0.5) && { reason: VALUES() }), ...(chance(0.8) && { for: 1 }), ...(chance(0.2) && { until: VALUES() }) });
  if (kind < 0.68) return JSON.stringify({ [pick(['jti', 'user'])]: pick(['alice', 'bob', 'x', 7]), ...(chance(0.3) && { before: VALUES() }), ...(chance(0.3) && { expires: VALUES() }) });
  if (kind < 0.8) return JSON.stringify(object());
  if (kind < 0.9) { // bytes of a good one, spoilt
    const b = Buffer.from(JSON.stringify({ room: 'lobby', data: object() }));
    for (let i = below(4); i >= 0; i--) b[below(b.length)] = below(256);
    return b;
  }
  return pick(['', '[', '{}', 'null', '"', '{"room":"lobby","data":}', '['.repeat(5000), Buffer.from([0xff, 0xfe, 0]), `{"room":"lobby","data":"${'x'.repeat(60000)}"}`]);
}

/** A request that the fuzzer begins with, as it is or with one character changed. */
function seeded(o) {
  let [line, ...rest] = o.seed.replaceAll('{session}', session).split('\n'), data = rest.join('\n');
  if (chance(0.3)) data = data.replace(/./g, (c, i, all) => (i === below(all.length) ? pick(['"', '}', '0', '\u0000', '']) : c));
  else if (chance(0.3)) line = `${line}${pick(['?', '/', '%', '&limit=0', '%ff'])}`;
  return { method: o.method, path: `/api/v1${line.slice(o.method.length + 1)}`, data: data === '' ? undefined : data };
}

function target(path) {
  let t = path.replace('{offset}', () => pick(['1', '2', '0', '-1', 'x', '99999'])).replace(/\{\w+\}/g, () => (chance(0.1) ? NAMES() : encodeURIComponent(NAMES().replace(/%/g, ''))));
  t = t.replace(/[^!-~]/g, c => encodeURIComponent(c));
  if (chance(0.05)) t += pick(['/', '//', '/x', '?']);
  const query = [];
  while (chance(0.4)) query.push(`${pick(['limit', 'cursor', 'after', 'before', 'room', 'user', 'node', 'reason', 'code', 'reconnect_after', 'token', 'session'])}=${chance(0.2) ? pick(['%', '%00', '%ff', '']) : encodeURIComponent(pick(['1', '0', '1000', '1001', '-1', 'x', 'lobby', 'alice', '9007199254740991', '1:0', '0:99999', '18446744073709551616']))}`);
  return `/api/v1${t}${query.length ? `?${query.join('&')}` : ''}`;
}

let cluster, gateways, agent;
before(async () => {
  cluster = await Cluster.start({ gateways: 0 });
  const file = join(cluster.dir, 'keys.json');
  writeFileSync(file, JSON.stringify({ keys: [{ name: 'admin', sha256: sha256(ADMIN), scopes: ['admin'], rate: 0 }, { name: 'reader', sha256: sha256(READER), scopes: ['rooms:read', 'sessions:read'], rate: 50 }] }));
  const flags = ['--api-keys', file, '--resume-window', '5s'];
  gateways = [await cluster.add('gw1', { flags }), await cluster.add('gw2', { flags: [...flags, '--policy', '* join=nobody size=1000'] })];
  agent = new https.Agent({ keepAlive: true, maxSockets: 8, ca: cluster.ca });
});
after(async () => { agent?.destroy(); await cluster?.stop(); });

function ask(g, method, path, headers, data) {
  return new Promise((yes, no) => {
    const req = https.request({ host: '127.0.0.1', port: g.port, agent, method, path, headers: { ...headers, ...(data !== undefined && { 'Content-Length': Buffer.byteLength(data) }) }, timeout: 20000 }, res => {
      const parts = [];
      res.on('data', d => parts.push(d));
      res.on('end', () => yes({ status: res.statusCode, headers: res.headers, text: Buffer.concat(parts).toString() }));
    });
    req.on('timeout', () => req.destroy(new Error('no answer')));
    req.on('error', e => no(new Error(`${method} ${path}: ${e.message}`)));
    req.end(data);
  });
}

it(`answers whatever it is asked (SEED=${seed})`, { timeout: 120000 }, async () => {
  const all = operations().map(o => ({ ...o, seed: readFileSync(join(ROOT, 'tests/fuzz/corpus/fuzz_operation', o.id), 'utf8') })), statuses = {}, done = {}, clients = [];

  /** What is made up depends on the seed and n alone, but for the names of sessions: nothing is awaited before it is complete. */
  function makeUp(n) {
    begin(n);
    const o = pick(all), key = random(), g = pick(gateways), newcomer = chance(0.08) && pick(['alice', 'carol']);
    const headers = key < 0.85 ? { Authorization: `Bearer ${ADMIN}` } : key < 0.95 ? { Authorization: `Bearer ${READER}` } : pick([{}, { Authorization: 'Bearer xdk_' }, { Authorization: 'Basic eA==' }]);
    if (chance(0.1)) headers['X-Request-Id'] = pick(['abc', 'a b', 'x'.repeat(65), '"', 'a,b']);
    if (chance(0.4)) return { g, newcomer, headers, o, ...seeded(o) };
    const method = chance(0.95) ? o.method : pick(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD']);
    return { g, newcomer, headers, o, method, path: target(o.path), data: ['POST', 'PATCH', 'PUT'].includes(method) || chance(0.05) ? body() : undefined };
  }

  async function one(n) {
    const { g, newcomer, headers, o, method, path, data } = makeUp(n);
    if (newcomer) {
      const c = await g.client(newcomer).catch(() => null); // she may be banned just then
      if (c) {
        clients.push(c);
        session = c.session;
        await ask(g, 'PUT', `/api/v1/sessions/${session}/rooms/lobby`, { Authorization: `Bearer ${ADMIN}` }); // by itself it might not
      }
    }
    const r = await ask(g, method, path, headers, data), what = `${n}: ${method} ${path} ${String(data).slice(0, 300)}: ${r.status} ${r.text.slice(0, 300)}`;
    if (r.status === 200 && method === o.method) done[o.id] = (done[o.id] ?? 0) + 1;
    statuses[r.status] = (statuses[r.status] ?? 0) + 1;
    assert.ok(r.status < 500, what);
    assert.match(r.headers['content-type'], /^application\/json/, what);
    if (method === 'HEAD') return;
    let json;
    try { json = JSON.parse(r.text); } catch { assert.fail(`no JSON: ${what}`); }
    if (r.status >= 400) assert.ok(typeof json.code === 'string' && typeof json.message === 'string', what);
    assert.match(r.headers['x-request-id'] ?? 'refused-before-routing', /^[!-~]{1,64}$/, what);
  }
  let left = REQUESTS;
  await Promise.all(Array.from({ length: 8 }, async () => { while (left > 0) await one(left--); }));
  for (const status of [200, 400, 401, 403, 404]) assert.ok(statuses[status] > 0, `no ${status} among ${JSON.stringify(statuses)}`);
  for (const o of all) assert.ok(done[o.id] > 0, `${o.id} has never been done: ${JSON.stringify(done)}`);
  for (const g of gateways) assert.equal((await g.get('/readyz')).status, 200);
  for (const c of clients) c.ws.terminate();
});
