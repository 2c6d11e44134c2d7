// raw.mjs: a TLS socket on which a test writes whatever bytes it likes, and a strict reader of what a server may send
import tls from 'node:tls';
import net from 'node:net';
import { randomBytes } from 'node:crypto';
import { PATIENCE_MS, within } from './wait.mjs';

export const OP = { cont: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** A client frame; every rule may be broken on purpose. */
export function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, length } = {}) {
  const body = Buffer.from(payload), n = length ?? body.length, key = randomBytes(4);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const bit = mask ? 0x80 : 0;
  if (n < 126) head.push(bit | n);
  else if (n < 65536) head.push(bit | 126, n >> 8, n & 255);
  else { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); head.push(bit | 127, ...b); }
  const masked = mask ? Buffer.from(body.map((x, i) => x ^ key[i & 3])) : body;
  return Buffer.concat([Buffer.from(head), mask ? key : Buffer.alloc(0), masked]);
}

/** Takes a server's byte stream apart; throws at the first bit that RFC 6455 does not allow a server. */
export class FrameReader {
  constructor() { this.buffer = Buffer.alloc(0); this.frames = []; this.bytes = 0; }

  push(data) {
    this.bytes += data.length;
    this.buffer = this.buffer.length ? Buffer.concat([this.buffer, data]) : data;
    let at = 0;
    for (;;) {
      const b = this.buffer.subarray(at);
      if (b.length < 2) break;
      const opcode = b[0] & 15, fin = b[0] >> 7, n7 = b[1] & 127;
      if (b[0] & 0x70) throw new Error(`reserved bits in byte ${this.bytes - b.length}`);
      if (b[1] & 0x80) throw new Error('a masked frame from the server');
      if (![0, 1, 2, 8, 9, 10].includes(opcode)) throw new Error(`opcode ${opcode} in byte ${this.bytes - b.length}`);
      if (opcode >= 8 && (!fin || n7 > 125)) throw new Error('a bad control frame');
      const skip = n7 === 126 ? 4 : n7 === 127 ? 10 : 2;
      if (b.length < skip) break;
      const n = n7 === 126 ? b.readUInt16BE(2) : n7 === 127 ? Number(b.readBigUInt64BE(2)) : n7;
      if ((n7 === 126 && n < 126) || (n7 === 127 && n < 65536)) throw new Error('a length that is not minimal');
      if (b.length < skip + n) break;
      const payload = Buffer.from(b.subarray(skip, skip + n));
      if (opcode === OP.text && fin) new TextDecoder('utf-8', { fatal: true }).decode(payload);
      this.frames.push({ opcode, fin: !!fin, payload });
      at += skip + n;
    }
    if (at) this.buffer = Buffer.from(this.buffer.subarray(at));
  }
}

export class Raw {
  /** A connected socket, over TLS unless told otherwise. */
  static async connect(port, { secure = true, ca, session, host = '127.0.0.1', ...options } = {}) {
    const r = new Raw();
    r.received = Buffer.alloc(0); r.listeners = []; r.ended = null; r.paused = false;
    r.socket = secure ? tls.connect({ port, host, ca, servername: 'localhost', ALPNProtocols: ['http/1.1'], ...options }) : net.connect({ port, host, ...options });
    r.gone = new Promise(yes => { r.socket.on('close', () => { r.ended ??= 'close'; yes(); r.#wake(); }); });
    r.socket.on('error', e => { r.error = e; });
    r.socket.on('end', () => { r.ended = 'end'; r.#wake(); });
    await within(new Promise((yes, no) => {
      r.socket.once(secure ? 'secureConnect' : 'connect', yes);
      r.socket.once('error', no);
      r.socket.once('close', () => no(new Error('closed while connecting')));
    }), PATIENCE_MS, 'a connection');
    r.socket.on('data', d => { if (r.reader) r.reader.push(d); else r.received = Buffer.concat([r.received, d]); r.#wake(); });
    return r;
  }

  /** Connected and upgraded; the 101 has been read, frames are collected in r.reader. */
  static async open(port, { id = 'raw', headers = {}, ...options } = {}) {
    const r = await Raw.connect(port, options);
    r.write(upgrade(`/ws/${encodeURIComponent(id)}`, headers));
    await r.wait(() => r.received.includes('\r\n\r\n'), 'the 101');
    const end = r.received.indexOf('\r\n\r\n') + 4;
    r.head = r.received.subarray(0, end).toString();
    if (!r.head.startsWith('HTTP/1.1 101 ')) throw new Error(`not upgraded: ${r.received}`);
    r.reader = new FrameReader();
    r.reader.push(r.received.subarray(end));
    await r.json('welcome');
    return r;
  }

  #wake() { for (const f of this.listeners.splice(0)) f(); }

  write(data) { if (!this.socket.destroyed) this.socket.write(data); }
  send(opcode, payload, options) { this.write(frame(opcode, payload, options)); }

  /** Resolves with the first true value of ask(), tried whenever something happens on the socket. */
  async wait(ask, what, ms = PATIENCE_MS) {
    const end = Date.now() + ms;
    for (;;) {
      const answer = ask();
      if (answer) return answer;
      if (this.ended && !this.listeners.length && this.socket.destroyed) throw new Error(`the connection ended before ${what} (${this.error?.message ?? this.ended})`);
      await within(new Promise(yes => this.listeners.push(yes)), Math.max(1, end - Date.now()), what);
    }
  }

  json(type, ms) {
    return this.wait(() => this.reader.frames.filter(f => f.opcode === OP.text).map(f => { try { return JSON.parse(f.payload); } catch { return {}; } }).find(f => f.type === type), type, ms);
  }

  /** How the server ended it: the close frame's code and reason, or null when the socket just closed. */
  async end(ms = PATIENCE_MS) {
    await within(this.gone, ms, 'the server to close the connection');
    const close = this.reader?.frames.find(f => f.opcode === OP.close);
    return close ? { code: close.payload.length >= 2 ? close.payload.readUInt16BE() : 1005, reason: close.payload.subarray(2).toString() } : null;
  }

  /** The complete response to plain HTTP, when the server has closed or its body is whole. */
  async response(ms = PATIENCE_MS) {
    const text = await this.wait(() => {
      const s = this.received.toString('latin1'), at = s.indexOf('\r\n\r\n');
      if (at < 0) return null;
      const length = /\r\ncontent-length: *(\d+)/i.exec(s.slice(0, at));
      return (length ? this.received.length >= at + 4 + Number(length[1]) : this.ended) ? this.received.toString() : null;
    }, 'a response', ms);
    const [head, ...body] = text.split('\r\n\r\n');
    return { status: Number(head.split(' ')[1]), head, body: body.join('\r\n\r\n') };
  }

  destroy() { this.socket.destroy(); }
}

export function upgrade(path, headers = {}) {
  const all = { Host: 'localhost', Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': randomBytes(16).toString('base64'), ...headers };
  return `GET ${path} HTTP/1.1\r\n${Object.entries(all).filter(([, v]) => v !== null).map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`;
}
