// check.mjs: the verdict over a recorded history. Pure: what it is given is all it knows, so that it can be shown to complain.
//
// acks:    [{key, room, offset, tag, invoked, acked}]            what publishers were promised, when they first asked and when they were told
// logs:    {room: [{offset, tag, key}]}                          the room's history as the cluster tells it at the end
// readers: [{name, rooms: {room: {start, seen, gaps, held}}}]    start: {offset, tag} of the first join; seen: [{offset, tag, key}] in order of arrival;
//                                                                gaps: [{at, from, to, reason, named}], one for each recovered:false; at: how many had
//                                                                been seen; from and to: the positions before and after; named: the client had said from;
//                                                                held: [{at, offset, tag}], one for each "you have this one" after a fork
//                                                                reason 'anew': a Socket.IO client that was not recovered; justified: it had not been in all its rooms
//          short: it is told only the first 4 letters of tags
// notices: [{name, connection, kind, room, session, time}]       enter, exit and suspend in order of arrival per reader
// deaf:    [{from, to}]                                          when notices may have been missed: they are in no log
// promise: 'all'    one store that forgets nothing: what was acknowledged or seen stays, and no recovered:false can be justified
//          'acked'  a store that may lose what was not acknowledged yet; it may come again elsewhere in the log, and who has seen it must be told if not
//          'told'   a store that may lose what was acknowledged as well: it is listed
//          'retention' a store that forgets nothing but what the policy says

const at = m => `${m.offset}/${m.tag}`;

function checkLog(room, log, bad) {
  const keys = new Map();
  log.forEach((m, i) => {
    if (m.offset !== i + 1) bad('order', `${room}: entry ${i + 1} of the log has offset ${m.offset}`);
    if (keys.has(m.key)) bad('duplicate', `${room}: ${m.key} is in the log twice, at ${keys.get(m.key)} and ${m.offset}`);
    keys.set(m.key, m.offset);
  });
}

function checkAcks(acks, logs, promise, lost, bad) {
  for (const a of acks) {
    const m = logs[a.room]?.[a.offset - 1];
    if (m?.key === a.key && m.tag === a.tag) continue;
    const elsewhere = logs[a.room]?.find(x => x.key === a.key);
    if (elsewhere && promise === 'told') continue; // lost, and appended again
    if (elsewhere) bad('order', `${a.room}: ${a.key} was acknowledged at ${at(a)} and is in the log at ${at(elsewhere)}`);
    else if (promise === 'told') lost.push(a);
    else bad('lost', `${a.room}: ${a.key} was acknowledged at ${at(a)} and is not in the log (there: ${m ? `${m.key} ${at(m)}` : 'nothing'})`);
  }
}

/** What was asked for after another was acknowledged comes after it. */
function checkRealTime(acks, logs, bad) {
  for (const room of new Set(acks.map(a => a.room))) {
    const mine = acks.filter(a => a.room === room && logs[room]?.[a.offset - 1]?.tag === a.tag), byAck = [...mine].sort((a, b) => a.acked - b.acked);
    let i = 0, highest = { offset: 0 };
    for (const a of [...mine].sort((x, y) => x.invoked - y.invoked)) {
      for (; i < byAck.length && byAck[i].acked < a.invoked; i++) if (byAck[i].offset > highest.offset) highest = byAck[i];
      if (a.offset <= highest.offset) bad('order', `${room}: ${a.key} at ${a.offset} was first published after ${highest.key} had been acknowledged at ${highest.offset}`);
    }
  }
}

const forks = promise => promise === 'acked' || promise === 'told';
/** It says that what was seen may be lost. Who was not recovered has been told nothing of the sort, but begins anew, where there may have been a fork. */
const forked = (gap, promise) => gap.reason === 'fork' || (gap.reason === 'anew' && forks(promise));

/**
 * Goes through what a reader saw in the order in which it saw it. Returns the messages that it need not see again, by their offsets in the log, and those it saw
 * at positions that the log does not have: a branch that was lost. What the log has elsewhere was appended again.
 */
function follow(who, room, r, log, promise, bad) {
  const places = new Map(log.map(m => [m.key, m.offset])), kept = new Map(), branch = [], keys = new Map(), offsets = new Map();
  let last = r.start.offset;
  r.seen.forEach((m, i) => {
    const truth = log[m.offset - 1], real = truth?.tag === m.tag && truth.key === m.key, before = keys.get(m.key);
    const told = before !== undefined && r.gaps.some(g => forked(g, promise) && g.at > before.i && g.at <= i);
    if (before !== undefined && !(told && forks(promise))) bad('duplicate', `${who} ${room}: ${m.key} came twice, at ${at(before)} and ${at(m)}`);
    else if (offsets.has(m.offset) && !forks(promise)) bad('duplicate', `${who} ${room}: offset ${m.offset} came twice (${offsets.get(m.offset).key}, ${m.key})`);
    keys.set(m.key, { ...m, i });
    offsets.set(m.offset, m);
    if (!real) branch.push({ ...m, i, truth, again: places.get(m.key) });
    if (real || (forks(promise) && places.has(m.key))) kept.set(real ? m.offset : places.get(m.key), { ...m, i });
    if (forks(promise) && !real) return;
    if (before === undefined && m.offset <= last) bad('order', `${who} ${room}: ${m.offset} (${m.key}) came after ${last}`);
    last = Math.max(last, m.offset);
  });
  return { kept, branch };
}

