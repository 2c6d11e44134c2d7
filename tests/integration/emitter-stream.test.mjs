// emitter-stream.test.mjs: what is appended to the stream of npm's @socket.io/redis-streams-adapter, by its emitter or by servers, reaches Socket.IO clients of every version and node, once and in order
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Server } from 'socket.io';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import { Emitter } from '@socket.io/redis-emitter';
import IORedis from 'ioredis';
import { Cluster } from './lib/cluster.mjs';
import { RedisCluster, slotOf } from './lib/redis-cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, VALUES, ask, events, io2, io4 } from './lib/sockets.mjs';
import { until } from './lib/wait.mjs';

const FLAGS = ['--socketio-emitter', 'streams', '--socketio-namespace', '/admin*', '--max-message-size', '1m', '--max-queue-bytes', '4m'];
const counter = (of, n) => Array.from({ length: n }, (_, i) => of + i);
const numbers = s => events(s, 'n').map(e => e[0]);
const heard = (s, what, n = 1) => until(() => events(s, what).length >= n, { what: `${n} ${what}`, ms: 20000 });

/** A server that nobody connects to: all it emits goes into the stream. It reads the stream, too, over connections of its own, which take a moment to end. */
function speaker(redis) {
  const copies = [], duplicate = redis.duplicate;
  redis.duplicate = (...args) => { const c = duplicate.apply(redis, args); copies.push(c); return c; };
  const server = new Server({ adapter: createAdapter(redis, { blockTimeInMs: 100 }) });
  server.of('/admin');
  server.end = async () => { for (const n of server._nsps.values()) n.adapter.close(); await until(() => copies.every(c => c.status === 'end'), { what: 'its connections to end' }); };
  return server;
}

/** As npm's @socket.io/redis-streams-emitter 0.1.1 writes its entries: uid `emitter`, JSON where there are no bytes. */
const entry = (nsp, type, data) => ['uid', 'emitter', 'nsp', nsp, 'type', String(type), ...(data === undefined ? [] : ['data', typeof data === 'string' ? data : JSON.stringify(data)])];
const event = (nsp, args, opts = {}) => entry(nsp, 3, { packet: { type: 2, data: args, nsp }, opts: { rooms: [], flags: {}, except: [], ...opts } });

