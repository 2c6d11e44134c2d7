// faults.mjs: what goes wrong and when, drawn from a seed; and how to do it to a real cluster
import { random } from './random.mjs';
import { sleep, until } from '../lib/wait.mjs';
import { CLUSTER_FAULTS } from './rediscluster.mjs';
import { SENTINEL_FAULTS } from './sentinel.mjs';

const DRAIN_MS = 2000, REPAIR_MS = 3000, REST_MS = 1000;
const LEASE = 'lease'; // in a duration: that of the nodes

const gateway = (world, f) => world.cluster.gateways[f.target];

async function kill(world, f) {
  const g = gateway(world, f);
  await g.kill();
  await sleep(f.ms);
  g.boot();
}

async function term(world, f) {
  const g = gateway(world, f), { code, signal } = await g.process.terminate();
  if (code !== 0) world.note('process', `${g.name} ended with code ${code}, signal ${signal} after SIGTERM`);
  await sleep(f.ms);
  g.boot();
}

async function pause(process, ms) {
  process.signal('SIGSTOP');
  await sleep(ms);
  process.signal('SIGCONT');
}

/** Between a gateway and all machines of the store; clients still reach it. */
const cut = rules => async (world, f) => {
  const heal = await gateway(world, f).place.drop({ peers: world.store.machines, ...rules });
  await sleep(f.ms);
  await heal();
};

/** Redis runs for a moment, then not for a moment: everything is answered, late. */
async function stutter(process, ms, rng) {
  for (const end = Date.now() + ms; Date.now() < end;) {
    await pause(process, rng.int(40, 160));
    await sleep(rng.int(5, 30));
  }
}

/**
 * on: what is hit; one target never has two faults at once, different targets may. ms: how long, from and to ([base, more] of it: base is added).
 * needs: net (namespaces), clock (libfaketime). deaf: false: nobody misses a notice because of it. f.draw: a number of its own from 0 to 1.
 */
const COMMON_FAULTS = {
  'kill-gateway': { on: 'gateway', ms: [100, 1500], act: kill },
  'term-gateway': { on: 'gateway', ms: [0, 800], rest: REST_MS + DRAIN_MS, act: term },
  'pause-gateway': { on: 'gateway', base: LEASE, ms: [500, 2500], act: (world, f) => pause(gateway(world, f).process, f.ms) },
  'cut-gateway': { on: 'link', base: LEASE, ms: [-1700, 3000], needs: 'net', act: cut({}) },
  'mute-gateway': { on: 'link', base: LEASE, ms: [-1700, 2000], needs: 'net', act: cut({ into: false }) },
  'deafen-gateway': { on: 'link', base: LEASE, ms: [-1700, 2000], needs: 'net', act: cut({ out: false }) },
  'lossy-gateway': { on: 'link', ms: [1000, 4000], needs: 'net', act: cut({ loss: 0.25 }) },
  'jump-clock': { on: 'clock', ms: [0, 0], needs: 'clock', deaf: false, act: (world, f) => gateway(world, f).clock.jump(f.seconds) },
  'drop-pubsub': { on: 'store', ms: [0, 0], rest: 0, act: world => world.store.dropPubsub() },
  vanish: { on: 'clients', ms: [0, 0], rest: 0, deaf: false, act: world => world.vanish() },
};

const STANDALONE_FAULTS = {
  'kill-redis': { on: 'store', ms: [50, 1500], act: async (world, f) => {
    await world.store.redis.process.kill();
    await sleep(f.ms);
    await world.store.redis.boot();
  } },
  'pause-redis': { on: 'store', ms: [300, 3000], act: (world, f) => pause(world.store.redis.process, f.ms) },
  'slow-redis': { on: 'store', ms: [1000, 4000], act: (world, f) => stutter(world.store.redis.process, f.ms, random(f.at, 'stutter')) },
  'sleep-redis': { on: 'store', ms: [100, 1800], act: (world, f) => world.store.cli('DEBUG', 'SLEEP', String(f.ms / 1000)) },
};

const WORLD_FAULTS = { standalone: STANDALONE_FAULTS, sentinel: SENTINEL_FAULTS, cluster: CLUSTER_FAULTS };
const faultsOf = world => ({ ...COMMON_FAULTS, ...WORLD_FAULTS[world] });

export const kindsOf = world => Object.keys(faultsOf(world));
export const needOf = (world, kind) => faultsOf(world)[kind].needs;

/** A list of {at, kind, target, ms}, ms after the start. */
export function schedule(seed, { world = 'standalone', seconds, gateways, lease, kinds }) {
  const faults = faultsOf(world);
  const r = random(seed, 'faults'), end = seconds * 1000, free = {}, list = [];
  for (let at = r.int(300, 900); at < end; at += r.int(250, 1500)) {
    const kind = r.pick(kinds), { on, ms: [from, to], base, rest = REST_MS } = faults[kind], ms = r.int(from, to) + (base === LEASE ? lease : 0);
    const target = ['gateway', 'link', 'clock'].includes(on) ? r.int(0, gateways - 1) : 0, key = `${on}${target}`;
    const jump = on === 'clock' ? { seconds: r.pick([-1, 1]) * r.int(20, 900) } : {}, draw = r.next();
    if ((free[key] ?? 0) > at) continue;
    free[key] = at + ms + rest;
    list.push({ at, kind, key, target, ms, draw, ...jump });
  }
  return list;
}

/** Runs the schedule; the list of what was done when every fault has been undone and the cluster says that it is ready. */
export async function inject(world, list) {
  const faults = faultsOf(world.world);
  const began = Date.now(), chains = {}, busy = new Set(), done = [];
  for (const f of list) {
    await sleep(Math.max(0, began + f.at - Date.now()));
    // A store of several machines is in order again when it says so, not after a time that could be drawn before.
    if (f.key === 'store0' && busy.has(f.key) && world.world !== 'standalone' && !world.plan) continue;
    busy.add(f.key);
    done.push(f);
    const before = chains[f.key] ?? Promise.resolve(), deaf = { from: Date.now(), to: Infinity };
    // Whoever hears through this Redis or this gateway may miss what is in no log, until the link is up again.
    if (faults[f.kind].deaf !== false) world.deaf.push(deaf);
    chains[f.key] = before.then(() => {
      world.log(`fault ${f.kind} ${f.key} ${f.seconds === undefined ? `${f.ms} ms` : `${f.seconds} s`}`);
      return faults[f.kind].act(world, f);
    }).catch(e => world.note('process', `${f.kind}: ${e.message}`)).then(() => {
      deaf.to = Date.now() + REPAIR_MS;
      busy.delete(f.key);
      world.log(`over  ${f.kind} ${f.key}`);
    });
  }
  await Promise.all(Object.values(chains));
  await world.store.settled();
  await until(async () => (await Promise.all(world.cluster.gateways.map(g => g.get('/readyz')))).every(a => a.status === 200), { what: 'the gateways to be ready after the faults', ms: 30000 });
  return done;
}
