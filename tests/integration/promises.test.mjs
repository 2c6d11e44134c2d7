// promises.test.mjs: the tables of docs/socketio.md, row by row, asked by npm's clients on three nodes
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Backend } from './lib/backend.mjs';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, ask, events, io2, io4 } from './lib/sockets.mjs';
import { PATIENCE_MS, until, within } from './lib/wait.mjs';

const LIMIT = 65536;
const RULES = ['/game,move do=relay echo=off', 'chat* do=relay', 'shout* do=relay to=namespace', 'whisper do=relay to=namespace echo=off', 'buy* do=backend', 'never do=refuse', 'enter do=join', 'publish do=verb', 'presence do=verb'];
const bytes = n => Buffer.from(Array.from({ length: n }, (_, i) => i & 255));

describe('what docs/socketio.md promises', { timeout: 120000 }, () => {
  let cluster, sockets, backend;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    backend = await Backend.start(cluster.dir, { answer: e => (e.sync ? { json: answers[e.event]?.(e) ?? {} } : undefined) });
    const keys = join(cluster.dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'admin', sha256: createHash('sha256').update('xdk_admin').digest('hex'), scopes: ['admin'] }] }));
    const flags = ['--api-keys', keys, ...backend.flags, '--max-message-size', String(LIMIT), '--max-queue-bytes', '4m', ...['/admin', '/game', '/dyn-*'].flatMap(n => ['--socketio-namespace', n]), ...RULES.flatMap(r => ['--socketio-event', r])];
    for (const name of ['gw1', 'gw2', 'gw3']) await cluster.add(name, { flags });
    sockets = new Sockets(cluster);
  });
  after(async () => { await cluster.stop(); await backend.down(); });
  const answers = {
    'buy-many': e => ({ data: { $args: [1, null, e.data] } }),
    'buy-bytes': () => ({ data: { $args: [{ _placeholder: true, num: 0 }, { in: [{ _placeholder: true, num: 1 }] }, 'x'], $attachments: ['AQID', '/w=='] } }),
    'buy-one': e => ({ data: e.data }),
    'buy-null': () => ({ data: null }),
    'buy-list': () => ({ data: [1, 2] }),
    'buy-nothing': () => ({}),
    'buy-none': () => ({ data: { $args: [] } }),
    'buy-not': () => ({ allow: false, reason: 'sold out' }),
    'buy-echo': e => ({ data: e.data_type === 'binary' ? { binary: e.data } : e.data }),
  };
  const call = async (n, method, path, body) => {
    const r = await cluster.gateways[n].get(`/api/v1${path}`, { method, headers: { authorization: 'Bearer xdk_admin' }, ...(body && { body: JSON.stringify(body) }) });
    return { status: r.status, ...r.json };
  };
  const all = (s, ...args) => within(new Promise(yes => s.emit(...args, (...got) => yes(got))), PATIENCE_MS, `the ack of ${args[0]}`);
  const settle = async (...list) => { for (const s of list) assert.equal((await ask(s, 'presence', 'nobody')).type, 'ack'); };

  it('relay: to the rooms, to the namespace, with and without the sender, 2.x and 4.x, bytes', async () => {
    const room = unique(), a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await sockets.connected(io4, 2, '/', { transports: ['polling'] }), d = await sockets.connected(io4, 1);
    for (const s of [a, b, c]) assert.equal((await ask(s, 'enter', room)).type, 'ack');
    const data = [[], [bytes(300)], [{ deep: [bytes(3)] }, 'x', bytes(0)], ['one'], [null], [undefined], [0], ['$args'], [{ $args: [1] }], [{ _placeholder: true, num: 0 }], [{ type: 'Buffer', data: [1] }], [[['a']]], [1, [2], { 3: 4 }]];
    const sent = data.map(args => args.map(x => (x === undefined ? null : x)));
    for (const args of data) a.emit('chat', ...args);
    for (const args of data) b.emit('chat', ...args);
    for (const args of data) c.emit('chat', ...args);
    for (const s of [a, b, c]) await until(() => events(s, 'chat').length === 3 * data.length, { what: () => `all at ${s === a ? 'a' : s === b ? 'b' : 'c'}: ${events(s, 'chat').length}`, ms: 8000 });
    for (const s of [a, b, c]) assert.deepEqual([...events(s, 'chat')].map(e => JSON.stringify(e)).sort(), [...sent, ...sent, ...sent].map(e => JSON.stringify(e)).sort());
    assert.deepEqual(events(d, 'chat'), []);
    a.emit('shout', bytes(5)); b.emit('whisper', 1); c.emit('shout-2', { x: bytes(2) });
    for (const s of [a, b, c, d]) await until(() => events(s, 'shout').length === 1 && events(s, 'shout-2').length === 1 && (s === b || events(s, 'whisper').length === 1), { what: 'the namespace' });
    assert.deepEqual(events(b, 'whisper'), []);
    const no = await ask(d, 'chat', 1);
    assert.equal(no.code, 'not_member');
    const never = await ask(d, 'never', 1);
    assert.equal(never.code, 'forbidden');
    const nonsense = await ask(d, 'nonsense');
    assert.equal(nonsense.code, 'unknown_type');
    sockets.close();
  });

  it('backend: the answer is the ack, whatever it is', async () => {
    for (const s of [await sockets.connected(io4, 0), await sockets.connected(io2, 1), await sockets.connected(io4, 1, '/', { transports: ['polling'] })]) {
      assert.deepEqual(await all(s, 'buy-many', 'a', 2), [1, null, { $args: ['a', 2] }]);
      assert.deepEqual(await all(s, 'buy-bytes'), [Buffer.from([1, 2, 3]), { in: [Buffer.from([255])] }, 'x']);
      assert.deepEqual(await all(s, 'buy-one', { x: 1 }), [{ x: 1 }]);
      assert.deepEqual(await all(s, 'buy-null'), [null]);
      assert.deepEqual(await all(s, 'buy-list'), [[1, 2]]);
      const [nothing] = await all(s, 'buy-nothing');
      assert.deepEqual(nothing, { type: 'ack' });
      assert.deepEqual(await all(s, 'buy-none'), []);
      const [not] = await all(s, 'buy-not');
      assert.deepEqual([not.type, not.code, not.message], ['error', 'refused', 'sold out']);
      assert.deepEqual(await all(s, 'buy-echo', bytes(4), 1), [bytes(4), 1]);
      assert.deepEqual(await all(s, 'buy-echo', bytes(4)), [{ binary: bytes(4).toString('base64') }]);
    }
    sockets.close();
  });

  it('a rule of one namespace, names of events, errors of those without an ack', async () => {
    const room = unique(), a = await sockets.connected(io4, 0, '/game'), b = await sockets.connected(io2, 1, '/game'), root = await sockets.connected(io4, 2);
    for (const s of [a, b, root]) await ask(s, 'enter', room);
    assert.equal((await ask(root, 'move', 1)).code, 'unknown_type');
    a.emit('move', 1, bytes(2));
    await until(() => events(b, 'move').length, { what: 'the move' });
    assert.deepEqual([events(b, 'move'), events(a, 'move'), events(root, 'move')], [[[1, bytes(2)]], [], []]);
    const name = n => `chat${'x'.repeat(n - 4)}`;
    assert.equal((await ask(a, name(128), 1)).type, 'ack');
    for (const bad of [name(129), name(200), 'chat\n', '']) assert.equal((await ask(a, bad, 1)).code, 'invalid_name');
    a.emit(name(200), 1);
    await until(() => events(a, '$error').some(([e]) => e.code === 'invalid_name'), { what: '$error' });
    await until(() => events(b, name(128)).length, { what: 'the longest name' });
    sockets.close();
  });

  it('short forms of the room verbs', async () => {
    const room = unique(), a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1);
    for (const s of [a, b]) assert.equal((await ask(s, 'join', room)).room, room);
    assert.match((await ask(a, 'publish', room, 'said', 1, { x: bytes(3) })).position, /^1\./);
    assert.equal((await ask(a, 'presence', room)).total, 2);
    const before = a.heard.length, h = await ask(a, 'history', room);
    assert.deepEqual([h.type, a.heard.slice(before).map(e => [e[0], e[1].event, e[1].data.$args[0]])], ['ack', [['$history', 'said', 1]]]);
    b.emit('broadcast', 'news', 1, 2);
    await until(() => events(a, 'news').length, { what: 'the broadcast' });
    assert.deepEqual([events(a, 'news'), events(b, 'said')], [[[1, 2]], [[1, { x: bytes(3) }]]]);
    assert.equal((await ask(a, 'leave', room)).type, 'ack');
    assert.equal((await ask(b, 'presence', room)).total, 1);
    sockets.close();
  });

  it('a payload at the limit passes, one byte more ends the connection', async () => {
    const room = unique(), text = n => 'x'.repeat(n - '421["chat",""]'.length);
    const fate = async (io, transport, value) => {
      const s = await sockets.connected(io, 0, '/', { transports: [transport] });
      await ask(s, 'enter', room);
      return Promise.race([ask(s, 'chat', value).then(r => r.type), until(() => s.ends.length, { what: 'the end' }).then(() => 'end')]);
    };
    const want = [[io4, 'websocket', text(LIMIT), 'ack'], [io4, 'websocket', text(LIMIT + 1), 'end'], [io4, 'polling', text(LIMIT), 'ack'], [io4, 'polling', text(LIMIT + 1), 'end'], [io4, 'websocket', bytes(LIMIT), 'ack'], [io4, 'websocket', bytes(LIMIT + 1), 'end'],
      [io2, 'websocket', text(LIMIT), 'ack'], [io2, 'websocket', text(LIMIT + 1), 'end'], [io2, 'polling', text(LIMIT - '65530:'.length), 'ack'], [io2, 'polling', text(LIMIT - 5), 'end'], [io4, 'polling', bytes(LIMIT), 'end'], [io4, 'polling', bytes(LIMIT / 4 * 3 - 60), 'ack']];
    assert.deepEqual(await Promise.all(want.map(([io, transport, value]) => fate(io, transport, value))), want.map(w => w[3]));
    sockets.close();
  });

  it('sixteen namespaces, by pattern, with names of 100 bytes', async () => {
    const s = await sockets.connected(io4, 0), said = n => within(new Promise(yes => { n.once('connect', () => yes('connect')); n.once('connect_error', e => yes(e.data?.code ?? e.message)); }), PATIENCE_MS, 'an answer');
    const names = [...Array.from({ length: 17 }, (_, i) => `/dyn-${i}`), '/other', '/dyn'];
    assert.deepEqual(await Promise.all(names.map(n => said(s.io.socket(n)))), [...Array(15).fill('connect'), 'limit_exceeded', 'limit_exceeded', 'Invalid namespace', 'Invalid namespace']);
    const long = n => `/dyn-${'x'.repeat(n - 5)}`;
    assert.deepEqual(await Promise.all([100, 101, 5000].map(n => said(sockets.connect(io4, 1, long(n))))), ['connect', 'Invalid namespace', 'Invalid namespace']);
    const old = sockets.connect(io2, 1, long(101));
    assert.equal(await within(new Promise(yes => { old.on('error', yes); }), PATIENCE_MS, 'the error'), 'Invalid namespace');
    sockets.close();
  });

  it('acks of fifty clients on three nodes, some of whom never answer, or go meanwhile; who is left out is at another node', async () => {
    const nsp = `/dyn-${unique()}`, id = s => s.id, silent = i => i % 10 === 8;
    const list = await Promise.all(Array.from({ length: 50 }, (_, i) => sockets.connected(i % 5 === 4 ? io2 : io4, i % 3, nsp, i % 7 === 3 ? { transports: ['polling'] } : {})));
    const ids = list.filter((s, i) => silent(i)).map(id);
    list.forEach((s, i) => s.on('q', (x, done) => { if (i === 18) s.close(); else if (!silent(i)) done(i, x); }));
    const r = await call(1, 'POST', '/emit', { namespace: nsp, event: 'q', data: { a: 1 }, ack: true, timeout: 600, except: list.slice(0, 3).map(id) });
    assert.deepEqual([r.status, r.nodes, r.missing.sort(), r.complete], [200, 3, ids.sort(), true]);
    assert.deepEqual(r.acks.map(a => a.data.$args[0]).sort((a, b) => a - b), list.map((_, i) => i).filter(i => i > 2 && !silent(i)));
    sockets.close();
  });

  it('fetchSockets right after a join; disconnectSockets of one namespace leaves the others', async () => {
    const a = await sockets.connected(io4, 0), b = a.io.socket('/admin'), ends = [];
    await within(new Promise(yes => { b.once('connect', yes); }), PATIENCE_MS, '/admin');
    b.on('disconnect', why => ends.push(why));
    const c = await sockets.connected(io4, 1), room = unique();
    await ask(c, 'enter', room);
    assert.deepEqual((await call(2, 'GET', `/sessions?room=${room}`)).sessions.map(s => s.session), [c.id]);
    assert.deepEqual((await call(2, 'POST', '/sessions/join', { room, rooms: [`${room}-2`] })).done, 1);
    await call(2, 'POST', '/emit', { rooms: [`${room}-2`], event: 'here', data: 1 });
    await until(() => events(c, 'here').length === 1, { what: 'the emission' });
    const one = await call(2, 'GET', `/sessions/${b.id}`);
    assert.deepEqual([one.namespace, one.node.slice(0, 3), one.state], ['/admin', 'gw1', 'active']);
    assert.equal((await call(2, 'DELETE', `/sessions/${b.id}`)).status, 200);
    await until(() => ends.length === 1, { what: 'the end' });
    assert.deepEqual([ends, a.ends, (await ask(a, 'presence', room)).total], [['io server disconnect'], [], 1]);
    sockets.close();
  });

  it('volatile, for who polls: told while nothing waits for him, else dropped', async () => {
    const g = cluster.gateways[0], path = '/socket.io/?EIO=4&transport=polling', open = await g.get(path), { sid } = JSON.parse(open.text.slice(1)), at = `${path}&sid=${sid}`;
    await g.get(at, { method: 'POST', headers: { 'content-type': 'text/plain' }, body: '40' });
    const id = /"sid":"([^"]+)"/.exec((await g.get(at)).text)[1], emit = (event, v) => call(1, 'POST', '/emit', { rooms: [id], event, data: 1, volatile: v });
    await emit('first', true);
    await emit('second', true);
    await emit('third', false);
    await emit('fourth', true);
    await until(async () => (await g.metrics()).sum('xindao_drops_total', { reason: 'volatile' }) >= 2, { what: 'the drops' });
    assert.equal((await g.get(at)).text, '42["first",1]\x1e42["third",1]');
    sockets.close();
  });
});
