// actions.test.mjs: what a backend wants done: in its answers, and by commands in Redis
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Process, ROOT } from './lib/cluster.mjs';
import { Backend, KEY } from './lib/backend.mjs';
import { unique } from './lib/client.mjs';
import { freePort, sleep, until } from './lib/wait.mjs';

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

describe('commands in Redis', { timeout: 120000 }, () => {
  const flags = ['--lease', '2s', '--redis-timeout', '1s', '--commands', 'on', '--command-age', '10s', '--events', 'on', '--policy', 'chat* events=message,join retain-count=100'];
  let cluster, redis;
  /** As a person would type it: words as redis-cli takes them. */
  const command = (...words) => redis.cli('XADD', 'xd:{commands}', '*', ...words);
  const results = async () => {
    const lines = (await redis.cli('XRANGE', 'xd:{commands}:results', '-', '+')).split('\n'), all = {};
    for (let i = 0, r; i < lines.length; i++) {
      if (/^\d{13}-\d+$/.test(lines[i]) && lines[i - 1] !== 'command') r = {};
      else { r[lines[i]] = lines[++i]; if (r.command) all[r.command] = r; }
    }
    return all;
  };
  const over = id => until(async () => (await results())[id], { what: `the result of ${id}` });
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, flags });
    redis = cluster.redis;
  });
  after(() => cluster.stop());

  it('redis-cli publishes, and does everything else', async () => {
    const room = unique('chat'), c = await cluster.client(0, 'alice'), b = await cluster.client(1, 'bob');
    await b.join(room);
    const id = await command('do', 'publish', 'room', room, 'event', 'say', 'data', '{"text":"hi"}');
    const said = await b.message(room);
    assert.deepEqual([said.event, said.data, said.from], ['say', { text: 'hi' }, null]);
    const { node, ...result } = await over(id);
    assert.deepEqual(result, { command: id, do: 'publish', result: 'ok', position: said.position });
    await command('do', 'join', 'session', c.session, 'room', room);
    assert.equal((await c.next('joined')).room, room);
    await command('do', 'send', 'user', 'bob', 'data', '"psst"');
    assert.equal((await b.next(f => f.room === '$user:bob')).data, 'psst');
    await command('do', 'send', 'to', `{"sessions":["${c.session}"]}`, 'data_base64', 'AP8=');
    await command('do', 'broadcast', 'data', '1');
    assert.equal((await b.next(f => f.room === '$all')).data, 1);
    await command('do', 'leave', 'session', c.session, 'room', room, 'reason', 'full');
    assert.equal((await c.next('left')).reason, 'full');
    await over(await command('do', 'attributes', 'session', c.session, 'attributes', '{"level":3}'));
    assert.equal((await redis.hash(`xd:session:{${c.session}}`)).given, '{"level":3}');
    await command('do', 'disconnect', 'session', c.session, 'reason', 'bye', 'code', '4321');
    assert.equal((await c.closed).code, 4321);
    await command('do', 'ban', 'user', 'bob', 'for', '60', 'reason', 'spam');
    assert.equal((await b.next('error')).code, 'banned');
    await b.closed;
    await over(await command('do', 'unban', 'user', 'bob'));
    assert.ok(Object.values(await results()).every(r => r.result === 'ok'), JSON.stringify(await results()));
  });

  it('what fails says why, in Redis, in the log and in a counter; what follows is done', async () => {
    const ids = [await command('do', 'dance'), await command('room', 'x'), await command('do', 'publish', 'room', 'x', 'data', JSON.stringify('x'.repeat(70000))),
      await command('do', 'disconnect', 'session', 'nobody'), await command('do', 'ban', 'user', 'u', 'for', 'ever'), await command('do', 'publish', 'room', 'x', 'data', 'text'), await command('do', 'publish', 'room', 'x', 'data', '"text"')];
    const said = await Promise.all(ids.map(over));
    assert.deepEqual(said.map(r => [r.do, r.result]), [['dance', 'unknown_type'], ['-', 'bad_request'], ['publish', 'too_large'], ['disconnect', 'not_found'], ['ban', 'bad_request'], ['publish', 'bad_request'], ['publish', 'ok']]);
    assert.match(said[4].message, /for \(seconds\) must be a whole number/);
    const metrics = await Promise.all(cluster.gateways.map(g => g.metrics()));
    assert.equal(metrics.reduce((n, m) => n + m.sum('xindao_commands_failed_total'), 0), 6);
    assert.ok(cluster.gateways.some(g => g.log.includes(`command=${ids[0]} do=dance code=unknown_type`)));
  });

  it('in order for each room, once each, while the node that carries them out is killed', async () => {
    const doomed = await cluster.add('doomed', { flags }), room = unique('chat'), b = await cluster.client(0, 'carl');
    await b.join(room);
    const owner = await redis.cli('HGET', 'xd:{commands}:state', 'owner'), all = [...cluster.gateways];
    const g = all.find(x => owner.startsWith(x.name)) ?? doomed, kept = all.find(x => x !== g);
    const listener = await kept.client('lis');
    await listener.join(room);
    for (let i = 0; i < 60; i++) await command('do', 'publish', 'room', room, 'data', `${i}`);
    await g.kill();
    for (let i = 60; i < 100; i++) await command('do', 'publish', 'room', room, 'data', `${i}`);
    const heard = [];
    while (heard.length < 100) heard.push((await listener.message(room)).data);
    assert.deepEqual(heard, Array.from({ length: 100 }, (_, i) => i));
    assert.notEqual(await redis.cli('HGET', 'xd:{commands}:state', 'owner'), owner);
    await listener.close();
  });

  it('the example in docs/examples: a backend with nothing but Redis', async () => {
    const example = new Process('example', process.execPath, [join(ROOT, 'docs/examples/redis-backend.cjs'), redis.url], { env: { NODE_PATH: join(ROOT, 'tests/integration/node_modules') } });
    try {
      await until(() => example.log.includes('ready'), { what: 'the example' });
      const g = cluster.gateways.find(x => !x.process.ended), c = await g.client('dora'), room = unique('chat.');
      await c.join(room);
      assert.deepEqual((await c.message(room)).data, { text: 'welcome, dora' });
      await c.publish(room, { text: 'what the HECK' }, { echo: false });
      assert.deepEqual([(await c.next('left')).reason], ['mind your language']);
      await c.close();
    } finally { await example.kill(); }
  });
});

