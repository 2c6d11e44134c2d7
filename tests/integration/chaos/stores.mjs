// stores.mjs: what the gateways of a run share: one Redis; each process on a machine of its own, where there are namespaces
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from '../lib/cluster.mjs';

const HERE = { host: '127.0.0.1', exec: [] };

/** Where the processes of a run live: in a namespace each, or all on this machine. */
export class Places {
  constructor(network) { this.network = network; }
  async machine(name) { return this.network ? this.network.machine(name) : HERE; }
}

export async function database(dir, name, places, { aof, conf, args = [] }) {
  const own = join(dir, name);
  mkdirSync(own);
  return Redis.start(own, { aof, fsync: 'always', name, conf, machine: await places.machine(name), args: ['--protected-mode', 'no', '--enable-debug-command', 'yes', ...args] });
}

/** One Redis that forgets nothing. */
export class Standalone {
  static kind = 'standalone';

  static async start(dir, places, { aof }) {
    const s = new Standalone();
    s.redis = await database(dir, 'redis', places, { aof });
    s.machines = [s.redis.machine];
    s.promise = 'all';
    return s;
  }

  get url() { return this.redis.url; }
  cli(...args) { return this.redis.cli(...args); }
  keys(pattern) { return this.redis.keys(pattern); }
  async dropPubsub() { await this.cli('CLIENT', 'KILL', 'TYPE', 'pubsub'); }
  async settled() { await this.cli('PING'); }
  wake() { this.redis.process.signal('SIGCONT'); }
  async stop() { await this.redis.stop(); }
}
