// net.mjs: machines for a test: a network namespace each, on one bridge, so that packets between two of them can really be dropped. Linux, root, ip and iptables
import { execFile, execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';

const run = async (...command) => (await promisify(execFile)(command[0], command.slice(1), { timeout: 10000 })).stdout;
const NETS = 512; // networks of 254 addresses in 198.18.0.0/15, which is set aside for tests like this one (RFC 2544)
const networks = new Set();
let count = 0;

/** What others left behind that were killed. */
async function sweep() {
  let names = [];
  try { names = readdirSync('/run/netns'); } catch { return; }
  for (const name of names) {
    const pid = /^xdt(\d+)-/.exec(name)?.[1];
    if (!pid) continue;
    try { process.kill(Number(pid), 0); } catch { await run('ip', 'netns', 'del', name).catch(() => {}); }
  }
}

// A run that is interrupted takes its namespaces with it.
process.on('exit', () => { for (const n of networks) n.destroyNow(); });

/** How one machine's traffic is treated: rules in its own namespace. */
export class Machine {
  constructor(network, name, number) {
    Object.assign(this, { network, name, ns: `${network.prefix}-${name}`, host: `${network.base}.${number}` });
    this.exec = ['ip', 'netns', 'exec', this.ns];
  }

  ip(...args) { return run('ip', '-n', this.ns, ...args); }

  /**
   * Makes rules that drop what goes out to, or comes in from, these machines (none: everything but what stays on this machine); resolves with a function that takes
   * them back. loss: the share of packets that is dropped.
   */
  async drop({ peers = [], out = true, into = true, loss = 1 }) {
    const chance = loss < 1 ? ['-m', 'statistic', '--mode', 'random', '--probability', String(loss)] : [], rules = [];
    const all = peers.length ? peers.map(p => p.host) : [null];
    for (const host of all) {
      if (out) rules.push(['OUTPUT', '-o', 'eth0', ...(host ? ['-d', host] : []), ...chance, '-j', 'DROP']);
      if (into) rules.push(['INPUT', '-i', 'eth0', ...(host ? ['-s', host] : []), ...chance, '-j', 'DROP']);
    }
    for (const r of rules) await run(...this.exec, 'iptables', '-w', '-A', ...r);
    return async () => { for (const r of rules) await run(...this.exec, 'iptables', '-w', '-D', ...r); };
  }
}

export class Network {
  /** Rejects with the reason where namespaces cannot be had. */
  static async create() {
    await sweep();
    const n = new Network(), number = ++count;
    n.prefix = `xdt${process.pid}-${number}`;
    n.machines = [];
    const taken = await run('ip', 'route');
    for (let i = 0; ; i++) {
      if (i === NETS) throw new Error('no free network in 198.18.0.0/15');
      const k = (process.pid + number + i) % NETS;
      n.base = `198.${18 + (k >> 8)}.${k & 255}`;
      if (!taken.includes(`${n.base}.`)) break;
    }
    networks.add(n);
    try {
      n.hub = `${n.prefix}-hub`;
      await run('ip', 'netns', 'add', n.hub);
      await run('ip', '-n', n.hub, 'link', 'add', 'br0', 'type', 'bridge');
      await run('ip', '-n', n.hub, 'link', 'set', 'br0', 'up');
      // The test itself is on the bridge too: it is everybody's client.
      n.uplink = `xdt${process.pid.toString(36)}${number}`;
      await n.#plug(n.uplink, 'host', ['ip'], 254);
      const probe = await n.machine('probe');
      await (await probe.drop({ loss: 0.5 }))();
    } catch (e) {
      await n.destroy();
      throw new Error(`no network namespaces here: ${e.message.split('\n').filter(Boolean).slice(0, 2).join(': ')}`);
    }
    return n;
  }

  async #plug(end, port, ip, number, ns) {
    await run('ip', 'link', 'add', end, ...(ns ? ['netns', ns] : []), 'type', 'veth', 'peer', 'name', port, 'netns', this.hub);
    await run('ip', '-n', this.hub, 'link', 'set', port, 'master', 'br0', 'up');
    await run(...ip, 'addr', 'add', `${this.base}.${number}/24`, 'dev', end);
    await run(...ip, 'link', 'set', end, 'up');
  }

  async machine(name) {
    const m = new Machine(this, name, this.machines.length + 1);
    this.machines.push(m);
    await run('ip', 'netns', 'add', m.ns);
    await m.ip('link', 'set', 'lo', 'up');
    await this.#plug('eth0', `p${this.machines.length}`, ['ip', '-n', m.ns], this.machines.length, m.ns);
    return m;
  }

  /** All rules of all machines are taken back. */
  async heal() { for (const m of this.machines) await run(...m.exec, 'iptables', '-w', '-F'); }

  async destroy() { this.destroyNow(); }

  destroyNow() {
    if (!networks.delete(this)) return;
    for (const args of [['link', 'del', this.uplink], ...[...this.machines.map(m => m.ns), this.hub].map(ns => ['netns', 'del', ns])])
      try { execFileSync('ip', args, { stdio: 'ignore' }); } catch { /* it did not come to be */ }
  }
}
