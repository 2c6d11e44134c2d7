// eio.mjs: Engine.IO by raw requests and raw frames: what no client of npm would send can be sent with it
import { request } from 'node:http';
import WebSocket from 'ws';
import { until, within } from './wait.mjs';

const FORM = 'application/x-www-form-urlencoded', TEXT = 'text/plain;charset=UTF-8';

/** One request to /socket.io/, on a connection of its own; `abort`: gives up after so many ms; body: an array comes piece by piece. */
export function ask1(port, query, { method = 'GET', body, headers = {}, abort, path = '/socket.io/', chunked = false } = {}) {
  const own = body === undefined ? {} : { 'content-type': TEXT, ...(!chunked && { 'content-length': Buffer.byteLength(body) }) };
  return new Promise((yes, no) => {
    const req = request({ host: '127.0.0.1', port, path: `${path}?${query}`, method, headers: { ...own, ...headers }, agent: false }, res => {
      const parts = [], whole = () => yes({ status: res.statusCode, type: res.headers['content-type'], headers: res.headers, raw: Buffer.concat(parts), text: Buffer.concat(parts).toString() });
      res.on('data', d => parts.push(d));
      res.on('end', whole);
      res.on('error', whole);
    });
    req.on('error', e => (abort === undefined ? no(e) : yes({ status: 'aborted', headers: {} })));
    if (abort !== undefined) setTimeout(() => req.destroy(), abort);
    if (!Array.isArray(body)) { req.end(body); return; }
    for (const [i, part] of body.entries()) setTimeout(() => (i === body.length - 1 ? req.end(part) : req.write(part)), 20 * i);
  });
}

/** A session by long-polling. */
export class Session {
  /** headers: of every request. */
  constructor(port, eio, extra = '', headers = {}) { Object.assign(this, { port, eio, extra, headers }); }
  async open(o) {
    this.first = await ask1(this.port, `EIO=${this.eio}&transport=polling${this.extra}`, { ...o, headers: { ...this.headers, ...o?.headers } });
    this.sid = /"sid":"([^"]+)"/.exec(this.first.text.replaceAll('\\"', '"'))?.[1];
    return this;
  }
  get query() { return `EIO=${this.eio}&transport=polling${this.extra}&sid=${this.sid}`; }
  get jsonp() { return this.extra.startsWith('&j='); }
  get(o) { return ask1(this.port, this.query, { ...o, headers: { ...this.headers, ...o?.headers } }); }
  post(body, o) {
    const form = this.jsonp ? { 'content-type': FORM } : {};
    return ask1(this.port, this.query, { method: 'POST', body: this.jsonp ? `d=${encodeURIComponent(body)}` : body, ...o, headers: { ...this.headers, ...form, ...o?.headers } });
  }
  /** The session with its namespace `/`, which clients 3.x have at once. */
  async connect() {
    if (this.eio === 4) { await this.post('40'); await this.get(); } else if (!/40"?\);$|40$/.test(this.first.text)) await this.get();
    return this;
  }
  /** What comes, heartbeats and connects aside, until there is something. */
  async next() {
    for (;;) {
      const r = await this.get();
      if (r.status !== 200) return `${r.status}`;
      const rest = this.eio === 4 ? r.text.split('\x1e').filter(p => p !== '2' && !p.startsWith('40')).join('\x1e') : r.text.replace(/^2:40/, '');
      if (this.eio === 4 && /(^|\x1e)2($|\x1e)/.test(r.text)) await this.post('3');
      if (rest !== '') return rest;
    }
  }
}

/** One raw WebSocket; what comes is kept, sids and the like aside. */
export class Socket {
  constructor(port, eio, { sid, extra = '', path = '/socket.io/', transport = 'websocket', headers } = {}) {
    this.eio = eio;
    this.heard = [];
    this.exact = [];
    this.at = [];
    this.began = performance.now();
    this.ws = new WebSocket(`ws://127.0.0.1:${port}${path}?EIO=${eio}&transport=${transport}${sid === undefined ? '' : `&sid=${sid}`}${extra}`, { headers });
    this.ws.on('message', (data, binary) => {
      this.exact.push(data.toString());
      this.at.push(performance.now() - this.began);
      this.heard.push(binary ? `bytes ${data.toString('hex')}` : masked(data.toString()));
    });
    this.ws.on('error', () => {});
    this.closed = new Promise(yes => this.ws.on('close', code => { this.end = true; this.code = code; this.lasted = performance.now() - this.began; yes('closed'); }));
    this.opened = new Promise(yes => { this.ws.on('open', () => yes(true)); this.ws.on('close', () => yes(false)); });
  }
  get open() { return this.ws.readyState === WebSocket.OPEN; }
  send(...frames) { for (const f of frames) if (this.open) this.ws.send(f); }
  /** What has come, the open packet and heartbeats aside. */
  said() { return this.heard.filter(t => t !== '2' && t !== '3' && !t.startsWith('0{')); }
  heardAll(count, what = 'what comes') { return until(() => this.said().length >= count || this.end, { what: () => `${what}; there is ${JSON.stringify(this.said())}`, ms: 4000, every: 3 }); }
  waitFor(test, what) { return until(() => this.heard.some(test) || this.end, { what: () => `${what}; there is ${JSON.stringify(this.heard)}`, every: 3 }); }
  /** Opened, and its `/` connected. */
  async connect() {
    await this.opened;
    await this.waitFor(t => t.startsWith('0{'), 'the open packet');
    if (this.eio === 4) this.send('40');
    await this.waitFor(t => t.startsWith('40'), 'the connect');
    return this;
  }
  async probe() { await this.opened; this.send('2probe'); await this.waitFor(t => t === '3probe', 'the answer to the probe'); return this; }
  /** 'closed', or 'open' when that is how it still is after a while. */
  fate(ms = 400) { return within(this.closed, ms, 'the end').catch(() => 'open'); }
}

/** A text without what is another one each time. */
export const masked = text => text.replace(/"(sid|pid)(\\?)":(\\?)"[^"\\]+/g, '"$1$2":$3"?').replace(/^\d+:0\{/, 'N:0{');
/** Of an answer, what is the same each time. */
export const answer = r => ({ status: r.status, type: r.type, text: masked(r.text ?? '') });
