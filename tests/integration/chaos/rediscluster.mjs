// rediscluster.mjs: a Redis Cluster of three primaries and three replicas, each on a machine of its own; and what befalls it
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { freePort, sleep, until } from '../lib/wait.mjs';
import { database } from './stores.mjs';

const TIMEOUT_MS = 1500, SETTLE_MS = 45000, SLOTS = 16384;

export class RedisCluster {
  static kind = 'cluster';

  static async start(dir, places, { aof, durability }) {
    const c = new RedisCluster();
    c.promise = durability === 'fast' ? 'told' : 'acked';
    c.databases = [];
    for (let i = 1; i <= 6; i++) {
      c.databases.push(await database(dir, `db${i}`, places, { aof, args: ['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-port', String(await freePort()),
        '--cluster-node-timeout', String(TIMEOUT_MS), '--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1', '--repl-timeout', '5'] }));
    }
    c.machines = c.databases.map(d => d.machine);
    const [first] = c.machines, [command, ...args] = [...first.exec, 'redis-cli', '--cluster', 'create', ...c.databases.map(d => `${d.machine.host}:${d.port}`), '--cluster-replicas', '1', '--cluster-yes'];
    await promisify(execFile)(command, args, { timeout: 30000 });
    await c.settled();
    return c;
  }

  get url() { return `redis+cluster://${this.databases.slice(0, 3).map(d => `${d.machine.host}:${d.port}`).join(',')}`; }

  /** What one living node knows of all: [{db, id, flags, primary, slots: [[from, to]], moving}]. */
  async nodes(asked = this.databases) {
    for (const d of asked) {
      const text = await d.cli('CLUSTER', 'NODES').catch(() => null);
      if (text === null) continue;
      return text.split('\n').map(line => {
        const [id, where, flags, primary, , , , link, ...slots] = line.split(' '), [host, port] = where.split('@')[0].split(':');
        return { id, flags: flags.split(','), primary, link, db: this.databases.find(x => x.machine.host === host && x.port === Number(port)),
          moving: slots.some(s => s.startsWith('[')), slots: slots.filter(s => !s.startsWith('[')).map(s => s.split('-').map(Number)).map(([a, b = a]) => [a, b]) };
      });
    }
    throw new Error('no node of the Redis Cluster answers');
  }

  /** The node that has the slot of this key, and the slot. */
  async owner(key) {
    const slot = Number(await this.any('CLUSTER', 'KEYSLOT', key)), nodes = await this.nodes();
    const node = nodes.find(n => n.flags.includes('master') && n.slots.some(([a, b]) => slot >= a && slot <= b));
    if (!node) throw new Error(`nobody has slot ${slot}`);
    return { slot, node, nodes };
  }

  /** A command for whichever node answers. */
  async any(...args) {
    let last;
    for (const d of this.databases) {
      try { return await d.cli(...args); } catch (e) { last = e; }
    }
    throw last;
  }

  cli(...args) { return this.any('-c', ...args); }

  async keys(pattern) {
    const primaries = (await this.nodes()).filter(n => n.flags.includes('master')).map(n => n.db);
    return (await Promise.all(primaries.map(d => d.keys(pattern)))).flat().sort();
  }

  async dropPubsub() { for (const d of this.databases) await d.cli('CLIENT', 'KILL', 'TYPE', 'pubsub').catch(() => {}); }

  /** In the eyes of every node: three primaries with all slots, a replica each, up to date. */
  async settled() {
    const wrong = async () => {
      for (const d of this.databases) {
        const nodes = await this.nodes([d]), primaries = nodes.filter(n => n.flags.includes('master') && n.slots.length);
        const covered = primaries.reduce((sum, n) => sum + n.slots.reduce((k, [a, b]) => k + b - a + 1, 0), 0);
        if (nodes.length !== this.databases.length || nodes.some(n => n.flags.some(f => /fail|handshake|noaddr/.test(f)))) return `${d.name} misses nodes`;
        if (covered !== SLOTS || nodes.some(n => n.moving)) return `${d.name} knows owners of ${covered} slots`;
        if (nodes.filter(n => n.flags.includes('slave')).length !== 3) return `${d.name} knows no three replicas`;
        const info = await d.cli('INFO', 'replication');
        if (info.includes('role:slave') && !info.includes('master_link_status:up')) return `${d.name} is not up to date`;
        if (!(await d.cli('CLUSTER', 'INFO')).includes('cluster_state:ok')) return `${d.name} says that the cluster is not ok`;
      }
      return null;
    };
    let last;
    await until(async () => { last = await wrong(); return !last; }, { what: () => `the Redis Cluster to be in order: ${last}`, ms: SETTLE_MS, every: 100 });
  }

