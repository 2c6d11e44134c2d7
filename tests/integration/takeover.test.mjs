// takeover.test.mjs: sessions by long-polling outlive the node that has opened them: kill -9, with clients as npm has them, whose requests go to whatever node is left
import { after, before, beforeEach, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, request } from 'node:http';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { ask, io2, io4 } from './lib/sockets.mjs';
import { Key } from './lib/tokens.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--resume-window', '30s', '--lease', '2s', '--redis-timeout', '1s', '--socketio-namespace', '/admin', '--socketio-event', 'chat* do=relay', '--max-queue-bytes', '1m', '--policy', '* retain-count=10000'];
const ADMIN = 'xdk_integration_admin_0123456789abcdef';
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** A load balancer that knows nothing of sessions: who opens one goes where `open` says, everything else to one of `rest` after the other. */
class Balancer {
  static async start(cluster) {
    const b = new Balancer();
    Object.assign(b, { cluster, open: 0, rest: [0], n: 0, agents: new Set() });
    b.server = createServer((q, a) => b.pass(q, a));
    await new Promise(yes => { b.server.listen(0, '127.0.0.1', yes); });
    return b;
  }
  pass(q, a, to = this.choose?.(q) ?? (q.url.includes('sid=') ? this.rest[this.n++ % this.rest.length] : this.open)) {
    const out = request({ host: '127.0.0.1', port: this.cluster.gateways[to].port, path: q.url, method: q.method, headers: q.headers, agent: false }, r => { a.writeHead(r.statusCode, r.headers); r.pipe(a); });
    // As nginx does for a GET: when its server is gone without a word, another one is asked.
    out.on('error', () => { if (q.method === 'GET' && this.retry !== undefined && to !== this.retry) this.pass(q, a, this.retry); else a.destroy(); });
    a.on('close', () => out.destroy());
    if (q.method === 'GET') out.end();
    else q.pipe(out);
  }
  get url() { return `http://127.0.0.1:${this.server.address().port}`; }
  stop() { this.server.closeAllConnections(); this.server.close(); }
}

/** Polling clients of a test; what they hear of `n`, and their ends, are kept. */
class Clients {
  constructor(balancer) { Object.assign(this, { balancer, all: [] }); }
  async connected(io, nsp = '/', options = {}) {
    const s = io(`${this.balancer.url}${nsp === '/' ? '' : nsp}`, { transports: ['polling'], forceNew: true, reconnection: false, ...options });
    Object.assign(s, { said: [], ends: [], news: [] });
    s.on('n', v => s.said.push(v));
    for (const e of ['$recovered', '$error', '$goodbye']) s.on(e, f => s.news.push(f));
    s.on('disconnect', (why, d) => s.ends.push([why, d?.description?.toString?.()]));
    this.all.push(s);
    await within(new Promise((yes, no) => { s.once('connect', yes); s.once('connect_error', no); s.once('error', no); }), PATIENCE_MS, 'the connect');
    return s;
  }
  close() { for (const s of this.all.splice(0)) s.close(); }
}

/** One request of a raw session at that gateway: what came, or `aborted`. */
function ask1(g, query, { method = 'GET', body } = {}) {
  return new Promise((yes, no) => {
    const q = request({ host: '127.0.0.1', port: g.port, path: `/socket.io/?transport=polling&${query}`, method, agent: false, headers: body === undefined ? {} : { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) } }, r => {
      const parts = [];
      r.on('data', d => parts.push(d));
      r.on('end', () => yes({ status: r.statusCode, text: Buffer.concat(parts).toString() }));
    });
    q.on('error', no);
    q.end(body);
  });
}
const get = (g, sid) => ask1(g, `EIO=4&sid=${sid}`), post = (g, sid, body) => ask1(g, `EIO=4&sid=${sid}`, { method: 'POST', body });
/** A session that was opened at one gateway, whose GETs come to another: its sid, and that of its session in `/`. */
async function opened(home, away, auth = '') {
  const sid = /"sid":"([^"]+)"/.exec((await ask1(home, 'EIO=4')).text)[1];
  const [waiting] = await Promise.all([get(away, sid), post(away, sid, `40${auth}`)]);
  return { sid, session: /"sid":"([^"]+)"/.exec(waiting.text)[1] };
}
/** What comes at that gateway until it matches. */
async function until1(g, sid, what) {
  for (let text = '', r; ; text += `${r.text}\x1e`) {
    if (what.test(text)) return text;
    r = await within(get(g, sid), PATIENCE_MS, `${what} after ${text}`);
    assert.equal(r.status, 200, `${what} after ${text}`);
    if (/(^|\x1e)2($|\x1e)/.test(r.text)) await post(g, sid, '3');
  }
}
const apiKeys = dir => {
  const file = join(dir, 'keys.json');
  writeFileSync(file, JSON.stringify({ keys: [{ name: 'admin', sha256: createHash('sha256').update(ADMIN).digest('hex'), scopes: ['admin'], rate: 0 }] }));
  return file;
};
const counter = async (g, name) => (await g.metrics()).sum(`xindao_${name}_total`);

