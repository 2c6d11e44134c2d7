// socketio-rules.test.mjs: raw frames against the official server as the oracle: what is answered, and what ends the connection, must be the same here
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import WebSocket from 'ws';
import { Server } from 'socket.io';
import { Cluster } from './lib/cluster.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const TIMES = { pingInterval: 300, pingTimeout: 200, connectTimeout: 500 };
const FLAGS = ['--socketio-namespace', '/admin', '--socketio-ping-interval', '300ms', '--socketio-ping-timeout', '200ms', '--socketio-connect-timeout', '500ms',
  '--max-message-size', '1000000', '--max-queue-bytes', '2m', '--socketio-event', '* do=relay to=namespace'];
const bytes = (...b) => Buffer.from(b);

/** One raw connection: sends the frames one by one, and tells what came back, sids and pings aside, and whether it was closed. */
class Raw {
  constructor(url, eio) {
    this.heard = [];
    this.ws = new WebSocket(`${url}/socket.io/?EIO=${eio}&transport=websocket`);
    this.ws.on('message', (data, binary) => this.heard.push(binary ? `bytes ${data.toString('hex')}` : data.toString().replace(/"sid":"[^"]+"/, '"sid":"?"')));
    this.ws.on('error', () => {});
    this.closed = new Promise(yes => this.ws.on('close', () => { this.end = true; yes(true); }));
    this.opened = new Promise(yes => { this.ws.on('open', () => yes(true)); this.ws.on('close', () => yes(false)); });
  }
  /** What has come but heartbeats, when nothing more does. */
  said() { return this.heard.filter(t => t !== '2' && t !== '3'); }
}

// What is sent after the open packet; `end`: the connection must be closed by it. Everything else that comes back is compared with the oracle.
// `differs`: where we do not follow it, and why: a name is a string here, as it is for the other clients of a room; servers 2.x refuse a namespace with a string, as
// their clients expect.
const V4 = [
  { name: 'connect', send: ['40'] },
  { name: 'connect with a payload', send: ['40{"token":"x"}'] },
  { name: 'a namespace, with and without its comma', send: ['40/admin,', '41/admin', '40/admin'] },
  { name: 'a namespace that does not exist', send: ['40/random'] },
  { name: 'two namespaces', send: ['40', '40/admin,', '42/admin,["x",1]', '42["y"]'] },
  { name: 'leaving and coming back', send: ['40', '41', '40'] },
  { name: 'an event before the connect', send: ['42["x"]'], end: true },
  { name: 'an event for a namespace that is not connected', send: ['40', '42/admin,["x"]'], end: true },
  { name: 'a disconnect from a namespace that is not connected', send: ['40', '41/admin,'], end: true },
  { name: 'a namespace twice', send: ['40', '40'], end: true },
  { name: 'a connect with an array', send: ['40[]'], end: true },
  { name: 'a connect with a string', send: ['40"x"'], end: true },
  { name: 'no type', send: ['40', '4'], end: true },
  { name: 'an unknown type', send: ['40', '47'], end: true },
  { name: 'a type that is no digit', send: ['40', '4abc'], end: true },
  { name: 'an engine packet that does not exist', send: ['40', 'x'], end: true },
  { name: 'an event without a payload array', send: ['40', '42{}'], end: true },
  { name: 'an event of no elements', send: ['40', '42[]'], end: true },
  { name: 'an event that is null', send: ['40', '42[null]'], end: true },
  { name: 'an event that is an object', send: ['40', '42[{}]'], end: true },
  { name: 'an event that is a number', send: ['40', '42[1,2]'], differs: { '42[1,2]': '42["1",2]' } },
  ...['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener'].map(e => ({ name: `the reserved event ${e}`, send: ['40', `42["${e}"]`], end: true })),
  { name: 'the event error, which is not reserved', send: ['40', '42["error"]'] },
  { name: 'broken JSON', send: ['40', '42["x"'], end: true },
  { name: 'an id that is none', send: ['40', '42abc["x"]'], end: true },
  { name: 'an ack nobody asked for', send: ['40', '430[]'] },
  { name: 'an ack that is an object', send: ['40', '430{}'], end: true },
  { name: 'a disconnect with a payload', send: ['40', '41{}'], end: true },
  { name: 'a binary event', send: ['40', '451-["x",{"_placeholder":true,"num":0}]', bytes(1, 2, 3)] },
  { name: 'two attachments, deep', send: ['40', '452-["x",{"a":[{"_placeholder":true,"num":0}]},{"_placeholder":true,"num":1}]', bytes(1), bytes(2)] },
  { name: 'an attachment nobody announced', send: ['40', bytes(1)], end: true },
  { name: 'text while attachments are missing', send: ['40', '451-["x",{"_placeholder":true,"num":0}]', '42["y"]'], end: true },
  { name: 'a heartbeat while attachments are missing', send: ['40', '451-["x",{"_placeholder":true,"num":0}]', '3', bytes(9)] },
  { name: 'a placeholder without attachment', send: ['40', '451-["x",{"_placeholder":true,"num":1}]', bytes(1)], end: true },
  { name: 'attachments that are not counted', send: ['40', '45["x"]'], end: true },
  { name: 'attachments that are not a number', send: ['40', '45x-["x"]'], end: true },
  { name: 'eleven attachments', send: ['40', '4511-["x"]'], end: true },
  { name: 'a ping in the wrong direction', send: ['40', '2'], end: true },
  { name: 'packets that mean nothing here', send: ['40', '6', '42["x"]'] },
  { name: 'no pong', send: ['40'], silent: true, end: true },
  { name: 'no connect', send: [], end: true },
];
const V3 = [
  { name: 'connected at once', send: [] },
  { name: 'an event at once', send: ['42["x",{"a":1}]'] },
  { name: 'a namespace, with its query', send: ['40/admin?a=b,', '42/admin,["x"]'] },
  { name: 'a namespace that does not exist', send: ['40/random'], differs: { '44/random,{"message":"Invalid namespace"}': '44/random,"Invalid namespace"' } },
  { name: 'a ping', send: ['2'], pong: true },
  { name: 'a pong in the wrong direction', send: ['3'], end: true },
  { name: 'a binary event', send: ['451-["x",{"_placeholder":true,"num":0}]', bytes(4, 1, 2)] },
  { name: 'an attachment nobody announced', send: [bytes(4, 1)], end: true },
  { name: 'an event for a namespace that is not connected', send: ['42/admin,["x"]'], end: true },
  { name: 'an unknown type', send: ['48'], end: true },
  { name: 'leaving', send: ['41'] },
  { name: 'no ping', send: [], silent: true, end: true },
];

/** Nothing more comes: `count` messages are there, or, when nobody knows how many there will be, for a while none came. */
async function settled(raw, count) {
  if (count !== undefined) await until(() => raw.said().length >= count || raw.end, { what: () => `${count} messages; there are ${JSON.stringify(raw.said())}`, ms: 5000, every: 5 });
  for (let n = -1; n !== raw.said().length;) { n = raw.said().length; await sleep(count === undefined ? 150 : 20); }
}

/** Runs one case; sends a packet when what came before has had its effect. count: how many messages the oracle has sent. */
async function play(url, eio, c, count) {
  const raw = new Raw(url, eio);
  await within(raw.opened, PATIENCE_MS, 'the handshake');
  await until(() => raw.heard.length >= (eio === 3 ? 2 : 1) || raw.end, { what: 'the open packet', every: 5 });
  const beat = setInterval(() => { if (!c.silent && raw.ws.readyState === WebSocket.OPEN) raw.ws.send(eio === 4 ? '3' : '2'); }, 100);
  try {
    for (const frame of c.send) {
      if (raw.ws.readyState !== WebSocket.OPEN) break;
      const before = raw.said().length;
      raw.ws.send(frame);
      // A connect is answered in any case; what comes before the answer meets a namespace that is not there yet.
      if (String(frame).startsWith('40')) await until(() => raw.said().length > before || raw.end, { what: () => `the answer to ${frame}`, every: 5 });
      else await sleep(15);
    }
    if (c.end) await within(raw.closed, PATIENCE_MS, `the end after ${c.name}`);
    else await settled(raw, count);
    if (c.pong) await until(() => raw.heard.includes('3'), { what: 'the pong' });
    return { said: c.end ? [] : raw.said(), closed: raw.end === true };
  } finally {
    clearInterval(beat);
    raw.ws.terminate();
    await raw.closed;
  }
}

describe('rules of Engine.IO and Socket.IO', { timeout: 120000 }, () => {
  let cluster, oracle, http, urls;
  before(async () => {
    cluster = await Cluster.start({ redis: false, insecure: true, flags: FLAGS });
    http = createServer();
    oracle = new Server(http, { ...TIMES, allowEIO3: true, maxHttpBufferSize: 1000000, serveClient: false });
    for (const nsp of ['/', '/admin']) oracle.of(nsp).on('connection', s => s.onAny((...args) => { oracle.of(nsp).to(s.id).emit(...args); }));
    await new Promise(yes => { http.listen(0, '127.0.0.1', yes); });
    urls = [cluster.gateways[0].url, `ws://127.0.0.1:${http.address().port}`];
  });
  after(async () => { await oracle?.close(); await cluster.stop(); });

  for (const [eio, cases] of [[4, V4], [3, V3]]) {
    it(`EIO=${eio}: ${cases.length} cases, as the official server has them`, async () => {
      // Relayed events go to everybody in the namespace, so each case plays alone here; the oracle's answer only to the sender.
      const theirs = await Promise.all(cases.map(c => play(urls[1], eio, c)));
      const problems = [];
      for (const [i, c] of cases.entries()) {
        assert.equal(theirs[i].closed, c.end === true, `the oracle on "${c.name}": ${JSON.stringify(theirs[i])}`);
        const want = { ...theirs[i], said: theirs[i].said.map(t => c.differs?.[t] ?? t) };
        const ours = await play(urls[0], eio, c, want.said.length).catch(e => ({ failed: e.message }));
        if (JSON.stringify(ours) !== JSON.stringify(want)) problems.push(`${c.name}: ours ${JSON.stringify(ours)}, wanted ${JSON.stringify(want)}`);
      }
      assert.deepEqual(problems, []);
    });
  }
});
