// replica.test.mjs: the history that clients ask for, read from a real replica: one that follows, lags behind, dies and comes back
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Redis } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { TcpLink } from './lib/tcplink.mjs';
import { until } from './lib/wait.mjs';

const READS = 'xindao_redis_replica_reads_total', FALLBACKS = 'xindao_redis_replica_fallbacks_total';
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('history from a replica', { timeout: 120000 }, () => {
  let cluster, replica, link, gateway, other, room, a;

  /** How often this server was asked for a page of a log. */
  const asked = async redis => Number(/cmdstat_xrange:calls=(\d+)/.exec(await redis.cli('INFO', 'commandstats'))?.[1] ?? 0);
  const grown = async (before, name) => (await gateway.metrics()).sum(name) - before.sum(name);

  /** What a client is shown, by the native protocol. */
  async function history(client, what) {
    await client.call({ type: 'history', room, ...what });
    return client.take(f => f.type === 'message' && f.room === room && f.id !== undefined).map(m => m.data);
  }

  /** And by HTTP. */
  async function page(g, query) {
    const r = await g.get(`/api/v1/rooms/${room}/history?${query}`);
    assert.equal(r.status, 200, r.text);
    return JSON.parse(r.text).messages.map(m => m.data);
  }

  const level = () => until(async () => await replica.cli('XLEN', `xd:{${room}}:log`) === await cluster.redis.cli('XLEN', `xd:{${room}}:log`), { what: 'the replica to follow' });
  const served = byReplica => until(async () => {
    const before = await gateway.metrics();
    await page(gateway, 'after=0');
    return await grown(before, byReplica ? READS : FALLBACKS) === 1;
  }, { what: byReplica ? 'the replica to be asked' : 'the primary to be asked' });

  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    await cluster.redis.cli('CONFIG', 'SET', 'repl-diskless-sync-delay', '0');
    link = await TcpLink.start(cluster.redis.port);
    const dir = join(cluster.dir, 'replica');
    mkdirSync(dir);
    replica = await Redis.start(dir, { aof: false, name: 'replica' });
    await replica.cli('REPLICAOF', '127.0.0.1', String(link.port));
    const options = { broker: ['--broker', `${cluster.redis.url}?replica=127.0.0.1:${replica.port}`],
      flags: ['--redis-read-replicas', 'on', '--redis-timeout', '2s', '--policy', '* retain-count=1000 join=anyone'], insecure: true };
    gateway = await cluster.add('gw1', options);
    other = await cluster.add('gw2', options);
    room = unique();
    a = await gateway.client('a');
    await a.join(room);
    for (let i = 1; i <= 20; i++) await a.publish(room, i);
    await a.settle();
    a.take('message');
    await level();
    await served(true);
  });
  after(async () => {
    try { await cluster?.stop(); } finally { await replica?.stop(); await link?.stop(); }
  });

  it('the replica is asked, and the primary is not', async () => {
    const before = await gateway.metrics(), there = await asked(replica), here = await asked(cluster.redis);
    assert.deepEqual(await history(a, { after: 5, limit: 10 }), numbers(6, 15));
    assert.deepEqual(await history(a, { before: 5 }), numbers(1, 4));
    assert.deepEqual(await history(a, { limit: 3 }), numbers(18, 20));
    assert.deepEqual(await page(gateway, 'limit=20'), numbers(1, 20));
    assert.deepEqual(await page(gateway, 'after=10'), numbers(11, 20));
    assert.equal(await asked(replica) - there, 5);
    assert.equal(await asked(cluster.redis) - here, 0);
    assert.equal(await grown(before, READS), 5);
    assert.equal(await grown(before, FALLBACKS), 0);
  });

  it('what lags behind what somebody here knows is not shown', async () => {
    link.hold();
    const before = await gateway.metrics(), there = await asked(replica);
    let last;
    for (let i = 21; i <= 25; i++) last = await a.publish(room, i);
    await a.settle();
    a.take('message');
    assert.equal(await replica.cli('XLEN', `xd:{${room}}:log`), '20');
    assert.match(await replica.cli('ROLE'), /connected/);
    // This gateway has delivered 25; the other one has nobody in the room, but its readers may say what they know.
    assert.deepEqual(await history(a, { after: 15 }), numbers(16, 25));
    assert.deepEqual(await page(gateway, 'after=18'), numbers(19, 25));
    assert.equal(await grown(before, FALLBACKS), 2);
    assert.deepEqual(await page(other, 'after=22'), numbers(23, 25));
    assert.deepEqual(await page(other, 'before=24&limit=4'), numbers(20, 23));
    assert.deepEqual(await page(other, 'limit=2'), numbers(24, 25), 'the newest: the primary says which these are');
    assert.equal(await asked(replica) - there, 5, 'all of them asked the replica first');
    assert.deepEqual(await page(other, 'after=18'), numbers(19, 20), 'who knows no more is shown what the replica has');
    // Coming into the room, and catching up, are never content with that.
    const b = await other.client('b');
    assert.deepEqual((await b.join(room)).position, last.position);
    assert.deepEqual(await history(b, { after: 20 }), numbers(21, 25));
    await b.close();
    link.release();
    await level();
    await served(true);
    assert.deepEqual(await page(other, 'after=18'), numbers(19, 25));
  });

  it('when it dies the primary goes on, and when it is back it is asked again', async () => {
    const before = await gateway.metrics();
    await replica.process.kill();
    for (let i = 0; i < 10; i++) assert.deepEqual(await history(a, { after: 20 }), numbers(21, 25));
    assert.equal(await grown(before, FALLBACKS), 10);
    assert.equal((await gateway.get('/readyz')).status, 200);
    replica.args = ['--replicaof', '127.0.0.1', String(link.port)];
    await replica.boot();
    await served(true);
    const there = await asked(replica);
    assert.deepEqual(await history(a, { after: 20 }), numbers(21, 25));
    assert.equal(await asked(replica) - there, 1);
    assert.equal(a.end, undefined, 'nobody was disconnected');
    await a.close();
  });
});