it('the moderated chat in C of docs/examples', { timeout: 120000 }, async () => {
  const cluster = await Cluster.start({ gateways: 0, redis: false }), program = join(cluster.dir, 'moderated-chat'), key = join(cluster.dir, 'chat.key'), port = await freePort();
  writeFileSync(key, `${KEY.replaceAll(' ', '-')}\n`);
  execFileSync('cc', ['-O1', '-g', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined', '-o', program, join(ROOT, 'docs/examples/moderated-chat.c'), '-ljansson', '-lcrypto']);
  const chat = new Process('moderated-chat', program, [String(port), key]);
  try {
    await until(() => chat.log.includes('ready'), { what: 'the example' });
    const g = await cluster.add('gw', { flags: ['--backend-url', `http://127.0.0.1:${port}/`, '--backend-secret-file', key, '--policy', 'chat.* publish=backend'] });
    const alice = await g.client('alice'), bob = await g.client('bob');
    for (const c of [alice, bob]) await c.join('chat.lobby');
    await alice.publish('chat.lobby', { text: 'hello' });
    assert.deepEqual((await bob.message('chat.lobby')).data, { text: 'hello' });
    for (const why of ['mind your language', 'mind your language', 'that was the third time']) {
      const no = await alice.refused({ type: 'publish', room: 'chat.lobby', data: { text: 'what the HECK' } });
      assert.deepEqual([no.code, no.message], ['refused', why]);
    }
    assert.equal((await alice.next('goodbye')).reason, 'language');
    await bob.publish('chat.lobby', { text: 'and I?' });
    assert.equal((await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: '{"type":"disconnect"}' })).status, 401);
    await bob.close();
  } finally { await cluster.stop(); await chat.kill(); }
});
