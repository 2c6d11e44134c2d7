// rolling.test.mjs: every gateway is restarted, one after the other, under 500 clients: nothing is lost, and they do not all come back at once
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { Cluster } from './lib/cluster.mjs';
import { sleep, until, within } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

const CLIENTS = 500, ROOMS = 10, DRAIN_S = 4, BUCKET_MS = 100;
const SPREAD_MS = DRAIN_S * 1000 / 2; // docs/operations.md: goodbyes take half of --drain-time

/** What a careful client does: obeys goodbye, resumes wherever somebody answers, and checks that no message is missing or comes twice. */
class Traveller {
  constructor(gateways, at, room, name) {
    Object.assign(this, { gateways, at, room, name, seen: [], problems: [], arrivals: [], goodbyes: [], pending: new Map(), seq: 0 });
  }

  /** Resolves when it is in its room. */
  start() { return new Promise(yes => { this.in = yes; this.#connect(); }); }

  #connect() {
    const ws = this.ws = new WebSocket(`${this.gateways[this.at].url}/ws/${this.name}`, ['xindao.v1.json'], { perMessageDeflate: false });
    this.live = false;
    this.after = 50;
    ws.on('message', data => this.#take(JSON.parse(data.toString())));
    ws.on('error', () => {});
    ws.on('close', () => {
      this.live = false;
      for (const p of this.pending.values()) p.no(new Error('closed'));
      this.pending.clear();
      if (this.stopped) return;
      this.at = (this.at + 1) % this.gateways.length;
      setTimeout(() => this.#connect(), this.after);
    });
  }

  #take(f) {
    if (f.type === 'welcome') this.#welcome(f);
    else if (f.type === 'message') this.#message(f);
    else if (f.type === 'goodbye') { this.goodbyes.push(performance.now()); this.after = f.reconnect_after; }
    else if (f.type === 'recovered') { if (!f.recovered) this.problems.push(`not recovered: ${f.reason}`); this.#arrived(f); }
    else if (f.id === 'join') this.#arrived(f);
    else if (f.id === 'resume') this.problems.push(`resume: ${f.code}`);
    else if (f.type === 'ack' || f.type === 'error') this.#answered(f);
  }

  #welcome(f) {
    if (f.resumed) return;
    if (!this.session) {
      this.session = f.session;
      this.token = f.token;
      this.#send({ type: 'join', id: 'join', room: this.room });
    } else {
      this.#send({ type: 'resume', id: 'resume', session: this.session, token: this.token, positions: [{ room: this.room, position: this.last }] });
    }
  }

  #arrived(f) {
    this.last ??= f.position;
    this.arrivals.push(performance.now());
    this.live = true;
    this.in();
  }

  #message(f) {
    if (offsetOf(f.position) !== offsetOf(this.last) + 1) this.problems.push(`${offsetOf(f.position)} after ${offsetOf(this.last)}`);
    this.last = f.position;
    this.seen.push(f.data);
  }

  #answered(f) {
    const p = this.pending.get(f.id);
    this.pending.delete(f.id);
    if (f.type === 'ack') p?.yes(f); else p?.no(new Error(f.code));
  }

  #send(frame) { this.ws.send(JSON.stringify(frame)); }

  /** Until it is acknowledged: the key makes it one message, however often it is sent. */
  async publish(data) {
    for (;;) {
      const id = `p${++this.seq}`;
      try {
        if (!this.live) throw new Error('away');
        return await within(new Promise((yes, no) => {
          this.pending.set(id, { yes, no });
          this.#send({ type: 'publish', id, room: this.room, data, key: `${this.name}-${data}` });
        }), 10000, 'an ack');
      } catch { await sleep(50); }
    }
  }

  stop() { this.stopped = true; this.ws.close(1000); }
}

const most = times => { const n = new Map(); for (const t of times) { const b = Math.floor(t / BUCKET_MS); n.set(b, (n.get(b) ?? 0) + 1); } return Math.max(...n.values()); };

