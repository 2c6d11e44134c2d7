// redis-url.test.mjs: password, database and key prefix; two clusters in one Redis do not hear each other
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { until } from './lib/wait.mjs';

describe('one Redis, several tenants', { timeout: 120000 }, () => {
  let cluster, url;
  const PASSWORD = 'p@ss/w:rd%';
  const at = (db, password = PASSWORD) => ['--broker', `redis://:${encodeURIComponent(password)}@127.0.0.1:${cluster.redis.port}/${db}`];

  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    url = cluster.redis.url;
    await cluster.redis.cli('CONFIG', 'SET', 'requirepass', PASSWORD);
  });
  after(async () => { await cluster.stop(); });

  const keys = async db => (await cluster.redis.cli('-a', PASSWORD, '--no-auth-warning', '-n', String(db), '--scan')).split('\n').filter(Boolean);

  it('password and database come from the URL', async () => {
    const gw = await cluster.add('db3', { broker: at(3) }), c = await gw.client('alice');
    await c.join('lobby');
    assert.ok((await keys(3)).includes('xd:{lobby}:members'));
    assert.deepEqual(await keys(0), []);
    assert.ok(!gw.log.includes(PASSWORD) && !gw.log.includes(encodeURIComponent(PASSWORD)), 'the password is in the log');
    await c.close();
    await gw.stop();
  });

  it('a wrong password, or none, is told without telling it', async () => {
    for (const broker of [at(0, 'wrong-secret'), ['--broker', url]]) {
      const gw = await cluster.add('locked-out', { broker, wait: false });
      const r = await until(async () => { const a = await gw.get('/readyz'); return a.status === 503 && a; }, { what: '503' });
      assert.ok(r.json.reason);
      await until(() => /NOAUTH|WRONGPASS|[Aa]uth|password/.test(gw.log), { what: 'the log to say why' });
      assert.ok(!gw.log.includes('wrong-secret'));
      await gw.stop();
    }
  });

  /** Two nodes of one cluster, and a stranger who must not hear a word. */
  async function apart(ours, theirs) {
    const gateways = [await cluster.add('a1', ours), await cluster.add('a2', ours), await cluster.add('stranger', theirs)];
    const [a1, a2, stranger] = await Promise.all(gateways.map(g => g.client('same-user')));
    for (const x of [a1, a2, stranger]) await x.join('lobby');
    await a1.publish('lobby', 'for a');
    assert.equal((await a2.message('lobby')).data, 'for a');
    await a2.call({ type: 'broadcast', data: 'all of a' });
    assert.equal((await a1.message('$all')).data, 'all of a');
    await a1.call({ type: 'send', to: { user: 'same-user' }, data: 'my devices' });
    await a2.message('$user:same-user');
    assert.equal((await stranger.call({ type: 'presence', room: 'lobby' })).total, 1);
    assert.equal((await stranger.refused({ type: 'send', to: { session: a1.session }, data: 1 })).code, 'not_found');
    await stranger.settle();
    assert.deepEqual(stranger.take('message'), []);
    for (const x of [a1, a2, stranger]) await x.close();
    for (const g of gateways) await g.stop();
  }

  it('key prefixes keep clusters apart', async () => {
    await apart({ broker: at(0), flags: ['--key-prefix', 'one:'] }, { broker: at(0), flags: ['--key-prefix', 'two:'] });
    assert.ok((await keys(0)).every(k => /^(one|two):/.test(k)), String(await keys(0)));
  });

  it('databases keep clusters apart', () => apart({ broker: at(0) }, { broker: at(1) }));
});
