// migrate.test.mjs: the code and the flags of docs/migrate.md, run as they stand there
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Emitter } from '@socket.io/redis-emitter';
import Redis from 'ioredis';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import { Cluster, ROOT, request } from './lib/cluster.mjs';
import { WeChat } from './lib/wechat.mjs';
import { freePort, until } from './lib/wait.mjs';

const PAGE = readFileSync(join(ROOT, 'docs/migrate.md'), 'utf8');
/** The one block of code of that kind. */
const block = kind => {
  const found = [...PAGE.matchAll(/^ *```(.*)\n([^]*?)^ *```$/gm)].filter(m => m[1] === kind).map(m => m[2]);
  assert.equal(found.length, 1, `one block "${kind}"`);
  return found[0];
};
const run = (text, names) => new (async () => {}).constructor(...Object.keys(names), text)(...Object.values(names));

describe('docs/migrate.md', { timeout: 60000 }, () => {
  let cluster, wechat, port, toClose = [];
  const key = 'xdk_a-key-for-moving';
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const apps = join(cluster.dir, 'apps.json'), keys = join(cluster.dir, 'keys.json'), { apps: [app] } = JSON.parse(block('json'));
    writeFileSync(apps, block('json'));
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'moving', sha256: createHash('sha256').update(key).digest('hex'), scopes: ['publish'] }] }));
    wechat = await WeChat.start({ [app.appid]: app.secret });
    port = await freePort();
    const socketio = [...block('sh').replaceAll(/--broker \S+/g, '').matchAll(/(--socketio-\S+) ('[^']*'|\S+)/g)].flatMap(m => [m[1], m[2].replaceAll('\'', '')]);
    assert.equal(socketio.length, 6);
    const flags = ['--wechat-apps', apps, '--wechat-url', wechat.url, '--api-keys', keys, ...socketio];
    await cluster.add('gw1', { flags: [...flags, '--api-insecure', '--api-listen', `127.0.0.1:${port}`] });
    await cluster.add('gw2', { flags });
  });
  after(async () => {
    for (const c of toClose) c();
    await cluster.stop();
    await wechat.stop();
  });

  it('the session service has the app of the page, with both ways to name it', async () => {
    assert.match(PAGE, /`http:\/\/10\.0\.0\.5:8081\/mina_auth\/`/);
    for (const query of ['', '?appid=wx0123456789abcdef']) {
      const { code } = wechat.code('wx0123456789abcdef', 'oA');
      const r = await request(port, `/mina_auth/${query}`, { method: 'POST', insecure: true, body: JSON.stringify({ version: 1, componentName: 'MA', interface: { interfaceName: 'qcloud.cam.id_skey', para: { code } } }) });
      assert.deepEqual([r.json.returnCode, r.json.returnData.duration], [0, 2592000]);
    }
    const old = await request(port, '/mina_auth/', { method: 'POST', insecure: true, body: JSON.stringify({ interface: { interfaceName: 'qcloud.cam.auth', para: { id: '9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d', skey: 'x' } } }) });
    assert.equal(old.json.returnCode, 60012);
  });

  it('the client on a WebSocket, and what the server says', async () => {
    const shown = [], { ca } = cluster, url = cluster.gateways[1].url;
    await run(block('js client').replace('wss://chat.example', url), { WebSocket: class extends WebSocket { constructor(u) { super(u, { ca }); toClose.push(() => this.terminate()); } }, show: (...args) => shown.push(args) });
    await until(() => shown.length === 1, { what: 'its own message' });
    await run(block('js server').replace('https://chat.example', `http://127.0.0.1:${port}`), { key, fetch });
    await until(() => shown.length === 2, { what: 'the server\'s' });
    assert.deepEqual(shown, [['lobby', 'alice', { text: 'hello' }], ['lobby', undefined, { text: 'the game begins' }]]);
  });

  it('Socket.IO clients as they were, on two nodes, and an emitter', async () => {
    const shown = [[], []];
    for (const n of [0, 1]) await run(block('js socketio').replace('https://chat.example', `https://127.0.0.1:${cluster.gateways[n].port}`), {
      io: (u, o) => { const s = io(u, { ...o, ca: cluster.ca, forceNew: true }); toClose.push(() => s.close()); return s; }, show: m => shown[n].push(m) }).then(() => until(async () =>
      (await cluster.gateways[0].get('/api/v1/rooms/lobby')).json.members.filter(m => m.user === null).length === n + 1, { what: 'it to be in' }));
    await until(() => shown[0].length === 1, { what: 'what the second one says to be heard by the first' });
    const redis = new Redis(cluster.redis.url);
    toClose.push(() => redis.disconnect());
    await until(async () => { new Emitter(redis).to('lobby').emit('chat', 'from an emitter'); return shown.every(s => s.includes('from an emitter')); }, { what: 'the emitter to be heard by both', every: 200 });
    assert.deepEqual([shown[0][0], shown[1].filter(m => m !== 'from an emitter')], [{ text: 'hello' }, []]);
  });
});
