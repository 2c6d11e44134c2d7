// drain.test.mjs: SIGTERM: goodbye, flush, leave Redis clean, exit 0; the second signal ends it at once
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { Refused, unique } from './lib/client.mjs';
import { Raw } from './lib/raw.mjs';
import { until, within } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

describe('draining', { timeout: 180000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 1 }); });
  after(() => cluster.stop());

  it('says goodbye to everybody, flushes, and leaves nothing behind', async () => {
    const gw = await cluster.add('leaving', { flags: ['--drain-time', '4s'] });
    const room = unique(), stay = await cluster.client(0, 'stay');
    await stay.join(room);
    const clients = await Promise.all(Array.from({ length: 40 }, (_, i) => gw.client(`c${i}`)));
    for (const c of clients) await c.join(room);
    const node = clients[0].welcome.node;
    const sent = Array.from({ length: 100 }, (_, i) => clients[0].publish(room, i).then(a => offsetOf(a.position), e => e));
    gw.process.expected = true;
    const began = Date.now();
    gw.process.signal('SIGTERM');

    const ends = await Promise.all(clients.map(c => within(c.closed, 30000, 'the close')));
    const byes = clients.map(c => c.take('goodbye'));
    for (const [i, b] of byes.entries()) {
      assert.equal(b.length, 1, `client ${i} got ${b.length} goodbyes`);
      assert.equal(b[0].reason, 'draining');
      assert.ok(Number.isInteger(b[0].reconnect_after) && b[0].reconnect_after >= 0 && b[0].reconnect_after < 60000, String(b[0].reconnect_after));
      assert.deepEqual(ends[i], { code: 1001, reason: 'draining' });
    }
    assert.ok(new Set(byes.map(b => b[0].reconnect_after)).size >= 10, `reconnect_after is not spread: ${byes.map(b => b[0].reconnect_after)}`);
    const end = await within(gw.process.exit, 30000, 'the gateway to exit');
    assert.equal(end.code, 0);
    assert.ok(Date.now() - began < 15000, 'within the grace time');

    const answers = await Promise.all(sent);
    const acked = answers.filter(Number.isInteger);
    for (const x of answers) if (!Number.isInteger(x)) assert.ok(!(x instanceof Refused) || ['draining', 'unavailable', 'not_member'].includes(x.code), String(x));
    await stay.settle();
    const heard = stay.take('message').map(m => offsetOf(m.position));
    for (const offset of acked) assert.ok(heard.includes(offset), `acknowledged message ${offset} was not delivered`);
    const exits = await until(() => { const x = stay.inbox.filter(f => f.type === 'exit'); return x.length >= 40 && x; }, { what: '40 exits' });
    assert.equal(new Set(exits.map(e => e.session)).size, 40);
    assert.ok(exits.every(e => e.reason !== 'node_lost'), 'they left in order');
    assert.deepEqual((await cluster.redis.keys('*')).filter(k => k.includes(node) || clients.some(c => k.includes(c.session)) || /user:.*c\d+.$/.test(k)), []);
    assert.equal((await stay.call({ type: 'presence', room })).total, 1);
    await stay.close();
  });

  it('takes nobody new while draining', async () => {
    const gw = await cluster.add('closing', { flags: ['--drain-time', '20s'] });
    const stuck = await Raw.open(gw.port, { ca: cluster.ca });
    stuck.socket.pause(); // never answers the close
    gw.process.expected = true;
    gw.process.signal('SIGTERM');
    await until(async () => { try { return (await gw.get('/readyz')).status === 503; } catch { return true; } }, { what: 'no more readiness' });
    await assert.rejects(gw.client('new'));
    await within(gw.process.exit, 30000, 'the gateway to give up on a client that does not answer');
    assert.equal(gw.process.ended.code, 0);
    stuck.destroy();
  });

  it('exits at once at the second signal', async () => {
    const gw = await cluster.add('hurried', { flags: ['--drain-time', '60s'] });
    const clients = await Promise.all(Array.from({ length: 20 }, () => Raw.open(gw.port, { ca: cluster.ca })));
    for (const c of clients) c.socket.pause();
    gw.process.expected = true;
    gw.process.signal('SIGTERM');
    await until(() => /drain/i.test(gw.log), { what: 'draining to begin' });
    gw.process.signal('SIGTERM');
    await within(gw.process.exit, 20000, 'the gateway to exit at once');
    assert.equal(gw.process.ended.signal, null, 'it exits by itself');
    for (const c of clients) c.destroy();
  });

  it('exits 0 with nobody there, by SIGINT too', async () => {
    const gw = await cluster.add('idle', {});
    gw.process.expected = true;
    gw.process.signal('SIGINT');
    assert.equal((await within(gw.process.exit, 30000, 'the exit')).code, 0);
  });
});
