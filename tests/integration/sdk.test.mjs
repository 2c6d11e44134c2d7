// sdk.test.mjs: sdk/js against real gateways that are killed, restarted and drained; in a mini-program's clothes; with tokens
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { connect, wxSocket, XindaoError } from '../../sdk/js/xindao.js';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { offsetOf } from './lib/position.mjs';
import { Key, keySet } from './lib/tokens.mjs';
import { sleep, until } from './lib/wait.mjs';

const clients = [];

/** Sockets to the gateways in turn, as a load balancer would give them, of those that answer. */
const balanced = (cluster, first = 0) => {
  let n = first;
  return (url, protocols) => new WebSocket(url.replace('wss://cluster', cluster.gateways[n++ % cluster.gateways.length].url), protocols, { ca: cluster.ca });
};

function client(cluster, options = {}, first = 0) {
  const c = connect('wss://cluster/ws', { socket: balanced(cluster, first), retry: [50, 400], ...options });
  clients.push(c);
  return c;
}

const once = (c, name, match = () => true) => new Promise(yes => { const off = c.on(name, f => { if (match(f)) { off(); yes(f); } }); });

/** What a client hears of a room: its data, in order. */
function hear(c, room) {
  const seen = [];
  c.on('message', m => { if (m.room === room) seen.push(m.data); });
  return seen;
}

describe('the JavaScript client', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: ['--resume-window', '20s', '--drain-time', '3s', '--lease', '2s', '--redis-timeout', '1s', '--policy', 'held.* publish=nobody', '--policy', '* retain-count=2000'] }); });
  after(async () => {
    for (const c of clients) c.close();
    await cluster.stop();
  });

  it('speaks the protocol', async () => {
    const room = unique(), a = client(cluster, { user: 'alice' }), b = client(cluster, { user: 'bob' }, 1);
    const joined = await a.join(room);
    assert.deepEqual([joined.position, joined.total], ['0', 1]);
    const entered = once(a, 'enter');
    assert.equal((await b.join(room)).total, 2);
    assert.equal((await entered).user, 'bob');
    const heard = once(b, 'message');
    const { position } = await a.publish(room, { text: '你好' }, { event: 'chat' });
    const m = await heard;
    assert.deepEqual([m.data, m.event, m.from, m.position], [{ text: '你好' }, 'chat', { session: a.session, user: 'alice' }, position]);
    assert.deepEqual((await b.presence(room)).members.map(x => x.user).sort(), ['alice', 'bob']);
    const page = await b.history(room, { limit: 10 });
    assert.deepEqual([page.messages.map(x => x.data), page.more], [[{ text: '你好' }], false]);
    const whisper = once(b, 'message', f => f.room.startsWith('$'));
    await a.send({ user: 'bob' }, 'psst');
    assert.equal((await whisper).data, 'psst');
    await assert.rejects(a.send({ user: 'nobody-there' }, 1), e => e instanceof XindaoError && e.code === 'not_found');
    await assert.rejects(a.publish('held.1', 1), { code: 'forbidden' });
    const gone = once(b, 'exit'); // a frame that is too large ends the session, so it may come at once
    await assert.rejects(a.publish(room, 'x'.repeat(1 << 20)), { code: 'too_large' });
    a.close();
    assert.deepEqual([(await gone).user, a.state], ['alice', 'closed']);
    await assert.rejects(a.join(room), { code: 'closed' });
  });

  it('carries bytes', async () => {
    const room = `${unique()} 100%e4 你好 \u{1f600}`, a = client(cluster, { user: '爱丽丝' }), b = client(cluster, {}, 1);
    const seen = hear(b, room);
    await a.join(room);
    await b.join(room);
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    await a.publish(room, all, { event: 'é%25' });
    await a.publish(room, all.buffer.slice(0, 1));
    await a.publish(room, new DataView(all.buffer, 7, 0));
    await a.publish(room, 'text');
    await until(() => seen.length === 4, 'four messages');
    assert.deepEqual(seen, [all, Uint8Array.of(0), new Uint8Array(0), 'text']);
    const { messages } = await b.history(room, { limit: 10 });
    assert.deepEqual(messages.map(m => [m.room, m.event, m.from.user, m.data]), seen.map((data, i) => [room, i === 0 ? 'é%25' : undefined, '爱丽丝', data]));
    assert.equal(b.rooms.get(room).position, messages[3].position);
  });

  it('misses nothing and says nothing twice while gateways are killed and drained under it', async () => {
    const room = unique(), all = [0, 1, 0].map((n, i) => client(cluster, { user: `u${i}` }, n)), seen = all.map(c => hear(c, room));
    await Promise.all(all.map(c => c.join(room)));
    const lost = [];
    for (const c of all) c.on('recovered', f => { if (!f.recovered) lost.push(f); });
    let running = true;
    const writers = all.map(async (c, w) => {
      const acked = [];
      for (let i = 0; running; i++, await sleep(10)) acked.push(c.publish(room, `${w}.${i}`).then(({ position }) => [`${w}.${i}`, offsetOf(position)]));
      return Promise.all(acked);
    });
    for (const [n, how] of [[0, 'SIGKILL'], [1, 'SIGTERM'], [0, 'SIGKILL']]) {
      await sleep(700);
      const gw = cluster.gateways[n];
      gw.process.expected = true;
      gw.process.signal(how);
      await gw.process.exit;
      await sleep(300);
      gw.boot();
      await gw.ready();
    }
    await sleep(500);
    running = false;
    const acked = (await Promise.all(writers)).flat().sort((x, y) => x[1] - y[1]).map(x => x[0]);
    await until(() => seen.every(s => s.length >= acked.length), { what: 'everybody to have everything' });
    assert.ok(acked.length > 200, `${acked.length} messages`);
    for (const s of seen) assert.deepEqual(s, acked, 'everything that was acknowledged, once, in the order of its positions');
    assert.deepEqual(lost, []);
    for (const c of all) assert.equal((await c.presence(room)).members.filter(m => m.state === 'active').length, 3);
  });

  it('goes into its rooms again when its session is over', async () => {
    const room = unique(), a = client(cluster, { user: 'a' }), b = client(cluster, { user: 'b' }, 1), seen = hear(a, room);
    await a.join(room);
    await b.join(room);
    const before = a.session;
    a._ticket.token = 'x'.repeat(32); // as good as a session that is gone
    const back = once(a, 'recovered');
    a._ws.terminate();
    await b.publish(room, 'meanwhile');
    assert.equal((await back).recovered, true);
    await b.publish(room, 'then');
    await until(() => seen.length === 2, { what: 'both messages' });
    assert.deepEqual([seen, a.session !== before], [['meanwhile', 'then'], true]);
  });

  it('notices that a gateway says nothing any more, and answers late commands with timeout', async () => {
    const room = unique(), a = client(cluster, { answerWithin: 300, patience: 1500 });
    await a.join(room);
    a.heartbeat = 200;
    const dead = a._ws;
    dead._socket.pause(); // the network swallows everything
    a._beat();
    await once(a, 'state', s => s === 'offline');
    await once(a, 'state', s => s === 'online');
    dead.terminate();
    await a.publish(room, 1);
    const none = connect('wss://cluster/ws', { socket: () => ({ send() {}, close() {} }), patience: 200, retry: [50, 100] });
    clients.push(none);
    await assert.rejects(none.join(room), { code: 'timeout' });
  });

  it('runs in a mini-program', async () => {
    const tasks = [], wx = { connectSocket({ url, protocols }) {
      const ws = balanced(cluster)(url, protocols), task = {
        send: ({ data }) => ws.send(data), close: ({ code, reason }) => ws.close(code, reason),
        onOpen: f => ws.on('open', () => f({})), onMessage: f => ws.on('message', d => f({ data: d.toString() })), onError: f => ws.on('error', e => f({ errMsg: e.message })), onClose: f => ws.on('close', (code, reason) => f({ code, reason: reason.toString() })),
      };
      tasks.push(ws);
      return task;
    } };
    const room = unique(), a = client(cluster, { user: 'mini', socket: wxSocket(wx) }), seen = hear(a, room);
    await a.join(room);
    await a.publish(room, 1);
    tasks[0].terminate();
    await a.publish(room, 2);
    await until(() => seen.length === 2, { what: 'both messages' });
    assert.deepEqual([seen, tasks.length], [[1, 2], 2]);
    const off = a.on('state', () => a.close()); // from inside: it must not come back all the same
    tasks[1].terminate();
    await until(() => a.state === 'closed', { what: 'its end' });
    off();
    await sleep(600);
    assert.deepEqual([tasks.length, a.state], [2, 'closed']);
  });
});

