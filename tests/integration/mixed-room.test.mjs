// mixed-room.test.mjs: clients of every protocol in one room, on two nodes: each publishes, all see all, bytes too, in the same order. MIXED_MESSAGES says how many each
// (300; the promise is about 10000: MIXED_MESSAGES=10000 tests/integration/run.sh mixed-room.test.mjs)
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Sockets, ask, io2, io4 } from './lib/sockets.mjs';
import { HOST, KEY, Speaker } from './lib/wafer.mjs';
import { freePort, until } from './lib/wait.mjs';

const EACH = Number(process.env.MIXED_MESSAGES ?? 300), WINDOW = 40, API = 'xdk_integration_mixed_0123456789abcdef';
/** The n-th message of somebody: JSON, a text, or bytes. */
const message = (who, n) => (n % 5 === 0 ? Buffer.from(`${who}:${n}:\u0000\u00ff`, 'latin1') : n % 5 === 1 ? `${who}:${n}` : { who, n, pad: 'é'.repeat(n % 50) });
/** What it looks like to whoever has it, whichever way it came. */
const print = data => (Buffer.isBuffer(data) ? `bytes ${data.toString('hex')}` : JSON.stringify(data));

/** Publishes everything, a bounded number at a time. */
async function publishAll(who, publish) {
  let n = 0;
  await Promise.all(Array.from({ length: WINDOW }, async () => { while (n < EACH) await publish(message(who, n++)); }));
}

describe('one room for all protocols', { timeout: 600000 }, () => {
  let cluster, sockets, agent, speaker;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    sockets = new Sockets(cluster);
    agent = new https.Agent({ keepAlive: true, ca: cluster.ca });
    const keys = join(cluster.dir, 'keys.json'), tenants = join(cluster.dir, 'tenants.json'), receive = await freePort();
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'business', sha256: createHash('sha256').update(API).digest('hex'), scopes: ['admin'], rate: 0 }] }));
    writeFileSync(tenants, JSON.stringify({ tenants: [{ name: 'mixed', server_host: HOST, keys: [KEY], receive_urls: [`http://127.0.0.1:${receive}/tunnel`] }] }));
    for (const name of ['gw1', 'gw2']) await cluster.add(name, { flags: ['--max-queue-bytes', '64m', '--api-keys', keys, '--wafer-tenants', tenants, '--wafer-url', 'wss://tunnels.example'] });
    cluster.receive = receive;
  });
  after(async () => {
    const open = [...sockets.open];
    sockets.close();
    await until(() => open.every(s => s.io.engine.readyState === 'closed'), { what: 'them to be closed' });
    await speaker?.stop();
    agent.destroy();
    await cluster.stop();
  });

  it(`${EACH} messages of each of six clients`, async () => {
    const room = unique(), members = [];
    const socket = async (who, io, n, options) => {
      const s = await sockets.connected(io, n, '/', options), seen = [];
      assert.equal((await ask(s, 'join', room)).type, 'ack');
      s.on('m', data => seen.push(print(data)));
      members.push({ who, s, seen, publish: async data => { const a = await ask(s, 'publish', room, 'm', data); assert.equal(a.type, 'ack', JSON.stringify(a)); } });
    };
    await socket('2.x', io2, 0);
    await socket('4.x', io4, 0);
    await socket('4.x on the other node', io4, 1);
    // Browsers keep the connections of their requests; the XMLHttpRequest of npm does with such an agent.
    await socket('4.x on the other node, long-polling', io4, 1, { transports: ['polling'], agent });
    const plain = await cluster.client(1, 'plain'), seen = [];
    await plain.join(room);
    members.push({ who: 'plain', seen, publish: data => (Buffer.isBuffer(data) ? plain.callBinary({ type: 'publish', room, event: 'm' }, data) : plain.publish(room, data, { event: 'm' })) });
    speaker = new Speaker({ port: cluster.receive, gateway: cluster.gateways[0], api: API, room, print });
    await speaker.start();
    members.push({ who: 'tunnel', seen: speaker.seen, publish: data => speaker.say(data) });

    const all = EACH * members.length, began = Date.now();
    const reading = (async () => { while (seen.length < all) { const m = await plain.message(room); seen.push(print(m.binary ? Buffer.from(m.bytes) : m.data)); } })();
    await Promise.all(members.map(async m => { await publishAll(m.who, m.publish); m.took = Date.now() - began; }));
    await until(() => members.every(m => m.seen.length >= all), { what: () => `all of them to have ${all}: ${members.map(m => `${m.who} ${m.seen.length}`)}`, ms: 120000 });
    await reading;
    const said = new Set(members.flatMap(m => Array.from({ length: EACH }, (_, n) => print(message(m.who, n)))));
    assert.equal(said.size, all);
    for (const m of members) {
      assert.equal(m.seen.length, all, `${m.who} has no more and no less`);
      assert.equal(createHash('sha256').update(m.seen.join('\n')).digest('hex'), createHash('sha256').update(seen.join('\n')).digest('hex'), `${m.who} sees the same order as the plain WebSocket`);
    }
    assert.ok(seen.every(text => said.has(text)) && new Set(seen).size === all, 'each message once, as it was said');
    assert.equal(members.find(m => m.who.endsWith('long-polling')).s.io.engine.transport.name, 'polling');
    assert.deepEqual(speaker.problems, []);
    console.log(`# ${all} messages to ${members.length} clients: ${Date.now() - began} ms; who had said all of his after: ${members.map(m => `${m.who} ${m.took} ms`).join(', ')}`);
    await plain.close();
  });
});
