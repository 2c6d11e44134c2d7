// socketio.test.mjs: Socket.IO clients as npm has them, 2.x and 4.x, over WebSocket: namespaces, acks, binary, auth, and one room with native clients
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Key } from './lib/tokens.mjs';
import { Backend } from './lib/backend.mjs';
import { weapp } from './lib/wx.mjs';
import { Sockets, ask, events, io2, io4 } from './lib/sockets.mjs';
import { until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--socketio-namespace', '/admin*', '--socketio-path', '/socket.io/', '--socketio-path', '/applet/ws/socket.io',
  '--socketio-event', 'chat* do=relay', '--socketio-event', 'all do=relay to=namespace echo=off', '--socketio-event', '/admin,shut do=refuse', '--socketio-event', 'enter do=join'];

const refusal = s => within(new Promise(yes => { s.once('connect_error', yes); s.once('error', yes); }), PATIENCE_MS, 'a refusal');

describe('Socket.IO over WebSocket', { timeout: 120000 }, () => {
  let cluster, sockets;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: FLAGS }); sockets = new Sockets(cluster); });
  after(() => cluster.stop());

  for (const [io, name] of [[io4, '4.x'], [io2, '2.x']]) {
    it(`${name}: room verbs answer acks as the native protocol does`, async () => {
      const room = unique(), s = await sockets.connected(io, 0);
      assert.equal(typeof s.id, 'string');
      const joined = await ask(s, 'join', room);
      assert.deepEqual([joined.type, joined.room, joined.total, joined.id], ['ack', room, 1, undefined]);
      const published = await ask(s, 'publish', { room, event: 'greet', data: { text: '你好' } });
      assert.equal(published.type, 'ack');
      assert.ok(published.position.startsWith('1.'));
      await until(() => events(s, 'greet').length === 1, { what: 'the message' });
      assert.deepEqual(events(s, 'greet'), [[{ text: '你好' }]]);
      const presence = await ask(s, 'presence', { room });
      assert.equal(presence.members.length, 1);
      assert.equal(presence.members[0].session, s.id, 'socket.id names the session');
      const history = await ask(s, 'history', room);
      assert.deepEqual([history.type, history.more], ['ack', false]);
      assert.deepEqual(events(s, '$history').map(([m]) => [m.type, m.event, m.data]), [['message', 'greet', { text: '你好' }]]);
      const error = await ask(s, 'publish', { room: 'elsewhere', data: 1 });
      assert.deepEqual([error.type, error.code], ['error', 'not_member']);
      assert.equal((await ask(s, 'nonsense', 1)).code, 'unknown_type');
      assert.equal((await ask(s, 'resume', { session: 'x', token: 'y' })).code, 'unknown_type');
      s.emit('nonsense');
      await until(() => events(s, '$error').length === 1, { what: 'an error without an id' });
      assert.equal((await ask(s, 'leave', { room })).total, 0);
      sockets.close();
    });

    it(`${name}: namespaces are connected and left one by one`, async () => {
      const admin = await sockets.connected(io, 0, '/admin'), root = await sockets.connected(io, 1), refused = sockets.connect(io, 0, '/random');
      const why = await refusal(refused);
      assert.equal(why.message ?? why, 'Invalid namespace');
      const room = unique(), joined = await ask(admin, 'join', room);
      assert.equal(joined.room, `/admin,${room}`);
      const native = await cluster.client(1, 'nat');
      await native.join(`/admin,${room}`);
      await native.publish(`/admin,${room}`, [1, 2], { event: 'list' });
      await until(() => events(admin, 'list').length === 1, { what: 'what a native client says in the room of a namespace' });
      assert.deepEqual(events(admin, 'list'), [[[1, 2]]]);
      assert.equal((await ask(admin, 'shut')).code, 'forbidden');
      root.emit('all', 'to /'); admin.emit('all', 'to /admin');
      const second = await sockets.connected(io, 1, '/admin');
      second.emit('all', 'again');
      await until(() => events(admin, 'all').length === 1, { what: 'what is relayed to the namespace' });
      assert.deepEqual([events(admin, 'all'), events(root, 'all')], [[['again']], []], 'not to its sender, nor to another namespace');
      admin.close();
      await native.next(f => f.type === 'exit' && f.session !== native.session);
      await native.close(); sockets.close();
    });
  }

  it('a 4.x client, a 2.x client and a plain WebSocket in one room see the same messages in the same order, binary included', async () => {
    const room = unique(), a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await cluster.client(0, 'plain'), d = await sockets.connected(io4, 1);
    for (const s of [a, b, d]) await ask(s, 'enter', { room });
    await c.join(room);
    const N = 150, bytes = i => Buffer.from([i & 255, 0, 255, i >> 8]);
    for (let i = 0; i < N; i++) {
      a.emit('chat', { from: 'a', i }); b.emit('chat', { from: 'b', i }); d.emit('chat', bytes(i));
      c.send({ type: 'publish', room, event: 'chat', data: { from: 'c', i } });
      if (i % 10 === 0) c.binary({ type: 'publish', room, event: 'chat' }, bytes(1000 + i));
    }
    const total = 4 * N + N / 10;
    const plain = v => (Buffer.isBuffer(v) || v instanceof ArrayBuffer || ArrayBuffer.isView(v) ? `bytes ${Buffer.from(v).toString('hex')}` : JSON.stringify(v));
    await until(() => [a, b, d].every(s => events(s, 'chat').length >= total), { what: () => `${total} messages; ${[a, b, d].map(s => events(s, 'chat').length)}`, ms: 30000 });
    await c.settle();
    const seen = [a, b, d].map(s => events(s, 'chat').map(args => { assert.equal(args.length, 1); return plain(args[0]); }));
    const native = c.take('message').map(m => plain(m.binary ? m.bytes : m.data));
    assert.equal(native.length, total);
    for (const s of seen) assert.deepEqual(s, native);
    assert.equal(native.filter(x => x.startsWith('bytes')).length, N + N / 10);
    await c.close(); sockets.close();
  });

  it('several arguments and attachments survive the way, and are readable JSON for others', async () => {
    const room = unique(), a = await sockets.connected(io4, 0), b = await sockets.connected(io2, 1), c = await cluster.client(0);
    for (const s of [a, b]) await ask(s, 'join', room);
    await c.join(room);
    a.emit('chat', 1, 'two', null); a.emit('chat'); a.emit('chat', { deep: [Buffer.from('xyz')] }, Buffer.from([0, 1]));
    b.emit('chat', [3]); b.emit('chat', Buffer.from('2.x'), 'tail');
    await until(() => [a, b].every(s => events(s, 'chat').length === 5), { what: () => JSON.stringify([a.heard, b.heard]) });
    for (const s of [a, b]) {
      const all = events(s, 'chat').map(args => JSON.stringify(args, (k, v) => (v?.type === 'Buffer' ? Buffer.from(v.data).toString('hex') : v)));
      assert.deepEqual(all.sort(), ['[1,"two",null]', '[]', '[{"deep":["78797a"]},"0001"]', '[[3]]', '["322e78","tail"]'].sort());
    }
    const datas = [];
    for (let i = 0; i < 5; i++) datas.push((await c.message(room)).data);
    for (const want of [{ $args: [1, 'two', null] }, { $args: [] }, [3], { $args: [{ deep: [{ _placeholder: true, num: 0 }] }, { _placeholder: true, num: 1 }], $attachments: ['eHl6', 'AAE='] }])
      assert.ok(datas.some(d => JSON.stringify(d) === JSON.stringify(want)), `${JSON.stringify(want)} in ${JSON.stringify(datas)}`);
    // What would end the connection of whoever gets it does not get through.
    await c.publish(room, { $args: [{ _placeholder: true, num: 7 }], $attachments: ['AA=='] }, { event: 'chat' });
    await c.publish(room, 'spoof', { event: 'disconnect' });
    await c.publish(room, 'end', { event: 'end' });
    await until(() => [a, b].every(s => events(s, 'end').length === 1), { what: 'the last message' });
    assert.deepEqual([a, b].map(s => [s.connected, events(s, '$disconnect')]), [[true, [['spoof']]], [true, [['spoof']]]]);
    await c.close(); sockets.close();
  });

  it('private messages, broadcasts and who comes and goes reach Socket.IO clients', async () => {
    const room = unique(), a = await sockets.connected(io4, 0, '/', { auth: { user: 'ann' } }), b = await sockets.connected(io2, 1, '/', { query: { user: 'b%20n' } }), c = await cluster.client(0, 'cat');
    for (const s of [a, b]) await ask(s, 'join', room);
    await c.join(room);
    await until(() => events(a, '$enter').some(([e]) => e.user === 'cat'), { what: () => `cat entering; ${JSON.stringify(a.heard)}` });
    assert.ok(events(a, '$enter').some(([e]) => e.session === b.id && e.total === 2));
    await c.call({ type: 'send', to: { user: 'ann' }, event: 'psst', data: 1 });
    await c.call({ type: 'send', to: { session: b.id }, data: 2 });
    await c.call({ type: 'broadcast', event: 'all of you', data: 3 });
    await until(() => events(a, 'psst').length && events(b, 'message').length && [a, b].every(s => events(s, 'all of you').length), { what: () => JSON.stringify([a.heard, b.heard]) });
    const ben = b.id;
    b.close();
    await until(() => events(a, '$exit').some(([e]) => e.session === ben), { what: 'ben leaving' });
    await c.close(); sockets.close();
  });

  it('an operator sees them, and a custom path serves them', async () => {
    const s = await sockets.connected(io4, 0, '/', { path: '/applet/ws/socket.io' }), t = await sockets.connected(io2, 0, '/', { path: '/applet/ws/socket.io/' });
    assert.equal((await cluster.redis.hash(`xd:session:{${s.id}}`)).protocol, 'socketio.v5');
    assert.equal((await cluster.redis.hash(`xd:session:{${t.id}}`)).protocol, 'socketio.v4');
    const m = await cluster.gateways[0].metrics();
    assert.equal(m.sum('xindao_engines'), 2);
    const r = await cluster.gateways[0].get('/socket.io/?EIO=4&transport=tesla');
    assert.deepEqual([r.status, r.json], [400, { code: 0, message: 'Transport unknown' }]);
    sockets.close();
    await until(async () => (await cluster.gateways[0].metrics()).sum('xindao_engines') === 0, { what: 'the connections to go' });
    await until(async () => (await cluster.redis.keys('xd:session:*')).length === 0, { what: 'the sessions to go' });
  });
});