describe('sessions by long-polling outlive their node', { timeout: 120000 }, () => {
  for (const recovery of ['off', 'on']) describe(`recovery ${recovery}`, () => {
    let cluster, balancer, clients;
    before(async () => { cluster = await Cluster.start({ gateways: 3, insecure: true, flags: [...FLAGS, '--socketio-recovery', recovery] }); balancer = await Balancer.start(cluster); clients = new Clients(balancer); });
    after(async () => { clients.close(); await sleep(100); balancer.stop(); await cluster.stop(); });

    it('kill -9, twice: the same id, everything once and in order, what they emit arrives', async () => {
      const room = unique(), talker = await cluster.client(2, unique()), all = [];
      balancer.rest = [1, 2];
      for (const r of [room, `/admin,${room}`]) await talker.join(r);
      for (const io of [io4, io2, io4]) all.push(await clients.connected(io));
      const admin = all[2].io.socket('/admin');
      admin.said = [];
      admin.on('n', v => admin.said.push(v));
      await within(new Promise(yes => { admin.once('connect', yes); }), PATIENCE_MS, 'the other namespace');
      for (const s of [...all, admin]) assert.equal((await ask(s, 'join', room)).type, 'ack');
      const ids = [...all, admin].map(s => s.id);
      let n = 0, going = true;
      const talk = (async () => { while (going) { n++; for (const r of [room, `/admin,${room}`]) await talker.publish(r, n, { event: 'n' }); await sleep(10); } })();
      const check = async from => {
        await until(() => [...all, admin].every(s => s.said.length >= from), { what: () => `${from} messages: ${[...all, admin].map(s => s.said.length)} ${JSON.stringify(all.map(s => [s.ends, s.news.slice(-2)]))}` });
        assert.deepEqual(all.map(s => s.ends), [[], [], []]);
        assert.deepEqual([...all, admin].map(s => s.id), ids);
        for (const s of [...all, admin]) assert.deepEqual(s.said.slice(0, from), numbers(1, from));
      };
      await sleep(100);
      await cluster.gateways[0].process.kill();
      await sleep(500);
      await check(n);
      // The next one: first everything that waits there is answered, and the clients ask the other.
      balancer.rest = [2];
      const before = n;
      await until(() => all.every(s => s.said.length > before + 3), { what: 'new requests' });
      await cluster.gateways[1].process.kill();
      await sleep(500);
      going = false;
      await talk;
      await check(n);
      for (const s of [...all, admin]) assert.equal((await ask(s, 'presence', room)).type, 'ack');
      assert.equal((await talker.call({ type: 'presence', room })).total, 4);
      assert.equal(await counter(cluster.gateways[2], 'polls_given_up'), 0);
      assert.deepEqual((await cluster.redis.keys('xd:polling:*')).length, 3);
    });

    it('behind a load balancer that asks another server again, not even a GET that waited at the dead node is noticed', async () => {
      const room = unique(), talker = await cluster.client(2, unique()), home = await cluster.add(`home-${recovery}`, { insecure: true, flags: [...FLAGS, '--socketio-recovery', recovery] });
      Object.assign(balancer, { open: cluster.gateways.indexOf(home), rest: [cluster.gateways.indexOf(home)], retry: 2 });
      await talker.join(room);
      const all = [await clients.connected(io4), await clients.connected(io2)], ids = all.map(s => s.id);
      for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
      let n = 0, going = true;
      const talk = (async () => { while (going) { n++; await talker.publish(room, n, { event: 'n' }); await sleep(3); } })();
      await until(() => all.every(s => s.said.length > 20), { what: 'messages' });
      balancer.rest = [2];
      await home.process.kill();
      await sleep(300);
      going = false;
      await talk;
      await until(() => all.every(s => s.said.length >= n), { what: () => `${n} messages: ${all.map(s => [s.said.length, s.ends])}` });
      for (const s of all) assert.deepEqual(s.said, numbers(1, n));
      assert.deepEqual(all.map(s => [s.ends, s.id]), ids.map(id => [[], id]));
    });

    it('the same when only the node dies that the GETs came to', async () => {
      const room = unique(), talker = await cluster.client(2, unique()), way = await cluster.add(`way-${recovery}`, { insecure: true, flags: [...FLAGS, '--socketio-recovery', recovery] });
      Object.assign(balancer, { open: 2, rest: [cluster.gateways.indexOf(way)], retry: 2 });
      await talker.join(room);
      const all = [await clients.connected(io4), await clients.connected(io2), await clients.connected(io4)], ids = all.map(s => s.id);
      for (const s of all.slice(0, 2)) assert.equal((await ask(s, 'join', room)).type, 'ack'); // the last one hears nothing: its GET waits
      const before = await counter(cluster.gateways[2], 'polls_taken_over');
      let n = 0, going = true;
      const talk = (async () => { while (going) { n++; await talker.publish(room, n, { event: 'n' }); await sleep(3); } })();
      await until(() => all.slice(0, 2).every(s => s.said.length > 20), { what: 'messages' });
      balancer.rest = [2];
      await way.process.kill();
      await sleep(300);
      going = false;
      await talk;
      assert.equal((await ask(all[2], 'join', room)).type, 'ack');
      n++;
      await talker.publish(room, n, { event: 'n' });
      await until(() => all.every(s => s.said.at(-1) === n), { what: () => `${n} messages: ${all.map(s => [s.said.length, s.ends])}` });
      assert.deepEqual(all.map(s => [s.ends, s.id]), ids.map(id => [[], id]));
      for (const s of all.slice(0, 2)) assert.deepEqual(s.said, numbers(1, n));
      assert.deepEqual(all[2].said, [n]);
      assert.equal(await counter(cluster.gateways[2], 'polls_taken_over'), before);
    });

    it('a node that stops in order takes no session of others with it', async () => {
      const room = unique(), talker = await cluster.client(2, unique()), way = await cluster.add(`leaving-${recovery}`, { insecure: true, flags: [...FLAGS, '--drain-time', '3s', '--socketio-recovery', recovery] });
      Object.assign(balancer, { open: 2, rest: [cluster.gateways.indexOf(way)], retry: undefined });
      await talker.join(room);
      const all = [await clients.connected(io4), await clients.connected(io2)], ids = all.map(s => s.id);
      for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
      await sleep(100); // their GETs wait
      balancer.rest = [2];
      assert.equal((await way.process.terminate()).code, 0);
      for (let n = 1; n <= 3; n++) await talker.publish(room, n, { event: 'n' });
      await until(() => all.every(s => s.said.length === 3), { what: () => `messages: ${all.map(s => [s.said.length, s.ends])}` });
      for (const s of all) assert.equal((await ask(s, 'presence', room)).type, 'ack');
      assert.deepEqual(all.map(s => [s.ends, s.id]), ids.map(id => [[], id]));
    });
  });

  describe('request by request', () => {
    let cluster, key, home, a, b;
    before(async () => {
      cluster = await Cluster.start({ gateways: 0 });
      key = await Key.make('HS256');
      cluster.flags = [...FLAGS, '--auth', 'jwt', '--jwt-key', key.file(cluster.dir), '--jwt-leeway', '0s', '--policy', 'secret-* join=token', '--api-keys', apiKeys(cluster.dir)];
      await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { insecure: true, flags: cluster.flags })));
      [a, b] = cluster.gateways;
    });
    beforeEach(async () => { home = await cluster.add(`home${cluster.gateways.length}`, { insecure: true, flags: cluster.flags }); });
    after(() => cluster.stop());
    const token = async (user, more, o) => JSON.stringify({ token: await key.sign(user, more, o) });

    it('a GET that waits elsewhere is served on, a POST is done, and the rights of the token are as before', async () => {
      const { sid, session } = await opened(home, a, await token(unique(), { xindao: { join: ['secret-*'], publish: ['secret-*'] } }));
      await post(b, sid, '421["join","secret-1"]');
      await until1(a, sid, /431\[\{"type":"ack","room":"secret-1"/);
      const joined = until1(a, sid, /432\[\{"type":"ack","room":"secret-2"/);
      await sleep(50);
      await home.process.kill();
      assert.equal((await post(b, sid, '422["join","secret-2"]')).text, 'ok');
      await joined;
      await post(b, sid, '42["publish","secret-1","x",1]');
      await until1(a, sid, /42\["x",1\]/);
      const { node, state } = await cluster.redis.hash(`xd:session:{${session}}`);
      assert.equal(state, 'active');
      assert.match(node, /^gw/);
      assert.equal((await cluster.redis.hash(`xd:polling:{${sid.slice(0, 16)}}`)).node, node);
      assert.equal((await post(a, sid, '1')).text, 'ok');
      await until(async () => (await cluster.redis.keys('xd:polling:*')).length === 0, { what: 'nothing to be left' });
      assert.equal((await get(b, sid)).status, 400);
    });

    it('who was banned meanwhile, or has a token that is over, begins anew and is turned away', async () => {
      const user = unique(), banned = await token(user), brief = await token(unique(), {}, { seconds: 2 });
      const [one, two] = await Promise.all([opened(home, a, banned), opened(home, a, brief)]);
      const waiting = get(a, one.sid);
      await sleep(50);
      await home.process.kill();
      const r = await a.get(`/api/v1/users/${user}/ban`, { method: 'PUT', headers: { authorization: `Bearer ${ADMIN}` }, body: '{}' });
      assert.equal(r.status < 300, true, r.text);
      assert.ok([400, 200].includes((await waiting).status));
      assert.equal((await get(b, one.sid)).status, 400);
      await sleep(1200);
      const last = await get(b, two.sid);
      assert.ok(last.status === 400 || /(^|\x1e)1$/.test(last.text), `${last.status} ${last.text}`);
      assert.equal((await get(b, two.sid)).status, 400);
      assert.deepEqual(await cluster.redis.keys('xd:polling:*'), []);
      await assert.rejects(opened(a, b, banned), /null/);
    });

    it('a node that hangs is given up, and lets go when it goes on', async () => {
      const mine = await token(unique(), { xindao: { join: ['*'], publish: ['*'] } }), room = unique('secret-');
      const { sid } = await opened(home, a, mine), other = await opened(b, b, mine);
      for (const [s, g] of [[sid, a], [other.sid, b]]) { await post(g, s, `421["join","${room}"]`); await until1(g, s, /431\[\{"type":"ack"/); }
      const heard = until1(a, sid, /42\["x",1\]/);
      await sleep(50);
      home.process.signal('SIGSTOP');
      await post(b, other.sid, `42["publish","${room}","x",1]`);
      await heard;
      home.process.signal('SIGCONT');
      await until(async () => await counter(home, 'polls_given_up') === 1, { what: 'the node to let go' });
      await post(b, other.sid, `42["publish","${room}","x",2]`);
      await until1(home, sid, /42\["x",2\]/);
      assert.equal((await post(home, sid, '1')).text, 'ok');
      assert.equal((await post(b, other.sid, '1')).text, 'ok');
      await home.stop();
    });

    it('a client 2.x that is in no namespace is known at every node, and after the death of its own', async () => {
      const query = 'EIO=3&b64=1', first = (await ask1(home, query)).text, sid = /"sid":"([^"]+)"/.exec(first)[1];
      assert.match(/44"/.test(first) ? first : (await ask1(a, `${query}&sid=${sid}`)).text, /44"/);
      const waiting = ask1(a, `${query}&sid=${sid}`);
      await sleep(50);
      assert.equal((await ask1(b, `${query}&sid=${sid}`, { method: 'POST', body: '1:2' })).text, 'ok');
      assert.equal((await waiting).text, '1:3');
      await home.process.kill();
      assert.equal((await ask1(b, `${query}&sid=${sid}`, { method: 'POST', body: '1:2' })).text, 'ok');
      assert.match((await ask1(a, `${query}&sid=${sid}`)).text, /^(1:3)+$/);
      assert.equal((await ask1(a, `${query}&sid=${sid}`, { method: 'POST', body: '1:1' })).text, 'ok');
    });
  });
});