describe('a rolling restart', { timeout: 180000 }, () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, insecure: true, flags: ['--resume-window', '60s', '--drain-time', `${DRAIN_S}s`, '--policy', '* retain-count=1000 notices=off', '--max-connections-per-ip', '0'] });
  });
  after(() => cluster.stop());

  it('loses nothing, and nobody comes back before its turn', async t => {
    const all = Array.from({ length: CLIENTS }, (_, i) => new Traveller(cluster.gateways, i % 2, `r${Math.floor(i / 2) % ROOMS}`, `t${i}`));
    for (let i = 0; i < CLIENTS; i += 50) await within(Promise.all(all.slice(i, i + 50).map(c => c.start())), 60000, `clients ${i} to ${i + 49}`);
    let running = true;
    const acked = new Map();
    const writers = all.slice(0, 2 * ROOMS).map(async (c, i) => {
      for (let n = 0; running; n++, await sleep(200)) {
        const data = `${i}.${n}`, { position } = await c.publish(data);
        acked.set(data, { room: c.room, offset: offsetOf(position) });
      }
    });

    for (const gw of cluster.gateways) {
      const staying = all.filter(c => cluster.gateways[c.at] === gw), from = performance.now();
      assert.ok(staying.length >= CLIENTS / 2);
      gw.process.expected = true;
      gw.process.signal('SIGTERM');
      const end = await within(gw.process.exit, DRAIN_S * 1000 + 30000, 'the gateway to leave');
      assert.equal(end.code, 0);
      assert.ok(!/drain time is over/.test(gw.log), 'everybody had left by then');
      gw.boot();
      await gw.ready();
      await until(() => staying.every(c => c.live && c.arrivals.at(-1) > from), { what: 'everybody to be back', ms: 40000 });

      const byes = staying.flatMap(c => c.goodbyes.filter(x => x > from)), back = staying.map(c => c.arrivals.at(-1));
      const away = staying.map((c, i) => back[i] - c.goodbyes.at(-1)).sort((x, y) => x - y);
      assert.equal(byes.length, staying.length, 'one goodbye each');
      const pace = staying.length * BUCKET_MS / SPREAD_MS, spread = Math.max(...byes) - Math.min(...byes);
      t.diagnostic(`${gw.name}: ${staying.length} goodbyes in ${Math.round(spread)} ms; per ${BUCKET_MS} ms ${pace} by plan, at most ${most(byes)} goodbyes and ${most(back)} returns; away for ${Math.round(away[away.length >> 1])} ms (median), ${Math.round(away.at(-1))} ms (longest)`);
      assert.ok(spread > SPREAD_MS * 0.75 && spread < SPREAD_MS * 2, `goodbyes took ${spread} ms`);
      assert.ok(most(back) <= staying.length / 3, `${most(back)} came back within ${BUCKET_MS} ms; all at once would be ${staying.length}`);
    }

    running = false;
    await Promise.all(writers);
    const heads = new Map();
    for (const { room, offset } of acked.values()) heads.set(room, Math.max(heads.get(room) ?? 0, offset));
    await until(() => all.every(c => offsetOf(c.last) >= heads.get(c.room)), { what: 'everybody to have heard everything', ms: 40000 });
    for (const c of all) assert.deepEqual(c.problems, [], c.name);
    for (let r = 0; r < ROOMS; r++) {
      const room = `r${r}`, members = all.filter(c => c.room === room), told = members[0].seen;
      assert.equal(new Set(told).size, told.length, 'nothing was published twice');
      for (const c of members) assert.deepEqual(c.seen, told.slice(-c.seen.length), `${c.name} heard what everybody heard`);
      assert.deepEqual([...acked].filter(([, a]) => a.room === room).map(([data]) => data).filter(data => !told.includes(data)), [], 'acknowledged and missing');
      const state = (await cluster.gateways[1].get(`/api/v1/rooms/${room}?limit=1000`)).json;
      assert.deepEqual([state.total, state.members.filter(m => m.state !== 'active').length], [members.length, 0]);
    }
    t.diagnostic(`${acked.size} messages, ${all.reduce((n, c) => n + c.seen.length, 0)} deliveries`);
    assert.ok(acked.size >= 100);
    for (const c of all) c.stop();
  });
});
