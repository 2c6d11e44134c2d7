// chaos.test.mjs: random faults while messages flow, a few seeds; chaos/run.mjs is the long form. First: the checker itself can complain
import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { check } from './chaos/check.mjs';
import { kindsOf, schedule } from './chaos/faults.mjs';
import { World, line, plan } from './chaos/world.mjs';

const N = 6;
const message = i => ({ offset: i, tag: `t${i}`, key: `k${i}` });

/** A history in which everything went well, for a test to spoil. */
function good() {
  const log = Array.from({ length: N }, (_, i) => message(i + 1));
  return {
    acks: log.map((m, i) => ({ ...m, room: 'r', invoked: 10 * i, acked: 10 * i + 5 })),
    logs: { r: log },
    readers: ['a', 'b'].map(name => ({ name, rooms: { r: { start: { offset: 1, tag: 't1' }, seen: log.slice(1).map(m => ({ ...m })), gaps: [] } } })),
    notices: [{ kind: 'exit' }, { kind: 'enter' }, { kind: 'exit' }].map((n, i) => ({ name: 'a', connection: 1, room: 'r', session: 's', time: i, ...n })),
  };
}

const kinds = history => [...new Set(check(history).violations.map(v => v.kind))].sort();
const gap = (from, to, more) => ({ at: 0, from: message(from), to: message(to), reason: 'expired', named: true, ...more });

/** Spoils a good history. */
function spoiled(how) {
  const h = good();
  how(h, h.readers[0].rooms.r);
  return h;
}

