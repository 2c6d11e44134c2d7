// redis-down.test.mjs: Redis dies, stalls, cuts the link or is not there yet: clients stay, nothing is lost silently, all comes back by itself
import { after, before, beforeEach, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { Refused, unique } from './lib/client.mjs';
import { sleep, Stalls, until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

const FLAGS = ['--lease', '3s', '--redis-timeout', '1s', '--redis-queue-bytes', '64k', '--max-message-size', '16k'];

describe('without Redis', { timeout: 240000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: FLAGS }); });
  after(() => cluster.stop());
  beforeEach(async () => { // whatever the test before left behind
    if (cluster.redis.process.ended) await cluster.redis.boot();
    await ready('the nodes to be ready');
  });

  const status = gw => gw.get('/readyz').then(r => r.status);
  const ready = (what, ms = 60000) => until(async () => (await Promise.all(cluster.gateways.map(status))).every(s => s === 200), { what, ms });
  const notReady = async ms => {
    const began = Date.now();
    await until(async () => (await Promise.all(cluster.gateways.map(status))).every(s => s === 503), { what: '/readyz to turn 503', ms });
    return Date.now() - began;
  };

  /** Both ways, exactly once, in one order. */
  async function talks(room, a, b) {
    for (const c of [a, b]) c.take('message');
    const mark = unique('mark');
    await a.publish(room, `${mark} from a`);
    await b.publish(room, `${mark} from b`);
    for (const c of [a, b]) {
      const heard = [];
      while (heard.length < 2) { const m = await c.message(room); if (String(m.data).startsWith(mark)) heard.push(m); }
      assert.deepEqual(heard.map(m => m.data), [`${mark} from a`, `${mark} from b`]);
      assert.equal(offsetOf(heard[1].position), offsetOf(heard[0].position) + 1);
      await c.settle();
      assert.deepEqual(c.take(f => f.type === 'message' && String(f.data).startsWith(mark)), []);
    }
  }

  /** Members by user, seen from both nodes. */
  const present = (room, clients, users) => until(async () => {
    const lists = await Promise.all(clients.map(c => c.call({ type: 'presence', room })));
    return lists.every(l => l.total === users.length && l.members.map(m => m.user).sort().join() === users.join());
  }, { what: `presence of ${users} in ${room}`, ms: 40000 });

  it('clients stay, publishes are refused retryably or wait, /readyz tells, and all comes back', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b'), before = await cluster.gateways[0].metrics();
    await a.join(room); await b.join(room);
    await talks(room, a, b);
    await cluster.redis.process.kill();

    const stalls = new Stalls(), took = await notReady(20000), allowed = stalls.allowing(3000);
    assert.ok(took < allowed, `${took} ms, ${allowed} ms allowed`);
    const answer = await cluster.gateways[0].get('/readyz');
    assert.ok(answer.json.reason || answer.json.message, 'it says why');
    assert.equal((await cluster.gateways[0].get('/healthz')).status, 200);

    const tries = Array.from({ length: 300 }, (_, i) => a.publish(room, { try: i, pad: 'x'.repeat(1000) }, { key: `try-${i}` }, 30000).then(() => 'acked', e => e));
    const byB = b.call({ type: 'publish', room, data: 'waits or fails' }, 30000).then(() => 'acked', e => e);
    const pong = await a.call({ type: 'ping' }, 20000);
    assert.equal(pong.type, 'pong');
    a.raw('ping');
    await a.next('text.pong');
    await sleep(3500); // longer than the lease: the nodes must not take each other for dead afterwards
    assert.equal(a.end ?? b.end, undefined, 'a client was disconnected');
    assert.equal(await status(cluster.gateways[0]), 503);

    await cluster.redis.boot();
    await ready('/readyz to turn 200 again');
    const answers = await Promise.all([...tries, byB]);
    for (const x of answers) {
      if (x === 'acked') continue;
      assert.ok(x instanceof Refused, String(x));
      assert.ok(['unavailable', 'timeout'].includes(x.code) && x.retry === true, x.message);
    }
    assert.ok(answers.some(x => x !== 'acked'), '300 KB cannot all have waited in a queue of 64 KB');
    await talks(room, a, b);
    await present(room, [a, b], ['a', 'b']);

    // What was acknowledged was published once, even where the client asked again with its key.
    b.take('message');
    const again = [];
    for (let i = 0; i < 300; i++) again.push(await a.publish(room, { try: i, pad: '' }, { key: `try-${i}` }));
    assert.equal(new Set(again.map(x => offsetOf(x.position))).size, 300);

    const fresh = await cluster.client(1, 'c'), elsewhere = unique();
    await fresh.join(elsewhere);
    await a.join(elsewhere);
    await a.publish(elsewhere, 1);
    await fresh.message(elsewhere);
    assert.equal((await cluster.redis.hash(`xd:session:{${a.session}}`)).user, 'a', 'the session is in the store');
    await cluster.gateways[0].counted(before, 'xindao_redis_reconnects_total');
    for (const c of [a, b, fresh]) await c.close();
    await until(async () => (await cluster.redis.keys('xd:session:*')).length === 0, { what: 'the sessions to leave the store' });
  });

  it('who leaves while Redis is away does not stay behind as a ghost', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b'), c = await cluster.client(1, 'c');
    for (const x of [a, b, c]) await x.join(room);
    await cluster.redis.process.kill();
    await notReady(20000);
    await b.drop();
    await cluster.redis.boot();
    await ready('Redis to be back');
    await present(room, [a, c], ['a', 'c']);
    await a.settle();
    // The notice itself may fall between two reconnects: whoever needs certainty after an outage asks for presence.
    assert.ok(a.take(f => f.type === 'exit' && f.session === b.session).length <= 1, 'told twice');
    await talks(room, a, c);
    await until(async () => (await cluster.redis.cli('EXISTS', `xd:session:{${b.session}}`)) === '0', { what: 'the session to go' });
    await a.close(); await c.close();
  });

  it('a link that Redis cuts is made again', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b'), before = await cluster.gateways[0].metrics();
    await a.join(room); await b.join(room);
    for (const type of ['pubsub', 'normal', 'pubsub']) {
      await cluster.redis.cli('CLIENT', 'KILL', 'TYPE', type);
      await until(async () => { try { await a.publish(room, 'probe'); await b.publish(room, 'probe'); return true; } catch (e) { if (e.retry) return false; throw e; } }, { what: 'publishing to work again' });
      await ready('the nodes to be ready again');
      await talks(room, a, b);
    }
    await cluster.gateways[0].counted(before, 'xindao_redis_reconnects_total');
    await a.close(); await b.close();
  });

  it('a Redis that hangs is noticed, and forgiven', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b');
    await a.join(room); await b.join(room);
    process.kill(cluster.redis.process.pid, 'SIGSTOP');
    try {
      await notReady(6000);
      const e = await a.publish(room, 1).catch(x => x);
      assert.ok(e instanceof Refused && e.retry, String(e));
    } finally { process.kill(cluster.redis.process.pid, 'SIGCONT'); }
    await ready('Redis to be forgiven');
    await talks(room, a, b);
    await a.close(); await b.close();
  });

  it('a gateway that starts while it hangs welcomes clients when it goes on', async () => {
    process.kill(cluster.redis.process.pid, 'SIGSTOP');
    let late;
    try {
      late = await cluster.add('hung', { flags: FLAGS, wait: false });
      await until(() => late.log.includes('subscribe failed'), { what: 'the first subscription to fail' });
    } finally { process.kill(cluster.redis.process.pid, 'SIGCONT'); }
    await late.ready();
    const room = unique(), a = await late.client('a'), b = await cluster.client(0, 'b');
    await a.join(room); await b.join(room);
    await talks(room, a, b);
    await a.close(); await b.close();
  });

  it('a gateway starts without it and is ready when it comes', async () => {
    await cluster.redis.process.kill();
    const late = await cluster.add('late', { flags: FLAGS, wait: false });
    await until(async () => (await status(late)) === 503, { what: 'the new gateway to answer 503' });
    assert.equal((await late.get('/healthz')).status, 200);
    await cluster.redis.boot();
    await late.ready();
    const room = unique(), a = await late.client('a'), b = await cluster.client(0, 'b');
    await a.join(room); await b.join(room);
    await talks(room, a, b);
    await a.close(); await b.close();
  });
});
