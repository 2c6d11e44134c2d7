// clients.mjs: publishers that insist on being acknowledged, and readers that come back
import { Client, Refused } from '../lib/client.mjs';
import { parts, written } from '../lib/position.mjs';
import { sleep } from '../lib/wait.mjs';

const OPEN_MS = 4000, ANSWER_MS = 3000, SILENT_MS = 1000, RECOVER_MS = 8000, TICK_MS = 20;

/** A connection that has been welcomed; a half-made one is not left behind. */
async function connect(gateway, id) {
  const c = await Client.open(gateway.url, { id, ca: gateway.cluster.ca, handshakeTimeout: OPEN_MS, welcome: false });
  try {
    c.welcome = await c.next('welcome', OPEN_MS);
  } catch (e) {
    c.ws.terminate();
    throw e;
  }
  return c;
}

/** Publishes numbered messages, a few at once; each with a key of its own, again and again until it is acknowledged. */
export class Writer {
  constructor(world, name, rng, { lanes = 3, pause = 25 } = {}) { Object.assign(this, { world, name, rng, lanes, pause, next: 0, acks: [], retries: 0 }); }

  run() { this.done = Promise.all(Array.from({ length: this.lanes }, () => this.#lane())); }

  async #lane() {
    while (!this.world.ending) {
      const key = `${this.name}-${++this.next}`, room = this.rng.pick(this.world.rooms);
      await this.#insist(room, key);
      await sleep(this.rng.int(0, 2 * this.pause));
    }
  }

  async #insist(room, key) {
    const invoked = performance.now();
    for (let tries = 0; !this.world.over; tries++) {
      try {
        const c = await this.#client();
        const { position } = await c.publish(room, { key }, { key }, ANSWER_MS);
        this.acks.push({ key, room, ...parts(position), invoked, acked: performance.now() });
        this.retries += tries;
        return;
      } catch (e) {
        if (e instanceof Refused && !e.retry) this.world.note('refused', `${this.name}: publish of ${key}: ${e.message}`);
        else if (!(e instanceof Refused)) this.#drop();
        await sleep(this.rng.int(20, 200));
      }
    }
    this.world.note('stuck', `${this.name}: ${key} was never acknowledged`);
  }

  /** One connection for all lanes. */
  #client() {
    if (this.client && !this.client.end) return this.client;
    this.client = null;
    this.opening ??= connect(this.world.anyGateway(this.rng), this.name)
      .then(c => { this.client = c; this.world.opened(c.welcome.session); return c; })
      .finally(() => { this.opening = null; });
    return this.opening;
  }

