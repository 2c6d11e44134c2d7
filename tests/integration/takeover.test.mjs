// takeover.test.mjs: sessions by long-polling outlive the node that has opened them: kill -9, with clients as npm has them, whose requests go to whatever node is left
import { after, afterEach, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { ask, io2, io4 } from './lib/sockets.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--resume-window', '30s', '--lease', '2s', '--redis-timeout', '1s', '--socketio-namespace', '/admin', '--socketio-event', 'chat* do=relay', '--max-queue-bytes', '1m', '--policy', '* retain-count=10000'];
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
  pass(q, a) {
    const to = this.choose?.(q) ?? (q.url.includes('sid=') ? this.rest[this.n++ % this.rest.length] : this.open);
    const out = request({ host: '127.0.0.1', port: this.cluster.gateways[to].port, path: q.url, method: q.method, headers: q.headers, agent: false }, r => { a.writeHead(r.statusCode, r.headers); r.pipe(a); });
    out.on('error', () => a.destroy());
    a.on('close', () => out.destroy());
    q.pipe(out);
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

describe('sessions by long-polling outlive their node', { timeout: 120000 }, () => {
  for (const recovery of ['off', 'on']) describe(`recovery ${recovery}`, () => {
    let cluster, balancer, clients;
    before(async () => { cluster = await Cluster.start({ gateways: 3, insecure: true, flags: [...FLAGS, '--socketio-recovery', recovery] }); balancer = await Balancer.start(cluster); clients = new Clients(balancer); });
    afterEach(() => clients.close());
    after(async () => { balancer.stop(); await cluster.stop(); });

    it('kill -9: the same id, everything once and in order, what they emit arrives', async () => {
      const room = unique(), talker = await cluster.client(2, unique());
      balancer.rest = [1, 2];
      await talker.join(room); await talker.join(`/admin,${room}`);
      const all = [];
      for (const io of [io4, io2, io4]) all.push(await clients.connected(io));
      const admin = all[2].io.socket('/admin');
      admin.said = [];
      admin.on('n', v => admin.said.push(v));
      await within(new Promise(yes => { admin.once('connect', yes); }), PATIENCE_MS, 'the other namespace');
      for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
      assert.equal((await ask(admin, 'join', room)).type, 'ack');
      const ids = all.map(s => s.id), adminId = admin.id;
      let n = 0, going = true;
      const going1 = (async () => { while (going) { await talker.publish(room, ++n, { event: 'n' }); await talker.publish(`/admin,${room}`, n, { event: 'n' }); await sleep(5); } })();
      await sleep(150);
      await cluster.gateways[0].process.kill();
      await sleep(1500);
      going = false;
      await going1;
      await until(() => all.every(s => s.said.length >= n), { what: () => `${n} messages: ${all.map(s => [s.said.length, JSON.stringify(s.ends), JSON.stringify(s.news.slice(-2))])}` });
      assert.deepEqual(all.map(s => s.ends), [[], [], []]);
      assert.deepEqual(all.map(s => s.id), ids);
      assert.equal(admin.id, adminId);
      for (const s of all) assert.deepEqual(s.said, numbers(1, n));
      for (const s of [...all, admin]) { assert.equal((await ask(s, 'presence', room)).type, 'ack'); }
      assert.equal((await talker.call({ type: 'presence', room })).total, 4);
    });
  });
});
