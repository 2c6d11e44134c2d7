// abuse.test.mjs: what hostile and broken clients do costs a bounded amount, ends with a named reason and a counter, and a bystander notices nothing
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { OP, Raw, frame, upgrade } from './lib/raw.mjs';
import { sleep, until, within } from './lib/wait.mjs';

const MIB = 1 << 20;

/** Two well-behaved clients that talk all the time: every message must come, in order, and soon. */
class Bystanders {
  static async start(gw) {
    const b = new Bystanders();
    b.room = unique('bystanders');
    [b.speaker, b.listener] = [await gw.client('speaker'), await gw.client('listener')];
    await b.speaker.join(b.room); await b.listener.join(b.room);
    b.going = true; b.count = 0; b.worst = 0;
    b.done = (async () => {
      while (b.going) {
        const began = Date.now();
        await b.speaker.publish(b.room, ++b.count);
        const m = await b.listener.message(b.room);
        assert.equal(m.data, b.count);
        b.worst = Math.max(b.worst, Date.now() - began);
        await sleep(20);
      }
    })();
    b.done.catch(() => {});
    return b;
  }
  async stop() {
    this.going = false;
    await this.done;
    assert.ok(this.count > 20);
    assert.ok(this.worst < 10000, `a bystander's message took ${this.worst} ms`);
    for (const c of [this.speaker, this.listener]) { assert.deepEqual(c.take('error'), []); assert.equal(c.end, undefined); await c.close(); }
  }
}

