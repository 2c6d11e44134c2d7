// api.test.mjs: the server API from any node for sessions of any node, over real sockets: keys, publishing, commands, a node that dies, pipelining, a port of its own
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import { Cluster, request } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { freePort, until } from './lib/wait.mjs';

const ADMIN = 'xdk_integration_admin_0123456789abcdef', CHAT = 'xdk_integration_chat_0123456789abcdef';
const sha256 = key => createHash('sha256').update(key).digest('hex');
const writeKeys = (file, ...keys) => writeFileSync(file, JSON.stringify({ keys }));
const admin = { name: 'admin', sha256: sha256(ADMIN), scopes: ['admin'], rate: 0 };
const chat = { name: 'chat', sha256: sha256(CHAT), scopes: ['publish'], rooms: ['chat.*'] };

describe('the server API', { timeout: 120000 }, () => {
  let cluster, a, b, file, apiPort;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    file = join(cluster.dir, 'keys.json');
    writeKeys(file, admin, chat);
    apiPort = await freePort();
    const flags = ['--api-keys', file, '--resume-window', '30s', '--policy', 'staff.* join=nobody', '--policy', '*', '--lease', '2s', '--redis-timeout', '1s'];
    [a, b] = await Promise.all([cluster.add('gw1', { flags }), cluster.add('gw2', { flags: [...flags, '--api-listen', `127.0.0.1:${apiPort}`] })]);
  });
  after(() => cluster.stop());

  /** One request; b has a port of its own for the API. */
  async function api(g, method, path, { key = ADMIN, body, status = 200, headers = {} } = {}) {
    const r = await request(g === b ? apiPort : g.port, `/api/v1${path}`,
      { method, ca: cluster.ca, headers: { ...(key && { Authorization: `Bearer ${key}` }), ...headers }, body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body) });
    assert.equal(r.status, status, `${method} ${path}: ${r.status} ${r.text}`);
    assert.match(r.headers['x-request-id'], /^[!-~]{1,64}$/);
    return { ...r.json, headers: r.headers };
  }

  it('publishes to clients of every node', async () => {
    const room = `chat.${unique()}`, clients = [await a.client('alice'), await b.client('bob')];
    for (const c of clients) await c.join(room);
    const one = await api(a, 'POST', '/publish', { key: CHAT, body: { room, event: 'news', data: { text: '你好' }, key: 'k1' } });
    const again = await api(b, 'POST', '/publish', { key: CHAT, body: { room, data: 'other', key: 'k1' } });
    assert.equal(again.position, one.position);
    assert.equal(again.repeated, true);
    for (const c of clients) {
      const m = await c.next('message');
      assert.deepEqual([m.position, m.event, m.from, m.data], [one.position, 'news', null, { text: '你好' }]);
    }
    const { results } = await api(b, 'POST', '/publish/batch', { body: { messages: [{ room, data: 2 }, { room: '$all', data: 0 }, { room, data: 3 }] } });
    assert.deepEqual(results.map(x => x.code), [undefined, 'invalid_name', undefined]);
    for (const c of clients) for (const data of [2, 3]) assert.equal((await c.next('message')).data, data);
    await api(a, 'POST', '/send', { body: { to: { user: 'bob' }, data: 'to bob' } });
    await api(a, 'POST', '/send', { body: { to: { session: clients[1].session }, data: 'to his session' } });
    await api(a, 'POST', '/broadcast', { body: { data: 'to all' } });
    for (const data of ['to bob', 'to his session', 'to all']) assert.equal((await clients[1].next('message')).data, data);
    assert.equal((await clients[0].next('message')).data, 'to all');
    for (const c of clients) await c.close();
  });

  it('lets in nobody without a good key, and no key further than it goes', async () => {
    const before = await a.metrics(), room = unique();
    for (const key of [null, 'xdk_', `${ADMIN}x`, ADMIN.slice(0, -1), ADMIN.toUpperCase()]) {
      const r = await api(a, 'POST', '/publish', { key, body: { room, data: 1 }, status: 401 });
      assert.deepEqual([r.code, r.message], ['unauthorized', 'an API key is needed']);
    }
    assert.equal((await a.metrics()).sum('xindao_api_refused_total') - before.sum('xindao_api_refused_total'), 5);
    assert.equal((await api(a, 'POST', '/publish', { key: CHAT, body: { room, data: 1 }, status: 403 })).code, 'forbidden');
    assert.equal((await api(a, 'DELETE', '/sessions/abc', { key: CHAT, status: 403 })).code, 'forbidden');
    // Where clients are, b has no server API, and where the API is, no WebSocket.
    assert.equal((await b.get('/api/v1/broadcast', { method: 'POST', headers: { Authorization: `Bearer ${ADMIN}` }, body: '{"data":1}' })).status, 404);
    const upgrade = await request(apiPort, '/ws', { ca: cluster.ca, headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==' } });
    assert.equal(upgrade.status, 404);
    for (const g of [a, b]) assert.ok(!g.log.includes('integration_admin'), 'a key is in the log');
  });

  it('reads its keys again', async () => {
    const fresh = 'xdk_integration_fresh_0123456789abcdef';
    await api(a, 'POST', '/broadcast', { key: fresh, body: { data: 1 }, status: 401 });
    writeKeys(file, admin, chat, { name: 'fresh', sha256: sha256(fresh), scopes: ['publish'] });
    const before = await a.metrics();
    a.process.signal('SIGHUP');
    await a.counted(before, 'xindao_reloads_total');
    await api(a, 'POST', '/broadcast', { key: fresh, body: { data: 1 } });
  });

  it('puts sessions of another node into rooms, takes them out, and disconnects them', async () => {
    const room = `staff.${unique()}`, alice = await a.client('alice'), path = `/sessions/${alice.session}`;
    await assert.rejects(alice.join(room), { code: 'forbidden' });
    await api(b, 'PUT', `${path}/rooms/${room}`);
    assert.equal((await alice.next('joined')).room, room);
    await api(b, 'PUT', `${path}/rooms/${room}`);
    assert.equal((await api(a, 'GET', `/rooms/${room}`)).total, 1);
    await api(b, 'DELETE', `${path}/rooms/${room}?reason=shift%20over`);
    assert.deepEqual((await alice.next('left')).reason, 'shift over');
    assert.equal((await api(b, 'DELETE', `${path}/rooms/${room}`, { status: 403 })).code, 'not_member');
    assert.equal((await api(a, 'GET', `/rooms/${room}`)).total, 0);
    await api(b, 'DELETE', `${path}?reason=spam&code=4123&reconnect_after=5000`);
    assert.equal((await alice.next('goodbye')).reconnect_after, 5000);
    assert.deepEqual(await alice.closed, { code: 4123, reason: 'spam' });
    assert.deepEqual(await cluster.redis.keys(`xd:session:{${alice.session}}*`), []);
    await api(b, 'DELETE', path, { status: 404 });
  });

  it('shows sessions, users and nodes of the whole cluster, and sweeps them', async () => {
    const room = unique(), user = unique(), one = await a.client(user), two = await b.client(user);
    for (const c of [one, two]) { await c.join(room); await c.call({ type: 'publish', room, data: 1 }); }
    const path = `/sessions/${one.session}`;
    assert.deepEqual((await api(b, 'PATCH', path, { body: { attributes: { level: 3, gone: 1 } } })).attributes, { level: 3, gone: 1 });
    assert.deepEqual((await api(a, 'PATCH', path, { body: { attributes: { gone: null } } })).attributes, { level: 3 });
    const shown = await api(b, 'GET', path);
    assert.deepEqual([shown.user, shown.state, shown.ip, shown.attributes, shown.rooms.map(x => x.room)], [user, 'active', '127.0.0.1', { level: 3 }, [room]]);
    for (const filter of [`user=${user}`, `room=${room}`]) {
      const { sessions, next } = await api(a, 'GET', `/sessions?${filter}`);
      assert.deepEqual(sessions.map(x => x.session).sort(), [one.session, two.session].sort());
      assert.equal(next, null);
    }
    assert.ok((await api(b, 'GET', `/sessions?node=${shown.node}&limit=1000`)).sessions.some(x => x.session === one.session));
    assert.equal((await api(a, 'GET', `/users/${user}`)).state, 'online');
    const { nodes } = await api(a, 'GET', '/nodes');
    assert.deepEqual(nodes.filter(n => n.alive).map(n => n.node.replace(/-.*/, '')).sort(), ['gw1', 'gw2']);
    assert.equal((await api(a, 'GET', '/stats')).nodes, 2);
    const trace = (g, offset, c) => api(g, 'GET', `/rooms/${room}/messages/${offset}/trace?session=${c.session}`);
    const traced = await until(async () => { const t = await trace(b, 2, one); return t.result === 'sent' && t; }, { what: 'the message to be sent' });
    assert.deepEqual([traced.offset, traced.node, traced.position.startsWith('2.')], [2, shown.node, true]);
    assert.equal((await trace(a, 1, two)).result, 'joined_later');
    assert.equal((await trace(a, 3, two)).result, 'no_message');
    assert.equal((await api(a, 'DELETE', `/rooms/${room}?reason=over`)).removed, 2);
    for (const c of [one, two]) assert.equal((await c.next('left')).reason, 'over');
    assert.equal(await cluster.redis.cli('EXISTS', `xd:{${room}}:log`, `xd:{${room}}:members`), '0');
    assert.equal((await api(a, 'DELETE', `/users/${user}`)).disconnected, 2);
    for (const c of [one, two]) assert.equal((await c.closed).code, 4003);
    assert.equal((await api(b, 'GET', `/users/${user}`)).state, 'offline');
  });

  it('does the same with a session that is parked', async () => {
    const [lobby, room] = [unique(), `staff.${unique()}`], alice = await a.client('alice'), bob = await b.client('bob'), path = `/sessions/${alice.session}`;
    await alice.join(lobby);
    await bob.join(lobby);
    alice.ws.terminate();
    await bob.next('suspend');
    await until(async () => (await cluster.redis.hash(`xd:session:{${alice.session}}`)).state === 'parked', { what: 'the session to be parked' });
    await api(b, 'PUT', `${path}/rooms/${room}`);
    const { members } = await api(b, 'GET', `/rooms/${room}`);
    assert.deepEqual(members.map(m => [m.session, m.user, m.state]), [[alice.session, 'alice', 'suspended']]);
    const back = await b.client('alice', { welcome: false });
    await back.next('welcome');
    back.ws.send(JSON.stringify({ type: 'resume', session: alice.session, token: alice.welcome.token }));
    await back.next(f => f.type === 'welcome' && f.resumed);
    const recovered = [await back.next('recovered'), await back.next('recovered')].map(x => x.room);
    assert.deepEqual(recovered.sort(), [lobby, room].sort());
    back.ws.terminate();
    await bob.next('suspend');
    await until(async () => (await cluster.redis.hash(`xd:session:{${alice.session}}`)).state === 'parked', { what: 'the session to be parked again' });
    await api(a, 'DELETE', path);
    assert.equal((await bob.next('exit')).reason, 'kicked');
    assert.deepEqual(await cluster.redis.keys(`xd:session:{${alice.session}}*`), []);
    await bob.close();
  });

  it('answers pipelined requests in order, and goes on after one that is bad', async () => {
    const room = unique(), bodies = [{ room, data: 1 }, { room }, { room, data: 2 }, { room, data: 3 }].map(x => JSON.stringify(x));
    const head = body => `POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${ADMIN}\r\nX-Request-Id: r${body.length}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const socket = tls.connect({ port: a.port, host: '127.0.0.1', ca: cluster.ca, servername: 'localhost' });
    let text = '';
    socket.on('data', d => { text += d; });
    socket.write(bodies.map(head).join(''));
    await until(() => text.split('HTTP/1.1 ').length === 5 && text.endsWith('}'), { what: () => `four answers in ${text}` });
    socket.destroy();
    assert.deepEqual(text.match(/HTTP\/1\.1 \d+/g).map(x => x.slice(9)), ['200', '400', '200', '200']);
    const { messages } = await api(a, 'GET', `/rooms/${room}/history`);
    assert.deepEqual(messages.map(m => m.data), [1, 2, 3]);
  });

  it('takes larger bodies of those who have a key, and of nobody else', async () => {
    const room = unique(), messages = Array.from({ length: 3 }, () => ({ room, data: 'x'.repeat(40000) }));
    const { results } = await api(b, 'POST', '/publish/batch', { body: { messages } });
    assert.deepEqual(results.map(r => r.position?.split('.')[0] ?? r.code), ['1', '2', '3']);
    for (const key of [undefined, `${ADMIN}x`]) {
      const r = await request(a.port, '/api/v1/publish/batch', { method: 'POST', ca: cluster.ca, headers: key ? { Authorization: `Bearer ${key}` } : {}, body: JSON.stringify({ messages }) });
      assert.equal(r.status, 413, r.text);
      assert.match(r.json.message, /larger than 65536 bytes/);
    }
  });

  it('says that a session cannot be reached when its node has just died, and does not hang', async () => {
    const alice = await a.client('alice'), path = `/sessions/${alice.session}`;
    await a.kill();
    const began = Date.now();
    const r = await request(apiPort, `/api/v1${path}`, { method: 'DELETE', ca: cluster.ca, headers: { Authorization: `Bearer ${ADMIN}` } });
    // By the time the patience is over the lease may be, too, and the survivor have parked the session: then it was ended.
    assert.ok([200, 503].includes(r.status), `${r.status} ${r.text}`);
    if (r.status === 503) assert.equal(r.headers['retry-after'], '1');
    assert.ok(Date.now() - began < 30000);
    await until(async () => (await request(apiPort, `/api/v1${path}`, { method: 'DELETE', ca: cluster.ca, headers: { Authorization: `Bearer ${ADMIN}` } })).status === 404, { what: 'the session to be gone' });
    a.boot();
    await a.ready();
  });
});
