// sentinel.test.mjs: failovers by real sentinels under two gateways: the primary is killed, stands still, or is replaced in order; with TLS too
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import IORedis from 'ioredis';
import { Cluster, request } from './lib/cluster.mjs';
import { Refused, unique } from './lib/client.mjs';
import { Sentinels } from './lib/sentinels.mjs';
import { Sockets, events, io4 } from './lib/sockets.mjs';
import { sleep, until } from './lib/wait.mjs';

const KEY = 'xdk_sentinel_0123456789abcdef01234567';
const FLAGS = ['--lease', '6s', '--redis-timeout', '2s', '--socketio-emitter', 'streams', '--socketio-emitter-stream', 'xd:emitters'];

const ready = (cluster, what, ms = 60000) => until(async () => (await Promise.all(cluster.gateways.map(g => g.get('/readyz')))).every(r => r.status === 200), { what, ms });

/** Publishes until told to stop, one message after the other, each repeated with its key until it is acknowledged. */
function traffic(client, room) {
  const t = { acked: [], refusals: 0, longest: 0, running: true }, mark = unique('traffic'); // keys are remembered for minutes
  t.done = (async () => {
    for (let i = 0; t.running; i++) {
      const began = Date.now(), data = `${mark}-${i}`;
      for (let acked = false; !acked;) {
        try {
          await client.publish(room, data, { key: data }, 60000);
          acked = true;
        } catch (e) {
          if (!(e instanceof Refused) || e.retry !== true) throw e;
          t.refusals++;
          await sleep(50);
        }
      }
      t.longest = Math.max(t.longest, Date.now() - began);
      t.acked.push(data);
      await sleep(5);
    }
  })();
  t.done.catch(() => {}); // told by stop()
  t.stop = async () => { t.running = false; await t.done; return t; };
  return t;
}

/** Appends to the stream of Redis emitters until told to stop, as npm's emitter does, each number once: what is not acknowledged is not repeated. */
function speaker(sentinels) {
  const s = { acked: [], running: true }, redis = new IORedis({ sentinels: sentinels.sentinels.map(x => ({ host: '127.0.0.1', port: x.port })), name: 'main', maxRetriesPerRequest: 0, enableOfflineQueue: false });
  redis.on('error', () => {});
  s.done = (async () => {
    for (let i = 0; s.running; i++) {
      await redis.xadd('xd:emitters', 'MAXLEN', '~', 10000, '*', 'uid', 'emitter', 'nsp', '/', 'type', '3', 'data', JSON.stringify({ packet: { type: 2, data: ['streamed', i], nsp: '/' }, opts: { rooms: [], flags: {}, except: [] } })).then(() => s.acked.push(i), () => {});
      await sleep(10);
    }
    redis.disconnect();
  })();
  s.stop = async () => { s.running = false; await s.done; return s.acked; };
  return s;
}

/** A backend that publishes, joins a session to one room after the other, and emits, at both nodes in turn, each until it is told that it is done. */
function backend(cluster, room, session) {
  const b = { published: [], joined: [], emitted: [], refusals: 0, running: true }, mark = unique('api');
  const once = (i, method, path, body) => request(cluster.gateways[i % 2].port, `/api/v1/${path}`, { method, ca: cluster.ca, headers: { Authorization: `Bearer ${KEY}` }, body: body && JSON.stringify(body) });
  async function until200(i, ...what) {
    for (let n = i; ; n++) {
      const r = await once(n, ...what);
      if (r.status === 200) return r.json;
      assert.ok([503, 504].includes(r.status) && r.headers['retry-after'] && ['unavailable', 'timeout'].includes(r.json.code), `${what}: ${r.status} ${r.text}`);
      b.refusals++;
      await sleep(50);
    }
  }
  const loop = async (ms, one) => { for (let i = 0; b.running; i++) { await one(i, `${mark}-${i}`); await sleep(ms); } };
  b.done = Promise.all([
    loop(50, async (i, data) => { await until200(i, 'POST', 'publish', { room, data, key: data }); b.published.push(data); }),
    loop(250, async (i, to) => { await until200(i, 'PUT', `sessions/${session}/rooms/${to}`); b.joined.push(to); }),
    loop(50, async (i, data) => { const { nodes } = await until200(i, 'POST', 'emit', { event: 'news', data }); b.emitted.push({ data, nodes }); }),
  ]);
  b.done.catch(() => {}); // told by stop()
  b.stop = async () => { b.running = false; await b.done; return b; };
  return b;
}

