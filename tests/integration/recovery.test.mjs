// recovery.test.mjs: connection state recovery of socket.io-client 4.8: the cut connection, the other node, the dead node, the ban in between, several rooms at once
import { after, afterEach, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Emitter } from '@socket.io/redis-emitter';
import IORedis from 'ioredis';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Key, keySet } from './lib/tokens.mjs';
import { Sockets, ask, events, io2, io4 } from './lib/sockets.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--socketio-recovery', 'on', '--socketio-emitter', 'classic', '--resume-window', '60s', '--lease', '2s', '--redis-timeout', '1s', '--socketio-namespace', '/admin',
  '--policy', 'bare-* retain-count=0', '--policy', 'short-* retain-count=3', '--socketio-event', 'shout do=relay to=namespace', '--policy', '$namespace:/short retain-count=3', '--socketio-namespace', '/short'];
const BACK = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 50, randomizationFactor: 0 };

/** The connection breaks; by long-polling the library knows of no other way than that a request fails. */
const cut = s => {
  const { engine } = s.io;
  if (engine.transport.ws) { engine.transport.ws.terminate(); return; }
  engine.transport.pollXhr?.abort();
  engine._onClose('transport close');
};
const elsewhere = (s, g) => { s.io.uri = `https://127.0.0.1:${g.port}`; s.io.opts.port = String(g.port); };
/** Its connection breaks, and it stays away until `home`. */
const leave = async (s, how = cut) => { const end = new Promise(yes => s.once('disconnect', yes)); s.io.reconnection(false); await how(s); await within(end, PATIENCE_MS, 'the end'); };
const home = async s => { const back = again(s); s.io.reconnection(true); s.connect(); await back; };
const again = s => within(new Promise(yes => s.once('connect', yes)), PATIENCE_MS, 'the reconnect');
/** What the socket has been told by events of that name, without the offsets behind the arguments. */
const said = (s, name) => events(s, name).map(args => {
  assert.equal(typeof args.at(-1), 'string');
  assert.match(args.at(-1), /^(\.[A-Za-z0-9_-]+)*$/);
  return args.length === 2 ? args[0] : args.slice(0, -1);
});
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('connection state recovery', { timeout: 120000 }, () => {
  let cluster, sockets;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const keys = join(cluster.dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'all', sha256: createHash('sha256').update('xdk_all').digest('hex'), scopes: ['admin'] }] }));
    FLAGS.push('--api-keys', keys);
    for (const name of ['gw1', 'gw2', 'gw3']) await cluster.add(name, { flags: FLAGS });
    sockets = new Sockets(cluster);
  });
  afterEach(() => sockets.close());
  after(() => cluster.stop());

  const emit = async (n, body) => {
    const r = await cluster.gateways[n].get('/api/v1/emit', { method: 'POST', headers: { authorization: 'Bearer xdk_all' }, body: JSON.stringify(body) });
    assert.equal(r.status, 200, r.text);
    return r.json.nodes;
  };

  async function talker(...rooms) {
    const w = await cluster.client(1, unique());
    for (const r of rooms) await w.join(r);
    return w;
  }

  it('a cut connection: the same id, what was missed in order, once, then what comes live', async () => {
    const [a, b] = [unique(), unique()], w = await talker(a, b), s = await sockets.connected(io4, 0, '/', BACK);
    assert.equal(s.recovered, false);
    for (const r of [a, b]) await ask(s, 'join', r);
    const id = s.id;
    for (const i of numbers(1, 20)) await w.publish(i % 2 ? a : b, i, { event: 'n' });
    await until(() => events(s, 'n').length === 20, { what: 'twenty' });
    for (let round = 0; round < 3; round++) {
      const from = 21 + round * 10, back = again(s);
      cut(s);
      for (const i of numbers(from, from + 8)) await w.publish(i % 3 ? a : b, i, { event: 'n' });
      await back;
      assert.deepEqual([s.recovered, s.id], [true, id]);
      await w.publish(a, from + 9, { event: 'n' });
      await until(() => events(s, 'n').length >= from + 9, { what: 'what was missed' });
    }
    const odd = i => i <= 20 ? i % 2 : (i - 21) % 10 === 9 || i % 3;
    await sleep(100);
    const got = said(s, 'n');
    assert.deepEqual([...got].sort((x, y) => x - y), numbers(1, 50), 'everything once');
    for (const which of [i => odd(i), i => !odd(i)]) assert.deepEqual(got.filter(which), numbers(1, 50).filter(which), 'in order');
    assert.equal((await w.call({ type: 'presence', room: a })).total, 2);
  });

  it('what emitters say past the log, texts too, takes nobody\'s place away', async () => {
    const [a, b] = [unique(), unique()], w = await talker(a, b), s = await sockets.connected(io4, 0, '/', BACK), redis = new IORedis(cluster.redis.port, '127.0.0.1'), io = new Emitter(redis);
    for (const r of [a, b]) await ask(s, 'join', r);
    for (const i of numbers(1, 6)) await w.publish(i % 2 ? a : b, i, { event: 'n' });
    await until(() => events(s, 'n').length === 6, { what: 'six' });
    await until(() => { io.to(a).emit('note', 'a text, no offset'); io.emit('note', 'another'); return events(s, 'note').length > 2; }, { what: 'the emitter' });
    redis.disconnect();
    const back = again(s);
    cut(s);
    await w.publish(a, 7, { event: 'n' });
    await w.publish(b, 8, { event: 'n' });
    await back;
    assert.equal(s.recovered, true);
    await until(() => events(s, 'n').length === 8, { what: 'what was missed' });
    assert.deepEqual([...said(s, 'n')].sort(), numbers(1, 8));
    assert.ok(said(s, 'note').every(text => text === 'a text, no offset' || text === 'another'));
  });

  it('the other node, and a node that is killed', async () => {
    const [a, b] = [unique(), unique()], w = await talker(a, b), victim = await cluster.add('victim', { flags: FLAGS });
    const n = cluster.gateways.indexOf(victim), s = await sockets.connected(io4, n, '/', BACK);
    for (const r of [a, b]) await ask(s, 'join', r);
    const id = s.id;
    let i = 0;
    const say = async () => { i++; await w.publish(i % 3 ? a : b, i, { event: 'n' }); };
    for (const kill of [false, true]) {
      elsewhere(s, cluster.gateways[0]);
      const back = again(s), floods = (async () => { for (let k = 0; k < 60; k++) await say(); })();
      await sleep(20);
      if (kill) await victim.kill(); else cut(s);
      await floods;
      await back;
      assert.deepEqual([s.recovered, s.id], [true, id], kill ? 'after kill -9' : 'at the other node');
      await until(() => events(s, 'n').length >= i, { what: 'everything' });
      if (!kill) { elsewhere(s, victim); const home = again(s); cut(s); await home; assert.equal(s.recovered, true); }
    }
    await sleep(100);
    const got = said(s, 'n');
    assert.deepEqual([...got].sort((x, y) => x - y), numbers(1, i));
    for (const which of [k => k % 3, k => !(k % 3)]) assert.deepEqual(got.filter(which), numbers(1, i).filter(which));
  });

  it('before the first event, and in two namespaces at once', async () => {
    const s = await sockets.connected(io4, 0, '/', BACK), admin = s.io.socket('/admin', { auth: { user: 'u' } });
    sockets.open.push(admin);
    await again(admin);
    const ids = [s.id, admin.id], back = Promise.all([again(s), again(admin)]);
    cut(s);
    await back;
    assert.deepEqual([s.recovered, admin.recovered, s.id, admin.id], [true, true, ...ids]);
    const room = unique(), w = await talker(room);
    await ask(s, 'join', room);
    const once = again(s);
    cut(s);
    await w.publish(room, 'first', { event: 'n' });
    await once;
    assert.equal(s.recovered, true);
    await until(() => events(s, 'n').length === 1, { what: 'the first message of all' });
  });

  it('whoever has left, was banned, or comes with another offset than there was, begins anew', async () => {
    const room = unique(), user = unique(), w = await talker(room), s = await sockets.connected(io4, 0, '/', { ...BACK, auth: { user } });
    await ask(s, 'join', room);
    let id = s.id;
    const back = again(s);
    s.disconnect();
    s.connect();
    await back;
    assert.equal(s.recovered, false);
    assert.notEqual(s.id, id);
    await until(async () => (await w.call({ type: 'presence', room })).total === 1, { what: 'the old session to be over' });

    await ask(s, 'join', room);
    await w.publish(room, 1, { event: 'n' });
    await until(() => events(s, 'n').length === 1, { what: 'a message' });
    id = s.id;
    s._lastOffset = s._lastOffset.replace(/.$/, c => c === 'Z' ? 'Y' : 'Z');
    const anew = again(s);
    cut(s);
    await anew;
    assert.equal(s.recovered, false);
    assert.notEqual(s.id, id);
    await until(async () => (await w.call({ type: 'presence', room })).total === 1, { what: 'the session that could not go on to be over' });

    const refused = within(new Promise(yes => s.once('connect_error', yes)), PATIENCE_MS, 'a refusal');
    await cluster.redis.cli('HSET', `xd:ban:{${user}}`, 'user', user, 'since', String(Date.now()), 'reason', 'spam');
    cut(s);
    const why = await refused;
    assert.deepEqual([why.data.code, why.data.reason, s.connected], ['banned', 'spam', false]);
  });

  it('nothing is passed over in silence: what no log has any more is not recovered, and what was never said is', async () => {
    for (const [prefix, count, recovered] of [['short-', 3, true], ['short-', 9, false], ['bare-', 0, true], ['bare-', 1, false]]) {
      const room = prefix + unique(), w = await talker(room), s = await sockets.connected(io4, 0, '/', BACK);
      await ask(s, 'join', room);
      await w.publish(room, 0, { event: 'n' });
      await until(() => events(s, 'n').length === 1, { what: 'a message' });
      await leave(s);
      for (const i of numbers(1, count)) await w.publish(room, i, { event: 'n' });
      await home(s);
      assert.equal(s.recovered, recovered, `${prefix} ${count}`);
      if (recovered) await until(() => events(s, 'n').length === count + 1, { what: 'what was missed' });
    }
  });

  it('what is said to everybody: relays, the API, broadcasts; for whom it is decides who is in which room when he is back', async () => {
    const [a, b] = [unique(), unique()], w = await talker(a), other = await sockets.connected(io4, 1, '/', BACK), victim = await cluster.add(unique(), { flags: FLAGS });
    const s = await sockets.connected(io4, cluster.gateways.indexOf(victim), '/', BACK), id = s.id;
    await emit(0, { event: 'before', data: 'it came' });
    await ask(s, 'join', a);
    await ask(other, 'join', b);
    for (const kill of [false, true]) {
      const from = events(s, 'n').length;
      if (kill) elsewhere(s, cluster.gateways[2]);
      await leave(s, kill ? () => victim.kill() : cut);
      other.emit('shout', `relay ${kill}`);
      await until(() => events(other, 'shout').length === 1 + kill, { what: 'the relay' });
      await emit(0, { event: 'n', data: 1 });
      await emit(1, { event: 'n', rooms: [a, b], data: 2 });
      await emit(0, { event: 'n', rooms: [b], data: 'not' });
      await emit(0, { event: 'n', except: [a], data: 'not' });
      await emit(1, { event: 'n', rooms: [id], data: { $args: [3, 'x'] } });
      await emit(0, { event: 'n', rooms: [a], except: [id], data: 'not' });
      await emit(0, { event: 'n', data_base64: '/w==' });
      w.send({ type: 'broadcast', event: 'n', data: 'all' });
      await w.publish(a, 'room', { event: 'n' });
      await home(s);
      assert.deepEqual([s.recovered, s.id], [true, id], `kill ${kill}`);
      await until(() => events(s, 'n').length >= from + 6, { what: () => JSON.stringify(s.heard) });
      await emit(1, { event: 'last', data: kill });
      await until(() => events(s, 'last').length === 1 + kill, { what: 'what comes live' });
      const got = events(s, 'n').slice(from).map(args => args.slice(0, -1));
      assert.deepEqual(got.filter(x => !['all', 'room'].includes(x[0])), [[1], [2], [3, 'x'], [Buffer.from([0xff])]]);
      assert.equal(got.length, 6);
      assert.equal(said(s, 'shout').length, 1 + kill);
    }
    assert.deepEqual(said(other, 'n').filter(x => x === 'not').length, 4);
  });

  it('who missed more than a namespace keeps, or something that was said to it alone, is not told that nothing is missing', async () => {
    for (const [count, recovered] of [[3, true], [4, false]]) {
      const s = await sockets.connected(io4, 0, '/short', BACK), { id } = s;
      await leave(s);
      for (const i of numbers(1, count)) await emit(1, { namespace: '/short', event: 'n', rooms: [id], data: i });
      await home(s);
      assert.equal(s.recovered, recovered);
      if (recovered) await until(() => events(s, 'n').length === count, { what: 'all of it' });
    }
    const w = await talker(unique()), s = await sockets.connected(io4, 0, '/', BACK), { id } = s;
    await w.call({ type: 'send', to: { session: id }, event: 'n', data: 1 });
    await until(() => events(s, 'n').length === 1, { what: 'a message to it alone' });
    for (const recovered of [true, false]) {
      if (!recovered) s.io.engine.transport.onData = () => {}; // the line is dead, and nobody knows yet
      if (!recovered) await w.call({ type: 'send', to: { session: id }, event: 'n', data: 2 });
      await leave(s);
      await home(s);
      assert.equal(s.recovered, recovered);
    }
  });

  it('by long-polling: at home, at another node, and when the node is killed', async () => {
    const room = unique(), w = await talker(room), victim = await cluster.add(unique(), { flags: FLAGS });
    const s = await sockets.connected(io4, cluster.gateways.indexOf(victim), '/', { ...BACK, transports: ['polling'], rejectUnauthorized: false });
    await ask(s, 'join', room);
    const { id } = s;
    let i = 0;
    for (const [to, how] of [[victim, cut], [cluster.gateways[0], cut], [victim, cut], [cluster.gateways[1], () => victim.kill().then(() => cut(s))]]) {
      await w.publish(room, ++i, { event: 'n' });
      await until(() => events(s, 'n').length === i, { what: 'what is told live' });
      await leave(s, how);
      for (let k = 0; k < 3; k++) await w.publish(room, ++i, { event: 'n' });
      await emit(0, { event: 'n', data: ++i });
      elsewhere(s, to);
      await home(s);
      assert.deepEqual([s.recovered, s.id, s.io.engine.transport.name], [true, id, 'polling']);
      await until(() => events(s, 'n').length >= i, { what: 'what was missed' });
    }
    await sleep(50);
    assert.deepEqual(said(s, 'n').sort((x, y) => x - y), numbers(1, i));
  });

  it('who is in twenty rooms', async () => {
    const rooms = numbers(1, 20).map(() => unique()), w = await talker(...rooms), s = await sockets.connected(io4, 0, '/', BACK);
    for (const r of rooms) await ask(s, 'join', r);
    const { id } = s;
    for (let round = 0; round < 3; round++) {
      await leave(s);
      elsewhere(s, cluster.gateways[round]);
      for (const r of rooms) await w.publish(r, `${r} ${round}`, { event: 'n' });
      await home(s);
      assert.deepEqual([s.recovered, s.id], [true, id]);
      await until(() => events(s, 'n').length >= 20 * (round + 1), { what: 'what was missed' });
    }
    assert.deepEqual(said(s, 'n').sort(), rooms.flatMap(r => [0, 1, 2].map(k => `${r} ${k}`)).sort());
  });

  it('2.x clients know nothing of it', async () => {
    const room = unique(), w = await talker(room), s = await sockets.connected(io2, 0);
    await ask(s, 'join', room);
    await w.publish(room, 'plain', { event: 'n' });
    await until(() => events(s, 'n').length === 1, { what: 'a message' });
    assert.deepEqual(events(s, 'n'), [['plain']]);
    s.io.engine.transport.ws.terminate();
    await until(async () => (await w.call({ type: 'presence', room })).total === 1, { what: 'its session to end at once' });
  });
});

