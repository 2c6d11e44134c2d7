// wafer.mjs: the two sides of a Wafer application in tests: the group chat's business server, on the SDK of npm, and its clients
import https from 'node:https';
import http from 'node:http';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';
import { MiniProgram } from './wx.mjs';
import { PATIENCE_MS, sleep, until, within } from './wait.mjs';

const require = createRequire(import.meta.url);
export const KEY = 'a-tunnel-key-of-tests', HOST = 'chat.example';
export const md5 = text => createHash('md5').update(text).digest('hex');
export const sha1 = text => createHash('sha1').update(text).digest('hex');

/** The chat of Wafer's own demo: who enters is told to all, what one says goes to all, whoever is said to be gone is forgotten. */
export class Chat {
  /** tunnelServer: the base URL of the tunnel service; cert, key, ca: of the cluster; without them it is plain http. */
  static async start({ tunnelServer, ca, cert, key }) {
    const c = new Chat();
    Object.assign(c, { ca, members: [], posts: [], closed: [], failing: 0, problems: [], pushed: Promise.resolve() });
    const serve = (req, res) => c.#serve(req, res).catch(e => { c.problems.push(e); res.destroy(); });
    c.server = cert ? https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, serve) : http.createServer(serve);
    await new Promise(yes => c.server.listen(0, '127.0.0.1', yes));
    c.url = `${cert ? 'https' : 'http'}://localhost:${c.server.address().port}/tunnel`;
    if (ca) https.globalAgent.options.ca = ca; // what the SDK's requests trust
    c.sdk = require('qcloud-weapp-server-sdk');
    c.sdk.config({ ServerHost: HOST, AuthServerUrl: 'http://127.0.0.1', TunnelServerUrl: tunnelServer, TunnelSignatureKey: KEY, NetworkTimeout: 10000 });
    return c;
  }

  async #serve(req, res) {
    const parts = [];
    for await (const part of req) parts.push(part);
    req.body = Buffer.concat(parts).toString();
    if (req.method === 'POST') {
      this.posts.push({ id: req.headers['xindao-id'], ...JSON.parse(JSON.parse(req.body).data) });
      if (this.failing > 0) { this.failing--; res.writeHead(500).end(); return; }
    }
    const service = this.sdk.TunnelService.create(req, res);
    service._receiveUrl = this.url; // the SDK would name no port
    service.handle({
      onConnect: id => { if (this.members.includes(id) || this.closed.includes(id)) return; // told again after a node's death
        this.members.push(id); this.broadcast('people', { total: this.members.length, enter: id }); },
      onMessage: (id, type, content) => {
        if (type === 'speak') this.broadcast('speak', { who: id, what: content });
        else this.sdk.TunnelService.closeTunnel(id);
      },
      onClose: id => { this.closed.push(id); this.#forget([id]); },
    });
  }

  #forget(ids) {
    const before = this.members.length;
    this.members = this.members.filter(id => !ids.includes(id));
    if (this.members.length !== before) this.broadcast('people', { total: this.members.length, leave: ids });
  }

  /** One push after the other: requests on their way at the same time would arrive in whatever order. */
  broadcast(type, content) {
    this.pushed = this.pushed.then(() => this.#push(type, content));
    return this.pushed;
  }

  /** As the SDK has it, but that a request which broke with its connection is made again, for that is what a gateway's death looks like from here. */
  #push(type, content, tries = 3) {
    return this.sdk.TunnelService.broadcast([...this.members], type, content).then(r => {
      if (r.data.invalidTunnelIds.length) this.#forget(r.data.invalidTunnelIds);
      return r;
    }, async e => {
      if (!/socket hang up|ECONNRESET|ECONNREFUSED/.test(e.message) || tries === 0) { this.problems.push(e); return undefined; }
      await sleep(50);
      return this.#push(type, content, tries - 1);
    });
  }

  async stop() { this.server.closeAllConnections?.(); await new Promise(yes => this.server.close(yes)); }
}

/**
 * A member of a room whose connection is a tunnel, on the bare wire, and its business server: that puts the tunnel into the room, and publishes there what the client says. A packet is a JSON object: bytes go
 * both ways in base64, as {"content":"<base64>","binary":true}; towards the client the gateway does that, the other way it is what these two have agreed on.
 */
