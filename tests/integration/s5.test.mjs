// s5.test.mjs: scenario S5, one global socket with a heartbeat of its own: <16 letters and digits>ping must be answered pong
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import WebSocket from 'ws';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';

/** The mini-program's socket, with its ten and five seconds scaled down. */
class GlobalSocket {
  constructor(urls, ca, { beat = 100, patience = 5000, again = 100, tries = 10 } = {}) {
    Object.assign(this, { urls, ca, beat, patience, again, tries, beats: 0, pongs: 0, pages: [], attempts: 0, opened: 0, lost: 0 });
    this.open();
  }
  open() {
    this.ws = new WebSocket(this.urls[this.attempts++ % this.urls.length], { ca: this.ca });
    this.ws.onopen = () => { this.opened++; this.tries = 10; this.timer = setInterval(() => this.ping(), this.beat); };
    this.ws.onmessage = e => {
      if (e.data === 'pong') { this.pongs++; clearTimeout(this.deadline); this.deadline = null; return; }
      this.pages.push(JSON.parse(e.data));   // anything else goes to the page on show, which expects JSON
    };
    this.ws.onerror = () => {};
    this.ws.onclose = () => {
      clearInterval(this.timer); clearTimeout(this.deadline); this.deadline = null;
      if (!this.done && this.tries-- > 0) setTimeout(() => this.open(), this.again);
    };
  }
  ping() {
    if (this.ws.readyState !== WebSocket.OPEN) return;
    const letters = randomBytes(12).toString('base64').replace(/[^A-Za-z0-9]/g, 'x');
    this.ws.send(`${letters}ping`);
    this.beats++;
    this.deadline ??= setTimeout(() => { this.lost++; this.ws.close(); }, this.patience);
  }
  stop() { this.done = true; this.ws.close(); clearInterval(this.timer); clearTimeout(this.deadline); }
}

describe('S5, one global socket with a custom heartbeat', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2 }); });
  after(() => cluster.stop());

  it('never mixes heartbeats up with data, even under load', async () => {
    const [gw, other] = cluster.gateways, room = unique(), before5 = await gw.metrics();
    const app = new GlobalSocket([`${gw.url}/ws/mini`], cluster.ca, { beat: 5 });
    await until(() => app.pages.some(m => m.type === 'welcome'), { what: 'the welcome' });
    app.ws.send(JSON.stringify({ type: 'join', room, id: 0 }));
    await until(() => app.pages.some(m => m.id === 0), { what: 'the room' });
    const talker = await other.client('talker');
    await talker.join(room);
    for (let i = 0; i < 500; i++) talker.send({ type: 'publish', room, data: i % 2 ? 'pong' : '0123456789abcdefping' });
    await until(() => app.pages.filter(m => m.type === 'message').length === 500 && app.beats >= 30, { what: 'all messages and 30 beats' });
    clearInterval(app.timer);
    await until(() => app.pongs === app.beats, { what: () => `a pong for each of ${app.beats} beats, got ${app.pongs}` });
    assert.deepEqual(app.pages.filter(m => m.type === 'error'), []);
    assert.equal(app.lost, 0);
    const now = await gw.metrics();
    assert.equal(now.sum('xindao_heartbeats_total') - before5.sum('xindao_heartbeats_total'), app.beats, 'each is counted as a heartbeat');
    assert.equal(now.sum('xindao_errors_total') - before5.sum('xindao_errors_total'), 0);
    app.stop();
    await talker.close();
  });

  it('finds its way to another gateway after an error', async () => {
    const victim = await cluster.add('victim', {});
    const app = new GlobalSocket([`${victim.url}/ws/mini`, `${cluster.gateways[1].url}/ws/mini`], cluster.ca);
    await until(() => app.pages.some(m => m.type === 'welcome'), { what: 'the welcome' });
    await victim.kill();
    await until(() => app.pages.filter(m => m.type === 'welcome').length === 2, { what: 'a second welcome' });
    const pongs = app.pongs;
    await until(() => app.pongs > pongs + 2, { what: 'heartbeats on the new socket' });
    assert.match(app.pages.filter(m => m.type === 'welcome')[1].node, /^gw2-/);
    app.stop();
  });
});