describe('Socket.IO and who may come in', { timeout: 120000 }, () => {
  let cluster, sockets, key;
  before(async () => {
    key = await Key.make('HS256');
    cluster = await Cluster.start({ redis: false });
    sockets = new Sockets(cluster);
    await cluster.add('jwt', { flags: ['--auth', 'jwt', '--jwt-key', key.file(cluster.dir), '--socketio-namespace', '/admin', '--jwt-leeway', '0s', '--policy', 'vip* join=token', '--policy', '*'] });
  });
  after(() => cluster.stop());

  it('4.x brings its token in auth, for each namespace', async () => {
    const token = await key.sign('ann', { xindao: { rooms: ['vip'], join: ['vip*'] } }), s = await sockets.connected(io4, 1, '/', { auth: { token } });
    await until(() => events(s, '$joined').length === 1, { what: 'the room of the token' });
    assert.equal((await ask(s, 'presence', 'vip')).members[0].user, 'ann');
    for (const [auth, why] of [[undefined, /needed/], [{ token: 'x' }, /not a token/], [{ token: await key.sign('ann', {}, { seconds: -60 }) }, /expired/], [{ token: 7 }, /must be a string/]]) {
      const e = await refusal(sockets.connect(io4, 1, '/admin', { auth }));
      assert.match(e.message, why);
      assert.equal(e.data.code, auth?.token === 7 ? 'bad_request' : 'unauthorized');
    }
    const admin = await sockets.connected(io4, 1, '/admin', { auth: { token } });
    assert.equal((await ask(admin, 'auth', { token: await key.sign('ann') })).type, 'ack');
    sockets.close();
  });

  it('2.x brings it in the query', async () => {
    const s = await sockets.connected(io2, 1, '/', { query: { token: await key.sign('ben') } });
    await ask(s, 'join', 'hall');
    assert.equal((await ask(s, 'presence', 'hall')).members[0].user, 'ben');
    assert.match(await refusal(sockets.connect(io2, 1)), /needed/);
    sockets.close();
  });

  it('a token that expires disconnects the namespace, and the client stays away', async () => {
    const s = await sockets.connected(io4, 1, '/', { auth: { token: await key.sign('cat', {}, { seconds: 4 }) }, reconnection: true });
    await until(() => s.ends.length === 1, { what: 'the end' });
    assert.deepEqual([s.ends, events(s, '$error').map(([e]) => e.code)], [['io server disconnect'], ['unauthorized']]);
    assert.deepEqual(events(s, '$expiring').map(([e]) => [e.type, e.in > 0]), [['expiring', true]]);
    sockets.close();
  });

  it('a client comes back by itself when its node goes', async () => {
    const gone = await cluster.add('gone', {}), s = await sockets.connected(io4, 2, '/', { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 }), first = s.id;
    await gone.stop();
    await until(() => s.ends.length === 1, { what: 'the end' });
    assert.deepEqual([s.ends, events(s, '$goodbye').map(([e]) => e.reason)], [['transport close'], ['draining']]);
    gone.boot();
    await until(() => s.connected, { what: 'the client to be back' });
    assert.notEqual(s.id, first);
    sockets.close();
  });

  it('events that are for the backend reach it, and their acks are its answers', async () => {
    const backend = await Backend.start(cluster.dir, { answer: e => (e.event === 'refuse me' ? { json: { allow: false, reason: 'not you' } } : { json: { data: { $args: [null, { got: e.data, for: e.event }] } } }) });
    await cluster.add('backed', { flags: [...backend.flags, '--socketio-event', '* do=backend'] });
    const s = await sockets.connected(io4, cluster.gateways.findIndex(g => g.name === 'backed'));
    const answer = await within(new Promise(yes => s.emit('buy', 'apple', 2, (...args) => yes(args))), PATIENCE_MS, 'the answer');
    assert.deepEqual(answer, [null, { got: { $args: ['apple', 2] }, for: 'buy' }]);
    const no = await ask(s, 'refuse me');
    assert.deepEqual([no.type, no.code, no.message], ['error', 'refused', 'not you']);
    sockets.close();
    await backend.down();
  });

  for (const name of ['weapp-2', 'weapp-3']) {
    it(`${name}: weapp.socket.io in a mini-program`, async () => {
      const room = unique(), s = weapp(name, cluster.ca)(`https://127.0.0.1:${cluster.gateways[0].port}`, { transports: ['websocket'], query: { user: 'mini' } }), heard = [], connected = new Promise(yes => { s.on('connect', yes); });
      const other = await cluster.client(0, 'other');
      sockets.open.push(s);
      s.on('say', (...args) => heard.push(args));
      await within(connected, PATIENCE_MS, 'the connect');
      await ask(s, 'join', room);
      await other.join(room);
      await other.publish(room, '你好', { event: 'say' });
      await other.callBinary({ type: 'publish', room, event: 'say' }, Buffer.from([1, 2, 3]));
      s.emit('publish', room, 'say', 'hi', 2);
      const got = await other.next(f => f.type === 'message' && f.data?.$args);
      assert.deepEqual([got.data.$args, got.from.user], [['hi', 2], 'mini']);
      await until(() => heard.length === 3, { what: () => JSON.stringify(heard) });
      assert.equal(JSON.stringify([heard[0], Buffer.from(heard[1][0]).toString('hex'), heard[2]]), JSON.stringify([['你好'], '010203', ['hi', 2]]));
      await other.close();
      sockets.close();
    });
  }

  it('a client for mini-programs that somebody wrote by hand: EIO=3, no parser, 2probe', async () => {
    const ws = new WebSocket(`${cluster.gateways[0].url}/socket.io/?EIO=3&transport=websocket&user=dig`, { ca: cluster.ca }), heard = [], opened = new Promise(yes => { ws.on('open', yes); });
    ws.on('message', data => heard.push(data.toString()));
    const other = await cluster.client(0, 'other');
    await within(opened, PATIENCE_MS, 'the socket');
    ws.send('2probe'); ws.send('5'); ws.send('42["join","game"]');
    await until(() => heard.includes('3probe') && heard.includes('40'), { what: () => `the probe; heard ${heard}` });
    await until(async () => { const { members } = await other.call({ type: 'presence', room: 'game' }); return members.length === 1 && members[0].user === 'dig'; }, { what: 'it to be in the room' });
    await other.join('game');
    await other.publish('game', { round: 1 }, { event: 'start' });
    await until(() => heard.includes('42["start",{"round":1}]'), { what: () => `the start; heard ${heard}` });
    ws.send('2');
    await until(() => heard.includes('3'), { what: 'the pong' });
    ws.close();
    await other.close();
  });
});
