// world.mjs: one run: a cluster, its clients, the faults of one seed, and the verdict
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '../lib/client.mjs';
import { Cluster } from '../lib/cluster.mjs';
import { parts } from '../lib/position.mjs';
import { sleep, until } from '../lib/wait.mjs';
import { check } from './check.mjs';
import { Reader, Writer } from './clients.mjs';
import { Clock, library } from './clock.mjs';
import { inject, kindsOf, needOf, schedule } from './faults.mjs';
import { Network } from './net.mjs';
import { random } from './random.mjs';
import { RedisCluster } from './rediscluster.mjs';
import { Emitter, NAMESPACE, SocketReader, flagsFor } from './sockets.mjs';
import { Sentinels } from './sentinel.mjs';
import { Places, Standalone } from './stores.mjs';

const LEASE_MS = 2000, GHOST_MS = 3000;
export const WORLDS = { standalone: Standalone, sentinel: Sentinels, cluster: RedisCluster };
const NOTHING = { lost: [], forks: [], told: 0, again: 0, acknowledged: 0, retried: 0, delivered: 0, resumes: 0, rejoins: 0, gaps: 0, resumeMedian: 0, resumeMax: 0 }; // a run that did not come to its end

/** Chosen faults instead of drawn ones, one after the other: [kind, at, ms, which of several]. */
export const plan = (...faults) => faults.map(([kind, at, ms, draw = 0]) => ({ kind, at, ms, draw, key: 'store0', target: 0 }));

export class World {
  constructor(seed, options) {
    Object.assign(this, { seed, seconds: 12, gateways: 2, readers: 6, sockets: 0, writers: 3, aof: true, verbose: false, world: 'standalone', durability: 'fast', ...options });
    this.kinds ??= this.plan?.map(f => f.kind) ?? kindsOf(this.world);
    // One seed in two: sessions outlive the run; the other: they end within it, and must be gone.
    this.window ??= seed % 2 ? 60 : 6;
    this.began = Date.now();
    this.rng = random(seed, 'clients');
    this.rooms = ['one', 'two'];
    this.notes = [];
    this.deaf = [];
    this.sessions = new Set();
    this.ghosts = new Set();
    this.without = [];
  }

  log(text) { if (this.verbose) console.log(`# ${String(Date.now() - this.began).padStart(6)} ${text}`); }
  note(kind, text) { this.notes.push({ kind, text }); this.log(`${kind}: ${text}`); }
  opened(sid) { this.sessions.add(sid); }
  anyGateway(rng) { return rng.pick(this.cluster.gateways); }

  ghost(c) {
    this.ghosts.add(c);
    setTimeout(() => { c.ws.terminate(); this.ghosts.delete(c); }, this.rng.int(200, GHOST_MS));
  }

  /** Some readers vanish, each in its own way. */
  vanish() {
    for (const r of this.actors.readers) if (r.settled && this.rng.chance(0.4)) r.plan = this.rng.pick(['cut', 'cut', 'ghost', 'leave']);
  }

  async run() {
    let report;
    try {
      await this.#build();
      report = await this.#play();
    } catch (e) {
      this.note('stuck', e.message);
      report = { ...this.#about(), ...NOTHING, faults: [], violations: [] };
    } finally {
      this.over = true;
      await this.#destroy();
    }
    report.violations.push(...this.notes);
    return report;
  }

  #about() { return { seed: this.seed, world: this.world, durability: this.durability, window: this.window, without: this.without }; }

  /** What cannot be done here is left out, and said. */
  async #probe() {
    const means = { net: async () => { this.network = await Network.create(); }, clock: async () => library() };
    for (const [need, have] of Object.entries(means)) {
      const wanted = this.kinds.filter(k => needOf(this.world, k) === need);
      if (!wanted.length) continue;
      try { await have(); } catch (e) {
        this.plan &&= this.plan.filter(f => !wanted.includes(f.kind));
        this.kinds = this.kinds.filter(k => !wanted.includes(k));
        this.without.push(`${wanted.join(', ')}: ${e.message}`);
      }
    }
    if (!this.kinds.length) throw new Error(`no fault can be made: ${this.without}`);
  }

