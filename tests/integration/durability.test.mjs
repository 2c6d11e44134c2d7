// durability.test.mjs: rooms whose publishes wait for replicas: a real primary with two replicas that stop and come back
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, Redis } from './lib/cluster.mjs';
import { Refused, unique } from './lib/client.mjs';
import { Sentinels } from './lib/sentinels.mjs';
import { sleep, until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

const TIMEOUT_MS = 4000;

describe('durability', { timeout: 120000 }, () => {
  let cluster;
  const replicas = [];
  const everyReplica = signal => { for (const r of replicas) process.kill(r.process.pid, signal); };

  before(async () => {
    cluster = await Cluster.start({ gateways: 2, flags: ['--redis-timeout', `${TIMEOUT_MS}ms`, '--lease', '9s',
      '--policy', 'strict.* durability=replicated:2', '--policy', 'mild.* durability=replicated:1'] });
    await cluster.redis.cli('CONFIG', 'SET', 'repl-diskless-sync-delay', '0');
    for (const name of ['replica1', 'replica2']) {
      const dir = join(cluster.dir, name);
      mkdirSync(dir);
      const r = await Redis.start(dir, { aof: false });
      replicas.push(r);
      await r.cli('REPLICAOF', '127.0.0.1', String(cluster.redis.port));
    }
    await level();
  });
  after(async () => {
    for (const r of replicas) await r.stop();
    await cluster.stop();
  });

  const level = () => until(async () => {
    const lines = (await cluster.redis.cli('INFO', 'replication')).split(/\r?\n/);
    const offset = lines.find(l => l.startsWith('master_repl_offset:')).split(':')[1];
    return lines.filter(l => /^slave\d/.test(l) && l.includes('state=online') && l.includes(`offset=${offset},`)).length === 2;
  }, { what: 'the replicas to follow' });

  it('the ack says how many replicas have it', async () => {
    const strict = unique('strict.'), fast = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b');
    for (const c of [a, b]) { await c.join(strict); await c.join(fast); }
    const acks = await Promise.all(Array.from({ length: 50 }, (_, i) => a.publish(strict, i, { key: `n${i}` })));
    assert.deepEqual(acks.map(x => offsetOf(x.position)), Array.from({ length: 50 }, (_, i) => i + 1), 'in order');
    for (const x of acks) assert.equal(x.replicas, 2);
    for (const r of replicas) assert.equal(await r.cli('XLEN', `xd:{${strict}}:log`), '50');
    for (let i = 0; i < 50; i++) assert.equal((await b.message(strict)).data, i);
    const plain = await a.publish(fast, 1);
    assert.equal(offsetOf(plain.position), 1);
    assert.ok(!('replicas' in plain), plain.raw);
    assert.equal((await a.call({ type: 'send', to: { session: b.session }, data: 1 })).replicas, undefined);
    await a.close(); await b.close();
  });

  it('missing replicas: a retryable error, live delivery, nobody else waits; the same key is confirmed later, once', async () => {
    const strict = unique('strict.'), mild = unique('mild.'), fast = unique(), before = await cluster.gateways[0].metrics();
    const a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b');
    for (const c of [a, b]) for (const room of [strict, mild, fast]) await c.join(room);
    process.kill(replicas[1].process.pid, 'SIGSTOP');
    let first;
    try {
      const began = Date.now();
      const refused = a.refused({ type: 'publish', room: strict, data: 'once', key: 'k' }).then(e => ({ e, ms: Date.now() - began }));
      assert.equal((await b.message(strict)).data, 'once', 'delivered all the same');
      const took = [];
      for (let i = 0; i < 20; i++) {
        const asked = Date.now();
        await a.publish(fast, i);
        assert.equal((await a.publish(mild, i)).replicas, 1);
        took.push(Date.now() - asked);
      }
      assert.ok(Math.max(...took) < TIMEOUT_MS / 2, `publishes elsewhere took ${took} ms`);
      const { e, ms } = await refused;
      assert.equal(e.code, 'not_replicated');
      assert.equal(e.retry, true);
      assert.equal(e.room, strict);
      assert.equal(e.message, 'published at offset 1, but only 1 of 2 replicas have it; publish it again with the same key');
      assert.ok(ms > TIMEOUT_MS / 2 && ms < 2 * TIMEOUT_MS, `${ms} ms`);
      const next = Date.now();
      assert.match((await a.refused({ type: 'publish', room: strict, data: 'twice' })).message, /published at offset 2, .* without a key a repetition is another message/);
      assert.ok(Date.now() - next < TIMEOUT_MS / 2, 'known to be missing: no long wait again');
      assert.equal((await cluster.gateways[0].get('/readyz')).status, 200);
      first = (await b.call({ type: 'history', room: strict }), b.take(f => f.type === 'message' && f.data === 'once'))[0].position;
    } finally { process.kill(replicas[1].process.pid, 'SIGCONT'); }
    await level();
    const again = await b.publish(strict, 'once', { key: 'k' }); // on the other gateway
    assert.deepEqual(again.position, first);
    assert.equal(again.replicas, 2);
    assert.equal(await cluster.redis.cli('XLEN', `xd:{${strict}}:log`), '2');
    assert.equal((await a.publish(strict, 'more')).replicas, 2, 'the first gateway has found the replica again');
    await a.settle();
    assert.deepEqual(a.take(f => f.type === 'message' && f.room === strict).map(m => m.data), ['once', 'twice', 'more']);
    const m = await cluster.gateways[0].metrics();
    assert.equal(m.sum('xindao_redis_quorum_missed_total') - before.sum('xindao_redis_quorum_missed_total'), 2);
    assert.equal(m.sum('xindao_redis_replicated_total') - before.sum('xindao_redis_replicated_total'), 21);
    assert.equal(m.sum('xindao_errors_total', { code: 'not_replicated' }) - before.sum('xindao_errors_total', { code: 'not_replicated' }), 2);
    assert.ok(m.sum('xindao_redis_wait_seconds_count') > before.sum('xindao_redis_wait_seconds_count'));
    await a.close(); await b.close();
  });

  it('a primary killed while replicas are waited for: what had a key is confirmed in the end, in order and once', async () => {
    const room = unique('strict.'), a = await cluster.client(0, 'a');
    await a.join(room);
    everyReplica('SIGSTOP');
    const asked = Array.from({ length: 10 }, (_, i) => a.publish(room, i, { key: `k${i}` }, 20000).catch(e => e));
    await a.message(room);
    await cluster.redis.process.kill();
    everyReplica('SIGCONT');
    await cluster.redis.boot();
    await cluster.redis.cli('CONFIG', 'SET', 'repl-diskless-sync-delay', '0');
    await level();
    for (const [i, p] of asked.entries()) {
      const x = await p;
      if (x instanceof Error) assert.ok(x.retry === true && ['not_replicated', 'unavailable', 'timeout'].includes(x.code), x.message);
      const ack = await until(async () => {
        try { return await a.publish(room, i, { key: `k${i}` }); } catch (e) { if (e.retry) return false; throw Object.assign(e, { final: true }); }
      }, { what: 'the quorum' });
      assert.equal(offsetOf(ack.position), i + 1);
      assert.equal(ack.replicas, 2);
    }
    assert.equal(await replicas[0].cli('XLEN', `xd:{${room}}:log`), '10');
    await a.close();
  });

  it('a broker without replicas refuses such a policy at the start', async () => {
    const g = await cluster.add('alone', { broker: ['--broker', 'memory'], flags: ['--policy', 'x.* durability=replicated:1'], wait: false });
    cluster.gateways = cluster.gateways.filter(x => x !== g);
    g.process.expected = true;
    assert.equal((await g.process.exit).code, 2);
    assert.match(g.log, /policy x\.\*: durability=replicated:1 with broker memory: only Redis has replicas/);
  });
});

describe('durability and failover', { timeout: 180000 }, () => {
  let cluster, sentinels, dir;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'xd-durable-'));
    sentinels = await Sentinels.start(dir);
    cluster = await Cluster.start({ redis: false, broker: ['--broker', sentinels.url()], flags: ['--redis-timeout', `${TIMEOUT_MS}ms`, '--lease', '9s', '--policy', 'strict.* durability=replicated:1'] });
  });
  after(async () => {
    try { await cluster?.stop(); } finally { await sentinels?.stop(); rmSync(dir, { recursive: true, force: true }); }
  });

  /** Until it is acknowledged. */
  async function persist(client, room, data, refused) {
    for (;;) {
      try {
        return await client.publish(room, data, { key: data }, 60000);
      } catch (e) {
        if (!(e instanceof Refused) || e.retry !== true) throw e;
        refused.push(e.code);
        await sleep(50);
      }
    }
  }

  it('a primary dies that its replica no longer followed: what was acknowledged in a replicated room is with the new one, once', async t => {
    const strict = unique('strict.'), fast = unique(), a = await cluster.client(0, 'a'), old = await sentinels.healed(), replica = sentinels.other(old);
    await a.join(strict); await a.join(fast);
    const refused = [], acked = [];
    for (let i = 0; i < 20; i++) {
      assert.equal((await persist(a, strict, `before-${i}`, refused)).replicas, 1);
      acked.push(`before-${i}`);
      await persist(a, fast, `before-${i}`, refused);
    }
    assert.deepEqual(refused, []);
    await old.cli('ACL', 'SETUSER', 'default', '-psync', '-sync');
    await old.cli('CLIENT', 'KILL', 'TYPE', 'replica');
    const asked = Array.from({ length: 10 }, (_, i) => persist(a, strict, `after-${i}`, refused).then(() => acked.push(`after-${i}`)));
    for (const p of asked) p.catch(() => {}); // told by the end
    for (let i = 0; i < 5; i++) await persist(a, fast, `after-${i}`, refused);
    assert.equal(acked.length, 20, 'acknowledged without a replica');
    assert.ok(Number(await old.cli('XLEN', `xd:{${strict}}:log`)) > 20, 'published all the same');
    assert.equal(await replica.cli('XLEN', `xd:{${fast}}:log`), '20', 'the fast room is about to lose what it acknowledged');
    await old.process.kill();
    const now = await sentinels.moved(old);
    assert.equal(now, replica);
    // It is alone now. Nothing is acknowledged before it has a replica of its own.
    await sleep(300);
    assert.equal(acked.length, 20);
    await sentinels.healed();
    await Promise.all(asked);
    const log = (await now.cli('XRANGE', `xd:{${strict}}:log`, '-', '+')).split('\n').filter(l => /^"(before|after)-\d+"$/.test(l)).map(l => JSON.parse(l));
    assert.deepEqual([...log].sort(), [...acked].sort());
    assert.equal(new Set(log).size, 30);
    t.diagnostic(`${refused.length} refusals: ${[...new Set(refused)]}`);
    await a.close();
  });
});
