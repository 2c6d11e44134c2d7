// protocol.test.mjs: docs/protocol.md row by row, with both brokers: rooms, messages, presence, limits
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { Refused, unique } from './lib/client.mjs';
import { offsetOf, parts } from './lib/position.mjs';

const POLICIES = ['closed.* join=nobody', 'silent.* publish=nobody', 'small.* size=10', 'secret.* presence=off', 'quiet.* notices=off', 'slow.* rate=2', 'tiny.* max-members=2'];
const position = p => { assert.match(p, /^[1-9]\d*\.[\w-]{8}$/); return p; };
const recent = ms => assert.ok(Math.abs(ms - Date.now()) < 60000, `${ms} is not now in Unix milliseconds`);

for (const broker of ['memory', 'redis']) {
  describe(`protocol, ${broker} broker`, { timeout: 240000 }, () => {
    let cluster, gw, open, gather;

    before(async () => {
      cluster = await Cluster.start({ redis: broker === 'redis', flags: ['--max-message-size', '64k', '--max-rooms-per-session', '300', ...POLICIES.flatMap(p => ['--policy', p])] });
      gw = cluster.gateways[0];
      open = (...a) => gw.client(...a);
      gather = (...ids) => gw.gather(...ids);
    });
    after(() => cluster.stop());

    describe('join and leave', () => {
      it('answers with the room, its position and the total', async () => {
        const room = unique(), a = await open('a'), b = await open('b');
        const first = await a.join(room);
        assert.deepEqual([first.type, first.room, first.total], ['ack', room, 1]);
        assert.ok('position' in first);
        assert.equal((await b.join(room)).total, 2);
        assert.equal((await a.leave(room)).total, 1);
        assert.equal((await b.leave(room)).total, 0);
        await a.close(); await b.close();
      });

      it('tells where the room stands', async () => {
        const [room, a] = await gather('a');
        await a.publish(room, 1); const { position: at } = await a.publish(room, 2);
        const b = await open('b');
        const j = await b.join(room);
        assert.deepEqual(j.position, at);
        await a.close(); await b.close();
      });

      it('tells the others, not the one who comes or goes', async () => {
        const [room, a] = await gather('a');
        const b = await open('b');
        await b.join(room);
        const e = await a.next('enter');
        assert.deepEqual([e.room, e.session, e.user, e.total], [room, b.session, 'b', 2]);
        recent(e.time);
        await b.leave(room);
        const x = await a.next('exit');
        assert.deepEqual([x.room, x.session, x.user, x.total, x.reason], [room, b.session, 'b', 1, 'leave']);
        recent(x.time);
        await b.settle();
        assert.deepEqual(b.take(f => f.type === 'enter' || f.type === 'exit'), []);
        await a.close(); await b.close();
      });

      it('tells of a closed and of a broken connection', async () => {
        const [room, a, b, c] = await gather('a', 'b', undefined);
        await b.close();
        const first = await a.next('exit');
        assert.deepEqual([first.room, first.session, first.user, first.total, first.reason], [room, b.session, 'b', 2, 'disconnect']);
        await c.drop();
        const second = await a.next('exit');
        assert.deepEqual([second.session, second.user, second.total, second.reason], [c.session, null, 1, 'disconnect']);
        await a.close();
      });

      it('takes a second join as it takes the first', async () => {
        const [room, a, b] = await gather('a', 'b');
        assert.equal((await b.join(room)).total, 2);
        await a.publish(room, 'once');
        await b.message(room);
        await b.settle();
        assert.equal(b.take('message').length, 0);
        await a.close(); await b.close();
      });

      it('comes back after leaving', async () => {
        const [room, a, b] = await gather('a', 'b');
        await b.leave(room);
        await a.publish(room, 'unheard');
        await b.join(room);
        await a.publish(room, 'heard');
        assert.equal((await b.message(room)).data, 'heard');
        await a.close(); await b.close();
      });

      it('knows who is not a member', async () => {
        const a = await open('a');
        assert.equal((await a.refused({ type: 'leave', room: unique() })).code, 'not_member');
        assert.equal((await a.refused({ type: 'publish', room: unique(), data: 1 })).code, 'not_member');
        await a.close();
      });

      it('takes every name that the rules allow', async () => {
        const a = await open('a');
        for (const room of ['x', '房间 №1', 'a b', '{}', '{room}', '*', '"quoted\\"', 'é'.repeat(127), 'x'.repeat(255), '😀', ':head', 'lobby:log'].map(n => (Buffer.byteLength(n) > 200 ? n : `${n}${unique('')}`))) {
          assert.equal((await a.join(room)).room, room);
          await a.publish(room, room);
          assert.equal((await a.message(room)).data, room);
          assert.equal((await a.leave(room)).total, 0);
        }
        await a.close();
      });

      it('refuses every name that the rules do not', async () => {
        for (const room of ['', 'x'.repeat(256), 'é'.repeat(128), 'a\u0000b', 'a\nb', '\u001f']) {
          const a = await open('a');
          assert.equal((await a.refused({ type: 'join', room })).code, 'invalid_name', JSON.stringify(room));
          await a.close();
        }
        for (const room of ['$all', '$user:bob', '$session:x', '$anything', '$']) {
          const a = await open('a');
          assert.ok(['invalid_name', 'forbidden'].includes((await a.refused({ type: 'join', room })).code), room);
          assert.ok(['invalid_name', 'forbidden', 'not_member'].includes((await a.refused({ type: 'publish', room, data: 1 })).code), room);
          await a.close();
        }
      });
    });

    describe('publish', () => {
      it('reaches everybody in the room, the sender too, once, in one order', async () => {
        const [room, a, b, c] = await gather('a', 'b', undefined);
        const acks = [];
        for (let i = 0; i < 5; i++) acks.push(await (i % 2 ? a : b).publish(room, { i }));
        for (const client of [a, b, c]) {
          for (let i = 0; i < 5; i++) {
            const m = await client.message();
            assert.equal(m.room, room);
            assert.deepEqual(m.position, acks[i].position);
            assert.equal(offsetOf(m.position), i + 1);
            assert.equal(m.event, undefined);
            assert.deepEqual(m.from, i % 2 ? { session: a.session, user: 'a' } : { session: b.session, user: 'b' });
            assert.deepEqual(m.data, { i });
            recent(m.time);
          }
        }
        assert.deepEqual(Object.keys(acks[0]).sort(), ['id', 'position', 'room', 'type']);
        position(acks[0].position);
        assert.equal(new Set(acks.map(x => parts(x.position).tag)).size, 5);
        await c.publish(room, 'from nobody');
        assert.deepEqual((await a.message()).from, { session: c.session });
        for (const x of [a, b, c]) await x.close();
      });

      it('carries an event name', async () => {
        const [room, a] = await gather('a');
        for (const event of ['move', '出拳', 'x'.repeat(128)]) {
          await a.publish(room, 1, { event });
          assert.equal((await a.message()).event, event);
        }
        assert.equal((await a.refused({ type: 'publish', room, data: 1, event: 'x'.repeat(129) })).code, 'invalid_name');
        await a.close();
      });

      it('leaves the sender out with echo: false', async () => {
        const [room, a, b] = await gather('a', 'b');
        await a.publish(room, 'quiet', { echo: false });
        await a.publish(room, 'loud', { echo: true });
        assert.equal((await a.message()).data, 'loud');
        assert.equal((await b.message()).data, 'quiet');
        assert.equal((await b.message()).data, 'loud');
        await a.close(); await b.close();
      });

      it('answers a repeated key with the first position and publishes nothing', async () => {
        const [room, a, b] = await gather('a', 'b');
        const other = unique();
        await a.join(other);
        const first = await a.publish(room, 'first', { key: 'k:1._-' });
        const again = await a.publish(room, 'second', { key: 'k:1._-' });
        assert.deepEqual(again.position, first.position);
        const byB = await b.publish(room, 'third', { key: 'k:1._-' });
        assert.deepEqual(byB.position, first.position);
        const elsewhere = await a.publish(other, 'other', { key: 'k:1._-' });
        assert.equal(offsetOf(elsewhere.position), 1);
        const next = await a.publish(room, 'next', { key: 'k'.repeat(64) });
        assert.equal(offsetOf(next.position), offsetOf(first.position) + 1);
        assert.deepEqual([(await b.message()).data, (await b.message()).data], ['first', 'next']);
        await a.close(); await b.close();
      });

      it('refuses bad keys', async () => {
        const [room, a] = await gather('a');
        for (const key of ['', 'k'.repeat(65), 'a b', 'é', 'a/b']) assert.equal((await a.refused({ type: 'publish', room, data: 1, key })).code, 'invalid_name', key);
        assert.equal((await a.refused({ type: 'publish', room, data: 1, key: 5 })).code, 'bad_request');
        await a.close();
      });

      it('gives no ack without an id, but its error', async () => {
        const [room, a] = await gather('a');
        a.send({ type: 'publish', room, data: 'x' });
        a.send({ type: 'publish', room: 'not-joined', data: 'x' });
        const e = await a.next('error');
        assert.deepEqual([e.code, 'id' in e], ['not_member', false]);
        await a.message();
        await a.settle();
        assert.deepEqual(a.take('ack'), []);
        await a.close();
      });

      it('passes data through byte for byte', async () => {
        const [room, a, b] = await gather('a', 'b');
        const values = ['null', 'true', 'false', '0', '-0', '-0.0', '1.0', '1E5', '1e-7', '123456789012345678901234567890', '0.1000000000000000055511151231257827',
          '""', '"\\u00e9\\/\\b\\f\\n\\r\\t\\"\\\\"', '"é😀"', '"\\ud83d\\ude00"', '"\\u0000"', '"\u2028\u2029"', '[]', '{}', '[ 1 ,\t2 , \n 3 ]', '{ "b" : 1, "a" : {"type":"ack","id":"x"} }',
          '"]}{["', '"\\"data\\":1"', `"${'x'.repeat(60000)}"`, `${'['.repeat(30)}${']'.repeat(30)}`];
        for (const v of values) a.raw(`{"type":"publish","room":${JSON.stringify(room)},"data": ${v} ,"id":1}`);
        for (const v of values) {
          const m = await b.message();
          assert.ok(m.raw.includes(`"data":${v}}`) || m.raw.includes(`"data":${v},`), `${v.slice(0, 80)} arrived as ${m.raw.slice(0, 300)}`);
          assert.deepEqual(m.data, JSON.parse(v));
        }
        await a.close(); await b.close();
      });
    });

    describe('send', () => {
      it('reaches one session', async () => {
        const a = await open('a'), b = await open('bob'), other = await open('bob');
        const ack = await a.call({ type: 'send', to: { session: b.session }, data: { hi: 1 }, event: 'note' });
        assert.equal(ack.type, 'ack');
        const m = await b.message();
        assert.deepEqual([m.room, m.event, m.from, m.data], [`$session:${b.session}`, 'note', { session: a.session, user: 'a' }, { hi: 1 }]);
        await other.settle();
        assert.deepEqual(other.take('message'), []);
        for (const x of [a, b, other]) await x.close();
      });

      it('reaches every session of a user, and nobody else', async () => {
        const user = unique('user');
        const a = await open('a'), one = await open(user), two = await open(user), stranger = await open(`${user}x`);
        await a.call({ type: 'send', to: { user }, data: 'both' });
        for (const c of [one, two]) {
          const m = await c.message();
          assert.deepEqual([m.room, m.data, m.from.user], [`$user:${user}`, 'both', 'a']);
        }
        await stranger.settle();
        assert.deepEqual(stranger.take('message'), []);
        for (const c of [a, one, two, stranger]) await c.close();
      });

      it('says when the target is not there, and when it has gone', async () => {
        const a = await open('a'), user = unique('user');
        assert.equal((await a.refused({ type: 'send', to: { user }, data: 1 })).code, 'not_found');
        assert.equal((await a.refused({ type: 'send', to: { session: 'A'.repeat(22) }, data: 1 })).code, 'not_found');
        const b = await open(user);
        await a.call({ type: 'send', to: { user }, data: 1 });
        await b.close();
        await gw.client('watch').then(async w => { await w.settle(); await w.close(); });
        const gone = async target => { for (let i = 0; i < 50; i++) { try { await a.call({ type: 'send', to: target, data: 1 }); } catch (e) { return e instanceof Refused && e.code; } await new Promise(r => setTimeout(r, 40)); } return 'still there'; };
        assert.equal(await gone({ user }), 'not_found');
        assert.equal(await gone({ session: b.session }), 'not_found');
        await a.close();
      });

      it('knows what a target is', async () => {
        for (const more of [{}, { to: null }, { to: 'bob' }, { to: {} }, { to: { user: 5 } }, { to: [] }]) {
          const a = await open('a');
          assert.equal((await a.refused({ type: 'send', data: 1, ...more })).code, 'bad_request', JSON.stringify(more));
          await a.close();
        }
        for (const to of [{ user: '' }, { user: 'x'.repeat(129) }, { user: 'a\u0001' }]) {
          const a = await open('a');
          assert.equal((await a.refused({ type: 'send', data: 1, to })).code, 'invalid_name', JSON.stringify(to));
          await a.close();
        }
        const a = await open('a');
        assert.equal((await a.refused({ type: 'send', to: { user: 'a' } })).code, 'bad_request', 'no data');
        await a.close();
      });

      it('keeps its keys too', async () => {
        const user = unique('user'), a = await open('a'), b = await open(user);
        await a.call({ type: 'send', to: { user }, data: 1, key: 'k' });
        await a.call({ type: 'send', to: { user }, data: 2, key: 'k' });
        await a.call({ type: 'send', to: { user }, data: 3 });
        assert.deepEqual([(await b.message()).data, (await b.message()).data], [1, 3]);
        await a.close(); await b.close();
      });
    });

    it('broadcast reaches every session, in rooms or not', async () => {
      const [, a, b] = await gather('a', 'b');
      const c = await open();
      const ack = await a.call({ type: 'broadcast', data: 'all of you', event: 'notice' });
      position(ack.position);
      for (const x of [a, b, c]) {
        const m = await x.next(f => f.type === 'message' && f.data === 'all of you');
        assert.deepEqual([m.room, m.event, m.from, m.position], ['$all', 'notice', { session: a.session, user: 'a' }, ack.position]);
      }
      const again = [await a.call({ type: 'broadcast', data: 'k', key: 'bk' }), await a.call({ type: 'broadcast', data: 'k', key: 'bk' })];
      assert.deepEqual(again[0].position, again[1].position);
      assert.equal((await a.refused({ type: 'broadcast' })).code, 'bad_request');
      for (const x of [a, b, c]) await x.close();
    });

    describe('presence', () => {
      it('lists who is there, page by page', async () => {
        const ids = Array.from({ length: 25 }, (_, i) => (i % 5 ? `user${i}` : undefined));
        const [room, ...all] = await gather(...ids);
        const whole = await all[0].call({ type: 'presence', room });
        assert.deepEqual([whole.room, whole.total, whole.members.length, whole.next ?? null], [room, 25, 25, null]);
        for (const m of whole.members) {
          assert.deepEqual(Object.keys(m).sort(), ['session', 'since', 'state', 'user']);
          assert.equal(m.state, 'active');
          recent(m.since);
        }
        assert.deepEqual(whole.members.map(m => [m.session, m.user]).sort(), all.map((c, i) => [c.session, ids[i] ?? null]).sort());
        const seen = [];
        let cursor, pages = 0;
        do {
          const p = await all[0].call({ type: 'presence', room, limit: 10, ...(cursor !== undefined ? { cursor } : {}) });
          assert.equal(p.total, 25);
          assert.ok(p.members.length <= 10);
          seen.push(...p.members.map(m => m.session));
          cursor = p.next ?? undefined;
          assert.ok(++pages < 20);
        } while (cursor !== undefined);
        assert.deepEqual(seen.sort(), all.map(c => c.session).sort());
        for (const c of all) c.ws.terminate();
      });

      it('knows an empty room, and bad limits and cursors', async () => {
        const a = await open('a');
        const p = await a.call({ type: 'presence', room: unique() });
        assert.deepEqual([p.total, p.members], [0, []]);
        for (const limit of [0, 1001, -1, 1.5, '5']) assert.equal((await a.refused({ type: 'presence', room: 'x', limit })).code, 'bad_request', String(limit));
        assert.equal((await a.refused({ type: 'presence' })).code, 'bad_request');
        assert.equal((await a.refused({ type: 'presence', room: 'x', cursor: 7 })).code, 'bad_request');
        await a.close();
      });
    });

    it('resume is not offered where the welcome says so', async () => {
      const a = await open('a');
      assert.equal(a.welcome.resume_window, 0);
      assert.equal((await a.refused({ type: 'resume', session: 'A'.repeat(22), token: 'A'.repeat(32) })).code, 'unsupported');
      await a.close();
    });

    describe('limits and policies', () => {
      it('forbids what a policy forbids', async () => {
        const a = await open('a'), n = unique('');
        assert.equal((await a.refused({ type: 'join', room: `closed.${n}` })).code, 'forbidden');
        await a.join(`silent.${n}`);
        assert.equal((await a.refused({ type: 'publish', room: `silent.${n}`, data: 1 })).code, 'forbidden');
        await a.join(`secret.${n}`);
        assert.equal((await a.refused({ type: 'presence', room: `secret.${n}` })).code, 'forbidden');
        await a.close();
      });

      it('keeps enter and exit to itself in a quiet room', async () => {
        const room = `quiet.${unique('')}`, a = await open('a'), b = await open('b');
        await a.join(room); await b.join(room);
        await b.publish(room, 'here');
        await a.message(room);
        await b.leave(room);
        await a.publish(room, 'still here');
        await a.message(room);
        assert.deepEqual(a.take(f => f.type === 'enter' || f.type === 'exit'), []);
        await a.close(); await b.close();
      });

      it('names the limit that data is over', async () => {
        const room = `small.${unique('')}`, a = await open('a');
        await a.join(room);
        await a.publish(room, '12345678');
        const e = await a.refused({ type: 'publish', room, data: '123456789' });
        assert.equal(e.code, 'too_large');
        assert.match(e.message, /10/);
        await a.close();
      });

      it('closes with 1009 over the size of a frame', async () => {
        const a = await open('a');
        a.raw(JSON.stringify({ type: 'ping', pad: 'x'.repeat(65536) }));
        assert.deepEqual(await a.closed, { code: 1009, reason: 'too_large' });
      });

      it('takes a frame of just the allowed size', async () => {
        const a = await open('a'), shell = '{"type":"ping","pad":""}';
        a.raw(shell.replace('""', `"${'x'.repeat(65536 - shell.length)}"`));
        await a.next('pong');
        await a.close();
      });

      it('holds a room to its rate, retryably', async () => {
        const room = `slow.${unique('')}`, a = await open('a');
        await a.join(room);
        const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => a.publish(room, i).catch(e => e)));
        const refused = answers.filter(x => x instanceof Refused);
        assert.ok(refused.length >= 10 && refused.length < 20, `${refused.length} of 20 refused at 2 per second`);
        for (const r of refused) assert.deepEqual([r.code, r.retry, r.frame.room], ['rate_limited', true, room]);
        await a.close();
      });

      it('holds a room to its size', async () => {
        const room = `tiny.${unique('')}`, all = await Promise.all(['a', 'b', 'c'].map(i => open(i)));
        await all[0].join(room); await all[1].join(room);
        const e = await all[2].refused({ type: 'join', room });
        assert.equal(e.code, 'limit_exceeded');
        await all[0].leave(room);
        await all[2].join(room);
        for (const c of all) await c.close();
      });

      it('limits the rooms of a session', async () => {
        const a = await open('a'), prefix = unique();
        const rooms = Array.from({ length: 300 }, (_, i) => `${prefix}-${i}`);
        await Promise.all(rooms.map(r => a.join(r)));
        assert.equal((await a.refused({ type: 'join', room: `${prefix}-over` })).code, 'limit_exceeded');
        await a.leave(rooms[7]);
        await a.join(`${prefix}-over`);
        await a.close();
      });
    });

    it('a rate for one client, that others do not feel', async () => {
      const other = await cluster.add(unique('rate'), { flags: ['--message-rate', '10'] });
      const a = await other.client('a'), b = await other.client('b');
      const answers = await Promise.all(Array.from({ length: 300 }, () => a.call({ type: 'ping' }).catch(e => e)));
      const refused = answers.filter(x => x instanceof Refused);
      assert.ok(refused.length > 0, 'nothing was refused at 10 per second');
      for (const r of refused) assert.deepEqual([r.code, r.retry], ['rate_limited', true]);
      await b.settle();
      await b.close();
      a.ws.terminate();
      await other.stop();
    });
  });
}