  async #build() {
    await this.#probe();
    const places = new Places(this.network), machines = [];
    for (let i = 1; i <= this.gateways; i++) machines.push(await places.machine(`gw${i}`));
    this.cluster = await Cluster.start({ gateways: 0, redis: false, names: machines.map(m => m.host) });
    this.store = await WORLDS[this.world].start(this.cluster.dir, places, { aof: this.aof, durability: this.durability });
    const flags = ['--policy', `* retain-count=100000 retain-age=1h publish=anyone${this.durability === 'fast' ? '' : ` durability=${this.durability}`}`, '--resume-window', `${this.window}s`, '--message-rate', '1000', '--lease', `${LEASE_MS}ms`,
      '--redis-timeout', '1s', '--drain-time', '2s', '--max-queue-bytes', '4m', ...(this.sockets ? flagsFor(this.cluster.dir) : []), ...(this.flags ?? [])];
    await Promise.all(machines.map(async ({ host, exec }, i) => {
      const name = `gw${i + 1}`, clock = this.kinds.includes('jump-clock') ? new Clock(this.cluster.dir, name) : { exec: [] };
      const g = await this.cluster.add(name, { flags, insecure: this.insecure ?? true, demo: 'off', broker: ['--broker', this.store.url], machine: { host, exec: [...exec, ...clock.exec] } });
      Object.assign(g, { clock, place: machines[i] });
    }));
    this.cluster.gateways.sort((a, b) => a.name.localeCompare(b.name));
  }

  async #destroy() {
    for (const g of this.cluster?.gateways ?? []) g.process.signal('SIGCONT');
    this.store?.wake();
    await this.network?.heal();
    await this.cluster?.stop().catch(e => this.note('process', e.message));
    await this.store?.stop();
    await this.network?.destroy();
  }

  async #play() {
    const list = this.plan ?? schedule(this.seed, { world: this.world, seconds: this.seconds, gateways: this.gateways, lease: LEASE_MS, kinds: this.kinds });
    // Those with Socket.IO go first in the end, so that others see them leave.
    const readers = [...Array.from({ length: this.sockets }, (_, i) => new SocketReader(this, `s${i}`, random(this.seed, `s${i}`))),
      ...Array.from({ length: this.readers }, (_, i) => new Reader(this, `r${i}`, random(this.seed, `r${i}`), { patient: i % 2 === 1 }))];
    const emitter = this.sockets ? new Emitter(this, random(this.seed, 'emitter')) : null;
    const writers = Array.from({ length: this.writers }, (_, i) => new Writer(this, `w${i}`, random(this.seed, `w${i}`)));
    this.actors = { readers, writers };
    for (const r of readers) r.run();
    await until(() => readers.every(r => r.settled), { what: 'the readers to be in', ms: 15000 });
    for (const w of writers) w.run();
    emitter?.run();

    this.troubled = true;
    this.done = await inject(this, list);
    await sleep(500);
    this.troubled = false;
    this.ending = true;
    await this.#soon(Promise.all([...writers, ...(emitter ? [emitter] : [])].map(w => w.done)), 30000, () => 'a publish is never acknowledged');
    this.over = true;
    for (const w of writers) await w.close();
    const logs = { ...await this.#logs(), ...(emitter && { [NAMESPACE]: await emitter.log() }) }, heads = Object.fromEntries(Object.entries(logs).map(([room, log]) => [room, log.length]));
    await until(() => readers.every(r => r.caughtUp(heads)), { what: 'the readers to have caught up', ms: 30000 })
      .catch(() => { for (const r of readers.filter(x => !x.caughtUp(heads))) this.note('stuck', `${r.name} is not at ${JSON.stringify(heads)} but at ${JSON.stringify(r.rooms, (k, v) => (['seen', 'gaps'].includes(k) ? v.length : v))}, settled=${r.settled}, last error: ${r.lastError}`); });
    await this.#presence();
    await this.#departures();

    const record = {
      acks: writers.flatMap(w => w.acks), logs,
      readers: readers.map(r => ({ name: r.name, rooms: r.rooms, short: r.short })), notices: readers.flatMap(r => r.notices), deaf: this.deaf, promise: this.store.promise,
    };
    if (this.dump) writeFileSync(join(this.dump, `chaos-${this.seed}.json`), JSON.stringify(record));
    const sum = f => readers.reduce((n, r) => n + f(r), 0), resumeMs = readers.flatMap(r => r.resumeMs).sort((a, b) => a - b);
    return {
      ...this.#about(), acknowledged: record.acks.length, retried: writers.reduce((n, w) => n + w.retries, 0),
      delivered: sum(r => Object.values(r.rooms).reduce((n, x) => n + x.seen.length, 0)), resumes: sum(r => r.resumes), rejoins: sum(r => r.joins),
      gaps: sum(r => Object.values(r.rooms).reduce((n, x) => n + x.gaps.length, 0)),
      resumeMedian: resumeMs[resumeMs.length >> 1] ?? 0, resumeMax: resumeMs.at(-1) ?? 0, faults: this.done, ...check(record),
    };
  }

  async #soon(promise, ms, what) {
    let timer;
    await Promise.race([promise, new Promise(yes => { timer = setTimeout(() => { this.note('stuck', what()); yes(); }, ms); })]);
    clearTimeout(timer);
  }

  /** The history of each room, page by page, as a newcomer gets it. */
  async #logs() {
    const c = await Client.open(this.cluster.gateways[0].url, { id: 'auditor', ca: this.cluster.ca }), logs = {};
    for (const room of this.rooms) {
      logs[room] = [];
      for (let after = 0, more = true; more;) {
        ({ more } = await c.call({ type: 'history', room, after, limit: 1000 }));
        const page = c.take('message').map(m => ({ ...parts(m.position), key: m.data.key }));
        if (!page.length) break;
        logs[room].push(...page);
        after = page.at(-1).offset;
      }
    }
    await c.close();
    return logs;
  }

  /** Every difference between who is there and who is said to be there. */
  async #differences() {
    const live = new Set(this.actors.readers.filter(r => !r.stopped).map(r => r.session)), found = [], { store } = this;
    const judge = (where, sid, suspended) => {
      if (live.has(sid)) { if (suspended) found.push(`${where}: ${sid} is connected but shown as suspended`); return; }
      if (suspended && this.window === 60 && this.sessions.has(sid)) return; // parked: it may still come back
      found.push(`${where}: ${sid} is not there${suspended ? ' (suspended)' : ''}`);
    };
    for (const room of this.rooms) {
      for (const g of this.cluster.gateways) {
        const { json } = await g.get(`/api/v1/rooms/${room}?limit=1000`), there = new Set(json.members.map(m => m.session));
        for (const m of json.members) judge(`${g.name} ${room}`, m.session, m.state === 'suspended');
        for (const sid of live) if (!there.has(sid)) found.push(`${g.name} ${room}: ${sid} is missing`);
        if (json.total !== json.members.length) found.push(`${g.name} ${room}: total ${json.total}, ${json.members.length} members`);
      }
    }
    const stored = (await store.keys('xd:session:*')).map(k => /\{(.*)\}/.exec(k)[1]);
    for (const sid of stored) {
      if (live.has(sid)) continue;
      // Parked: it may still come back; also one whose welcome never arrived, because the node that had it died or was cut off.
      const state = await store.cli('HGET', `xd:session:{${sid}}`, 'state');
      if (state && !(this.window === 60 && state === 'parked')) found.push(`Redis: the session ${sid} is still stored, as ${state}${this.sessions.has(sid) ? '' : ', and was never welcomed'}`);
    }
    for (const sid of live) if (!stored.includes(sid)) found.push(`Redis: the session ${sid} is not stored`);
    const nodes = await store.cli('ZCARD', 'xd:nodes');
    if (Number(nodes) !== this.gateways) found.push(`Redis: ${nodes} nodes`);
    return found;
  }

  async #presence() {
    const ms = (this.window === 60 ? 0 : this.window * 1000) + 4 * LEASE_MS + 6000;
    let found = [];
    await until(async () => { found = await this.#differences(); return !found.length; }, { what: 'presence', ms, every: 250 })
      .catch(e => { for (const text of found.length ? found : [e.message]) this.note('presence', `after ${ms} ms: ${text}`); });
  }

  /** In quiet times every end is told to everybody who stays, once. */
  async #departures() {
    const { readers } = this.actors, settled = readers.filter(r => r.settled);
    if (settled.length < readers.length) { this.note('stuck', 'not every reader is connected: the departures could not be judged'); return; }
    const half = readers.length >> 1, leaving = readers.slice(0, half), staying = readers.slice(half);
    for (const r of staying) r.mark = r.notices.length;
    const cut = this.window === 60 ? 'leave' : 'cut';
    await Promise.all(leaving.map((r, i) => r.stop(i % 2 ? cut : 'leave')));
    const exits = (r, sid, room) => r.notices.slice(r.mark).filter(n => n.kind === 'exit' && n.session === sid && n.room === room).length;
    const wrong = () => staying.flatMap(r => leaving.flatMap(l => this.rooms.filter(room => exits(r, l.session, room) !== 1).map(room => `${r.name} ${room}: ${exits(r, l.session, room)} exits of ${l.session} (${l.name})`)));
    await until(() => !wrong().length, { what: 'the exits', ms: (this.window === 60 ? 0 : this.window * 1000) + 3 * LEASE_MS + 3000 }).catch(() => {});
    await sleep(1000);
    for (const text of wrong()) this.note('exit', text);
    for (const text of await this.#differences()) this.note('presence', `after the departures: ${text}`);
    await Promise.all(staying.map(r => r.stop('leave')));
  }
}

