// s3.test.mjs: rock-paper-scissors at a path of its own behind HAProxy, with our example's backend: official clients, those for mini-programs, and one that somebody wrote by hand
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Process, ROOT } from './lib/cluster.mjs';
import { KEY } from './lib/backend.mjs';
import { io2, io4 } from './lib/sockets.mjs';
import { freePort, until } from './lib/wait.mjs';
import { MiniProgram, weapp } from './lib/wx.mjs';

const PATH = '/applet/ws/socket.io', API = 'xdk_integration_rps_0123456789abcdef', ROUND = 600, WAIT = 1200;

/** As people write them for mini-programs: Engine.IO 3, a WebSocket and nothing else, no parser, a probe that nobody needs. */
class Applet {
  constructor(wx, url) {
    Object.assign(this, { wx, url, handlers: {}, waiting: [], connected: false });
    wx.onSocketOpen(() => { this.write('2probe'); });
    wx.onSocketMessage(({ data }) => { this.read(data); });
    wx.onSocketClose(() => { this.ended(); });
    wx.onSocketError(() => { this.ended(); });
    wx.connectSocket({ url: `${url}/?EIO=3&transport=websocket` });
  }

  read(text) {
    if (text[0] === '0') {
      const { pingInterval } = JSON.parse(text.slice(1));
      this.heart = setInterval(() => this.write('2'), pingInterval);
    } else if (text === '3probe') {
      this.write('5');
    } else if (text.startsWith('40')) {
      this.connected = true;
      for (const t of this.waiting.splice(0)) this.write(t);
      this.tell('connect');
    } else if (text.startsWith('42')) {
      const [event, data] = JSON.parse(text.slice(2));
      this.tell(event, data);
    } else if (text.startsWith('41') || text === '1') {
      this.close();
    }
  }

  tell(event, data) { for (const f of this.handlers[event] ?? []) f(data); }
  write(data) { this.wx.sendSocketMessage({ data }); }
  on(event, f) { (this.handlers[event] ??= []).push(f); }

  emit(event, data) {
    const text = `42${JSON.stringify(data === undefined ? [event] : [event, data])}`;
    if (this.connected) this.write(text); else this.waiting.push(text);
  }

  ended() { clearInterval(this.heart); this.connected = false; }
  close() { this.ended(); this.wx.closeSocket(); }
}

