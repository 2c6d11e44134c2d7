// doctor.test.mjs: --doctor finds nothing wrong with a cluster behind HAProxy, and every wrong thing with servers made wrong on purpose
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { Cluster, gatewayBinary } from './lib/cluster.mjs';
import { Authority } from './lib/authority.mjs';
import { impostor } from './lib/impostor.mjs';
import { freePort, until } from './lib/wait.mjs';

const HOST = 'im.example.com';

/**
 * Runs it and takes its lines apart: r.fail, r.warn, r.ok, r.skip are what was looked at, in order; r.said('chain') the rest of that line.
 * exec: a command that becomes the process. */
function doctor(args, env = {}, exec = []) {
  const [command, ...rest] = [...exec, gatewayBinary(), '--doctor', ...args];
  return new Promise(yes => execFile(command, rest, { timeout: 60000, env: { PATH: process.env.PATH, ...env } }, (e, stdout, stderr) => {
    const lines = [...stdout.matchAll(/^(ok|warn|FAIL|skip) +(.+?) +(?:\[(.*?)\] )?— (.*)$/gm)].map(m => ({ verdict: m[1].toLowerCase(), what: m[2], where: m[3], text: m[4] }));
    const of = v => lines.filter(l => l.verdict === v).map(l => l.what);
    yes({ code: e ? e.code : 0, stdout, stderr, lines, ok: of('ok'), warn: of('warn'), fail: of('fail'), skip: of('skip'), said: what => lines.find(l => l.what === what)?.text ?? '' });
  }));
}

describe('a cluster behind HAProxy', { timeout: 180000 }, () => {
  let cluster, url, mine;
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, proxy: true, names: [HOST] });
    url = `https://${HOST}:${cluster.proxyPort}`;
    mine = ['--doctor-address', '127.0.0.1', '--doctor-ca', join(cluster.dir, 'ca.pem')];
  });
  after(() => cluster.stop());

  it('is well: status 0, and only the port and the private authority are warned of', async () => {
    const r = await doctor([url, ...mine, '--doctor-idle', '1s']);
    assert.equal(r.code, 0, r.stdout + r.stderr);
    assert.deepEqual(r.warn, ['url', 'trust']);
    assert.deepEqual(r.skip, ['dns']);
    assert.deepEqual(r.ok, ['tcp', 'tls', 'tls 1.2', 'tls 1.3', 'tls 1.0, 1.1', 'weak ciphers', 'alpn', 'sni', 'chain', 'name', 'validity', 'key', 'healthz', 'clock', 'readyz', 'upgrade', 'accept key', 'subprotocol',
      'welcome', 'ping', 'idle', 'close', 'no subprotocol']);
    assert.match(r.stdout, /: 23 ok, 2 warnings, 0 failed, 1 skipped\n$/);
  });

  it('is well with wss, a user in the path, and an authority that the system trusts', async () => {
    const r = await doctor([`wss://${HOST}:${cluster.proxyPort}/ws/doctor`, '--doctor-address', '127.0.0.1'], { SSL_CERT_FILE: join(cluster.dir, 'ca.pem') });
    assert.equal(r.code, 0, r.stdout);
    assert.deepEqual(r.warn, ['url']);
    assert.match(r.said('idle'), /not tried/);
    assert.match(r.said('trust'), /by this system/);
  });

  it('leaves no session behind', async () => {
    assert.deepEqual(await cluster.redis.keys('xd:session:*'), []);
  });

  it('is not well for phones that do not know its authority', async () => {
    const r = await doctor([url, '--doctor-address', '127.0.0.1'], { SSL_CERT_FILE: '/dev/null', SSL_CERT_DIR: '/nowhere' });
    assert.equal(r.code, 1);
    assert.deepEqual(r.fail, ['trust']);
    assert.match(r.said('trust'), /root "Xindao development CA .* not trusted/);
  });

  it('asks DNS, and looks at every address it gets', async () => {
    const r = await doctor([`https://localhost:${cluster.proxyPort}`, ...mine.slice(2)]);
    assert.deepEqual(r.fail, ['url', ...r.lines.filter(l => l.what === 'tcp' && l.where && l.where !== '127.0.0.1').map(l => l.what)]);
    assert.match(r.said('dns'), /127\.0\.0\.1|::1/);
    const two = await doctor([url, ...mine, '--doctor-address', '127.0.0.2']);
    assert.equal(two.code, 1);
    assert.deepEqual(two.lines.filter(l => l.verdict === 'fail').map(l => [l.what, l.where]), [['tcp', '127.0.0.2']]);
    assert.ok(two.lines.some(l => l.what === 'close' && l.where === '127.0.0.1' && l.verdict === 'ok'));
  });

  it('that waits for a PROXY header is told so', async () => {
    const g = await cluster.add('proxied', { flags: ['--proxy-protocol', 'on'], wait: false });
    await until(() => / ready/.test(g.log), { what: 'the gateway' });
    const r = await doctor([`https://${HOST}:${g.port}`, ...mine]);
    assert.deepEqual([r.code, r.fail], [1, ['tls']]);
    assert.match(r.said('tls'), /closed the connection.*PROXY/);
  });

  it('wants a token where tokens are wanted', async () => {
    const key = join(cluster.dir, 'secret');
    writeFileSync(key, 'a secret of thirty-two bytes: xyz');
    const g = await cluster.add('jwt', { flags: ['--auth', 'jwt', '--jwt-key', key] });
    const r = await doctor([`https://${HOST}:${g.port}`, ...mine]);
    assert.equal(r.code, 0, r.stdout);
    assert.match(r.said('welcome'), /token/);
    assert.ok(!r.ok.includes('ping'));
    const bad = await doctor([`https://${HOST}:${g.port}/ws?token=no.good.token`, ...mine]);
    assert.deepEqual(bad.fail, ['upgrade']);
    assert.match(bad.said('upgrade'), /401.*token/);
    assert.doesNotMatch(bad.stdout, /no\.good/);
  });
});