describe('connection state recovery with tokens', { timeout: 60000 }, () => {
  it('is for the user of the session alone, whatever else somebody knows of it', async () => {
    const cluster = await Cluster.start({ gateways: 0 }), sockets = new Sockets(cluster), key = await Key.make('ES256', 'k1');
    try {
      await cluster.add('gw1', { flags: [...FLAGS.filter((x, i) => x !== '--api-keys' && FLAGS[i - 1] !== '--api-keys'), '--auth', 'jwt', '--jwt-key', keySet(cluster.dir, 'keys.json', key)] });
      const alice = await key.sign('alice'), mallory = await key.sign('mallory'), s = await sockets.connected(io4, 0, '/', { ...BACK, auth: { token: alice } }), { id } = s;
      await ask(s, 'join', 'hall');
      for (const [token, recovered] of [[await key.sign('alice'), true], [mallory, false]]) {
        await leave(s);
        s.auth = { token };
        await home(s);
        assert.deepEqual([s.recovered, s.id === id], [recovered, recovered]);
      }
      assert.deepEqual((await ask(s, 'presence', 'hall')).members.map(m => [m.session, m.state]), [[id, 'suspended']], 'it is still hers');
      const nobody = within(new Promise(yes => s.once('connect_error', yes)), PATIENCE_MS, 'a refusal');
      await leave(s);
      s.auth = {};
      s.connect();
      assert.equal((await nobody).data.code, 'unauthorized');
    } finally { sockets.close(); await cluster.stop(); }
  });
});