describe('the stream of Redis emitters', { timeout: 120000 }, () => {
  let cluster, sockets, redis, io;
  const add = (...args) => redis.xadd('socket.io', 'MAXLEN', '~', 10000, '*', ...args);
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    redis = new IORedis(cluster.redis.port, '127.0.0.1');
    await add(...event('/', ['old'])); // what was said before a node was there is not for it
    for (const name of ['gw1', 'gw2']) await cluster.add(name, { flags: FLAGS });
    sockets = new Sockets(cluster);
    io = speaker(redis);
  });
  after(async () => { await io.end(); redis.disconnect(); await cluster.stop(); });

  it('every argument arrives as it was emitted, at 2.x and 4.x clients of both nodes, once and in order', async () => {
    const all = [await sockets.connected(io4, 0), await sockets.connected(io4, 1), await sockets.connected(io2, 0), await sockets.connected(io2, 1)];
    for (const values of VALUES) io.emit('values', ...values);
    io.emit('dates', new Date(1700000000123), undefined, NaN, { gone: undefined });
    io.emit('dates', new Date(1700000000123), undefined, NaN, Buffer.from('x'));
    for (let i = 0; i < 500; i++) io.emit('n', i);
    for (const s of all) {
      await heard(s, 'n', 500);
      assert.deepEqual(events(s, 'values'), VALUES);
      assert.deepEqual(events(s, 'dates'), [['2023-11-14T22:13:20.123Z', null, null, {}], ['2023-11-14T22:13:20.123Z', null, null, Buffer.from('x')]]);
      assert.deepEqual(numbers(s), counter(0, 500));
      assert.deepEqual(events(s, 'old'), []);
    }
    sockets.close();
  });

  it('rooms, several of them, exceptions, sockets by their id, namespaces: at once, with nothing to be waited for', async () => {
    const [r1, r2, r3] = [unique(), unique(), unique()];
    const a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await sockets.connected(io4, 1), admin = await sockets.connected(io4, 0, '/admin');
    for (const [s, ...rooms] of [[a, r1, r2], [b, r2], [c, r3], [admin, r1]]) for (const r of rooms) assert.equal((await ask(s, 'join', r)).type, 'ack');
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
    await add(...event('/', ['n', 12, { a: [1] }], { rooms: [r1] }));
    await add(...event('/nobody-is-there', ['n', 13]));
    io.emit('last');
    io.of('/admin').emit('last');
    for (const [s, n] of [[a, [1, 2, 3, 4, 11, 12]], [b, [2, 3, 4, 5, 6, 7, 11]], [c, [5]], [admin, [8, 9]]]) {
      await heard(s, 'last');
      assert.deepEqual(numbers(s), n);
    }
    sockets.close();
  });

  it('socketsJoin, socketsLeave, disconnectSockets: what follows them is for those who are in by then', async () => {
    const [r1, r2] = [unique(), unique()], a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await sockets.connected(io4, 1);
    for (const s of [a, b]) await ask(s, 'join', r1);
    io.in(r1).socketsJoin([r2, `${r2}-too`]);
    io.to(r2).emit('n', 1);
    io.in(r1).except(a.id).socketsLeave([r2]);
    io.to(r2).emit('n', 2);
    io.in(r1).socketsJoin(r2);
    for (let i = 3; i < 100; i++) io.to(r2).emit('n', i);
    for (const s of [a, b]) await until(() => numbers(s).at(-1) === 99, { what: 'the last one' });
    assert.deepEqual(numbers(a), counter(1, 99));
    assert.deepEqual(numbers(b), [1, ...counter(3, 97)]);
    io.in(r2).except(b.id).disconnectSockets();
    await until(() => a.ends.length === 1, { what: 'the disconnect' });
    assert.deepEqual(a.ends, ['io server disconnect']);
    io.in(r1).disconnectSockets(true);
    await until(() => b.ends.length === 1, { what: 'the disconnect of all of it' });
    assert.equal(c.ends.length, 0);
    assert.equal((await ask(c, 'presence', r1)).total, 0);
    sockets.close();
  });

  it('what is no entry of an emitter is counted and changes nothing; what servers say among themselves is neither', async () => {
    const s = await sockets.connected(io4, 0), before = await cluster.gateways[0].metrics();
    const opts = { rooms: [], except: [], flags: {} }, packet = { type: 2, data: ['bad'], nsp: '/' };
    const junk = [undefined, '', '{', '{}', 'AAAA', 'k', '[]', { packet, opts: { rooms: 5 } }, { packet: { ...packet, data: [] }, opts }, { packet: { ...packet, data: ['bad'.repeat(99)] }, opts },
      { packet: { ...packet, nsp: '/admin' }, opts }, { packet: { ...packet, type: 3 }, opts }, { packet, opts, requestId: 'x' }, { packet: { ...packet, id: 1 }, opts }, { packet: { ...packet, data: ['bad', 'x'.repeat(2 << 20)] }, opts },
      { packet: { ...packet, data: ['bad', JSON.parse('['.repeat(40) + ']'.repeat(40))] }, opts }, { packet, opts: { ...opts, rooms: counter(0, 101).map(String) } }];
    for (const data of junk) await add(...entry('/', 3, data));
    await add(...entry('/', 4, { opts: 1, rooms: ['r'] }));
    for (const type of [1, 2, 7, 8, 9, 10, 11, 12, 13, 99, -1, 'x']) await add(...entry('/', type, type === 2 ? undefined : { opts, packet }));
    await add('what', 'ever');
    io.emit('last');
    await heard(s, 'last');
    const now = await cluster.gateways[0].metrics();
    assert.equal(now.sum('xindao_drops_total', { reason: 'emitter' }) - before.sum('xindao_drops_total', { reason: 'emitter' }), junk.length + 1);
    assert.deepEqual(events(s, 'bad'), []);
    sockets.close();
  });

  it('what servers ask each other works as without us', async () => {
    const s = await sockets.connected(io4, 0);
    assert.deepEqual(await io.fetchSockets(), []);
    assert.deepEqual(await io.timeout(1000).emitWithAck('asked'), []);
    io.serverSideEmit('among servers', 1);
    io.emit('last');
    await heard(s, 'last');
    assert.deepEqual(s.heard, [['last']]);
    sockets.close();
  });

  it('a link that is lost loses nothing; what is gone from the stream is counted', async () => {
    const s = await sockets.connected(io4, 0), g = cluster.gateways[0], before = await g.metrics();
    const cut = async (from, n, then = m => m) => { // all at once: the node is not there meanwhile
      let m = redis.multi();
      for (const line of (await redis.client('LIST')).split('\n').filter(l => /name=gw1.*\.follow/.test(l))) m = m.client('KILL', 'ID', /id=(\d+)/.exec(line)[1]);
      for (const k of counter(from, n)) m = m.xadd('socket.io', '*', ...event('/', ['n', k]));
      await then(m).exec();
    };
    await cut(0, 100);
    await heard(s, 'n', 100);
    await cut(100, 300, m => m.xtrim('socket.io', 'MAXLEN', 10));
    await heard(s, 'n', 110);
    assert.deepEqual(numbers(s), [...counter(0, 100), ...counter(390, 10)]);
    await g.counted(before, 'xindao_emitter_gaps_total');
    assert.equal((await g.metrics()).sum('xindao_emitter_gaps_total'), 1);
    assert.match(g.log, /the stream of Redis emitters was cut before this node had read it; how much is missing is unknown/);
    sockets.close();
  });
});

