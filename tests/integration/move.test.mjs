// move.test.mjs: WebSockets that take over a connection by long-polling from another node: official clients behind a load balancer that knows nothing of sessions, and raw frames
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect, createServer } from 'node:net';
import WebSocket from 'ws';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { ask, io2, io4 } from './lib/sockets.mjs';
import { sleep, until, within, PATIENCE_MS } from './lib/wait.mjs';

const FLAGS = ['--socketio-event', 'all* do=relay to=namespace', '--policy', 'bare* retain-count=0', '--socketio-ping-interval', '2s', '--max-queue-bytes', '4m'];
const metric = async (g, name) => Number(new RegExp(`^xindao_${name}_total (\\d+)`, 'm').exec((await g.get('/metrics')).text)[1]);

/** Each connection goes where `pick` says: it is told whether it wants to be a WebSocket. */
async function balancer(cluster, pick) {
  const open = new Set(), server = createServer(a => {
    a.once('data', first => {
      const b = connect(cluster.gateways[pick(/^upgrade: *websocket/im.test(first.toString('latin1')))].port, '127.0.0.1');
      for (const [x, y] of [[a, b], [b, a]]) { open.add(x); x.on('error', () => y.destroy()); x.on('close', () => { open.delete(x); y.destroy(); }); x.pipe(y); }
      b.write(first);
    });
  });
  await new Promise(yes => { server.listen(0, '127.0.0.1', yes); });
  return { port: server.address().port, close() { for (const s of open) s.destroy(); server.close(); } };
}

const client = (io, port, nsp = '', options = {}) => {
  const s = io(`http://127.0.0.1:${port}${nsp}`, { forceNew: true, reconnection: false, ...options });
  Object.assign(s, { heard: [], ends: [] });
  if (io === io4) s.onAny((...args) => s.heard.push(args));
  else { const was = s.onevent; s.onevent = function (packet) { s.heard.push([...packet.data]); was.call(this, packet); }; }
  s.on('disconnect', why => s.ends.push(why));
  s.came = within(new Promise((yes, no) => { s.once('connect', yes); s.once('connect_error', no); s.once('error', no); }), PATIENCE_MS, 'the connect');
  return s;
};
const transport = s => s.io.engine.transport.name;
const numbers = (s, name) => s.heard.filter(e => e[0] === name).map(e => e[1]);
const upTo = (s, name, end) => numbers(s, name).at(-1) === end;
const unbroken = list => list.every((n, i) => n === list[0] + i);

for (const [mode, flags] of [['', []], [', with recovery', ['--socketio-recovery', 'on', '--resume-window', '60s']]]) describe(`WebSockets at another node${mode}`, { timeout: 120000 }, () => {
  let cluster, speaker, said;
  const proxies = [], rooms = ['plain', 'bare'].map(r => `${r}-${unique()}`);
  /** To the namespace, to a user, to the rooms, and to sockets alone. */
  const say = async (alone = []) => {
    speaker.emit('all', said.all++);
    const sent = [['send', { to: { user: 'crowd' }, event: 'crowd', data: said.crowd++ }], ...rooms.map(r => ['publish', { room: r, event: r, data: said[r]++ }]),
      ...alone.map(s => ['send', { to: { session: s.was }, event: 'alone', data: s.alone++ }])];
    for (const [i, a] of (await Promise.all(sent.map(f => speaker.emitWithAck(...f)))).entries()) assert.ok(a.type === 'ack' || (i === 0 && a.code === 'not_found'), `${sent[i]}: ${JSON.stringify(a)}`);
  };
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, insecure: true, flags: [...FLAGS, ...flags] });
    speaker = client(io4, cluster.gateways[0].port, '', { transports: ['websocket'] });
    await speaker.came;
    for (const r of rooms) assert.equal((await ask(speaker, 'join', r)).type, 'ack');
    said = { all: 0, crowd: 0, ...Object.fromEntries(rooms.map(r => [r, 0])) };
  });
  after(async () => { for (const p of proxies) p.close(); speaker.close(); await cluster.stop(); });

  for (const [what, pick] of [['to the next node with every connection', n => () => n.i++ % 2], ['polling here, WebSockets there', () => ws => (ws ? 1 : 0)]]) {
    it(`clients end up on WebSockets, and hear everything once: ${what}`, async () => {
      const p = await balancer(cluster, pick({ i: 0 }));
      proxies.push(p);
      const before = await metric(cluster.gateways[0], 'moves') + await metric(cluster.gateways[1], 'moves');
      let on = true;
      const all = [], names = ['all', 'crowd', ...rooms];
      const speaking = (async () => { while (on) { await say(all.filter(s => s.was)); await sleep(1); } })();
      for (let i = 0; i < 12; i++) { all.push(Object.assign(client([io4, io2][i % 2], p.port, '', i % 2 ? { query: { user: 'crowd' } } : { auth: { user: 'crowd' } }), { alone: 0 })); if (i % 4 === 3) await sleep(20); }
      await Promise.all(all.map(async s => { await s.came; s.was = s.id; for (const r of rooms) assert.equal((await ask(s, 'join', r)).type, 'ack'); }));
      await until(() => all.every(s => transport(s) === 'websocket'), { what: () => `WebSockets: ${all.map(s => `${transport(s)} ${s.ends}`)}` });
      await sleep(50);
      on = false;
      await speaking;
      await until(() => all.every(s => names.every(e => upTo(s, e, said[e] - 1)) && upTo(s, 'alone', s.alone - 1)), { what: () => `the last: ${JSON.stringify(said)} ${all.map(s => names.map(e => numbers(s, e).at(-1)))}` });
      for (const s of all) {
        assert.equal(s.id, s.was);
        assert.deepEqual(s.ends, []);
        assert.equal(`${numbers(s, 'alone')}`, `${Array.from({ length: s.alone }, (_, i) => i)}`, s.was);
        for (const e of names) assert.ok(unbroken(numbers(s, e)), `${e}: ${numbers(s, e)}`);
      }
      const moves = await metric(cluster.gateways[0], 'moves') + await metric(cluster.gateways[1], 'moves') - before;
      assert.ok(moves >= (what.startsWith('polling') ? 12 : 1), `${moves} have moved`);
      assert.equal((await ask(all[0], 'presence', rooms[0])).total, 13);
      for (const s of all) s.close();
    });
  }
});

