// sockets.mjs: Socket.IO clients with recovery, as npm has them; and somebody who emits to all of them
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { io } from 'socket.io-client';
import { parts } from '../lib/position.mjs';
import { sleep, within } from '../lib/wait.mjs';

export const NAMESPACE = '$namespace:/';
const TICK_MS = 20, ANSWER_MS = 6000, HUNG_MS = 5000, PID_BEFORE = 48, LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** What a gateway needs so that they can play. */
export function flagsFor(dir) {
  const keys = join(dir, 'api-keys.json');
  writeFileSync(keys, JSON.stringify({ keys: [{ name: 'chaos', sha256: createHash('sha256').update('xdk_chaos').digest('hex'), scopes: ['publish'] }] }));
  return ['--socketio-recovery', 'on', '--socketio-ping-interval', '1s', '--socketio-ping-timeout', '1s', '--api-keys', keys,
    '--policy', '$namespace:* retain-count=100000 retain-age=1h'];
}

/** The letters that stand for a room in an offset. */
function letters(room) {
  let h = 2166136261;
  for (const byte of Buffer.from(room)) h = Math.imul(h ^ byte, 16777619) >>> 0;
  h = (h ^ h >>> 24) & 0xffffff;
  return [18, 12, 6, 0].map(shift => LETTERS[h >>> shift & 63]).join('');
}

/** Where an offset says that a room is; tags are cut to 4 letters there. */
function place(offset, room) {
  const found = offset?.split('.').find(e => e.startsWith(letters(room)));
  if (found === undefined) return undefined;
  return { offset: [...found.slice(8)].reduce((n, c) => n * 64 + LETTERS.indexOf(c), 0), tag: found.slice(4, 8) };
}

/** Is in all rooms and in the namespace, and leaves coming back to the library. When that says recovered, nothing may be missing; else it begins anew. */
export class SocketReader {
  constructor(world, name, rng) {
    Object.assign(this, { world, name, rng, short: true, rooms: {}, notices: [], connections: 0, resumes: 0, joins: 0, resumeMs: [], patient: true });
  }

  run() { this.done = this.#loop(); }
  caughtUp(heads) { return this.settled && Object.entries(heads).every(([room, offset]) => (this.rooms[room]?.last?.offset ?? -1) >= offset); }

  #url() { const g = this.world.anyGateway(this.rng); return `${this.world.insecure ?? true ? 'http' : 'https'}://${g.machine.host}:${g.port}`; }

  async #loop() {
    const s = this.socket = io(this.#url(), { transports: ['websocket'], ca: this.world.cluster.ca, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 300, timeout: 4000 });
    s.io.on('reconnect_attempt', () => { s.io.uri = this.#url(); });
    s.onAny((...args) => this.#take(args));
    s.on('connect', () => this.#connected());
    s.on('disconnect', why => { this.settled = false; this.lost = performance.now(); this.lastError = why; if (why === 'io server disconnect') s.connect(); });
    s.on('connect_error', e => { this.lastError = e.message; if (!s.active && !this.stopped) setTimeout(() => s.connect(), 50); });
    for (let hung = 0; !this.stopped; await sleep(TICK_MS)) {
      // A gateway that is paused, or waits for its store, answers nothing.
      hung = s.connected ? 0 : hung + TICK_MS;
      if (hung > HUNG_MS) { hung = 0; s.io.engine?.close(); s.connect(); }
      if (this.plan) this.#depart(this.plan);
    }
  }

  #depart(how) {
    const s = this.socket;
    this.plan = null;
    if (how !== 'leave') { s.io.engine?.transport?.ws?.terminate(); return; }
    this.left = true;
    s.disconnect();
    s.connect();
  }

  #connected() {
    const s = this.socket, began = `${s._pid}`.slice(PID_BEFORE);
    this.connections++;
    this.session = s.id;
    this.world.opened(s.id);
    if (s.recovered) {
      this.resumes++;
      this.resumeMs.push(performance.now() - this.lost);
      this.settled = this.#member();
    } else {
      // Until it is in all its rooms nobody could know which of them it knows of.
      this.anew = { justified: this.left || !this.whole };
      this.left = this.whole = false;
      for (const r of Object.values(this.rooms)) r.in = false;
      this.#begin(NAMESPACE, place(began, NAMESPACE));
    }
    if (!this.settled) this.#join(this.connections).catch(e => { this.lastError = e.message; s.io.engine?.transport?.ws?.terminate(); });
  }

  #member() { return this.world.rooms.every(room => this.rooms[room]?.in); }

  /** It is told of a room from there on. */
  #begin(room, at) {
    const r = this.rooms[room] ??= { seen: [], gaps: [], held: [] };
    if (!at) { this.world.note('membership', `${this.name}: ${room} began nowhere`); return; }
    const mine = { offset: at.offset, tag: at.tag.slice(0, 4) };
    if (r.last) r.gaps.push({ at: r.seen.length, from: r.last, to: mine, reason: 'anew', named: true, justified: this.anew.justified });
    r.start ??= mine;
    r.last = mine;
    r.in = true;
  }

  async #join(connection) {
    for (const room of this.world.rooms) {
      if (this.rooms[room]?.in) continue;
      // What follows the ack counts, so it is looked at when it comes.
      const ack = await within(new Promise(yes => this.socket.emit('join', room, answer => {
        if (connection === this.connections && answer.type === 'ack' && !this.rooms[room]?.in) this.#begin(room, parts(answer.position));
        yes(answer);
      })), ANSWER_MS, `the ack of ${room}`);
      if (connection !== this.connections) return;
      if (ack.type !== 'ack') throw new Error(JSON.stringify(ack));
    }
    this.settled = this.whole = true;
  }

  #take([name, ...args]) {
    const offset = args.at(-1);
    if (name === '$exit' || name === '$enter' || name === '$suspend') {
      const f = args[0];
      this.notices.push({ name: this.name, connection: this.connections, kind: f.type, room: f.room, session: f.session, reason: f.reason, time: Date.now() });
    } else if (name === '$recovered') {
      this.#recovered(args[0]);
    } else if (name === 'message' || name === 'all') {
      const room = name === 'all' ? NAMESPACE : this.world.rooms.find(x => offset.startsWith(`.${letters(x)}`)), r = this.rooms[room];
      if (!r?.in) return; // not known to be in yet: what it is told of counts from the ack on
      r.last = place(offset, room);
      r.seen.push({ ...r.last, key: args[0].key, via: `#${this.connections}+${Date.now() - this.world.began}ms ${offset}` });
    }
    if (typeof offset === 'string' && this.rooms[NAMESPACE]?.in) this.rooms[NAMESPACE].last = place(offset, NAMESPACE);
  }

