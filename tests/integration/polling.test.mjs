// polling.test.mjs: the long-polling transport: clients as npm has them, and its rules by raw requests, with the official server as the oracle
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createServer, request as httpRequest } from 'node:http';
import { gunzipSync } from 'node:zlib';
import WebSocket from 'ws';
import { Server } from 'socket.io';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, ask, events, io2, io4 } from './lib/sockets.mjs';
import { roundRobin } from './lib/tcplink.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--socketio-event', 'chat* do=relay', '--max-message-size', '1m', '--max-queue-bytes', '4m'];
const transports = { default: undefined, polling: ['polling'], websocket: ['websocket'] };
const name = s => s.io.engine.transport.name;

describe('long-polling clients', { timeout: 120000 }, () => {
  let cluster, sockets;
  before(async () => { cluster = await Cluster.start({ flags: FLAGS }); sockets = new Sockets(cluster); });
  after(() => cluster.stop());

  it('clients 2.x and 4.x with every choice of transports share a room, bytes included, in one order', async () => {
    const room = unique(), all = [];
    for (const io of [io2, io4]) for (const t of Object.values(transports)) all.push(await sockets.connected(io, 0, '/', { transports: t }));
    for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
    const N = 60;
    for (let i = 0; i < N; i++) for (const [j, s] of all.entries()) s.emit('chat', j, i % 3 === 0 ? Buffer.from([j, i]) : `${i}é😀`);
    await until(() => all.every(s => events(s, 'chat').length === all.length * N), { what: () => `all messages: ${all.map(s => events(s, 'chat').length)}` });
    const seen = s => events(s, 'chat').map(([j, v]) => [j, typeof v === 'string' ? v : Buffer.from(v).toString('hex')]);
    for (const s of all.slice(1)) assert.deepEqual(seen(s), seen(all[0]));
    for (let j = 0; j < all.length; j++) assert.deepEqual(seen(all[0]).filter(m => m[0] === j).map(m => m[1]), Array.from({ length: N }, (_, i) => i % 3 === 0 ? Buffer.from([j, i]).toString('hex') : `${i}é😀`), 'as each has said it');
    await until(() => all.every((s, i) => name(s) === ['websocket', 'polling', 'websocket'][i % 3]), { what: () => `transports: ${all.map(name)}` });
    sockets.close();
  });

  it('nothing is lost or doubled while a client goes over to a WebSocket', async () => {
    for (const io of [io2, io4]) {
      const room = unique(), speaker = await sockets.connected(io4, 0, '/', { transports: ['websocket'] }), s = sockets.connect(io, 0, '/', {});
      await ask(speaker, 'join', room);
      await within(new Promise(yes => s.once('connect', yes)), PATIENCE_MS, 'connected');
      await ask(s, 'join', room);
      let upgraded = name(s) === 'websocket', n = 0;
      s.io.engine.once('upgrade', () => { upgraded = true; });
      for (let after = 0; after < 50 && n < 5000; n++) { speaker.emit('chat', n); s.emit('chat', `mine ${n}`); after += upgraded; if (n % 10 === 0) await sleep(1); }
      assert.ok(upgraded, 'it has gone over');
      await until(() => events(s, 'chat').length >= 2 * n, { what: () => `${2 * n} messages, ${events(s, 'chat').length} came` });
      const heard = events(s, 'chat').map(([m]) => m);
      assert.deepEqual(heard.filter(m => typeof m === 'number'), Array.from({ length: n }, (_, i) => i));
      assert.deepEqual(heard.filter(m => typeof m === 'string'), Array.from({ length: n }, (_, i) => `mine ${i}`));
    }
    sockets.close();
  });
});