  /** Moves one slot with its keys, a few at a time, while everybody goes on using them. */
  async move(key, choose, pause) {
    const { slot, node, nodes } = await this.owner(key), others = nodes.filter(n => n.flags.includes('master') && n.slots.length && n !== node), to = choose(others);
    await to.db.cli('CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', node.id);
    await node.db.cli('CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', to.id);
    for (;;) {
      const keys = (await node.db.cli('CLUSTER', 'GETKEYSINSLOT', String(slot), '20')).split('\n').filter(Boolean);
      if (!keys.length) break;
      const answer = await node.db.cli('MIGRATE', to.db.machine.host, String(to.db.port), '', '0', '5000', 'KEYS', ...keys);
      if (!/^(OK|NOKEY)/.test(answer)) throw new Error(`MIGRATE of slot ${slot}: ${answer}`);
      await sleep(pause);
    }
    for (const n of [to, node, ...others.filter(o => o !== to)]) await n.db.cli('CLUSTER', 'SETSLOT', String(slot), 'NODE', to.id);
    return `slot ${slot} of ${key} from ${node.db.name} to ${to.db.name}`;
  }

  wake() { for (const d of this.databases) d.process.signal('SIGCONT'); }
  async stop() { await Promise.all(this.databases.map(d => d.stop())); }
}

const inOrder = act => async (world, f) => { await act(world.store, f, world); await world.store.settled(); };

/** Who matters: the owner of a room, or of the directory of nodes. */
const KEYS = ['xd:{one}:head', 'xd:{two}:head', 'xd:nodes'];
const target = f => KEYS[Math.floor(f.draw * KEYS.length)];

async function split(store, f, world, gateways) {
  const { node } = await store.owner(target(f)), ours = [node.db.machine, ...gateways.map(g => g.place)];
  const others = [...store.machines, ...world.cluster.gateways.map(g => g.place)].filter(m => !ours.includes(m));
  const heals = [];
  for (const m of ours) heals.push(await m.drop({ peers: others }));
  await sleep(f.ms);
  for (const heal of heals) await heal();
}

/** See the table in faults.mjs. */
export const CLUSTER_FAULTS = {
  'kill-primary': { on: 'store', ms: [2000, 6000], act: inOrder(async (store, f) => {
    const { node: { db } } = await store.owner(target(f));
    await db.process.kill();
    await sleep(f.ms);
    await db.boot();
  }) },
  'pause-primary': { on: 'store', ms: [500, 6000], act: inOrder(async (store, f) => {
    const { node: { db: { process } } } = await store.owner(target(f));
    process.signal('SIGSTOP');
    await sleep(f.ms);
    process.signal('SIGCONT');
  }) },
  'isolate-primary': { on: 'store', ms: [2000, 6000], needs: 'net', act: inOrder((store, f, world) => split(store, f, world, [])) },
  'split-primary': { on: 'store', ms: [2000, 6000], needs: 'net', act: inOrder((store, f, world) => split(store, f, world, [world.cluster.gateways[f.at % world.cluster.gateways.length]])) },
  failover: { on: 'store', ms: [0, 0], act: inOrder(async (store, f, world) => {
    const { node, nodes } = await store.owner(target(f)), replica = nodes.find(n => n.primary === node.id);
    world.log(`failover to ${replica.db.name}: ${await replica.db.cli('CLUSTER', 'FAILOVER')}`);
    await until(async () => (await store.owner(target(f))).node.id !== node.id, { what: 'the manual failover', ms: 10000, every: 50 });
  }) },
  reshard: { on: 'store', ms: [0, 0], act: inOrder(async (store, f, world) => {
    for (const key of f.draw < 0.5 ? KEYS : [target(f)]) world.log(await store.move(key, list => list[f.at % list.length], 20 + (f.at % 200)));
  }) },
  'kill-replica': { on: 'store', ms: [100, 2500], act: inOrder(async (store, f) => {
    const replicas = (await store.nodes()).filter(n => n.flags.includes('slave')), { db } = replicas[Math.floor(f.draw * replicas.length)];
    await db.process.kill();
    await sleep(f.ms);
    await db.boot();
  }) },
};