  #recovered(f) {
    const r = this.rooms[f.room], at = f.position && { offset: parts(f.position).offset, tag: parts(f.position).tag.slice(0, 4) };
    if (!r?.last) return;
    if (!f.recovered) r.gaps.push({ at: r.seen.length, from: r.last, to: at ?? r.last, reason: f.reason, named: true, live: true });
    else if (at.offset !== r.last.offset || at.tag !== r.last.tag) r.held.push({ at: r.seen.length, ...at });
    r.last = at ?? r.last;
  }

  async stop(how = 'leave') {
    this.stopped = true;
    await this.done;
    this.socket.io.reconnection(false);
    if (how === 'leave') this.socket.disconnect();
    else this.socket.io.engine?.transport?.ws?.terminate();
    this.socket.io.engine?.close();
  }
}

/** Emits to everybody through any gateway; what was not acknowledged may have come all the same, and what came is in the log. */
export class Emitter {
  constructor(world, rng) { Object.assign(this, { world, rng, next: 0 }); }
  run() { this.done = this.#loop(); }

  async #loop() {
    while (!this.world.ending) {
      const key = `all-${++this.next}`, body = JSON.stringify({ event: 'all', data: { key } });
      await Promise.race([this.world.anyGateway(this.rng).get('/api/v1/emit', { method: 'POST', headers: { authorization: 'Bearer xdk_chaos' }, body }).then(r => {
        if (r.status !== 200 && r.status < 500) this.world.note('refused', `emission: ${r.text}`);
      }, () => {}), sleep(2000)]);
      await sleep(this.rng.int(0, 60));
    }
  }

  /** All that is in the log. */
  async log() {
    const log = [];
    let field;
    for (const line of (await this.world.store.cli('XRANGE', `xd:{${NAMESPACE}}:log`, '-', '+')).split('\n')) {
      const id = /^(\d+)-0$/.exec(line);
      if (id) log.push({ offset: Number(id[1]) });
      else if (field === 'tag') log.at(-1).tag = line;
      else if (field === 'data') log.at(-1).key = JSON.parse(line).data.key;
      field = line;
    }
    return log;
  }
}
