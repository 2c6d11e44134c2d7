// backend-sync.test.mjs: what waits for the backend: who may come in, what may be said, and calls
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Process, ROOT } from './lib/cluster.mjs';
import { Backend, KEY } from './lib/backend.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, io2, io4 } from './lib/sockets.mjs';
import { freePort, sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--socketio-namespace', '/*', '--auth', 'backend', '--backend-timeout', '600ms', '--policy', 'mod* publish=backend events=message', '--policy', 'vip* join=token', '--resume-window', '30s'];

describe('the backend decides', { timeout: 120000 }, () => {
  let cluster, backend, g, connects;
  const open = (token, more = {}) => g.client(undefined, { path: `/ws?token=${token}`, ...more });
  before(async () => {
    connects = [];
    cluster = await Cluster.start({ gateways: 0 });
    backend = await Backend.start(cluster.dir, { tls: cluster });
    g = await cluster.add('gw', { flags: [...FLAGS, ...backend.flags] });
  });
  after(async () => { await cluster.stop(); await backend.stop(); });
  const answers = more => {
    backend.answer = e => {
      if (!e.sync) return undefined;
      if (e.type === 'connect' && !more.connect) { connects.push(e); return { json: { user: e.token } }; }
      return more[e.type]?.(e);
    };
  };

  it('it names the user, puts him into rooms, and says where he may go', async () => {
    answers({ connect: e => { connects.push(e); return { json: { user: `user-${e.token}`, rooms: ['hall'], join: ['vip.*'], attributes: { level: 3 }, expires: 32503680000 } }; } });
    const c = await g.client(undefined, { path: '/ws/me?token=T1&lang=zh', headers: { 'User-Agent': 'test/1' } });
    assert.deepEqual([c.welcome.user, c.welcome.expires], ['user-T1', 32503680000]);
    assert.equal((await c.next('joined')).room, 'hall');
    await c.join('vip.1');
    assert.equal((await c.refused({ type: 'join', room: 'vipx' })).code, 'forbidden');
    const { id, time, node, ...asked } = connects.at(-1);
    assert.deepEqual(asked, { type: 'connect', sync: true, name: 'me', token: 'T1', query: 'token=T1&lang=zh', ip: '127.0.0.1', agent: 'test/1', protocol: 'native' });
    assert.ok(id && node && Math.abs(time - Date.now()) < 60000);
    assert.equal((await cluster.redis.hash(`xd:session:{${c.session}}`)).attributes, '{"level":3}');
    await c.close();
    await until(() => backend.of(c.session).length === 2, { what: 'connect and disconnect' });
    assert.deepEqual(backend.of(c.session)[0].attributes, { level: 3 });
    const bearer = await g.client(undefined, { path: '/ws', headers: { Authorization: 'Bearer T2' } });
    assert.equal(bearer.welcome.user, 'user-T2');
    await bearer.close();
  });

  it('it is asked about every namespace of Socket.IO clients, and they hear why not', async () => {
    const sockets = new Sockets(cluster), asked = [];
    answers({ connect: e => { asked.push(e); return e.namespace === '/' ? { json: { user: `user-${e.token}`, rooms: ['hall'] } } : e.data?.n === 5 ? { status: 500 } : { status: 403, json: { reason: 'not here' } }; } });
    const s = await sockets.connected(io4, 0, '/', { auth: { token: 'T4', more: { a: 1 } } });
    assert.equal((await cluster.redis.hash(`xd:session:{${s.id}}`)).user, 'user-T4');
    const admin = s.io.socket('/admin', { auth: {} });
    const why = await within(new Promise(yes => { admin.once('connect_error', yes); }), PATIENCE_MS, 'a refusal');
    assert.deepEqual([why.message, why.data.code], ['not here', 'refused']);
    assert.deepEqual(asked.map(e => [e.namespace, e.token, e.data, e.protocol]), [['/', 'T4', { token: 'T4', more: { a: 1 } }, 'socketio.v5'], ['/admin', undefined, {}, 'socketio.v5']]);
    const old = await sockets.connected(io2, 0, '/', { query: { token: 'T2' } });
    assert.deepEqual([asked.at(-1).token, asked.at(-1).protocol, old.connected], ['T2', 'socketio.v4', true]);
    s.io.socket('/broken', { auth: { n: 5 } });
    await until(() => s.ends.length === 1, { what: 'the connection to be closed: it may be tried again' });
    assert.equal(s.ends[0], 'transport close');
    sockets.close();
  });

  it('nobody in particular, and no answer at all to speak of', async () => {
    answers({ connect: () => ({ status: 204 }) });
    const c = await open('x');
    assert.equal(c.welcome.user, null);
    await c.close();
  });

  it('it refuses, with a reason that the client sees', async () => {
    answers({ connect: e => (e.token === 'a' ? { json: { allow: false, reason: 'not today, 朋友' } } : { status: 403, json: { reason: 'no' } }) });
    for (const [token, message] of [['a', 'not today, 朋友'], ['b', 'no']]) {
      const c = await open(token, { welcome: false });
      const e = await c.next('error');
      assert.deepEqual([e.code, e.message, e.retry], ['refused', message, undefined]);
      assert.equal((await c.closed).code, 4003);
    }
  });

  it('an answer that makes no sense lets nobody in', async () => {
    for (const answer of [{ json: { user: 7 } }, { text: '{"user":' }, { json: { user: 'x', rooms: 'hall' } }, { json: { user: 'x', rooms: ['$all'] } }, { json: [] }, { json: { allow: 'yes' } }, { status: 404 }, { status: 500 },
      { json: { user: 'a'.repeat(129) } }]) {
      answers({ connect: () => answer });
      const c = await open('x', { welcome: false });
      const e = await c.next('error');
      assert.deepEqual([e.code, e.retry], ['backend_unavailable', true], JSON.stringify(answer));
      const bye = await c.next('goodbye');
      assert.ok(bye.reason === 'backend_unavailable' && bye.reconnect_after >= 500);
      await c.closed;
    }
  });

  it('messages: allowed, refused, changed; in the order of the client', async () => {
    answers({
      publish: async e => {
        await sleep(e.data.wait ?? 0);
        if (e.data.bad) return { json: { allow: false, reason: 'bad word' } };
        return e.data.change ? { json: { data: { changed: true }, event: 'edited' } } : undefined;
      },
    });
    const a = await open('a'), b = await open('b'), room = unique('mod');
    await a.join(room); await b.join(room); await a.next('enter');
    const acks = [{ n: 1, wait: 200 }, { n: 2 }, { bad: true }, { change: true }, { n: 3 }].map(data => a.publish(room, data, { event: 'say' }).catch(e => e.frame));
    const [one, , bad] = await Promise.all(acks);
    assert.ok(one.position.startsWith('1.'));
    assert.deepEqual([bad.code, bad.message, bad.retry, bad.room], ['refused', 'bad word', undefined, room]);
    const seen = [];
    for (let i = 0; i < 4; i++) seen.push(await b.message(room));
    assert.deepEqual(seen.map(m => [m.event, m.data]), [['say', { n: 1, wait: 200 }], ['say', { n: 2 }], ['edited', { changed: true }], ['say', { n: 3 }]]);
    const outside = await open('c');
    assert.equal((await outside.refused({ type: 'publish', room, data: 1 })).code, 'not_member');
    await until(() => backend.of(a.session).filter(e => e.type === 'message').length === 4, { what: 'the events' });
    assert.deepEqual(backend.of(a.session).filter(e => e.type === 'message').map(e => e.data.changed ?? e.data.n), [1, 2, true, 3]);
    for (const c of [a, b, outside]) await c.close();
  });

  it('calls are answered with data, or a reason', async () => {
    answers({ call: e => (e.event === 'add' ? { json: { data: e.data[0] + e.data[1] } } : e.event === 'nothing' ? undefined : { json: { allow: false, reason: `no ${e.event}` } }) });
    const c = await open('a');
    const ack = await c.call({ type: 'call', event: 'add', data: [1, 2] });
    assert.deepEqual([ack.type, ack.data], ['ack', 3]);
    assert.equal((await c.call({ type: 'call', event: 'nothing' })).data, undefined);
    const no = await c.refused({ type: 'call', event: 'sub', data: [1, 2] });
    assert.deepEqual([no.code, no.message], ['refused', 'no sub']);
    assert.equal((await c.refused({ type: 'call', data: 1 })).code, 'bad_request');
    await c.close();
  });

  it('slow: an error in time; away: at once, with a hint; then all is well again', async () => {
    answers({ publish: () => sleep(900), call: () => sleep(900) });
    const c = await open('a'), room = unique('mod');
    await c.join(room);
    const before = Date.now();
    const [publish, call] = await Promise.all([c.refused({ type: 'publish', room, data: 1 }), c.refused({ type: 'call', event: 'x' })]);
    assert.ok(Date.now() - before < 5000);
    for (const e of [publish, call]) assert.ok(e.code === 'backend_timeout' && e.retry === true && e.retry_after > 0, JSON.stringify(e));
    await backend.down();
    let hint;
    for (let i = 0; i < 8; i++) {
      const e = await c.refused({ type: 'call', event: 'x' });
      assert.deepEqual([e.code, e.retry], ['backend_unavailable', true]);
      hint = e.retry_after;
    }
    assert.ok(hint > 0 && hint <= 6000, `${hint}`);
    const late = await open('b', { welcome: false });
    assert.equal((await late.next('error')).code, 'backend_unavailable');
    await late.closed;
    assert.equal(c.end, undefined, 'who is in stays in');
    answers({});
    await backend.up();
    await until(async () => { try { await c.call({ type: 'call', event: 'x' }); return true; } catch { return false; } }, { what: 'the backend to be asked again' });
    await c.publish(room, 2);
    await c.close();
  });

  it('a session is resumed after its user was asked for again', async () => {
    answers({});
    const c = await open('a'), room = unique('room');
    await c.join(room);
    await c.drop();
    const back = await open('a', { path: '/ws?token=a&resume' });
    back.send({ type: 'resume', session: c.session, token: c.welcome.token });
    const welcome = await back.next(f => f.type === 'welcome' && f.session === c.session);
    assert.equal(welcome.resumed, true);
    const thief = await open('b', { path: '/ws?token=b&resume' });
    assert.equal((await thief.refused({ type: 'resume', session: c.session, token: c.welcome.token })).code, 'unauthorized');
    await back.close(); await thief.close();
  });
});

it('the moderated chat of docs/examples', { timeout: 60000 }, async () => {
  const cluster = await Cluster.start({ gateways: 0 });
  const key = join(cluster.dir, 'chat.key'), port = await freePort();
  writeFileSync(key, `${KEY}\n`);
  const chat = new Process('chat', process.execPath, [join(ROOT, 'docs/examples/moderated-chat.mjs')], { env: { KEY_FILE: key, PORT: String(port) } });
  try {
    await until(() => chat.log.includes('ready'), { what: 'the example' });
    const g = await cluster.add('gw', { flags: ['--auth', 'backend', '--backend-url', `http://127.0.0.1:${port}/`, '--backend-secret-file', key, '--policy', 'chat.* publish=backend events=join,leave'] });
    const stranger = await g.client(undefined, { path: '/ws', welcome: false });
    assert.equal((await stranger.next('error')).message, 'log in first');
    const alice = await g.client(undefined, { path: '/ws?token=token-of-alice' }), bob = await g.client(undefined, { path: '/ws?token=token-of-bob' });
    for (const c of [alice, bob]) await c.next('joined');
    await alice.publish('chat.lobby', { text: '  hello ' });
    assert.deepEqual((await bob.message('chat.lobby')).data, { text: 'hello' });
    assert.equal((await alice.refused({ type: 'publish', room: 'chat.lobby', data: { text: 'what the HECK' } })).message, 'mind your language (1)');
    assert.deepEqual((await alice.call({ type: 'call', event: 'strikes' })).data, { strikes: 1 });
    await until(async () => (await alice.call({ type: 'call', event: 'present' })).data === 2, { what: 'both to be known as present' });
    await bob.close();
    await until(async () => (await alice.call({ type: 'call', event: 'present' })).data === 1, { what: 'Bob to have gone' });
    await alice.close();
  } finally { await cluster.stop(); await chat.kill(); }
});
