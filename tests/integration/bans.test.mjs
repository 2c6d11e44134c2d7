// bans.test.mjs: banned users and revoked tokens on two nodes: while connected, while parked, when coming; and limits of the whole cluster, measured
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, request } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Key, now } from './lib/tokens.mjs';
import { sleep, until } from './lib/wait.mjs';

const ADMIN = 'xdk_integration_admin_0123456789abcdef', READER = 'xdk_integration_reader_0123456789abcdef';
const SOON_MS = 3000; // what is to happen at once, on a machine that is busy

function writeKeys(dir) {
  const file = join(dir, 'keys.json'), sha256 = key => createHash('sha256').update(key).digest('hex');
  writeFileSync(file, JSON.stringify({ keys: [{ name: 'admin', sha256: sha256(ADMIN), scopes: ['admin'], rate: 0 }, { name: 'reader', sha256: sha256(READER), scopes: ['users:read'] }] }));
  return file;
}

async function api(g, method, path, body, { status = 200, key = ADMIN } = {}) {
  const r = await request(g.port, `/api/v1${path}`, { method, ca: g.cluster?.ca ?? g.ca, headers: key ? { Authorization: `Bearer ${key}` } : {}, body: body === undefined ? undefined : JSON.stringify(body) });
  assert.equal(r.status, status, `${method} ${path}: ${r.status} ${r.text}`);
  return r.json;
}