async function talks(room, a, b) {
  const mark = unique('mark');
  await a.publish(room, mark);
  for (const c of new Set([a, b])) await until(async () => (await c.message(room)).data === mark, { what: `${mark} to arrive`, ms: 40000, every: 0 });
}

describe('Sentinel', { timeout: 240000 }, () => {
  let cluster, sentinels, dir, room, a, b;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'xd-sentinel-'));
    sentinels = await Sentinels.start(dir);
    const keys = join(dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'all', sha256: createHash('sha256').update(KEY).digest('hex'), scopes: ['admin'], rate: 0 }] }));
    cluster = await Cluster.start({ gateways: 2, redis: false, flags: [...FLAGS, '--redis-read-replicas', 'on', '--api-keys', keys], broker: ['--broker', sentinels.url()] });
    room = unique();
    a = await cluster.client(0, 'a'); b = await cluster.client(1, 'b');
    await a.join(room); await b.join(room);
  });
  after(async () => {
    try { await cluster?.stop(); } finally { await sentinels?.stop(); rmSync(dir, { recursive: true, force: true }); }
  });

  /** The newest of these are in what a client is shown of the past, wherever it is read. */
  async function remembers(acked) {
    await a.call({ type: 'history', room, limit: 100 }); // what a failover lost has been appended again behind them, perhaps
    const shown = new Set(a.take(f => f.type === 'message' && f.id !== undefined).map(m => m.data));
    for (const data of acked.slice(-10)) assert.ok(shown.has(data), `${data} is not in the history`);
  }

  /** Until a page of history comes from the server that is the replica now. */
  async function readsFrom(replica) {
    const asked = async () => Number(/cmdstat_xrange:calls=(\d+)/.exec(await replica.cli('INFO', 'commandstats'))?.[1] ?? 0);
    await until(async () => {
      const before = await cluster.gateways[0].metrics(), calls = await asked();
      const data = unique('past');
      await a.publish(room, data);
      await remembers([data]);
      return (await cluster.gateways[0].metrics()).sum('xindao_redis_replica_reads_total') > before.sum('xindao_redis_replica_reads_total') && await asked() > calls;
    }, { what: 'the history to be read from the replica', ms: 60000, every: 250 });
  }

  /** Hurts the primary under traffic, and checks that everything is with the other server afterwards. */
  async function failsOver(test, hurt, { within }) {
    const old = await sentinels.healed(), before = await cluster.gateways[0].metrics();
    await ready(cluster, 'the gateways to be ready before');
    const t = traffic(a, room), more = async what => { const n = t.acked.length; await until(() => t.acked.length >= n + 12, { what: `12 messages ${what}`, ms: 60000 }); };
    let now;
    try {
      await more('before');
      await hurt(old);
      now = await sentinels.moved(old);
      await ready(cluster, 'the gateways to be ready again');
      await more('afterwards');
    } finally {
      await t.stop();
    }
    const { acked, longest, refusals } = t;
    assert.equal(a.end ?? b.end, undefined, 'a client was disconnected');
    assert.ok(longest < within, `a message took ${longest} ms`);
    await talks(room, a, b);
    const log = (await now.cli('XREVRANGE', `xd:{${room}}:log`, '+', '-', 'COUNT', '1')).split('\n');
    assert.ok(log.some(l => l.includes('mark')), 'the last message is not in the new primary');
    for (const g of cluster.gateways) {
      await g.counted(before, 'xindao_redis_failovers_total', {}, 0);
      assert.match(g.log, new RegExp(`redis failover.* old=127.0.0.1:${old.announced} new=127.0.0.1:${now.announced}`));
    }
    assert.equal((await a.call({ type: 'presence', room })).total, 2);
    await remembers(acked);
    test.diagnostic(`the longest publish took ${longest} ms, ${refusals} were refused and repeated, ${acked.length} acknowledged`);
    return { old, now };
  }

  it('the history is read from the replica that the sentinels name', async () => readsFrom(sentinels.other(await sentinels.healed())));

  it('a primary that is killed is replaced, under traffic of clients and of a backend', async t => {
    const c = await cluster.client(1, 'c'), sockets = new Sockets(cluster), told = unique('told');
    await c.join(told);
    const heard = [await sockets.connected(io4, 0), await sockets.connected(io4, 1)], api = backend(cluster, told, c.session), emitter = speaker(sentinels);
    try {
      await failsOver(t, old => old.process.kill(), { within: 30000 });
    } finally {
      await api.stop();
      await emitter.stop();
    }
    // What the old primary had said is not said again, what the new one has is said: in order, at both nodes.
    const streamed = s => events(s, 'streamed').map(([i]) => i);
    await until(() => heard.every(s => streamed(s).at(-1) >= emitter.acked.at(-1)), { what: 'the last entry of the stream' });
    for (const s of heard) {
      assert.deepEqual(streamed(s), [...new Set(streamed(s))].sort((x, y) => x - y), 'an entry came twice, or too late');
      const missing = emitter.acked.filter(i => !streamed(s).includes(i));
      t.diagnostic(`${emitter.acked.length} entries of the stream were acknowledged, ${missing.length} of them are missing`);
      assert.ok(missing.length <= 1, `missing: ${missing}`); // the primary may die between two answers
    }
    // Every publish that was answered, in its order, and none twice.
    const got = [];
    await until(() => { got.push(...c.take(f => f.type === 'message' && f.room === told).map(m => m.data)); return got.length >= api.published.length; }, { what: () => `${got.length} of ${api.published.length} messages` });
    assert.deepEqual(got, api.published);
    // Every room that it was put into; should the store have lost one, its node tells it again.
    const rooms = async () => (await request(cluster.gateways[0].port, `/api/v1/sessions/${c.session}`, { ca: cluster.ca, headers: { Authorization: `Bearer ${KEY}` } })).json.rooms.map(r => r.room);
    await until(async () => { const now = await rooms(); return api.joined.every(r => now.includes(r)); }, { what: 'the store to know all its rooms' });
    // An emission is told to as many nodes as it says, to nobody twice.
    const lists = heard.map(s => events(s, 'news').map(([data]) => data));
    for (const list of lists) assert.equal(new Set(list).size, list.length, 'an emission came twice');
    for (const { data, nodes } of api.emitted) assert.ok(lists.filter(list => list.includes(data)).length >= nodes, `${data}: ${nodes} nodes were told`);
    t.diagnostic(`the backend was told to come again ${api.refusals} times; ${api.published.length} published, ${api.joined.length} joined, ${api.emitted.length} emitted, ${api.emitted.filter(e => e.nodes < 2).length} of them not to both nodes`);
    sockets.close();
    await c.close();
  });

  it('an ordered failover is followed at once', async t => {
    const { old } = await failsOver(t, () => sentinels.failover(), { within: 10000 });
    await sentinels.healed();
    await readsFrom(old);
  });

  it('a primary that stands still is left, and is not gone back to when it runs again', async t => {
    const { old, now } = await failsOver(t, p => p.process.signal('SIGSTOP'), { within: 30000 });
    old.process.signal('SIGCONT');
    // For some seconds it still calls itself a primary.
    for (let i = 0; i < 8; i++) { await talks(room, a, b); await sleep(200); }
    assert.equal(await sentinels.primary(), now);
    assert.deepEqual((await old.cli('CLIENT', 'LIST')).split('\n').filter(l => / name=gw/.test(l)), []);
  });

  it('a primary dies that its replica no longer followed: who came and who left meanwhile is known afterwards', async t => {
    const old = await sentinels.healed(), replica = sentinels.other(old), c = await cluster.client(0, 'c'), d = await cluster.client(0, 'd'), before = await cluster.gateways[0].metrics();
    await c.join(room); await d.join(room);
    await until(async () => (await replica.cli('HEXISTS', `xd:{${room}}:members`, d.session)) === '1', { what: 'the replica to know of them' });
    await old.cli('ACL', 'SETUSER', 'default', '-psync', '-sync');
    await old.cli('CLIENT', 'KILL', 'TYPE', 'replica');
    const left = a.next(f => f.type === 'exit' && f.session === c.session);
    await c.close();
    await left;
    await until(async () => (await old.cli('EXISTS', `xd:session:{${c.session}}`)) === '0', { what: 'its end to be stored' });
    await d.call({ type: 'leave', room });
    const e = await cluster.client(1, 'e');
    await e.join(room);
    // What will be back when the replica takes over; how soon the gateways set it right is theirs.
    assert.equal(await replica.cli('HGET', `xd:session:{${c.session}}`, 'state'), 'active');
    assert.deepEqual((await replica.cli('HKEYS', `xd:{${room}}:members`)).split('\n').sort(), [a, b, c, d].map(x => x.session).sort());
    await old.process.kill();
    assert.equal(await sentinels.moved(old), replica);
    await ready(cluster, 'the gateways to be ready again');
    const began = Date.now(), members = async () => (await a.call({ type: 'presence', room })).members.map(m => m.session).sort();
    await a.next(f => f.type === 'exit' && f.session === c.session, 40000);
    t.diagnostic(`gone again after ${Date.now() - began} ms`);
    await until(async () => String(await members()) === String([a, b, e].map(x => x.session).sort()), { what: 'the members to be who is there', ms: 40000 });
    await a.call({ type: 'send', to: { session: e.session }, data: 'found' });
    assert.equal((await e.message(`$session:${e.session}`)).data, 'found');
    assert.equal(await replica.cli('HEXISTS', `xd:session:{${d.session}}`, `room:${room}`), '0');
    for (const g of cluster.gateways) await g.counted({ sum: () => 0 }, 'xindao_restored_total');
    await until(async () => (await replica.cli('EXISTS', `xd:session:{${c.session}}`)) === '0', { what: 'it to be gone from the store' });
    assert.deepEqual((await replica.keys(`xd:*${c.session}*`)), []);
    await cluster.gateways[0].counted(before, 'xindao_redis_reconciled_sessions_total');
    assert.match(cluster.gateways[0].log, new RegExp(`the store had a session of this node that this node has not .*session=${c.session} now=ended`));
    assert.equal(a.end ?? b.end ?? d.end ?? e.end, undefined, 'a client was disconnected');
    await d.close(); await e.close();
  });

  it('every failover was counted', async () => {
    for (const g of cluster.gateways) assert.equal((await g.metrics()).sum('xindao_redis_failovers_total'), 4);
  });

  it('a name that the sentinels do not know is told by /readyz', async () => {
    const g = await cluster.add('lost', { flags: FLAGS, broker: ['--broker', sentinels.url().replace(/\/main$/, '/other')], wait: false });
    await until(async () => /no primary of that name/.test((await g.get('/readyz')).text), { what: '/readyz to say it', ms: 40000 });
    await g.stop();
  });
});