  #drop() {
    this.client?.ws.terminate();
    this.client = null;
  }

  async close() { if (this.client && !this.client.end) await this.client.close().catch(() => this.#drop()); }
}

/** Is in all rooms, notes what it sees, and comes back whenever it is cut off: by resume, or by join with a position when the session is gone. */
export class Reader {
  /** patient: stays with a gateway that does not answer; otherwise it goes elsewhere after a few silent seconds. */
  constructor(world, name, rng, { patient = false } = {}) {
    Object.assign(this, { world, name, rng, patient, rooms: {}, member: new Set(), notices: [], connections: 0, resumes: 0, joins: 0, resumeMs: [] });
  }

  run() { this.done = this.#loop(); }

  async #loop() {
    while (!this.stopped) {
      try {
        await this.#enter();
        await this.#live();
      } catch (e) {
        this.#lose();
        this.lastError = e.message;
        await sleep(this.rng.int(20, 300));
      }
    }
  }

  /** Is it connected and has it seen everything up to these offsets? */
  caughtUp(heads) { return this.settled && !this.client?.end && Object.entries(heads).every(([room, offset]) => room.startsWith('$') || (this.rooms[room]?.last?.offset ?? -1) >= offset); }

  #lose() {
    this.settled = false;
    if (!this.client) return;
    this.#drain();
    this.client.ws.terminate();
    this.client = null;
  }

  async #enter() {
    this.settled = false;
    const c = this.client = await connect(this.world.anyGateway(this.rng), this.name);
    this.connections++;
    this.world.opened(c.welcome.session);
    this.recovered = new Set();
    if (!this.session || !await this.#resume(c)) {
      this.session = c.welcome.session;
      this.token = c.welcome.token;
      this.member.clear();
    }
    for (const room of this.world.rooms) if (!this.member.has(room)) await this.#join(c, room);
    this.settled = true;
  }

  /** What it says of a room: where it is, and from where on it has seen everything. */
  #place(room) {
    const { last, whole } = this.rooms[room];
    return { position: written(last), ...(whole && { start: written(whole) }) };
  }

  #positions() { return Object.entries(this.rooms).filter(([, r]) => r.last).map(([room, r]) => ({ room, ...r.last })); }

  /** False: the session is gone, or sessions are not parked here. */
  async #resume(c) {
    if (c.welcome.resume_window === 0) return false;
    const began = performance.now();
    this.named = new Map(this.#positions().map(p => [p.room, p]));
    try {
      await Promise.race([c.next(f => f.type === 'welcome' && f.resumed, 2 * ANSWER_MS),
        c.call({ type: 'resume', session: this.session, token: this.token, positions: [...this.named.values()].map(p => ({ room: p.room, ...this.#place(p.room) })) }, 2 * ANSWER_MS)]);
    } catch (e) {
      if (e instanceof Refused && ['not_found', 'unsupported'].includes(e.code)) return false;
      if (e instanceof Refused && !e.retry) this.world.note('refused', `${this.name}: resume of ${this.session}: ${e.message}`);
      throw e;
    }
    this.resumes++;
    await this.#hear(c, () => [...this.member].every(room => this.recovered.has(room)), () => {
      const without = [...this.member].filter(room => !this.recovered.has(room));
      this.world.note('membership', `${this.name}: ${this.session} was resumed on ${c.welcome.node}, but not in ${without} within ${RECOVER_MS} ms`);
    });
    this.resumeMs.push(performance.now() - began);
    await this.#hear(c, () => false, () => {}, this.member.size < this.world.rooms.length ? 500 : 0);
    for (const room of this.recovered) this.member.add(room);
    return true;
  }

  async #hear(c, enough, late, ms = RECOVER_MS) {
    for (const end = Date.now() + ms; ;) {
      this.#drain();
      if (enough()) return;
      if (c.end) throw new Error('closed while coming back');
      // A gateway or a store that is out of order right now may take its time.
      if (Date.now() > end) { if (!this.world.troubled) late(); return; }
      await sleep(TICK_MS);
    }
  }

  async #join(c, room) {
    const r = this.rooms[room] ??= { seen: [], gaps: [], held: [] };
    this.named = new Map(this.#positions().map(p => [p.room, p]));
    const ack = await c.call({ type: 'join', room, ...(r.last && this.#place(room)) }, 2 * ANSWER_MS);
    this.member.add(room);
    if (!r.last) { r.start = r.last = r.whole = parts(ack.position); return; }
    this.joins++;
    await this.#hear(c, () => this.recovered.has(room), () => this.world.note('membership', `${this.name}: joined ${room} with a position and heard no recovered within ${RECOVER_MS} ms`));
  }

  async #live() {
    const c = this.client;
    for (let silent = Date.now(); !c.end && !this.stopped; await sleep(TICK_MS)) {
      if (this.#drain()) silent = Date.now();
      if (this.plan) { this.#depart(this.plan); return; }
      if (this.patient || this.pinging || Date.now() - silent < SILENT_MS) continue;
      this.pinging = true;
      c.call({ type: 'ping' }, ANSWER_MS).then(() => { silent = Date.now(); }, () => { if (!c.end) c.ws.terminate(); }).finally(() => { this.pinging = false; });
    }
    this.settled = false;
    this.#drain();
    if (!this.stopped) this.client = null;
  }

  /** cut: the socket goes; ghost: it stays, but nobody is there any more; leave: properly. */
  #depart(how) {
    const c = this.client;
    this.plan = null;
    this.settled = false;
    this.client = null;
    if (how === 'ghost') {
      c.ws.pause();
      this.world.ghost(c);
    } else if (how === 'leave') {
      c.ws.close(1000);
      this.world.ghost(c); // it goes on reading only to see the close frame
      this.session = null;
    } else {
      c.ws.terminate();
    }
  }

  #drain() {
    const frames = this.client.inbox.splice(0);
    for (const f of frames) this.#take(f);
    return frames.length;
  }

  #take(f) {
    const r = this.rooms[f.room];
    if (f.type === 'message' && r) {
      r.last = parts(f.position);
      r.seen.push({ ...r.last, key: f.data.key, via: `${this.client.welcome.node}#${this.connections}+${Date.now() - this.world.began}ms` });
    } else if (f.type === 'recovered') {
      this.#recovered(f);
    } else if (['enter', 'exit', 'suspend'].includes(f.type)) {
      this.notices.push({ name: this.name, connection: this.connections, kind: f.type, room: f.room, session: f.session, reason: f.reason, time: Date.now() });
    } else if (f.type === 'error') {
      this.world.log(`${this.name}: ${f.code} ${f.message}`);
    }
  }

  #recovered(f) {
    const r = this.rooms[f.room] ??= { seen: [], gaps: [], held: [] }, named = this.named.get(f.room), at = f.position && parts(f.position);
    // The first one after coming back is the answer; any other tells of a fork.
    const answer = !this.settled && !this.recovered.has(f.room);
    if (answer) this.recovered.add(f.room);
    else if (!f.recovered && f.reason !== 'fork') this.world.note('membership', `${this.name}: told ${JSON.stringify(f)} without having asked`);
    if (!f.recovered) {
      if (r.last) r.gaps.push({ at: r.seen.length, from: r.last, to: at ?? r.last, reason: f.reason, named: named !== undefined, live: !answer });
      r.start ??= at;
      r.whole = at ?? r.whole;
    } else if (!answer) {
      r.held.push({ at: r.seen.length, ...at });
    } else if (!named || at.offset !== named.offset || at.tag !== named.tag) {
      this.world.note('membership', `${this.name}: recovered ${f.room} from ${f.position}, had named ${JSON.stringify(named)}`);
    }
    r.last = at ?? r.last;
  }

  /** Leaves for good, the clean way or by being cut. */
  async stop(how = 'leave') {
    this.stopped = true;
    await this.done;
    this.#drain();
    if (how === 'leave') await this.client.close().catch(() => {});
    else this.client.ws.terminate();
    this.client = null;
  }
}
