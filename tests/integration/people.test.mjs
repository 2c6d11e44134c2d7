// people.test.mjs: users as others see them: who is there, across devices, nodes, and the deaths of nodes
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';

const FLAGS = ['--lease', '1s', '--redis-timeout', '500ms', '--resume-window', '2s', '--user-memory', '1h'];
const states = list => list.map(u => [u.user, u.state, u.sessions]);

describe('users who are watched', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: FLAGS }); });
  after(() => cluster.stop());

  it('online with the first device, away with the last connection, gone with the last session; at any node', async () => {
    const [bob, carol] = [unique('bob'), unique('carol')];
    const w = await cluster.client(0, 'watcher'), all = await cluster.client(1, 'all');
    assert.deepEqual(states((await w.call({ type: 'watch', users: [bob, carol] })).users), [[bob, 'offline', 0], [carol, 'offline', 0]]);
    await all.call({ type: 'watch', users: [bob], devices: true });
    const phone = await cluster.client(1, bob);
    const online = await w.next('status');
    assert.deepEqual([online.user, online.state, online.sessions], [bob, 'online', 1]);
    assert.ok(Math.abs(online.since - Date.now()) < 60000 && online.seen >= online.since);
    const laptop = await cluster.client(0, bob);
    await all.next(f => f.type === 'status' && f.sessions === 2);
    await laptop.drop();
    await phone.drop();
    assert.deepEqual(states([await w.next('status')]), [[bob, 'suspended', 2]], 'the second device was nobody\'s business');
    const back = await cluster.client(0);
    await back.close();
    assert.deepEqual(states([await w.next('status')]), [[bob, 'offline', 0]]);
    const seen = (await w.call({ type: 'watch', users: [bob] })).users[0];
    assert.ok(seen.seen <= seen.since && seen.since <= Date.now() + 1000, JSON.stringify(seen));
    const told = [];
    do told.push(await all.next('status')); while (told.at(-1).state !== 'offline');
    assert.deepEqual(states(told), [[bob, 'online', 1], [bob, 'suspended', 2], [bob, 'suspended', 1], [bob, 'offline', 0]]);
    const known = await cluster.redis.hash(`xd:user:{${bob}}:presence`);
    assert.deepEqual([known.state, known.sessions, Number(known.last_seen)], ['offline', '0', seen.seen]);
    assert.ok(Number(await cluster.redis.cli('PTTL', `xd:user:{${bob}}:presence`)) <= 3600000);
    for (const c of [w, all]) await c.close();
  });

  it('says what is wrong, and holds the limit', async () => {
    const w = await cluster.client(0);
    assert.equal((await w.refused({ type: 'watch' })).code, 'bad_request');
    assert.equal((await w.refused({ type: 'watch', users: ['a\u0001'] })).code, 'invalid_name');
    assert.equal((await w.refused({ type: 'watch', users: Array.from({ length: 101 }, (_, i) => `u${i}`) })).code, 'too_large');
    for (let i = 0; i < 5; i++) await w.call({ type: 'watch', users: Array.from({ length: 100 }, (_, k) => `limit-${i}-${k}`) });
    const e = await w.refused({ type: 'watch', users: ['one-more'] });
    assert.equal(e.code, 'limit_exceeded');
    assert.match(e.message, /max-watches-per-session/);
    assert.equal((await cluster.gateways[0].metrics()).sum('xindao_watches'), 500);
    assert.equal((await w.call({ type: 'unwatch', users: ['limit-0-0', 'never'] })).total, 499);
    assert.equal((await w.call({ type: 'unwatch' })).total, 0);
    await w.close();
    await until(async () => (await cluster.redis.cli('PUBSUB', 'CHANNELS', 'xd:user:*')) === '', { what: 'nobody to be listened to any more' });
  });

  it('a session that is resumed on another node watches on, and is told how everybody is', async () => {
    const bob = unique('bob'), carol = unique('carol');
    const w = await cluster.client(0, 'mover');
    await w.call({ type: 'watch', users: [bob] });
    await w.call({ type: 'watch', users: [carol], devices: true });
    await w.drop();
    const b = await cluster.client(0, bob);
    const again = await cluster.client(1, 'mover');
    again.send({ type: 'resume', id: 9, session: w.welcome.session, token: w.welcome.token });
    assert.equal((await again.next(f => f.type === 'welcome' && f.id === 9)).resumed, true);
    assert.deepEqual(states((await again.next('watching')).users), [[bob, 'online', 1], [carol, 'offline', 0]]);
    const c = [await cluster.client(0, carol), await cluster.client(1, carol)];
    assert.deepEqual(states([await again.next('status'), await again.next('status')]), [[carol, 'online', 1], [carol, 'online', 2]]);
    await b.close();
    assert.deepEqual(states([await again.next('status')]), [[bob, 'offline', 0]]);
    for (const x of [...c, again]) await x.close();
  });

  it('a node that is killed: its users are away, then gone; watchers of other nodes are told, once', async () => {
    const victim = await cluster.add('victim', { flags: FLAGS }), bob = unique('bob');
    const w = await cluster.client(0, 'w');
    await w.call({ type: 'watch', users: [bob] });
    await victim.client(bob);
    assert.deepEqual(states([await w.next('status')]), [[bob, 'online', 1]]);
    await victim.kill();
    const frames = [await w.next('status')];
    if (frames[0].state === 'suspended') frames.push(await w.next('status'));
    assert.deepEqual(frames.at(-1).state, 'offline');
    await w.settle();
    assert.deepEqual(w.take('status'), []);
    await w.close();
  });

  it('what happened while Redis was away is told when it is back', async () => {
    const bob = unique('bob'), w = await cluster.client(0, 'w');
    const b = await cluster.client(1, bob);
    assert.deepEqual(states((await w.call({ type: 'watch', users: [bob] })).users), [[bob, 'online', 1]]);
    await cluster.redis.stop();
    await b.drop();
    await until(async () => (await w.call({ type: 'watch', users: [unique()] }).catch(e => e.retry)) === true, { what: 'new questions to be refused' });
    await cluster.redis.boot();
    let last;
    do last = await w.next('status'); while (last.state !== 'offline');
    assert.deepEqual(states([last]), [[bob, 'offline', 0]]);
    await w.close();
  });
});
