// node-death.test.mjs: a gateway is killed, or sleeps longer than its lease
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { sleep, until } from './lib/wait.mjs';

const FLAGS = ['--lease', '2s', '--redis-timeout', '1s'];

describe('a node that dies', { timeout: 180000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 3, flags: FLAGS }); });
  after(() => cluster.stop());

  it('kill -9: its sessions leave once, and nothing of it stays in Redis', async () => {
    const one = unique(), two = unique();
    const victim = cluster.gateways[0], survivors = cluster.gateways.slice(1);
    const watchers = [await survivors[0].client('w1'), await survivors[1].client('w2')];
    for (const w of watchers) { await w.join(one); await w.join(two); }
    const lost = [await victim.client('lost1'), await victim.client('lost2'), await victim.client()];
    for (const c of lost) await c.join(one);
    await lost[0].join(two);
    for (const w of watchers) { await w.settle(); w.take('enter'); }
    const before = await Promise.all(survivors.map(g => g.metrics()));
    const killed = Date.now();
    await victim.kill();

    for (const w of watchers) {
      const exits = [];
      while (exits.length < 4) exits.push(await w.next('exit'));
      assert.ok(Date.now() - killed < 30000, 'within some leases');
      assert.deepEqual(exits.map(e => e.reason), ['node_lost', 'node_lost', 'node_lost', 'node_lost']);
      assert.deepEqual(exits.map(e => `${e.room} ${e.session} ${e.user}`).sort(), [...lost.map(c => `${one} ${c.session} ${c.welcome.user}`), `${two} ${lost[0].session} lost1`].sort());
      assert.deepEqual(exits.filter(e => e.room === one).map(e => e.total), [4, 3, 2]);
      assert.equal(exits.find(e => e.room === two).total, 2);
    }
    for (const w of watchers) {
      for (const [room, total] of [[one, 2], [two, 2]]) {
        const p = await w.call({ type: 'presence', room });
        assert.deepEqual([p.total, p.members.map(m => m.session).sort()], [total, watchers.map(x => x.session).sort()]);
      }
      assert.equal((await w.refused({ type: 'send', to: { user: 'lost1' }, data: 1 })).code, 'not_found');
      assert.equal((await w.refused({ type: 'send', to: { session: lost[1].session }, data: 1 })).code, 'not_found');
    }
    await until(async () => !(await cluster.redis.keys('*')).filter(k => !k.endsWith(':presence')).some(k => lost.some(c => k.includes(c.session)) || k.includes('lost1') || k.includes(lost[0].welcome.node)), { what: 'every key of the node and its sessions to go' });
    assert.equal((await cluster.redis.cli('ZRANGE', 'xd:nodes', '0', '-1')).includes(lost[0].welcome.node), false);
    const now = await Promise.all(survivors.map(g => g.metrics()));
    const grown = name => now.reduce((n, m, i) => n + m.sum(name) - before[i].sum(name), 0);
    assert.equal(grown('xindao_redis_reaped_nodes_total'), 1, 'one survivor did it');
    assert.equal(grown('xindao_redis_reaped_sessions_total'), 3);

    await sleep(2500); // another lease: nobody does it again
    for (const w of watchers) { await w.settle(); assert.deepEqual(w.take('exit'), []); await w.publish(one, 'on'); }
    for (const w of watchers) { await w.message(one); await w.message(one); await w.close(); }
  });

  it('asleep longer than the lease: declared dead, then back with all its clients', async () => {
    const room = unique(), sleeper = await cluster.add('sleeper', { flags: FLAGS });
    const w = await cluster.client(1, 'w'), s = await sleeper.client('s');
    await w.join(room); await s.join(room); await w.next('enter');
    process.kill(sleeper.process.pid, 'SIGSTOP');
    try {
      const exit = await w.next('exit');
      assert.deepEqual([exit.session, exit.reason, exit.total], [s.session, 'node_lost', 1]);
      await w.publish(room, 'while asleep');
    } finally { process.kill(sleeper.process.pid, 'SIGCONT'); }
    const enter = await w.next('enter');
    assert.deepEqual([enter.session, enter.user, enter.total], [s.session, 's', 2]);
    await until(async () => (await cluster.redis.hash(`xd:session:{${s.session}}`)).user === 's', { what: 'the session to be in the store again' });
    await w.publish(room, 'back');
    await s.next(m => m.type === 'message' && m.data === 'back');
    await s.publish(room, 'here again');
    await w.next(m => m.type === 'message' && m.data === 'here again');
    assert.equal(s.end, undefined);
    assert.equal((await w.call({ type: 'presence', room })).total, 2);
    await s.close();
    assert.equal((await w.next('exit')).reason, 'disconnect');
    await w.close();
  });

  // Between two steps of whoever ends a session: it is marked, and then its hash goes, with all rooms that have been noted in it meanwhile.
  it('back while its session is being ended: its rooms are told again after that', async () => {
    const room = unique(), g = cluster.gateways[1], c = await g.client('c'), hash = `xd:session:{${c.session}}`, { redis } = cluster;
    await c.join(room);
    await redis.cli('HSET', hash, 'state', 'ending');
    await redis.cli('SREM', `xd:node:{${c.welcome.node}}:sessions`, '-'); // what a reaper takes away
    await until(() => g.log.includes('this node was declared dead'), { what: 'the node to put its sessions back' });
    await sleep(300);
    await redis.cli('HDEL', `xd:{${room}}:members`, c.session);
    await redis.cli('DEL', hash);
    await until(async () => `room:${room}` in await redis.hash(hash), { what: 'the hash to name the room again' });
    await until(async () => (await redis.hash(`xd:{${room}}:members`))[c.session] !== undefined, { what: 'the session to be a member again' });
    await c.close();
    await until(async () => (await redis.keys(hash)).length === 0, { what: 'the session to end' });
  });
});