export class Speaker {
  /** print: what it keeps of data that it has heard, in `seen`. */
  constructor({ port, gateway, api, room, print }) {
    Object.assign(this, { port, gateway, api, room, print, seen: [], waiting: new Map(), problems: [], agent: new https.Agent({ keepAlive: true, ca: gateway.cluster.ca }) });
    this.server = http.createServer((req, res) => this.#serve(req).then(() => res.end('{"code":0}'), e => { this.problems.push(e.message); res.writeHead(500).end(); }));
  }

  /** Until the tunnel is in the room. */
  async start() {
    await new Promise(yes => this.server.listen(this.port, '127.0.0.1', yes));
    const data = JSON.stringify({ receiveUrl: `http://127.0.0.1:${this.port}/tunnel` }), joined = new Promise(yes => { this.joined = yes; });
    const a = JSON.parse(await this.#ask('POST', '/get/wsurl', { data, tcId: md5(HOST), signature: sha1(data + KEY) }));
    if (a.code !== 0) throw new Error(a.message);
    this.ws = new WebSocket(this.gateway.url + new URL(JSON.parse(a.data).connectUrl).pathname, { ca: this.gateway.cluster.ca });
    this.ws.on('message', text => this.#hear(text.toString()));
    this.ws.on('error', () => {});
    this.ws.on('close', (code, why) => { if (!this.stopped) this.problems.push(`closed: ${code} ${why}`); });
    await within(joined, PATIENCE_MS, () => `the tunnel to be in the room; ${this.problems}`);
  }

  /** What the business server asks of the gateway. */
  #ask(method, path, body) {
    return new Promise((yes, no) => {
      const req = https.request({ host: '127.0.0.1', port: this.gateway.port, path, method, agent: this.agent, headers: { Authorization: `Bearer ${this.api}`, 'Content-Type': 'application/json' } }, async res => {
        let text = '';
        for await (const part of res) text += part;
        if (res.statusCode === 200) yes(text); else no(new Error(`${path}: ${res.statusCode} ${text}`));
      });
      req.on('error', no);
      req.end(body && JSON.stringify(body));
    });
  }

  /** A callback. */
  async #serve(req) {
    let text = '';
    for await (const part of req) text += part;
    const { type, tunnelId, content } = JSON.parse(JSON.parse(text).data);
    if (type === 'connect') {
      await this.#ask('PUT', `/api/v1/sessions/${tunnelId}/rooms/${this.room}`);
      this.joined();
    } else if (type === 'message') {
      const m = JSON.parse(content);
      await this.#ask('POST', '/api/v1/publish', { room: this.room, event: m.type, ...(m.binary ? { data_base64: m.content } : { data: m.content }), key: req.headers['xindao-id'] });
    }
  }

  #hear(text) {
    if (!text.startsWith('message:')) return;
    const m = JSON.parse(text.slice(8)), what = this.print(m.binary ? Buffer.from(m.content, 'base64') : m.content);
    if (m.type !== 'm') this.problems.push(text);
    this.seen.push(what);
    this.waiting.get(what)?.();
    this.waiting.delete(what);
  }

  /** Says it, and waits until the room has it. */
  say(data) {
    const heard = new Promise(yes => this.waiting.set(this.print(data), yes));
    this.ws.send(`message:${JSON.stringify({ type: 'm', ...(Buffer.isBuffer(data) ? { content: data.toString('base64'), binary: true } : { content: data }) })}`);
    return heard;
  }

  async stop() {
    this.stopped = true;
    this.ws?.terminate();
    this.agent.destroy();
    this.server.closeAllConnections();
    await new Promise(yes => this.server.close(yes));
  }
}

/** One user of it, with an SDK of npm as his mini-program runs it. */
export class Talker {
  constructor({ sdk = 'wafer-client-sdk', ca, url, data2 = false }) {
    this.phone = new MiniProgram({ ca });
    this.events = [];
    this.heard = [];
    this.people = [];
    // wafer2 wants {data: {connectUrl}} of its business server.
    if (data2) {
      const { wx } = this.phone;
      this.phone.more = { request: o => wx.request({ ...o, success: r => o.success({ ...r, data: { data: { connectUrl: r.data.url } } }) }) };
    }
    const { Tunnel } = this.phone.require(sdk);
    this.tunnel = new Tunnel(url);
    for (const what of ['connect', 'close', 'reconnecting', 'reconnect', 'error']) this.tunnel.on(what, e => this.events.push(what === 'error' ? `error ${JSON.stringify(e)}` : what));
    this.tunnel.on('speak', m => this.heard.push(m.what));
    this.tunnel.on('people', m => this.people.push(m.total));
  }

  async open() {
    this.tunnel.open();
    await until(() => this.events.includes('connect'), { what: () => `the tunnel to open: ${this.events}` });
    return this;
  }

  say(what) { this.tunnel.emit('speak', what); }
  hears(what) { return until(() => this.heard.includes(what), { what: () => `"${what}" to be heard; heard: ${this.heard}` }); }
  sees(total) { return until(() => this.people.at(-1) === total, { what: () => `${total} people to be seen; seen: ${this.people}` }); }
}
