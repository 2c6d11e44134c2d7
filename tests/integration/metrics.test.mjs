// metrics.test.mjs: /metrics, /healthz, /readyz and TLS as monitoring and mini-programs want them
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import tls from 'node:tls';
import { Cluster } from './lib/cluster.mjs';
import { Metrics } from './lib/metrics.mjs';
import { unique } from './lib/client.mjs';
import { Raw } from './lib/raw.mjs';
import { until } from './lib/wait.mjs';

describe('operations', { timeout: 120000 }, () => {
  let cluster, gw;
  before(async () => { cluster = await Cluster.start({ gateways: 1 }); [gw] = cluster.gateways; });
  after(() => cluster.stop());

  it('the strict reader is strict', () => {
    const good = '# HELP a_total x\n# TYPE a_total counter\na_total{b="c\\"\\n"} 1\n';
    Metrics.parse(good);
    for (const bad of [good.slice(0, -1), good + good, good.replace(' 1', ' one'), good.replace('="', '='), 'a_total 1\n', good.replaceAll('a_total', 'a'), '# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n'])
      assert.throws(() => Metrics.parse(bad), JSON.stringify(bad));
  });

  it('/metrics is Prometheus text with everything the contract names', async () => {
    const r = await gw.get('/metrics');
    assert.equal(r.status, 200);
    assert.match(r.headers['content-type'], /^text\/plain; version=0\.0\.4/);
    const m = Metrics.parse(r.text);
    for (const name of ['connections', 'sessions', 'rooms', 'queue_bytes', 'tls_handshakes_total', 'upgrades_total', 'http_requests_total', 'messages_in_total', 'messages_out_total', 'deliveries_total', 'bytes_in_total', 'bytes_out_total',
      'drops_total', 'errors_total', 'redis_reconnects_total', 'redis_round_trip_seconds_count', 'loop_lag_seconds_count', 'store_up']) assert.ok(m.has(`xindao_${name}`), `xindao_${name}`);
    for (const [name, type] of m.types) { assert.match(name, /^(xindao|process)_/); assert.ok(m.help.get(name)?.length > 5, `help of ${name}`); assert.ok(['counter', 'gauge', 'histogram'].includes(type)); }
    for (const reason of ['slow_consumer', 'handshake_timeout', 'too_large', 'bad_utf8']) assert.ok(m.samples.some(s => s.name === 'xindao_drops_total' && s.labels.reason === reason), `a zero for ${reason}, so that alerts work from the start`);
    await until(async () => (await gw.metrics()).sum('xindao_store_up') === 1, { what: 'xindao_store_up to be 1' });
  });

  it('the numbers are right', async () => {
    const a = await gw.client('a'), b = await gw.client('b'), room = unique();
    await a.join(room); await b.join(room);
    const before = await gw.metrics();
    for (let i = 0; i < 10; i++) await a.publish(room, 'x'.repeat(100));
    for (let i = 0; i < 10; i++) await b.message(room);
    await b.refused({ type: 'leave', room: 'not there' });
    const now = await gw.metrics(), grown = (name, labels) => now.sum(`xindao_${name}`, labels) - before.sum(`xindao_${name}`, labels);
    assert.equal(grown('messages_in_total'), 11);
    assert.equal(grown('deliveries_total'), 20);
    assert.equal(grown('messages_out_total'), 11, '10 acks and an error');
    assert.equal(grown('errors_total', { code: 'not_member' }), 1);
    assert.equal(grown('http_requests_total'), 1);
    assert.ok(grown('bytes_in_total') > 1000 && grown('bytes_in_total') < 4000);
    assert.ok(grown('bytes_out_total') > 2 * 10 * 200);
    assert.equal(now.sum('xindao_sessions'), 2);
    const other = unique();
    await a.join(other);
    assert.equal((await gw.metrics()).sum('xindao_rooms'), now.sum('xindao_rooms') + 1);
    await a.leave(other);
    await until(async () => (await gw.metrics()).sum('xindao_rooms') === now.sum('xindao_rooms'), { what: 'the room to go' });
    assert.ok(now.sum('xindao_connections') >= 2);
    assert.equal(now.sum('xindao_drops_total'), before.sum('xindao_drops_total'), 'nothing was dropped');
    await a.close(); await b.close();
    await until(async () => (await gw.metrics()).sum('xindao_sessions') === 0, { what: 'no sessions' });
  });

  it('/readyz and /healthz answer GET and HEAD', async () => {
    for (const path of ['/readyz', '/healthz']) {
      const g = await gw.get(path);
      assert.equal(g.status, 200);
      const h = await gw.get(path, { method: 'HEAD' });
      assert.deepEqual([h.status, h.text], [200, '']);
    }
    assert.match((await gw.get('/readyz')).headers['content-type'], /^application\/json/);
    const old = await Raw.connect(gw.port, { ca: cluster.ca }); // what simple health checks send
    old.write('GET /healthz HTTP/1.0\r\n\r\n');
    assert.match((await old.response()).head, /^HTTP\/1\.[01] 200 /);
    await old.gone;
  });

  it('TLS 1.2 and 1.3 with a full chain, nothing older, ALPN http/1.1', async () => {
    const hello = options => new Promise((yes, no) => {
      const s = tls.connect({ port: gw.port, host: '127.0.0.1', servername: 'localhost', ca: cluster.ca, ...options }, () => { const r = { protocol: s.getProtocol(), alpn: s.alpnProtocol, authorized: s.authorized, cipher: s.getCipher().name }; s.destroy(); yes(r); });
      s.on('error', no);
    });
    assert.deepEqual(await hello({ minVersion: 'TLSv1.3', ALPNProtocols: ['h2', 'http/1.1'] }).then(r => [r.protocol, r.alpn, r.authorized]), ['TLSv1.3', 'http/1.1', true]);
    const two = await hello({ maxVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] });
    assert.deepEqual([two.protocol, two.alpn, two.authorized], ['TLSv1.2', 'http/1.1', true]);
    assert.match(two.cipher, /^ECDHE-.*(GCM|CHACHA20)/);
    await assert.rejects(hello({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }));
    await assert.rejects(hello({ maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA:AES256-SHA:AES128-GCM-SHA256' }), 'no key exchange without forward secrecy');
    assert.equal((await hello({})).authorized, true, 'no ALPN at all is fine');
  });

  it('the demo is off when it is switched off', async () => {
    assert.equal((await gw.get('/')).status, 200);
    const off = await cluster.add('nodemo', { flags: [], env: {}, demo: 'off' });
    assert.equal((await off.get('/')).status, 404);
    await off.stop();
  });
});
