// reload.test.mjs: SIGHUP: new certificate and options for who comes, nobody who is there notices
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import { Cluster, ROOT } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';

describe('SIGHUP', { timeout: 120000 }, () => {
  let cluster, gw, conf;
  const write = options => writeFileSync(conf, JSON.stringify(options));

  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    conf = join(cluster.dir, 'gateway.json');
    write({ policy: ['vip.* join=nobody'], 'max-rooms-per-session': 50 });
    gw = await cluster.add('gw1', { flags: ['--config', conf] });
  });
  after(() => cluster.stop());

  /** Serial numbers of the chain a new connection is shown. */
  const certificate = () => new Promise((yes, no) => {
    const s = tls.connect({ port: gw.port, host: '127.0.0.1', servername: 'localhost', ca: cluster.ca }, () => { const c = s.getPeerCertificate(true); s.destroy(); yes({ serial: c.serialNumber, issuer: c.issuerCertificate?.subject?.CN }); });
    s.on('error', no);
  });
  const hup = async () => {
    const lines = gw.log.length;
    gw.process.signal('SIGHUP');
    await until(() => / reloaded| reload refused/.test(gw.log.slice(lines)), { what: 'the reload' });
    return gw.log.slice(lines);
  };

  it('gives new connections the new certificate, and keeps the old ones', async () => {
    const old = await certificate(), c = await gw.client('stays'), room = unique();
    await c.join(room);
    execFileSync('bash', [join(ROOT, 'deploy/make-cert.sh'), cluster.dir, 'another.example'], { stdio: 'pipe' });
    assert.equal((await certificate()).serial, old.serial, 'not before the signal');
    await hup();
    const fresh = await certificate();
    assert.notEqual(fresh.serial, old.serial);
    await c.publish(room, 1);
    assert.equal((await c.message()).data, 1);
    const d = await gw.client('new');
    await d.join(room);
    await c.next('enter');
    assert.equal(c.end, undefined);
    await c.close(); await d.close();
  });

  it('keeps the old certificate when the new one is bad, and says so', async () => {
    const good = readFileSync(cluster.cert), before = await certificate();
    for (const bad of ['garbage', '', good.subarray(0, 200)]) {
      writeFileSync(cluster.cert, bad);
      const said = await hup();
      assert.match(said, /ERROR.*certificate/i);
      assert.deepEqual(await certificate(), before);
      await (await gw.client('x')).close();
    }
    const key = readFileSync(cluster.key);
    writeFileSync(cluster.cert, good);
    writeFileSync(cluster.key, execFileSync('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']));
    assert.match(await hup(), /ERROR/, 'a key that does not fit');
    assert.deepEqual(await certificate(), before);
    writeFileSync(cluster.key, key);
    await hup();
    assert.deepEqual(await certificate(), before);
  });

  it('takes new policies and limits for sessions that are there', async () => {
    const c = await gw.client('c'), n = unique('');
    assert.equal((await c.refused({ type: 'join', room: `vip.${n}` })).code, 'forbidden');
    write({ policy: ['closed.* join=nobody'], 'max-rooms-per-session': 2 });
    await hup();
    await c.join(`vip.${n}`);
    assert.equal((await c.refused({ type: 'join', room: `closed.${n}` })).code, 'forbidden');
    await c.join(`two.${n}`);
    assert.equal((await c.refused({ type: 'join', room: `three.${n}` })).code, 'limit_exceeded');
    await c.close();
  });

  it('names what needs a restart', async () => {
    write({ 'key-prefix': 'other:', lease: '9s' });
    const said = await hup();
    assert.match(said, /WARN.*key-prefix/);
    assert.match(said, /lease/);
    const c = await gw.client('c');
    assert.equal((await cluster.redis.hash(`xd:session:{${c.session}}`)).user, 'c', 'the prefix is still the old one');
    await c.close();
  });

  it('changes nothing when the file is wrong', async () => {
    write({ policy: ['only.* join=nobody'] });
    await hup();
    for (const bad of ['{', '{"unknown-option":1}', '{"policy":["x.* colour=red"]}', '{"workers":"many"}']) {
      writeFileSync(conf, bad);
      assert.match(await hup(), /ERROR/, bad);
      const c = await gw.client('c');
      assert.equal((await c.refused({ type: 'join', room: 'only.this' })).code, 'forbidden', bad);
      await c.close();
    }
    write({});
    assert.doesNotMatch(await hup(), /ERROR/);
  });
});