describe('the checker', () => {
  it('has nothing against a good history', () => assert.deepEqual(check(good()), { violations: [], lost: [], told: 0, again: 0, forks: [] }));

  const cases = {
    'an acknowledged message that is not in the log': [['lost'], h => { h.logs.r.pop(); for (const r of h.readers) r.rooms.r.seen.pop(); }],
    'a message one reader never saw': [['unseen'], (h, r) => { r.seen.splice(2, 1); }],
    'the newest message missing': [['unseen'], (h, r) => { r.seen.pop(); }],
    'a message twice to one reader': [['duplicate'], (h, r) => { r.seen.splice(2, 0, r.seen[1]); }],
    'a message twice, long after': [['duplicate'], (h, r) => { r.seen.push(r.seen[0]); }],
    'a key twice in the log': [['duplicate'], h => {
      const again = { offset: N + 1, tag: 'x', key: 'k2' };
      h.logs.r.push(again);
      for (const x of h.readers) x.rooms.r.seen.push(again);
    }],
    'two messages in the wrong order': [['order'], (h, r) => { [r.seen[1], r.seen[2]] = [r.seen[2], r.seen[1]]; }],
    'another message at the same place': [['order', 'unseen'], (h, r) => { r.seen[2].key = 'k99'; r.seen.splice(3, 1); }],
    'another branch: the tag differs': [['order', 'unseen'], (h, r) => { r.seen[2].tag = 'fork'; }],
    'a message that is in no log': [['order'], (h, r) => { r.seen.push({ offset: N + 1, tag: 'x', key: 'x' }); }],
    'an acknowledged position that is not the message\'s': [['order'], h => { h.acks[2].offset = 5; h.acks[2].tag = 't5'; }],
    'a later publish before an earlier one': [['order'], h => { [h.acks[1].invoked, h.acks[1].acked] = [500, 510]; }],
    'a hole in the log': [['lost', 'order', 'unseen'], h => { h.logs.r.splice(3, 1); }],
    'recovered:false without a reason': [['unjustified'], (h, r) => { r.seen.splice(1, 2); r.gaps.push(gap(2, 4, { at: 1 })); }],
    'no_position, though it was named': [['unjustified'], (h, r) => { r.gaps.push(gap(2, 2, { at: 1, reason: 'no_position' })); }],
    'recovered:false that tells of less than was missed': [['unjustified', 'unseen'], (h, r) => { r.seen.splice(1, 3); r.gaps.push(gap(2, 4, { at: 1 })); }],
    'a Socket.IO client that was not recovered, without cause': [['unjustified'], (h, r) => { r.seen.splice(1, 2); r.gaps.push(gap(2, 4, { at: 1, reason: 'anew' })); }],
    'an exit twice': [['exit'], h => { h.notices.splice(1, 1); }],
  };
  for (const [what, [expected, how]] of Object.entries(cases)) it(`complains of ${what}`, () => assert.deepEqual(kinds(spoiled(how)), expected));

  it('accepts an exit twice when the enter between them may have been missed, and only then', () => {
    const h = spoiled(x => { x.notices.splice(1, 1); });
    assert.deepEqual(kinds({ ...h, deaf: [{ from: 0.5, to: 1 }] }), []);
    assert.deepEqual(kinds({ ...h, deaf: [{ from: 3, to: 4 }] }), ['exit']);
  });

  it('accepts what a client was told it missed, where that can be justified', () => {
    const h = spoiled((x, r) => { r.seen.splice(1, 2); r.gaps.push(gap(2, 4, { at: 1 })); });
    assert.deepEqual(kinds({ ...h, promise: 'retention' }), []);
  });

  // 1 to 4 were replicated; 5x and 6x were acknowledged, seen by both readers, and lost; then 5 and 6 were published.
  const failover = (...notices) => spoiled(h => {
    const lost = [{ ...message(5), tag: 'x5', key: 'x5' }, { ...message(6), tag: 'x6', key: 'x6' }];
    h.acks.push(...lost.map(m => ({ ...m, room: 'r', invoked: 100, acked: 110 })));
    h.readers.forEach(({ rooms: { r } }, i) => {
      r.seen.splice(3, 2, ...lost);
      if (notices[i]) { r.gaps.push({ ...notices[i], at: 5, from: lost[1] }); r.seen.push(...h.logs.r.slice(notices[i].to.offset)); }
    });
  });
  const fork = to => gap(6, to, { reason: 'fork' });

  it('lists what a failover has cost, and accepts it when everybody was told', () => {
    const { violations, lost, forks, told } = check({ ...failover(fork(6), fork(5)), promise: 'told' });
    assert.deepEqual([violations, lost.map(a => a.key), forks, told], [[], ['x5', 'x6'], [{ room: 'r', from: 5, to: 6 }], 2]);
  });
  it('complains of a reader who was not told of a fork', () => assert.deepEqual(kinds({ ...failover(fork(6)), promise: 'told' }), ['unseen', 'untold']));
  it('complains of what was acknowledged and lost where that must not be', () => assert.deepEqual(kinds({ ...failover(fork(6), fork(6)), promise: 'acked' }), ['lost']));
  it('complains of a fork where there can be none', () => assert.deepEqual(kinds(failover(fork(6), fork(6))), ['lost', 'order', 'unjustified']));
  it('complains of a fork that was told and is none', () => {
    const h = spoiled((x, r) => { r.gaps.push(gap(4, 4, { at: 3, reason: 'fork' })); });
    assert.deepEqual(kinds({ ...h, promise: 'told' }), ['unjustified']);
  });
  it('accepts a fork that the log has come back from with a second one', () => {
    const h = spoiled((x, r) => { r.gaps.push(gap(4, 3, { at: 3, reason: 'fork' }), gap(3, 4, { at: 3, reason: 'fork' })); });
    assert.deepEqual(kinds({ ...h, promise: 'told' }), []);
  });
  it('complains of a message twice after a fork', () => {
    const h = failover(fork(6), fork(5));
    h.readers[1].rooms.r.seen.push(message(6));
    assert.deepEqual(kinds({ ...h, promise: 'told' }), ['duplicate']);
  });

  // As above, but a gateway had 5x and 6x still: they came again as 7 and 8, and were not told again to those who had seen them.
  const repaired = how => {
    const h = failover(), again = [7, 8].map((offset, i) => ({ offset, tag: `t${offset}`, key: `x${5 + i}` }));
    h.logs.r.push(...again);
    for (const { rooms: { r } } of h.readers) r.seen.push(message(5), message(6));
    h.readers.push({ name: 'new', rooms: { r: { start: { offset: 4, tag: 't4' }, seen: h.logs.r.slice(4), gaps: [] } } });
    how?.(h, h.readers[0].rooms.r, again);
    return { ...h, promise: 'told' };
  };
  it('accepts what was lost and appended again', () => {
    const { violations, lost, again } = check(repaired());
    assert.deepEqual([violations, lost, again], [[], [], 2]);
  });
  it('complains when what was appended again is told again', () => assert.deepEqual(kinds(repaired((h, r, again) => { r.seen.push(again[0]); })), ['duplicate']));
  it('complains when somebody is told to have what it has not seen', () => assert.deepEqual(kinds(repaired((h, r, again) => {
    r.held = [{ at: r.seen.length, ...again[0] }, { at: 3, ...again[1] }];
  })), ['unseen']));
  it('complains when what was appended again is not told to whom it is new', () => assert.deepEqual(kinds(repaired(h => { h.readers[2].rooms.r.seen.pop(); })), ['unseen']));
});

