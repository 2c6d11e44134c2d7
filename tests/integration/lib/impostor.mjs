// impostor.mjs: a small TLS server that behaves like a gateway but for what it is told to do wrong
import { createHash } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const text = s => Buffer.concat([Buffer.from([0x81, s.length]), Buffer.from(s)]);
const answer = (status, headers, body = '') => `HTTP/1.1 ${status} x\r\n${Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`).join('')}Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;

/** The frames of a client that lie whole in a buffer: opcode and unmasked payload (shorter than 126 bytes, which is all the doctor sends). */
function frames(data) {
  const found = [];
  for (let at = 0; at + 6 <= data.length;) {
    const n = data[at + 1] & 127, mask = data.subarray(at + 2, at + 6);
    found.push({ opcode: data[at] & 15, masked: data[at + 1] > 127, payload: Buffer.from(data.subarray(at + 6, at + 6 + n).map((b, i) => b ^ mask[i % 4])) });
    at += 6 + n;
  }
  return found;
}

function talk(socket, how) {
  const { welcome = '{"type":"welcome"}', pong = true, close = true, endAfter } = how;
  if (welcome) socket.write(text(welcome));
  if (endAfter) setTimeout(() => socket.end(), endAfter);
  socket.on('data', data => {
    for (const { opcode, masked, payload } of frames(data)) {
      if (!masked) return socket.destroy();
      if (opcode === 9 && pong) socket.write(Buffer.concat([Buffer.from([0x8a, payload.length]), typeof pong === 'string' ? Buffer.from(pong) : payload]));
      if (opcode === 8 && close) socket.end(Buffer.concat([Buffer.from([0x88, payload.length]), payload]));
    }
  });
}

function upgrade(socket, head, how) {
  const { status = 101, accept, subprotocol, uninvited, extension } = how;
  if (status !== 101) return socket.end(answer(status, {}));
  const offered = /sec-websocket-protocol: *(.*)\r/i.exec(head)?.[1];
  const key = /sec-websocket-key: *(.*)\r/i.exec(head)[1];
  const chosen = offered ? subprotocol ?? offered : uninvited;
  socket.write(`HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept ?? createHash('sha1').update(key + GUID).digest('base64')}\r\n${
    chosen ? `Sec-WebSocket-Protocol: ${chosen}\r\n` : ''}${extension ? `Sec-WebSocket-Extensions: ${extension}\r\n` : ''}\r\n`);
  talk(socket, how);
}

function converse(socket, how) {
  const { healthz = 200, readyz = 200, skew = 0, date, raw } = how;
  socket.on('error', () => {});
  let head = '';
  socket.on('data', function more(data) {
    if (data[0] === 22 && head === '') return socket.end(answer(400, {})); // a ClientHello
    head += data.toString('latin1');
    if (!head.includes('\r\n\r\n')) return;
    socket.off('data', more);
    const path = head.split(' ')[1];
    if (raw !== undefined) return raw === null ? undefined : socket.end(raw);
    if (path === '/healthz') return socket.end(answer(healthz, date === null ? {} : { Date: date ?? new Date(Date.now() + skew * 1000).toUTCString() }));
    if (path === '/readyz') return socket.end(answer(readyz, {}));
    return upgrade(socket, head, how);
  });
}

/** Listens on 127.0.0.1; tls: options of tls.createServer, none: plain TCP; mute: accepts and says nothing. Ends with the test t. */
export async function impostor(t, { tls: options, mute = false, ...how } = {}) {
  const open = new Set();
  const take = socket => converse(socket, how);
  const server = options && !mute ? tls.createServer(options, take) : net.createServer(socket => { if (!mute) take(socket); });
  server.on('connection', s => { open.add(s); s.on('error', () => {}); s.on('close', () => open.delete(s)); });
  server.on('tlsClientError', () => {});
  await new Promise(yes => server.listen(0, '127.0.0.1', yes));
  t.after(() => { for (const s of open) s.destroy(); server.close(); });
  return server.address().port;
}
