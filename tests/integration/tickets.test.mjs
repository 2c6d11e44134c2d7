// tickets.test.mjs: a TLS session that one node began is resumed by any other, through rotations of the keys, restarts, reloads and outages of Redis
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { Cluster } from './lib/cluster.mjs';
import { sleep, until, within } from './lib/wait.mjs';

const ROTATION_S = 4;

/** One request; what became of the session that was presented, and the session for next time. */
function visit(cluster, gw, session, { version = 'TLSv1.3' } = {}) {
  return within(new Promise((yes, no) => {
    let text = '', fresh, resumed;
    const s = tls.connect({ port: gw.port, host: '127.0.0.1', servername: 'localhost', ca: cluster.ca, session, minVersion: version, maxVersion: version });
    s.on('session', x => { fresh = x; });
    s.on('error', no);
    s.on('secureConnect', () => { resumed = s.isSessionReused(); s.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'); });
    s.on('data', d => { text += d; });
    s.on('close', () => {
      try {
        assert.match(text, /^HTTP\/1\.1 200 /);
        yes({ resumed, session: fresh });
      } catch (e) { no(e); }
    });
  }), 10000, 'a TLS request');
}

const key = redis => redis.cli('ZRANGE', 'xd:tickets', '0', '-1', 'WITHSCORES').then(x => x.split('\n').filter(Boolean));

describe('TLS sessions', { timeout: 180000 }, () => {
  let cluster, a, b;
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, flags: ['--redis-timeout', '500ms', '--lease', '3s'] });
    [a, b] = cluster.gateways;
    await until(async () => (await key(cluster.redis)).length >= 2, { what: 'a key in Redis' });
  });
  after(() => cluster.stop());

  it('go on at another node, and at one that was restarted', async () => {
    const first = await visit(cluster, a);
    assert.equal(first.resumed, false);
    const calm = await b.metrics(), second = await visit(cluster, b, first.session);
    assert.equal(second.resumed, true, 'b knows the keys of a');
    assert.ok(second.session, 'and gives out a ticket of its own');
    assert.equal((await b.metrics()).sum('xindao_tls_resumed_total') - calm.sum('xindao_tls_resumed_total'), 1);
    a.process.expected = true;
    await a.kill();
    a.boot();
    await a.ready();
    const third = await until(async () => { const v = await visit(cluster, a, second.session); return v.resumed && v; }, { what: 'the restarted node to know the keys' });
    const after = (await visit(cluster, b, third.session)).resumed;
    assert.equal(after, true);
  });

  it('go on as openssl s_client asks for it', async () => {
    const file = join(cluster.dir, 'session.pem'), run = async (gw, ...args) => {
      const p = promisify(execFile)('openssl', ['s_client', '-connect', `127.0.0.1:${gw.port}`, '-tls1_3', '-CAfile', join(cluster.dir, 'ca.pem'), '-ign_eof', ...args], { timeout: 10000 });
      p.child.stdin.end('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      return (await p).stdout;
    };
    assert.match(await run(a, '-sess_out', file), /^New, TLSv1\.3/m);
    const text = await run(b, '-sess_in', file);
    assert.match(text, /^Reused, TLSv1\.3/m);
    assert.match(text, /HTTP\/1\.1 200 /);
    assert.match(text, /Max Early Data: 0/, 'no early data');
  });

  it('go on with a WebSocket on them', async () => {
    const first = await visit(cluster, a), c = await b.client('returning', { session: first.session });
    assert.equal(c.ws._socket.isSessionReused(), true);
    await c.join('tickets');
    for (let i = 0; i < 5; i++) await c.publish('tickets', 'x'.repeat(20000));
    for (let i = 0; i < 5; i++) assert.equal((await c.message('tickets')).data.length, 20000);
    await c.close();
  });

  it('go on after a reload of the certificate', async () => {
    const first = await visit(cluster, a), reloads = await a.metrics();
    a.process.signal('SIGHUP');
    await a.counted(reloads, 'xindao_reloads_total');
    assert.equal((await visit(cluster, a, first.session)).resumed, true);
  });

  it('are not kept in TLS 1.2', async () => {
    const first = await visit(cluster, a, undefined, { version: 'TLSv1.2' });
    assert.equal((await visit(cluster, a, first.session, { version: 'TLSv1.2' })).resumed, false);
  });

  it('go on while Redis is away', async () => {
    const first = await visit(cluster, a);
    await cluster.redis.process.kill();
    await sleep(700);
    const second = await visit(cluster, b, first.session);
    assert.equal(second.resumed, true);
    await cluster.redis.boot();
    await Promise.all([a.ready(), b.ready()]);
    assert.equal((await visit(cluster, a, second.session)).resumed, true, 'the keys were in the append-only file');
  });
});

describe('the keys of TLS sessions', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: ['--ticket-rotation', `${ROTATION_S}s`, '--tls-tickets', 'all'] }); });
  after(() => cluster.stop());

  it('follow each other: the one before still counts, older ones mean a full handshake', async () => {
    const [a, b] = cluster.gateways, names = new Set();
    const keys = async () => { const k = await key(cluster.redis); for (let i = 0; i < k.length; i += 2) names.add(k[i]); return k; };
    await until(async () => (await keys()).length >= 2, { what: 'a key in Redis' });
    const first = await visit(cluster, a), began = Date.now();
    let at = a, session = first.session, old = first.session;
    // Somebody who comes back all the time never needs a full handshake, whichever node, whatever key.
    while (Date.now() - began < 2.4 * ROTATION_S * 1000) {
      at = at === a ? b : a;
      const v = await visit(cluster, at, session);
      assert.equal(v.resumed, true, `${Date.now() - began} ms after the first visit`);
      session = v.session;
      await keys();
      await sleep(200);
    }
    assert.ok(names.size >= 3, `${names.size} keys were used`);
    assert.ok((await keys()).length <= 3 * 2, 'old ones are dropped');
    for (const gw of [a, b]) {
      const v = await visit(cluster, gw, old);
      assert.equal(v.resumed, false, 'too old');
      assert.equal((await visit(cluster, gw, v.session)).resumed, true);
    }
    for (const gw of [a, b]) assert.equal((await gw.metrics()).sum('xindao_drops_total', { reason: 'tls_error' }), 0);
    const v12 = await visit(cluster, a, undefined, { version: 'TLSv1.2' });
    assert.equal((await visit(cluster, b, v12.session, { version: 'TLSv1.2' })).resumed, true, 'TLS 1.2, when asked for');
  });
});

describe('TLS sessions without Redis', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ redis: false }); });
  after(() => cluster.stop());

  it('go on at the same process, unless it is told not to', async () => {
    const [gw] = cluster.gateways, first = await visit(cluster, gw);
    assert.equal((await visit(cluster, gw, first.session)).resumed, true);
    const off = await cluster.add('off', { flags: ['--tls-tickets', 'off'] });
    assert.equal((await visit(cluster, off)).session, undefined, 'no ticket');
  });
});
