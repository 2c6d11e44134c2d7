// commands.test.mjs: every command of the native protocol: done, refused to who may not, refused when it makes no sense, and it has a seed for fuzz_native. One row each
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, ROOT } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Key } from './lib/tokens.mjs';

const COMMANDS = [...readFileSync(join(ROOT, 'gateway/protocol/protocol.h'), 'utf8').matchAll(/X\(CMD_\w+, "([^"]+)"\)/g)].map(m => m[1]);
const LONG = 'x'.repeat(300), NAMES = [{ room: '' }, { room: LONG }, { room: 'a\u0000' }, { room: 7 }, { room: '$all' }, { room: undefined }];

/**
 * good: the members of a frame that is done; done: what its answer has. forbidden: [more members, the code] for a user without rights. bad: members that make no sense instead of the good ones.
 * `w` has room (alice is in), position (of a message in it), me, bob (another user who is there) and token (another one of alice's).
 */
const ROWS = {
  join: { good: () => ({ room: 'open.other' }), done: a => a.total === 1, forbidden: [() => ({ room: 'shut' }), 'forbidden'], bad: [...NAMES, { position: '1' }, { position: 1 }] },
  leave: { good: w => ({ room: w.room }), done: a => a.total === 0, forbidden: [() => ({ room: 'shut' }), 'not_member'], bad: NAMES },
  publish: { good: w => ({ room: w.room, data: 1 }), done: a => a.position.startsWith('2.'), forbidden: [() => ({ room: 'shut' }), 'forbidden'], bad: [...NAMES, { data: undefined }, { event: '' }, { event: LONG }, { key: 'a b' }, { key: '' }, { echo: 1 }] },
  send: { good: w => ({ to: { user: w.bob }, data: 1 }), done: a => a.type === 'ack', forbidden: [() => ({ to: { user: 'vip' } }), 'forbidden'], bad: [{ to: undefined }, { to: 'bob' }, { to: {} }, { to: { user: 'a', session: 'b' } }, { to: { user: '' } }, { to: { session: 'a b' } }, { data: undefined }] },
  broadcast: { good: () => ({ data: 1 }), done: a => a.position, forbidden: [() => ({}), 'forbidden', 'nobody'], bad: [{ data: undefined }, { event: '\u0000' }] },
  presence: { good: w => ({ room: w.room }), done: a => a.members.length === 1, forbidden: [() => ({ room: 'shut' }), 'forbidden'], bad: [...NAMES, { limit: 0 }, { limit: 1001 }, { limit: '1' }, { cursor: 1 }] },
  history: { good: w => ({ room: w.room }), done: a => a.more === false, forbidden: [() => ({ room: 'shut' }), 'forbidden'], bad: [...NAMES, { limit: 1.5 }, { after: -1 }, { before: '1' }, { after: 1, before: 2 }] },
  auth: { good: w => ({ token: w.token }), done: a => a.expires > 0, forbidden: [w => ({ token: w.others }), 'unauthorized'], bad: [{ token: undefined }, { token: 1 }, { token: '' }] },
  call: { good: () => ({ event: 'sum', data: 1 }), error: 'unsupported', bad: [{ event: undefined }, { event: '' }, { event: LONG }, { room: '$all' }] }, // without a backend; with one: backend-sync.test.mjs
  resume: { good: w => ({ session: w.old.session, token: w.old.welcome.token }), done: a => a.resumed, forbidden: [() => ({ token: 'x'.repeat(32) }), 'unauthorized'], bad: [{ session: undefined }, { session: 'a b' }, { token: undefined }, { token: 1 }, { positions: {} }, { positions: [{}] }, { positions: [{ room: 'a', position: 'x' }] }] },
  ping: { good: () => ({}), done: a => a.time > 0, bad: [{ id: {} }] },
  watch: { good: w => ({ users: [w.bob] }), done: a => a.users[0].state === 'online', forbidden: [() => ({ users: ['vip'] }), 'forbidden'], bad: [{ users: undefined }, { users: 'bob' }, { users: [1] }, { users: [''] }, { users: Array(101).fill('a') }, { devices: 1 }] },
  unwatch: { good: w => ({ users: [w.bob] }), done: a => a.total === 0, bad: [{ users: 'bob' }, { users: [null] }] },
  read: { good: w => ({ room: w.room, position: w.position }), done: (a, w) => a.position === w.position, forbidden: [() => ({ room: 'shut' }), 'not_member'], bad: [{ position: undefined }, { position: '0' }, { position: 'x' }, { room: '$all' }, { room: '$user:somebody' }, { back: 'yes' }] },
};

describe('each command of a client', { timeout: 60000 }, () => {
  let cluster, g, signer;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0, redis: false });
    signer = await Key.make('HS256');
    g = await cluster.add('gw1', { flags: ['--auth', 'jwt', '--jwt-key', signer.file(cluster.dir), '--resume-window', '30s', '--policy', 'shut join=token publish=token presence=on', '--policy', '$user:vip publish=token watch=token', '--policy', '$all publish=token', '--policy', '* retain-count=10'] });
  });
  after(() => cluster.stop());

  async function come(user, xindao = {}) { return g.client(undefined, { path: `/ws?token=${await signer.sign(user, { xindao })}` }); }

  it('has a row here and a seed, and nothing else has', () => {
    assert.ok(COMMANDS.length > 0);
    assert.deepEqual(Object.keys(ROWS).sort(), [...COMMANDS].sort(), 'COMMAND_MAP of gateway/protocol/protocol.h, and rows of this test');
    const seeds = join(ROOT, 'tests/fuzz/corpus/fuzz_native'), texts = readdirSync(seeds).map(f => readFileSync(join(seeds, f), 'latin1'));
    for (const command of COMMANDS) {
      assert.ok(texts.some(t => t.includes(`"type":"${command}"`)), `${seeds}: none has "type":"${command}"`);
      assert.ok(ROWS[command].bad.length > 0, `${command}: no bad input`);
    }
  });

  for (const [type, row] of Object.entries(ROWS)) {
    it(type, async () => {
      const w = { room: unique('open'), bob: unique('bob') }, user = unique('alice');
      w.me = await come(user, { publish: ['$all'] });
      const bob = await come(w.bob), stranger = await g.client(undefined, { welcome: false });
      await w.me.join(w.room);
      w.position = (await w.me.publish(w.room, 'first')).position;
      [w.token, w.others] = await Promise.all([signer.sign(user), signer.sign(w.bob)]);
      if (type === 'unwatch') await w.me.call({ type: 'watch', users: [w.bob] });
      if (type === 'resume') { // by somebody who has done nothing yet
        w.old = w.me;
        await w.old.drop();
        w.me = await come(user);
      }
      // Nobody does anything before it is known who that is.
      if (type !== 'auth') assert.equal((await stranger.refused({ type, ...row.good(w) })).code, 'unauthorized', 'before the token');
      if (row.forbidden) {
        const [more, code, who] = row.forbidden;
        assert.equal((await (who ? bob : w.me).refused({ type, ...row.good(w), ...more(w) })).code, code, `${type} without the right to`);
      }
      for (const more of row.bad) {
        const frame = { type, ...row.good(w), ...more }, e = 'id' in more ? (w.me.send(frame), await w.me.next('error')) : await w.me.refused(frame);
        assert.ok(['bad_request', 'invalid_name', 'too_large', 'unauthorized'].includes(e.code), `${JSON.stringify(frame).slice(0, 200)}: ${e.code} ${e.message}`);
        assert.ok(e.code !== 'unauthorized' || (type === 'auth' && more.token === ''), e.message);
      }
      assert.equal(w.me.end, undefined, 'it is still there');
      if (row.error) assert.equal((await w.me.refused({ type, ...row.good(w) })).code, row.error);
      else {
        const a = type === 'resume' ? (w.me.send({ type, ...row.good(w) }), await w.me.next('welcome')) : await w.me.call({ type, ...row.good(w) });
        assert.ok(row.done(a, w), JSON.stringify(a));
      }
      for (const c of [w.me, bob, stranger]) c.ws.terminate();
    });
  }
});