describe('long-polling at any node', { timeout: 120000 }, () => {
  let cluster, proxy;
  before(async () => { cluster = await Cluster.start({ gateways: 2, insecure: true, flags: FLAGS }); proxy = await roundRobin(cluster); });
  after(async () => { proxy.close(); await cluster.stop(); });
  const metric = async (g, name) => Number(new RegExp(`^xindao_${name}_total (\\d+)`, 'm').exec((await g.get('/metrics')).text)[1]);

  it('clients whose requests go to one node after the other', async () => {
    const room = unique(), all = [];
    const via = (io, t) => { const s = io(`http://127.0.0.1:${proxy.port}`, { transports: t, forceNew: true, reconnection: false }); s.heard = []; s.on('chat', (...a) => s.heard.push(['chat', ...a])); all.push(s); return s; };
    for (const io of [io4, io2]) for (const t of [['polling'], ['polling'], ['polling', 'websocket']]) { const s = via(io, t); await within(new Promise((yes, no) => { s.once('connect', yes); s.once('connect_error', no); }), PATIENCE_MS, 'the connect'); }
    for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
    const N = 30;
    for (let i = 0; i < N; i++) { for (const [j, s] of all.entries()) s.emit('chat', j, i % 3 === 0 ? Buffer.from([j, i]) : `${i}é`); await sleep(2); }
    await until(() => all.every(s => s.heard.length === all.length * N), { what: () => `all messages: ${all.map(s => s.heard.length)}` });
    const seen = s => s.heard.map(([, j, v]) => [j, typeof v === 'string' ? v : Buffer.from(v).toString('hex')]);
    for (const s of all.slice(1)) assert.deepEqual(seen(s), seen(all[0]));
    assert.ok(await metric(cluster.gateways[0], 'polls_forwarded') > 0 && await metric(cluster.gateways[1], 'polls_served') > 0);
    for (const s of all) s.close();
  });

  it('the node that has opened a session decides, wherever its requests come', async () => {
    const [a, b] = cluster.gateways.map(g => g.port), at = (s, port) => Object.assign(Object.create(s), { port });
    let s = await new Session(a, 4).open();
    const first = at(s, b).get();
    await sleep(100);
    assert.equal((await s.get()).status, 400, 'a second GET');
    assert.equal((await first).text, '1');
    assert.equal((await at(s, b).get()).text, '{"code":1,"message":"Session ID unknown"}');
    s = await new Session(a, 4).open();
    await at(s, b).get({ abort: 100 });
    await sleep(100);
    assert.equal((await s.get()).status, 400, 'one that was given up at the other node');
    s = await new Session(a, 4).open();
    assert.equal((await at(s, b).post('abc')).status, 400);
    s = await new Session(a, 4).open();
    assert.equal((await at(s, b).post(`4${'x'.repeat(1048577)}`)).status, 413);
    const ws = new Upgrade(b, 4, s.sid);
    assert.equal(await ws.closed, 'closed');
    const waiting = at(s, b).get();
    assert.equal((await s.post('40')).text, 'ok');
    assert.match((await waiting).text, /^40\{"sid"/);
    assert.equal((await ask1(a, `EIO=4&transport=polling&sid=${'x'.repeat(16)}.nobody`)).status, 400);
    assert.equal((await ask1(a, `EIO=3&transport=polling&sid=${'x'.repeat(16)}`)).status, 400);
  });

  it('a session whose node has died is unknown everywhere', async () => {
    const [a, b] = cluster.gateways, s = await new Session(a.port, 4).open();
    await a.process.kill();
    assert.equal((await Object.assign(Object.create(s), { port: b.port }).get()).text, '{"code":1,"message":"Session ID unknown"}');
  });
});

// --- rules ---

const TIMES = { pingInterval: 600, pingTimeout: 400, connectTimeout: 5000 };
const RULES = ['--socketio-ping-interval', '600ms', '--socketio-ping-timeout', '400ms', '--socketio-connect-timeout', '5s', '--max-message-size', '1000000', '--max-queue-bytes', '2m',
  '--socketio-event', '* do=relay to=namespace'];

/** One request; `abort`: gives up after so many ms. */
function ask1(port, query, { method = 'GET', body, headers = {}, abort } = {}) {
  return new Promise((yes, no) => {
    const req = httpRequest({ host: '127.0.0.1', port, path: `/socket.io/?${query}`, method, headers: { ...(body !== undefined ? { 'content-type': 'text/plain;charset=UTF-8', 'content-length': Buffer.byteLength(body) } : {}), ...headers }, agent: false }, res => {
      const parts = [];
      res.on('data', d => parts.push(d));
      res.on('end', () => yes({ status: res.statusCode, type: res.headers['content-type'], headers: res.headers, raw: Buffer.concat(parts), text: Buffer.concat(parts).toString() }));
    });
    req.on('error', e => (abort === undefined ? no(e) : yes({ status: 'aborted' })));
    if (abort !== undefined) setTimeout(() => req.destroy(), abort);
    req.end(body);
  });
}

/** A session by long-polling. */
class Session {
  constructor(port, eio, extra = '') { Object.assign(this, { port, eio, extra }); }
  async open() {
    const r = await ask1(this.port, `EIO=${this.eio}&transport=polling${this.extra}`);
    this.first = r;
    this.sid = /"sid":"([^"]+)"/.exec(r.text.replaceAll('\\"', '"'))?.[1];
    return this;
  }
  get query() { return `EIO=${this.eio}&transport=polling${this.extra}&sid=${this.sid}`; }
  get(o) { return ask1(this.port, this.query, o); }
  post(body, o) { return ask1(this.port, this.query, { method: 'POST', body, ...o }); }
  /** What comes, heartbeats and connects aside, until there is something. */
  async next() {
    for (;;) {
      const r = await this.get();
      if (r.status !== 200) return `${r.status}`;
      const rest = this.eio === 4 ? r.text.split('\x1e').filter(p => p !== '2' && !p.startsWith('40')).join('\x1e') : r.text.replace(/^2:40/, '');
      if (this.eio === 4 && /(^|\x1e)2($|\x1e)/.test(r.text)) await this.post('3');
      if (rest !== '') return rest;
    }
  }
}
const masked = r => ({ status: r.status, type: r.type, text: r.text.replace(/"sid(\\?)":(\\?)"[^"\\]+/g, '"sid":"?').replace(/^\d+:0/, 'N:0').replace(/2:40$/, '') });
const connected = async s => { if (s.eio === 4) await s.post(s.extra.startsWith('&j') ? 'd=40' : '40'); await sleep(30); return s; };
const bytes = (...b) => Buffer.from(b);

