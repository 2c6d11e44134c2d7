// workers.test.mjs: --workers 2: one port, two nodes
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';

describe('two workers', { timeout: 180000 }, () => {
  let cluster, gw;
  before(async () => { cluster = await Cluster.start({ gateways: 1, flags: ['--workers', '2', '--lease', '2s', '--redis-timeout', '1s'] }); [gw] = cluster.gateways; });
  after(() => cluster.stop());

  const workers = () => readFileSync(`/proc/${gw.process.pid}/task/${gw.process.pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);

  /** Clients until both workers have one. */
  async function onBoth() {
    const clients = [];
    for (let i = 0; i < 60; i++) {
      clients.push(await gw.client(`u${i}`));
      if (new Set(clients.map(c => c.welcome.node)).size === 2 && i >= 9) return clients;
    }
    throw new Error('60 connections all went to one worker');
  }

  it('share a port and a room', async () => {
    const clients = await onBoth(), room = unique();
    for (const c of clients) await c.join(room);
    await clients[0].publish(room, 'to both workers');
    for (const c of clients) assert.equal((await c.message(room)).data, 'to both workers');
    const nodes = new Set(clients.map(c => c.welcome.node));
    assert.equal(nodes.size, 2);
    for (const n of nodes) assert.match(n, /^gw1/);
    for (const c of clients) await c.close();
  });

  it('tell of both in whichever /metrics is asked', async () => {
    const clients = await onBoth();
    for (let i = 0; i < 4; i++) await until(async () => (await gw.metrics()).sum('xindao_sessions') === clients.length, { what: `sessions to be ${clients.length}` });
    for (const c of clients) await c.close();
    await until(async () => (await gw.metrics()).sum('xindao_sessions') === 0, { what: 'the sessions to go' });
  });

  it('a worker that is killed is started again, its sessions leave', async () => {
    const clients = await onBoth(), room = unique();
    for (const c of clients) await c.join(room);
    const before = workers();
    assert.equal(before.length, 2);
    process.kill(before[0], 'SIGKILL');
    const died = await until(() => { const d = clients.filter(c => c.end); return d.length && d; }, { what: 'clients of the killed worker to notice' });
    const alive = clients.filter(c => c.welcome.node !== died[0].welcome.node), gone = clients.filter(c => c.welcome.node === died[0].welcome.node);
    const exits = [];
    while (exits.length < gone.length) exits.push(await alive[0].next('exit'));
    assert.deepEqual(exits.map(e => e.session).sort(), gone.map(c => c.session).sort());
    assert.ok(exits.every(e => e.reason === 'node_lost'));
    await until(() => { const now = workers(); return now.length === 2 && !now.includes(before[0]); }, { what: 'a new worker', ms: 40000 });
    await until(async () => (await gw.metrics()).has('xindao_connections'), { what: 'metrics again' });
    const more = await onBoth();
    for (const c of [...alive, ...more]) await c.close();
  });

  it('leave in order, both of them', async () => {
    const clients = await onBoth();
    const pids = workers();
    const end = await gw.stop();
    assert.equal(end.code, 0);
    for (const c of clients) { assert.deepEqual(await c.closed, { code: 1001, reason: 'draining' }); }
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    assert.deepEqual((await cluster.redis.keys('xd:session:*')), []);
    assert.deepEqual((await cluster.redis.keys('xd:node:*')), []);
  });
});
