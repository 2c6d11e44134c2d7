// socketio-browser.test.mjs: the clients of npm in Chromium, in every way they know to connect: XHR, JSONP, WebSocket, from pages of the same origin and of others, directly and through HAProxy
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';
import { Browser } from './lib/browser.mjs';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { freePort, until } from './lib/wait.mjs';

const dist = (name, file) => readFileSync(join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'dist', file), 'utf8');
const LIBRARIES = { '/4.js': `${dist('socket.io-client', 'socket.io.min.js')}\nwindow.io4 = io;`, '/2.js': `${dist('socket.io-client-2', 'socket.io.js')}\nwindow.io2 = io;` };
const PAGE = '<!doctype html><title>page</title><link rel="icon" href="data:,"><script src="/4.js"></script><script src="/2.js"></script>';
const KINDS = [
  ['4.8 by XHR', 'io4', { transports: ['polling'] }, 'polling'],
  ['4.8 by XHR, with credentials and a header', 'io4', { transports: ['polling'], withCredentials: true, extraHeaders: { Authorization: 'Bearer none' } }, 'polling'],
  ['4.8 by default', 'io4', {}, 'websocket'],
  ['4.8 by WebSocket', 'io4', { transports: ['websocket'] }, 'websocket'],
  ['2.5 by XHR', 'io2', { transports: ['polling'] }, 'polling'],
  ['2.5 by default', 'io2', {}, 'websocket'],
  ['2.5 by WebSocket', 'io2', { transports: ['websocket'] }, 'websocket'],
  ['2.5 by JSONP', 'io2', { transports: ['polling'], forceJSONP: true }, 'polling'],
];
const N = 12;

// --- in the page ---

/** Connects clients of these kinds, and joins them to the room. */
async function gather(url, room, kinds, more = {}) {
  const show = v => (v instanceof ArrayBuffer || ArrayBuffer.isView(v) ? `bytes ${Array.from(new Uint8Array(v.buffer ?? v))}` : v !== null && typeof v === 'object' ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, show(x)])) : v);
  window.people = await Promise.all(kinds.map(async ([who, lib, options]) => {
    const s = window[lib](url, { forceNew: true, reconnection: false, ...options, ...more }), p = { who, s, heard: [], ends: [] };
    s.on('m', (...args) => p.heard.push(args.map(show)));
    s.on('disconnect', why => p.ends.push(why));
    await new Promise((yes, no) => { s.once('connect', yes); for (const e of ['connect_error', 'error']) s.once(e, why => no(new Error(`${who}: ${why.message ?? why}`))); setTimeout(no, 15000, new Error(`${who}: nothing in 15 s`)); });
    const a = await new Promise(yes => s.emit('join', room, yes));
    if (a.type !== 'ack') throw new Error(JSON.stringify(a));
    s.on('connect', () => s.emit('join', room));
    return p;
  }));
}

/** Each says n things, bytes among them, bare and within something; until all have heard all. */
async function talk(room, n) {
  const thing = i => [new Uint8Array([i, 0, 255]).buffer, `${i}é😀`, { deep: new Uint8Array([i]).buffer, i }][i % 3];
  for (let i = 0; i < n; i++) for (const [j, p] of window.people.entries()) p.s.emit('publish', room, 'm', j, i, thing(i));
  const all = n * window.people.length, end = Date.now() + 20000;
  while (window.people.some(p => p.heard.length < all) && Date.now() < end) await new Promise(yes => { setTimeout(yes, 10); });
  return window.people.map(p => ({ who: p.who, heard: p.heard, ends: p.ends, transport: p.s.io.engine.transport.name }));
}

const leave = () => { for (const p of window.people) p.s.close(); };
const expected = i => [`bytes ${[i, 0, 255]}`, `${i}é😀`, { deep: `bytes ${[i]}`, i }][i % 3];