// Each case returns what is compared with the oracle.
const CASES = {
  'EIO=4 opens': async port => { const { status, text } = masked((await new Session(port, 4).open()).first); return { status, text }; },
  'EIO=3 opens': async port => { const { status, text } = masked((await new Session(port, 3, '&b64=1').open()).first); return { status, text: text.replace(',"maxPayload":1000000', '') }; },
  'no transport': async port => masked(await ask1(port, 'EIO=4')),
  'an unknown transport': async port => masked(await ask1(port, 'EIO=4&transport=abc')),
  'a WebSocket that is none': async port => masked(await ask1(port, 'EIO=4&transport=websocket')),
  'an unknown sid': async port => masked(await ask1(port, 'EIO=4&transport=polling&sid=abc')),
  'opening with POST': async port => masked(await ask1(port, 'EIO=4&transport=polling', { method: 'POST', body: '40' })),
  'opening with PUT': async port => masked(await ask1(port, 'EIO=4&transport=polling', { method: 'PUT', body: '40' })),
  'EIO=4: an event comes back': async port => { const s = await connected(await new Session(port, 4).open()); const p = await s.post('42["x",1]'); return [masked(p), await s.next()]; },
  'EIO=4: three packets, with bytes': async port => { const s = await connected(await new Session(port, 4).open()); await s.post('42["x","é😀"]\x1e451-["y",{"_placeholder":true,"num":0}]\x1ebAQIDBA==\x1e42["z"]'); await sleep(30); return s.next(); },
  'EIO=3: three packets, with base64': async port => { const s = await connected(await new Session(port, 3, '&b64=1').open()); await s.post(['42["x","é😀12"]', '451-["y",{"_placeholder":true,"num":0}]', 'b4AQIDBA==', '42["z"]'].map(p => `${p.length}:${p}`).join('')); await sleep(30); return s.next(); },
  'EIO=3: bytes': async port => {
    const s = await connected(await new Session(port, 3).open()); await s.get();
    const event = '451-["y",{"_placeholder":true,"num":0}]';
    const p = await s.post(Buffer.concat([bytes(0, 3, 9, 255), Buffer.from(event), bytes(1, 3, 255, 4, 1, 2)]), { headers: { 'content-type': 'application/octet-stream' } });
    await sleep(30);
    const r = await s.get();
    return [p.status, r.status, r.type, r.raw.toString('hex')];
  },
  'EIO=4: an octet-stream': async port => { const s = await connected(await new Session(port, 4).open()); const p = await s.post('42["x"]', { headers: { 'content-type': 'application/octet-stream' }, abort: 300 }); return [[400, 'aborted'].includes(p.status), (await s.get()).status]; },
  ...Object.fromEntries([[4, 'abc'], [3, 'abc'], [3, '5:4']].map(([eio, body]) => [`EIO=${eio}: what is no payload: ${body}`, async port => { const s = await connected(await new Session(port, eio).open()); await s.post(body, { abort: 300 }); return (await s.get()).status; }])),
  'EIO=4: a ping in the wrong direction': async port => { const s = await connected(await new Session(port, 4).open()); await s.post('2', { abort: 300 }); return (await s.get()).status; },
  'EIO=3: a pong in the wrong direction': async port => { const s = await connected(await new Session(port, 3).open()); await s.post('1:3', { abort: 300 }); return (await s.get()).status; },
  'EIO=4: pings come': async port => { const s = await new Session(port, 4).open(); const r = []; for (let i = 0; i < 2; i++) { r.push((await s.get()).text); r.push((await s.post('3')).text); } return r; },
  'EIO=3: pings are answered': async port => { const s = await connected(await new Session(port, 3, '&b64=1').open()); await s.get(); await s.post('1:2'); return (await s.get()).text; },
  'EIO=4: nobody answers the ping': async port => { const s = await new Session(port, 4).open(); await sleep(1060); return masked(await s.get()); },
  'EIO=3: nobody pings': async port => { const s = await new Session(port, 3).open(); await sleep(1060); return masked(await s.post('1:2')); },
  'two GETs at once': async port => { const s = await new Session(port, 4).open(); const a = s.get(); await sleep(30); const b = await s.get(); return [(await a).text, [400, 500].includes(b.status), (await s.get()).status]; },
  'a GET that is given up': async port => { const s = await new Session(port, 4).open(); await s.get({ abort: 30 }); await sleep(30); return masked(await s.get()); },
  'EIO=4: the client says close': async port => { const s = await new Session(port, 4).open(); const a = s.get(); await sleep(30); const p = await s.post('1'); return [(await a).text, p.text, (await s.get()).status]; },
  'EIO=3: the client says close': async port => { const s = await connected(await new Session(port, 3).open()); await s.get(); const a = s.get(); await sleep(30); const p = await s.post('1:1'); return [(await a).text, p.text, (await s.get()).status]; },
  'too much': async port => { const s = await new Session(port, 4).open(); return (await s.post(`42["${'x'.repeat(1000001)}"]`, { abort: 2000 })).status; },
  'a large answer is compressed': async port => {
    const s = await connected(await new Session(port, 4).open());
    await s.post(`42["x","${'y'.repeat(5000)}"]`);
    for (;;) { const r = await s.get({ headers: { 'accept-encoding': 'gzip, deflate' } }); if (r.status !== 200 || r.raw.length > 20) return [r.status, r.headers['content-encoding'], r.headers['content-encoding'] && gunzipSync(r.raw).toString().includes('y'.repeat(5000))]; }
  },
  'JSONP': async port => {
    const s = await connected(await new Session(port, 4, '&j=7').open());
    const p = await s.post(`d=${encodeURIComponent('42["x","a\\\\nb\u2028 +"]')}`, { headers: { 'content-type': 'application/x-www-form-urlencoded' } });
    await sleep(30);
    const r = await s.get();
    return [masked(s.first).text, p.text, r.text.replace(/40\{[^}]*\}/, 'C')];
  },
};

