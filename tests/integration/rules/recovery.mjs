// recovery.mjs: rules of connection state recovery (clients 4.6 and later), and where the official one lets something through or lets it fall
import { sleep } from '../lib/wait.mjs';
import { play, rule } from './case.mjs';

const recovery = { world: 'recovery' };
const hole = '{"_placeholder":true,"num":0}';
const parse = text => JSON.parse(text.replace(/^[^{[]*/, ''));
const is = (text, name) => /^4[25]/.test(text) && text.includes(`["${name}"`);
/** The events of those names, their arguments without the offset, which must be a text; `$…` are our own. */
const events = (s, ...names) => s.exact.filter(t => names.some(n => is(t, n))).map(t => { const args = parse(t), last = args.pop(); return typeof last === 'string' ? args.slice(1) : `no offset: ${t}`; });
const told = (s, name, count = 1) => s.waitFor(() => s.exact.filter(t => is(t, name)).length >= count, `${count} of ${name}`);

/** A session in `/`: its socket, who it is, and what it would come back with. */
async function come(w, payload = '') {
  const s = w.ws(4);
  await s.opened;
  s.send(`40${typeof payload === 'string' ? payload : JSON.stringify(payload)}`);
  await s.waitFor(t => t.startsWith('40') || t.startsWith('44'), 'the connect');
  const id = parse(s.exact.find(t => t.startsWith('40') || t.startsWith('44')));
  return Object.assign(s, { id });
}
/** What it comes back with: the last argument of the last event without an ack id. */
function ticket(s) {
  const last = s.exact.filter(t => /^4[25][^\d]/.test(t) || /^451-/.test(t)).map(t => parse(t).at(-1)).filter(o => typeof o === 'string').at(-1);
  return { pid: s.id.pid, ...(last !== undefined && { offset: last }) };
}
/** One that is in rooms and has heard a message of each. */
async function settled(w, ...rooms) {
  const s = await come(w);
  for (const [i, r] of rooms.entries()) { s.send(`42${i}["join","${r}"]`); await s.waitFor(t => t.startsWith(`43${i}`), 'the join'); await w.publish(r, 'first', r); await told(s, 'first', i + 1); }
  return s;
}
const cut = async s => { s.ws.terminate(); await s.closed; await sleep(80); };
const same = (a, b) => [a.id.sid === b.id.sid, a.id.pid === b.id.pid];
const BACK = [true, true], NEW = [false, false];
let rooms = 0;
const room = () => `room-${++rooms}`;

export const recovering = [
  rule('R1', 'CONNECT has sid and pid, and nothing else',
    play('with recovery', async w => Object.keys((await come(w)).id), ['sid', 'pid'], recovery),
    play('another one for each namespace', async w => { const s = await come(w); s.send('40/admin,'); await s.heardAll(2); const other = parse(s.exact.find(t => t.startsWith('40/'))); return [Object.keys(other), other.pid === s.id.pid]; }, [['sid', 'pid'], false], recovery),
    play('without recovery', async w => Object.keys((await come(w)).id), ['sid']),
    play('without recovery a pid means nothing', async w => { const a = await come(w); await cut(a); return Object.keys((await come(w, { pid: a.id.sid, offset: 'x' })).id); }, ['sid']),
    play('4: nothing of it', async w => (await w.ws(3).connect()).exact[1], '40', recovery)),
  rule('R2', 'every event without an ack id has a text, the offset, as its last argument',
    ...['42["x"]', '42["x",1]', '42["x",{"a":1},"text"]'].map(f => play(f, async w => { const s = await come(w); s.send(f); await told(s, 'x'); return events(s, 'x'); }, [parse(f).slice(1)], recovery)),
    play('with bytes', async w => { const s = await come(w); s.send(`451-["x",${hole}]`, Buffer.from([1])); await told(s, 'x'); return events(s, 'x'); }, [[JSON.parse(hole)]], recovery),
    play('from the server, to all', async w => { const s = await come(w); await w.emit('/', 'x', [1]); await told(s, 'x'); return events(s, 'x'); }, [[1]], recovery),
    play('to a room', async w => { const s = await settled(w, room()); return events(s, 'first').length; }, 1, recovery),
    play('in a namespace', async w => { const s = await come(w); s.send('40/admin,'); await s.waitFor(t => t.startsWith('40/'), 'the connect'); s.send('42/admin,["x",1]'); await told(s, 'x'); return events(s, 'x'); }, [[1]], recovery),
    play('another one each time', async w => { const r = room(), s = await settled(w, r), one = ticket(s).offset; await w.publish(r, 'x', 1); await told(s, 'x'); return one === ticket(s).offset; }, false, recovery),
    play('4: nothing of it', async w => { const s = await w.ws(3).connect(); s.send('42["x",1]'); await told(s, 'x'); return parse(s.exact.find(t => is(t, 'x'))).length; }, 3, { ...recovery, differs: { why: 'offsets for clients 2.x', want: 2 } })),
  rule('R3', 'an event with an ack id has none',
    play('asked by the server', async w => { const s = await come(w), asked = w.ask('/', 'ask', [1]); await s.waitFor(t => t.includes('"ask"'), 'the question'); const text = s.exact.find(t => t.includes('"ask"')); s.send(`43${/^42(\d+)/.exec(text)[1]}[]`); await asked; return text.replace(/^42\d+/, ''); }, '["ask",1]', recovery)),
  rule('R4', 'a volatile event has none, but none is to be mistaken for one either',
    play('a number is last', async w => { const s = await come(w); await w.emit('/', 'x', [1], { volatile: true }); await told(s, 'x'); return parse(s.exact.find(t => is(t, 'x'))).length; }, 2, { ...recovery, differs: { why: 'offsets of volatile events', want: 3 } })),
  rule('R5', 'who comes back with pid and offset is who he was, and is told what he missed, in order, once; then what comes live',
    play('two rooms', async w => {
      const [a, b] = [room(), room()], s = await settled(w, a, b);
      await cut(s);
      for (let i = 0; i < 6; i++) await w.publish(i % 2 ? a : b, i % 2 ? 'odd' : 'even', i);
      const t = await come(w, ticket(s));
      await w.publish(a, 'odd', 7);
      await told(t, 'odd', 4); await told(t, 'even', 3);
      await sleep(50);
      return [same(s, t), events(t, 'odd'), events(t, 'even'), events(t, 'first')];
    }, [BACK, [[1], [3], [5], [7]], [[0], [2], [4]], []], recovery),
    play('nothing was missed', async w => { const s = await settled(w, room()); await cut(s); const t = await come(w, ticket(s)); await sleep(50); return [same(s, t), events(t, 'first', 'x')]; }, [BACK, []], recovery),
    play('again and again', async w => { const r = room(); let s = await settled(w, r); const all = []; for (let i = 0; i < 3; i++) { await cut(s); await w.publish(r, 'x', i); const t = await come(w, ticket(s)); await told(t, 'x'); all.push(same(s, t), events(t, 'x')); s = t; } return all; }, [0, 1, 2].flatMap(i => [BACK, [[i]]]), recovery),
    play('what was missed comes first, or the CONNECT', async w => { const r = room(), s = await settled(w, r); await cut(s); await w.publish(r, 'x', 1); const t = await come(w, ticket(s)); await told(t, 'x'); return t.said().filter(x => !x.includes('"$'))[0].slice(0, 2); }, '42', { ...recovery, differs: { why: 'order at recovery', want: '40' } }),
    play('an acked question is not told again', async w => { const r = room(), s = await settled(w, r); w.ask('/', 'ask', []).catch(() => {}); await s.waitFor(t => t.includes('"ask"'), 'the question'); await cut(s); const t = await come(w, ticket(s)); await sleep(80); return [same(s, t), t.said().some(x => x.includes('"ask"'))]; }, [BACK, false], recovery)),
  rule('R6', 'however the connection was lost',
    play('a close frame', async w => { const s = await settled(w, room()); s.ws.close(); await s.closed; await sleep(80); return same(s, await come(w, ticket(s))); }, BACK, recovery),
    play('bad input', async w => { const s = await settled(w, room()); s.send('47'); await s.closed; await sleep(80); return same(s, await come(w, ticket(s))); }, BACK, recovery),
    play('by long-polling: 1', async w => {
      const p = await w.poll(4);
      await p.post('40');
      const id = parse((await p.get()).text), r = room();
      await p.post(`420["join","${r}"]`); await p.get();
      await w.publish(r, 'x', 1);
      let offset;
      while (offset === undefined) offset = (await p.get()).text.split('\x1e').filter(t => is(t, 'x')).map(t => parse(t).at(-1))[0];
      await p.post('1');
      await sleep(80);
      await w.publish(r, 'x', 2);
      const t = await come(w, { pid: id.pid, offset });
      await told(t, 'x');
      return [same({ id }, t), events(t, 'x')];
    }, [BACK, [[2]]], recovery),
    play('silence', async w => { const s = await settled(w, room()); await s.closed; await sleep(80); return same(s, await come(w, ticket(s))); }, BACK, { world: 'quick recovery' })),
  rule('R7', 'who comes back with something else is new',
    play('an unknown pid', async w => { const s = await come(w, { pid: 'foo', offset: 'bar' }); return [s.id.sid === 'foo', s.id.pid === 'foo', Object.keys(s.id)]; }, [false, false, ['sid', 'pid']], recovery),
    play('another offset', async w => { const s = await settled(w, room()); await cut(s); return same(s, await come(w, { ...ticket(s), offset: 'zzzz' })); }, NEW, recovery),
    play('an offset that is no text', async w => { const s = await settled(w, room()); await cut(s); return same(s, await come(w, { ...ticket(s), offset: 123 })); }, NEW, recovery),
    play('a pid that is no text', async w => { const s = await come(w, { pid: { a: 1 }, offset: 'x' }); return Object.keys(s.id); }, ['sid', 'pid'], recovery),
    play('no pid', async w => { const s = await settled(w, room()); await cut(s); return same(s, await come(w, { offset: ticket(s).offset })); }, NEW, recovery),
    play('and is in no room', async w => { const r = room(), s = await settled(w, r); await cut(s); const t = await come(w, { ...ticket(s), offset: 'zzzz' }); await w.publish(r, 'x', 1); await w.emit('/', 'end', []); await told(t, 'end'); return events(t, 'x'); }, [], recovery),
    play('too late', async w => { const s = await settled(w, room()); await cut(s); await sleep(4500); return same(s, await come(w, ticket(s))); }, NEW, { ...recovery, slow: true })),
  rule('R8', 'who has left, or was disconnected by the server, does not come back',
    play('41', async w => { const s = await settled(w, room()); s.send('41'); await sleep(80); await cut(s); return same(s, await come(w, ticket(s))); }, NEW, recovery),
    play('by the server', async w => { const s = await settled(w, room()), back = ticket(s); await w.disconnect('/'); await s.waitFor(t => t === '41', 'the end'); await cut(s); return same(s, await come(w, back)); }, NEW, recovery)),
  rule('R9', 'a pid is good as long as its session is there',
    play('a second time', async w => { const s = await settled(w, room()); await cut(s); const t = await come(w, ticket(s)); await cut(t); return [same(s, t), same(s, await come(w, ticket(s)))]; }, [BACK, BACK], recovery),
    play('while it is connected', async w => { const s = await settled(w, room()), t = await come(w, ticket(s)); await sleep(100); return [same(s, t), s.heard.includes('41')]; }, [NEW, false], { ...recovery, differs: { why: '`pid` of a session that is still connected', want: [BACK, true] } })),
  rule('R10', 'before the first event there is no offset',
    play('who has been told nothing', async w => { const s = await come(w); await cut(s); return same(s, await come(w, { pid: s.id.pid })); }, NEW, { ...recovery, differs: { why: 'recovery before the first event', want: BACK } })),
  rule('R11', 'what was said to the whole namespace meanwhile',
    play('is told', async w => { const s = await settled(w, room()); await cut(s); await w.emit('/', 'x', [1]); const t = await come(w, ticket(s)); await sleep(150); return [same(s, t), events(t, 'x')]; }, [BACK, [[1]]], recovery)),
  rule('R12', 'a node that dies takes no session with it',
    play('kill -9', async w => {
      const r = room(), s = await settled(w, r), other = await w.crash();
      await s.closed;
      await other.publish(r, 'x', 2);
      const t = await come(other, ticket(s));
      await told(t, 'x');
      return [same(s, t), events(t, 'x')];
    }, [NEW, []], { world: 'crash', differs: { why: 'crash of a node', want: [BACK, [[2]]] }, alone: true })),
  rule('R13', 'who may not come in any more does not come back',
    play('a ban', async w => {
      const user = `user-${++rooms}`, r = room(), s = await come(w, { user });
      s.send(`420["join","${r}"]`);
      await s.waitFor(t => t.startsWith('430'), 'the join');
      await w.publish(r, 'first', 1);
      await told(s, 'first');
      await cut(s);
      await w.ban(user);
      return Object.keys((await come(w, { ...ticket(s), user })).id).sort();
    }, ['pid', 'sid'], { ...recovery, differs: { why: 'bans at recovery', want: ['data', 'message'] } })),
];
