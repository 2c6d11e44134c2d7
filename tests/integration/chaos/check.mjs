// check.mjs: the verdict over a recorded history. Pure: what it is given is all it knows, so that it can be shown to complain.
//
// acks:    [{key, room, offset, tag, invoked, acked}]            what publishers were promised, when they first asked and when they were told
// logs:    {room: [{offset, tag, key}]}                          the room's history as the cluster tells it at the end
// readers: [{name, rooms: {room: {start, seen, gaps}}}]          start: {offset, tag} of the first join; seen: [{offset, tag, key}] in order of arrival;
//                                                                gaps: [{from, to, reason, named}], one for each recovered:false; from and to are
//                                                                offsets, named: the client had said what it had seen
// notices: [{name, connection, kind, room, session, time}]       enter, exit and suspend in order of arrival per reader
// deaf:    [{from, to}]                                          when notices may have been missed: they are in no log
// lossless: no recovered:false can be justified (one store that forgets nothing, everything retained)

const at = m => `${m.offset}/${m.tag}`;

function checkLog(room, log, bad) {
  const keys = new Map();
  log.forEach((m, i) => {
    if (m.offset !== i + 1) bad('order', `${room}: entry ${i + 1} of the log has offset ${m.offset}`);
    if (keys.has(m.key)) bad('duplicate', `${room}: ${m.key} is in the log twice, at ${keys.get(m.key)} and ${m.offset}`);
    keys.set(m.key, m.offset);
  });
}

function checkAcks(acks, logs, bad) {
  for (const a of acks) {
    const m = logs[a.room]?.[a.offset - 1];
    if (m?.key === a.key && m.tag === a.tag) continue;
    const elsewhere = logs[a.room]?.find(x => x.key === a.key);
    if (elsewhere) bad('order', `${a.room}: ${a.key} was acknowledged at ${at(a)} and is in the log at ${at(elsewhere)}`);
    else bad('lost', `${a.room}: ${a.key} was acknowledged at ${at(a)} and is not in the log (there: ${m ? `${m.key} ${at(m)}` : 'nothing'})`);
  }
}

/** What was asked for after another was acknowledged comes after it. */
function checkRealTime(acks, bad) {
  for (const room of new Set(acks.map(a => a.room))) {
    const mine = acks.filter(a => a.room === room), byAck = [...mine].sort((a, b) => a.acked - b.acked);
    let i = 0, highest = { offset: 0 };
    for (const a of [...mine].sort((x, y) => x.invoked - y.invoked)) {
      for (; i < byAck.length && byAck[i].acked < a.invoked; i++) if (byAck[i].offset > highest.offset) highest = byAck[i];
      if (a.offset <= highest.offset) bad('order', `${room}: ${a.key} at ${a.offset} was first published after ${highest.key} had been acknowledged at ${highest.offset}`);
    }
  }
}

function checkReader(who, room, r, log, bad) {
  const seen = new Map(), keys = new Map();
  let last = r.start.offset;
  for (const m of r.seen) {
    if (seen.has(m.offset)) bad('duplicate', `${who} ${room}: offset ${m.offset} came twice (${seen.get(m.offset).key}, ${m.key})`);
    else if (m.offset <= last) bad('order', `${who} ${room}: ${m.offset} (${m.key}) came after ${last}`);
    if (keys.has(m.key)) bad('duplicate', `${who} ${room}: ${m.key} came twice, at ${keys.get(m.key)} and ${m.offset}`);
    const truth = log[m.offset - 1];
    if (!truth || truth.tag !== m.tag || truth.key !== m.key) bad('order', `${who} ${room}: saw ${m.key} at ${at(m)}, the log has ${truth ? `${truth.key} ${at(truth)}` : 'nothing'} there`);
    seen.set(m.offset, m);
    keys.set(m.key, m.offset);
    last = Math.max(last, m.offset);
  }
  const told = offset => r.gaps.some(g => offset > g.from && offset <= g.to);
  const missing = log.filter(m => m.offset > r.start.offset && !seen.has(m.offset) && !told(m.offset));
  if (!missing.length) return;
  const around = [missing[0].offset - 1, missing[0].offset + 1].map(offset => `${offset} ${seen.get(offset)?.via ?? 'not seen'}`).join(', then ');
  bad('lost', `${who} ${room}: never saw ${missing.length} of ${log.length}: ${missing.slice(0, 5).map(m => `${m.key} ${at(m)}`).join(', ')}${missing.length > 5 ? '…' : ''} (${around})`);
}

function checkGaps(who, room, r, lossless, bad) {
  for (const g of r.gaps) {
    if (g.reason === 'no_position' ? g.named : lossless)
      bad('unjustified', `${who} ${room}: told recovered:false (${g.reason}) between ${g.from} and ${g.to}`);
  }
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

/** Returns [{kind, text}]; empty when every promise was kept. */
export function check({ acks = [], logs = {}, readers = [], notices = [], deaf = [], lossless = true }) {
  const found = [], bad = (kind, text) => found.push({ kind, text });
  for (const [room, log] of Object.entries(logs)) checkLog(room, log, bad);
  checkAcks(acks, logs, bad);
  checkRealTime(acks, bad);
  for (const reader of readers) {
    for (const [room, r] of Object.entries(reader.rooms)) {
      checkReader(reader.name, room, r, logs[room] ?? [], bad);
      checkGaps(reader.name, room, r, lossless, bad);
    }
  }
  checkExits(notices, deaf, bad);
  return found;
}
