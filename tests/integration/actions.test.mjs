// actions.test.mjs: what a backend wants done: in its answers
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { Backend } from './lib/backend.mjs';
import { unique } from './lib/client.mjs';
import { sleep, until } from './lib/wait.mjs';

const FLAGS = ['--lease', '2s', '--redis-timeout', '1s', '--backend-timeout', '1s', '--policy', 'chat* events=message,join,leave retain-count=100', '--policy', 'mod* publish=backend'];

describe('actions in answers', { timeout: 120000 }, () => {
  let cluster, backend, g;
  const sum = async name => (await Promise.all(cluster.gateways.map(x => x.metrics()))).reduce((n, m) => n + m.sum(name), 0);
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    backend = await Backend.start(cluster.dir);
    g = await cluster.add('gw1', { flags: [...FLAGS, ...backend.flags] });
    await cluster.add('gw2', { flags: [...FLAGS, ...backend.flags] });
  });
  after(async () => { await cluster.stop(); await backend.stop(); });

  it('every kind, from an event of one node for sessions of another', async () => {
    const room = unique('chat'), b = await cluster.client(1, 'bob'), c = await cluster.client(1, 'carol');
    await c.join(room);
    backend.answer = e => e.type !== 'connect' || e.user !== 'alice' ? undefined : { json: { actions: [
      { do: 'join', room }, { do: 'publish', room, event: 'say', data: { text: `${e.user} is here` } }, { do: 'send', to: { user: 'bob' }, data: 'psst' },
      { do: 'send', to: { sessions: [c.session] }, data_base64: 'AP8=' }, { do: 'attributes', attributes: { level: 3 } }, { do: 'broadcast', data: 'all' },
      { do: 'ban', user: 'mallory', reason: 'spam', for: 60 }, { do: 'leave', room, reason: 'full' }, { do: 'disconnect', session: b.session, reason: 'bye' }, { do: 'unban', user: 'mallory' }] } };
    const a = await cluster.client(0, 'alice');
    assert.equal((await a.next('joined')).room, room);
    const said = await c.message(room);
    assert.deepEqual([said.data, said.event, said.from], [{ text: 'alice is here' }, 'say', null]);
    assert.equal((await b.next(f => f.room === '$user:bob')).data, 'psst');
    assert.equal((await a.next(f => f.room === '$all')).data, 'all');
    const left = await a.next('left');
    assert.deepEqual([left.room, left.reason], [room, 'full']);
    assert.equal((await b.next('goodbye')).reason, 'bye');
    assert.equal((await cluster.redis.hash(`xd:session:{${a.session}}`)).given, '{"level":3}');
    await until(async () => (await sum('xindao_actions_done_total')) === 10, { what: 'ten actions' });
    assert.equal(await sum('xindao_actions_failed_total'), 0);
    await a.close(); await c.close();
  });

  it('what fails is logged with its number and why, and counted; the others are done', async () => {
    const room = unique('chat'), failed = await sum('xindao_actions_failed_total');
    backend.answer = e => (e.type === 'connect' && e.user === 'dora' ? { json: { actions: [{ do: 'dance' }, { do: 'leave', room: 'nowhere' }, { do: 'publish', room: '$all', data: 1 }, { do: 'join', room }] } } : undefined);
    const c = await cluster.client(0, 'dora');
    assert.equal((await c.next('joined')).room, room);
    assert.equal(await sum('xindao_actions_failed_total') - failed, 3);
    const log = cluster.gateways.map(x => x.process.log).join('');
    assert.match(log, /an action of the backend failed.*index=0.*code=unknown_type why="?do: there is no dance/);
    assert.match(log, /index=1 do=leave code=not_member/);
    await c.close();
  });

  it('an event that comes again says nothing twice; the next one waits for its actions', async () => {
    const room = unique('chat'), seen = [];
    const c = await cluster.client(0, 'erin'), listener = await cluster.client(1, 'lis');
    await listener.join(room);
    let tries = 0;
    backend.answer = async e => {
      if (e.session !== c.session || e.type !== 'message') return undefined;
      seen.push(e.data);
      const json = { actions: [{ do: 'publish', room, data: `echo ${e.data}` }, { do: 'leave', room: 'nowhere' }, { do: 'publish', room, data: `after ${e.data}` }] };
      if (e.data === 1 && ++tries === 1) { await sleep(1300); return { json }; } // later than backend-timeout: posted again
      return { json };
    };
    await c.join(room); await listener.next('enter');
    for (const n of [1, 2]) await c.publish(room, n, { echo: false });
    const heard = [];
    while (heard.length < 6) heard.push((await listener.message(room)).data);
    assert.deepEqual(heard, [1, 2, 'echo 1', 'after 1', 'echo 2', 'after 2']);
    assert.deepEqual(seen, [1, 1, 2]);
    await c.close(); await listener.close();
  });

  it('answers to questions: a call that puts into a room, a refusal that disconnects', async () => {
    const room = unique('mod');
    backend.answer = e => {
      if (e.type === 'call') return { json: { data: 'welcome', actions: [{ do: 'join', room }] } };
      return e.type === 'publish' ? { json: { allow: false, reason: 'language', actions: [{ do: 'disconnect', reason: 'language' }] } } : undefined;
    };
    const c = await g.client('finn');
    assert.equal((await c.call({ type: 'call', event: 'enter' })).data, 'welcome');
    assert.equal((await c.next('joined')).room, room);
    assert.equal((await c.refused({ type: 'publish', room, data: 'heck' })).message, 'language');
    assert.equal((await c.next('goodbye')).reason, 'language');
    await c.closed;
    backend.answer = () => undefined;
  });
});