describe('the schedule', () => {
  const of = seed => schedule(seed, { seconds: 60, gateways: 2, lease: 2000, kinds: kindsOf('standalone') });
  it('is that of its seed', () => { assert.deepEqual(of(7), of(7)); assert.notDeepEqual(of(7), of(8)); });
  it('has every kind of fault', () => assert.deepEqual([...new Set([1, 2, 3].flatMap(s => of(s).map(f => f.kind)))].sort(), kindsOf('standalone').sort()));
});

const about = (t, r) => t.diagnostic(line(r));

const none = r => r.violations.map(v => `seed ${r.seed} ${v.kind}: ${v.text}`);

describe('chaos', { timeout: 480000, concurrency: 2 }, () => {
  // Odd: sessions outlive the run. Even: they end within it.
  for (const seed of [3, 4]) {
    it(`seed ${seed}: nothing acknowledged is lost, doubled or reordered, and nobody leaks`, async t => {
      const r = await new World(seed, { seconds: 8 }).run();
      about(t, r);
      assert.deepEqual(none(r), []);
      assert.ok(r.acknowledged > 50 && r.delivered > 50 && r.faults.length > 3, line(r));
    });
  }

  it('Socket.IO clients that come back by themselves: recovered means that nothing is missing, twice or in another order', async t => {
    const r = await new World(9, { seconds: 6, readers: 2, sockets: 4, kinds: ['vanish', 'kill-gateway', 'drop-pubsub', 'pause-redis'] }).run();
    about(t, r);
    assert.deepEqual(none(r), []);
    assert.ok(r.resumes > 3, line(r));
  });

  for (const [need, kinds] of [['net', ['cut-gateway', 'mute-gateway', 'deafen-gateway', 'lossy-gateway']], ['clock', ['jump-clock', 'kill-gateway']]]) {
    it(`${kinds.join(', ')} alone`, async t => {
      const r = await new World(need === 'net' ? 5 : 7, { seconds: 5, readers: 4, kinds }).run();
      about(t, r);
      if (r.without.length) { t.skip(r.without.join('; ')); return; }
      assert.deepEqual(none(r), []);
    });
  }

  const stores = [
    ['sentinel: a primary cut off with a gateway on its side, replaced meanwhile; nothing acknowledged is lost', { world: 'sentinel', durability: 'replicated:1', plan: plan(['split-primary', 1500, 4000]) }],
    ['sentinel: a primary killed and replaced; what that costs is told', { world: 'sentinel', plan: plan(['kill-primary', 1500, 5500, 0.1]) }],
    ['cluster: a replica promoted, slots moved, a primary killed', { world: 'cluster', plan: plan(['failover', 1000, 0], ['reshard', 2500, 0, 0.5], ['kill-primary', 4000, 2500]) }],
  ];
  for (const [what, options] of stores) {
    it(what, async t => {
      const r = await new World(7, { readers: 4, ...options }).run();
      about(t, r);
      if (r.without.length) { t.skip(r.without.join('; ')); return; }
      assert.deepEqual(none(r), []);
      assert.equal(r.faults.length, options.plan.length);
      assert.ok(r.acknowledged > 50, line(r));
    });
  }

  // With a tail the gateways would bring most of it back.
  it('finds the loss when Redis keeps nothing over a restart', async t => {
    const r = await new World(3, { seconds: 4, aof: false, readers: 2, window: 6, kinds: ['kill-redis'], flags: ['--tail-bytes', '0'] }).run();
    about(t, r);
    assert.ok(r.violations.some(v => v.kind === 'lost'), JSON.stringify(r.violations.slice(0, 5)));
  });
});
