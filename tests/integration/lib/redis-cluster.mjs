// redis-cluster.mjs: a real Redis Cluster for a test: three primaries, three replicas; moving slots, killing primaries
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Process } from './cluster.mjs';
import { freePort, until } from './wait.mjs';

const START_MS = 60000;

/** CRC16 (XMODEM) of what stands between the braces, modulo 16384. */
export function slotOf(tag) {
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let i = 0; i < 8; i++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc % 16384;
}

export class RedisCluster {
  /** Takes the place of lib/cluster.mjs' Redis: has a url, and stop(). */
  static async start(dir) {
    const c = new RedisCluster();
    c.nodes = [];
    for (let i = 0; i < 6; i++) {
      const port = await freePort(), bus = await freePort(), home = join(dir, `redis-${port}`);
      mkdirSync(home);
      c.nodes.push({ port, process: new Process(`redis-${i}`, 'redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', home, '--save', '', '--appendonly', 'yes',
        '--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '1500', '--cluster-replica-validity-factor', '0', '--repl-diskless-sync-delay', '0']) });
    }
    for (const n of c.nodes) await until(async () => (await c.cli(n, 'PING')) === 'PONG', { what: () => `Redis to answer\n${n.process.tail()}`, ms: START_MS });
    await c.manage('create', ...c.nodes.map(n => `127.0.0.1:${n.port}`), '--cluster-replicas', '1');
    for (const n of c.nodes) n.id = await c.cli(n, 'CLUSTER', 'MYID');
    await until(async () => (await c.primaries()).length === 3 && (await c.#healthy()), { what: 'the cluster to be well', ms: START_MS });
    return c;
  }

  get url() { return `redis+cluster://${this.nodes.slice(0, 3).map(n => `127.0.0.1:${n.port}`).join(',')}`; }

  async cli(node, ...args) {
    const { stdout } = await promisify(execFile)('redis-cli', ['-h', '127.0.0.1', '-p', String(node.port), '--raw', ...args], { timeout: 30000 });
    return stdout.replace(/\n$/, '');
  }

  async manage(command, ...args) {
    return promisify(execFile)('redis-cli', ['--cluster', command, ...args, '--cluster-yes'], { timeout: 120000 });
  }

  living() { return this.nodes.find(n => !n.process.ended); }

  async #healthy() {
    for (const n of this.nodes) {
      if (n.process.ended) continue;
      const info = await this.cli(n, 'CLUSTER', 'INFO');
      if (!info.includes('cluster_state:ok') || !info.includes('cluster_slots_ok:16384') || !info.includes('cluster_known_nodes:6')) return false;
      const role = await this.cli(n, 'INFO', 'replication');
      if (role.includes('role:slave') && !role.includes('master_link_status:up')) return false;
    }
    return true;
  }

  /** The primaries that live: their node, first and last of each range of their slots. */
  async primaries() {
    const lines = (await this.cli(this.living(), 'CLUSTER', 'NODES')).split('\n').map(l => l.split(' '));
    return lines.filter(l => l[2].includes('master') && !l[2].includes('fail') && l.length > 8).map(l => ({
      node: this.nodes.find(n => n.id === l[0]),
      ranges: l.slice(8).filter(r => !r.startsWith('[')).map(r => r.split('-').map(Number)).map(([a, b]) => [a, b ?? a]),
    }));
  }

  async ownerOf(tag) {
    const slot = slotOf(tag);
    return (await this.primaries()).find(p => p.ranges.some(([a, b]) => a <= slot && slot <= b));
  }

  /** Holds back what would write to this primary until its replica has everything that was written: killed now, it takes nothing with it that was acknowledged. */
  async level(node) {
    await this.cli(node, 'CLIENT', 'PAUSE', '60000', 'WRITE');
    const [, port] = /^slave0:ip=[^,]+,port=(\d+)/m.exec(await this.cli(node, 'INFO', 'replication')), replica = this.nodes.find(n => n.port === Number(port));
    const offset = async n => Number(/master_repl_offset:(\d+)/.exec(await this.cli(n, 'INFO', 'replication'))[1]);
    const end = await offset(node);
    await until(async () => (await offset(replica)) >= end, { what: 'the replica to have everything' });
  }

  /** Moves so many slots, the lowest first. */
  move(from, to, slots) {
    return this.manage('reshard', `127.0.0.1:${from.port}`, '--cluster-from', from.id, '--cluster-to', to.id, '--cluster-slots', String(slots));
  }

  async stop() { for (const n of this.nodes) await n.process.kill(); }
}