describe('rock-paper-scissors', { timeout: 60000 }, () => {
  let cluster, backend, base;
  const people = [];
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const key = join(cluster.dir, 'backend.key'), api = join(cluster.dir, 'api.key'), keys = join(cluster.dir, 'keys.json'), [port, lb] = [await freePort(), await freePort()];
    writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
    writeFileSync(api, API);
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'rps', sha256: createHash('sha256').update(API).digest('hex'), scopes: ['publish'] }] }));
    const flags = ['--proxy-protocol', 'optional', '--backend-url', `http://127.0.0.1:${port}/`, '--backend-secret-file', key, '--api-keys', keys, '--socketio-event', '* do=backend', '--socketio-path', PATH];
    await Promise.all(['gw1', 'gw2'].map(name => cluster.add(name, { flags })));
    await cluster.startProxy(lb);
    base = `https://localhost:${lb}`;
    backend = new Process('backend', process.execPath, [join(ROOT, 'docs/examples/rps.mjs')],
      { env: { KEY_FILE: key, API_KEY_FILE: api, API: base, PORT: String(port), SEATS: '5', ROUND_MS: String(ROUND), WAIT_MS: String(WAIT), NODE_EXTRA_CA_CERTS: join(cluster.dir, 'ca.pem') } });
    await until(() => backend.log.includes('ready'), { what: () => `the backend\n${backend.tail()}` });
  });
  after(async () => {
    for (const p of people) p.socket.close();
    await backend?.terminate().catch(() => {});
    await cluster.stop();
  });

  /** One who says who he is; what he hears is kept by event. */
  function player(identity, socket) {
    const p = { identity, socket, hi: [], start: [], movement: [], result: [] };
    for (const event of ['hi', 'start', 'movement', 'result']) socket.on(event, data => p[event].push(JSON.parse(JSON.stringify(data)))); // arrays of a mini-program are another realm's
    socket.emit('hello', { identity, place: [121.47, 31.23] });
    people.push(p);
    return p;
  }
  const official = { path: PATH, forceNew: true };
  const score = (p, identity) => { const { choice, score, streak, points } = p.result.at(-1).scores.find(s => s.identity === identity); return [choice, score, streak, points]; };

  async function round(all, choices) {
    const before = all[0].result.length;
    for (const p of all) p.socket.emit('join');
    await until(() => all.every(p => p.start.length === before + 1), { what: () => `the start: ${all.map(p => p.start.length)}` });
    for (const [i, p] of all.entries()) if (choices[i]) p.socket.emit('choice', { choice: choices[i] });
    await until(() => all.every(p => p.result.length === before + 1), { what: () => `the result: ${all.map(p => p.result.length)}; ${backend.tail(3)}` });
  }

  it('five clients of five makes play two rounds', async () => {
    const { ca } = cluster, all = [
      player('4.x', io4(base, { ...official, ca })), player('2.x', io2(base, { ...official, ca })), player('by hand', new Applet(new MiniProgram({ ca }).wx, `${base.replace('https', 'wss')}${PATH}`)),
      player('weapp 2', weapp('weapp-2', ca)(base, { path: PATH, transports: ['websocket'], forceNew: true })), player('weapp 3', weapp('weapp-3', ca)(base, { path: PATH, transports: ['websocket'], forceNew: true })),
    ], hand = all[2];
    await until(() => all.every(p => p.hi.length === 1), { what: () => `everybody to be greeted: ${all.map(p => p.hi.length)}; ${backend.tail(3)}` });
    assert.equal(Math.max(...all.map(p => p.hi[0].near)), 5);
    await round(all, ['rock', 'rock', 'paper', 'scissors', null]);
    for (const p of all) {
      assert.deepEqual(p.start[0].players.map(x => x.identity).sort(), all.map(x => x.identity).sort());
      assert.equal(p.start[0].round, ROUND);
      assert.deepEqual(p.result, hand.result);
    }
    // rock: beaten by paper, beats scissors and the one that has not chosen; paper: beats both rocks and that one, beaten by scissors; scissors: the other way round.
    assert.deepEqual(all.map(p => score(hand, p.identity)), [['rock', 1, 1, 1], ['rock', 1, 1, 1], ['paper', 2, 1, 2], ['scissors', 0, 0, 0], [null, -4, 0, 0]]);
    all[0].socket.emit('face', { face: ':)' }); // between two rounds nobody sees it
    await round(all, ['rock', 'scissors', 'paper', 'rock', 'rock']);
    assert.deepEqual(score(hand, 'by hand'), ['paper', 2, 2, 4], 'twice in a row counts twice');
    assert.deepEqual(score(hand, '4.x'), ['rock', 0, 0, 0]);
    for (const p of all) assert.ok(p.movement.length === (p === all[4] ? 8 : 7) && p.movement.every(m => m.choice && m.player !== p.start[0].players.find(x => x.identity === p.identity).player), `${p.identity}: ${JSON.stringify(p.movement)}`);
  });

  it('who is alone plays with robots; who goes is not waited for', async () => {
    const [, , hand, ...rest] = people;
    for (const p of [people[0], people[1], ...rest]) p.socket.close();
    hand.socket.emit('join');
    await until(() => hand.start.length === 3, { what: 'robots to sit down' });
    assert.deepEqual(hand.start[2].players.map(p => p.identity), ['by hand', 'robot 1', 'robot 2', 'robot 3', 'robot 4']);
    hand.socket.emit('face', { face: ':)' });
    hand.socket.emit('choice', { choice: 'rock' });
    await until(() => hand.result.length === 3, { what: () => `the result; ${backend.tail(3)}` });
    assert.equal(score(hand, 'by hand')[0], 'rock');
    assert.equal(hand.result[2].scores.reduce((sum, s) => sum + s.score, 0), 0, 'what one wins others lose');
  });
});