const VERDICTS = [['acknowledged and missing', 'lost'], ['never seen', 'unseen'], ['duplicates', 'duplicate'], ['out of order', 'order'], ['forks not told', 'untold'],
  ['recovered:false without cause', 'unjustified'], ['presence', 'presence', 'membership', 'exit'], ['others', 'refused', 'stuck', 'process']];

/** The verdict: how often each promise was broken. */
export function verdict(r) {
  const count = kinds => r.violations.filter(v => kinds.includes(v.kind)).length;
  return [...VERDICTS.map(([what, ...kinds]) => `${what} ${count(kinds)}`), `forks ${r.forks.length}, told ${r.told} times, appended again ${r.again}`, ...(r.lost.length ? [`lost by the store ${r.lost.length}`] : [])].join(' · ');
}

export function line(r) {
  const faults = {};
  for (const f of r.faults) faults[f.kind] = (faults[f.kind] ?? 0) + 1;
  const made = Object.entries(faults).map(([kind, n]) => `${kind}:${n}`).join(' ');
  return `seed ${r.seed} ${r.world}${r.durability === 'fast' ? '' : ` ${r.durability}`}: ${r.violations.length ? `${r.violations.length} VIOLATIONS` : 'ok'}: ${r.acknowledged} acknowledged (${r.retried} retries), ${r.delivered} delivered, `
    + `${r.resumes} resumes (median ${r.resumeMedian.toFixed(0)} ms, max ${r.resumeMax.toFixed(0)} ms), ${r.rejoins} joins with a position, ${r.gaps} gaps told, ${r.faults.length} faults (${made})`
    + `${r.without.map(w => `\n  WITHOUT ${w}`).join('')}\n  ${verdict(r)}`;
}
