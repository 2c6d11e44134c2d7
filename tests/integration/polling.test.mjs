// polling.test.mjs: the long-polling transport: clients as npm has them, and whichever node is asked; its rules are in rules/
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Session, ask1 } from './lib/eio.mjs';
import { Sockets, ask, events, io2, io4 } from './lib/sockets.mjs';
import { roundRobin } from './lib/tcplink.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--socketio-event', 'chat* do=relay', '--max-message-size', '1m', '--max-queue-bytes', '4m'];
const transports = { default: undefined, polling: ['polling'], websocket: ['websocket'] };
const name = s => s.io.engine.transport.name;

describe('long-polling clients', { timeout: 120000 }, () => {
  let cluster, sockets;
  before(async () => { cluster = await Cluster.start({ flags: FLAGS }); sockets = new Sockets(cluster); });
  after(() => cluster.stop());

  it('clients 2.x and 4.x with every choice of transports share a room, bytes included, in one order', async () => {
    const room = unique(), all = [];
    for (const io of [io2, io4]) for (const t of Object.values(transports)) all.push(await sockets.connected(io, 0, '/', { transports: t }));
    for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
    const N = 60;
    for (let i = 0; i < N; i++) for (const [j, s] of all.entries()) s.emit('chat', j, i % 3 === 0 ? Buffer.from([j, i]) : `${i}é😀`);
    await until(() => all.every(s => events(s, 'chat').length === all.length * N), { what: () => `all messages: ${all.map(s => events(s, 'chat').length)}` });
    const seen = s => events(s, 'chat').map(([j, v]) => [j, typeof v === 'string' ? v : Buffer.from(v).toString('hex')]);
    for (const s of all.slice(1)) assert.deepEqual(seen(s), seen(all[0]));
    for (let j = 0; j < all.length; j++) assert.deepEqual(seen(all[0]).filter(m => m[0] === j).map(m => m[1]), Array.from({ length: N }, (_, i) => i % 3 === 0 ? Buffer.from([j, i]).toString('hex') : `${i}é😀`), 'as each has said it');
    await until(() => all.every((s, i) => name(s) === ['websocket', 'polling', 'websocket'][i % 3]), { what: () => `transports: ${all.map(name)}` });
    sockets.close();
  });

  it('nothing is lost or doubled while a client goes over to a WebSocket', async () => {
    for (const io of [io2, io4]) {
      const room = unique(), speaker = await sockets.connected(io4, 0, '/', { transports: ['websocket'] }), s = sockets.connect(io, 0, '/', {});
      await ask(speaker, 'join', room);
      if (!s.connected) await within(new Promise(yes => s.once('connect', yes)), PATIENCE_MS, 'connected');
      await ask(s, 'join', room);
      let upgraded = name(s) === 'websocket', n = 0;
      s.io.engine.once('upgrade', () => { upgraded = true; });
      for (let after = 0; after < 50 && n < 5000; n++) { speaker.emit('chat', n); s.emit('chat', `mine ${n}`); after += upgraded; if (n % 10 === 0) await sleep(1); }
      assert.ok(upgraded, 'it has gone over');
      await until(() => events(s, 'chat').length >= 2 * n, { what: () => `${2 * n} messages, ${events(s, 'chat').length} came` });
      const heard = events(s, 'chat').map(([m]) => m);
      assert.deepEqual(heard.filter(m => typeof m === 'number'), Array.from({ length: n }, (_, i) => i));
      assert.deepEqual(heard.filter(m => typeof m === 'string'), Array.from({ length: n }, (_, i) => `mine ${i}`));
    }
    sockets.close();
  });
});

describe('long-polling at any node', { timeout: 120000 }, () => {
  let cluster, proxy;
  before(async () => { cluster = await Cluster.start({ gateways: 2, insecure: true, flags: FLAGS }); proxy = await roundRobin(cluster); });
  after(async () => { proxy.close(); await cluster.stop(); });
  const metric = async (g, name) => Number(new RegExp(`^xindao_${name}_total (\\d+)`, 'm').exec((await g.get('/metrics')).text)[1]);

  it('clients whose requests go to one node after the other', async () => {
    const room = unique(), all = [];
    const via = (io, t) => { const s = io(`http://127.0.0.1:${proxy.port}`, { transports: t, forceNew: true, reconnection: false }); s.heard = []; s.on('chat', (...a) => s.heard.push(['chat', ...a])); all.push(s); return s; };
    for (const io of [io4, io2]) for (const t of [['polling'], ['polling'], ['polling', 'websocket']]) { const s = via(io, t); await within(new Promise((yes, no) => { s.once('connect', yes); s.once('connect_error', no); }), PATIENCE_MS, 'the connect'); }
    for (const s of all) assert.equal((await ask(s, 'join', room)).type, 'ack');
    const N = 30;
    for (let i = 0; i < N; i++) { for (const [j, s] of all.entries()) s.emit('chat', j, i % 3 === 0 ? Buffer.from([j, i]) : `${i}é`); await sleep(2); }
    await until(() => all.every(s => s.heard.length === all.length * N), { what: () => `all messages: ${all.map(s => s.heard.length)}` });
    const seen = s => s.heard.map(([, j, v]) => [j, typeof v === 'string' ? v : Buffer.from(v).toString('hex')]);
    for (const s of all.slice(1)) assert.deepEqual(seen(s), seen(all[0]));
    assert.ok(await metric(cluster.gateways[0], 'polls_forwarded') > 0 && await metric(cluster.gateways[1], 'polls_served') > 0);
    for (const s of all) s.close();
  });

  it('the node that has opened a session decides, wherever its requests come', async () => {
    const [a, b] = cluster.gateways.map(g => g.port), at = (s, port) => Object.assign(Object.create(s), { port });
    let s = await new Session(a, 4).open();
    const first = at(s, b).get();
    await sleep(100);
    assert.equal((await s.get()).status, 400, 'a second GET');
    assert.equal((await first).text, '1');
    assert.equal((await at(s, b).get()).text, '{"code":1,"message":"Session ID unknown"}');
    s = await new Session(a, 4).open();
    await at(s, b).get({ abort: 100 });
    await sleep(100);
    assert.equal((await s.get()).status, 400, 'one that was given up at the other node');
    s = await new Session(a, 4).open();
    assert.equal((await at(s, b).post('abc')).status, 400);
    s = await new Session(a, 4).open();
    assert.equal((await at(s, b).post(`4${'x'.repeat(1048577)}`)).status, 413);
    const waiting = at(s, b).get();
    assert.equal((await s.post('40')).text, 'ok');
    assert.match((await waiting).text, /^40\{"sid"/);
    assert.equal((await ask1(a, `EIO=4&transport=polling&sid=${'x'.repeat(16)}.nobody`)).status, 400);
    assert.equal((await ask1(a, `EIO=3&transport=polling&sid=${'x'.repeat(16)}`)).status, 400);
  });

  it('a session whose node has died is unknown everywhere', async () => {
    const [a, b] = cluster.gateways, s = await new Session(a.port, 4).open(), other = await new Session(a.port, 4).open();
    const waiting = Object.assign(Object.create(other), { port: b.port }).get();
    await sleep(100);
    await a.process.kill();
    assert.equal((await within(waiting, 10000, 'the GET that waited at the other node')).text, '{"code":1,"message":"Session ID unknown"}');
    assert.equal((await Object.assign(Object.create(s), { port: b.port }).get()).text, '{"code":1,"message":"Session ID unknown"}');
  });
});
