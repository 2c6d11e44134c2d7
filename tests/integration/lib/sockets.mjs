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
