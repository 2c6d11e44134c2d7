// storm.test.mjs: everybody comes at once
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';

const median = list => list.sort((a, b) => a - b)[list.length >> 1];

describe('a storm of clients', { timeout: 120000 }, () => {
  let cluster, gw;
  before(async () => {
    cluster = await Cluster.start({ insecure: true, flags: ['--resume-window', '60s', '--max-starts', '2', '--policy', '* notices=off'] });
    gw = cluster.gateways[0];
  });
  after(() => cluster.stop());

  it('begins a few sessions at a time, those that return first', async t => {
    const room = unique(), old = [];
    for (let i = 0; i < 150; i += 25) old.push(...await Promise.all(Array.from({ length: 25 }, () => gw.client())));
    await Promise.all(old.map(c => c.join(room)));
    await Promise.all(old.map(c => c.drop()));
    const calm = await gw.metrics(), from = performance.now();
    const back = async c => {
      const n = await gw.client(undefined, { path: '/ws?resume' }), welcomed = performance.now() - from;
      n.send({ type: 'resume', id: 'back', session: c.session, token: c.welcome.token, positions: [{ room, position: '0' }] });
      const w = await n.next(f => f.id === 'back', 20000);
      assert.equal(w.resumed, true, JSON.stringify(w));
      assert.equal(w.session, c.session);
      return [n, welcomed, performance.now() - from];
    };
    const fresh = async () => [await gw.client(), performance.now() - from];
    const all = await Promise.all(old.flatMap(c => [fresh(), back(c)]));
    const resumed = median(all.filter((_, i) => i % 2 === 1).map(([, , ms]) => ms)), returned = median(all.filter((_, i) => i % 2 === 1).map(([, ms]) => ms)), began = median(all.filter((_, i) => i % 2 === 0).map(([, ms]) => ms));
    const m = await gw.metrics(), waited = m.sum('xindao_starts_deferred_total') - calm.sum('xindao_starts_deferred_total');
    t.diagnostic(`150 new and 150 returning, two at a time: half of the returning were welcomed in ${Math.round(returned)} ms and resumed in ${Math.round(resumed)} ms, of the new welcomed in ${Math.round(began)} ms; ${waited} waited`);
    assert.ok(returned < began, 'who says that it returns does not queue behind the new ones');
    assert.ok(waited > 100, `${waited} waited`);
    assert.equal(m.sum('xindao_starts_waiting'), 0);
    assert.equal(m.sum('xindao_resumed_total'), 150);
    assert.deepEqual([(await gw.get(`/api/v1/rooms/${room}?limit=1000`)).json].map(r => [r.total, r.members.filter(x => x.state === 'active').length]), [[150, 150]]);
    await Promise.all(all.map(([c]) => c.close()));
  });
});
