// suites-conditions.test.mjs: a gateway as the official test suites of the Engine.IO and Socket.IO protocols want a server: port 3000, no TLS, short heartbeats, an echo below and
// one above. What they rely on, in our words; docs/socketio.md says how to run them.
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KEY } from './lib/backend.mjs';
import { Cluster, Process, ROOT } from './lib/cluster.mjs';
import { ask1, Socket } from './lib/eio.mjs';
import { freePort, sleep, until, within, PATIENCE_MS, Stalls } from './lib/wait.mjs';

const ECHO = '/engine.io/', INTERVAL = 300, TIMEOUT = 200, CONNECT = 1000;
const FLAGS = ['--max-message-size', '1000000', '--max-queue-bytes', '2m', '--socketio-ping-interval', '300ms', '--socketio-ping-timeout', '200ms', '--socketio-connect-timeout', '1s',
  '--engineio-echo', ECHO, '--socketio-namespace', '/custom', '--auth', 'backend', '--socketio-event', '* do=backend'];
const PLACE = n => `{"_placeholder":true,"num":${n}}`;

const canListen = port => new Promise(yes => {
  const s = createServer().once('error', () => yes(false));
  s.listen(port, '127.0.0.1', () => s.close(() => yes(true)));
});

describe('the conditions of the official suites', { timeout: 120000 }, () => {
  let cluster, backend, port, strict, small;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const key = join(cluster.dir, 'backend.key'), at = await freePort();
    writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
    backend = new Process('backend', process.execPath, [join(ROOT, 'docs/examples/socketio-echo.mjs')], { env: { KEY_FILE: key, PORT: String(at) } });
    await until(() => backend.log.includes('ready'), { what: () => `the backend\n${backend.tail()}` });
    const flags = [...FLAGS, '--backend-url', `http://127.0.0.1:${at}/`, '--backend-secret-file', key];
    port = (await cluster.add('both', { insecure: true, flags, port: await canListen(3000) ? 3000 : undefined })).port;
    strict = (await cluster.add('strict', { insecure: true, flags: [...flags, '--socketio-eio3', 'off'] })).port; // the suites of revision 4 want it so
    small = (await cluster.add('small', { insecure: true, flags: flags.map(f => (f === '1000000' ? '20000' : f)) })).port;
  });
  after(async () => { try { await backend?.terminate().catch(() => {}); } finally { await cluster.stop(); } });

  const poll = (eio, sid, o = {}) => ask1(port, `EIO=${eio}&transport=polling${sid ? `&sid=${sid}` : ''}`, { path: ECHO, ...o });
  const post = (eio, sid, body) => poll(eio, sid, { method: 'POST', body });
  const opened = r => JSON.parse(r.text.slice(r.text.indexOf('{')));
  async function open(eio) {
    const r = await poll(eio);
    assert.equal(r.status, 200);
    return opened(r).sid;
  }

  it('the open packet, and who gets none', async () => {
    for (const path of [ECHO, '/socket.io/']) {
      const o = opened(await ask1(port, 'EIO=4&transport=polling', { path })), ws = new Socket(port, 4, { path });
      assert.deepEqual({ ...o, sid: '' }, { sid: '', upgrades: ['websocket'], pingInterval: INTERVAL, pingTimeout: TIMEOUT, maxPayload: 1000000 });
      await ws.waitFor(t => t.startsWith('0'), 'the open packet');
      assert.deepEqual({ ...JSON.parse(ws.heard[0].slice(1)), sid: '' }, { ...o, sid: '', upgrades: [] });
      for (const query of ['transport=polling', 'EIO=abc&transport=polling', 'EIO=3&transport=polling']) {
        const r = await ask1(strict, query, { path });
        assert.deepEqual([r.status, r.text], [400, '{"code":5,"message":"Unsupported protocol version"}']);
        assert.equal((await ask1(port, query, { path })).status, 200);
      }
      for (const query of ['EIO=4', 'EIO=4&transport=abc']) assert.equal((await ask1(port, query, { path })).text, '{"code":0,"message":"Transport unknown"}');
      for (const method of ['POST', 'PUT']) assert.equal((await ask1(port, 'EIO=4&transport=polling', { path, method })).text, '{"code":2,"message":"Bad handshake method"}');
      for (const eio of ['', 'abc', '3']) assert.equal(await within(new Socket(strict, eio, { path }).opened, PATIENCE_MS, 'a refusal'), false);
      assert.equal(await within(new Socket(port, 4, { path, transport: 'abc' }).opened, PATIENCE_MS, 'a refusal'), false);
    }
  });

  it('the echo of texts and bytes: long-polling, WebSocket, and from one to the other', async () => {
    for (const [eio, body, noop, one] of [[4, '4a\x1e4né😀\x1ebAQIDBA==\x1e4', '6', '4x'], [3, '2:4a5:4né😀10:b4AQIDBA==1:4', '1:6', '2:4x']]) {
      const extra = eio === 3 ? '&b64=1' : '', bytes = Buffer.from(eio === 3 ? [4, 1, 2, 3] : [1, 2, 3]);
      const sid = opened(await ask1(port, `EIO=${eio}&transport=polling${extra}`, { path: ECHO })).sid;
      assert.deepEqual([(await post(eio, sid, body)).text, (await poll(eio, sid)).text], ['ok', body]);
      const ws = await new Socket(port, eio, { path: ECHO, sid }).probe();
      assert.equal((await poll(eio, sid)).text, noop);
      ws.send('5', '4hello', bytes, '4');
      await ws.heardAll(4, 'the echo');
      assert.deepEqual(ws.said(), ['3probe', '4hello', `bytes ${bytes.toString('hex')}`, '4']);
      const late = await Promise.all([poll(eio, sid), post(eio, sid, one)]);
      assert.deepEqual(late.map(r => r.status), [400, 400]);
      const second = new Socket(port, eio, { path: ECHO, sid });
      await within(second.closed, PATIENCE_MS, 'the end of a second WebSocket');
      ws.send('4still');
      await ws.waitFor(t => t === '4still', 'the echo');
      ws.ws.close();
      const direct = new Socket(port, eio, { path: ECHO });
      await direct.opened;
      direct.send('4hello', bytes);
      await direct.heardAll(2, 'the echo');
      assert.deepEqual(direct.said(), ['4hello', `bytes ${bytes.toString('hex')}`]);
      direct.send('abc');
      assert.equal(await direct.fate(PATIENCE_MS), 'closed');
    }
    const three = await open(3); // with bytes for who can have them
    await post(3, three, '6:4hello10:b4AQIDBA==');
    assert.deepEqual([...(await poll(3, three)).raw], [0, 6, 255, 52, 104, 101, 108, 108, 111, 1, 5, 255, 4, 1, 2, 3, 4]);
  });

  it('bytes in a text of a WebSocket come back as bytes', async () => {
    const ws = new Socket(port, 4, { path: ECHO });
    await ws.waitFor(t => t.startsWith('0'), 'the open packet');
    ws.send('bAf8C');
    await ws.heardAll(1, 'the echo');
    assert.deepEqual(ws.said(), ['bytes 01ff02']);
    ws.ws.close();
  });

  it('the order of requests on different connections: what was said first is done first', async () => {
    for (let i = 0; i < 10; i++) {
      const sid = await open(4), ws = new Socket(port, 4, { path: ECHO, sid });
      await ws.opened;
      ws.send('2probe', '5');
      assert.equal((await poll(4, sid)).status, 400);
      ws.ws.terminate();
    }
  });

  it('sessions end by a second GET, a GET that is given up, a body that is no payload, and when the client says so', async () => {
    for (const [eio, bye, close, noop] of [[4, '1', '1', '6'], [3, '1:1', '1:1', '1:6']]) {
      const [a, b, c, d] = [await open(eio), await open(eio), await open(eio), await open(eio)];
      const first = poll(eio, a);
      await sleep(20);
      assert.equal((await poll(eio, a)).status, 400);
      assert.equal((await first).text, bye);
      await poll(eio, b, { abort: 20 });
      assert.equal((await post(eio, c, 'abc')).status, 400);
      const waits = poll(eio, d);
      await sleep(20);
      assert.equal((await post(eio, d, close)).text, 'ok');
      assert.equal((await waits).text, noop);
      for (const sid of [a, b, c, d]) await until(async () => (await poll(eio, sid)).status === 400, { what: 'the session to be gone', ms: 5000 });
    }
  });

  it('heartbeats in both directions, dead after interval and timeout, not before', async () => {
    const stalls = new Stalls(), four = new Socket(port, 4, { path: ECHO }), three = new Socket(port, 3, { path: ECHO }), mute = [4, 3].map(eio => new Socket(port, eio, { path: ECHO }));
    const silent = await open(4), polled = await open(4), since = performance.now();
    const beats = (async () => {
      for (let i = 1; i <= 3; i++) {
        await until(() => four.heard.filter(t => t === '2').length === i, { what: 'a ping', every: 2 });
        four.send('3');
        three.send('2');
        await until(() => three.heard.filter(t => t === '3').length === i, { what: 'the pong', every: 2 });
      }
    })();
    for (let i = 0; i < 2; i++) {
      assert.equal((await poll(4, polled)).text, '2');
      assert.equal((await post(4, polled, '3')).text, 'ok');
    }
    await beats;
    assert.ok(four.open && three.open);
    for (const s of mute) await within(s.closed, PATIENCE_MS, 'the end of who is silent');
    const most = stalls.allowing(INTERVAL + TIMEOUT + 60);
    for (const s of mute) assert.ok(s.lasted >= INTERVAL + TIMEOUT - 10 && s.lasted <= most, `closed after ${s.lasted} ms, at most ${most}`);
    await sleep(Math.max(0, INTERVAL + TIMEOUT - (performance.now() - since)));
    assert.equal((await poll(4, silent)).status, 400);
    for (const s of [four, three]) s.ws.terminate();
  });

  it('who connects no namespace within a second is closed', async () => {
    const stalls = new Stalls(), ws = new Socket(port, 4);
    const beat = setInterval(() => ws.send('3'), 100);
    await within(ws.closed, PATIENCE_MS, 'the end');
    clearInterval(beat);
    const most = stalls.allowing(CONNECT + 100);
    assert.ok(ws.lasted >= CONNECT - 10 && ws.lasted <= most, `closed after ${ws.lasted} ms, at most ${most}`);
  });

  /** Sends, and tells what comes next, heartbeats aside. */
  async function say(ws, count, ...frames) {
    const before = ws.said().length;
    ws.send(...frames);
    await ws.heardAll(before + count, `the answer to ${frames[0]}`);
    return ws.said().slice(before);
  }
  function client(eio) {
    const ws = new Socket(port, eio), beat = setInterval(() => ws.send(eio === 4 ? '3' : '2'), 100);
    ws.closed.then(() => clearInterval(beat));
    return ws;
  }

  it('the echo application: 4.x', async () => {
    const ws = client(4);
    await ws.waitFor(t => t.startsWith('0'), 'the open packet');
    assert.deepEqual(await say(ws, 2, '40'), ['40{"sid":"?"}', '42["auth",{}]']);
    assert.deepEqual(await say(ws, 1, '40/random'), ['44/random,{"message":"Invalid namespace"}']);
    assert.deepEqual(await say(ws, 2, '40/custom,{"token":"abc"}'), ['40/custom,{"sid":"?"}', '42/custom,["auth",{"token":"abc"}]']);
    assert.deepEqual(await say(ws, 1, '42["message",1,"2",{"3":[true]}]'), ['42["message-back",1,"2",{"3":[true]}]']);
    assert.deepEqual(await say(ws, 1, '42/custom,["message"]'), ['42/custom,["message-back"]']);
    assert.deepEqual(await say(ws, 2, `451-["message",${PLACE(0)}]`, Buffer.from([7])), [`451-["message-back",${PLACE(0)}]`, 'bytes 07']);
    const two = [`${PLACE(0)},${PLACE(1)}`, Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];
    assert.deepEqual(await say(ws, 3, `452-["message",${two[0]}]`, two[1], two[2]), [`452-["message-back",${two[0]}]`, 'bytes 010203', 'bytes 040506']);
    assert.deepEqual(await say(ws, 1, '42456["message-with-ack",1,"2",{"3":[false]}]'), ['43456[1,"2",{"3":[false]}]']);
    assert.deepEqual(await say(ws, 2, `451-7["message-with-ack",${PLACE(0)}]`, two[1]), [`461-7[${PLACE(0)}]`, 'bytes 010203']);
    assert.deepEqual(await say(ws, 3, `452-789["message-with-ack",${two[0]}]`, two[1], two[2]), [`462-789[${two[0]}]`, 'bytes 010203', 'bytes 040506']);
    assert.deepEqual(await say(ws, 1, '41/custom', '42["message","to the main one"]'), ['42["message-back","to the main one"]']);
    assert.deepEqual(await say(ws, 1, '421["what"]'), ['431[{"type":"error","code":"refused","message":"what is what?"}]']);
    ws.send('42{}');
    await within(ws.closed, PATIENCE_MS, 'the end');
  });

  it('a burst right behind CONNECT waits in the socket for what the backend wants done first', async () => {
    const ws = await new Socket(small, 4).connect(), pad = 'x'.repeat(18000), beat = setInterval(() => ws.send('3'), 100);
    ws.send(...Array.from({ length: 8 }, (_, n) => `42["message",${n},"${pad}"]`));
    await until(() => ws.said().length >= 10 || ws.end, { what: () => `eight echoes; there are ${ws.said().length}` });
    clearInterval(beat);
    assert.deepEqual(ws.said().slice(1).map(t => t.slice(0, 20)), ['42["auth",{}]', ...Array.from({ length: 8 }, (_, n) => `42["message-back",${n},"`.slice(0, 20))]);
    ws.ws.close();
  });

  it('the echo application: 2.x, and by long-polling', async () => {
    const ws = client(3);
    await ws.heardAll(2, 'the connect and its event');
    assert.deepEqual(ws.said(), ['40', '42["auth",{}]']);
    assert.deepEqual(await say(ws, 2, '40/custom,'), ['40/custom,', '42/custom,["auth",{}]']);
    assert.deepEqual(await say(ws, 2, `451-["message",${PLACE(0)},"test"]`, Buffer.from([4, 1, 2])), [`451-["message-back",${PLACE(0)},"test"]`, 'bytes 040102']);
    assert.deepEqual(await say(ws, 1, '4213["message-with-ack",1,"x"]'), ['4313[1,"x"]']);
    ws.ws.close();
    const sid = opened(await ask1(port, 'EIO=4&transport=polling')).sid, q = `EIO=4&transport=polling&sid=${sid}`;
    const heard = [];
    await ask1(port, q, { method: 'POST', body: '40{"n":1}\x1e42["message","early"]' });
    while (heard.length < 3) {
      heard.push(...(await ask1(port, q)).text.split('\x1e').filter(p => p !== '2'));
      await ask1(port, q, { method: 'POST', body: '3' });
    }
    await ask1(port, q, { method: 'POST', body: '1' });
    assert.deepEqual(heard.map(t => t.replace(/"sid":"[^"]+"/, '"sid":"?"')), ['40{"sid":"?"}', '42["auth",{"n":1}]', '42["message-back","early"]']);
  });
});
