// backend.test.mjs: what a backend is told over HTTP(S), also when it is away, slow or talks nonsense
import { after, before, describe, it } from 'node:test';
import { createHash, createHmac } from 'node:crypto';
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { Cluster } from './lib/cluster.mjs';
import { Backend, KEY } from './lib/backend.mjs';
import { problem } from '../../docs/examples/verify.mjs';
import { unique } from './lib/client.mjs';
import { sleep, until } from './lib/wait.mjs';

const OUTAGE_MS = Number(process.env.XINDAO_OUTAGE ?? 3) * 1000;
const FLAGS = ['--lease', '2s', '--redis-timeout', '1s', '--backend-timeout', '500ms', '--policy', 'chat* events=message,join,leave', '--policy', 'mod* publish=backend'];

describe('webhooks', { timeout: 180000 + 4 * OUTAGE_MS }, () => {
  let cluster, backend, flags;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    backend = await Backend.start(cluster.dir, { tls: cluster });
    flags = [...FLAGS, ...backend.flags];
    await Promise.all([cluster.add('gw1', { flags }), cluster.add('gw2', { flags })]);
    cluster.gateways.sort((a, b) => a.name.localeCompare(b.name));
  });
  after(async () => { await cluster.stop(); await backend.stop(); });

  const ended = session => until(() => backend.events.some(e => e.session === session && e.type === 'disconnect'), { what: `${session} to have disconnected`, ms: 30000 + 4 * OUTAGE_MS });

  it('a session\'s life arrives signed, over TLS, in order, as JSON', async () => {
    const room = unique('chat'), c = await cluster.client(0, 'alice');
    await c.join(room);
    const ack = await c.publish(room, { text: '你好', n: [1, 2.50] }, { event: 'say' });
    await c.callBinary({ type: 'publish', room }, Buffer.from([0, 255, 1]));
    await c.close();
    await ended(c.session);
    const seen = backend.of(c.session);
    assert.deepEqual(seen.map(e => e.type), ['connect', 'join', 'message', 'message', 'disconnect']);
    assert.deepEqual({ ...seen[2], id: 0, node: 0, time: 0 }, { id: 0, type: 'message', session: c.session, user: 'alice', node: 0, time: 0, room, event: 'say', data: { text: '你好', n: [1, 2.5] }, position: ack.position });
    assert.deepEqual([seen[3].data_type, Buffer.from(seen[3].data, 'base64')], ['binary', Buffer.from([0, 255, 1])]);
    assert.ok(seen.every(e => typeof e.time === 'number'));
    assert.deepEqual(backend.problems, []);
  });

  it('the verifier takes only what is signed with a known key, now, and unchanged', () => {
    const body = Buffer.from('{"a":1}'), time = '1700000000', now = 1700000000;
    const good = { 'xindao-timestamp': time, 'xindao-signature': 'v1=f05f2539e3ae1c49aec5f8cfdad75ef6b06480b133973ffbb7ec9e18827af177' };
    assert.equal(problem(good, body, ['0123456789abcdef0123456789abcdef'], { now }), undefined);
    assert.equal(problem(good, body, ['another', '0123456789abcdef0123456789abcdef'], { now }), undefined, 'while keys change');
    for (const [headers, text, keys, when] of [
      [good, '{"a":2}', ['0123456789abcdef0123456789abcdef'], now],
      [good, body, ['another key'], now],
      [good, body, ['0123456789abcdef0123456789abcdef'], now + 301],
      [good, body, ['0123456789abcdef0123456789abcdef'], now - 301],
      [{ ...good, 'xindao-timestamp': '1700000001' }, body, ['0123456789abcdef0123456789abcdef'], now],
      [{ ...good, 'xindao-signature': good['xindao-signature'].slice(0, -1) }, body, ['0123456789abcdef0123456789abcdef'], now],
      [{ ...good, 'xindao-signature': undefined }, body, ['0123456789abcdef0123456789abcdef'], now],
      [{ ...good, 'xindao-timestamp': undefined }, body, ['0123456789abcdef0123456789abcdef'], now],
    ]) assert.notEqual(problem(headers, text, keys, { now: when }), undefined);
    // Each differs from what is taken in one thing alone.
    const key = 'k'.repeat(32), hmac = (k, text) => createHmac('sha256', k).update(text).digest('hex'), right = hmac(key, `${time}.{"a":1}`);
    const judge = (signature, { at = time, text = body, keys = [key] } = {}) => problem({ 'xindao-timestamp': at, 'xindao-signature': signature }, text, keys, { now });
    assert.equal(judge(`v1=${right}`), undefined);
    assert.equal(judge(`v1=${'0'.repeat(64)},v1=${right}`), undefined);
    for (const signature of ['', 'v1=', 'none', right, `v0=${right}`, `V1=${right}`, `v1=${right.toUpperCase()}`, `v1=${right.slice(0, 62)}`, `v1=${right}00`, `v1=${right}\n`, ` v1=${right}`, `v1=${right} `, `v1= ${right}`, `v1=\uff11${right.slice(1)}`, `v1=${Buffer.from(right, 'hex').toString('base64')}`,
      `v1=${hmac(key, '{"a":1}')}`, `v1=${hmac(key, `${time}{"a":1}`)}`, `v1=${hmac(key, `${time}.`)}`, `v1=${createHash('sha256').update(`${key}${time}.{"a":1}`).digest('hex')}`, `v1=${createHash('sha256').update(`${time}.{"a":1}`).digest('hex')}`]) assert.equal(judge(signature), 'the signature is not ours', signature);
    for (const at of ['', '-1700000000', '+1700000000', '1.7e9', '0x6553f100', ' 1700000000', '1700000000 ', '1700000000\n', '\uff11700000000', '1700000000.0', '1700000000000', 'NaN', 'Infinity', '9'.repeat(13)]) assert.notEqual(judge(`v1=${hmac(key, `${at}.{"a":1}`)}`, { at }), undefined, at);
    assert.equal(judge(`v1=${hmac('', `${time}.{"a":1}`)}`, { keys: ['', key] }), 'the signature is not ours', 'the key of an empty line');
    assert.equal(judge(`v1=${right}`, { keys: [] }), 'the signature is not ours');
    assert.equal(judge(`v1=${right}`, { text: Buffer.from('{"a":1} ') }), 'the signature is not ours');
    assert.equal(judge(`v1=${right}`, { text: Buffer.from('\ufeff{"a":1}') }), 'the signature is not ours');
  });

  it('away for some seconds under load: nothing is lost, each session in order, memory bounded; then it catches up', async () => {
    const rooms = [unique('chat'), unique('chat')], clients = [];
    for (let i = 0; i < 8; i++) { const c = await cluster.client(i % 2, `load${i}`); await c.join(rooms[i % 2]); clients.push(c); }
    let going = true;
    const sent = clients.map(async (c, i) => {
      let n = 0;
      for (; going; n++) await c.publish(rooms[i % 2], n, { echo: false });
      return n;
    });
    await sleep(300);
    await backend.down();
    const told = (async () => { // who waits for the backend is told, each time, within its time
      const c = await cluster.client(0, 'asks'), room = unique('mod'), refusals = [], end = Date.now() + OUTAGE_MS - 600;
      await c.join(room);
      while (Date.now() < end) {
        const before = Date.now();
        for (const ask of [{ type: 'call', event: 'x' }, { type: 'publish', room, data: 1 }]) refusals.push({ ...await c.refused(ask), ms: Date.now() - before });
        await sleep(100);
      }
      await c.close();
      return refusals;
    })();
    await sleep(OUTAGE_MS);
    const refusals = await told;
    assert.ok(refusals.length > 10 && refusals.every(e => e.code === 'backend_unavailable' && e.retry === true && e.retry_after > 0 && e.ms < 1500), JSON.stringify(refusals));
    const metrics = await Promise.all(cluster.gateways.map(g => g.metrics()));
    assert.ok(metrics.some(m => m.sum('xindao_backend_down') === 1), 'the breaker is open');
    assert.ok(metrics.reduce((n, m) => n + m.sum('xindao_events_waiting'), 0) <= 4 * (256 + 32), 'no more than the windows is in memory');
    await backend.up();
    await sleep(300);
    going = false;
    const counts = await Promise.all(sent), total = counts.reduce((a, b) => a + b);
    assert.ok(total > 1000, `${total} messages`);
    for (const c of clients) await c.close();
    for (const c of clients) await ended(c.session);
    clients.forEach((c, i) => {
      const seen = backend.of(c.session);
      assert.deepEqual(seen.map(e => e.type).filter((t, n, all) => t !== all[n - 1]), ['connect', 'join', 'message', 'disconnect']);
      assert.deepEqual(seen.filter(e => e.type === 'message').map(e => e.data), Array.from({ length: counts[i] }, (_, n) => n));
    });
    const after = await Promise.all(cluster.gateways.map(g => g.metrics()));
    assert.equal(after.reduce((n, m) => n + m.sum('xindao_events_undelivered_total'), 0), 0);
    assert.ok(after.every(m => m.sum('xindao_backend_down') === 0));
  });

  it('slow, failing and talking nonsense: tried again; one session does not hold up another', async () => {
    const bad = await cluster.client(0, 'bad'), good = await cluster.client(0, 'good'), tries = [];
    backend.answer = async e => {
      if (e.session !== bad.session || e.type !== 'disconnect') return undefined;
      tries.push(Date.now());
      switch (tries.length) {
        case 1: return { status: 500, text: 'no' };
        case 2: return { raw: 'SSH-2.0-nonsense\r\n' };
        case 3: return { raw: 'HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n' };
        case 4: await sleep(800); return { status: 200 }; // later than backend-timeout
        default: return { status: 200, text: 'not JSON, and nobody minds' };
      }
    };
    await bad.close(); await good.close();
    await ended(good.session);
    await ended(bad.session);
    await until(() => tries.length >= 5, { what: 'the fifth try' });
    backend.answer = () => undefined;
  });

  it('an event that it refuses for good is given up, and counted', async () => {
    const before = await Promise.all(cluster.gateways.map(g => g.metrics()));
    const c = await cluster.client(0, 'refused');
    backend.answer = e => (e.session === c.session && e.type === 'connect' ? { status: 422 } : undefined);
    await c.close();
    await ended(c.session);
    backend.answer = () => undefined;
    const now = await Promise.all(cluster.gateways.map(g => g.metrics()));
    assert.equal(now.reduce((n, m, i) => n + m.sum('xindao_events_refused_total') - before[i].sum('xindao_events_refused_total'), 0), 1);
    assert.deepEqual(backend.of(c.session).map(e => e.type), ['disconnect']);
  });

  it('kill -9 with events pending: another node delivers them, and the end of the sessions', async () => {
    const doomed = await cluster.add('doomed', { flags }), room = unique('chat');
    await backend.down();
    const c = await doomed.client('d');
    await c.join(room);
    for (let i = 0; i < 20; i++) await c.publish(room, i);
    await doomed.kill();
    await backend.up();
    await ended(c.session);
    const seen = backend.of(c.session);
    assert.deepEqual(seen.filter(e => e.type === 'message').map(e => e.data), Array.from({ length: 20 }, (_, i) => i));
    assert.equal(seen.at(-1).reason, 'node_lost');
  });

  it('keys change without an interruption', async () => {
    const fresh = 'another key, of forty bytes and some more';
    writeFileSync(backend.secret, `${fresh}\n${KEY}\n`);
    for (const g of cluster.gateways) if (!g.process.ended) g.process.signal('SIGHUP');
    const c = await cluster.client(0, 'both');
    await until(async () => (await cluster.gateways[0].metrics()).sum('xindao_reloads_total') >= 1, { what: 'the reload' });
    backend.keys = [fresh];
    await c.close();
    await ended(c.session);
    assert.ok(backend.problems.every(p => p === 'the signature is not ours'));
  });
});

it('with the embedded broker, over plain HTTP', { timeout: 60000 }, async () => {
  const cluster = await Cluster.start({ gateways: 0, redis: false });
  const backend = await Backend.start(cluster.dir);
  try {
    const g = await cluster.add('one', { flags: ['--policy', 'chat* events=message', ...backend.flags] });
    const c = await g.client('alice'), room = unique('chat');
    await c.join(room);
    await c.publish(room, 1);
    await c.close();
    await until(() => backend.of(c.session).length >= 3, { what: 'three events' });
    assert.deepEqual(backend.of(c.session).map(e => e.type), ['connect', 'message', 'disconnect']);
  } finally { await cluster.stop(); await backend.stop(); }
});
