// cluster.test.mjs: two gateways and Redis are one room server, and redis-cli shows it
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

describe('a cluster of two', { timeout: 240000 }, () => {
  let cluster, redis;
  before(async () => { cluster = await Cluster.start({ gateways: 2 }); redis = cluster.redis; });
  after(() => cluster.stop());

  it('gives every member every message, in one order, once, under 20 joins and leaves per second', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b');
    await a.join(room);
    await b.join(room);
    await a.next('enter');
    let going = true, moves = 0;
    const churn = [0, 1, 0, 1].map(async (n, i) => {
      const c = await cluster.client(n, `churn${i}`);
      for (let next = Date.now() + 50 * i; going; next += 200) {
        await c.join(room); moves++;
        await new Promise(yes => setTimeout(yes, Math.max(0, next + 100 - Date.now())));
        if (i === 3 && moves % 3 === 0) { await c.drop(); return; }
        await c.leave(room); moves++;
        await new Promise(yes => setTimeout(yes, Math.max(0, next + 200 - Date.now())));
      }
      await c.close();
    });
    const N = 150, PAUSE_MS = 20;
    const talk = async (c, who) => {
      const acks = [];
      for (let i = 0; i < N; i++) {
        acks.push(c.publish(room, { who, i }));
        await new Promise(yes => setTimeout(yes, PAUSE_MS));
      }
      return Promise.all(acks);
    };
    const [acksA, acksB] = await Promise.all([talk(a, 'a'), talk(b, 'b')]);
    going = false;
    await Promise.all(churn);
    assert.ok(moves >= 20 * N * PAUSE_MS / 1000, `only ${moves} joins and leaves`);

    const messages = async c => { const got = []; while (got.length < 2 * N) got.push(await c.message(room)); await c.settle(); return got; };
    const [seenA, seenB] = [await messages(a), await messages(b)];
    assert.equal(a.take('message').length + b.take('message').length, 0, 'more than was published');
    assert.deepEqual(seenA.map(m => offsetOf(m.position)), Array.from({ length: 2 * N }, (_, i) => i + 1), 'offsets count without holes');
    assert.deepEqual(seenB.map(m => m.raw), seenA.map(m => m.raw), 'both saw the same bytes');
    for (const [acks, who] of [[acksA, 'a'], [acksB, 'b']]) {
      const mine = seenA.filter(m => m.data.who === who);
      assert.deepEqual(mine.map(m => m.data.i), Array.from({ length: N }, (_, i) => i), `${who}'s messages are in the order it sent them`);
      assert.deepEqual(acks.map(x => x.position), mine.map(m => m.position), 'each ack told the position');
    }
    await a.close(); await b.close();
  });

  it('costs Redis one script per publish, however many listen', async () => {
    const room = unique(), clients = await Promise.all([0, 1, 0, 1].map((n, i) => cluster.client(n, `c${i}`)));
    for (const c of clients) await c.join(room);
    for (const c of clients) await c.settle();
    // What a node does by the clock is no part of it: heartbeats, probes, the look at what is parked.
    const calls = async () => Object.fromEntries((await cluster.redis.cli('INFO', 'commandstats')).split('\n').map(l => /^cmdstat_(\w+):calls=(\d+)/.exec(l)).filter(Boolean).map(m => [m[1], Number(m[2])]));
    const idle = await calls(), began = Date.now();
    await new Promise(yes => setTimeout(yes, 1000));
    const before = await calls(), N = 400;
    for (let i = 0; i < N; i++) await clients[i % 4].publish(room, i, { key: `k${i}` });
    const after = await calls(), lasted = (Date.now() - began) / 1000, grew = name => (after[name] ?? 0) - (before[name] ?? 0);
    const clock = Math.ceil(((before.evalsha ?? 0) - (idle.evalsha ?? 0) + 2) * lasted);
    assert.ok(grew('evalsha') >= N && grew('evalsha') <= N + clock, `${grew('evalsha')} scripts for ${N} publishes, of which ${clock} may be the clock's`);
    assert.equal(grew('xadd'), N, 'one entry in the log for each');
    for (const c of clients) await c.close();
  });

  it('puts enter and exit at the same place for everybody', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b');
    const [c, d] = [await cluster.client(0, 'c'), await cluster.client(1, 'd')];
    await a.join(room); await b.join(room); await a.next('enter');
    await Promise.all([a, b, c, d].map(async (x, i) => {
      for (let n = 0; n < 40; n++) {
        if (i < 2) await x.publish(room, [i, n]);
        else if (n % 2) await x.leave(room); else await x.join(room);
      }
    }));
    await a.publish(room, 'end');
    const story = async x => {
      const seen = [];
      for (;;) {
        const f = await x.next(m => ['message', 'enter', 'exit'].includes(m.type));
        if (f.data === 'end') return seen;
        seen.push(f.type === 'message' ? `message ${offsetOf(f.position)}` : `${f.type} ${f.user} ${f.total} ${f.time}`);
      }
    };
    const [one, two] = [await story(a), await story(b)];
    assert.deepEqual(two, one);
    assert.equal(one.filter(x => x.startsWith('enter')).length, 40);
    assert.equal(one.filter(x => x.startsWith('exit')).length, 40);
    for (const x of [a, b, c, d]) await x.close();
  });

  it('begins a view exactly at the join: nothing older, nothing missed', async () => {
    const room = unique(), a = await cluster.client(0, 'a');
    await a.join(room);
    let going = true;
    const talking = (async () => { let n = 0; while (going) { await a.publish(room, ++n); } })();
    for (let round = 0; round < 15; round++) {
      const b = await cluster.client(1, 'b'), ack = await b.join(room), from = offsetOf(ack.position);
      for (let i = 1; i <= 5; i++) assert.equal(offsetOf((await b.message(room)).position), from + i, 'the first message is the one after the position of the ack');
      await b.close();
    }
    going = false;
    await talking;
    await a.close();
  });

  it('carries private messages, broadcasts and presence across', async () => {
    const room = unique(), a = await cluster.client(0, 'ann'), b1 = await cluster.client(0, 'ben'), b2 = await cluster.client(1, 'ben');
    await a.join(room); await b2.join(room);
    await a.call({ type: 'send', to: { user: 'ben' }, data: 'to both' });
    for (const b of [b1, b2]) assert.equal((await b.message('$user:ben')).data, 'to both');
    await a.call({ type: 'send', to: { session: b2.session }, data: 'to one' });
    assert.equal((await b2.message(`$session:${b2.session}`)).data, 'to one');
    await b2.callBinary({ type: 'send', to: { session: a.session } }, Buffer.from([0, 255]));
    assert.deepEqual((await a.message()).bytes, Buffer.from([0, 255]));
    await b1.call({ type: 'broadcast', data: 'to all' });
    for (const c of [a, b1, b2]) assert.equal((await c.message('$all')).data, 'to all');
    for (const c of [a, b1, b2]) {
      const p = await c.call({ type: 'presence', room });
      assert.deepEqual([p.total, p.members.map(m => m.session).sort()], [2, [a.session, b2.session].sort()]);
    }
    for (const gw of cluster.gateways) assert.equal((await gw.get(`/api/v1/rooms/${room}`)).json.total, 2);
    await b2.close();
    assert.equal((await a.next('exit')).session, b2.session);
    await a.call({ type: 'send', to: { user: 'ben' }, data: 'still one' });
    assert.equal((await b1.message('$user:ben')).data, 'still one');
    assert.equal((await a.refused({ type: 'send', to: { session: b2.session }, data: 1 })).code, 'not_found');
    await a.close(); await b1.close();
  });

  it('knows an idempotency key on every node', async () => {
    const room = unique(), a = await cluster.client(0, 'a'), b = await cluster.client(1, 'b');
    await a.join(room); await b.join(room);
    const first = await a.publish(room, 1, { key: 'same' }), again = await b.publish(room, 2, { key: 'same' });
    assert.deepEqual(again.position, first.position);
    await a.close(); await b.close();
  });

  it('shows sessions, users, rooms and nodes to redis-cli in plain fields', async () => {
    const room = unique(), other = unique(), user = unique('redis-user'), c = await cluster.client(1, user, { headers: { 'User-Agent': 'test-agent/1' } });
    const now = ms => assert.ok(Math.abs(Number(ms) - Date.now()) < 60000, `${ms} is not now`);
    await c.join(room); await c.join(other);
    const key = `xd:session:{${c.session}}`, s = await redis.hash(key);
    assert.deepEqual([s.user, s.node, s.state, s.ip, s.agent], [user, c.welcome.node, 'active', '127.0.0.1', 'test-agent/1']);
    for (const since of [s.connected_at, s[`room:${room}`], s[`room:${other}`]]) now(since);
    assert.ok(!JSON.stringify(s).includes(c.welcome.token), 'the token must not be readable');
    assert.equal(await redis.cli('SMEMBERS', `xd:user:{${user}}`), c.session);
    const [node, since, state, who] = (await redis.cli('HGET', `xd:{${room}}:members`, c.session)).split(' ');
    assert.deepEqual([node, state, who], [c.welcome.node, 'active', user]);
    now(since);
    const n = await redis.hash(`xd:node:{${c.welcome.node}}`);
    now(n.heartbeat);
    assert.ok(n.version && n.started_at, JSON.stringify(n));
    assert.ok((await redis.cli('ZRANGE', 'xd:nodes', '0', '-1')).split('\n').includes(c.welcome.node));
    for (const k of [key, `xd:node:{${c.welcome.node}}`]) assert.ok(Number(await redis.cli('PTTL', k)) > 0, `${k} lives for ever`);
    await c.leave(other);
    await until(async () => !(`room:${other}` in await redis.hash(key)), { what: 'the room to leave the session' });
    await c.close();
    await until(async () => (await redis.cli('EXISTS', key)) === '0', { what: `${key} to go` });
    await until(async () => !(await redis.keys('*')).some(k => (k.includes(user) && !k.endsWith(':presence')) || k.includes(c.session)), { what: 'every key of the session and its user to go' });
    await until(async () => (await redis.cli('EXISTS', `xd:{${room}}:members`)) === '0', { what: 'the empty member list to go' });
  });

  it('acknowledges a publish only after Redis has it', async () => {
    const room = unique(), a = await cluster.client(0, 'a');
    await a.join(room);
    await redis.cli('CLIENT', 'PAUSE', '700', 'ALL');
    const began = Date.now();
    await a.publish(room, 1);
    assert.ok(Date.now() - began >= 400, 'the ack came while Redis was paused');
    await a.close();
  });
});
