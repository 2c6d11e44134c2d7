// backend.mjs: a backend of a test: takes what the gateway posts, checks that it is signed, remembers it, answers as it is told
import http from 'node:http';
import https from 'node:https';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { problem } from '../../../docs/examples/verify.mjs';
import { freePort } from './wait.mjs';

export const KEY = 'a key of thirty-two bytes and some more';

export class Backend {
  /** tls: the cluster whose certificate it has. answer(event, request) returns {status, json, text, headers}, undefined for 204, or a promise. */
  static async start(dir, { tls, answer, keys = [KEY] } = {}) {
    const b = new Backend();
    Object.assign(b, { events: [], problems: [], keys, port: await freePort(), sockets: new Set(), requests: 0, tls });
    b.answer = answer ?? (() => undefined);
    b.secret = join(dir, `backend-${b.port}.key`);
    writeFileSync(b.secret, `${keys[0]}\n`);
    b.flags = ['--backend-url', `http${tls ? 's' : ''}://localhost:${b.port}/hook`, '--backend-secret-file', b.secret, ...(tls ? ['--backend-ca', join(dir, 'ca.pem')] : [])];
    await b.up();
    return b;
  }

  up() {
    const on = (req, res) => this.#on(req, res);
    this.server = this.tls ? https.createServer({ cert: readFileSync(this.tls.cert), key: readFileSync(this.tls.key) }, on) : http.createServer(on);
    this.server.on('connection', s => { this.sockets.add(s); s.on('close', () => this.sockets.delete(s)); });
    return new Promise((yes, no) => this.server.once('error', no).listen(this.port, '127.0.0.1', yes));
  }

  /** As if its process had died. */
  down() {
    const closed = new Promise(yes => this.server.close(yes));
    for (const s of this.sockets) s.destroy();
    return closed;
  }

  async #on(req, res) {
    const parts = [];
    this.requests++;
    for await (const part of req) parts.push(part);
    const body = Buffer.concat(parts), wrong = problem(req.headers, body, this.keys);
    if (wrong) {
      this.problems.push(wrong);
      res.writeHead(401).end(wrong);
      return;
    }
    const event = JSON.parse(body), a = (await this.answer(event, req)) ?? { status: 204 };
    if (a.destroy) { req.socket.destroy(); return; }
    if (a.raw !== undefined) { req.socket.end(a.raw); return; }
    if ((a.status ?? 200) < 300 && !event.sync) this.events.push(event);
    res.writeHead(a.status ?? 200, { 'Content-Type': 'application/json', ...a.headers }).end(a.text ?? (a.json !== undefined ? JSON.stringify(a.json) : undefined));
  }

  /** What it took, each event once, in the order of the first time. */
  get once() {
    const seen = new Set();
    return this.events.filter(e => !seen.has(e.id) && seen.add(e.id));
  }

  of(session) { return this.once.filter(e => e.session === session); }

  stop() { return this.server.listening ? this.down() : undefined; }
}