describe('bans', { timeout: 60000 }, () => {
  let cluster, a, b;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const flags = ['--api-keys', writeKeys(cluster.dir), '--resume-window', '30s'];
    [a, b] = await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    a.ca = b.ca = cluster.ca;
  });
  after(() => cluster.stop());

  /** The error that a client gets instead of a welcome. */
  async function turnedAway(g, id) {
    const c = await g.client(id, { welcome: false }), error = await c.next('error');
    return { ...error, close: await c.closed };
  }

  it('ends all sessions of a user, wherever they are, and lets nobody in', async () => {
    const room = unique(), user = unique(), until_ = Date.now() + 3600e3;
    const here = await a.client(user), there = await b.client(user), away = await b.client(user), bob = await a.client('bob');
    for (const c of [bob, here, there, away]) await c.join(room);
    away.ws.terminate();
    await bob.next('suspend');
    const answer = await api(a, 'PUT', `/users/${user}/ban`, { reason: 'spam & "worse"', until: until_ });
    assert.deepEqual(answer, { user, reason: 'spam & "worse"', until: until_, by: 'admin' });
    const began = Date.now();
    for (const c of [here, there]) {
      const error = await c.next('error');
      assert.deepEqual([error.code, error.reason, error.until, error.retry], ['banned', 'spam & "worse"', until_, undefined]);
      assert.deepEqual(await c.closed, { code: 4004, reason: 'banned' });
    }
    assert.ok(Date.now() - began < SOON_MS);
    const exits = [await bob.next('exit'), await bob.next('exit'), await bob.next('exit')];
    assert.deepEqual(exits.map(x => x.session).sort(), [here, there, away].map(c => c.session).sort());
    assert.deepEqual(exits.map(x => x.reason), ['kicked', 'kicked', 'kicked']);
    assert.deepEqual(await cluster.redis.keys(`xd:session:{${away.session}}*`), []);
    for (const g of [a, b]) {
      const { code, until: end, close } = await turnedAway(g, user);
      assert.deepEqual([code, end, close.code], ['banned', until_, 4004]);
    }
    // He is nobody, and then asks for his old session.
    const nobody = await b.client(undefined);
    await assert.rejects(nobody.call({ type: 'resume', session: away.session, token: away.welcome.token }), { code: 'not_found' });
    await Promise.all([bob.close(), nobody.close()]);
  });

  it('finds a ban that redis-cli wrote when a session is resumed, and ends it', async () => {
    const user = unique(), room = unique(), alice = await a.client(user), bob = await b.client('bob');
    await bob.join(room);
    await alice.join(room);
    alice.ws.terminate();
    await bob.next('suspend');
    await until(async () => (await cluster.redis.hash(`xd:session:{${alice.session}}`)).state === 'parked', { what: 'the session to be parked' });
    await cluster.redis.cli('HSET', `xd:ban:{${user}}`, 'user', user, 'since', String(Date.now()));
    const back = await b.client(undefined);
    await assert.rejects(back.call({ type: 'resume', session: alice.session, token: alice.welcome.token }), { code: 'banned' });
    assert.equal((await back.closed).code, 4004);
    assert.equal((await bob.next('exit')).session, alice.session);
    assert.equal((await api(a, 'GET', '/bans?limit=1000')).bans.filter(x => x.user === user).length, 1); // it has entered the list
    await bob.close();
  });

  it('is over when it is over, or taken back', async () => {
    const user = unique();
    assert.equal((await api(a, 'PUT', `/users/${user}/ban`, { for: 100 })).reason, null);
    assert.equal((await turnedAway(b, user)).code, 'banned');
    const ban = await api(b, 'GET', `/users/${user}/ban`, undefined, { key: READER }), left = Number(await cluster.redis.cli('PTTL', `xd:ban:{${user}}`));
    assert.ok(Math.abs(ban.until - ban.since - 100e3) < 5000 && left > 60e3 && left <= 100e3, JSON.stringify({ ban, left }));
    await cluster.redis.cli('PEXPIRE', `xd:ban:{${user}}`, '0'); // a hundred seconds go by
    await api(a, 'GET', `/users/${user}/ban`, undefined, { status: 404 });
    await (await a.client(user)).close();
    await api(a, 'PUT', `/users/${user}/ban`);
    await api(b, 'DELETE', `/users/${user}/ban`);
    await api(b, 'DELETE', `/users/${user}/ban`, undefined, { status: 404 });
    await (await a.client(user)).close();
  });

  it('lists them in pages', async () => {
    const users = Array.from({ length: 5 }, () => unique());
    for (const [i, user] of users.entries()) await api(a, 'PUT', `/users/${user}/ban`, { for: 1000 + i });
    const seen = [];
    for (let cursor = ''; cursor !== null;) {
      const page = await api(b, 'GET', `/bans?limit=2${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      assert.ok(page.bans.length <= 2);
      seen.push(...page.bans.map(x => x.user));
      cursor = page.next;
    }
    assert.deepEqual(seen.filter(u => users.includes(u)), users);
  });

  it('is for who may, and for what makes sense', async () => {
    const user = unique();
    await api(a, 'PUT', `/users/${user}/ban`, {}, { key: null, status: 401 });
    await api(a, 'PUT', `/users/${user}/ban`, {}, { key: READER, status: 403 });
    await api(a, 'POST', '/tokens/revoke', { user }, { key: READER, status: 403 });
    for (const body of [{ until: 5 }, { until: 'tomorrow' }, { for: 0 }, { for: 1.5 }, { until: Date.now() + 1e6, for: 5 }, { reason: 7 }, { reason: '' }, { reason: 'x'.repeat(256) }, [], 'x'])
      await api(a, 'PUT', `/users/${user}/ban`, body, { status: 400 });
    await api(a, 'PUT', `/users/${'u'.repeat(129)}/ban`, {}, { status: 400 });
    for (const body of [{}, { user, jti: 'x' }, { jti: 'x', before: 5 }, { user: '' }, { user, before: 'now' }, { user, expires: now() - 5 }])
      await api(a, 'POST', '/tokens/revoke', body, { status: 400 });
    await api(a, 'GET', '/bans?cursor=nonsense', undefined, { status: 400 });
    await api(a, 'GET', `/users/${user}/ban`, undefined, { status: 404 });
  });
});

describe('revoked tokens', { timeout: 60000 }, () => {
  let cluster, a, b, key;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    key = await Key.make('EdDSA');
    const flags = ['--auth', 'jwt', '--jwt-key', key.file(cluster.dir), '--api-keys', writeKeys(cluster.dir), '--resume-window', '30s'];
    [a, b] = await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    a.ca = b.ca = cluster.ca;
  });
  after(() => cluster.stop());

  const come = async (g, sub, claims, more) => g.client(undefined, { path: `/ws?token=${await key.sign(sub, claims)}`, ...more });

  it('by its name: whoever has it is closed, and comes back with another', async () => {
    const user = unique(), jti = unique(), room = unique(), c = await come(b, user, { jti }), other = await come(a, user, { jti: unique() });
    await c.join(room);
    await api(a, 'POST', '/tokens/revoke', { jti, expires: now() + 300 });
    const error = await c.next('error');
    assert.deepEqual([error.code, error.message], ['unauthorized', 'the token has been revoked']);
    assert.deepEqual(await c.closed, { code: 4001, reason: 'unauthorized' });
    const refused = await come(a, user, { jti }, { welcome: false });
    assert.equal((await refused.next('error')).code, 'unauthorized');
    assert.equal((await refused.closed).code, 4001);
    await assert.rejects(other.call({ type: 'auth', token: await key.sign(user, { jti }) }), { code: 'unauthorized' });
    const back = await come(a, user, { jti: unique() });
    back.ws.send(JSON.stringify({ type: 'resume', session: c.session, token: c.welcome.token }));
    await back.next(f => f.type === 'welcome' && f.resumed);
    assert.equal((await back.next('recovered')).room, room);
    assert.equal(await cluster.redis.cli('HGET', `xd:revoked:token:{${jti}}`, 'by'), 'admin');
    await Promise.all([back.close(), other.close()]);
  });

  it('of a user, before a time', async () => {
    const user = unique(), old = await come(b, user, { iat: now() - 100 }), none = await come(a, user), fresh = await come(a, user, { iat: now() - 10 });
    await api(a, 'POST', '/tokens/revoke', { user, before: now() - 50 });
    for (const c of [old, none]) assert.equal((await c.closed).code, 4001);
    const again = await come(b, user, { iat: now() - 100 }, { welcome: false });
    assert.equal((await again.closed).code, 4001);
    await fresh.join(unique()); // it is still there
    // Log out everywhere: the present second included.
    const { before } = await api(a, 'POST', '/tokens/revoke', { user });
    assert.ok(before > now() - 5);
    assert.equal((await fresh.closed).code, 4001);
    await (await come(b, user, { iat: before })).close();
  });

  it('concerns what a node has missed while its link was away', async () => {
    const user = unique(), c = await come(b, user, { iat: now() - 100 });
    await cluster.redis.cli('HSET', `xd:revoked:user:{${user}}`, 'user', user, 'before', String(now())); // and nobody is told
    await c.join(unique());
    await cluster.redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub');
    assert.equal((await c.closed).code, 4001);
  });
});

describe('limits of the whole cluster', { timeout: 60000, concurrency: true }, () => {
  let cluster, a, b, eight;
  const RATE = 40;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const flags = ['--message-rate', '0', '--user-rate', String(RATE), '--policy', `hall cluster-rate=${RATE} retain-count=0`, '--policy', '*'];
    [a, b] = await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    eight = [a, a, a, a, b, b, b, b]; // few errors for each: who is told too many is closed
  });
  after(() => cluster.stop());

  /** Everybody sends so many frames a second for so long; how many were not refused. */
  async function flood(clients, perSecond, seconds, frame) {
    let sent = 0, refused = 0;
    const failures = [];
    const began = Date.now();
    const one = async c => {
      for (let i = 0; Date.now() - began < seconds * 1000; i++) {
        sent++;
        c.call(frame(i)).catch(e => { refused++; if (e.code !== 'rate_limited' || !e.retry) failures.push(e); });
        const due = began + (i + 1) * 1000 / perSecond - Date.now();
        if (due > 0) await sleep(due);
      }
    };
    await Promise.all(clients.map(one));
    await sleep(200);
    assert.deepEqual(failures, []);
    return { sent, granted: sent - refused };
  }

  it('one user on two nodes has no more than one on one', async t => {
    const user = unique(), clients = await Promise.all(eight.map(g => g.client(user)));
    const { sent, granted } = await flood(clients, RATE / 4, 5, () => ({ type: 'ping' }));
    const limit = 5 * RATE + RATE; // and the burst
    t.diagnostic(`${granted} of ${sent} in 5 s, the limit is ${limit}: ${Math.round(100 * (granted / limit - 1))} %`);
    assert.ok(granted > 0.75 * limit && granted < 1.25 * limit, `${granted} of ${sent}; the limit is ${limit}`);
    const refused = (await a.metrics()).sum('xindao_limited_total', { subject: 'user' }) + (await b.metrics()).sum('xindao_limited_total', { subject: 'user' });
    assert.equal(refused, sent - granted);
    assert.ok(Number(await cluster.redis.cli('EXISTS', `xd:limit:{user:${user}}`)));
  });

  it('one room on two nodes, with different users', async t => {
    const clients = await Promise.all(eight.map(g => g.client(unique())));
    await Promise.all(clients.map(c => c.join('hall')));
    const { sent, granted } = await flood(clients, RATE / 4, 4, i => ({ type: 'publish', room: 'hall', data: i }));
    const limit = 4 * RATE + RATE;
    t.diagnostic(`${granted} of ${sent} in 4 s, the limit is ${limit}: ${Math.round(100 * (granted / limit - 1))} %`);
    assert.ok(granted > 0.75 * limit && granted < 1.25 * limit, `${granted} of ${sent}; the limit is ${limit}`);
    await Promise.all(clients.map(c => c.close()));
  });
});
