// wechat.test.mjs: the session service (/mina_auth/): the SDKs of npm on both sides, two gateways, and every return code
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, request } from './lib/cluster.mjs';
import { Phone, WeChat, profile, seal } from './lib/wechat.mjs';
import { PATIENCE_MS, freePort, sleep, until, within } from './lib/wait.mjs';

const qcloud = createRequire(import.meta.url)('qcloud-weapp-server-sdk');
const APP = 'wx0123456789abcdef', SECRET = 'a secret/with+letters'.replaceAll(' ', '_'), SHOP = 'wxshop', BRIEF = 'wxbrief';
const apps = { [APP]: SECRET, [SHOP]: 'shop', [BRIEF]: 'brief' };

describe('session service', { timeout: 120000 }, () => {
  let cluster, wechat, file, ports, business, businessUrl;
  const write = (list, more = {}) => writeFileSync(file, JSON.stringify({ apps: list, default: APP, ...more }));
  const list = [{ appid: APP, secret: SECRET, login_rate: 0 }, { appid: SHOP, secret: 'shop', watermark_seconds: 60 }, { appid: BRIEF, secret: 'brief', session_seconds: 1, login_rate: 1 }];

  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: {} });
    wechat = await WeChat.start(apps, { tls: cluster });
    file = join(cluster.dir, 'apps.json');
    write(list);
    ports = [await freePort(), await freePort()];
    const flags = ['--wechat-apps', file, '--wechat-url', wechat.url, '--wechat-ca', join(cluster.dir, 'ca.pem'), '--wechat-timeout', '500ms', '--redis-timeout', '1s', '--lease', '2s', '--log-level', 'debug'];
    await Promise.all(ports.map((port, i) => cluster.add(`gw${i + 1}`, { flags: [...flags, '--api-listen', `127.0.0.1:${port}`, '--api-insecure'] })));
    cluster.gateways.sort((a, b) => a.name.localeCompare(b.name));
    // A business server as the SDK's own example has it.
    business = http.createServer((req, res) => {
      const service = qcloud.LoginService.create(req, res);
      if (req.url === '/login') service.login(() => {});
      else service.check((e, r) => { if (!e) service.writeJsonResult({ code: 0, data: { userInfo: r.userInfo } }); });
    });
    await new Promise(yes => business.listen(0, '127.0.0.1', yes));
    businessUrl = `http://127.0.0.1:${business.address().port}`;
    qcloud.config({ ServerHost: 'localhost', AuthServerUrl: `http://127.0.0.1:${ports[0]}/mina_auth/`, TunnelServerUrl: 'http://127.0.0.1', TunnelSignatureKey: 'x', NetworkTimeout: 10000 });
  });
  after(async () => {
    business?.close();
    await wechat.stop();
    await cluster.stop();
    assert.deepEqual(wechat.problems, []);
  });

  const post = async (body, { node = 0, query = '', path = '/mina_auth/' } = {}) => {
    const r = await request(ports[node], path + query, { method: 'POST', insecure: true, headers: { 'Content-Type': 'application/json' }, body: typeof body === 'string' ? body : JSON.stringify(body) });
    assert.equal(r.status, 200, r.text);
    assert.deepEqual(Object.keys(r.json), ['returnCode', 'returnMessage', 'returnData']);
    return r.json;
  };
  const ask = (interfaceName, para, options) => post({ version: 1, componentName: 'MA', interface: { interfaceName, para } }, options);
  const login = (para, options) => ask('qcloud.cam.id_skey', para, options);
  const check = (para, options) => ask('qcloud.cam.auth', para, options);
  const code = async (...args) => (await login(...args)).returnCode;
  const sealed = (l, data = profile(l), options) => { const s = seal(l.key, data, options); return { code: l.code, encrypt_data: s.encryptedData, iv: s.iv }; };
  const enter = async (openid, appid = APP, options) => {
    const l = wechat.code(appid, openid), a = await login(sealed(l), options);
    assert.equal(a.returnCode, 0, a.returnMessage);
    return { ...a.returnData, key: l.key.toString('base64') };
  };

  it('wafer-client-sdk and qcloud-weapp-server-sdk: a user logs in, is known on every node, and logs in again by himself when his session is gone', async () => {
    const phone = new Phone(wechat, APP, 'oAlice'), wafer = phone.require('wafer-client-sdk');
    wafer.setLoginUrl(`${businessUrl}/login`);
    const user = await new Promise((yes, no) => wafer.login({ success: yes, fail: no }));
    assert.equal(user.nickName, '阿花 "🌸"');
    const stored = Object.values(phone.storage)[0];
    assert.match(stored.id, /^[0-9a-f]{32}\.[\w-]{12}$/);
    assert.match(stored.skey, /^[\w-]{32}$/);
    const me = () => new Promise((yes, no) => wafer.request({ url: `${businessUrl}/user`, login: true, success: r => yes(r.data.data.userInfo), fail: no }));
    assert.deepEqual((await me()).openId, 'oAlice');
    qcloud.config({ AuthServerUrl: `http://127.0.0.1:${ports[1]}/mina_auth/` });
    assert.deepEqual((await me()).openId, 'oAlice', 'through the other node');
    const key = `xd:wechat:{${createHash('sha256').update(`${APP}:oAlice`).digest('hex').slice(0, 32)}}`, hash = await cluster.redis.hash(key);
    assert.deepEqual([hash.appid, hash.openid, JSON.parse(hash.info).nickName], [APP, 'oAlice', '阿花 "🌸"']);
    await cluster.redis.cli('DEL', key);
    const asked = wechat.asked.length;
    assert.deepEqual((await me()).openId, 'oAlice', 'the SDK has logged in again');
    assert.equal(wechat.asked.length, asked + 1);
    assert.notEqual(Object.values(phone.storage)[0].skey, stored.skey);
  });

  it('what is stored and logged has no skey and no session_key; a second login leaves the first one alone', async () => {
    const a = await enter('oBob'), b = await enter('oBob', APP, { node: 1 });
    assert.equal(a.id.split('.')[0], b.id.split('.')[0]);
    assert.equal(a.duration, 30 * 24 * 3600);
    assert.equal(a.user_info.openId, 'oBob');
    for (const one of [a, b]) assert.equal((await check({ id: one.id, skey: one.skey })).returnData.user_info.openId, 'oBob');
    const all = await cluster.redis.cli('HGETALL', `xd:wechat:{${a.id.split('.')[0]}}`), logs = cluster.gateways.map(g => g.log).join('');
    for (const secret of [a.skey, a.key, b.skey, b.key, SECRET]) {
      assert.ok(!all.includes(secret));
      assert.ok(!logs.includes(secret));
      assert.ok(!JSON.stringify({ ...a, skey: '', key: '' }).includes(secret));
    }
    assert.ok(all.includes(createHash('sha256').update(a.skey).digest('hex')));
    assert.ok(Number(await cluster.redis.cli('PTTL', `xd:wechat:{${a.id.split('.')[0]}}`)) > 30 * 24 * 3600000);
  });

  it('without user data there is the openid; data without one gets it', async () => {
    const l = wechat.code(APP, 'oCode'), only = await login({ code: l.code });
    assert.deepEqual(only.returnData.user_info, { openId: 'oCode' });
    const m = wechat.code(APP, 'oMore', { unionid: 'uMore' }), told = await login(sealed(m, { nickName: 'x', watermark: { appid: APP } }));
    assert.deepEqual([told.returnData.user_info.openId, told.returnData.user_info.nickName], ['oMore', 'x']);
    assert.equal((await cluster.redis.hash(`xd:wechat:{${told.returnData.id.split('.')[0]}}`)).unionid, 'uMore');
  });

  it('requests that are none', async () => {
    for (const [body, expected] of [['', 1009], ['nonsense', 1009], ['[]', 1009], [Buffer.from('{"interface":"\xff"}', 'latin1').toString('latin1') + '\0', 1009], ['{}', 1010], ['{"interface":1}', 1010],
      ['{"interface":{"para":{}}}', 1010], ['{"interface":{"interfaceName":1}}', 1010], ['{"interface":{"interfaceName":"qcloud.cam.nothing","para":{}}}', 1002],
      ['{"interface":{"interfaceName":"qcloud.cam.id_skey"}}', 1011], ['{"interface":{"interfaceName":"qcloud.cam.auth","para":[]}}', 1011]])
      assert.equal((await post(body)).returnCode, expected, body);
    for (const para of [{}, { code: 1 }, { code: '' }, { code: 'a\nb' }, { code: 'x'.repeat(257) }, { code: 'x', encrypt_data: 'x' }, { code: 'x', iv: 'x' }, { code: 'x', encrypt_data: 'x'.repeat(20000), iv: 'x' }])
      assert.equal(await code(para), 1003, JSON.stringify(para).slice(0, 80));
    for (const para of [{}, { id: 'x' }, { skey: 'x' }, { id: 1, skey: 'x' }]) assert.equal((await check(para)).returnCode, 1003);
    assert.equal(await code({ code: 'x'.repeat(40000) }), 1003);
    const big = await request(ports[0], '/mina_auth/', { method: 'POST', insecure: true, body: 'x'.repeat(70000) });
    assert.equal(big.status, 413);
    assert.equal((await request(ports[0], '/mina_auth/', { insecure: true })).status, 405);
  });

  it('codes that are none, used before, or another app\'s', async () => {
    assert.equal(await code({ code: 'nonsense' }), 40029);
    const l = wechat.code(APP, 'oOnce');
    assert.equal(await code(sealed(l)), 0);
    assert.equal(await code(sealed(l)), 40029);
    assert.equal(await code(sealed(wechat.code(SHOP, 'oShop'))), 40029);
    assert.equal(await code(sealed(wechat.code(SHOP, 'oShop')), { query: `?appid=${SHOP}` }), 0);
    assert.equal(await code({ ...sealed(wechat.code(SHOP, 'oShop')), appid: SHOP }), 0);
    assert.equal(await code({ code: 'x', appid: 'wxnobody' }), 1013);
    assert.equal(await code({ code: 'x' }, { query: '?appid=wxnobody' }), 1013);
  });

  it('user data that cannot be decrypted, or is another\'s', async () => {
    const fresh = () => wechat.code(APP, 'oData'), d = l => sealed(l);
    const l = fresh(), good = d(l);
    assert.equal(await code({ ...good, encrypt_data: good.encrypt_data.slice(0, -5) }), 60021, 'truncated base64');
    for (const change of [p => ({ iv: p.iv.slice(0, -4) }), p => ({ iv: 'AAAA' }), p => ({ encrypt_data: '!' + p.encrypt_data.slice(1) }), p => ({ encrypt_data: Buffer.from(p.encrypt_data, 'base64').subarray(0, -16).toString('base64') }),
      p => ({ encrypt_data: Buffer.from(p.encrypt_data, 'base64').subarray(1).toString('base64') }), () => ({ encrypt_data: Buffer.alloc(9000).toString('base64') })]) {
      const p = d(fresh());
      assert.equal(await code({ ...p, ...change(p) }), 60021);
    }
    const wrong = async (data, options) => { const x = fresh(); return code(sealed(x, typeof data === 'function' ? data(x) : data, options)); };
    assert.equal(await wrong(Buffer.alloc(32, 0x11), { padding: false }), 60021, 'bad padding');
    assert.equal(await wrong('no JSON'), 60021);
    assert.equal(await wrong(Buffer.from([0x7b, 0xff, 0x7d])), 60021, 'not UTF-8');
    assert.equal(await wrong(x => profile(x, { watermark: { appid: SHOP } })), 60021, 'another app\'s watermark');
    assert.equal(await wrong({ openId: 'oData' }), 60021, 'no watermark');
    assert.equal(await wrong(x => ({ ...profile(x), openId: 'oOther' })), 60021, 'another user');
    assert.equal(await wrong(x => profile(x, { watermark: { timestamp: 1 } })), 0, 'old, which the app does not mind');
    const old = wechat.code(SHOP, 'oData');
    assert.equal(await code({ ...sealed(old, profile(old, { watermark: { timestamp: Math.floor(Date.now() / 1000) - 120 } })), appid: SHOP }), 60021, 'old');
    const other = fresh();
    assert.equal(await code({ ...good, code: other.code }), 60021, 'under another login\'s key');
  });

  it('logins that are none, another\'s, another app\'s, or over', async () => {
    const a = await enter('oCheck'), of = async (para, options) => (await check({ id: a.id, skey: a.skey, ...para }, options)).returnCode;
    assert.equal(await of({}), 0);
    assert.equal(await of({ skey: a.skey.replace(/./, c => (c === 'A' ? 'B' : 'A')) }), 60012);
    assert.equal(await of({ id: 'd41d8cd98f00b204e9800998ecf8427e' }), 60012, 'of a former service');
    assert.equal(await of({ id: a.id.replace(/^./, c => (c === 'a' ? 'b' : 'a')) }), 60012);
    assert.equal(await of({ id: `${a.id.slice(0, -1)}}` }), 60012);
    assert.equal(await of({ appid: SHOP }), 60012);
    const brief = await enter('oBrief', BRIEF, { query: `?appid=${BRIEF}` });
    assert.equal(brief.duration, 1);
    assert.equal(await of({ id: brief.id, skey: brief.skey, appid: BRIEF }), 0);
    const limited = await request(ports[0], `/mina_auth/?appid=${BRIEF}`, { method: 'POST', insecure: true, body: JSON.stringify({ interface: { interfaceName: 'qcloud.cam.id_skey', para: { code: 'x' } } }) });
    assert.equal(limited.status, 429, 'more than one login a second');
    await sleep(1050);
    assert.equal(await of({ id: brief.id, skey: brief.skey, appid: BRIEF }), 60011);
  });

  it('only where business servers come in, and only who may', async () => {
    assert.equal((await cluster.gateways[0].get('/mina_auth/', { method: 'POST', body: '{}' })).status, 404, 'clients\' port');
    const flags = ['--wechat-apps', file, '--wechat-url', wechat.url, '--wechat-ca', join(cluster.dir, 'ca.pem')];
    const [none, some, other] = await Promise.all([[], ['--wechat-allow', '10.0.0.0/8', '--wechat-allow', '127.0.0.0/8'], ['--wechat-allow', '127.0.0.2', '--wechat-allow', '::/0']]
      .map((more, i) => cluster.add(`allow${i}`, { flags: [...flags, ...more], broker: ['--broker', 'memory'] })));
    assert.equal((await none.get('/mina_auth/', { method: 'POST', body: '{}' })).status, 404);
    assert.equal((await other.get('/mina_auth/', { method: 'POST', body: '{}' })).status, 404);
    assert.equal((await some.get('/mina_auth', { method: 'POST', body: '{}' })).json.returnCode, 1010);
    assert.ok((await some.metrics()).sum('xindao_wechat_refused_total') >= 1);
    const l = wechat.code(APP, 'oMemory'), a = await some.get('/mina_auth/', { method: 'POST', body: JSON.stringify({ interface: { interfaceName: 'qcloud.cam.id_skey', para: sealed(l) } }) });
    assert.equal(a.json.returnData.user_info.openId, 'oMemory', 'with the embedded broker');
  });

  it('a reload brings other apps; a bad file changes nothing, and names no secret', async () => {
    const [gw] = cluster.gateways, reloaded = async (change, says) => { const at = gw.log.length; change(); gw.process.signal('SIGHUP'); await until(() => gw.log.slice(at).includes(says), { what: says }); return gw.log.slice(at); };
    await reloaded(() => write(list.slice(1), { default: undefined }), 'reloaded');
    assert.equal(await code({ code: 'x' }), 1012, 'two apps, none said');
    assert.equal(await code({ code: 'x', appid: APP }), 1013);
    for (const [text, says] of [['{"apps":[{"appid":"wx1","secret":"hush hush"}]}', /wx1.*secret/], [`{"apps":[{"appid":"wx1","secret":"hush"}]`, /line 1/], ['{"apps":[{"appid":"wx1","secret":"hush","sesion_seconds":1}]}', /sesion_seconds/]]) {
      const log = await reloaded(() => writeFileSync(file, text), 'WeChat apps not reloaded');
      assert.match(log, says);
      assert.ok(!log.includes('hush'));
    }
    assert.equal(await code({ code: 'x' }), 1012);
    await reloaded(() => write(list), 'reloaded');
    assert.equal(await code({ code: 'x' }), 40029);
  });

  it('WeChat refuses, talks nonsense, is slow, is away; then it is asked less often', async () => {
    const answers = async broken => { wechat.broken = broken; const c = await code(sealed(wechat.code(APP, 'oAway'))); wechat.broken = undefined; return c; };
    assert.equal(await answers({ json: { errcode: 40125, errmsg: 'invalid appsecret' } }), 1007);
    await until(() => /errcode=40125/.test(cluster.gateways[0].log), { what: 'the operator to be told' });
    assert.equal(await answers({ json: { errcode: -1 } }), 1005);
    assert.equal(await answers({ json: { errcode: 45011 } }), 1005);
    for (const nonsense of [{ text: 'not JSON' }, { json: [] }, { json: { openid: 'oX' } }, { json: { openid: 1, session_key: 'x' } }, { status: 302, json: {} }]) {
      assert.equal(await answers(nonsense), 1007);
      assert.equal(await code(sealed(wechat.code(APP, 'oAway'))), 0, 'one good answer closes the case');
    }
    assert.equal(await answers({ status: 502 }), 1005);
    wechat.mute = true;
    const before = Date.now();
    assert.equal(await code(sealed(wechat.code(APP, 'oAway'))), 1005);
    assert.ok(Date.now() - before >= 490);
    wechat.mute = false;
    await wechat.down();
    for (let i = 0; i < 4; i++) assert.equal(await code(sealed(wechat.code(APP, 'oAway'))), 1005);
    await until(async () => (await cluster.gateways[0].metrics()).sum('xindao_wechat_opened_total') === 1, { what: 'the breaker to be counted' });
    await wechat.up();
    wechat.broken = { status: 502 };
    const asked = wechat.asked.length;
    for (let i = 0; i < 10; i++) assert.equal(await code(sealed(wechat.code(APP, 'oAway'))), 1005);
    assert.ok(wechat.asked.length - asked <= 5, `of 10 that wanted to ask ${wechat.asked.length - asked} did`);
    wechat.broken = undefined;
    await until(async () => await code(sealed(wechat.code(APP, 'oAway'))) === 0, { what: 'it to be asked again', every: 200 });
  });

  it('without Redis: 1001; the SDK hands it on as a failed check', async () => {
    const a = await enter('oStore');
    await cluster.redis.stop();
    const [checked, entered] = await within(Promise.all([check({ id: a.id, skey: a.skey }), code(sealed(wechat.code(APP, 'oStore')))]), PATIENCE_MS, 'answers');
    assert.deepEqual([checked.returnCode, entered], [1001, 1001]);
    await cluster.redis.boot();
    await until(async () => (await check({ id: a.id, skey: a.skey })).returnCode !== 1001, { what: 'Redis to be back' });
  });

  it('a key in the store that is of another type: 1006 and 1008', async () => {
    const a = await enter('oStrange'), key = `xd:wechat:{${a.id.split('.')[0]}}`;
    await cluster.redis.cli('SET', key, 'nonsense');
    assert.equal((await check({ id: a.id, skey: a.skey })).returnCode, 1008);
    assert.equal(await code(sealed(wechat.code(APP, 'oStrange'))), 1006);
  });
});
