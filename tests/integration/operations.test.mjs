// operations.test.mjs: every operation of docs/openapi.yaml: done, refused to who may not, refused when it makes no sense; and it has a seed for fuzz_operation. One row each
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, ROOT, request } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { operations } from './lib/openapi.mjs';
import { Key } from './lib/tokens.mjs';

const SEEDS = join(ROOT, 'tests/fuzz/corpus/fuzz_operation');
const SCOPES = [...readFileSync(join(ROOT, 'gateway/api_keys.h'), 'utf8').matchAll(/X\(SCOPE_\w+, "([^"]+)"\)/g)].map(m => m[1]);
const sha256 = key => createHash('sha256').update(key).digest('hex');
const BAD_NAME = '/rooms/%00', LONG = 'x'.repeat(300), NO_SESSION = '/sessions/%20', PAGE = [['?limit=0', 400], ['?limit=1001', 400], ['?cursor=%ff', 400]];

/**
 * What is asked for in the end: path (below /api/v1) and body, and what of the answer shows that it was done. `w` has room (in which alice is), alice (a session) and user.
 * bad: [what else to ask for, with what status]: a string is another path, or, with ? in front, a query; an object or any other value another body.
 * room: whose key is for other rooms only is refused.
 */
const ROWS = {
  listRooms: { path: () => '/rooms?limit=1000', done: (r, w) => r.rooms.some(x => x.room === w.room), bad: PAGE },
  getRoom: { path: w => `/rooms/${w.room}`, done: r => r.total === 1, bad: [...PAGE, [BAD_NAME, 400], [`/rooms/${LONG}`, 400], ['/rooms/%zz', 400], ['/rooms/$all', 404]], room: true },
  listMembers: { path: w => `/rooms/${w.room}/members`, done: (r, w) => r.members[0].session === w.alice.session, bad: [...PAGE, [`${BAD_NAME}/members`, 400]], room: true },
  getHistory: { path: w => `/rooms/${w.room}/history`, done: r => r.messages[0].data === 'first', bad: [['?limit=x', 400], ['?after=-1', 400], ['?after=1&before=2', 400], ['?before=1:0', 400], [`${BAD_NAME}/history`, 400]], room: true },
  deleteRoom: { path: w => `/rooms/${w.room}`, done: r => r.removed === 1, bad: [[BAD_NAME, 400], [`?reason=${LONG}`, 400], ['/rooms/$all', 404]], room: true },
  traceMessage: {
    path: w => `/rooms/${w.room}/messages/1/trace?session=${w.alice.session}`, done: r => ['sent', 'joined_later', 'queued', 'uncertain'].includes(r.result), room: true,
    bad: [[w => `/rooms/${w.room}/messages/0/trace?session=x`, 400], [w => `/rooms/${w.room}/messages/1e0/trace?session=x`, 400], [w => `/rooms/${w.room}/messages/1/trace`, 400]],
  },
  publish: {
    path: () => '/publish', body: w => ({ room: w.room, data: { a: 1 } }), done: r => /^\d+\./.test(r.position), room: true,
    bad: [[{}, 400], [w => ({ room: w.room }), 400], [w => ({ room: w.room, data: 1, data_base64: 'AA==' }), 400], [w => ({ room: w.room, data_base64: '=' }), 400], [{ room: '', data: 1 }, 400], [{ room: '$all', data: 1 }, 400], [{ room: LONG, data: 1 }, 400],
      [w => ({ room: w.room, data: 1, key: 'a b' }), 400], ['{"room":"a","data":', 400], ['[]', 400], ['{"room":"a","room":"b","data":1}', 400], [Buffer.from('{"room":"\xff","data":1}', 'latin1'), 400]],
  },
  publishBatch: { path: () => '/publish/batch', body: w => ({ messages: [{ room: w.room, data: 1 }] }), done: r => r.results[0].position, bad: [[{}, 400], [{ messages: [] }, 400], [{ messages: Array(101).fill(0) }, 413], [{ messages: {} }, 400]] },
  send: { path: () => '/send', body: w => ({ to: { session: w.alice.session }, data: 1 }), done: r => r.room.startsWith('$session:'), bad: [[{ data: 1 }, 400], [{ to: {}, data: 1 }, 400], [{ to: { user: 'a', session: 'b' }, data: 1 }, 400], [{ to: { users: [] }, data: 1 }, 400], [{ to: { user: '' }, data: 1 }, 400]], room: true },
  broadcast: { path: () => '/broadcast', body: () => ({ data: 1 }), done: r => r.room === '$all', bad: [[{}, 400], [{ data: 1, event: '' }, 400]], room: true },
  emit: {
    path: () => '/emit', body: w => ({ rooms: [w.room], event: 'e', data: 1, ack: true }), done: r => r.acks.length === 0 && r.complete, room: true,
    bad: [[{}, 400], [{ data: 1, data_base64: '' }, 400], [{ data_base64: '?' }, 400], [{ data: 1, rooms: 'x' }, 400], [{ data: 1, rooms: ['$all'] }, 400], [{ data: 1, rooms: [''] }, 400], [{ data: 1, rooms: Array(101).fill('x') }, 413], [{ data: 1, namespace: 'x' }, 400], [{ data: 1, ack: 1 }, 400],
      [{ data: 1, timeout: 30001 }, 400], [{ data: 1, event: '' }, 400], [{ data: 1, namespace: `/${'n'.repeat(99)}`, rooms: ['r'.repeat(200)] }, 400], ['{', 400]],
  },
  joinSessions: {
    path: () => '/sessions/join', body: w => ({ room: w.room, rooms: [w.other] }), done: r => r.sessions === 1 && r.done === 1 && r.next === null, room: true,
    bad: [[{ room: 'x' }, 400], [{ rooms: ['x'] }, 400], [{ room: 'x', user: 'y', rooms: ['x'] }, 400], [{ room: 'x', rooms: Array(11).fill('x') }, 413], [{ room: 'x', rooms: ['$x'] }, 400], [{ room: '$all', rooms: ['x'] }, 400], [{ room: 'x', rooms: ['x'], limit: 1001 }, 400], ['[]', 400]],
  },
  leaveSessions: { path: () => '/sessions/leave', body: w => ({ room: w.room, rooms: [w.room], reason: 'closing' }), done: r => r.done === 1, bad: [[{ room: 'x', rooms: [''] }, 400], [{ room: 'x', rooms: ['x'], cursor: 'y' }, 400], [{ room: 'x', rooms: ['x'], except: ['x', 1] }, 400]], room: true },
  disconnectSessions: { path: () => '/sessions/disconnect', body: w => ({ room: w.room }), done: r => r.done === 1 && r.failures === 0, bad: [[{ room: 'x', rooms: ['x'] }, 400], [{ namespace: 'x' }, 400], [{ room: 'x', code: 1000 }, 400], [{ user: LONG }, 400]], room: true },
  listSessions: { path: w => `/sessions?user=${w.user}`, done: (r, w) => r.sessions[0].session === w.alice.session, bad: [['/sessions', 400], ['/sessions?user=a&room=b', 400], ['/sessions?user=a&limit=0', 400], ['/sessions?user=%00', 400]] },
  getSession: { path: w => `/sessions/${w.alice.session}`, done: (r, w) => r.user === w.user, bad: [[NO_SESSION, 400], [`/sessions/${'x'.repeat(65)}`, 400], ['/sessions/nobody', 404]] },
  giveAttributes: {
    path: w => `/sessions/${w.alice.session}`, body: () => ({ attributes: { level: 3 } }), done: r => r.attributes.level === 3,
    bad: [[{}, 400], [{ attributes: [] }, 400], [{ attributes: { a: LONG.repeat(100) } }, 413], [NO_SESSION, 400], ['/sessions/nobody', 404]],
  },
  disconnectSession: { path: w => `/sessions/${w.alice.session}`, done: (r, w) => r.session === w.alice.session, bad: [[NO_SESSION, 400], ['?code=1000', 400], ['?code=x', 400], ['?reconnect_after=-1', 400], ['?reason=', 400], ['/sessions/nobody', 404]] },
  joinRoom: { path: w => `/sessions/${w.alice.session}/rooms/${w.other}`, done: (r, w) => r.room === w.other, bad: [[w => `/sessions/${w.alice.session}/rooms/%00`, 400], [w => `/sessions/${w.alice.session}/rooms/$all`, [400, 404]], [`${NO_SESSION}/rooms/a`, 400], ['/sessions/nobody/rooms/a', 404]], room: true },
  leaveRoom: { path: w => `/sessions/${w.alice.session}/rooms/${w.room}`, done: (r, w) => r.room === w.room, bad: [[w => `/sessions/${w.alice.session}/rooms/%00`, 400], [w => `/sessions/${w.alice.session}/rooms/${w.other}`, 403], [`?reason=${LONG}`, 400], ['/sessions/nobody/rooms/a', 404]], room: true },
  getPresence: {
    path: () => '/users/presence', body: w => ({ users: ['nobody', w.user] }), done: (r, w) => r.users[0].state === 'offline' && r.users[1].user === w.user && r.users[1].state === 'online' && r.users[1].since > 0,
    bad: [[{}, 400], [{ users: [] }, 400], [{ users: 'a' }, 400], [{ users: ['a', 1] }, 400], [{ users: [''] }, 400], [{ users: ['x'.repeat(129)] }, 400], [{ users: ['a\u0000'] }, 400], [{ users: Array(129).fill('x') }, 413]],
  },
  getUser: { path: w => `/users/${w.user}`, done: r => r.state === 'online', bad: [...PAGE, ['/users/%00', 400], [`/users/${'x'.repeat(129)}`, 400]] },
  disconnectUser: { path: w => `/users/${w.user}`, done: r => r.disconnected === 1, bad: [['/users/%00', 400], [`?reason=${LONG}`, 400]] },
  getBan: { path: w => `/users/${w.banned}/ban`, done: r => r.reason === 'spam', bad: [['/users/%00/ban', 400], ['/users/nobody/ban', 404]] },
  banUser: { path: w => `/users/${w.user}/ban`, body: () => ({ reason: 'spam', for: 60 }), done: r => r.reason === 'spam' && r.until > Date.now(), bad: [['/users/%00/ban', 400], [{ reason: LONG }, 400], [{ until: 1 }, 400], [{ for: 0 }, 400], [{ for: 1, until: 4e12 }, 400], ['null', 400]] },
  unbanUser: { path: w => `/users/${w.banned}/ban`, done: (r, w) => r.user === w.banned, bad: [['/users/%00/ban', 400], ['/users/nobody/ban', 404]] },
  listBans: { path: () => '/bans?limit=1000', done: (r, w) => r.bans.some(b => b.user === w.banned), bad: [...PAGE, ['?cursor=x', 400], ['?cursor=-1%20x', 400]] },
  revokeTokens: { path: () => '/tokens/revoke', body: () => ({ jti: unique('token') }), done: r => r.expires > 0, bad: [[{}, 400], [{ jti: 'a', user: 'b' }, 400], [{ jti: '' }, 400], [{ user: 'a', before: 0 }, 400], [{ user: 'a', before: '1' }, 400], [{ jti: 'a\u0000' }, 400]] },
  listNodes: { path: () => '/nodes', done: r => r.nodes.length === 1, bad: [['/nodes/x', 404]] },
  getStats: { path: () => '/stats', done: r => r.nodes === 1, bad: [['/stats/', 404]] },
};

describe('each operation of the server API', { timeout: 60000 }, () => {
  const all = operations(), keys = { admin: 'xdk_operations_admin_0123456789abcdef', elsewhere: 'xdk_operations_elsewhere_0123456789' };
  let cluster, g, signer;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    signer = await Key.make('HS256');
    const file = join(cluster.dir, 'keys.json'), list = [{ name: 'admin', scopes: ['admin'] }, { name: 'elsewhere', scopes: ['admin'], rooms: ['elsewhere.*'] }];
    for (const scope of SCOPES) {
      keys[scope] ??= `xdk_operations_no_${scope}_0123456789abcdef`;
      if (scope !== 'admin') list.push({ name: scope, scopes: SCOPES.filter(s => s !== scope && s !== 'admin') });
    }
    // For the scope admin: a key that has all the others.
    keys.nobody = 'xdk_operations_all_but_admin_0123456789';
    list.push({ name: 'nobody', scopes: SCOPES.filter(s => s !== 'admin') });
    writeFileSync(file, JSON.stringify({ keys: list.map(k => ({ ...k, sha256: sha256(keys[k.name]), rate: 0 })) }));
    g = await cluster.add('gw1', { flags: ['--api-keys', file, '--auth', 'jwt', '--jwt-key', signer.file(cluster.dir), '--log-level', 'error'] });
  });
  after(() => cluster.stop());

  const api = (method, path, { key, body } = {}) => request(g.port, `/api/v1${path}`, { method, ca: cluster.ca, headers: key ? { Authorization: `Bearer ${key}` } : {}, body: body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body) });
  const admin = (method, path, body) => api(method, path, { key: keys.admin, body });

  /** Somebody in a room with one message, and somebody banned. */
  async function world() {
    const w = { user: unique('alice'), room: unique(), other: unique(), banned: unique('banned') };
    w.token = await signer.sign(w.user);
    w.alice = await g.client(undefined, { path: `/ws?token=${w.token}` });
    await w.alice.join(w.room);
    await w.alice.publish(w.room, 'first');
    assert.equal((await admin('PUT', `/users/${w.banned}/ban`, { reason: 'spam' })).status, 200);
    return w;
  }

  function refused(r, statuses, what) {
    assert.ok([statuses].flat().includes(r.status), `${what}: ${r.status} ${r.text}, not ${statuses}`);
    assert.ok(r.json.code && r.json.message, `${what}: ${r.text}`);
    assert.doesNotMatch(r.text, /xdk_/);
  }

  it('has a row here and a seed, and nothing else has', () => {
    assert.deepEqual(Object.keys(ROWS).sort(), all.map(o => o.id).sort(), 'operations of docs/openapi.yaml, and rows of this test');
    assert.equal(SCOPES.length, new Set(['admin', ...all.map(o => o.scope)]).size, `a scope that no operation needs, or the other way round: ${SCOPES}`);
    for (const o of all) {
      assert.ok(ROWS[o.id].bad.length > 0, `${o.id}: no bad input`);
      const seed = join(SEEDS, o.id);
      assert.ok(existsSync(seed), `${o.id}: there is no ${seed}: a line "${o.method} ${o.path}" with the names of fuzz_operation.c, then the body`);
      const [method, path] = readFileSync(seed, 'utf8').split('\n')[0].split(' '), form = new RegExp(`^${o.path.replace(/\{\w+\}/g, '[^/?]+')}(\\?|$)`);
      assert.equal(method, o.method, seed);
      assert.match(path, form, seed);
    }
    const known = new Set(all.map(o => o.id));
    for (const name of readdirSync(SEEDS)) assert.ok(known.has(name.split('.')[0]), `${name} is the seed of no operation`);
  });

  for (const o of all) {
    it(`${o.id}: ${o.method} ${o.path}`, async () => {
      const row = ROWS[o.id], w = await world(), path = row.path(w), body = row.body?.(w), what = `${o.method} ${path}`;
      // Who may not: none of it is done, since below it still can be.
      refused(await api(o.method, path, { body }), 401, `${what} without a key`);
      for (const key of [`${keys.admin}x`, keys.admin.slice(0, -1), keys.admin.toUpperCase(), `${keys.admin}%00`, sha256(keys.admin), 'xdk_']) refused(await api(o.method, path, { key, body }), 401, `${what} with ${key}`);
      if (!o.open) refused(await api(o.method, path, { key: w.token, body }), 401, `${what} with the token of a client`);
      refused(await api(o.method, path, { key: keys[o.scope === 'admin' ? 'nobody' : o.scope], body }), 403, `${what} with every scope but ${o.scope}`);
      if (row.room) refused(await api(o.method, path, { key: keys.elsewhere, body }), 403, `${what} with a key for other rooms`);
      for (const [change, status] of row.bad) {
        const c = typeof change === 'function' ? change(w) : change, text = typeof c === 'string';
        const sent = text && c.startsWith('?') ? path.replace(/\?.*|$/, c) : text && c.startsWith('/') ? c : path;
        refused(await api(o.method, sent, { key: keys.admin, body: sent === path ? c : body }), status, `${o.method} ${sent} ${sent === path ? String(JSON.stringify(c)).slice(0, 100) : ''}`);
      }
      const r = await api(o.method, path, { key: keys.admin, body });
      assert.equal(r.status, 200, `${what}: ${r.status} ${r.text}`);
      assert.ok(row.done(r.json, w), `${what}: ${r.text}`);
      w.alice.ws.terminate();
    });
  }
});