describe('abuse', { timeout: 360000 }, () => {
  let cluster, gw, bystanders, open, idle;

  before(async () => {
    cluster = await Cluster.start({ gateways: 1, flags: ['--handshake-timeout', '2s', '--max-queue-bytes', '256k', '--max-message-size', '64k', '--max-rooms-per-session', '100'] });
    [gw] = cluster.gateways;
    open = (options = {}) => Raw.open(gw.port, { ca: cluster.ca, ...options });
    idle = files();
    bystanders = await Bystanders.start(gw);
  });
  after(async () => {
    try {
      await bystanders.stop();
      await until(() => files() <= idle, { what: () => `open files to be ${idle} as in the beginning, there are ${files()}` });
      await until(async () => { const m = await gw.metrics(); return m.sum('xindao_sessions') === 0 && m.sum('xindao_queue_bytes') === 0 && m.sum('xindao_connections') <= 1; }, { what: 'nothing to be left in the gauges' });
    } finally { await cluster.stop(); }
  });

  const files = () => readdirSync(`/proc/${gw.process.pid}/fd`).length;

  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${gw.process.pid}/status`, 'utf8'))[1]) * 1024;

  /** Does it, and asserts that the counter of the reason moved. */
  async function counts(reason, act) {
    const before = await gw.metrics();
    await act();
    await gw.counted(before, 'xindao_drops_total', { reason });
  }

  describe('a client that does not read', () => {
    const BLOB = 16 * 1024;
    /** Byte pattern that tells the number of its message everywhere, so that one byte out of place is seen. */
    const blob = n => Buffer.alloc(BLOB, Buffer.from([n & 255, (n >> 8) & 255, 0xa5, 0x5a, n % 251]));

    /** Publishes blobs until stop() or n. */
    async function flood(room, n, stop = () => false) {
      const f = await gw.client('flood');
      await f.join(room);
      let i = 0;
      const flying = [];
      while (i < n && !stop()) {
        flying.push(f.callBinary({ type: 'publish', room, event: String(i), echo: false }, blob(i), 30000));
        if (++i % 32 === 0) await Promise.all(flying.splice(0));
      }
      await Promise.all(flying);
      await f.close();
      return i;
    }

    /** What the reader got: well-formed frames, messages 0,1,2… with all their bytes. */
    function check(r, { holes = false } = {}) {
      let last = -1, count = 0;
      for (const f of r.reader.frames.filter(x => x.opcode === OP.binary)) {
        const zero = f.payload.indexOf(0), head = JSON.parse(f.payload.subarray(0, zero)), n = Number(head.event);
        if (holes) assert.ok(n > last, `${n} after ${last}`); else assert.equal(n, last + 1);
        assert.ok(f.payload.subarray(zero + 1).equals(blob(n)), `message ${n} has wrong bytes`);
        last = n; count++;
      }
      return { count, last };
    }

    async function sleepers(room, count) {
      const all = await Promise.all(Array.from({ length: count }, (_, i) => open({ id: `sleeper${i}` })));
      for (const r of all) { r.send(OP.text, JSON.stringify({ type: 'join', room, id: 'j' })); await r.json('ack'); r.socket.pause(); }
      return all;
    }

    it('is dropped with its stream intact up to that point', async () => {
      const room = unique(), before = await gw.metrics(), all = await sleepers(room, 10);
      let dropped = 0;
      const watching = until(async () => (dropped = (await gw.metrics()).sum('xindao_drops_total', { reason: 'slow_consumer' }) - before.sum('xindao_drops_total', { reason: 'slow_consumer' })) >= 10, { what: 'ten slow consumers to be dropped', ms: 60000, every: 50 });
      const sent = await flood(room, 3000, () => dropped >= 10);
      await watching;
      assert.ok(sent < 3000, 'they were never dropped');
      for (const r of all) {
        r.socket.resume();
        const end = await r.end();
        if (end) assert.deepEqual(end, { code: 4000, reason: 'slow_consumer' });
        const { count } = check(r);
        assert.ok(count > 0 && count < sent, `${count} of ${sent}`);
      }
      await until(async () => (await gw.metrics()).sum('xindao_queue_bytes') < MIB, { what: 'their queues to be freed' });
    });

    it('loses nothing while it only reads in fits and starts', async () => {
      const room = unique(), all = await sleepers(room, 20);
      let going = true;
      const reading = all.map(async (r, i) => { while (going) { r.socket.resume(); await sleep(3 + i); r.socket.pause(); await sleep(5); } r.socket.resume(); });
      const f = await gw.client('pacer');
      await f.join(room);
      for (let i = 0; i < 150; i++) {
        await f.callBinary({ type: 'publish', room, event: String(i), echo: false }, blob(i));
        if (i % 5 === 0) await sleep(10);
      }
      going = false;
      await Promise.all(reading);
      for (const r of all) {
        await r.wait(() => r.reader.frames.filter(x => x.opcode === OP.binary).length === 150, 'all 150 messages', 20000);
        assert.deepEqual(check(r), { count: 150, last: 149 });
        r.destroy();
      }
      await f.close();
    });

    it('reads on from the log where the policy says so: late, but everything and in order', async () => {
      const patient = await cluster.add('patient', { flags: ['--max-queue-bytes', '256k', '--policy', '* slow=resume retain-count=5000 retain-age=10m'] });
      const room = unique(), before = await patient.metrics(), readers = [];
      for (let n = 0; n < 4; n++) {
        const r = await Raw.open(patient.port, { id: `reader${n}`, ca: cluster.ca });
        r.send(OP.text, JSON.stringify({ type: 'join', room, id: 'j' }));
        await r.json('ack');
        r.socket.pause();
        readers.push(r);
      }
      const f = await patient.client('flood');
      await f.join(room);
      const aside = async () => (await patient.metrics()).sum('xindao_set_aside_total') - before.sum('xindao_set_aside_total');
      let i = 0;
      const more = () => f.callBinary({ type: 'publish', room, event: String(i), echo: false }, blob(i++));
      while (i < 3000 && (i % 64 || (await aside()) < readers.length)) await more();
      for (let n = 0; n < 100; n++) await more();
      assert.ok((await aside()) >= readers.length, 'nobody was too slow');
      assert.ok((await patient.metrics()).sum('xindao_queue_bytes') <= readers.length * 2 * 256 * 1024);
      for (const r of readers) r.socket.resume();
      await more();
      for (const r of readers) {
        await r.wait(() => r.reader.frames.filter(x => x.opcode === OP.binary).length === i, `all ${i} messages`, 30000);
        assert.deepEqual(check(r), { count: i, last: i - 1 });
        const told = r.reader.frames.filter(x => x.opcode === OP.text).map(x => JSON.parse(x.payload)).filter(x => x.type === 'recovered');
        assert.ok(told.length >= 1 && told.every(x => x.room === room && x.recovered === true), JSON.stringify(told));
        r.destroy();
      }
      assert.equal((await patient.metrics()).sum('xindao_drops_total', { reason: 'slow_consumer' }), 0);
      await f.close();
    });

    it('keeps its place and loses the oldest where the policy says so', async () => {
      const keeper = await cluster.add('keeper', { flags: ['--slow-consumer', 'drop-oldest', '--max-queue-bytes', '256k'] });
      const room = unique(), before = await keeper.metrics();
      const r = await Raw.open(keeper.port, { id: 'keeper', ca: cluster.ca });
      r.send(OP.text, JSON.stringify({ type: 'join', room, id: 'j' }));
      await r.json('ack');
      r.socket.pause();
      const f = await keeper.client('flood');
      await f.join(room);
      const drops = async () => (await keeper.metrics()).sum('xindao_drops_total', { reason: 'drop_oldest' }) - before.sum('xindao_drops_total', { reason: 'drop_oldest' });
      let i = 0;
      while (i < 3000 && (i % 64 || (await drops()) < 40)) await f.callBinary({ type: 'publish', room, event: String(i), echo: false }, blob(i++));
      assert.ok((await drops()) >= 40, 'nothing was dropped');
      r.socket.resume();
      await f.callBinary({ type: 'publish', room, event: String(i), echo: false }, blob(i));
      await r.wait(() => { const m = r.reader.frames.filter(x => x.opcode === OP.binary).at(-1); return m && JSON.parse(m.payload.subarray(0, m.payload.indexOf(0))).event === String(i); }, 'the newest message', 20000);
      const { count, last } = check(r, { holes: true });
      assert.equal(last, i);
      assert.ok(count <= i - 40, 'holes are expected');
      assert.equal(r.ended, null);
      r.destroy();
      await f.close();
      await keeper.stop();
    });

    it('cannot make the server hoard answers: pings and requests without end', async () => {
      const before = memory();
      const pinger = await open({ id: 'pinger' }), asker = await open({ id: 'asker' });
      pinger.socket.pause(); asker.socket.pause();
      const pings = Buffer.concat(Array.from({ length: 500 }, () => frame(OP.ping, randomBytes(120))));
      const asks = Buffer.concat(Array.from({ length: 500 }, (_, i) => frame(OP.text, `{"type":"ping","id":${i}}`)));
      for (let i = 0; i < 300; i++) { pinger.write(pings); asker.write(asks); if (i % 20 === 0) await sleep(10); }
      await sleep(1000);
      const grown = memory() - before;
      assert.ok(grown < 80 * MIB, `${Math.round(grown / MIB)} MB for two clients`);
      pinger.destroy(); asker.destroy();
    });

    it('cannot do so over HTTP either', async () => {
      const before = memory(), r = await Raw.connect(gw.port, { ca: cluster.ca });
      r.socket.pause();
      const many = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(500);
      for (let i = 0; i < 100; i++) { r.write(many); if (i % 20 === 0) await sleep(10); }
      await sleep(500);
      const grown = memory() - before;
      assert.ok(grown < 80 * MIB, `${Math.round(grown / MIB)} MB`);
      r.destroy();
    });
  });

  describe('what is not TLS or HTTP', () => {
    it('garbage instead of TLS', () => counts('tls_error', async () => {
      const all = await Promise.all(Array.from({ length: 20 }, () => Raw.connect(gw.port, { secure: false })));
      for (const r of all) r.write(randomBytes(2000));
      for (const r of all) await within(r.gone, 30000, 'the end');
    }));

    it('half a TLS handshake, and nothing at all', async () => {
      const before = await gw.metrics();
      const half = await Raw.connect(gw.port, { secure: false }), silent = await Raw.connect(gw.port, { secure: false });
      half.write(Buffer.from('1603010200010001fc0303', 'hex'));
      half.write(randomBytes(40));
      const began = Date.now();
      await within(Promise.all([half.gone, silent.gone]), 30000, 'both to be closed');
      assert.ok(Date.now() - began >= 1500, 'they had their two seconds');
      await gw.counted(before, 'xindao_drops_total', { reason: 'handshake_timeout' }, 2);
    });

    it('garbage instead of HTTP', () => counts('bad_http', async () => {
      for (const text of ['\x00\x01\x02\x03\r\n\r\n', 'HELLO WORLD\r\n\r\n', `${randomBytes(200).toString('latin1')}\r\n\r\n`, 'GET / HTTP/9.9\r\n\r\n', 'GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', 'GET /healthz HTTP/1.1\r\nBroken header\r\n\r\n']) {
        const r = await Raw.connect(gw.port, { ca: cluster.ca });
        r.write(Buffer.from(text, 'latin1'));
        const a = await r.response().catch(() => null);
        if (a) assert.ok([400, 404, 405, 431, 505].includes(a.status), `${JSON.stringify(text)}: ${a.head}`);
        r.destroy();
      }
    }));

    it('a header that comes a byte at a time', () => counts('handshake_timeout', async () => {
      const r = await Raw.connect(gw.port, { ca: cluster.ca }), text = upgrade('/ws/slow', { 'X-Pad': 'x'.repeat(500) });
      const drip = setInterval(() => { if (!r.socket.destroyed) r.write(text[r.at = (r.at ?? -1) + 1] ?? 'x'); }, 50);
      const began = Date.now();
      try { await within(r.gone, 30000, 'the end'); } finally { clearInterval(drip); }
      assert.ok(Date.now() - began < 15000);
      if (r.received.length) assert.match(r.received.toString(), /^HTTP\/1\.1 408 /);
    }));

    it('a body that never comes', () => counts('handshake_timeout', async () => {
      const r = await Raw.connect(gw.port, { ca: cluster.ca });
      r.write('POST /api/v1/rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{');
      await Promise.race([within(r.gone, 30000, 'the end'), r.response().then(async a => { assert.ok(a.status >= 400); r.write('x'); await within(r.gone, 30000, 'the end'); })]);
    }));

    it('huge headers, many headers, a huge URL, a huge body', () => counts('bad_http', async () => {
      for (const text of [upgrade('/ws/x', { 'X-Big': 'x'.repeat(100000) }), upgrade('/ws/x', Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`X-${i}`, 'y']))), upgrade(`/ws/${'x'.repeat(100000)}`), `POST /api/v1/rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n${'x'.repeat(200000)}`]) {
        const r = await Raw.connect(gw.port, { ca: cluster.ca });
        r.write(text);
        const a = await r.response().catch(() => null);
        if (a) assert.ok([400, 404, 405, 413, 414, 431].includes(a.status), a.head);
        await within(r.gone, 30000, `the end of ${text.slice(0, 60)}`);
      }
    }));
  });

  describe('what is not WebSocket', () => {
    const violations = [
      ['an unmasked frame', () => frame(OP.text, '{"type":"ping"}', { mask: false })],
      ['opcode 3', () => frame(3, 'x')],
      ['opcode 11', () => frame(11, 'x')],
      ['opcode 15', () => frame(15, '')],
      ['reserved bit 1', () => frame(OP.text, '{"type":"ping"}', { rsv: 4 })],
      ['reserved bit 3', () => frame(OP.ping, '', { rsv: 1 })],
      ['a ping in fragments', () => frame(OP.ping, 'x', { fin: false })],
      ['a ping of 126 bytes', () => frame(OP.ping, 'x'.repeat(126))],
      ['a close of 126 bytes', () => frame(OP.close, Buffer.concat([Buffer.from([3, 232]), Buffer.alloc(124, 120)]))],
      ['a continuation of nothing', () => frame(OP.cont, 'x')],
      ['a message within a message', () => Buffer.concat([frame(OP.text, '{', { fin: false }), frame(OP.text, '}')])],
      ['a close of one byte', () => frame(OP.close, Buffer.from([3]))],
      ['close code 999', () => frame(OP.close, Buffer.from([3, 231]))],
      ['close code 1005', () => frame(OP.close, Buffer.from([3, 237]))],
      ['close code 1006', () => frame(OP.close, Buffer.from([3, 238]))],
      ['close code 5000', () => frame(OP.close, Buffer.from([19, 136]))],
      ['a length with its top bit set', () => Buffer.from([0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])],
    ];
    for (const [what, bytes] of violations) {
      it(what, async () => {
        const before = await gw.metrics(), r = await open();
        r.write(bytes());
        const end = await r.end();
        assert.ok([1002, ...(what.includes('top bit') ? [1009] : [])].includes(end?.code), JSON.stringify(end));
        await until(async () => { const now = await gw.metrics(); return now.sum('xindao_drops_total') > before.sum('xindao_drops_total'); }, { what: 'a counter to move' });
      });
    }

    it('the websocket_protocol counter counts them', () => counts('websocket_protocol', async () => {
      const r = await open();
      r.send(3, '');
      await r.end();
    }));

    it('text that is not UTF-8, whole and in fragments', () => counts('bad_utf8', async () => {
      const bad = [[0xff], [0xc0, 0x80], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xf0, 0x9f, 0x98]];
      for (const b of bad) {
        for (const inFragments of [false, true]) {
          const r = await open(), text = Buffer.concat([Buffer.from('{"type":"ping","x":"'), Buffer.from(b), Buffer.from('"}')]);
          if (inFragments) { r.send(OP.text, text.subarray(0, 21), { fin: false }); r.send(OP.cont, text.subarray(21)); } else r.send(OP.text, text);
          const end = await r.end();
          assert.equal(end?.code, 1007, `${Buffer.from(b).toString('hex')}: ${JSON.stringify(end)}`);
          assert.equal(end.reason, 'bad_utf8');
        }
      }
      const binary = await open();
      binary.send(OP.binary, Buffer.concat([Buffer.from('{"type":"publish","room":"'), Buffer.from([0xff]), Buffer.from('"}\0x')]));
      assert.ok(['bad_utf8', 'bad_request'].includes((await binary.json('error')).code));
      binary.destroy();
      const close = await open();
      close.send(OP.close, Buffer.concat([Buffer.from([3, 232]), Buffer.from([0xff, 0xfe])]));
      assert.ok([1007, 1002].includes((await close.end())?.code));
    }));

    it('a frame header of 1 GB, and more fragments than a message may have', () => counts('too_large', async () => {
      const before = memory();
      for (const length of [65537, 1 << 30, 2 ** 40]) {
        const r = await open();
        r.write(frame(OP.binary, 'x', { length }));
        assert.deepEqual(await r.end(), { code: 1009, reason: 'too_large' });
      }
      const r = await open();
      r.send(OP.text, 'x'.repeat(1000), { fin: false });
      for (let i = 0; i < 100; i++) r.send(OP.cont, 'x'.repeat(1000), { fin: false });
      assert.deepEqual(await r.end(), { code: 1009, reason: 'too_large' });
      assert.ok(memory() - before < 50 * MIB);
    }));

    it('fragments without end and without content', async () => {
      const before = memory(), r = await open();
      r.send(OP.text, '', { fin: false });
      const empty = Buffer.concat(Array.from({ length: 1000 }, () => frame(OP.cont, '', { fin: false })));
      for (let i = 0; i < 100; i++) r.write(empty);
      r.send(OP.cont, '{"type":"ping","id":1}');
      await Promise.race([r.json('pong'), r.gone]);
      assert.ok(memory() - before < 50 * MIB);
      r.destroy();
    });
  });

  describe('what is WebSocket but too much', () => {
    it('10,000 joins', async () => {
      const before = await gw.metrics(), m = memory(), prefix = unique(), c = await gw.client('joiner');
      for (let i = 0; i < 10000; i++) c.send({ type: 'join', room: `${prefix}-${i}`, id: i });
      let answers = 0, joined = 0;
      const done = (async () => {
        while (answers < 10000) {
          const f = await c.next(x => x.type === 'ack' || x.type === 'error', 60000);
          if (f.type === 'ack') joined++; else assert.ok(['limit_exceeded', 'rate_limited'].includes(f.code), JSON.stringify(f));
          answers++;
        }
      })();
      const end = await Promise.race([done.then(() => null, e => e), c.closed]);
      if (end?.code !== undefined) assert.ok(['too_many_errors', 'limit_exceeded', 'rate_limited'].includes(end.reason) && [1008, 1013].includes(end.code), JSON.stringify(end));
      else assert.equal(end, null, String(end));
      assert.ok(joined <= 100);
      assert.ok(memory() - m < 80 * MIB);
      await gw.counted(before, 'xindao_errors_total', { code: 'limit_exceeded' });
      c.ws.terminate();
      await c.closed;
      await until(async () => (await gw.metrics()).sum('xindao_rooms') <= before.sum('xindao_rooms'), { what: 'its rooms to go', ms: 40000 });
    });

    it('JSON as deep as a frame is long', async () => {
      const before = await gw.metrics(), c = await gw.client('deep');
      for (const text of ['['.repeat(60000), '{"a":'.repeat(12000), `{"type":"ping","x":${'['.repeat(30000)}${']'.repeat(30000)}}`]) {
        c.raw(text);
        assert.ok(['bad_request', 'too_large'].includes((await c.next('error')).code));
      }
      await c.settle();
      await c.close();
      await until(async () => (await gw.metrics()).sum('xindao_errors_total') >= before.sum('xindao_errors_total') + 3, { what: 'the errors to be counted' });
    });

    it('nothing but errors', () => counts('too_many_errors', async () => {
      const c = await gw.client('wrong');
      const flood = (async () => { for (let i = 0; i < 5000 && !c.end; i++) { c.raw('{"type":"nonsense"}'); if (i % 100 === 0) await sleep(5); } })();
      const end = await within(c.closed, 30000, 'the end');
      assert.equal(end.code, 1008);
      await flood;
    }));

    it('a client that says nothing, not even pong', async () => {
      const strict = await cluster.add('strict', { flags: ['--heartbeat', '1s'] }), before = await strict.metrics();
      const quiet = await Raw.open(strict.port, { id: 'quiet', ca: cluster.ca }), alive = await strict.client('alive');
      const end = await quiet.end();
      assert.deepEqual(end, { code: 1001, reason: 'idle' });
      assert.equal((await quiet.json('goodbye')).reason, 'idle');
      assert.ok(quiet.reader.frames.some(f => f.opcode === OP.ping), 'it was asked before');
      await strict.counted(before, 'xindao_drops_total', { reason: 'idle' });
      await alive.settle(); // npm ws answers pings
      assert.equal(alive.end, undefined);
      await alive.close();
      await strict.stop();
    });
  });

  describe('who may connect', () => {
    it('only pages of an allowed Origin', async () => {
      const picky = await cluster.add('picky', { flags: ['--origin', 'https://good.example', '--origin', 'https://also.example:8443'] }), before = await picky.metrics();
      for (const origin of ['https://good.example', 'https://also.example:8443', undefined]) { const c = await picky.client('x', { origin }); await c.close(); }
      for (const origin of ['https://evil.example', 'http://good.example', 'https://good.example.evil.example', 'https://also.example', 'null', 'https://sub.good.example'])
        await assert.rejects(picky.client('x', { origin }), e => { assert.equal(e.status, 403, `${origin}: ${e.message}`); assert.equal(JSON.parse(e.body).code, 'forbidden'); return true; });
      await picky.counted(before, 'xindao_drops_total', { reason: 'origin' }, 6);
      await picky.stop();
    });

    it('only so many from one address, and only so many at all', async () => {
      for (const [flag, reason] of [['--max-connections-per-ip', 'max_connections_per_ip'], ['--max-connections', 'max_connections']]) {
        const tight = await cluster.add(unique('tight'), { flags: [flag, '5'], wait: false });
        await until(() => / ready/.test(tight.log), { what: 'the gateway' });
        const held = [];
        for (let i = 0; i < 5; i++) held.push(await until(() => tight.client(`h${i}`).catch(() => null), { what: 'a place' }));
        await assert.rejects(tight.client('over'), `${flag}: a sixth connection was let in`);
        await held.pop().close();
        const again = await until(() => tight.client('again').catch(() => null), { what: 'the freed place' });
        for (const c of held) { await c.settle(); }
        await held[0].close();
        await until(async () => { try { return (await tight.metrics()).sum('xindao_drops_total', { reason }) >= 1; } catch { return false; } }, { what: `${reason} to be counted` });
        for (const c of [...held.slice(1), again]) await c.close();
        await tight.stop();
      }
    });
  });
});
