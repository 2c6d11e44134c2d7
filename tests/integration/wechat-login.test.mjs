// wechat-login.test.mjs: clients that come in with a code of wx.login, over both protocols and on two gateways: they get a token and need no other code
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as jose from 'jose';
import WebSocket from 'ws';
import { connect } from '../../sdk/js/xindao.js';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, events, io2, io4 } from './lib/sockets.mjs';
import { Key } from './lib/tokens.mjs';
import { WeChat } from './lib/wechat.mjs';
import { PATIENCE_MS, until, within } from './lib/wait.mjs';

const APP = 'wx0123456789abcdef', GAME = 'wxgame', ALL = 'wxall';

describe('logging in at WeChat directly', { timeout: 120000 }, () => {
  let cluster, wechat, key, sockets, file, api;
  const list = [{ appid: APP, secret: 's1', address_rate: 0, xindao: { join: ['vip.*'], rooms: ['lobby'], attributes: { from: 'wechat' } } },
    { appid: GAME, secret: 's2', address_rate: 1, token_seconds: 60 }, { appid: ALL, secret: 's3', address_rate: 0, user: 'unionid' }];
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    wechat = await WeChat.start({ [APP]: 's1', [GAME]: 's2', [ALL]: 's3' }, { tls: cluster });
    key = await Key.make('HS256', 'k1');
    file = join(cluster.dir, 'apps.json');
    const keys = join(cluster.dir, 'api.json');
    writeFileSync(file, JSON.stringify({ apps: list, default: APP }));
    api = 'xdk_test-wechat-login-key';
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'test', sha256: createHash('sha256').update(api).digest('hex'), scopes: ['admin'] }] }));
    const flags = ['--auth', 'jwt', '--jwt-key', `k1=${key.file(cluster.dir)}`, '--jwt-audience', 'chat', '--jwt-issuer', 'us', '--wechat-login', '--wechat-apps', file, '--wechat-url', wechat.url, '--wechat-ca', join(cluster.dir, 'ca.pem'),
      '--wechat-timeout', '500ms', '--resume-window', '20s', '--api-keys', keys, '--policy', 'vip.* join=token', '--socketio-namespace', '/admin'];
    await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    cluster.gateways.sort((a, b) => a.name.localeCompare(b.name));
    sockets = new Sockets(cluster);
  });
  after(async () => {
    sockets?.close();
    await cluster.stop();
    await wechat.stop();
    assert.deepEqual(wechat.problems, []);
  });

  const open = (n, options = {}) => cluster.client(n, undefined, { welcome: false, ...options });
  /** Logs in with a code; the ack, and the welcome and token that follow. */
  const enter = async (n, frame, options) => {
    const c = await open(n, options), ack = await c.call({ type: 'auth', ...frame });
    c.welcome = await c.next('welcome');
    c.session = c.welcome.session;
    return { c, ack, token: await c.next('token') };
  };
  const closed = c => within(c.closed, PATIENCE_MS, 'the close');

  it('native: a code lets in, and the token that comes for it does so again, on the other gateway, as the same user with the same session', async () => {
    const { code } = wechat.code(APP, 'oAlice'), { c, ack, token } = await enter(0, { code });
    assert.deepEqual([c.welcome.user, token.user, token.expires, ack.expires], [`${APP}:oAlice`, `${APP}:oAlice`, c.welcome.expires, c.welcome.expires]);
    const { payload, protectedHeader } = await jose.jwtVerify(token.token, key.private, { audience: 'chat', issuer: 'us' });
    assert.deepEqual([protectedHeader.alg, protectedHeader.kid, payload.sub, payload.exp - payload.iat], ['HS256', 'k1', `${APP}:oAlice`, 7 * 24 * 3600]);
    assert.match(payload.jti, /^[\w-]{16}$/);
    await c.next(f => f.type === 'joined' && f.room === 'lobby');
    await c.join('vip.1');
    c.ws.terminate();
    await closed(c);
    const asked = wechat.asked.length, d = await cluster.client(1, undefined, { path: `/ws?token=${token.token}` });
    assert.equal(d.welcome.user, `${APP}:oAlice`);
    const back = await within((d.send({ type: 'resume', id: 1, session: c.session, token: c.welcome.token }), d.next(f => f.type === 'welcome' && f.resumed)), PATIENCE_MS, 'the session');
    assert.equal(back.session, c.session);
    assert.equal(wechat.asked.length, asked, 'WeChat was not asked again');
    assert.ok(!cluster.gateways.some(g => g.log.includes(token.token) || g.log.includes(code)));
    await d.close();
  });

  it('frames behind the code wait for the session', async () => {
    const c = await open(0), room = unique();
    c.send({ type: 'auth', id: 1, code: wechat.code(APP, 'oQuick').code });
    c.send({ type: 'join', id: 2, room });
    c.send({ type: 'ping', id: 3 });
    assert.deepEqual([(await c.next(f => f.id === 1)).type, (await c.next('welcome')).user, (await c.next(f => f.id === 2)).total, (await c.next(f => f.id === 3)).type], ['ack', `${APP}:oQuick`, 1, 'pong']);
    await c.close();
  });

  it('which app: the client says it, the Referer hints at it, or it is the default; a code tells whether that is true', async () => {
    const referer = appid => ({ headers: { Referer: `https://servicewechat.com/${appid}/12/page-frame.html` } });
    const user = async (...args) => { const { c } = await enter(...args); await c.close(); return c.welcome.user; };
    assert.equal(await user(0, { code: wechat.code(ALL, 'oA', { unionid: 'uA' }).code, appid: ALL }), 'unionid:uA');
    assert.equal(await user(0, { code: wechat.code(ALL, 'oA', { unionid: 'uA' }).code }, referer(ALL)), 'unionid:uA');
    assert.equal(await user(0, { code: wechat.code(APP, 'oA').code }, referer('wxnobody')), `${APP}:oA`);
    assert.equal(await user(0, { code: wechat.code(APP, 'oA').code, appid: APP }, referer(ALL)), `${APP}:oA`, 'what it says counts more');
    for (const [frame, options, says] of [[{ code: wechat.code(APP, 'oA').code }, referer(ALL), 'unauthorized'], [{ code: wechat.code(APP, 'oA').code, appid: ALL }, {}, 'unauthorized'],
      [{ code: 'x', appid: 'wxnobody' }, {}, 'bad_request'], [{ code: wechat.code(ALL, 'oA').code, appid: ALL }, {}, 'forbidden']]) {
      const c = await open(1, options);
      assert.equal((await c.refused({ type: 'auth', ...frame })).code, says, JSON.stringify(frame));
      assert.equal((await closed(c)).code, 4001);
    }
  });

  it('codes that are none, used before, too long; both a code and a token; another user than the URL says', async () => {
    const once = wechat.code(APP, 'oOnce');
    await (await enter(0, { code: once.code })).c.close();
    for (const [frame, says] of [[{ code: once.code }, 'unauthorized'], [{ code: 'nonsense' }, 'unauthorized'], [{ code: 'x'.repeat(300) }, 'bad_request']]) {
      const c = await open(0);
      assert.equal((await c.refused({ type: 'auth', ...frame })).code, says);
      assert.equal((await closed(c)).code, 4001);
    }
    const c = await open(0);
    assert.equal((await c.refused({ type: 'auth', code: 'x', token: 'y' })).code, 'bad_request');
    assert.equal((await c.refused({ type: 'auth' })).code, 'bad_request');
    assert.equal((await c.refused({ type: 'auth', code: 1 })).code, 'bad_request');
    c.ws.terminate();
    const other = await cluster.client(0, 'mallory', { welcome: false });
    assert.equal((await other.refused({ type: 'auth', code: wechat.code(APP, 'oAlice').code })).code, 'unauthorized');
    const same = await cluster.client(0, `${APP}:oAlice`, { welcome: false });
    assert.equal((await same.call({ type: 'auth', code: wechat.code(APP, 'oAlice').code })).type, 'ack');
    assert.equal((await same.next('welcome')).user, `${APP}:oAlice`);
    assert.equal((await same.refused({ type: 'auth', code: 'x' })).code, 'unsupported', 'it is in already');
    await same.close();
  });

  for (const [io, name] of [[io4, '4.x'], [io2, '2.x']]) {
    it(`Socket.IO ${name}: the same; the event $token brings the token, and other namespaces of the connection need no code`, async () => {
      const login = wechat.code(APP, `oSio-${name}`), proof = p => (io === io4 ? { auth: p } : { query: p });
      const s = await sockets.connected(io, 0, '/', proof({ code: login.code, appid: APP }));
      await until(() => events(s, '$token').length === 1, { what: 'the token' });
      const [[{ type, token, user }]] = events(s, '$token'), asked = wechat.asked.length;
      assert.deepEqual([type, user], ['token', `${APP}:oSio-${name}`]);
      const admin = s.io.socket('/admin', { auth: {} });
      await within(new Promise((yes, no) => { admin.once('connect', yes); admin.once('connect_error', no); admin.once('error', e => no(new Error(JSON.stringify(e)))); }), PATIENCE_MS, 'the other namespace');
      const t = await sockets.connected(io, 1, '/', proof({ token }));
      assert.equal(wechat.asked.length, asked, 'WeChat was not asked again');
      const native = await cluster.client(0, undefined, { path: `/ws?token=${await key.sign('native', { aud: 'chat', iss: 'us' })}` });
      await native.call({ type: 'send', to: { user }, data: 'psst' });
      await until(() => [s, t].every(x => events(x, 'message').length === 1), { what: () => `both sockets of the user to hear it: ${JSON.stringify([s.heard, t.heard, s.ends, t.ends])}`, ms: 5000 });
      const bad = sockets.connect(io, 0, '/', proof({ code: login.code, appid: APP }));
      const why = await within(new Promise(yes => { bad.once('connect_error', yes); bad.once('error', yes); }), PATIENCE_MS, 'a refusal');
      assert.match(why.message ?? why, /WeChat does not take the code/);
      await native.close();
      sockets.close();
    });
  }

  it('Socket.IO: what is said right behind the code is heard by the session', async () => {
    const ws = new WebSocket(`${cluster.gateways[0].url}/socket.io/?EIO=4&transport=websocket`, { ca: cluster.ca }), heard = [];
    ws.on('message', d => heard.push(d.toString()));
    await new Promise(yes => ws.once('open', yes));
    ws.send(`40${JSON.stringify({ code: wechat.code(APP, 'oRaw').code })}`);
    ws.send('421["join","raw-room"]');
    await until(() => heard.some(h => h.startsWith('431')), { what: 'the ack' });
    assert.deepEqual(heard.map(h => h.slice(0, 2)).filter(h => h !== '42'), ['0{', '40', '43']);
    ws.send('40/admin,{"code":"x","token":"y"}');
    await until(() => heard.some(h => h.startsWith('44/admin,')), { what: 'a refusal: the token counts' });
    ws.close();
  });

  it('whoever is banned is not let in by a code either; logins of one address are limited', async () => {
    const request = (method, path, body) => cluster.gateways[0].get(path, { method, body: body && JSON.stringify(body), headers: { Authorization: `Bearer ${api}`, 'Content-Type': 'application/json' } });
    assert.equal((await request('PUT', `/api/v1/users/${encodeURIComponent(`${APP}:oBanned`)}/ban`, { reason: 'spam' })).status, 200);
    const c = await open(1);
    c.send({ type: 'auth', id: 1, code: wechat.code(APP, 'oBanned').code });
    assert.equal((await c.next(f => f.type === 'error')).code, 'banned');
    await closed(c);
    const results = await Promise.all(Array.from({ length: 8 }, async () => {
      const g = await open(0);
      return g.call({ type: 'auth', code: wechat.code(GAME, 'oMany').code, appid: GAME }).then(() => 'in', e => e.code).finally(() => g.ws.terminate());
    }));
    assert.deepEqual([results.filter(r => r === 'in').length, results.filter(r => r === 'rate_limited').length], [4, 4]);
  });

  it('WeChat is away, or slow, or says no: told so, to come again later', async () => {
    for (const [how, says] of [[{ broken: { status: 502 } }, /does not work/], [{ broken: { json: { errcode: 40125 } } }, /40125/], [{ broken: { text: '?' } }, /understood/], [{ mute: true }, /in time/]]) {
      Object.assign(wechat, how);
      const c = await open(0), e = await c.refused({ type: 'auth', code: wechat.code(APP, 'oAway').code });
      Object.assign(wechat, { broken: undefined, mute: false });
      assert.deepEqual([e.code, says.test(e.message)], ['unavailable', true], e.message);
      assert.ok((await c.next('goodbye')).reconnect_after >= 1000);
      assert.equal((await closed(c)).code, 1013);
      await (await enter(0, { code: wechat.code(APP, 'oAway').code })).c.close();
    }
    const before = await cluster.gateways[0].metrics();
    wechat.mute = true;
    const gone = await open(0), s = sockets.connect(io4, 0, '/', { auth: { code: wechat.code(APP, 'oGone').code } }), asked = wechat.asked.length;
    gone.send({ type: 'auth', code: wechat.code(APP, 'oGone').code });
    await until(() => wechat.asked.length >= asked + 1, { what: 'WeChat to be asked' });
    gone.ws.terminate();
    s.close();
    await cluster.gateways[0].counted(before, 'xindao_wechat_failures_total');
    wechat.mute = false;
  });

  it('the JavaScript client gets a code when it needs one, and stays who it is', async () => {
    let codes = 0, stored, n = 0;
    const code = async () => { codes++; return { code: wechat.code(APP, 'oSdk').code, appid: APP }; };
    const socket = (url, protocols) => new WebSocket(url.replace('wss://cluster', cluster.gateways[n++ % 2].url), protocols, { ca: cluster.ca });
    const x = connect('wss://cluster/ws', { socket, code, retry: [50, 400] });
    x.on('token', t => { stored = t.token; });
    await x.join('sdk-room');
    assert.deepEqual([x.user, codes], [`${APP}:oSdk`, 1]);
    await until(() => stored !== undefined, { what: 'the token' });
    const session = x.session;
    x._ws.terminate(); // as a network does
    await until(() => x.state !== 'online', { what: 'it to notice' });
    assert.equal((await x.publish('sdk-room', 1)).position.split('.')[0], '1');
    assert.deepEqual([x.session, codes], [session, 1], 'the same session, without another code');
    x.close();
    const y = connect('wss://cluster/ws', { socket, code, token: stored, retry: [50, 400] });
    await y.join('sdk-room');
    assert.deepEqual([y.user, codes], [`${APP}:oSdk`, 1]);
    y.close();
    const z = connect('wss://cluster/ws', { socket, code, token: 'not.one.any-more', retry: [50, 400] });
    await z.join('sdk-room');
    assert.deepEqual([z.user, codes], [`${APP}:oSdk`, 2]);
    z.close();
  });

  it('what cannot work is said at the start, and with a reload', async () => {
    const check = async (...flags) => { const g = await cluster.add(`bad${Math.random()}`, { flags, wait: false, broker: ['--broker', 'memory'] }); g.process.expected = true; const end = await g.process.exit; cluster.gateways.pop(); return [end.code, g.log]; };
    const pair = await Key.make('ES256'), public_ = pair.file(cluster.dir), bad = join(cluster.dir, 'bad.json');
    writeFileSync(bad, JSON.stringify({ apps: [{ appid: 'wx1', secret: 's', xindao: { join: 1 } }] }));
    for (const [flags, says] of [[['--wechat-login', '--wechat-apps', file], /auth jwt/], [['--wechat-login', '--auth', 'jwt', '--jwt-key', public_], /wechat-apps/],
      [['--wechat-login', '--auth', 'jwt', '--jwt-key', public_, '--wechat-apps', file], /no jwt-key is a secret/], [['--wechat-login', '--auth', 'jwt', '--jwt-key', key.file(cluster.dir), '--wechat-apps', bad], /wx1.*xindao\.join/]]) {
      const [code, log] = await check(...flags);
      assert.equal(code, 2, log);
      assert.match(log, says);
    }
  });
});