describe('the stream of Redis emitters and an ACL', { timeout: 60000 }, () => {
  it('a gateway whose user may not read it, or that finds something else there, does not get ready and says why; then it reads', async () => {
    const cluster = await Cluster.start({ gateways: 0 });
    try {
      await cluster.redis.cli('ACL', 'SETUSER', 'narrow', 'on', '>pw', '~xd:*', 'resetchannels', '&xd:*', '+@all');
      await cluster.redis.cli('SET', 'mine', 'a string');
      const g = await cluster.add('gw1', { flags: [...FLAGS, '--socketio-emitter', 'both', '--socketio-emitter-stream', 'mine'], wait: false, broker: ['--broker', cluster.redis.url.replace('//', '//narrow:pw@')] });
      await until(() => /redis refused to have the stream.*stream=mine.*NOPERM/.test(g.log), { what: 'the reason' });
      await cluster.redis.cli('ACL', 'SETUSER', 'narrow', '~mine', '&socket.io*');
      await until(async () => /the stream of Redis emitters cannot be read: WRONGTYPE/.test((await g.get('/readyz')).text), { what: 'the next reason' });
      assert.equal((await g.get('/readyz')).status, 503);
      await cluster.redis.cli('DEL', 'mine');
      await g.ready();
    } finally {
      await cluster.stop();
    }
  });
});

describe('both emitters and a Redis Cluster', { timeout: 120000 }, () => {
  const MOVED = 20;
  let cluster, sockets, redis, stream, from;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: false });
    cluster.redis = await RedisCluster.start(cluster.dir);
    const all = await cluster.redis.primaries();
    for (let i = 0; !from; i++) { // one of those that are moved first
      stream = `mine-${i}`;
      from = all.find(p => p.ranges[0][0] <= slotOf(stream) && slotOf(stream) < p.ranges[0][0] + MOVED);
    }
    for (const name of ['gw1', 'gw2']) await cluster.add(name, { flags: [...FLAGS, '--socketio-emitter', 'both', '--socketio-emitter-stream', stream] });
    sockets = new Sockets(cluster);
    redis = new IORedis.Cluster([{ host: '127.0.0.1', port: Number(/:(\d+)/.exec(cluster.redis.url.replace(/^[^/]*\/\//, ''))[1]) }]);
  });
  after(async () => { redis.disconnect(); await cluster.stop(); });

  it('are heard wherever the stream lies and moves to', async () => {
    const all = [await sockets.connected(io4, 0), await sockets.connected(io2, 1)], classic = new Emitter(redis);
    const say = async (from, n) => { for (const i of counter(from, n)) await redis.xadd(stream, 'MAXLEN', '~', 1000, '*', ...event('/', ['n', i])); };
    await say(0, 50);
    for (const s of all) await heard(s, 'n', 50);
    for (const s of all) await until(() => { classic.emit('classic'); return events(s, 'classic').length !== 0; }, { what: 'the other emitter' });
    await cluster.redis.move(from.node, (await cluster.redis.primaries()).find(p => p.node !== from.node).node, MOVED);
    assert.notEqual((await cluster.redis.ownerOf(stream)).node, from.node);
    await say(50, 50);
    for (const s of all) { await heard(s, 'n', 100); assert.deepEqual(numbers(s), counter(0, 100)); }
    sockets.close();
  });
});
