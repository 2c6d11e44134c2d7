// sockets.mjs: Socket.IO clients of a test, as npm has them
import { createRequire } from 'node:module';
import { io as io4 } from 'socket.io-client';
import { within, PATIENCE_MS } from './wait.mjs';

export { io4 };
export const io2 = createRequire(import.meta.url)('socket.io-client-2');

/** Sockets of a test, closed after it; everything they hear is kept in `heard`. */
export class Sockets {
  constructor(cluster) { this.cluster = cluster; this.open = []; }
  connect(io, n, nsp = '/', options = {}) {
    const g = this.cluster.gateways[n];
    const s = io(`https://127.0.0.1:${g.port}${nsp === '/' ? '' : nsp}`, { transports: ['websocket'], ca: this.cluster.ca, forceNew: true, reconnection: false, ...options });
    s.heard = [];
    if (io === io4) s.onAny((...args) => s.heard.push(args));
    else { const was = s.onevent; s.onevent = function (packet) { s.heard.push([...packet.data]); was.call(this, packet); }; }
    s.ends = [];
    s.on('disconnect', why => s.ends.push(why));
    this.open.push(s);
    return s;
  }
  async connected(...args) {
    const s = this.connect(...args);
    await within(new Promise((yes, no) => { s.once('connect', yes); s.once('connect_error', no); s.once('error', e => no(new Error(JSON.stringify(e)))); }), PATIENCE_MS, 'the connect');
    return s;
  }
  close() { for (const s of this.open.splice(0)) s.close(); }
}

/** Emits, and waits for the ack. */
export const ask = (s, ...args) => within(new Promise(yes => s.emit(...args, yes)), PATIENCE_MS, `the ack of ${args[0]}`);
/** The arguments of each event of that name that it has heard. */
export const events = (s, name) => s.heard.filter(e => e[0] === name).map(e => e.slice(1));

/** Values as they are after the way to a client: bytes are Buffers in Node, and what JSON has no word for is null. */
export const VALUES = [[], [1, 'two', null, true, false], [{ deep: [{ er: ['你好', '\u{1f600}', 'a"b\\c\n\u0001'] }] }], [0, -1, 127, 128, 255, 256, 65535, 65536, -32, -33, -128, -129, -32768, -32769, 2 ** 31, -(2 ** 31) - 1, 2 ** 53, -(2 ** 53)],
  [0.1, -1.5e-300, 5e-324, 1 / 3, 123456789.125], [Buffer.from([0, 1, 2, 255])], ['text', Buffer.from('bytes'), { in: [Buffer.alloc(70000, 7)] }], [Buffer.alloc(0)],
  ['x'.repeat(31), 'x'.repeat(32), 'x'.repeat(255), 'x'.repeat(256), 'y'.repeat(70000)], [Array.from({ length: 40 }, (_, i) => i), Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i]))],
  [{ $args: [1], $attachments: ['AAAA'] }], [{ _placeholder: true, num: 3 }]];
