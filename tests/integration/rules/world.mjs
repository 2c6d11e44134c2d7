// world.mjs: where a rule is played: gateways and official servers side by side that answer alike, and what a case may do there
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Server } from 'socket.io';
import { Backend } from '../lib/backend.mjs';
import { Cluster, Redis } from '../lib/cluster.mjs';
import { Session, Socket, ask1 } from '../lib/eio.mjs';
import { roundRobin } from '../lib/tcplink.mjs';
import { sleep } from '../lib/wait.mjs';

export const PAGE = 'http://page.example';

const QUICK = ['--socketio-ping-interval', '400ms', '--socketio-ping-timeout', '300ms', '--socketio-connect-timeout', '600ms'], BRISK = { pingInterval: 400, pingTimeout: 300, connectTimeout: 600 };

/** The worlds there are: how many of each play side by side, with which options on either side. */
const WORLDS = {
  calm: { lanes: 4, flags: [], options: {} },
  quick: { lanes: 3, flags: QUICK, options: BRISK },
  'websocket only': { lanes: 1, flags: ['--socketio-transports', 'websocket'], options: { transports: ['websocket'] } },
  'polling only': { lanes: 1, flags: ['--socketio-transports', 'polling'], options: { transports: ['polling'] } },
  'EIO=4 only': { lanes: 1, flags: ['--socketio-eio3', 'off'], options: { allowEIO3: false } },
  recovery: { lanes: 3, flags: ['--socketio-recovery', 'on', '--resume-window', '2s'], options: { connectionStateRecovery: { maxDisconnectionDuration: 2000 } } },
  'quick recovery': { lanes: 1, flags: ['--socketio-recovery', 'on', '--resume-window', '60s', ...QUICK], options: { connectionStateRecovery: {}, ...BRISK } },
  'any node': { lanes: 2, flags: [], redis: true, proxied: true }, // no official server: cases of `calm` that poll are played again
  crash: { lanes: 1, flags: ['--socketio-recovery', 'on', '--resume-window', '60s', '--lease', '2s', '--redis-timeout', '1s'], options: {}, redis: true },
};
const FLAGS = ['--socketio-path', '/socket.io/', '--socketio-path', '/engine.io/', '--socketio-namespace', '/admin', '--socketio-namespace', '/closed', '--socketio-namespace', '/dyn-*',
  '--socketio-event', 'join do=join', '--socketio-event', 'ack* do=backend', '--socketio-event', '* do=relay to=namespace',
  '--max-message-size', '1000000', '--max-queue-bytes', '4m', '--origin', PAGE];
const OPTIONS = {
  allowEIO3: true, maxHttpBufferSize: 1000000, serveClient: false, cors: { origin: PAGE, credentials: true },
  allowRequest: (req, done) => done(null, (req.headers.origin ?? PAGE) === PAGE),
};
const refused = Object.assign(new Error('not you'), { data: { code: 'bad_request' } });

/** What the official server does with an event is what our rules say: it says it again, answers it, joins a room. */
function echo(s) {
  s.onAny((...args) => {
    const reply = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    if (args[0] === undefined) return; // an event without a payload
    if (args[0] === 'join') s.join(args[1]);
    if (reply) reply(...args.slice(1));
    else if (args[0] !== 'join') s.emit(...args);
  });
}

class Theirs {
  constructor(options) { this.options = options; }
  async start() {
    this.http = createServer((_, res) => { res.writeHead(404).end(); });
    this.bans = new Set();
    this.io = new Server(this.http, { ...OPTIONS, ...this.options });
    this.io.engine.on('connection', s => { s.transport.closeTimeout = 100; }); // it would wait 30 s for a last GET
    this.io.use((s, next) => next(this.bans.has(s.handshake.auth.user) ? new Error('banned') : undefined));
    for (const nsp of ['/', '/admin', '/closed', /^\/dyn-.+$/]) this.io.of(nsp).on('connection', echo);
    this.io.of('/closed').use((s, next) => next(typeof s.handshake.auth.user === 'number' ? refused : undefined));
    await new Promise(yes => { this.http.listen(0, '127.0.0.1', yes); });
    this.port = this.http.address().port;
  }
  emit(nsp, event, args, { volatile = false, to } = {}) {
    const of = to === undefined ? this.io.of(nsp) : this.io.of(nsp).to(to);
    (volatile ? of.volatile : of).emit(event, ...args);
  }
  publish(room, event, data) { this.io.to(room).emit(event, data); }
  ask(nsp, event, args) { return new Promise(yes => { this.io.of(nsp).timeout(3000).emit(event, ...args, (_, answers) => yes(answers[0])); }); }
  disconnect(nsp) { this.io.of(nsp).disconnectSockets(); }
  ban(user) { this.bans.add(user); }
  async stop() { await this.io?.close(); }
}

