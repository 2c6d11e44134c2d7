// config.test.mjs: flags, environment and file are one table; what is wrong is named, with exit status 2
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, gatewayBinary } from './lib/cluster.mjs';
import { freePort } from './lib/wait.mjs';

describe('configuration', { timeout: 180000 }, () => {
  let dir, cluster;
  before(async () => { dir = mkdtempSync(join(tmpdir(), 'xd-conf-')); cluster = await Cluster.start({ gateways: 1, redis: false }); });
  after(async () => { rmSync(dir, { recursive: true, force: true }); await cluster.stop(); });

  const run = (args, env = {}) => new Promise(yes => {
    execFile(gatewayBinary(), args, { timeout: 15000, env: { PATH: process.env.PATH, ...env } }, (e, stdout, stderr) => yes({ code: e ? e.code : 0, stdout, stderr, all: stdout + stderr }));
  });
  const file = (name, text) => { const p = join(dir, name); writeFileSync(p, typeof text === 'string' ? text : JSON.stringify(text)); return p; };

  it('--help names every option of the contract', async () => {
    const r = await run(['--help']);
    assert.equal(r.code, 0);
    for (const o of ['listen', 'tls-cert', 'tls-key', 'insecure', 'broker', 'auth', 'node', 'workers', 'config', 'log-level', 'log-format', 'check-config', 'print-config', 'doctor', 'help', 'version', 'proxy-protocol', 'demo',
      'max-connections', 'max-connections-per-ip', 'max-message-size', 'max-rooms-per-session', 'max-queue-bytes', 'slow-consumer', 'handshake-timeout', 'heartbeat', 'origin', 'policy', 'message-rate', 'drain-time', 'lease', 'redis-timeout', 'key-prefix'])
      assert.match(r.stdout, new RegExp(`--${o}\\b`), `--${o}`);
    assert.match((await run(['--version'])).stdout, /\d+\.\d+/);
  });

  it('names what is wrong, and exits with 2', async () => {
    const cases = [
      [['--no-such-flag'], {}, /no-such-flag/],
      [['--lisen', '127.0.0.1:1'], {}, /lisen/],
      [['stray'], {}, /stray/],
      [['--insecure', '--workers', 'many'], {}, /workers.*many|many.*workers/s],
      [['--insecure', '--workers', '0'], {}, /workers/],
      [['--insecure', '--log-level', 'loud'], {}, /log-level.*loud|loud.*log-level/s],
      [['--insecure', '--log-format', 'xml'], {}, /log-format/],
      [['--insecure', '--broker', 'mysql://x'], {}, /broker|mysql/],
      [['--insecure', '--auth', 'magic'], {}, /auth/],
      [['--insecure', '--max-message-size', '-1'], {}, /max-message-size/],
      [['--insecure', '--max-message-size', '99999999999999999999'], {}, /max-message-size/],
      [['--insecure', '--slow-consumer', 'ignore'], {}, /slow-consumer/],
      [['--insecure', '--proxy-protocol', 'maybe'], {}, /proxy-protocol/],
      [['--insecure', '--policy', 'x.* colour=red'], {}, /colour/],
      [['--insecure', '--policy', 'x.* join=perhaps'], {}, /join/],
      [['--insecure', '--listen', 'nowhere'], {}, /listen|nowhere/],
      [['--insecure', '--listen', '127.0.0.1:99999'], {}, /listen|99999/],
      [['--insecure', '--listen'], {}, /listen/],
      [['--insecure'], { XINDAO_WORKERS: 'many' }, /XINDAO_WORKERS/],
      [['--insecure', '--config', '/nowhere/at/all.json'], {}, /\/nowhere\/at\/all\.json/],
      [['--insecure', '--config', file('broken.json', '{"workers": ')], {}, /broken\.json/],
      [['--insecure', '--config', file('array.json', '[]')], {}, /array\.json/],
      [['--insecure', '--config', file('unknown.json', { 'worker-count': 2 })], {}, /worker-count/],
      [['--insecure', '--config', file('value.json', { workers: 'two' })], {}, /workers/],
      [['--insecure', '--config', file('twice.json', '{"workers":1,"workers":2}')], {}, /workers|twice\.json/],
      [[], {}, /tls-cert|insecure/],
      [['--tls-cert', '/nowhere/cert.pem', '--tls-key', '/nowhere/key.pem'], {}, /\/nowhere\/cert\.pem/],
      [['--insecure', '--workers', '2', '--broker', 'memory'], {}, /workers|broker|memory/],
    ];
    for (const [args, env, message] of cases) {
      const r = await run([...args, '--check-config'], env);
      assert.equal(r.code, 2, `${args.join(' ')} exits with ${r.code}: ${r.all}`);
      assert.match(r.stderr, message, args.join(' '));
      assert.ok(r.stderr.trim().split('\n').length <= 5, `one clear error, not a page: ${r.stderr}`);
      const live = await run(args, env);
      assert.equal(live.code, 2, `without --check-config: ${args.join(' ')} exits with ${live.code}`);
    }
  });

  it('needs a key that fits the certificate', async () => {
    const other = file('not.pem', 'this is no certificate');
    for (const [cert, key, message] of [[other, cluster.key, /not\.pem/], [cluster.cert, other, /not\.pem/]]) {
      const r = await run(['--tls-cert', cert, '--tls-key', key, '--check-config']);
      assert.equal(r.code, 2, r.all);
      assert.match(r.stderr, message);
    }
  });

  it('--check-config says that all is well, and opens nothing', async () => {
    const port = cluster.gateways[0].port;
    const r = await run(['--listen', `127.0.0.1:${port}`, '--tls-cert', cluster.cert, '--tls-key', cluster.key, '--check-config']);
    assert.equal(r.code, 0, r.all);
    assert.equal((await run(['--insecure', '--check-config'])).code, 0);
  });

  it('a flag beats the environment, which beats the file, which beats the default', async () => {
    const conf = file('good.json', { listen: ['127.0.0.1:1111', '127.0.0.1:2222'], 'max-rooms-per-session': 11, 'max-message-size': '32k', node: 'from-file', insecure: true, policy: ['a.* join=nobody', '* rate=5'] });
    const print = async (args, env) => { const r = await run([...args, '--print-config'], env); assert.equal(r.code, 0, r.all); return JSON.parse(r.stdout); };
    const plain = await print(['--insecure'], {});
    const all = await print(['--config', conf, '--node', 'from-flag'], { XINDAO_NODE: 'from-env', XINDAO_MAX_ROOMS_PER_SESSION: '22', XINDAO_POLICY: 'b.* join=nobody;c.* join=nobody' });
    assert.equal(all.node, 'from-flag');
    assert.equal(Number(all['max-rooms-per-session']), 22);
    assert.deepEqual(all.listen, ['127.0.0.1:1111', '127.0.0.1:2222']);
    assert.deepEqual(all.policy, ['b.* join=nobody', 'c.* join=nobody']);
    assert.ok([32768, '32k', '32K'].includes(all['max-message-size']), String(all['max-message-size']));
    assert.equal(all['log-level'], plain['log-level']);
    const env = await print([], { XINDAO_CONFIG: conf });
    assert.equal(env.node, 'from-file');
    assert.equal(Number(env['max-rooms-per-session']), 11);
    const again = await print(['--config', file('again.json', all)], {});
    assert.deepEqual({ ...again, config: 0 }, { ...all, config: 0 }, 'what is printed can be read back');
  });

  it('never prints a password', async () => {
    const r = await run(['--insecure', '--broker', 'redis://alice:s3cret@127.0.0.1:6390/2', '--print-config']);
    assert.equal(r.code, 0);
    assert.doesNotMatch(r.all, /s3cret/);
    assert.match(r.stdout, /127\.0\.0\.1:6390/);
  });

  it('a port in use is a clear error', async () => {
    const port = cluster.gateways[0].port;
    const r = await run(['--listen', `127.0.0.1:${port}`, '--insecure']);
    assert.notEqual(r.code, 0);
    assert.match(r.stderr, new RegExp(String(port)));
  });

  it('listens where it is told, in several places, and logs JSON', async () => {
    const port = await freePort();
    const gw = await cluster.add('json', { flags: ['--listen', `127.0.0.1:${port}`, '--log-format', 'json', '--log-level', 'debug'] });
    const c = await gw.client('someone-with-a-name');
    await c.join('somewhere');
    await c.publish('somewhere', 'the-payload-of-this-message');
    await c.close();
    assert.equal((await cluster.gateways[0].get('/healthz')).status, 200);
    const { request } = await import('./lib/cluster.mjs');
    assert.equal((await request(port, '/healthz', { ca: cluster.ca })).status, 200);
    await gw.stop();
    const lines = gw.log.trim().split('\n').map(l => JSON.parse(l));
    assert.ok(lines.length > 2);
    assert.ok(!gw.log.includes(c.welcome.token), 'a token in the log');
    assert.ok(!gw.log.includes('the-payload-of-this-message'), 'a payload in the log');
  });
});
