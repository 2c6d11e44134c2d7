// resume.test.mjs: clients that come back, to the same node or another, in time or too late
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { sleep, Stalls, until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

const flags = window => ['--resume-window', window, '--lease', '2s', '--redis-timeout', '1s', '--policy', 'brief-* retain-count=3', '--policy', 'loose-* retain-count=0', '--policy', '* retain-count=300'];

const ticket = (c, ...positions) => ({ type: 'resume', session: c.session, token: c.welcome.token, positions });
const at = (room, position) => ({ room, position });

/** Comes back with what the old client had: the welcome, and one `recovered` per room. */
async function comeBack(gateway, old, positions, rooms = positions.map(p => p.room)) {
  const c = await gateway.client();
  c.send({ id: 'back', ...ticket(old, ...positions) });
  c.back = await c.next(f => f.type === 'welcome' && f.id === 'back');
  c.session = c.back.session;
  c.recovered = new Map();
  for (const room of rooms) c.recovered.set(room, await c.next(f => f.type === 'recovered' && f.room === room));
  return c;
}

async function presence(c, room) {
  const p = await c.call({ type: 'presence', room });
  return [p.total, p.members.map(m => `${m.session} ${m.state}`).sort()];
}

/** Takes n messages of the room; fails when one is missing, doubled or out of order. */
async function sequence(c, room, first, n) {
  for (let i = first; i < first + n; i++) {
    const m = await c.message(room);
    assert.deepEqual([m.data, offsetOf(m.position)], [i, i], 'in order, without a gap');
  }
}

async function pair(gateways, room) {
  const [a, b] = [await gateways[0].client('alice'), await gateways[gateways.length - 1].client('bob')];
  await a.join(room);
  const joined = await b.join(room);
  await a.next('enter');
  return [a, b, joined];
}

function common(where, gateways, redis) {
  describe(`coming back: ${where}`, { timeout: 240000 }, () => {
    let cluster;
    before(async () => { cluster = await Cluster.start({ gateways, redis, flags: flags('60s') }); });
    after(() => cluster.stop());
    const first = () => cluster.gateways[0], last = () => cluster.gateways[gateways - 1];

    it('a broken connection misses nothing, and is shown as suspended meanwhile', async () => {
      const room = unique(), other = unique();
      const [a, b] = await pair(cluster.gateways, room);
      await b.join(other);
      for (let i = 1; i <= 3; i++) await a.publish(room, i);
      await sequence(b, room, 1, 2);
      const seen = await b.message(room);
      await b.drop();
      const s = await a.next('suspend');
      assert.deepEqual([s.session, s.user, s.total, s.room], [b.session, 'bob', 2, room]);
      assert.deepEqual(await presence(a, room), [2, [`${a.session} active`, `${b.session} suspended`].sort()]);
      // Its rooms say it first, then the store has it parked.
      assert.equal((await until(() => a.refused({ type: 'send', to: { session: b.session }, data: 1 }).catch(() => null), { what: 'the session to be parked' })).code, 'unavailable');
      for (let i = 4; i <= 250; i++) a.send({ type: 'publish', room, data: i });
      await a.settle();

      const c = await comeBack(first(), b, [at(room, seen.position)], [room, other]);
      assert.deepEqual([c.back.resumed, c.back.session, c.back.token, c.back.user], [true, b.session, b.welcome.token, 'bob']);
      assert.equal(c.recovered.get(room).recovered, true);
      assert.deepEqual([c.recovered.get(other).recovered, c.recovered.get(other).reason], [false, 'no_position']);
      await sequence(c, room, 4, 247);
      assert.deepEqual([(await a.next('enter')).session, a.take('exit')], [b.session, []]);
      await a.publish(room, 251);
      await sequence(c, room, 251, 1);
      assert.deepEqual(await presence(c, room), [2, [`${a.session} active`, `${b.session} active`].sort()]);
      // It is the session it was, with all that belongs to it.
      await a.call({ type: 'send', to: { user: 'bob' }, data: 'u' });
      assert.equal((await c.message('$user:bob')).data, 'u');
      await a.call({ type: 'send', to: { session: b.session }, data: 's' });
      assert.equal((await c.message(`$session:${b.session}`)).data, 's');
      await c.settle();
      assert.deepEqual(c.take('message').filter(m => m.room === room), [], 'nothing twice');
      await c.close();
      const exit = await a.next('exit');
      assert.deepEqual([exit.session, exit.reason, exit.total], [b.session, 'disconnect', 1]);
      await a.close();
    });

    it('resuming before anything happened, and several times', async () => {
      const room = unique(), [a, b, joined] = await pair(cluster.gateways, room);
      let c = b, n = 0, position = joined.position;
      for (let i = 0; i < 4; i++) {
        await c.drop();
        await a.next('suspend');
        c = await comeBack(cluster.gateways[i % gateways], b, [at(room, position)]);
        assert.equal(c.recovered.get(room).recovered, true);
        assert.deepEqual(c.recovered.get(room).position, position);
        await a.next('enter');
        await a.publish(room, ++n);
        const m = await c.message(room);
        assert.equal(m.data, n);
        position = m.position;
      }
      await c.settle();
      assert.deepEqual(c.take('message'), []);
      await a.close(); await c.close();
    });

    it('takeover: the old connection is closed, nobody sees an exit', async () => {
      const room = unique(), [a, b, joined] = await pair(cluster.gateways, room);
      const c = await comeBack(first(), b, [at(room, joined.position)]);
      assert.equal((await b.next('goodbye')).reason, 'resumed_elsewhere');
      assert.equal((await b.closed).code, 4002);
      await a.publish(room, 1);
      await sequence(c, room, 1, 1);
      await sleep(300);
      await a.settle();
      assert.deepEqual([a.take('exit'), a.take('suspend')], [[], []]);
      assert.deepEqual(await presence(a, room), [2, [`${a.session} active`, `${b.session} active`].sort()]);
      await a.call({ type: 'send', to: { session: b.session }, data: 's' });
      assert.equal((await c.message(`$session:${b.session}`)).data, 's');
      await a.close(); await c.close();
    });

    it('a wrong token resumes nothing and breaks nothing', async () => {
      const room = unique(), [a, b] = await pair(cluster.gateways, room);
      const thief = await first().client('thief');
      assert.equal((await thief.refused({ ...ticket(b), token: 'x'.repeat(b.welcome.token.length) })).code, 'unauthorized');
      assert.equal((await thief.refused({ ...ticket(b), session: 'x'.repeat(b.session.length) })).code, 'not_found');
      assert.equal(thief.welcome.user, 'thief');
      await thief.join(room);
      await b.drop();
      await a.next('suspend');
      const other = await last().client();
      assert.equal((await other.refused({ ...ticket(b), token: thief.welcome.token })).code, 'unauthorized');
      const c = await comeBack(last(), b, [], [room]);
      assert.equal(c.back.user, 'bob');
      for (const x of [a, c, thief, other]) await x.close();
    });

    it('what the log no longer has is said, and the stream goes on', async () => {
      const room = unique('brief'), loose = unique('loose'), [a, b, joined] = await pair(cluster.gateways, room);
      await a.join(loose);
      const j = await b.join(loose);
      await b.drop();
      await a.next('suspend');
      for (let i = 1; i <= 5; i++) await a.publish(room, i);
      await a.publish(loose, 1);
      const c = await comeBack(first(), b, [at(room, joined.position), at(loose, j.position)]);
      const r = c.recovered.get(room), l = c.recovered.get(loose);
      assert.deepEqual([r.recovered, r.reason, offsetOf(r.position)], [false, 'expired', 5]);
      assert.deepEqual([l.recovered, l.reason, offsetOf(l.position)], [false, 'not_retained', 1]);
      await a.publish(room, 6);
      await sequence(c, room, 6, 1);
      // A branch of history that never was.
      await c.drop();
      await a.publish(room, 7);
      const d = await comeBack(last(), b, [at(room, '6.01234567')], [room, loose]);
      assert.deepEqual([d.recovered.get(room).recovered, d.recovered.get(room).reason], [false, 'fork']);
      await a.close(); await d.close();
    });

    it('joining with a position, and history in both directions', async () => {
      const room = unique(), a = await first().client('alice');
      await a.join(room);
      const positions = [];
      for (let i = 1; i <= 30; i++) positions.push((await a.publish(room, i)).position);
      const b = await last().client('bob');
      await b.call({ type: 'join', room, position: positions[9] });
      assert.equal((await b.next('recovered')).recovered, true);
      await sequence(b, room, 11, 20);
      await a.publish(room, 31);
      await sequence(b, room, 31, 1);
      const read = async more => {
        const ack = await b.call({ type: 'history', room, ...more });
        return [b.take(f => f.type === 'message' && f.id !== undefined).map(m => m.data), ack.more];
      };
      assert.deepEqual(await read({ limit: 3 }), [[29, 30, 31], false]);
      assert.deepEqual(await read({ before: 4, limit: 100 }), [[1, 2, 3], false]);
      assert.deepEqual(await read({ before: 29, limit: 2 }), [[27, 28], false]);
      assert.deepEqual(await read({ after: 28, limit: 2 }), [[29, 30], true]);
      assert.deepEqual(await read({ after: 29 }), [[30, 31], false]);
      await a.close(); await b.close();
    });
  });

  describe(`not coming back: ${where}`, { timeout: 120000 }, () => {
    let cluster;
    before(async () => { cluster = await Cluster.start({ gateways, redis, flags: flags('2s') }); });
    after(() => cluster.stop());

    it('suspended, then gone, once', async () => {
      const room = unique(), [a, b] = await pair(cluster.gateways, room);
      await b.drop();
      await a.next('suspend');
      const dropped = Date.now();
      const exit = await a.next('exit');
      assert.ok(Date.now() - dropped > 1500, 'not before its window is over');
      assert.deepEqual([exit.session, exit.user, exit.reason, exit.total], [b.session, 'bob', 'disconnect', 1]);
      const c = await cluster.gateways[0].client();
      assert.equal((await c.refused(ticket(b))).code, 'not_found');
      await c.join(room);
      assert.deepEqual(await presence(a, room), [2, [`${a.session} active`, `${c.session} active`].sort()]);
      await sleep(2500);
      await a.settle();
      assert.deepEqual(a.take('exit'), []);
      if (cluster.redis) assert.deepEqual((await cluster.redis.keys('*')).filter(k => !k.endsWith(':presence') && (k.includes(b.session) || k.includes('bob') || k === 'xd:parked')), []);
      await a.close(); await c.close();
    });

    it('saying goodbye ends it at once', async () => {
      const room = unique(), [a, b] = await pair(cluster.gateways, room);
      await b.close();
      const exit = await a.next('exit');
      assert.deepEqual([exit.session, exit.reason, a.take('suspend')], [b.session, 'disconnect', []]);
      await a.close();
    });
  });
}

common('the embedded broker', 1, false);
common('two nodes on Redis', 2, true);

describe('a node that dies with sessions that may come back', { timeout: 240000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: flags('8s') }); });
  after(() => cluster.stop());

  it('asked for by a client that is gone before the answer: it can still be had', async () => {
    const room = unique(), a = await cluster.client(0, 'hasty'), { redis } = cluster, gateway = cluster.gateways[0];
    await a.join(room);
    await a.drop();
    for (let i = 0; i < 20; i++) {
      const c = await cluster.client(0, 'hasty');
      c.send({ id: 1, ...ticket(a) });
      redis.process.signal('SIGSTOP');
      await c.drop();
      await sleep(10 + 5 * (i % 4));
      redis.process.signal('SIGCONT');
    }
    const back = await comeBack(gateway, a, [], [room]);
    assert.equal(back.back.resumed, true);
    await back.close();
  });

  it('kill -9: back on another node at once, without a gap; who does not come back leaves once', async () => {
    const room = unique(), victim = await cluster.add('victim', { flags: flags('8s') });
    const a = await cluster.client(0, 'alice'), gone = await victim.client('gone'), clients = [];
    await a.join(room);
    await gone.join(room);
    for (let i = 0; i < 10; i++) {
      const c = await victim.client(`u${i}`);
      await c.join(room);
      clients.push(c);
    }
    for (let i = 1; i <= 5; i++) await a.publish(room, i);
    for (const c of clients) {
      await sequence(c, room, 1, 4);
      c.last = await c.message(room);
    }
    await a.settle(); a.take('enter');
    await victim.kill();
    await Promise.all(clients.map(c => c.closed));
    for (let i = 6; i <= 8; i++) await a.publish(room, i);
    const stalls = new Stalls(), waits = [];
    await Promise.all(clients.map(async (old, i) => {
      const started = Date.now();
      const c = await comeBack(cluster.gateways[i % 2], old, [at(room, old.last.position)]);
      await sequence(c, room, 6, 1);
      waits.push(Date.now() - started);
      await sequence(c, room, 7, 2);
      c.i = i;
      clients[i] = c;
    }));
    const allowed = stalls.allowing(1000);
    assert.ok(Math.max(...waits) < allowed, `the first missed messages after ${waits} ms, ${allowed} ms allowed`);
    const s = await a.next('suspend');
    assert.equal(s.session, gone.session, 'only who has not come back is suspended');
    await until(async () => (await cluster.redis.hash(`xd:session:{${gone.session}}`)).state === 'parked', { what: 'the session to be parked' });
    const parked = (await cluster.redis.cli('ZRANGE', 'xd:parked', '0', '-1')).split('\n'); // those of other tests too
    assert.ok(parked.includes(gone.session));
    assert.deepEqual(clients.filter(c => parked.includes(c.session)), [], 'who came back is not parked');
    const exit = await a.next('exit', 60000);
    assert.deepEqual([exit.session, exit.reason, exit.total], [gone.session, 'disconnect', 11]);
    await a.publish(room, 9);
    for (const c of clients) await sequence(c, room, 9, 1);
    await sleep(2500);
    await a.settle();
    assert.deepEqual([a.take('exit'), a.take('suspend')], [[], []]);
    assert.deepEqual((await presence(a, room))[0], 11);
    assert.equal((await cluster.redis.keys('*')).some(k => k.includes('victim') || k.includes(gone.session)), false);
    for (const c of [a, ...clients]) await c.close();
  });

  it('a node in order: its clients are parked, and go on elsewhere', async () => {
    const room = unique(), leaving = await cluster.add('leaving', { flags: flags('8s') });
    const a = await cluster.client(0, 'alice'), b = await leaving.client('bob');
    await a.join(room);
    const joined = await b.join(room);
    await leaving.stop();
    await b.closed;
    assert.equal((await a.next('suspend')).session, b.session);
    await a.publish(room, 1);
    const c = await comeBack(cluster.gateways[1], b, [at(room, joined.position)]);
    await sequence(c, room, 1, 1);
    assert.deepEqual(a.take('exit'), []);
    await a.close(); await c.close();
  });

  it('a node asleep past its lease: the client goes on elsewhere, and the sleeper lets go of it', async () => {
    const room = unique(), sleeper = await cluster.add('sleeper', { flags: flags('8s') });
    const a = await cluster.client(0, 'alice'), s = await sleeper.client('s'), stays = await sleeper.client('stays');
    await a.join(room);
    const joined = await s.join(room);
    await stays.join(room);
    process.kill(sleeper.process.pid, 'SIGSTOP');
    let c;
    try {
      const suspended = [(await a.next('suspend')).session, (await a.next('suspend')).session];
      assert.deepEqual(suspended.sort(), [s.session, stays.session].sort());
      c = await comeBack(cluster.gateways[1], s, [at(room, joined.position)]);
      await a.publish(room, 1);
      await sequence(c, room, 1, 1);
    } finally { process.kill(sleeper.process.pid, 'SIGCONT'); }
    assert.equal((await s.closed).code, 4002);
    await a.next(f => f.type === 'enter' && f.session === stays.session);
    await a.publish(room, 2);
    await sequence(c, room, 2, 1);
    await stays.next(m => m.type === 'message' && m.data === 2);
    await a.settle();
    assert.deepEqual(a.take('exit'), []);
    assert.deepEqual(await presence(a, room), [3, [a, s, stays].map(x => `${x.session} active`).sort()]);
    assert.equal((await cluster.redis.hash(`xd:session:{${s.session}}`)).node, (await cluster.redis.hash(`xd:session:{${c.session}}`)).node);
    for (const x of [a, c, stays]) await x.close();
  });
});
