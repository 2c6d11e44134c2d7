// emit.test.mjs: backends emit to Socket.IO clients on any node and collect their acks; see, move and disconnect many sessions at once
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from './lib/cluster.mjs';
import { RedisCluster } from './lib/redis-cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, ask, events, io2, io4 } from './lib/sockets.mjs';
import { until } from './lib/wait.mjs';

const KEYS = { admin: ['admin'], chat: ['publish', 'sessions:write'] };

for (const cluster_mode of [false, true]) describe(`emitting from a backend, ${cluster_mode ? 'with a Redis Cluster' : 'with Redis'}`, { timeout: 120000 }, () => {
  let cluster, sockets;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: !cluster_mode });
    if (cluster_mode) cluster.redis = await RedisCluster.start(cluster.dir);
    const keys = join(cluster.dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: Object.entries(KEYS).map(([name, scopes]) => ({ name, sha256: createHash('sha256').update(`xdk_${name}`).digest('hex'), scopes, ...(name === 'chat' && { rooms: ['chat*', '/admin,chat*'] }) })) }));
    for (const name of ['gw1', 'gw2']) await cluster.add(name, { flags: ['--api-keys', keys, '--socketio-namespace', '/admin*', '--message-rate', '20', '--message-burst', '20'] });
    sockets = new Sockets(cluster);
  });
  after(() => cluster.stop());

  const call = async (n, method, path, body, key = 'admin') => {
    const r = await cluster.gateways[n].get(`/api/v1${path}`, { method, headers: { authorization: `Bearer xdk_${key}` }, ...(body && { body: typeof body === 'string' ? body : JSON.stringify(body) }) });
    return { status: r.status, ...r.json };
  };
  const emit = (n, body, key) => call(n, 'POST', '/emit', body, key);
  const four = async room => {
    const all = [await sockets.connected(io4, 0), await sockets.connected(io2, 1), await sockets.connected(io4, 1), await sockets.connected(io2, 0)];
    for (const s of all.slice(0, 3)) assert.equal((await ask(s, 'join', room)).type, 'ack');
    return all;
  };

  it('acks of rooms on all nodes, with arguments and bytes, those who do not answer, in time', async () => {
    const room = unique(), all = await four(room);
    all[0].on('q', (n, done) => done({ n, by: 'a' }));
    all[1].on('q', (n, done) => done(Buffer.from([1, 2, 3])));
    all[2].on('q', (n, done) => done('two', [n]));
    all[3].on('q', () => assert.fail('it is not in the room'));
    const first = await emit(0, { rooms: [room], event: 'q', data: 5, ack: true });
    assert.deepEqual([first.status, first.nodes, first.missing, first.complete], [200, 2, [], true]);
    const by = Object.fromEntries(first.acks.map(({ session, ...rest }) => [session, rest]));
    assert.deepEqual(by, { [all[0].id]: { data: { n: 5, by: 'a' } }, [all[1].id]: { data_base64: 'AQID' }, [all[2].id]: { data: { $args: ['two', [5]] } } });
    const began = Date.now(), second = await emit(1, { rooms: [room], except: [all[0].id], event: 'silence', data: 1, ack: true, timeout: 300 });
    assert.ok(Date.now() - began >= 290 && Date.now() - began < 2500);
    assert.deepEqual([second.acks, second.missing.sort(), second.complete], [[], [all[1].id, all[2].id].sort(), true]);
    const none = await emit(1, { rooms: [unique()], event: 'q', data: 1, ack: true });
    assert.deepEqual([none.acks, none.missing, none.complete], [[], [], true], 'nobody is waited for');
    const nowhere = await emit(1, { namespace: '/admin-empty', event: 'q', data: 1, ack: true });
    assert.deepEqual([nowhere.nodes, nowhere.acks], [0, []]);
    sockets.close();
  });

  it('to the namespace, rooms without double, except, one socket, bytes; acks cost the client nothing', async () => {
    const [r1, r2] = [unique(), unique()], all = await four(r1), admin = await sockets.connected(io4, 1, '/admin');
    await ask(all[1], 'join', r2);
    assert.equal((await emit(0, { event: 'n', data: 1 })).nodes, 2);
    await emit(0, { rooms: [r1, r2], except: [all[2].id], event: 'n', data: { $args: [2, 'x'] } });
    await emit(1, { rooms: [all[0].id], event: 'n', data_base64: '/w==', volatile: true });
    await emit(1, { namespace: '/admin', data: 'unnamed' });
    for (let i = 0; i < 60; i++) all[3].on(`quick${i}`, done => done(i)); // more than --message-rate allows
    const quick = await Promise.all(Array.from({ length: 60 }, (_, i) => emit(0, { rooms: [all[3].id], event: `quick${i}`, data: { $args: [] }, ack: true })));
    assert.deepEqual(quick.map(q => q.acks[0]?.data), Array.from({ length: 60 }, (_, i) => i));
    await emit(0, { event: 'last', data: 1 });
    for (const s of all) await until(() => events(s, 'last').length === 1, { what: 'the last one' });
    assert.deepEqual(all.map(s => events(s, 'n')), [[[1], [2, 'x'], [Buffer.from([255])]], [[1], [2, 'x']], [[1]], [[1]]]);
    await until(() => events(admin, 'message').length === 1, { what: 'the one for /admin' });
    assert.deepEqual(admin.heard, [['message', 'unnamed']]);
    sockets.close();
  });

  it('sessions of a namespace, page by page, without asking their nodes', async () => {
    const nsp = `/admin-${unique()}`, mine = [];
    for (let i = 0; i < 5; i++) mine.push(await sockets.connected(io4, i % 2, nsp));
    const list = async (limit = 100) => {
      const all = [];
      for (let next = ''; next !== null;) {
        const page = await call(0, 'GET', `/sessions?namespace=${encodeURIComponent(nsp)}&limit=${limit}${next ? `&cursor=${encodeURIComponent(next)}` : ''}`);
        assert.equal(page.status, 200);
        all.push(...page.sessions);
        next = page.next;
      }
      return all.map(s => s.session).sort();
    };
    assert.deepEqual(await list(), mine.map(s => s.id).sort());
    assert.deepEqual(await list(1), mine.map(s => s.id).sort());
    assert.equal((await call(1, 'GET', `/sessions/${mine[0].id}`)).namespace, nsp);
    assert.equal((await call(0, 'GET', '/sessions?namespace=%2Fx&room=y')).code, 'bad_request');
    sockets.close();
  });

  it('joins, leaves and disconnects by room and namespace, page by page, and says how far it is', async () => {
    const nsp = `/admin-${unique()}`, room = `${nsp},hall`, mine = [];
    for (let i = 0; i < 5; i++) mine.push(await sockets.connected(io4, i % 2, nsp));
    const all = async (verb, body) => {
      const sum = { sessions: 0, done: 0, failures: 0, pages: 0 };
      for (let cursor = null; ; sum.pages++) {
        const page = await call(1, 'POST', `/sessions/${verb}`, { ...body, cursor });
        assert.equal(page.status, 200, page.message);
        for (const k of ['sessions', 'done', 'failures']) sum[k] += page[k];
        if ((cursor = page.next) === null) return sum;
      }
    };
    const joined = await all('join', { namespace: nsp, rooms: [room, `${room}2`], except: [mine[4].id] });
    assert.deepEqual([joined.sessions, joined.done, joined.failures], [4, 4, 0]);
    assert.deepEqual((await call(0, 'GET', `/rooms/${encodeURIComponent(room)}`)).total, 4);
    await until(() => mine.slice(0, 4).every(s => events(s, '$joined').length === 2), { what: 'them to be told' });
    const acks = await emit(0, { namespace: nsp, rooms: ['hall'], event: 'x', data: 1, ack: true, timeout: 50 });
    assert.equal(acks.missing.length, 4, 'an emission finds them there');
    const left = await all('leave', { room, rooms: [room], except: [mine[0].id], limit: 2, reason: 'closing' });
    assert.deepEqual([left.sessions, left.done], [3, 3]);
    assert.deepEqual((await call(0, 'GET', `/rooms/${encodeURIComponent(room)}`)).total, 1);
    assert.deepEqual([(await all('leave', { room: `${room}2`, rooms: [room] })).failures], [0], 'who is out already is no failure');
    const gone = await all('disconnect', { namespace: nsp, reason: 'bye' });
    assert.deepEqual([gone.sessions, gone.done], [5, 5]);
    await until(() => mine.every(s => s.ends[0] === 'io server disconnect'), { what: 'the disconnects' });
    sockets.close();
  });

  it('a key for some rooms speaks to those, by the names they have for everybody', async () => {
    const data = 1;
    for (const [body, status] of [[{ data }, 403], [{ rooms: ['chat1', 'other'], data }, 403], [{ namespace: '/admin', rooms: ['other'], data }, 403], [{ rooms: ['chat1'], data }, 200], [{ namespace: '/admin', rooms: ['chat1'], data }, 200]])
      assert.equal((await emit(0, body, 'chat')).status, status, JSON.stringify(body));
    assert.equal((await call(0, 'POST', '/sessions/join', { room: 'chat1', rooms: ['other'] }, 'chat')).code, 'forbidden');
  });

  if (!cluster_mode) it('a node that dies meanwhile is not waited for longer than the timeout and a second', async () => {
    const s = await sockets.connected(io4, 0), g = cluster.gateways[1], t = await sockets.connected(io4, 1);
    s.on('q', done => done('here'));
    t.on('q', () => {});
    g.process.signal('SIGSTOP');
    const began = Date.now(), answer = await emit(0, { event: 'q', data: { $args: [] }, ack: true, timeout: 200 });
    g.process.signal('SIGCONT');
    assert.ok(Date.now() - began < 3000);
    assert.deepEqual([answer.acks, answer.complete], [[{ session: s.id, data: 'here' }], false]);
    sockets.close();
  });
});
