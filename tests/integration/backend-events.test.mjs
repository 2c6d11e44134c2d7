// backend-events.test.mjs: what happens to sessions, as a backend reads it from Redis itself
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';

const FLAGS = ['--lease', '2s', '--redis-timeout', '1s', '--events', 'on', '--event-shards', '1', '--policy', 'chat* events=message,join,leave'];

/** What `redis-cli XREADGROUP` prints, as events in order. */
async function read(redis, group) {
  const lines = (await redis.cli('XREADGROUP', 'GROUP', group, 'test', 'COUNT', '1000', 'STREAMS', 'xd:{events:0}', '>')).split('\n').slice(1);
  const events = [];
  for (let i = 0; i < lines.length;) {
    const event = { place: lines[i++] };
    while (i < lines.length && !/^\d{13}-\d+$/.test(lines[i])) { event[lines[i]] = lines[i + 1]; i += 2; }
    events.push(event);
  }
  return events;
}

describe('events in Redis', { timeout: 120000 }, () => {
  let cluster, redis;
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, flags: FLAGS });
    redis = cluster.redis;
    await redis.cli('XGROUP', 'CREATE', 'xd:{events:0}', 'app', '$', 'MKSTREAM');
  });
  after(() => cluster.stop());

  it('a consumer group reads a session\'s life in order, with plain fields', async () => {
    const room = unique('chat'), quiet = unique('quiet'), c = await cluster.client(0, 'alice');
    await c.join(room); await c.join(quiet);
    const ack = await c.publish(room, { text: '你好' }, { event: 'say', key: 'k' });
    await c.publish(quiet, 1);
    await c.leave(room);
    await c.close();
    const seen = [];
    await until(async () => { seen.push(...await read(redis, 'app')); return seen.some(e => e.type === 'disconnect'); }, { what: 'the disconnect' });
    assert.deepEqual(seen.map(e => e.type), ['connect', 'join', 'message', 'leave', 'disconnect']);
    for (const e of seen) {
      assert.deepEqual([e.session, e.user, e.node], [c.session, 'alice', c.welcome.node]);
      assert.ok(e.id.startsWith(`${c.session}.${e.type}.`) && Math.abs(Date.now() - Number(e.time)) < 60000);
    }
    assert.equal(seen[0].ip, '127.0.0.1');
    const { room: where, event, key, data, position } = seen[2];
    assert.deepEqual([where, event, key, JSON.parse(data), position], [room, 'say', 'k', { text: '你好' }, ack.position]);
    assert.equal(seen[2].id, `${c.session}.message.${ack.position}`);
    assert.deepEqual([seen[3].reason, seen[4].reason], ['leave', 'closed']);
  });

  it('kill -9 of a gateway: another node tells that its sessions have ended, once', async () => {
    const doomed = await cluster.add('doomed', { flags: FLAGS });
    const clients = [await doomed.client('d1'), await doomed.client('d2')];
    await read(redis, 'app');
    await doomed.kill();
    const seen = [];
    await until(async () => { seen.push(...await read(redis, 'app')); return seen.length >= 2; }, { what: 'both to have disconnected' });
    assert.deepEqual(seen.map(e => `${e.type} ${e.session} ${e.user} ${e.reason}`).sort(), clients.map((c, i) => `disconnect ${c.session} d${i + 1} node_lost`).sort());
    assert.ok(seen.every(e => !e.node.startsWith('doomed')));
  });

  it('over its limit a stream drops the oldest; nothing else grows', async () => {
    const small = await cluster.add('small', { flags: [...FLAGS, '--event-count', '100'] });
    const c = await small.client('busy'), room = unique('chat');
    await c.join(room);
    await Promise.all(Array.from({ length: 150 }, (_, i) => c.publish(room, i)));
    assert.equal(await redis.cli('XLEN', 'xd:{events:0}'), '100');
    await c.close();
  });
});