const CIPHERS = 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_256_GCM_SHA384';

describe('wrong servers', { timeout: 240000, concurrency: 8 }, () => {
  const nobody = { SSL_CERT_FILE: '/dev/null', SSL_CERT_DIR: '/nowhere' };
  let dir, root, inner, good, chain, trusting, both;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'xd-doctor-'));
    root = new Authority(dir, 'Root R');
    inner = new Authority(dir, 'Inner I', { by: root });
    good = inner.server([HOST], { extra: ['authorityInfoAccess=caIssuers;URI:http://ca.example/inner.crt'] });
    chain = { cert: good.cert + inner.pem, key: good.key };
    both = join(dir, 'both.pem');
    writeFileSync(both, root.pem + inner.pem);
    trusting = { SSL_CERT_FILE: root.file, SSL_CERT_DIR: '/nowhere' };
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** What fails, what is warned of but for the port, and what those lines say. */
  const wrong = (name, make, { fail = [], warn = [], says = {}, args = [], env, host = HOST, path = '' }) => it(name, async t => {
    const port = await impostor(t, make());
    const r = await doctor([`https://${host}:${port}${path}`, '--doctor-address', '127.0.0.1', ...args], env ? env() : trusting);
    assert.deepEqual([r.fail, r.warn], [fail, ['url', ...warn]], r.stdout + r.stderr);
    for (const [what, text] of Object.entries(says)) assert.match(r.said(what), text);
    for (const l of r.lines) if (l.verdict === 'fail' || l.verdict === 'warn') assert.match(l.text, /; mend: ./);
    assert.equal(r.code, fail.length ? 1 : 0);
  });
  const with_ = (options, how = {}) => () => ({ tls: { ciphers: CIPHERS, ...chain, ...options }, ...how });
  const certified = make => () => ({ tls: { ciphers: `${CIPHERS}:@SECLEVEL=0`, ...make() } });
  const behaving = how => with_({}, how);

  wrong('nothing wrong at all', with_({}), { says: { trust: /Root R/, chain: /2 sent, complete/, name: /im\.example\.com/ } });

  // the port
  wrong('plain HTTP', () => ({}), { fail: ['tls'], says: { tls: /not TLS.*plain/ } });
  wrong('accepts, and never answers', () => ({ mute: true }), { fail: ['tls'], says: { tls: /no answer in time.*PROXY/ } });
  wrong('TLS, and then silence', behaving({ raw: null }), { fail: ['healthz', 'readyz', 'upgrade'] });
  wrong('TLS, and then nonsense', behaving({ raw: 'SSH-2.0-nonsense\r\n\r\n' }), { fail: ['healthz', 'readyz', 'upgrade'], says: { healthz: /does not begin with HTTP/ } });
  wrong('TLS, and then too much', behaving({ raw: `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(8000)}` }), { fail: ['healthz', 'readyz', 'upgrade'], says: { healthz: /more than 16384 bytes/ } });
  it('DNS that never answers', async t => {
    const mute = createSocket('udp4'), file = join(dir, 'resolv.conf');
    await new Promise((yes, no) => { mute.once('error', no); mute.bind(53, '127.53.53.53', yes); });
    t.after(() => mute.close());
    writeFileSync(file, 'nameserver 127.53.53.53\noptions timeout:20\n');
    const since = Date.now(), r = await doctor(['https://slow.example.com'], {}, ['unshare', '-m', 'sh', '-c', `mount --bind ${file} /etc/resolv.conf && exec "$@"`, 'sh']);
    assert.deepEqual([r.code, r.fail], [1, ['dns']], r.stderr);
    assert.match(r.said('dns'), /no answer in 5 s.*resolv\.conf/);
    assert.ok(Date.now() - since < 9000);
  });
  it('a machine without a way there', async () => {
    const r = await doctor([`https://${HOST}`, '--doctor-address', '127.0.0.1'], {}, ['unshare', '-n']);
    assert.deepEqual([r.code, r.fail, r.skip], [1, ['tcp'], ['dns', 'tcp']], r.stderr);
    assert.match(r.stdout, /FAIL .* no address could be checked/);
  });
  it('nobody listens', async () => {
    const r = await doctor([`https://${HOST}:${await freePort()}`, '--doctor-address', '127.0.0.1']);
    assert.deepEqual([r.code, r.fail], [1, ['tcp']]);
    assert.match(r.said('tcp'), /refused/);
  });
  it('no such name', async () => {
    const r = await doctor(['https://no-such-name.invalid']);
    assert.deepEqual([r.code, r.fail], [1, ['dns']]);
  });
  it('a URL that no mini-program takes', async () => {
    for (const [url, says] of [['http://im.example.com', /plain http/], ['ws://im.example.com/ws', /plain http/]]) {
      const r = await doctor([url]);
      assert.deepEqual([r.code, r.fail, r.lines.length], [1, ['url'], 1]);
      assert.match(r.said('url'), says);
    }
    const port = await freePort();
    for (const host of ['127.0.0.1', '[::1]', 'localhost', 'my_app.example.com', 'api.weixin.qq.com']) {
      const r = await doctor([`https://${host}:${port}`, '--doctor-address', '127.0.0.1']);
      assert.deepEqual([r.code, r.fail], [1, ['url', 'tcp']], host);
    }
  });

  // versions and ciphers
  wrong('TLS 1.2 only', with_({ maxVersion: 'TLSv1.2' }), { warn: ['tls 1.3'], says: { 'tls 1.2': /spoken, ECDHE/ } });
  wrong('TLS 1.3 only', with_({ minVersion: 'TLSv1.3' }), { fail: ['tls 1.2'], says: { 'tls 1.2': /refused/ } });
  wrong('TLS 1.2 without forward secrecy and AEAD', with_({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256' }), { fail: ['tls 1.2'], warn: ['tls 1.3', 'weak ciphers'], says: { 'tls 1.2': /ECDHE-ECDSA-AES128-SHA256/ } });
  wrong('TLS 1.0 still spoken', with_({ minVersion: 'TLSv1', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0' }), { warn: ['tls 1.0, 1.1', 'weak ciphers'] });
  wrong('only HTTP/2', with_({ ALPNProtocols: ['h2'] }), { fail: ['alpn'] });
  wrong('another certificate without the name', () => {
    const other = inner.server(['other.example.com']);
    return { tls: { ciphers: CIPHERS, ...other, SNICallback: (_, done) => done(null, createSecureContext({ ...chain, ciphers: CIPHERS })) } };
  }, { warn: ['sni'], says: { sni: /certificate of "other\.example\.com"/ } });

  // certificates
  wrong('an intermediate that is not sent', certified(() => good), { fail: ['chain'], says: { chain: /1 sent; "Inner I" is missing, the issuer of "im\.example\.com".*http:\/\/ca\.example\/inner\.crt/, trust: /not known/ } });
  wrong('an intermediate that only this machine has', certified(() => good), { fail: ['chain'], env: () => ({ SSL_CERT_FILE: both, SSL_CERT_DIR: '/nowhere' }), says: { chain: /"Inner I" is missing: it is trusted here, but phones/ } });
  wrong('a chain out of order', certified(() => ({ cert: good.cert + root.pem + inner.pem, key: good.key })), { warn: ['chain'], says: { chain: /number 2 is not the issuer of number 1/ } });
  wrong('a private root', certified(() => ({ cert: chain.cert + root.pem, key: good.key })), { fail: ['trust'], env: () => nobody, says: { trust: /root "Root R"/, chain: /3 sent, complete/ } });
  wrong('self-signed', certified(() => Authority.selfSigned(dir, HOST)), { fail: ['trust'], says: { trust: /signed by itself/ } });
  wrong('a certificate for clients', certified(() => root.server([HOST], { usage: 'clientAuth' })), { fail: ['trust'] });
  wrong('another name', with_({}), { host: 'other.example.com', fail: ['name'], says: { name: /for im\.example\.com, not for other\.example\.com/ } });
  wrong('expired', certified(() => root.server([HOST], { from: -20 * 86400000, to: -10 * 86400000 })), { fail: ['validity'], says: { validity: /expired, 10 days ago/, trust: /by this system/ } });
  wrong('expires soon', certified(() => root.server([HOST], { to: 5.5 * 86400000 })), { warn: ['validity'], says: { validity: /5 days left/ } });
  wrong('not valid yet', certified(() => root.server([HOST], { from: 86400000 })), { fail: ['validity'], says: { validity: /not valid yet/ } });
  wrong('a short key', certified(() => root.server([HOST], { rsa: 1024 })), { fail: ['key'], says: { key: /1024 bits/ } });
  wrong('signed with SHA-1', certified(() => root.server([HOST], { digest: 'sha1' })), { fail: ['key'], says: { key: /SHA1/ } });

  // HTTP and the clock
  wrong('nobody behind the proxy', behaving({ healthz: 502, readyz: 503, status: 503 }), { fail: ['healthz', 'readyz', 'upgrade'], says: { upgrade: /503.*no gateway/ } });
  wrong('health is hidden', behaving({ healthz: 404, readyz: 403 }), { warn: ['healthz', 'readyz'] });
  wrong('a clock an hour behind', behaving({ skew: -3600 }), { fail: ['clock'], says: { clock: /36\d\d s behind/ } });
  wrong('a clock a minute ahead', behaving({ skew: 60 }), { warn: ['clock'], says: { clock: /(59|60) s ahead/ } });
  wrong('no clock', behaving({ date: null }), { says: { clock: /no Date/ } });

  // WebSocket
  wrong('the upgrade answered with 200', behaving({ status: 200 }), { fail: ['upgrade'], says: { upgrade: /answered 200, not 101/ } });
  wrong('the upgrade sent elsewhere', behaving({ status: 302 }), { fail: ['upgrade'], says: { upgrade: /no redirection/ } });
  wrong('the path not passed on', behaving({ status: 404 }), { fail: ['upgrade'], says: { upgrade: /404.*path/ } });
  wrong('an extension nobody offered', behaving({ extension: 'permessage-deflate' }), { fail: ['upgrade'] });
  wrong('a wrong accept key', behaving({ accept: 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=' }), { fail: ['accept key'] });
  wrong('the subprotocol not echoed', behaving({ subprotocol: '' }), { fail: ['subprotocol'] });
  wrong('another subprotocol', behaving({ subprotocol: 'chat' }), { fail: ['subprotocol'], says: { subprotocol: /"chat" chosen/ } });
  wrong('a subprotocol that nobody offered', behaving({ uninvited: 'chat' }), { fail: ['no subprotocol'] });
  wrong('another greeting', behaving({ welcome: '{"type":"hello"}' }), { fail: ['welcome'], says: { welcome: /something else/ } });
  wrong('no greeting', behaving({ welcome: '' }), { fail: ['welcome'], says: { welcome: /no answer in time/ } });
  wrong('a ping without a pong', behaving({ pong: false }), { fail: ['ping'] });
  wrong('the wrong pong', behaving({ pong: 'rotcod' }), { fail: ['ping'] });
  wrong('silence is punished', behaving({ endAfter: 1300 }), { args: ['--doctor-idle', '4s'], fail: ['idle'], says: { idle: /ended after 1 s/ } });
  wrong('no goodbye', behaving({ close: false }), { warn: ['close'] });
});

describe('a gateway without TLS', { timeout: 120000 }, () => {
  it('is told to get it', async () => {
    const cluster = await Cluster.start({ gateways: 1, redis: false, insecure: true });
    const r = await doctor([`https://${HOST}:${cluster.gateways[0].port}`, '--doctor-address', '127.0.0.1']);
    await cluster.stop();
    assert.deepEqual([r.code, r.fail], [1, ['tls']]);
    assert.match(r.said('tls'), /not TLS.*--tls-cert/);
  });
});

describe('what makes no sense', { timeout: 120000 }, () => {
  it('is said on stderr, with status 2 and no verdict', async () => {
    const ok = 'https://im.example.com';
    for (const [args, says] of [[[], /--doctor needs a value: URL/], [[''], /needs a value/], [['nonsense'], /must begin with https/], [['https://'], /no host/], [['https://a.example:0'], /:PORT/], [['https://a.example:99999'], /:PORT/],
      [['https://user:secret@a.example'], /no user and password/], [['https://é.example'], /xn--/], [['https://a!b.example'], /'!'/], [[`https://${'a'.repeat(300)}.example`], /253/], [['https://a.example?token=x'], /path before/],
      [[ok, '--doctor-ca', '/nowhere'], /doctor-ca: \/nowhere/], [[ok, '--doctor-address', 'nowhere'], /doctor-address: "nowhere"/], [[ok, '--doctor-idle', '2h'], /doctor-idle/], [[ok, '--nonsense'], /nonsense/]]) {
      const r = await doctor(args);
      assert.deepEqual([r.code, r.stdout], [2, ''], args.join(' '));
      assert.match(r.stderr, says);
      assert.doesNotMatch(r.stderr, /secret/);
    }
  });
});