/** Upgrades, over a raw WebSocket. */
class Upgrade {
  constructor(port, eio, sid) {
    this.heard = [];
    this.ws = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=${eio}&transport=websocket&sid=${sid}`);
    this.ws.on('message', d => this.heard.push(d.toString()));
    this.ws.on('error', () => {});
    this.closed = new Promise(yes => this.ws.on('close', () => { this.end = true; yes('closed'); }));
    this.opened = new Promise(yes => { this.ws.on('open', () => yes(true)); this.ws.on('close', () => yes(false)); });
  }
  async probe() { await this.opened; this.ws.send('2probe'); await until(() => this.heard.includes('3probe') || this.end, { what: 'the probe', every: 5 }); return this; }
}
Object.assign(CASES, {
  ...Object.fromEntries([4, 3].map(eio => [`EIO=${eio}: an upgrade`, async port => {
    const s = await connected(await new Session(port, eio).open()); await s.get();
    const u = await new Upgrade(port, eio, s.sid).probe(), noop = await s.get();
    u.ws.send('5');
    const after = s.get();
    u.ws.send('42["x"]');
    await until(() => u.heard.includes('42["x"]'), { what: 'the message', every: 5 });
    const again = new Upgrade(port, eio, s.sid);
    const result = [noop.text, (await after).status, await again.closed, u.heard.filter(t => t !== '2' && t !== '3'), u.end];
    u.ws.close(); await u.closed;
    return result;
  }])),
  'what waits goes to the WebSocket': async port => {
    const s = await connected(await new Session(port, 4).open()); await s.get();
    const u = await new Upgrade(port, 4, s.sid).probe();
    await s.post('42["a"]\x1e42["b"]');
    await sleep(20);
    u.ws.send('5');
    await until(() => u.heard.includes('42["b"]'), { what: 'the messages', every: 5 });
    const result = u.heard.filter(t => t.startsWith('42'));
    u.ws.close();
    return result;
  },
  'a probe that is none': async port => {
    const s = await connected(await new Session(port, 4).open()), u = new Upgrade(port, 4, s.sid);
    await u.opened; u.ws.send('abc');
    const closed = await u.closed;
    await s.post('42["x"]');
    return [closed, (await s.next())];
  },
  'a WebSocket for an unknown sid': async port => new Upgrade(port, 4, 'abc').closed,
});

describe('rules of long-polling', { timeout: 120000 }, () => {
  let cluster, oracle, http, ports;
  before(async () => {
    cluster = await Cluster.start({ redis: false, insecure: true, flags: RULES });
    http = createServer();
    oracle = new Server(http, { ...TIMES, allowEIO3: true, maxHttpBufferSize: 1000000, serveClient: false });
    oracle.engine.on('connection', s => { s.transport.closeTimeout = 100; }); // it would wait 30 s for a last GET
    oracle.on('connection', s => s.onAny((...args) => { s.emit(...args); }));
    await new Promise(yes => { http.listen(0, '127.0.0.1', yes); });
    ports = [cluster.gateways[0].port, http.address().port];
  });
  after(async () => { await sleep(1100); await oracle?.close(); await cluster.stop(); }); // what was left open has not answered a ping by then

  it(`${Object.keys(CASES).length} cases, as the official server has them`, async () => {
    const run = (port, play) => within(play(port), PATIENCE_MS, 'the case').catch(e => ({ failed: e.message }));
    const cases = Object.entries(CASES), theirs = [], problems = [];
    for (let i = 0; i < cases.length; i += 6) theirs.push(...await Promise.all(cases.slice(i, i + 6).map(([, play]) => run(ports[1], play))));
    for (const [i, [what, play]] of cases.entries()) {
      const same = (a, b) => JSON.stringify(a) === JSON.stringify(b) && !b?.failed;
      let ours = await run(ports[0], play);
      // On a busy machine a heartbeat of 600 ms may come between; then both play again, alone.
      if (!same(ours, theirs[i])) [ours, theirs[i]] = [await run(ports[0], play), await run(ports[1], play)];
      if (!same(ours, theirs[i])) problems.push(`${what}: ours ${JSON.stringify(ours)}, theirs ${JSON.stringify(theirs[i])}`);
    }
    assert.deepEqual(problems, []);
  });

  it('a payload that is none is answered with 400, a script is called one', async () => {
    const s = await connected(await new Session(ports[0], 4).open());
    assert.equal((await s.post('abc')).status, 400);
    const j = await new Session(ports[0], 3, '&j=1&b64=1').open();
    assert.equal(j.first.type, 'text/javascript; charset=UTF-8', 'or browsers would not run it: nosniff');
  });

  it('pages of other origins', async () => {
    const headers = { origin: 'http://page.example' }, gw = ports[0];
    const r = await ask1(gw, 'EIO=3&transport=polling', { headers });
    assert.equal(r.headers['access-control-allow-origin'], 'http://page.example');
    assert.equal(r.headers['access-control-allow-credentials'], 'true');
    assert.equal(r.headers['cache-control'], 'no-store');
    assert.equal(r.headers['set-cookie'], undefined);
    const p = await ask1(gw, 'EIO=3&transport=polling', { headers: { ...headers, 'access-control-request-headers': 'content-type' }, method: 'OPTIONS' });
    assert.equal(p.status, 204);
    assert.match(p.headers['access-control-allow-headers'], /Content-Type/);
  });
});
