#!/usr/bin/env node
// run.mjs [--world W] [--durability D] [--seeds N] [--seed S] [--seconds T] [--kinds a,b] [--tls] [--sockets N] [--dump DIR] [--verbose]: the long form of the chaos test
import { parseArgs } from 'node:util';
import { kindsOf } from './faults.mjs';
import { WORLDS, World, line } from './world.mjs';

const { values } = parseArgs({ options: {
  seeds: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' }, seconds: { type: 'string', default: '12' }, window: { type: 'string' },
  world: { type: 'string', default: 'standalone' }, durability: { type: 'string', default: 'fast' }, kinds: { type: 'string' }, tls: { type: 'boolean' }, verbose: { type: 'boolean' }, dump: { type: 'string' }, sockets: { type: 'string', default: '0' },
} });
const first = Number(values.seed), count = process.argv.some(a => a.startsWith('--seeds')) ? Number(values.seeds) : process.argv.includes('--seed') ? 1 : Number(values.seeds);
const kinds = values.kinds?.split(',');
const { world, durability } = values;
if (!WORLDS[world]) { console.error(`no such world: ${world}; there are ${Object.keys(WORLDS)}`); process.exit(2); }
for (const k of kinds ?? []) if (!kindsOf(world).includes(k)) { console.error(`no such fault: ${k}; there are ${kindsOf(world)}`); process.exit(2); }

const total = { runs: 0, lost: 0, forks: 0, told: 0, acknowledged: 0, delivered: 0, resumes: 0, faults: 0, bad: [] };
for (let seed = first; seed < first + count; seed++) {
  const r = await new World(seed, { world, durability, seconds: Number(values.seconds), verbose: values.verbose, dump: values.dump, insecure: !values.tls, kinds, sockets: Number(values.sockets), ...(values.sockets !== '0' && { readers: 3 }), ...(values.window && { window: Number(values.window) }) }).run();
  console.log(line(r));
  for (const v of r.violations) console.log(`  seed ${seed} ${v.kind}: ${v.text}`);
  total.runs++;
  for (const k of ['acknowledged', 'delivered', 'resumes']) total[k] += r[k];
  total.faults += r.faults.length;
  total.lost += r.lost.length;
  total.forks += r.forks.length;
  total.told += r.told;
  if (r.violations.length) total.bad.push(seed);
}
console.log(`${total.runs} runs: ${total.acknowledged} acknowledged, ${total.delivered} delivered, ${total.resumes} resumes, ${total.faults} faults, ${total.lost} lost by the store, ${total.forks} forks, told to ${total.told}: ${total.bad.length ? `VIOLATIONS with seeds ${total.bad}` : 'no violation'}`);
process.exit(total.bad.length ? 1 : 0);
