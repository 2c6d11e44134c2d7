// jwt.test.mjs: --auth jwt with tokens made by another implementation (npm jose): every way in, attacks, rights, rotation of keys, expiry, coming back
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Browser } from './lib/browser.mjs';
import { Cluster, gatewayBinary, request } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Key, forge, keySet, now } from './lib/tokens.mjs';
import { until } from './lib/wait.mjs';

const bearer = token => ({ Authorization: `Bearer ${token}` });

describe('clients with tokens', { timeout: 120000 }, () => {
  let cluster, a, b, keys;
  const ALGS = ['HS256', 'HS384', 'HS512', 'RS256', 'ES256', 'EdDSA'], spoken = [];

  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    keys = Object.fromEntries(await Promise.all(ALGS.map(async alg => [alg, await Key.make(alg, `k-${alg}`)])));
    keys.plain = await Key.make('RS256');
    const flags = ['--auth', 'jwt', '--jwt-key', keySet(cluster.dir, 'keys.json', ...ALGS.map(x => keys[x])), '--jwt-key', keys.plain.file(cluster.dir), '--jwt-audience', 'chat', '--jwt-issuer', 'https://id.example',
      '--jwt-leeway', '0s', '--resume-window', '30s', '--log-level', 'debug', '--handshake-timeout', '2s', '--policy', 'open.*', '--policy', '$all publish=token', '--policy', '* join=token publish=token'];
    [a, b] = await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
  });
  after(async () => {
    try {
      for (const g of [a, b]) for (const token of spoken) for (const part of token.split('.').slice(1)) assert.ok(!g.log.includes(part), 'a token is in the log');
    } finally { await cluster.stop(); }
  });

  /** A token that these gateways take, unless `more` spoils it. */
  async function token(sub, xindao, { key = keys.EdDSA, seconds, header, ...more } = {}) {
    const t = await key.sign(sub, { aud: 'chat', iss: 'https://id.example', ...(xindao && { xindao }), ...more }, { seconds, header });
    spoken.push(t);
    return t;
  }
  const come = async (g, sub, xindao, more) => g.client(undefined, { path: `/ws?token=${await token(sub, xindao, more)}` });

  it('comes in with every algorithm, in each of the four ways', async () => {
    for (const [i, key] of [...ALGS.map(x => keys[x]), keys.plain].entries()) {
      const t = await token(`user${i}`, undefined, { key });
      const clients = [await a.client(undefined, { path: `/ws?token=${t}` }), await a.client(undefined, { headers: bearer(t) }), await a.client(`user${i}`, { protocols: [`bearer.${t}`, 'xindao.v1.json'] }),
        await a.client(undefined, { welcome: false })];
      assert.equal(clients[2].ws.protocol, 'xindao.v1.json');
      const ack = await clients[3].call({ type: 'auth', token: t });
      clients[3].welcome = await clients[3].next('welcome');
      assert.equal(ack.expires, clients[3].welcome.expires);
      for (const c of clients) {
        assert.equal(c.welcome.user, `user${i}`);
        assert.ok(Math.abs(c.welcome.expires - now() - 300) < 10);
        await c.join('open.hall');
        await c.close();
      }
    }
  });

  it('refuses with 401 and a reason before the upgrade', async () => {
    const good = await token('alice'), before = await a.metrics(), [head, claims, signature] = good.split('.');
    const pem = keys.plain.pem, claim = { sub: 'alice', exp: now() + 60, aud: 'chat', iss: 'https://id.example' };
    const cases = [
      ['expired', /expired/, await token('alice', undefined, { seconds: -5 })],
      ['not_yet_valid', /not valid yet/, await token('alice', undefined, { nbf: now() + 60 })],
      ['audience', /another audience/, await token('alice', undefined, { aud: 'shop' })],
      ['issuer', /issuer/, await token('alice', undefined, { iss: 'https://evil.example' })],
      ['claims', /"sub"/, await token(undefined)],
      ['unknown_key', /"kid"/, await token('alice', undefined, { header: { kid: 'k-nobody' } })],
      ['signature', /signature/, await token('alice', undefined, { key: await Key.make('EdDSA', 'k-EdDSA') })],
      ['signature', /signature/, `${head}.${claims}.${signature[0] === 'A' ? 'B' : 'A'}${signature.slice(1)}`],
      ['signature', /signature/, `${head}.${claims}.`],
      ['algorithm', /algorithm/, forge({ alg: 'none' }, claim)],
      ['algorithm', /algorithm/, forge({ alg: 'HS256' }, claim, pem)],
      ['algorithm', /algorithm/, forge({ alg: 'HS256', kid: 'k-RS256' }, claim, pem)],
      ['malformed', /not a token/, good.slice(0, -1)],
      ['malformed', /not a token/, `${good}%00`],
      ['malformed', /not a token/, good.replaceAll('.', '%2E')],
      ['malformed', /each member once/, forge({ alg: 'HS256', kid: 'k-HS256' }, `{"sub":"a","sub":"b","exp":${now() + 60}}`, keys.HS256.secret)],
      ['malformed', /each member once/, forge({ alg: 'HS256', kid: 'k-HS256' }, `{"x":${'['.repeat(1500)}`, keys.HS256.secret)],
    ];
    for (const [reason, message, bad] of cases) {
      const e = await a.client(undefined, { path: `/ws?token=${bad}` }).then(() => assert.fail(`${reason} ${bad} was let in`), x => x);
      assert.equal(e.status, 401, `${reason}: ${e.message}`);
      assert.equal(JSON.parse(e.body).code, 'unauthorized');
      assert.match(JSON.parse(e.body).message, message);
      assert.equal(e.headers['www-authenticate'], 'Bearer');
    }
    const twice = await a.client(undefined, { path: `/ws?token=${good}`, headers: bearer(good) }).catch(x => x);
    assert.match(twice.body, /more than one/);
    const other = await a.client('bob', { headers: bearer(good) }).catch(x => x);
    assert.match(other.body, /another user/);
    assert.equal((await a.client(undefined, { path: `/ws?token=${'a'.repeat(5000)}` }).catch(x => x)).status, 414);
    const after = await a.metrics();
    for (const reason of new Set(cases.map(c => c[0]))) {
      const want = cases.filter(c => c[0] === reason).length;
      assert.equal(after.sum('xindao_auth_refused_total', { reason }) - before.sum('xindao_auth_refused_total', { reason }), want, reason);
    }
  });

  it('asks for the token first, and waits for it only so long', async () => {
    const silent = await a.client(undefined, { welcome: false }), loud = await a.client(undefined, { welcome: false });
    assert.equal((await loud.refused({ type: 'join', room: 'open.hall' })).code, 'unauthorized');
    assert.equal((await loud.refused({ type: 'auth', token: (await token('x')).slice(1) })).code, 'unauthorized');
    assert.equal((await loud.closed).code, 4001);
    const eager = await a.client(undefined, { welcome: false });
    eager.send({ type: 'auth', token: await token('eager') });
    const joined = eager.join('open.hall');
    assert.equal((await eager.next('welcome')).user, 'eager');
    await joined;
    await eager.close();
    assert.match((await silent.next('error')).message, /no token in 2 seconds/);
    assert.equal((await silent.closed).code, 4001);
  });

  it('lets the token say who may do what, on every node, and shows its attributes in Redis', async () => {
    const room = unique('game'), own = unique('own');
    const alice = await come(a, 'alice', { join: [`${room}*`], publish: [room, '$all'], rooms: [own], attributes: { level: 7 } });
    const joined = await alice.next('joined');
    assert.deepEqual([joined.room, joined.total], [own, 1]);
    const bob = await come(b, 'bob', { join: [room] });
    await alice.join(room); await bob.join(room);
    await alice.publish(room, 'move');
    assert.equal((await bob.message(room)).from.user, 'alice');
    assert.equal((await bob.refused({ type: 'publish', room, data: 1 })).code, 'forbidden');
    assert.equal((await bob.refused({ type: 'broadcast', data: 1 })).code, 'forbidden');
    for (const type of ['join', 'presence', 'history']) assert.equal((await bob.refused({ type, room: own })).code, 'forbidden', type);
    await alice.call({ type: 'broadcast', data: 'all' });
    assert.equal((await bob.message('$all')).data, 'all');
    const record = await cluster.redis.hash(`xd:session:{${alice.session}}`);
    assert.deepEqual(JSON.parse(record.attributes), { level: 7 });
    // the HTTP API asks for the same token
    const http = (path, headers) => request(b.port, path, { ca: cluster.ca, headers });
    assert.equal((await http(`/api/v1/rooms/${room}`)).status, 401);
    assert.equal((await http('/api/v1/rooms')).status, 401);
    assert.equal((await http(`/api/v1/rooms/${room}`, bearer(await token('bob')))).status, 403);
    const shown = await http(`/api/v1/rooms/${room}`, bearer(await token('bob', { join: [room] })));
    assert.deepEqual(shown.json.members.map(m => m.user).sort(), ['alice', 'bob']);
    const listed = (await http('/api/v1/rooms', bearer(await token('bob', { join: [room] })))).json.rooms.map(r => r.room);
    assert.ok(listed.includes(room) && !listed.includes(own), JSON.stringify(listed));
    assert.equal((await http(`/api/v1/rooms/${room}/history`, bearer(await token('x')))).status, 403);
    assert.equal((await http(`/api/v1/rooms/${room}/history?token=${await token('x', { join: [room] })}`)).json.messages.length, 1);
    await alice.close(); await bob.close();
  });

  it('disconnects when the token expires, unless a fresh one has come; the session is resumed with a fresh one alone', async () => {
    const room = unique('open.'), alice = await come(a, 'alice', undefined, { seconds: 2 }), bob = await come(b, 'bob', undefined, { seconds: 2 });
    const { position } = await alice.join(room);
    await bob.join(room);
    assert.equal((await bob.refused({ type: 'auth', token: await token('alice') })).message, 'the token is another user\'s');
    const ack = await bob.call({ type: 'auth', token: await token('bob', undefined, { seconds: 60 }) });
    assert.ok(ack.expires > now() + 50);
    assert.deepEqual(await alice.next('error').then(e => [e.code, e.message]), ['unauthorized', 'token expired']);
    assert.equal((await alice.closed).code, 4001);
    await bob.next('suspend');
    await bob.publish(room, 'missed');
    const back = { type: 'resume', session: alice.session, token: alice.welcome.token, positions: [{ room, position }] };
    const nobody = await b.client(undefined, { welcome: false });
    assert.equal((await nobody.refused(back)).code, 'unauthorized', 'without a token');
    await nobody.drop();
    assert.equal((await (await come(b, 'mallory')).refused(back)).code, 'unauthorized', 'as somebody else');
    const again = await come(b, 'alice', undefined, { seconds: 60 });
    again.send({ id: 1, ...back });
    const welcome = await again.next(f => f.type === 'welcome' && f.resumed);
    assert.deepEqual([welcome.session, welcome.user], [alice.session, 'alice']);
    assert.equal((await again.next('recovered')).recovered, true);
    assert.equal((await again.message(room)).data, 'missed');
    await bob.settle();
    assert.equal(bob.end, undefined, 'a fresh token keeps the connection');
    await again.close(); await bob.close();
  });
});