describe('Socket.IO clients in a browser', { timeout: 120000 }, () => {
  let cluster, browser, site, other, base;
  const serve = async () => {
    const s = createServer((req, res) => {
      const script = LIBRARIES[req.url];
      res.writeHead(200, { 'Content-Type': script ? 'text/javascript' : 'text/html' }).end(script ?? PAGE);
    });
    await new Promise(yes => s.listen(0, '127.0.0.1', yes));
    s.url = `http://127.0.0.1:${s.address().port}`;
    return s;
  };
  before(async () => {
    [site, other] = [await serve(), await serve()];
    const port = await freePort();
    base = `https://127.0.0.1:${port}`;
    cluster = await Cluster.start({ gateways: 2, flags: ['--proxy-protocol', 'optional', '--lease', '2s', '--redis-timeout', '1s', '--resume-window', '60s', '--origin', site.url, '--origin', base] });
    await cluster.startProxy(port);
    browser = await Browser.start();
  });
  after(async () => {
    try { await browser?.stop(); for (const s of [site, other]) { s.closeAllConnections(); s.close(); } } finally { await cluster.stop(); }
  });

  const visit = async url => { const p = await browser.page(); await p.open(url); return p; };

  /** All of these kinds in a room of their own: what each has heard is what all have said, in one order. */
  async function chat(p, url, kinds) {
    const room = unique();
    await p.run(gather, url, room, kinds);
    const people = await p.run(talk, room, N);
    for (const m of people) {
      assert.equal(m.heard.length, N * kinds.length, `${m.who} has heard all, and nothing twice`);
      assert.deepEqual(m.heard, people[0].heard, `${m.who} has heard it in the order of all`);
      assert.deepEqual(m.ends, []);
    }
    for (const j of kinds.keys()) assert.deepEqual(people[0].heard.filter(h => h[0] === j).map(h => h.slice(1)), Array.from({ length: N }, (_, i) => [i, expected(i)]), `${kinds[j][0]}: as it was said`);
    await p.run(leave);
    return people;
  }

  it('a page of another origin: XHR, JSONP, upgrades and WebSockets, with bytes both ways', async () => {
    const p = await visit(site.url), people = await chat(p, `https://127.0.0.1:${cluster.gateways[0].port}`, KINDS);
    assert.deepEqual(people.map(m => [m.who, m.transport]), KINDS.map(k => [k[0], k[3]]));
    const asked = await p.run(() => performance.getEntriesByType('resource').filter(e => e.name.includes('/socket.io/')).map(e => `${e.initiatorType}${/[?&]j=/.test(e.name) ? ' j' : ''}`));
    assert.ok(asked.includes('script j') && asked.includes('xmlhttprequest'), `${new Set(asked).size}`);
    assert.deepEqual(p.problems, []);
  });

  it('a page of the same origin, through HAProxy', async () => {
    const p = await visit(base);
    for (const text of Object.values(LIBRARIES)) await p.call('Runtime.evaluate', { expression: text });
    await chat(p, base, KINDS.filter(k => !k[2].forceJSONP)); // the page that gateways serve forbids scripts and forms of others
    assert.deepEqual(p.problems, []);
  });

  it('pages of other origins than the allowed ones get nothing', async () => {
    const p = await visit(other.url), url = `https://127.0.0.1:${cluster.gateways[0].port}`;
    for (const kind of KINDS) await assert.rejects(p.run(gather, url, unique(), [kind]), new RegExp(`${kind[0]}: .*error`), kind[0]);
    // Those of JSONP are asked for without an Origin.
    const script = headers => cluster.gateways[0].get('/socket.io/?EIO=3&transport=polling&j=0', { headers });
    for (const headers of [{}, { referer: `${other.url}/` }, { referer: `${other.url}/?${site.url}` }, { referer: `${site.url}.other.example/` }]) assert.equal((await script(headers)).status, 403, JSON.stringify(headers));
    const allowed = await script({ referer: `${site.url}/page` }), [, sid] = /"sid":"([^"]+)"/.exec(allowed.text.replaceAll('\\', ''));
    assert.equal(allowed.status, 200);
    await cluster.gateways[0].get(`/socket.io/?EIO=3&transport=polling&sid=${sid}`, { method: 'POST', body: '1:1' });
  });

  it('a gateway is killed under a page that polls through HAProxy: it goes on, or comes back by itself', async () => {
    const room = unique(), kinds = KINDS.filter(k => k[3] === 'polling' && !k[2].withCredentials), p = await visit(site.url), [, survivor] = cluster.gateways;
    await p.run(gather, base, room, [...kinds, ...kinds], { reconnection: true, reconnectionDelay: 100 });
    const speaker = await survivor.client('speaker');
    await speaker.join(room);
    await speaker.publish(room, 'before', { event: 'm' });
    const heard = what => p.until(w => window.people.every(x => x.heard.some(([m]) => m === w)), `"${what}" to be heard`, 20000, what);
    await heard('before');
    await cluster.gateways[0].process.kill();
    const killed = Date.now();
    let n = 0, last;
    const numbers = () => p.run(() => window.people.map(x => [x.who, x.ends, x.heard.map(([m]) => m).filter(m => typeof m === 'number')]));
    await until(async () => { await speaker.publish(room, ++n, { event: 'm' }); return (last = await numbers()).every(x => x[2].length > 0); }, { what: () => `all to hear again: ${JSON.stringify(last)}`, ms: 20000, every: 50 });
    const took = Date.now() - killed;
    await speaker.publish(room, ++n, { event: 'm' });
    await heard(n);
    for (const [who, ends, m] of await numbers()) assert.deepEqual(m, Array.from({ length: n - m[0] + 1 }, (_, i) => m[0] + i), `${who}: nothing missing since it is back; ${ends}`);
    console.log(`# all heard again ${took} ms after kill -9; of ${kinds.length * 2} had to connect again: ${(await numbers()).filter(x => x[1].length > 0).length}`);
    await p.run(leave);
    await until(async () => (await speaker.call({ type: 'presence', room })).total === 1, { what: 'them to be gone' }); // the node would wait for those who do not listen
    await speaker.close();
  });
});
