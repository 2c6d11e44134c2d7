// api-outage.test.mjs: every operation of the server API while Redis is away, or there but silent: an answer that is right, or one that says to come again; in time, on every node
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, ROOT, request } from './lib/cluster.mjs';
import { operations } from './lib/openapi.mjs';
import { until } from './lib/wait.mjs';

const KEY = 'xdk_outage_0123456789abcdef0123456789', PATIENCE = 20000;

describe('the server API without its store', { timeout: 120000 }, () => {
  let cluster, alice;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const file = join(cluster.dir, 'keys.json');
    writeFileSync(file, JSON.stringify({ keys: [{ name: 'all', sha256: createHash('sha256').update(KEY).digest('hex'), scopes: ['admin'], rate: 0 }] }));
    const flags = ['--api-keys', file, '--lease', '3s', '--redis-timeout', '1s', '--log-level', 'error', '--policy', '*'];
    await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    alice = await cluster.client(0, 'alice');
    await alice.join('lobby');
    await alice.publish('lobby', 1);
  });
  after(() => cluster.stop());

  const ready = () => until(async () => (await Promise.all(cluster.gateways.map(g => g.get('/readyz')))).every(r => r.status === 200), { what: 'both nodes to be ready', ms: 40000 });

  /** The seeds of fuzz_operation: one request for each. */
  const all = operations().map(o => {
    const [line, ...body] = readFileSync(join(ROOT, 'tests/fuzz/corpus/fuzz_operation', o.id), 'utf8').split('\n');
    return { ...o, path: line.slice(o.method.length + 1), body: body.join('\n') };
  });

  async function ask(g, o) {
    const began = Date.now(), path = `/api/v1${o.path.replace('{session}', alice.session)}`;
    const r = await request(g.port, path, { method: o.method, ca: cluster.ca, headers: { Authorization: `Bearer ${KEY}` }, body: o.body || undefined });
    return { what: `${o.method} ${path} at ${g.name}`, took: Date.now() - began, ...r };
  }

  /** Nothing hangs; what could not be done says so, and that it may be asked again. What does not need the store (a bad request, say) is answered as ever. */
  async function askAll() {
    const answers = (await Promise.all(cluster.gateways.flatMap(g => all.map(o => ask(g, o)))));
    for (const r of answers) {
      const seen = `${r.what}: ${r.status} ${r.text} after ${r.took} ms`;
      assert.ok(r.took < PATIENCE, seen);
      assert.notEqual(r.status, 500, seen);
      if (r.status < 500) continue;
      assert.ok([503, 504].includes(r.status), seen);
      assert.equal(r.headers['retry-after'], '1', seen);
      assert.ok(['unavailable', 'timeout'].includes(r.json.code) && r.json.message, seen);
    }
    return answers;
  }

  it('Redis is gone', async () => {
    await cluster.redis.process.kill();
    const answers = await askAll();
    // Who asks for what only the store knows must not be told that there is nothing.
    for (const r of answers.filter(x => / \/api\/v1\/(sessions\/|users\/alice|nodes|bans|stats)/.test(x.what))) assert.ok(r.status >= 500 || r.status === 400, `${r.what}: ${r.status} ${r.text}`);
    await cluster.redis.boot();
    await ready();
  });

  it('Redis is there, and silent', async () => {
    process.kill(cluster.redis.process.pid, 'SIGSTOP');
    try {
      await askAll();
    } finally {
      process.kill(cluster.redis.process.pid, 'SIGCONT');
    }
    await ready();
  });

  it('and afterwards all of it works', async () => {
    alice = await cluster.client(1, 'carol'); // alice is banned: what was not answered may have been done
    await alice.join('lobby');
    for (const o of all.filter(x => x.method === 'GET')) {
      const r = await ask(cluster.gateways[0], o);
      assert.ok(r.status < 500, `${r.what}: ${r.status} ${r.text}`);
    }
  });
});
