// client.mjs: the native protocol over npm ws, with promises: as thin as it can be
import WebSocket from 'ws';
import { PATIENCE_MS, within } from './wait.mjs';

export class Refused extends Error {
  constructor(frame) { super(`${frame.code}: ${frame.message}`); this.frame = frame; this.code = frame.code; this.retry = frame.retry; }
}

const matcher = what => (typeof what === 'function' ? what : frame => frame.type === what);

/** A binary message is a JSON object, a zero byte, the data. */
export function splitBinary(buffer) {
  const zero = buffer.indexOf(0);
  return { ...JSON.parse(buffer.subarray(0, zero).toString()), bytes: buffer.subarray(zero + 1), head: buffer.subarray(0, zero).toString() };
}

export class Client {
  /** Resolves when the welcome is there. `url` is wss://host:port; id becomes part of the path. */
  static async open(url, { id, path, headers, ca, protocols = ['xindao.v1.json'], welcome = true, origin, ...rest } = {}) {
    const c = new Client();
    c.inbox = []; c.waiting = []; c.pending = new Map(); c.seq = 0; c.texts = 0;
    const where = path ?? (id === undefined ? '/ws' : `/ws/${encodeURIComponent(id)}`);
    c.ws = new WebSocket(url + where, protocols, { ca, headers, origin, perMessageDeflate: false, handshakeTimeout: PATIENCE_MS, ...rest });
    c.ws.on('message', (data, binary) => c.#receive(data, binary));
    c.ws.on('pong', d => c.#push({ type: 'ws.pong', data: d.toString() }));
    c.closed = new Promise(yes => c.ws.on('close', (code, reason) => {
      c.end = { code, reason: reason.toString() };
      for (const w of c.waiting.splice(0)) w.no(new Error(`closed (${code} ${reason}) before ${w.what}`));
      for (const p of c.pending.values()) p.no(new Error(`closed (${code} ${reason}) before the answer`));
      yes(c.end);
    }));
    await new Promise((yes, no) => {
      c.ws.once('open', yes);
      c.ws.once('error', no);
      c.ws.once('unexpected-response', (req, res) => {
        let body = '';
        res.on('data', d => { body += d; });
        res.on('end', () => no(Object.assign(new Error(`refused with HTTP ${res.statusCode}: ${body}`), { status: res.statusCode, body, headers: res.headers })));
      });
    });
    c.ws.on('error', () => {});
    if (welcome) {
      c.welcome = await c.next('welcome');
      c.session = c.welcome.session;
    }
    return c;
  }

  #receive(data, binary) {
    if (binary) return this.#push({ ...splitBinary(data), binary: true });
    const text = data.toString();
    this.texts++;
    if (text === 'pong') return this.#push({ type: 'text.pong' });
    let frame;
    try { frame = JSON.parse(text); } catch { frame = { type: 'not.json' }; }
    Object.defineProperty(frame, 'raw', { value: text });
    const p = frame.id !== undefined ? this.pending.get(frame.id) : undefined;
    if (!p || !['ack', 'error', 'pong'].includes(frame.type)) return this.#push(frame);
    this.pending.delete(frame.id);
    if (frame.type === 'error') p.no(new Refused(frame)); else p.yes(frame);
  }

  #push(frame) {
    const i = this.waiting.findIndex(w => w.match(frame));
    if (i >= 0) this.waiting.splice(i, 1)[0].yes(frame);
    else this.inbox.push(frame);
  }

  /** The first frame not yet taken that matches a type or a predicate. */
  next(what, ms = PATIENCE_MS) {
    const match = matcher(what), i = this.inbox.findIndex(match);
    if (i >= 0) return Promise.resolve(this.inbox.splice(i, 1)[0]);
    const w = { match, what: String(what) };
    const p = new Promise((yes, no) => { w.yes = yes; w.no = no; });
    this.waiting.push(w);
    return within(p, ms, () => `${what}; the inbox has ${JSON.stringify(this.inbox).slice(0, 600)}`).catch(e => {
      this.waiting = this.waiting.filter(x => x !== w);
      throw e;
    });
  }

  /** Takes everything of a kind that is there already. */
  take(what) {
    const match = matcher(what), found = this.inbox.filter(match);
    this.inbox = this.inbox.filter(f => !match(f));
    return found;
  }

  message(room) { return this.next(f => f.type === 'message' && (room === undefined || f.room === room)); }

  raw(text) { this.ws.send(text); }
  send(frame) { this.ws.send(JSON.stringify(frame)); }
  binary(head, bytes) { this.ws.send(Buffer.concat([Buffer.from(JSON.stringify(head)), Buffer.from([0]), bytes]), { binary: true }); }

  /** Sends with an id of its own and resolves with the ack or pong; an error frame rejects as Refused. */
  call(frame, ms = PATIENCE_MS) {
    const id = `c${++this.seq}`;
    return this.#answer(id, ms, JSON.stringify(frame.type), () => this.send({ id, ...frame }));
  }

  callBinary(head, bytes, ms = PATIENCE_MS) {
    const id = `c${++this.seq}`;
    return this.#answer(id, ms, JSON.stringify(head.type), () => this.binary({ id, ...head }, bytes));
  }

  #answer(id, ms, what, send) {
    const p = new Promise((yes, no) => this.pending.set(id, { yes, no }));
    send();
    return within(p, ms, `the answer to ${what}`);
  }

  /** The error frame that answers: fails when it is not refused. */
  async refused(frame) {
    try {
      const a = await this.call(frame);
      throw new Error(`was not refused: ${JSON.stringify(a)}`);
    } catch (e) {
      if (e instanceof Refused) return e.frame;
      throw e;
    }
  }

  /** Everything sent so far has been answered: a pong comes after it. */
  settle() { return this.call({ type: 'ping' }); }

  join(room) { return this.call({ type: 'join', room }); }
  leave(room) { return this.call({ type: 'leave', room }); }
  publish(room, data, more = {}, ms = undefined) { return this.call({ type: 'publish', room, data, ...more }, ms); }

  async close(code = 1000) { this.ws.close(code); return within(this.closed, PATIENCE_MS, 'the close handshake'); }
  async drop() { this.ws.terminate(); return this.closed; }
}

/** A name no other test uses. */
let names = 0;
export const unique = (prefix = 'room') => `${prefix}-${process.pid}-${++names}`;
