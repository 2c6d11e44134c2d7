// inbox.test.mjs: what is sent to users who are away waits for them; how far they have read; a tiny IM made of it
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Cluster, ROOT } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';

const FLAGS = ['--lease', '1s', '--redis-timeout', '500ms', '--resume-window', '20s', '--policy', '$user:* retain-count=100 retain-age=7d'];
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('messages for users who are away', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, flags: FLAGS }); });
  after(() => cluster.stop());

  const send = (from, user, data, more = {}) => from.call({ type: 'send', to: { user }, data, ...more });
  /** The next n messages of the inbox, in order, each with its position. */
  async function take(c, user, n) {
    const got = [];
    while (got.length < n) got.push(await c.message(`$user:${user}`));
    assert.deepEqual(got.map(m => Number(m.position.split('.')[0])), numbers(Number(got[0].position.split('.')[0]), Number(got[0].position.split('.')[0]) + n - 1), 'offsets without a hole');
    return got;
  }

  it('waits, reaches every device, and says which it did', async () => {
    const bob = unique('bob'), alice = await cluster.client(0, 'alice');
    for (const i of numbers(1, 3)) assert.equal((await send(alice, bob, i)).stored, true);
    const phone = await cluster.client(1, bob), laptop = await cluster.client(0, bob);
    for (const c of [phone, laptop]) {
      const r = await c.next('recovered');
      assert.deepEqual([r.room, r.recovered, r.position], [`$user:${bob}`, true, '0']);
      assert.deepEqual((await take(c, bob, 3)).map(m => m.data), [1, 2, 3]);
    }
    const live = await send(alice, bob, 4);
    assert.equal(live.stored, undefined);
    for (const c of [phone, laptop]) assert.equal((await take(c, bob, 1))[0].position, live.position);
    await laptop.drop(); await phone.drop();
    await until(async () => (await cluster.redis.hash(`xd:user:{${bob}}:presence`)).state === 'suspended', { what: 'bob to be away' });
    assert.equal((await send(alice, bob, 5)).stored, true, 'to a suspended user too');
    await alice.close();
  });

  it('read on one device is read on all; who comes later begins there', async () => {
    const bob = unique('bob'), room = unique(), alice = await cluster.client(0, 'alice');
    const phone = await cluster.client(0, bob), laptop = await cluster.client(1, bob);
    const acks = [];
    for (const i of numbers(1, 5)) acks.push(await send(alice, bob, i));
    for (const c of [phone, laptop]) await take(c, bob, 5);
    assert.deepEqual((await phone.call({ type: 'read', position: acks[2].position })).position, acks[2].position);
    const news = await laptop.next('read');
    assert.deepEqual([news.room, news.position], [`$user:${bob}`, acks[2].position]);
    assert.equal((await laptop.call({ type: 'read', room: `$user:${bob}`, position: acks[0].position })).position, acks[2].position, 'not back');
    assert.equal((await laptop.call({ type: 'read', position: acks[1].position, back: true })).position, acks[1].position, 'unless it says so');
    assert.equal((await phone.next('read')).position, acks[1].position);
    const tablet = await cluster.client(1, bob);
    assert.equal((await tablet.next('recovered')).position, acks[1].position);
    assert.deepEqual((await take(tablet, bob, 3)).map(m => m.data), [3, 4, 5]);
    assert.match((await cluster.redis.hash(`xd:{$user:${bob}}:read`))[`$user:${bob}`], new RegExp(`^${acks[1].position.replace('.', ' ')} \\d+ \\d+$`));

    for (const c of [alice, phone]) await c.join(room);
    const said = [];
    for (const i of numbers(1, 4)) said.push(await alice.publish(room, i));
    await phone.call({ type: 'read', room, position: said[1].position });
    assert.equal((await laptop.next(f => f.type === 'read' && f.room === room)).position, said[1].position);
    await laptop.call({ type: 'join', room, position: 'read' });
    assert.deepEqual((await laptop.next(f => f.type === 'recovered' && f.room === room)).position, said[1].position);
    for (const i of [3, 4]) assert.equal((await laptop.message(room)).data, i);
    for (const c of [alice, phone, laptop, tablet]) await c.close();
  });

  it('while sessions begin, nothing is lost or told twice', async () => {
    const bob = unique('bob'), alice = await cluster.client(0, 'alice');
    let stop = false, sent = 0;
    const talking = (async () => { while (!stop) { await send(alice, bob, ++sent); await new Promise(r => setTimeout(r, 2)); } })();
    const devices = [];
    for (let i = 0; i < 6; i++) devices.push(await cluster.client(i % 2, bob));
    stop = true;
    await talking;
    assert.ok(sent >= 6, `${sent} messages`);
    for (const c of devices) {
      assert.deepEqual((await take(c, bob, sent)).map(m => m.data), numbers(1, sent));
      await c.settle();
      assert.deepEqual(c.take('message'), []);
    }
    for (const c of [alice, ...devices]) await c.close();
  });

  it('a session that is resumed elsewhere after its node was killed goes on where it was', async () => {
    const victim = await cluster.add('victim', { flags: FLAGS }), bob = unique('bob'), alice = await cluster.client(0, 'alice');
    const phone = await victim.client(bob);
    const first = await send(alice, bob, 1);
    await take(phone, bob, 1);
    await victim.kill();
    for (const i of numbers(2, 4)) await send(alice, bob, i);
    const again = await cluster.client(1, bob, { path: '/ws?resume' });
    again.send({ type: 'resume', id: 9, session: phone.welcome.session, token: phone.welcome.token, positions: [{ room: `$user:${bob}`, position: first.position }] });
    await again.next(f => f.type === 'welcome' && f.id === 9);
    assert.equal((await again.next(f => f.type === 'recovered' && f.position === first.position)).recovered, true);
    assert.deepEqual((await take(again, bob, 3)).map(m => m.data), [2, 3, 4]);
    await again.settle();
    assert.deepEqual(again.take('message'), []);
    for (const c of [alice, again]) await c.close();
  });

  it('without retention who is away is not there', async () => {
    const plain = await cluster.add('plain', { flags: FLAGS.slice(0, -2) });
    const c = await plain.client('plain');
    assert.equal((await c.refused({ type: 'send', to: { user: unique() }, data: 1 })).code, 'not_found');
    await c.settle();
    assert.deepEqual(c.take('recovered'), []);
    await c.close();
    await plain.stop();
  });

  it('the example in docs/examples: a tiny IM', async () => {
    const url = cluster.gateways[0].url, people = [unique('ann'), unique('ben')];
    const run = (user, lines) => new Promise((yes, no) => {
      const p = spawn(process.execPath, [join(ROOT, 'docs/examples/tiny-im.cjs'), url, user], { env: { ...process.env, NODE_EXTRA_CA_CERTS: join(cluster.dir, 'ca.pem'), NODE_PATH: join(ROOT, 'tests/integration/node_modules') } });
      let out = '';
      p.stdout.on('data', d => { out += d; });
      p.stderr.on('data', d => { out += d; });
      p.on('error', no);
      p.on('close', code => yes({ code, out }));
      p.stdin.end(lines.map(l => `${l}\n`).join(''));
    });
    const ann = await run(people[0], [`/watch ${people[1]}`, `@${people[1]} hello`, `@${people[1]} are you there?`]);
    assert.equal(ann.code, 0, ann.out);
    assert.match(ann.out, new RegExp(`${people[1]} is offline`));
    assert.match(ann.out, new RegExp(`${people[1]} will find it`));
    const ben = await run(people[1], []);
    assert.match(ben.out, new RegExp(`${people[0]}: hello\n${people[0]}: are you there\\?`));
    assert.doesNotMatch((await run(people[1], [])).out, /hello/, 'it has been read');
  });
});
