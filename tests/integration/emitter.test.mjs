// emitter.test.mjs: what npm's @socket.io/redis-emitter says reaches Socket.IO clients of every version and node, argument by argument
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Emitter } from '@socket.io/redis-emitter';
import IORedis from 'ioredis';
import { Cluster } from './lib/cluster.mjs';
import { RedisCluster } from './lib/redis-cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, VALUES, ask, events, io2, io4 } from './lib/sockets.mjs';
import { until } from './lib/wait.mjs';

const FLAGS = ['--socketio-emitter', 'classic', '--socketio-namespace', '/admin*', '--max-message-size', '1m', '--max-queue-bytes', '4m'];
const settled = async (emitter, s, room) => { // its channels are subscribed: what is said to them arrives
  const probe = unique();
  await until(() => { (room ? emitter.to(room) : emitter).emit('probe', probe); return events(s, 'probe').some(([p]) => p === probe); }, { what: 'the channels' });
};

describe('Redis emitters', { timeout: 120000 }, () => {
  let cluster, sockets, redis, io;
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, flags: FLAGS });
    sockets = new Sockets(cluster);
    redis = new IORedis(cluster.redis.port, '127.0.0.1');
    io = new Emitter(redis);
  });
  after(async () => { redis.disconnect(); await cluster.stop(); });

  it('every argument arrives as it was emitted, at 2.x and 4.x clients of both nodes', async () => {
    const all = [await sockets.connected(io4, 0), await sockets.connected(io4, 1), await sockets.connected(io2, 0), await sockets.connected(io2, 1)];
    for (const s of all) await settled(io, s);
    for (const values of VALUES) io.emit('values', ...values);
    io.emit('dates', new Date(1700000000123), new Date(0), undefined, NaN, { gone: undefined });
    for (const s of all) {
      await until(() => events(s, 'dates').length === 1, { what: 'the last one' });
      assert.deepEqual(events(s, 'values'), VALUES);
      assert.deepEqual(events(s, 'dates'), [['2023-11-14T22:13:20.123Z', '1970-01-01T00:00:00.000Z', null, null, {}]]);
    }
    sockets.close();
  });

  it('rooms, several of them, exceptions, sockets by their id, namespaces', async () => {
    const [r1, r2, r3] = [unique(), unique(), unique()];
    const a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await sockets.connected(io4, 1), admin = await sockets.connected(io4, 0, '/admin');
    for (const [s, ...rooms] of [[a, r1, r2], [b, r2], [c, r3], [admin, r1]]) for (const r of rooms) assert.equal((await ask(s, 'join', r)).type, 'ack');
    for (const [s, ...rooms] of [[a, r1, r2], [b, r2], [c, r3]]) for (const r of [undefined, ...rooms, s.id]) await settled(io, s, r);
    for (const r of [undefined, r1, admin.id]) await settled(io.of('/admin'), admin, r);
    io.to(r1).emit('n', 1);
    io.to(r2).emit('n', 2);
    io.to([r1, r2]).emit('n', 3);
    io.to([r1, r2, r3]).except(r3).emit('n', 4);
    io.except([r1]).emit('n', 5);
    io.to(b.id).emit('n', 6);
    io.except(a.id).to(r2).emit('n', 7);
    io.of('/admin').emit('n', 8);
    io.of('/admin').to(r1).emit('n', 9);
    io.of('/admin').to(r1).except(admin.id).emit('n', 10);
    io.volatile.compress(false).to(r2).emit('n', 11);
    io.emit('last');
    io.of('/admin').emit('last');
    const want = [[a, [1, 2, 3, 4, 11]], [b, [2, 3, 4, 5, 6, 7, 11]], [c, [5]], [admin, [8, 9]]];
    for (const [s, n] of want) {
      await until(() => events(s, 'last').length === 1, { what: 'the last one' });
      assert.deepEqual(events(s, 'n').map(e => e[0]), n);
    }
    sockets.close();
  });

  it('socketsJoin, socketsLeave, disconnectSockets', async () => {
    const [r1, r2] = [unique(), unique()], a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await sockets.connected(io4, 1);
    for (const s of [a, b]) await ask(s, 'join', r1);
    for (const s of [a, b, c]) for (const r of [undefined, ...(s === c ? [] : [r1])]) await settled(io, s, r);
    io.in(r1).socketsJoin(r2);
    await until(async () => (await ask(c, 'presence', r2)).total === 2, { what: 'both to be in' });
    for (const s of [a, b]) await settled(io, s, r2);
    io.in(r1).except(a.id).socketsLeave([r2]);
    await until(async () => (await ask(c, 'presence', r2)).total === 1, { what: 'one to be out' });
    assert.equal(events(a, '$left').length, 0);
    io.in(r2).disconnectSockets();
    await until(() => a.ends.length === 1, { what: 'the disconnect' });
    assert.deepEqual(a.ends, ['io server disconnect']);
    io.in(r1).disconnectSockets(true);
    await until(() => b.ends.length === 1, { what: 'the disconnect of all of it' });
    assert.equal(c.ends.length, 0);
    assert.equal((await ask(c, 'presence', r1)).total, 0);
    sockets.close();
  });

  it('what is no message of an emitter is counted and changes nothing', async () => {
    const s = await sockets.connected(io4, 0), before = await cluster.gateways[0].metrics();
    await settled(io, s);
    const junk = [Buffer.alloc(0), Buffer.from([0x93]), Buffer.from('hello'), Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]), Buffer.from([0x93, 0xa1, 0x78, 0xdf, 0xff, 0xff, 0xff, 0xff]), Buffer.alloc(2 << 20, 0x90)];
    for (const body of junk) await redis.publish('socket.io#/#', body);
    await redis.publish('socket.io-request#/#', '{"type":2,"opts":[]}');
    await redis.publish('socket.io-request#/#', JSON.stringify({ uid: 'x', type: 6, data: ['x'] }));
    await cluster.gateways[0].counted(before, 'xindao_drops_total', { reason: 'emitter' }, junk.length + 2);
    await settled(io, s);
    assert.deepEqual(events(s, 'probe').length >= 2, true);
    sockets.close();
  });

  it('channels are given up with the last one who needs them, and come back with the link', async () => {
    const room = unique(), s = await sockets.connected(io4, 0, '/admin-x');
    await ask(s, 'join', room);
    const of = io.of('/admin-x'), channels = async () => (await cluster.redis.cli('PUBSUB', 'CHANNELS', 'socket.io*#/admin-x#*')).split('\n').filter(Boolean).sort();
    await settled(of, s, room);
    assert.deepEqual(await channels(), ['socket.io#/admin-x#', `socket.io#/admin-x#${s.id}#`, `socket.io#/admin-x#${room}#`, 'socket.io-request#/admin-x#'].sort());
    await cluster.redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await settled(of, s, room);
    s.close();
    await until(async () => (await channels()).length === 0, { what: 'the channels to go' });
    sockets.close();
  });
});

