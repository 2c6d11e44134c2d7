#!/usr/bin/env node
// run.mjs [--seeds N] [--seed S] [--seconds T] [--kinds a,b] [--tls] [--verbose]: the long form of the chaos test
import { parseArgs } from 'node:util';
import { KINDS } from './faults.mjs';
import { World, line } from './world.mjs';

const { values } = parseArgs({ options: {
  seeds: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' }, seconds: { type: 'string', default: '12' }, window: { type: 'string' },
  kinds: { type: 'string' }, tls: { type: 'boolean' }, verbose: { type: 'boolean' },
} });
const first = Number(values.seed), count = process.argv.some(a => a.startsWith('--seeds')) ? Number(values.seeds) : process.argv.includes('--seed') ? 1 : Number(values.seeds);
const kinds = values.kinds?.split(',');
for (const k of kinds ?? []) if (!KINDS.includes(k)) { console.error(`no such fault: ${k}; there are ${KINDS}`); process.exit(2); }

const total = { runs: 0, acknowledged: 0, delivered: 0, resumes: 0, faults: 0, bad: [] };
for (let seed = first; seed < first + count; seed++) {
  const r = await new World(seed, { seconds: Number(values.seconds), verbose: values.verbose, insecure: !values.tls, kinds, ...(values.window && { window: Number(values.window) }) }).run();
  console.log(line(r));
  for (const v of r.violations) console.log(`  seed ${seed} ${v.kind}: ${v.text}`);
  total.runs++;
  for (const k of ['acknowledged', 'delivered', 'resumes']) total[k] += r[k];
  total.faults += r.faults.length;
  if (r.violations.length) total.bad.push(seed);
}
console.log(`${total.runs} runs: ${total.acknowledged} acknowledged, ${total.delivered} delivered, ${total.resumes} resumes, ${total.faults} faults: ${total.bad.length ? `VIOLATIONS with seeds ${total.bad}` : 'no violation'}`);
process.exit(total.bad.length ? 1 : 0);