class Ours {
  /** other: a node of the same cluster, if there is one; port: of what is in front of both. */
  constructor(gateway, other, port = gateway.port) { Object.assign(this, { gateway, other, port }); }
  async #api(path, body, method = 'POST') {
    const r = await this.gateway.get(`/api/v1${path}`, { method, headers: { authorization: 'Bearer xdk_rules' }, body: JSON.stringify(body) });
    if (r.status !== 200) throw new Error(`${path}: ${r.status} ${r.text}`);
    return r.json;
  }
  emit(namespace, event, args, { volatile = false, to } = {}) { return this.#api('/emit', { namespace, event, data: { $args: args }, volatile, ...(to !== undefined && { rooms: [to] }) }); }
  publish(room, event, data) { return this.#api('/publish', { room, event, data }); }
  async ask(namespace, event, args) {
    const { acks } = await this.#api('/emit', { namespace, event, data: { $args: args }, ack: true, timeout: 3000 }), data = acks[0]?.data;
    return data?.$args?.[0] ?? data ?? acks[0]?.data_base64;
  }
  disconnect(namespace) { return this.#api('/sessions/disconnect', { namespace }); }
  ban(user) { return this.#api(`/users/${user}/ban`, { reason: 'spam' }, 'PUT'); }
}

/** What one playing of a case may do; what it has opened is closed behind it. */
export class World {
  constructor(server, { ours, want }) { Object.assign(this, { server, port: server.port, ours, want, sockets: [], sessions: [] }); }
  http(query, o) { this.polls = true; return ask1(this.port, query, o); }
  poll(eio, extra = '', o) { this.polls = true; const s = new Session(this.port, eio, extra, extra.startsWith('&j=') ? { referer: `${PAGE}/chat` } : {}); this.sessions.push(s); return s.open(o); }
  ws(eio, o) { const s = new Socket(this.port, eio, o); this.sockets.push(s); return s; }
  emit(...args) { return this.server.emit(...args); }
  publish(...args) { return this.server.publish(...args); }
  ask(...args) { return this.server.ask(...args); }
  disconnect(...args) { return this.server.disconnect(...args); }
  ban(...args) { return this.server.ban(...args); }
  /** The node is killed; what may be done at another one. */
  async crash() { await this.server.gateway.kill(); return new World(this.server.other, this); }
  async close() {
    for (const s of this.sockets) { s.ws.terminate(); await s.closed; }
    await Promise.all(this.sessions.map(s => s.post(s.eio === 4 ? '1' : '1:1', { abort: 200 }).catch(() => {})));
    await sleep(20);
  }
}

/** Everything that plays: {name of the world: [{ours, theirs}]}. */
export class Stage {
  static async start() {
    const stage = new Stage();
    try {
      await stage.#start();
    } catch (e) {
      await stage.stop().catch(() => {});
      throw e;
    }
    return stage;
  }

  async #start() {
    this.cluster = await Cluster.start({ gateways: 0, redis: false });
    const { dir } = this.cluster;
    this.backend = await Backend.start(dir, { answer: e => ({ json: { data: e.data_type === 'binary' ? { $args: [{ _placeholder: true, num: 0 }], $attachments: [e.data] } : e.data } }) });
    const keys = join(dir, 'keys.json');
    writeFileSync(keys, JSON.stringify({ keys: [{ name: 'rules', sha256: createHash('sha256').update('xdk_rules').digest('hex'), scopes: ['admin'] }] }));
    this.lanes = {};
    Object.assign(this, { theirs: [], stores: [], proxies: [] });
    await Promise.all(Object.entries(WORLDS).map(async ([name, { lanes, flags, options, redis, proxied }]) => {
      this.lanes[name] = await Promise.all(Array.from({ length: lanes }, async (_, i) => {
        const store = redis && await Redis.start(dir, { aof: false, name: `${name.replace(/\W/g, '-')}-${i}` }), theirs = options && new Theirs(options);
        const add = more => this.cluster.add(`${name.replace(/\W/g, '-')}-${i}${more}`, { insecure: true, flags: [...FLAGS, ...this.backend.flags, '--api-keys', keys, ...flags], broker: ['--broker', store?.url ?? 'memory'] });
        if (theirs) this.theirs.push(theirs);
        if (store) this.stores.push(store);
        const [gateway, other] = await Promise.all([add(''), redis && add('-too'), theirs?.start()]);
        const proxy = proxied && await roundRobin({ gateways: [gateway, other] });
        if (proxy) this.proxies.push(proxy);
        return { ours: new Ours(gateway, other && new Ours(other), proxy?.port), theirs };
      }));
    }));
  }
  async stop() {
    await Promise.all((this.theirs ?? []).map(t => t.stop()));
    for (const p of this.proxies ?? []) p.close();
    await this.backend?.stop();
    await this.cluster?.stop();
    await Promise.all((this.stores ?? []).map(s => s.stop()));
  }
}