describe('Redis emitters and an ACL', { timeout: 60000 }, () => {
  it('a gateway whose user may not listen does not get ready, and says why', async () => {
    const cluster = await Cluster.start({ gateways: 0 });
    try {
      await cluster.redis.cli('ACL', 'SETUSER', 'narrow', 'on', '>pw', '~*', 'resetchannels', '&xd:*', '+@all');
      const g = await cluster.add('gw1', { flags: FLAGS, wait: false, broker: ['--broker', cluster.redis.url.replace('//', '//narrow:pw@')] });
      await until(() => /redis refused a subscription.*NOPERM/.test(g.log), { what: 'the reason' });
      assert.equal((await g.get('/readyz')).status, 503);
    } finally {
      await cluster.stop();
    }
  });
});

describe('Redis emitters and a Redis Cluster', { timeout: 120000 }, () => {
  let cluster, sockets, redis;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: false });
    cluster.redis = await RedisCluster.start(cluster.dir);
    for (const name of ['gw1', 'gw2']) await cluster.add(name, { flags: [...FLAGS, '--socketio-emitter-key', 'mine'] });
    sockets = new Sockets(cluster);
    redis = new IORedis.Cluster([{ host: '127.0.0.1', port: Number(/:(\d+)/.exec(cluster.redis.url.replace(/^[^/]*\/\//, ''))[1]) }]);
  });
  after(async () => { redis.disconnect(); await cluster.stop(); });

  it('are heard whatever node of Redis they speak to, once', async () => {
    const io = new Emitter(redis, { key: 'mine' }), rooms = Array.from({ length: 6 }, unique), all = [await sockets.connected(io4, 0), await sockets.connected(io2, 1)];
    for (const s of all) for (const r of rooms) await ask(s, 'join', r);
    for (const s of all) for (const r of [undefined, ...rooms]) await settled(io, s, r);
    for (let i = 0; i < 60; i++) io.to(rooms[i % rooms.length]).emit('n', i);
    for (const s of all) {
      await until(() => events(s, 'n').length >= 60, { what: 'all of them' });
      assert.deepEqual(events(s, 'n').map(e => e[0]).sort((a, b) => a - b), Array.from({ length: 60 }, (_, i) => i));
    }
    sockets.close();
  });
});
