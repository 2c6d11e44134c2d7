// wafer.test.mjs: tunnels of Wafer applications: the group chat with the SDKs of npm on both sides, and what the service answers
import { after, afterEach, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import WebSocket from 'ws';
import { Cluster } from './lib/cluster.mjs';
import { Chat, HOST, KEY, Talker, md5, sha1 } from './lib/wafer.mjs';
import { freePort, sleep, until } from './lib/wait.mjs';

const API = 'xdk_integration_wafer_0123456789abcdef';
const FLAGS = ['--lease', '2s', '--redis-timeout', '1s', '--resume-window', '60s', '--backend-timeout', '2s', '--wafer-url-time', '2s'];

describe('tunnels', { timeout: 180000 }, () => {
  let cluster, chat, tenants, base;
  const write = (more = {}) => writeFileSync(tenants, JSON.stringify({ tenants: [
    { name: 'chat', server_host: HOST, keys: [KEY], receive_urls: [chat?.url ?? 'https://localhost/tunnel'], packet_bytes: 4096, ...more },
    { name: 'other', tc_id: 'other', keys: ['another-key-of-tests'], receive_urls: ['https://localhost/*'], signatures: false },
  ] }));

  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: {} });
    const port = await freePort();
    tenants = join(cluster.dir, 'tenants.json');
    base = `https://localhost:${port}`;
    chat = await Chat.start({ tunnelServer: base, cert: cluster.cert, key: cluster.key, ca: cluster.ca });
    write();
    const keys = join(cluster.dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'test', sha256: createHash('sha256').update(API).digest('hex'), scopes: ['admin'] }] }));
    const flags = ['--api-keys', keys, '--proxy-protocol', 'optional', '--wafer-tenants', tenants, '--wafer-url', `wss://localhost:${port}`, '--wafer-ca', join(cluster.dir, 'ca.pem'), ...FLAGS];
    await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    cluster.gateways.sort((a, b) => a.name.localeCompare(b.name));
    await cluster.startProxy(port);
  });
  after(async () => {
    await chat.stop();
    await cluster.stop();
    assert.deepEqual(chat.problems.map(String), []);
  });

  const dialled = [];
  afterEach(async () => {
    for (const ws of dialled.splice(0)) ws.terminate();
    await until(() => chat.members.length === 0, { what: () => `nobody to be left, not ${chat.members}` });
  });

  const api = async (method, path) => {
    const r = await cluster.gateways[0].get(path, { method, headers: { Authorization: `Bearer ${API}`, 'Content-Type': 'application/json' } });
    assert.equal(r.status, 200, r.text);
  };
  const talker = options => new Talker({ ca: cluster.ca, url: chat.url, ...options });
  const post = async (path, data, { id = md5(HOST), key = KEY, node = 0, raw, more = {} } = {}) => {
    const text = JSON.stringify(data);
    const r = await cluster.gateways[node].get(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: raw ?? JSON.stringify({ data: text, tcId: id, signature: sha1(text + key), ...more }) });
    assert.equal(r.status, 200, r.text);
    return r.json;
  };
  const url = async (options = {}) => {
    const a = await post('/get/wsurl', { receiveUrl: chat.url, protocolType: 'wss' }, options);
    assert.equal(a.code, 0, a.message);
    assert.equal(a.signature, sha1(a.data + KEY));
    return JSON.parse(a.data);
  };
  const dial = connectUrl => new Promise(yes => {
    const ws = new WebSocket(connectUrl, { ca: cluster.ca });
    dialled.push(ws);
    const d = { ws, got: [], ended: new Promise(end => ws.on('close', (code, reason) => end([code, reason.toString()]))) };
    ws.on('message', m => { if (!m.toString().includes('"people"')) d.got.push(m.toString()); yes(d); });
    ws.on('error', () => {});
    ws.on('close', () => yes(d));
  });
  const push = (ids, type, content, options) => post('/ws/push', [{ tunnelIds: ids, type, content: content === undefined ? undefined : JSON.stringify(content) }], options);
  const gone = a => { assert.equal(a.code, 0, a.message); return a.data.invalidTunnelIds; };

  it('the group chat: people come, speak and go, on three SDKs and two gateways', async () => {
    const a = await talker().open(), b = await talker({ sdk: 'qcloud-weapp-client-sdk' }).open(), c = await talker({ sdk: 'wafer2-client-sdk', data2: true }).open();
    for (const t of [a, b, c]) await t.sees(3);
    a.say('hello'); b.say({ to: 'all', text: '你好: "ok"' }); c.say('');
    for (const t of [a, b, c]) {
      await t.hears('hello');
      await until(() => t.heard.some(m => m?.text === '你好: "ok"') && t.heard.includes(''), { what: () => `all three to be heard: ${JSON.stringify(t.heard)}` });
    }
    b.tunnel.close();
    for (const t of [a, c]) await t.sees(2);
    assert.deepEqual(b.events, ['connect', 'close']);
    c.phone.breakConnection(); // it vanishes, which its own SDK notices and mends
    await until(() => c.events.includes('reconnect'), { what: () => `c to be back: ${c.events}` });
    await a.sees(2);
    assert.equal(chat.closed.length, 2);
    a.tunnel.emit('goodbye'); // the server closes it
    await until(() => a.events.includes('close'), { what: 'a to be closed by the server' });
    c.tunnel.close();
    await until(() => chat.members.length === 0, { what: 'nobody to be left' });
    assert.deepEqual(a.events, ['connect', 'close']);
  });

  it('for each tunnel one connect, its messages in their order, one close; also when the business server fails in between', async () => {
    const before = chat.posts.length, { tunnelId, connectUrl } = await url();
    const d = await dial(connectUrl);
    assert.deepEqual(d.got, ['timeout:25']);
    chat.failing = 2;
    for (let i = 0; i < 20; i++) d.ws.send(`message:{"type":"count","content":${i}}`);
    d.ws.send('message:just words'); d.ws.send('nonsense'); d.ws.send('ping');
    await until(() => d.got.includes('pong'), { what: 'a pong' });
    const mine = () => chat.posts.slice(before).filter(p => p.tunnelId === tunnelId);
    await until(() => mine().some(p => p.content === 'just words'), { what: 'the last message' });
    d.ws.terminate();
    await until(() => mine().some(p => p.type === 'close'), { what: 'its close' });
    const once = [...new Map(mine().map(p => [p.id, p])).values()];
    assert.deepEqual(once.map(p => p.type), ['connect', ...Array(21).fill('message'), 'close']);
    assert.deepEqual(once.slice(1, 21).map(p => JSON.parse(p.content).content), Array.from({ length: 20 }, (_, i) => i));
    const all = chat.posts.slice(before); // the two that failed came again, whosever they were
    assert.ok(chat.failing === 0 && all.length >= new Set(all.map(p => p.id)).size + 2);
  });

  it('a URL is good once, and not for long; nobody can guess one', async () => {
    const { connectUrl } = await url(), d = await dial(connectUrl);
    assert.equal(d.got[0], 'timeout:25');
    assert.deepEqual(await (await dial(connectUrl)).ended, [4002, 'tunnel_url']);
    assert.deepEqual(await (await dial(connectUrl.replace(/.$/, c => (c === 'A' ? 'B' : 'A')))).ended, [4002, 'tunnel_url']);
    const late = await url();
    await sleep(2100);
    assert.deepEqual(await (await dial(late.connectUrl)).ended, [4002, 'tunnel_url']);
    assert.equal((await cluster.redis.keys('xd:tunnel:*')).length, 0);
    d.ws.close();
  });

  it('who may not, is told so', async () => {
    const receiveUrl = chat.url, code = async (...args) => (await post(...args)).code;
    assert.equal(await code('/get/wsurl', { receiveUrl }, { key: 'wrong-key-of-tests' }), 9003);
    assert.equal(await code('/ws/push', [], { key: 'wrong-key-of-tests' }), 9003);
    assert.equal(await code('/get/wsurl', { receiveUrl }, { more: { tcKey: 'wrong-key-of-tests' } }), 9003);
    assert.equal(await code('/get/wsurl', { receiveUrl }, { more: { signature: undefined } }), 9002);
    assert.equal(await code('/get/wsurl', { receiveUrl }, { id: 'nobody' }), 9005);
    assert.equal(await code('/get/wsurl', { receiveUrl: 'http://169.254.169.254/latest' }), 9006);
    assert.equal(await code('/get/wsurl', { receiveUrl: `${chat.url}/other` }), 9006);
    assert.equal(await code('/get/wsurl', {}), 9002);
    assert.equal(await code('/get/wsurl', null, { raw: 'not json' }), 9001);
    assert.equal(await code('/get/wsurl', null, { raw: '[]' }), 9001);
    assert.equal(await code('/get/wsurl', null, { raw: '{"tcId":"x"}' }), 9002);
    assert.equal(await code('/ws/push', { not: 'a list' }), 9004);
    assert.equal(await code('/ws/push', [{ tunnelIds: ['x'], type: 'message', content: 'not json' }]), 9004);
    assert.equal(await code('/ws/push', [{ tunnelIds: ['x'], type: 'message', content: JSON.stringify({ big: 'x'.repeat(5000) }) }]), 9007);
    const lax = await post('/get/wsurl', { receiveUrl: 'https://localhost/any' }, { id: 'other', more: { signature: '', tcKey: 'another-key-of-tests' } });
    assert.equal(lax.code, 0, lax.message);
    // One tenant reaches no tunnel of another.
    const { tunnelId, connectUrl } = await url(), d = await dial(connectUrl);
    for (const node of [0, 1]) {
      assert.deepEqual(gone(await push([tunnelId], 'message', { type: 'x' }, { node, id: 'other', key: 'another-key-of-tests' })), [tunnelId]);
      assert.deepEqual(gone(await push([tunnelId], 'close', undefined, { node, id: 'other', key: 'another-key-of-tests' })), [tunnelId]);
    }
    assert.deepEqual(gone(await push([tunnelId], 'message', { type: 'y' })), []);
    await until(() => d.got.length === 2, { what: 'the right one' });
    assert.deepEqual(d.got, ['timeout:25', 'message:{"type":"y"}']);
    d.ws.send(`message:${'x'.repeat(5000)}`);
    assert.equal((await d.ended)[0], 1009);
  });

  it('1000 ids in one push, 300 of them dead, from either gateway, as object and as text', async () => {
    const open = await Promise.all(Array.from({ length: 20 }, async (_, i) => { const u = await url({ node: i % 2 }); return { ...u, ...(await dial(u.connectUrl)) }; }));
    const nodes = new Set((await Promise.all(open.map(o => cluster.redis.cli('HGET', `xd:session:{${o.tunnelId}}`, 'node')))));
    assert.equal(nodes.size, 2);
    const dead = Array.from({ length: 300 }, (_, i) => (i % 2 ? `no tunnel ${i}` : `dead${String(i).padStart(12, '0')}`));
    const ids = [...Array.from({ length: 700 }, (_, i) => open[i % 20].tunnelId), ...dead];
    for (const node of [0, 1]) {
      assert.deepEqual(gone(await push(ids, 'message', { type: 'n', content: node }, { node })).sort(), [...dead].sort());
      await until(() => open.every(o => o.got.filter(m => m === `message:{"type":"n","content":${node}}`).length === 35), { what: 'all of them to arrive' });
    }
    const text = await push(['dead000000000000'], 'message', { type: 'x' }, { more: { dataEncode: 'json' } });
    assert.deepEqual(JSON.parse(text.data), { invalidTunnelIds: ['dead000000000000'] });
    // What has ended since is found out wherever it was.
    open[0].ws.close(); open[1].ws.close();
    await until(async () => (await Promise.all([0, 1].map(i => cluster.redis.cli('EXISTS', `xd:session:{${open[i].tunnelId}}`)))).join() === '0,0', { what: 'two to be gone' });
    for (const node of [0, 1]) assert.deepEqual(gone(await push(open.map(o => o.tunnelId), 'message', { type: 'x' }, { node })).sort(), [open[0].tunnelId, open[1].tunnelId].sort());
    assert.deepEqual(gone(await push(open.slice(2).map(o => o.tunnelId), 'close')), []);
    for (const o of open.slice(2)) { assert.equal((await o.ended)[0], 1000); assert.equal(o.got.at(-1), 'close'); }
  });

  it('wafer-node-sdk asks for a URL and pushes', async () => {
    const require = createRequire(import.meta.url), sdk = require('wafer-node-sdk/lib/tunnel/api.js');
    require('wafer-node-sdk/config.js').set({ serverHost: HOST, tunnelServerUrl: base, tunnelSignatureKey: KEY });
    const { tunnelId, connectUrl } = JSON.parse((await sdk.requestConnect(chat.url)).data), d = await dial(connectUrl);
    assert.deepEqual((await sdk.emitMessage([tunnelId, 'dead000000000000'], 'hi', { n: 1 })).data, { invalidTunnelIds: ['dead000000000000'] });
    await sdk.emitPacket([tunnelId], 'close');
    await d.ended;
    assert.deepEqual(d.got, ['timeout:25', 'message:{"type":"hi","content":{"n":1}}', 'close']);
  });

  it('tunnels are sessions: put into a room by the API, one publish reaches them; a kick closes them', async () => {
    const open = await Promise.all([0, 1].map(async () => { const u = await url(); return { ...u, ...(await dial(u.connectUrl)) }; }));
    const native = await cluster.client(0, 'nat');
    await native.join('mixed');
    for (const o of open) await cluster.redis.cli('HGET', `xd:session:{${o.tunnelId}}`, 'protocol').then(p => assert.equal(p, 'wafer'));
    for (const o of open) await api('PUT', `/api/v1/sessions/${o.tunnelId}/rooms/mixed`);
    await native.publish('mixed', { n: 1 }, { event: 'move' });
    for (const o of open) await until(() => o.got.includes('message:{"type":"move","content":{"n":1}}'), { what: () => `the publish: ${o.got}` });
    await api('DELETE', `/api/v1/sessions/${open[0].tunnelId}`);
    await open[0].ended;
    assert.equal(open[0].got.at(-1), 'close');
    open[1].ws.close();
    await native.close();
  });

  it('a draining node drops its tunnels and never says close; a new file of tenants holds at once', async () => {
    write({ keys: ['a-new-key-of-tests', KEY] });
    for (const g of cluster.gateways) g.process.signal('SIGHUP');
    await until(() => cluster.gateways.every(g => g.log.split('tenants of tunnels loaded').length === 3), { what: 'the new tenants' });
    const a = await post('/get/wsurl', { receiveUrl: chat.url }, { key: 'a-new-key-of-tests' });
    assert.equal(a.signature, sha1(a.data + 'a-new-key-of-tests'));
    write();
    for (const g of cluster.gateways) g.process.signal('SIGHUP');
    await until(() => cluster.gateways.every(g => g.log.split('tenants of tunnels loaded').length === 4), { what: 'the old ones again' });
    const extra = await cluster.add('leaving', { flags: cluster.gateways[0].flags });
    const u = await url(), d = await dial(u.connectUrl.replace(/:\d+/, `:${extra.port}`));
    assert.equal(d.got[0], 'timeout:25');
    await extra.stop();
    assert.equal((await d.ended)[0], 1001);
    assert.deepEqual(d.got, ['timeout:25']);
    await until(() => chat.posts.some(p => p.type === 'close' && p.tunnelId === u.tunnelId), { what: 'its close' });
  });

  it('a gateway is killed: its clients come back as other tunnels, everybody is counted, nothing said meanwhile is lost to who is there', async () => {
    const all = [];
    for (let i = 0; i < 6; i++) all.push(await talker().open());
    for (const t of all) await t.sees(6);
    const victim = cluster.gateways[1], survivor = cluster.gateways[0];
    const at = async g => (await g.metrics()).sum('xindao_tunnels');
    assert.ok(await at(victim) > 0 && await at(survivor) > 0);
    const steady = [];
    await victim.kill();
    const said = Array.from({ length: 10 }, (_, i) => `while away ${i}`);
    await until(() => all.some(t => t.events.includes('reconnecting')), { what: 'somebody to notice' });
    for (const t of all) if (!t.events.includes('reconnecting')) steady.push(t);
    assert.ok(steady.length > 0 && steady.length < 6);
    for (const word of said) { steady[0].say(word); await sleep(20); }
    await until(() => all.every(t => t.events.filter(e => e === 'reconnect').length === (steady.includes(t) ? 0 : 1)), { what: () => all.map(t => `${t.events}`).join(' | ') });
    await until(() => chat.members.length === 6, { what: () => `six members, not ${chat.members.length}` });
    for (const t of steady) {
      for (const word of said) await t.hears(word);
      assert.deepEqual(t.heard.filter(m => said.includes(m)), said);
    }
    for (const t of all) await t.sees(6);
    steady[0].say('all here?');
    for (const t of all) await t.hears('all here?');
    for (const t of all) { assert.ok(!t.events.some(e => e.startsWith('error')), `${t.events}`); t.tunnel.close(); }
  });
});