describe('TLS to Redis', { timeout: 240000 }, () => {
  let cluster, sentinels, dir;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'xd-redis-tls-'));
    cluster = await Cluster.start({ gateways: 0, redis: false });
    sentinels = await Sentinels.start(dir, { tls: { cert: cluster.cert, key: cluster.key, ca: join(cluster.dir, 'ca.pem') } });
  });
  after(async () => {
    try { await cluster?.stop(); } finally { await sentinels?.stop(); rmSync(dir, { recursive: true, force: true }); }
  });

  it('one server, then another by Sentinel: every connection is TLS', async () => {
    const ca = `?ca=${encodeURIComponent(join(cluster.dir, 'ca.pem'))}`, first = sentinels.servers[0];
    const one = await cluster.add('one', { broker: ['--broker', `rediss://127.0.0.1:${first.announced}/${ca}`] });
    const two = await cluster.add('two', { broker: ['--broker', sentinels.url('', ca)] });
    const room = unique(), a = await one.client('a'), b = await two.client('b');
    await a.join(room); await b.join(room);
    await talks(room, a, b);
    // The replica and the sentinels come by TLS as well: nobody but redis-cli uses the other port.
    const peers = (await first.cli('CLIENT', 'LIST')).split('\n').filter(l => / name=one| name=two/.test(l));
    assert.ok(peers.length >= 4, String(peers.length));
    assert.ok(peers.every(l => l.includes(`laddr=127.0.0.1:${first.announced} `)));
    await a.close();
    await one.stop();
    await sentinels.failover();
    await sentinels.moved(first);
    await until(async () => (await two.metrics()).sum('xindao_redis_failovers_total') === 1, { what: 'the failover to be counted', ms: 40000 });
    await ready({ gateways: [two] }, 'the gateway to be ready again');
    await talks(room, b, b);
    await b.close();
  });

  it('a certificate by somebody else is refused, and the log says why', async () => {
    const g = await cluster.add('stranger', { broker: ['--broker', `rediss://127.0.0.1:${sentinels.servers[0].announced}`], wait: false });
    await until(() => /its certificate is refused: .*(self-signed|issuer)/.test(g.log), { what: 'the log to say why', ms: 40000 });
    assert.equal((await g.get('/readyz')).status, 503);
    await g.stop();
  });
});
