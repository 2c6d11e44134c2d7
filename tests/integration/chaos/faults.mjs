// faults.mjs: what goes wrong and when, drawn from a seed; and how to do it to a real cluster
import { random } from './random.mjs';
import { sleep, until } from '../lib/wait.mjs';

export const KINDS = ['kill-gateway', 'term-gateway', 'pause-gateway', 'kill-redis', 'pause-redis', 'drop-pubsub', 'vanish'];
const DRAIN_MS = 2000, REPAIR_MS = 3000;

/** A list of {at, kind, target, ms}, ms after the start. One target never has two faults at once, different targets may. */
export function schedule(seed, { seconds, gateways, lease, kinds = KINDS }) {
  const r = random(seed, 'faults'), end = seconds * 1000, free = {}, list = [];
  const longest = { 'kill-gateway': 1500, 'term-gateway': 800, 'pause-gateway': lease + 2500, 'kill-redis': 1500, 'pause-redis': 3000, 'drop-pubsub': 0, vanish: 0 };
  const shortest = { 'kill-gateway': 100, 'term-gateway': 0, 'pause-gateway': lease + 500, 'kill-redis': 50, 'pause-redis': 300, 'drop-pubsub': 0, vanish: 0 };
  for (let at = r.int(300, 900); at < end; at += r.int(250, 1500)) {
    const kind = r.pick(kinds), ms = r.int(shortest[kind], longest[kind]);
    const target = kind.endsWith('gateway') ? r.int(0, gateways - 1) : kind === 'vanish' ? 'clients' : 'redis';
    if ((free[target] ?? 0) > at) continue;
    free[target] = at + ms + (kind === 'term-gateway' ? DRAIN_MS : 0) + (kind === 'vanish' || kind === 'drop-pubsub' ? 0 : 1000);
    list.push({ at, kind, target, ms });
  }
  return list;
}

const acts = {
  async 'kill-gateway'(world, f) {
    const g = world.cluster.gateways[f.target];
    await g.kill();
    await sleep(f.ms);
    g.boot();
  },
  async 'term-gateway'(world, f) {
    const g = world.cluster.gateways[f.target], process = g.process, { code, signal } = await process.terminate();
    if (code !== 0) world.note('process', `${g.name} ended with code ${code}, signal ${signal} after SIGTERM`);
    await sleep(f.ms);
    g.boot();
  },
  async 'pause-gateway'(world, f) {
    const { process } = world.cluster.gateways[f.target];
    process.signal('SIGSTOP');
    await sleep(f.ms);
    process.signal('SIGCONT');
  },
  async 'kill-redis'(world, f) {
    await world.cluster.redis.process.kill();
    await sleep(f.ms);
    await world.cluster.redis.boot();
  },
  async 'pause-redis'(world, f) {
    const { process } = world.cluster.redis;
    process.signal('SIGSTOP');
    await sleep(f.ms);
    process.signal('SIGCONT');
  },
  async 'drop-pubsub'(world) { await world.cluster.redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub'); },
  async vanish(world) { world.vanish(); },
};

/** Runs the schedule; resolves when every fault has been undone and the cluster says that it is ready. */
export async function inject(world, list) {
  const began = Date.now(), chains = {};
  for (const f of list) {
    await sleep(Math.max(0, began + f.at - Date.now()));
    world.log(`fault ${f.kind} ${f.target} ${f.ms} ms`);
    const before = chains[f.target] ?? Promise.resolve(), deaf = { from: Date.now(), to: Infinity };
    // Whoever hears through this Redis or this gateway may miss what is in no log, until the link is up again.
    if (f.kind !== 'vanish') world.deaf.push(deaf);
    chains[f.target] = before.then(() => acts[f.kind](world, f)).catch(e => world.note('process', `${f.kind}: ${e.message}`)).then(() => { deaf.to = Date.now() + REPAIR_MS; });
  }
  await Promise.all(Object.values(chains));
  await until(async () => (await Promise.all(world.cluster.gateways.map(g => g.get('/readyz')))).every(a => a.status === 200), { what: 'the gateways to be ready after the faults', ms: 30000 });
}