describe('a browser with a token', { timeout: 120000 }, () => {
  let cluster, gw, browser, key;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: false });
    key = await Key.make('ES256');
    [gw, browser] = await Promise.all([cluster.add('gw1', { flags: ['--auth', 'jwt', '--jwt-key', key.file(cluster.dir)] }), Browser.start()]);
  });
  after(async () => { try { await browser?.stop(); } finally { await cluster.stop(); } });

  it('passes it as a subprotocol, and the demo page does so too', async () => {
    const token = await key.sign('小明'), page = await browser.page();
    await page.open(`https://127.0.0.1:${gw.port}/?token=${token}`);
    const dial = protocols => page.run(list => new Promise(yes => {
      const ws = new WebSocket(`wss://${location.host}/ws`, list);
      ws.onmessage = e => { yes([ws.protocol, JSON.parse(e.data).user]); ws.close(); };
      ws.onclose = e => yes(e.code);
    }), protocols);
    assert.deepEqual(await dial(['xindao.v1.json', `bearer.${token}`]), ['xindao.v1.json', '小明']);
    assert.equal(await dial([`bearer.${token}`]), 1006, 'a browser insists on a subprotocol in the answer');
    assert.equal(await dial(['xindao.v1.json', 'bearer.x']), 1006);
    page.problems.length = 0;
    await page.type('#nick', 'whoever');
    await page.click('#enter');
    await page.until(() => document.querySelector('#app').dataset.phase === 'online', 'the page to be online');
    await page.until(() => document.querySelector('#me-name').textContent === '小明', 'the name of the token to be shown');
    await page.type('#text', 'signed'); await page.key('Enter');
    await page.until(() => [...document.querySelectorAll('.own')].some(e => e.dataset.state === 'sent'), 'the message to be delivered');
    assert.deepEqual(page.problems, []);
    assert.equal((await page.run(async t => (await fetch('/api/v1/rooms', { headers: { Authorization: `Bearer ${t}` } })).status, token)), 200);
  });
});

