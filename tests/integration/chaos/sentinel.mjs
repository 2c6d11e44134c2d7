// sentinel.mjs: a primary, its replicas and three sentinels, each on a machine of its own; and what befalls them
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Process, Redis } from '../lib/cluster.mjs';
import { freePort, sleep, until } from '../lib/wait.mjs';
import { database } from './stores.mjs';

const NAME = 'main', DOWN_MS = 1000, FAILOVER_MS = 4000, SETTLE_MS = 45000;

class Sentinel extends Redis {
  async boot() {
    this.process = new Process(this.name, 'redis-server', [this.conf, '--sentinel'], { exec: this.machine.exec });
    await until(async () => (await this.cli('PING')) === 'PONG', { what: () => `${this.name} to answer\n${this.process.tail()}` });
  }
}

export class Sentinels {
  static kind = 'sentinel';

  /** durability: that of the policy; it decides what may be lost. */
  static async start(dir, places, { aof, durability, replicas = durability === 'fast' ? 2 : 1 }) {
    const s = new Sentinels();
    s.promise = durability === 'fast' ? 'told' : 'acked';
    s.databases = [];
    for (let i = 0; i <= replicas; i++) s.databases.push(await s.#database(dir, `db${i + 1}`, places, aof));
    s.sentinels = [];
    for (let i = 0; i < 3; i++) s.sentinels.push(await s.#sentinel(dir, `sentinel${i + 1}`, places));
    s.machines = [...s.databases, ...s.sentinels].map(x => x.machine);
    await s.settled();
    return s;
  }

  async #database(dir, name, places, aof) {
    const conf = join(dir, `${name}.conf`), first = this.databases[0];
    writeFileSync(conf, first ? `replicaof ${first.machine.host} ${first.port}\n` : '# written by CONFIG REWRITE\n');
    return database(dir, name, places, { aof, conf, args: ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1', '--repl-timeout', '5'] });
  }

  async #sentinel(dir, name, places) {
    const own = join(dir, name), s = new Sentinel(), [first] = this.databases;
    mkdirSync(own);
    Object.assign(s, { dir: own, name, conf: join(own, 'sentinel.conf'), machine: await places.machine(name), port: await freePort() });
    writeFileSync(s.conf, `port ${s.port}\nbind 127.0.0.1${s.machine.host === '127.0.0.1' ? '' : ` ${s.machine.host}`}\nprotected-mode no\ndir ${own}\n`
      + `sentinel monitor ${NAME} ${first.machine.host} ${first.port} 2\nsentinel down-after-milliseconds ${NAME} ${DOWN_MS}\n`
      + `sentinel failover-timeout ${NAME} ${FAILOVER_MS}\nsentinel parallel-syncs ${NAME} 2\n`);
    await s.boot();
    return s;
  }

  get url() { return `redis+sentinel://${this.sentinels.map(s => `${s.machine.host}:${s.port}`).join(',')}/${NAME}`; }

  /** The database that two sentinels call primary. */
  async primary() {
    const votes = new Map();
    for (const s of this.sentinels) {
      const where = await s.cli('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME).catch(() => '');
      votes.set(where, (votes.get(where) ?? 0) + 1);
    }
    const db = this.databases.find(d => (votes.get(`${d.machine.host}\n${d.port}`) ?? 0) >= 2);
    if (!db) throw new Error(`the sentinels do not agree: ${JSON.stringify([...votes])}`);
    return db;
  }

  async cli(...args) { return (await this.primary()).cli(...args); }
  async keys(pattern) { return (await this.primary()).keys(pattern); }
  async dropPubsub() { for (const d of this.databases) await d.cli('CLIENT', 'KILL', 'TYPE', 'pubsub').catch(() => {}); }

  /** One primary, everything else its replica and up to date with it. */
  async settled() {
    const state = async () => {
      const primary = await this.primary(), infos = await Promise.all(this.databases.map(d => d.cli('INFO', 'replication')));
      return this.databases.map((d, i) => {
        if (d === primary) return infos[i].includes('role:master') ? '' : `${d.name} is not primary yet`;
        return infos[i].includes(`master_host:${primary.machine.host}`) && infos[i].includes(`master_port:${primary.port}`) && infos[i].includes('master_link_status:up') ? ''
          : `${d.name} is no replica of ${primary.name} yet`;
      }).filter(Boolean);
    };
    let last = [];
    await until(async () => { last = await state(); return !last.length; }, { what: () => `the sentinels' databases to be in order: ${last}`, ms: SETTLE_MS, every: 100 });
  }

  /** Comes back as what it was, or, as most orchestration has it, told whose replica it is now. */
  async revive(db, told) {
    if (told) {
      const primary = await this.primary().catch(() => db);
      if (primary !== db) db.extra = ['--replicaof', primary.machine.host, String(primary.port)];
    }
    const { args } = db;
    db.args = [...args, ...(db.extra ?? [])];
    await db.boot().finally(() => { Object.assign(db, { args, extra: undefined }); });
  }

  async kill(db, f) {
    await db.process.kill();
    await sleep(f.ms);
    await this.revive(db, f.draw < 0.6);
  }

  replica(f, primary) { const list = this.databases.filter(d => d !== primary); return list[Math.floor(f.draw * list.length)]; }
  wake() { for (const d of [...this.databases, ...this.sentinels]) d.process.signal('SIGCONT'); }
  async stop() { await Promise.all([...this.databases, ...this.sentinels].map(d => d.stop())); }
}

const inOrder = act => async (world, f) => { await act(world.store, f, world); await world.store.settled(); };

/** One side: the primary, and perhaps a gateway with its clients; the other: everything else. Clients reach all gateways. */
async function split(store, f, world, gateways) {
  const primary = await store.primary(), ours = [primary.machine, ...gateways.map(g => g.place)];
  const others = [...store.machines, ...world.cluster.gateways.map(g => g.place)].filter(m => !ours.includes(m));
  const heals = [];
  for (const m of ours) heals.push(await m.drop({ peers: others }));
  await sleep(f.ms);
  for (const heal of heals) await heal();
}

/** See the table in faults.mjs. */
export const SENTINEL_FAULTS = {
  'kill-primary': { on: 'store', ms: [1500, 6000], act: inOrder(async (store, f) => store.kill(await store.primary(), f)) },
  'blink-primary': { on: 'store', ms: [20, 400], act: inOrder(async (store, f) => store.kill(await store.primary(), { ...f, draw: 1 })) },
  'pause-primary': { on: 'store', ms: [500, 6000], act: inOrder(async (store, f) => {
    const { process } = await store.primary();
    process.signal('SIGSTOP');
    await sleep(f.ms);
    process.signal('SIGCONT');
  }) },
  'isolate-primary': { on: 'store', ms: [1500, 6000], needs: 'net', act: inOrder((store, f, world) => split(store, f, world, [])) },
  'split-primary': { on: 'store', ms: [1500, 6000], needs: 'net',
    act: inOrder((store, f, world) => split(store, f, world, [world.cluster.gateways[Math.floor(f.draw * world.cluster.gateways.length)]])) },
  failover: { on: 'store', ms: [0, 0], act: inOrder(async (store, f, world) => {
    const before = await store.primary(), answer = await store.sentinels[0].cli('SENTINEL', 'FAILOVER', NAME);
    if (!answer.startsWith('OK')) { world.log(`failover: ${answer}`); return; }
    await until(async () => (await store.primary()) !== before, { what: 'the manual failover', ms: 15000, every: 100 }).catch(e => world.log(e.message));
  }) },
  'kill-replica': { on: 'store', ms: [100, 2500], act: inOrder(async (store, f) => store.kill(store.replica(f, await store.primary()), f)) },
  'kill-sentinel': { on: 'store', ms: [100, 2500], act: async (world, f) => {
    const s = world.store.sentinels[Math.floor(f.draw * 3)];
    await s.process.kill();
    await sleep(f.ms);
    await s.boot();
  } },
};