describe('the JavaScript client with tokens', { timeout: 60000 }, () => {
  let cluster, key;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    key = await Key.make('EdDSA', 'k1');
    await cluster.add('gw1', { flags: ['--auth', 'jwt', '--jwt-key', keySet(cluster.dir, 'keys.json', key), '--jwt-leeway', '0s'] });
  });
  after(() => cluster.stop());

  it('brings the next token when the gateway says so, whatever the clock here is, and says why it is refused', async () => {
    const clock = Date.now, offline = [], told = [];
    let asked = 0, a;
    Date.now = () => clock() - 3600000;
    try {
      a = client(cluster, { token: () => { asked++; return key.sign('alice', { exp: Math.floor(clock() / 1000) + 4 }); } });
      a.on('expiring', f => told.push(f.in > 0));
      await a.join(unique());
      a.on('state', s => offline.push(s));
      await until(() => asked >= 3, { what: 'two more tokens' });
      assert.deepEqual([a.user, a.state, offline, told], ['alice', 'online', [], [true, true]]);
    } finally {
      Date.now = clock;
      a.close();
    }
    const b = client(cluster, { token: 'not.a.token' }), [, why] = await new Promise(yes => b.on('state', (...x) => x[0] === 'closed' && yes(x)));
    assert.equal(why.code, 'unauthorized');
    await assert.rejects(b.join('x'), { code: 'closed' });
  });
});