function checkReader(who, room, r, log, promise, bad) {
  const { kept, branch } = follow(who, room, r, log, promise, bad);
  for (const m of branch) {
    const saw = `${who} ${room}: saw ${m.key} at ${at(m)}, the log has ${m.truth ? `${m.truth.key} ${at(m.truth)}` : 'nothing'} there`;
    if (!forks(promise)) bad('order', saw);
    else if (!m.again && !r.gaps.some(g => forked(g, promise) && g.at > m.i)) bad('untold', `${saw}, and it was never told of a fork`);
  }
  // What a fork has cost lies after the last message that was seen before it and is still there.
  const common = g => Math.max(r.start.offset, ...[...kept.values()].filter(m => m.i < g.at && log[m.offset - 1]?.tag === m.tag).map(m => m.offset));
  const told = offset => r.gaps.some(g => offset > (forked(g, promise) ? common(g) : g.from.offset) && offset <= g.to.offset);
  const missing = log.filter(m => m.offset > r.start.offset && !kept.has(m.offset) && !told(m.offset));
  if (missing.length) {
    const around = [missing[0].offset - 1, missing[0].offset + 1].map(offset => `${offset} ${kept.get(offset)?.via ?? 'not seen'}`).join(', then ');
    bad('unseen', `${who} ${room}: never saw ${missing.length} of ${log.length}: ${missing.slice(0, 5).map(m => `${m.key} ${at(m)}`).join(', ')}${missing.length > 5 ? '…' : ''} (${around})`);
  }
  for (const h of r.held ?? []) {
    const key = log[h.offset - 1]?.tag === h.tag && log[h.offset - 1].key;
    if (key && !r.seen.slice(0, h.at).some(m => m.key === key)) bad('unseen', `${who} ${room}: was told that it has ${key} at ${at(h)}, which it has not seen`);
  }
  checkGaps(who, room, r, log, branch, promise, bad);
  return branch;
}

function checkGaps(who, room, r, log, branch, promise, bad) {
  r.gaps.forEach((g, n) => {
    const since = n ? r.gaps[n - 1].at : 0, onBranch = log[g.from.offset - 1]?.tag !== g.from.tag && g.from.offset > 0;
    const real = onBranch || branch.some(m => m.i >= since && m.i < g.at);
    // Told of two: the log may have gone back to the branch that this one told to be lost, with a second failover.
    const back = forked(g, promise) && r.gaps.filter(x => forked(x, promise)).length > 1;
    const fine = g.reason === 'no_position' ? !g.named : g.reason === 'anew' ? g.justified || forks(promise) : promise === 'retention' || (forks(promise) && forked(g, promise) && (real || back));
    if (!fine) bad('unjustified', `${who} ${room}: told recovered:false (${g.reason}) between ${at(g.from)} and ${at(g.to)}`);
  });
}

/** Branches that are in no log: runs of offsets that were acknowledged or seen. */
function branches(room, lost) {
  const offsets = [...new Map(lost.map(m => [at(m), m])).values()].sort((a, b) => a.offset - b.offset), found = [];
  for (const m of offsets) {
    const f = found.find(x => x.to === m.offset - 1);
    if (f) f.to = m.offset;
    else found.push({ room, from: m.offset, to: m.offset });
  }
  return found;
}

/** On one connection, a session cannot leave a room twice without having come back in between; unless the coming back may have been missed. */
function checkExits(notices, deaf, bad) {
  const out = new Map();
  for (const n of notices) {
    const key = `${n.name} ${n.connection} ${n.room} ${n.session}`;
    if (n.kind === 'enter') out.delete(key);
    if (n.kind !== 'exit') continue;
    const before = out.get(key);
    if (before && !deaf.some(d => d.from < n.time && d.to > before.time)) bad('exit', `${n.name} ${n.room}: exit of ${n.session} came twice (${notices.filter(x => `${x.name} ${x.connection} ${x.room} ${x.session}` === key).map(x => `${x.kind} ${x.reason ?? ''} ${x.time ?? ''}`).join(', ')})`);
    out.set(key, n);
  }
}

/**
 * Returns {violations: [{kind, text}], lost, forks, told, again}: violations is empty when every promise was kept; lost: acknowledged and not in the log, where that
 * may be; forks: branches at positions that no log has; told: how often a reader was told of one; again: how many messages of them are in the log elsewhere.
 */
export function check({ acks = [], logs = {}, readers = [], notices = [], deaf = [], promise = 'all' }) {
  const violations = [], bad = (kind, text) => violations.push({ kind, text }), lost = [], off = {};
  for (const [room, log] of Object.entries(logs)) checkLog(room, log, bad);
  checkAcks(acks, logs, promise, lost, bad);
  checkRealTime(acks, logs, bad);
  for (const a of acks) if (forks(promise) && logs[a.room]?.[a.offset - 1]?.tag !== a.tag) (off[a.room] ??= []).push({ ...a, again: !lost.includes(a) });
  let told = 0;
  for (const reader of readers) {
    for (const [room, r] of Object.entries(reader.rooms)) {
      const log = logs[room] ?? [], seen = reader.short ? log.map(m => ({ ...m, tag: m.tag.slice(0, 4) })) : log;
      const branch = checkReader(reader.name, room, r, seen, promise, bad);
      (off[room] ??= []).push(...branch);
      told += r.gaps.filter(g => g.reason === 'fork').length;
    }
  }
  checkExits(notices, deaf, bad);
  const again = new Set(Object.values(off).flat().filter(m => m.again).map(m => m.key)).size;
  return { violations, lost, told, again, forks: Object.entries(off).flatMap(([room, list]) => branches(room, list)) };
}