/** A connection by long-polling at `home`, frame by frame, and WebSockets for it anywhere. */
class Raw {
  constructor(home, eio = 4) { Object.assign(this, { home, eio, sockets: [] }); }
  ask(query = `&sid=${this.sid}`, body = undefined) {
    return new Promise((yes, no) => {
      const req = httpRequest({ host: '127.0.0.1', port: this.home, path: `/socket.io/?EIO=${this.eio}&transport=polling${query}`, method: body === undefined ? 'GET' : 'POST', agent: false }, res => {
        let text = '';
        res.on('data', d => { text += d; });
        res.on('end', () => yes(`${res.statusCode} ${text}`));
      });
      req.on('error', no);
      req.end(body);
    });
  }
  async open() { this.sid = /"sid":"([^"]+)"/.exec(await this.ask(''))[1]; return this; }
  async joined(...namespaces) { for (const n of namespaces) { assert.equal(await this.ask(undefined, n === '/' ? '40' : `40${n},`), '200 ok'); assert.match(await this.ask(), /^200 (2\x1e)?40/); } return this; }
  socket(port, { eio = this.eio, sid = this.sid } = {}) {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=${eio}&transport=websocket&sid=${sid}`);
    ws.heard = [];
    ws.on('message', d => { if (`${d}` !== '2') ws.heard.push(`${d}`); });
    ws.on('error', e => { ws.failed = e.message; });
    ws.gone = new Promise(yes => { ws.on('close', code => { ws.code = code; yes(code); }); });
    ws.opened = new Promise(yes => { ws.on('open', yes); ws.on('close', yes); });
    this.sockets.push(ws);
    return ws;
  }
  async probe(port, options) { const ws = this.socket(port, options); await ws.opened; ws.send('2probe'); await until(() => ws.heard.includes('3probe') || ws.code, { what: 'the probe', every: 5 }); return ws; }
  close() { for (const ws of this.sockets) ws.close(); this.ask(undefined, this.eio === 4 ? '1' : '1:1').catch(() => {}); }
}
const heard = (ws, n) => until(() => ws.heard.length >= n, { what: () => `${n} packets: ${ws.heard} ${ws.code}`, every: 5 }).then(() => ws.heard);

describe('WebSockets at another node, frame by frame', { timeout: 120000 }, () => {
  let cluster, a, b, c;
  before(async () => {
    cluster = await Cluster.start({ gateways: 3, insecure: true, flags: [...FLAGS, '--socketio-namespace', '/*', '--resume-window', '60s'] });
    [a, b, c] = cluster.gateways.map(g => g.port);
  });
  after(() => cluster.stop());

  it('only one WebSocket tries at a time, wherever it comes; who gives up makes room', async () => {
    for (const [first, second] of [[b, c], [b, b], [b, a], [a, b]]) {
      const r = await (await new Raw(a).open()).joined('/'), ws = await r.probe(first), late = await r.probe(second);
      assert.equal(await late.gone, 1000);
      assert.deepEqual(late.heard, []);
      ws.close();
      await ws.gone;
      assert.equal(await r.ask(undefined, '42["all",1]'), '200 ok', 'by long-polling all is as it was');
      assert.match(await r.ask(), /42\["all",1\]/);
      const next = await until(async () => { const w = await r.probe(second); return w.code === undefined && w; }, { what: 'room for another' });
      next.send('5');
      next.send('42["all",2]');
      assert.deepEqual(await heard(next, 2), ['3probe', '42["all",2]']);
      assert.match(await r.ask(), /^400/);
      r.close();
    }
  });

  it('all that waits goes along, of every namespace, and what follows the decision at once', async () => {
    for (const eio of [4, 3]) {
      const r = await new Raw(a, eio).open();
      if (eio === 4) await r.joined('/', '/x');
      else { await r.ask(); await r.ask(undefined, '5:40/x,'); await r.ask(); }
      const ws = await r.probe(b), mine = await (await new Raw(c).open()).joined('/', '/x'), packets = ['42["all",0]', '42/x,["all",1]', '42["all",2]'];
      for (const p of packets) await mine.ask(undefined, p);
      await sleep(30);
      ws._socket.cork();
      for (const p of ['5', '42["all",3]', '42/x,["all",4]', '421["join","r"]']) ws.send(p);
      ws._socket.uncork();
      const all = (await heard(ws, 7)).filter(p => p !== '3probe');
      assert.deepEqual(all.filter(p => p.startsWith('42[')), ['42["all",0]', '42["all",2]', '42["all",3]']);
      assert.deepEqual(all.filter(p => p.startsWith('42/x')), ['42/x,["all",1]', '42/x,["all",4]']);
      assert.match(all.find(p => p.startsWith('431')), /"ack"/);
      r.close();
      mine.close();
    }
  });

  it('half a packet goes along: its last attachments come by the WebSocket', async () => {
    for (const eio of [4, 3]) {
      const r = await new Raw(a, eio).open(), message = '452-["all",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]';
      if (eio === 4) await r.joined('/');
      else await r.ask();
      assert.equal(await r.ask(undefined, eio === 4 ? `${message}\x1ebAAEC` : `${message.length}:${message}6:b4AAEC`), '200 ok');
      const ws = await r.probe(b), binary = [...(eio === 4 ? [] : [4]), 5, 6];
      ws.send('5');
      ws.send(Buffer.from(binary));
      ws.send('42["all","behind"]');
      const all = await heard(ws, 5);
      assert.deepEqual(all.filter(p => p.startsWith('4')), [message, '42["all","behind"]'], `${all}`);
      assert.ok(all.includes(`${Buffer.from(binary)}`) && all.includes(`${Buffer.from(eio === 4 ? [0, 1, 2] : [4, 0, 1, 2])}`), JSON.stringify(all));
      r.close();
    }
  });

  it('before any namespace is connected, too', async () => {
    const r = await new Raw(a).open(), ws = await r.probe(b);
    ws.send('5');
    ws.send('40');
    assert.match((await heard(ws, 2))[1], /^40\{"sid"/);
    ws.send('42["all",1]');
    assert.equal((await heard(ws, 3))[2], '42["all",1]');
    r.close();
  });

  it('what there is not cannot be taken over', async () => {
    const r = await (await new Raw(a).open()).joined('/'), before = await metric(cluster.gateways[1], 'moves_refused');
    for (const options of [{ sid: 'x'.repeat(16) }, { sid: `${'x'.repeat(16)}.nobody` }, { sid: r.sid.replace(/^.{16}/, 'x'.repeat(16)) }, { eio: 3 }]) assert.equal(await (await r.probe(b, options)).gone, 1000, JSON.stringify(options));
    assert.equal(await metric(cluster.gateways[1], 'moves_refused') - before, 4);
    for (const sid of ['x', `${'x'.repeat(16)}.{b}`]) assert.match(await (async () => { const ws = r.socket(b, { sid }); await ws.gone; return ws.failed; })(), /400/);
    const ws = await r.probe(b, { sid: r.sid.replace(/\..*/, '') });
    assert.deepEqual(ws.heard, ['3probe'], 'its node need not be named');
    ws.send('5');
    ws.send('42["all",1]');
    await heard(ws, 2);
    assert.equal(await (await r.probe(c)).gone, 1000, 'it is a WebSocket by now');
    r.close();
  });

  it('a node that is stopped for good while a WebSocket tries', async () => {
    const r = await (await new Raw(c).open()).joined('/'), ws = await r.probe(b);
    assert.deepEqual(ws.heard, ['3probe']);
    await cluster.gateways[2].process.kill();
    ws.send('5');
    assert.equal(await ws.gone, 1000);
  });
});
