// fork.test.mjs: a failover that loses the newest messages of a room: told, repaired, nothing twice
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Redis } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { TcpLink } from './lib/tcplink.mjs';
import { until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

const FLAGS = ['--resume-window', '60s', '--lease', '10s', '--redis-timeout', '1s', '--policy', '* retain-count=500 notices=off'];
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Everything of a room that a client was told, in order, from now on: messages by their data, `recovered` as [recovered, offset]. */
function follow(client, room) {
  const seen = [];
  client.take(f => f.room === room && (f.type === 'message' || f.type === 'recovered'));
  client.ws.on('message', data => {
    const f = JSON.parse(data.toString());
    if (f.room !== room) return;
    if (f.type === 'message') { seen.push(f.data); client.at = f.position; }
    if (f.type === 'recovered') { seen.push([f.recovered, offsetOf(f.position)]); client.at = f.position; }
  });
  return seen;
}

const has = (seen, n, what) => until(() => seen.length >= n, { what: () => `${what}: ${JSON.stringify(seen)} to have ${n}`, ms: 40000 });

describe('a failover that loses the end of a log', { timeout: 120000 }, () => {
  let cluster, dirs = 0, stores = [], links = [];
  before(async () => { cluster = await Cluster.start({ gateways: 0, redis: false }); });
  after(async () => {
    await cluster.stop();
    for (const l of links) await l.stop();
    for (const s of stores) await s.stop();
  });

  async function store() {
    const dir = join(cluster.dir, `redis-${++dirs}`);
    mkdirSync(dir);
    const r = await Redis.start(dir, { aof: false });
    await r.cli('CONFIG', 'SET', 'repl-diskless-sync-delay', '0');
    stores.push(r);
    return r;
  }

  /** A primary with its replica, and gateways that each have their own way to Redis. */
  async function world(...names) {
    const primary = await store(), replica = await store(), nodes = [];
    for (const name of names) {
      const link = await TcpLink.start(primary.port);
      links.push(link);
      const g = await cluster.add(unique(name), { flags: FLAGS, insecure: true, broker: ['--broker', `redis://127.0.0.1:${link.port}`] });
      g.link = link;
      nodes.push(g);
    }
    await replica.cli('REPLICAOF', '127.0.0.1', String(primary.port));
    await until(async () => /master_link_status:up/.test(await replica.cli('INFO', 'replication')), { what: 'the replica to follow' });
    return [primary, replica, ...nodes];
  }

  const same = async (a, b) => until(async () => (await a.cli('INFO', 'replication')).match(/master_repl_offset:(\d+)/)[1] === (await b.cli('INFO', 'replication')).match(/master_repl_offset:(\d+)/)[1],
    { what: 'the replica to have everything' });

  const back = (gateway, store_) => {
    gateway.link.turn(store_.port);
    return until(async () => (await gateway.get('/readyz')).status === 200, { what: `${gateway.name} to be back`, ms: 40000 });
  };

  /** The log: [data, was] of each entry. */
  async function log(redis, room) {
    const lines = (await redis.cli('XRANGE', `xd:{${room}}:log`, '-', '+')).split('\n'), entries = [];
    for (let i = 0; i < lines.length; i++) {
      if (/^\d+-0$/.test(lines[i])) entries.push([]);
      if (lines[i] === 'data') entries[entries.length - 1][0] = Number(lines[i + 1]);
      if (lines[i] === 'was') entries[entries.length - 1][1] = lines[i + 1];
    }
    return entries;
  }

  it('100 replicated, 5 seen and lost, 8 new: told to everybody, repaired, each message once', async () => {
    const [primary, replica, a, b] = await world('a', 'b');
    const room = unique(), alice = await a.client('alice'), carol = await a.client('carol'), bob = await b.client('bob');
    for (const c of [alice, carol, bob]) await c.join(room);
    const seen = [alice, carol, bob].map(c => follow(c, room));
    for (let i = 1; i <= 100; i++) alice.send({ type: 'publish', room, data: i });
    for (const s of seen) await has(s, 100, 'the first hundred');
    await same(primary, replica);

    // The replica is promoted as it is; only a still talks to the old primary.
    await replica.cli('REPLICAOF', 'NO', 'ONE');
    b.link.turn(null);
    for (let i = 101; i <= 105; i++) await alice.publish(room, i, i === 103 ? { key: 'k103' } : {});
    for (const s of seen.slice(0, 2)) await has(s, 105, 'what will be lost');
    const lost = carol.at;
    assert.equal(offsetOf(lost), 105);
    await carol.drop();
    await back(b, replica);
    for (let i = 1001; i <= 1008; i++) assert.equal(offsetOf((await bob.publish(room, i)).position), i - 900);
    await has(seen[2], 108, 'the new messages');

    await primary.stop();
    await back(a, replica);
    await has(seen[2], 113, 'what others had seen');
    assert.deepEqual(seen[2], [...range(1, 100), ...range(1001, 1008), ...range(101, 105)], 'bob had not seen them');
    await has(seen[0], 105 + 1 + 8 + 5, 'the other branch');
    const other = [[false, 100], ...range(1001, 1008), ...range(109, 113).map(at => [true, at])];
    assert.deepEqual(seen[0], [...range(1, 105), ...other], 'alice had');
    assert.equal(offsetOf(alice.at), 113);

    // Back on the node that was never on the lost branch.
    const again = await b.client();
    const told = follow(again, room);
    again.send({ type: 'resume', id: 1, session: carol.session, token: carol.welcome.token, positions: [{ room, position: lost }] });
    await has(told, other.length, 'carol to be told');
    assert.deepEqual(told, other);

    const entries = await log(replica, room);
    assert.deepEqual(entries.map(e => e[0]), [...range(1, 100), ...range(1001, 1008), ...range(101, 105)]);
    assert.deepEqual(entries.slice(0, 108).filter(e => e[1] !== undefined), []);
    assert.deepEqual(entries.slice(108).map(e => e[1].replace(/ [\w-]+ /, ' ')), range(101, 105).map(o => `${o} 100`));
    // Its publisher repeats it.
    assert.equal(offsetOf((await bob.publish(room, 103, { key: 'k103' })).position), 111);
    await bob.publish(room, 2000);
    for (const s of [seen[0], seen[2], told]) {
      await until(() => s.at(-1) === 2000, { what: 'the next message' });
      assert.equal(new Set(s.filter(d => typeof d === 'number')).size, s.filter(d => typeof d === 'number').length, 'nothing twice');
    }
    const m = await a.metrics(), n = await b.metrics();
    assert.deepEqual([m, n].map(x => [x.sum('xindao_forks_total'), x.sum('xindao_fork_appended_total')]), [[1, 5], [0, 0]]);
    await until(async () => (await bob.call({ type: 'presence', room })).members.filter(x => x.state === 'active').length === 3, { what: 'all three to be there' });
    for (const c of [alice, again, bob]) await c.close();
  });

  it('two gateways held it, its publisher repeats some of it, one client sees it for the first time', async () => {
    const [primary, replica, a, b, c] = await world('a', 'b', 'c');
    const room = unique(), alice = await a.client('alice'), bob = await b.client('bob'), carol = await c.client('carol');
    for (const x of [alice, bob, carol]) await x.join(room);
    const seen = [alice, bob, carol].map(x => follow(x, room));
    for (let i = 1; i <= 20; i++) alice.send({ type: 'publish', room, data: i });
    for (const s of seen) await has(s, 20, 'the beginning');
    await same(primary, replica);
    await replica.cli('REPLICAOF', 'NO', 'ONE');
    c.link.turn(null);
    for (let i = 21; i <= 40; i++) alice.send({ type: 'publish', room, data: i, key: `k${i}` });
    for (const s of seen.slice(0, 2)) await has(s, 40, 'what will be lost');
    await back(c, replica);
    await carol.publish(room, 1000);
    for (const i of [25, 21]) await carol.publish(room, i, { key: `k${i}` });
    await primary.stop();
    await Promise.all([back(a, replica), back(b, replica)]);
    await has(seen[2], 41, 'all that was lost');
    await carol.publish(room, 2000);
    for (const s of seen) await until(() => s.at(-1) === 2000, { what: () => `the last message after ${JSON.stringify(s)}` });
    assert.deepEqual(seen[2], [...range(1, 20), 1000, 25, 21, ...range(22, 24), ...range(26, 40), 2000]);
    for (const s of seen.slice(0, 2)) {
      assert.deepEqual(s, [...range(1, 40), [false, 20], 1000, ...range(22, 41).map(at => [true, at]), 2000]);
    }
    assert.deepEqual((await log(replica, room)).map(e => e[0]), seen[2]);
    const m = [await a.metrics(), await b.metrics()];
    assert.deepEqual(m.map(x => x.sum('xindao_forks_total')), [1, 1]);
    assert.equal(m[0].sum('xindao_fork_appended_total') + m[1].sum('xindao_fork_appended_total'), 18);
    for (const x of [alice, bob, carol]) await x.close();
  });

  it('FLUSHALL is not undone', async () => {
    const primary = await store(), link = await TcpLink.start(primary.port);
    links.push(link);
    const a = await cluster.add(unique('a'), { flags: FLAGS, insecure: true, broker: ['--broker', `redis://127.0.0.1:${link.port}`] });
    const room = unique(), alice = await a.client('alice');
    await alice.join(room);
    const seen = follow(alice, room);
    for (let i = 1; i <= 3; i++) await alice.publish(room, i);
    await has(seen, 3, 'the messages');
    await primary.cli('FLUSHALL');
    await alice.publish(room, 4);
    await until(() => seen.at(-1) === 4, { what: () => `the first message of the new history: ${JSON.stringify(seen)}` });
    assert.deepEqual(seen, [1, 2, 3, [false, 0], 4]);
    await alice.publish(room, 5);
    assert.deepEqual((await log(primary, room)).map(e => e[0]), [4, 5]);
    await alice.close();
  });
});