describe('keys that change', { timeout: 120000 }, () => {
  let cluster, gw, conf, one, two, three;
  const write = options => writeFileSync(conf, JSON.stringify({ auth: 'jwt', ...options }));
  const hup = async () => {
    const lines = gw.log.length;
    gw.process.signal('SIGHUP');
    await until(() => / reloaded| reload refused/.test(gw.log.slice(lines)), { what: 'the reload' });
    return gw.log.slice(lines);
  };
  const come = async (key, sub) => gw.client(undefined, { path: `/ws?token=${await key.sign(sub)}` });
  const refused = async key => (await come(key, 'x').then(() => assert.fail('was let in'), e => e)).status;

  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: false });
    conf = join(cluster.dir, 'gateway.json');
    [one, two, three] = await Promise.all([Key.make('ES256', '2026-01'), Key.make('EdDSA', '2026-02'), Key.make('RS256', '2026-03')]);
    write({ 'jwt-key': [keySet(cluster.dir, 'set.json', one), `${three.kid}=${three.file(cluster.dir)}`] });
    gw = await cluster.add('gw1', { flags: ['--config', conf] });
  });
  after(() => cluster.stop());

  it('SIGHUP takes new keys and drops old ones, and nobody who is there notices', async () => {
    const room = unique(), early = await come(one, 'early');
    await early.join(room);
    await (await come(three, 'pem')).close();
    assert.equal(await refused(two), 401);
    keySet(cluster.dir, 'set.json', one, two);
    assert.equal(await refused(two), 401, 'not before the signal');
    assert.match(await hup(), /token keys loaded.*keys=3/);
    const late = await come(two, 'late');
    await late.join(room);
    await (await come(one, 'still')).close();
    keySet(cluster.dir, 'set.json', two);
    await hup();
    assert.equal(await refused(one), 401);
    await late.publish(room, 'hello');
    assert.equal((await early.message(room)).data, 'hello');
    await early.close(); await late.close();
  });

  it('keeps the old keys when the new ones are bad, and says what is wrong', async () => {
    const there = await come(two, 'there'), set = join(cluster.dir, 'set.json'), good = readFileSync(set);
    for (const [bad, why] of [['', /a secret of 0 bytes/], ['{"keys":[]}', /no key to check signatures with/], ['{"keys":[{"kty":"EC"', /set\.json:1:/], ['{"keys":[{"kty":"oct","alg":"HS256","k":"AAAA"}]}', /set\.json, key 1: a secret of 3 bytes/]]) {
      writeFileSync(set, bad);
      const said = await hup();
      assert.match(said, /ERROR.*token keys not reloaded: the old ones stay/);
      assert.match(said, why);
      await (await come(two, 'x')).close();
    }
    writeFileSync(set, good);
    write({ 'jwt-key': [set, '/nowhere/key.pem'] });
    assert.match(await hup(), /nowhere\/key\.pem: No such file/);
    await (await come(three, 'x')).close();
    write({ 'jwt-key': [] });
    assert.match(await hup(), /reload refused: nothing has changed.*jwt-key/);
    await there.settle();
    await there.close();
  });

  it('--check-config looks into key files', async () => {
    const check = (...args) => new Promise(yes => {
      execFile(gatewayBinary(), ['--check-config', '--insecure', ...args], { timeout: 15000 }, (e, stdout, stderr) => yes([e ? e.code : 0, stdout + stderr]));
    });
    const cases = [
      [['--auth', 'jwt'], /auth jwt without jwt-key/],
      [['--jwt-key', 'x'], /jwt-key without auth jwt/],
      [['--jwt-audience', 'x'], /jwt-audience without auth jwt/],
      [['--policy', 'a join=token'], /policy a: join=token or publish=token needs --auth jwt/],
      [['--auth', 'jwt', '--jwt-key', '/nowhere.pem'], /jwt-key \/nowhere\.pem: No such file/],
      [['--auth', 'jwt', '--jwt-key', cluster.key], /key\.pem: a private key; give the public one/],
      [['--auth', 'jwt', '--jwt-key', cluster.cert], /cert\.pem: a certificate; give its key/],
      [['--auth', 'jwt', '--jwt-key', '/etc/hostname'], /hostname: a secret of \d+ bytes; HS256 needs at least 32/],
    ];
    for (const [args, want] of cases) {
      const [code, said] = await check(...args);
      assert.equal(code, 2, said);
      assert.match(said, want);
    }
    assert.deepEqual(await check('--auth', 'jwt', '--jwt-key', three.file(cluster.dir)), [0, 'configuration ok\n']);
  });
});
