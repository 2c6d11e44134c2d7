// rules.test.mjs: every rule of Engine.IO 3 and 4 and of Socket.IO 4 and 5, by raw frames and requests: the same here and at the official server, or different for a reason that is written down
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './lib/cluster.mjs';
import { sleep, within } from './lib/wait.mjs';
import { fits, show } from './rules/case.mjs';
import { errors, framing, handshake } from './rules/engineio.mjs';
import { ends, heartbeats, upgrades } from './rules/session.mjs';
import { recovering } from './rules/recovery.mjs';
import { connecting, packets, violations } from './rules/socketio.mjs';
import { Stage, World } from './rules/world.mjs';

const RULES = [...handshake, ...errors, ...framing, ...heartbeats, ...upgrades, ...ends, ...connecting, ...packets, ...violations, ...recovering];
const CASE_MS = 15000;

/** What a case comes to on one side, and whether it polled. */
async function run(server, c, ours) {
  const w = new World(server, { ours, want: ours && c.differs ? c.differs.want : c.want });
  try {
    return { came: await within(c.run(w), CASE_MS, 'the case'), polls: w.polls };
  } catch (e) {
    return { came: { failed: e.message } };
  } finally {
    await w.close();
  }
}

/** Plays a case on both sides; what is wrong, or nothing. Where there is no official server, what it says is known. */
async function judge(world, { ours, theirs }, c) {
  const known = { came: c.want }, [got, official] = await Promise.all([run(ours, c, true), theirs === undefined || c.alone ? known : run(theirs, c, false)]);
  const want = c.differs ? c.differs.want : c.want, problems = [];
  if (!fits(official.came, c.want)) problems.push(`the official server: ${show(official.came)}, not ${show(c.want)}`);
  if (!fits(got.came, want)) problems.push(`ours: ${show(got.came)}, not ${show(want)}`);
  return { problems: problems.map(p => `${world}: ${c.name}: ${p}`), polls: got.polls };
}

/** Plays everything; the problems of each case. Where time is what matters, a busy machine may be in the way: once more then, when nothing else is played. */
async function playAll(stage) {
  const problems = new Map(RULES.flatMap(r => r.cases).map(c => [c, []])), again = [], anywhere = [];
  async function playOne(world, lane, c) {
    const verdict = await judge(world, lane, c);
    if (verdict.problems.length !== 0) again.push([world, lane, c]);
    if (world === 'calm' && verdict.polls && !c.slow && !c.home) anywhere.push(c);
  }
  async function playWorld(world, lanes) {
    const waiting = RULES.flatMap(r => r.cases).filter(c => c.world === world).sort((a, b) => b.slow - a.slow);
    await Promise.all(lanes.map(async lane => { for (let c; (c = waiting.shift()) !== undefined;) await playOne(world, lane, c); }));
  }
  let calm = true;
  const done = Promise.all(Object.entries(stage.lanes).filter(([world]) => world !== 'any node').map(([world, lanes]) => playWorld(world, lanes))).then(() => { calm = false; });
  await Promise.all([done, ...stage.lanes['any node'].map(async lane => {
    for (let c; (c = anywhere.shift()) !== undefined || calm;) await (c === undefined ? sleep(20) : playOne('any node', lane, c));
  })]);
  for (const [world, lane, c] of again) problems.get(c).push(...(await judge(world, lane, c)).problems);
  return problems;
}

describe('rules of Engine.IO and Socket.IO', { timeout: 120000 }, () => {
  let stage, problems;
  before(async () => { stage = await Stage.start(); problems = await playAll(stage); });
  after(() => stage?.stop());

  for (const r of RULES) it(`${r.id} ${r.says}`, () => { assert.deepEqual(r.cases.flatMap(c => problems.get(c)), []); });
});

describe('what differs from the official server', () => {
  const rows = table => [...table.matchAll(/^\| (?!\|)(.+?) \|/gm)].map(m => m[1]).slice(1);

  it('is what docs/socketio.md says, row by row', () => {
    const page = readFileSync(join(ROOT, 'docs/socketio.md'), 'utf8'), section = /\n## What differs from the official server, and why\n([^]*?)(?=\n## |$)/.exec(page);
    assert.ok(section, 'the section is there');
    const said = rows(section[1]).filter(row => !/^-+$/.test(row)), shown = [...new Set(RULES.flatMap(r => r.cases).flatMap(c => c.differs?.why ?? []))];
    assert.deepEqual([...said].sort(), shown.sort());
  });

  it('does differ', () => {
    for (const c of RULES.flatMap(r => r.cases)) if (c.differs) assert.notEqual(show(c.differs.want), show(c.want), c.name);
  });

  it('every rule has a number of its own', () => {
    assert.equal(new Set(RULES.map(r => r.id)).size, RULES.length);
    assert.ok(RULES.every(r => r.cases.length !== 0));
  });
});
