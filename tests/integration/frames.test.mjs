// frames.test.mjs: how frames are written (docs/protocol.md): heartbeats, ids, JSON, binary, RFC 6455; with both brokers
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { OP, Raw, frame } from './lib/raw.mjs';

const recent = ms => assert.ok(Math.abs(ms - Date.now()) < 60000, `${ms} is not now in Unix milliseconds`);

for (const broker of ['memory', 'redis']) {
  describe(`frames, ${broker} broker`, { timeout: 120000 }, () => {
    let cluster, gw, open, gather;

    before(async () => {
      cluster = await Cluster.start({ redis: broker === 'redis', flags: ['--max-message-size', '64k'] });
      gw = cluster.gateways[0];
      open = (...a) => gw.client(...a);
      gather = (...ids) => gw.gather(...ids);
    });
    after(() => cluster.stop());

    describe('ping', () => {
      it('answers the JSON kind with the time', async () => {
        const a = await open('a');
        const p = await a.call({ type: 'ping' });
        assert.deepEqual(Object.keys(p).sort(), ['id', 'time', 'type']);
        recent(p.time);
        a.send({ type: 'ping' });
        const q = await a.next('pong');
        assert.equal('id' in q, false);
        await a.close();
      });

      it('answers the text kind with exactly pong', async () => {
        const a = await open('a');
        for (const text of ['ping', 'abcdefghij012345ping', 'ABCDEFGHIJKLMNOPping', '0123456789abcdefping']) {
          a.raw(text);
          await a.next('text.pong');
        }
        await a.settle();
        assert.deepEqual(a.inbox, []);
        await a.close();
      });

      it('takes nothing else for a heartbeat', async () => {
        for (const text of ['Ping', 'ping ', ' ping', '0123456789abcdeping', '0123456789abcdefgping', '0123456789abcde-ping', '0123456789abcdé1ping', 'pong']) {
          const a = await open('a');
          a.raw(text);
          assert.equal((await a.next('error')).code, 'bad_request', text);
          await a.close();
        }
      });

      it('answers the WebSocket kind', async () => {
        const a = await open('a');
        a.ws.ping('payload');
        assert.equal((await a.next('ws.pong')).data, 'payload');
        await a.close();
      });
    });

    describe('ids', () => {
      it('come back as they were written', async () => {
        const a = await open('a');
        for (const id of ['"x"', '""', '"\\u0041\\/\\u00e9é😀"', '1', '0', '-0.0', '1e3', '1E+3', '12345678901234567890', '0.10', `"${'x'.repeat(64)}"`]) {
          a.raw(`{"id" : ${id} ,"type":"ping"}`);
          const p = await a.next('pong');
          assert.ok(p.raw.includes(`"id":${id},`) || p.raw.includes(`"id":${id}}`), `${id} came back as ${p.raw}`);
          a.raw(`{"type":"nonsense","id":${id}}`);
          const e = await a.next('error');
          assert.ok(e.raw.includes(`"id":${id},`) || e.raw.includes(`"id":${id}}`), `${id} came back as ${e.raw}`);
        }
        await a.close();
      });

      it('are strings or numbers', async () => {
        for (const id of ['null', 'true', '{}', '[]', `"${'x'.repeat(65)}"`]) {
          const a = await open('a');
          a.raw(`{"type":"ping","id":${id}}`);
          const e = await a.next(f => f.type === 'error' || f.type === 'pong');
          assert.equal(e.type, 'error', `${id} was taken`);
          await a.close();
        }
      });
    });

    describe('JSON', () => {
      const bad = ['', ' ', '{', '}', '[]', '[{"type":"ping"}]', '"ping"', '1', 'null', '{"type":"ping",}', "{'type':'ping'}", '{type:"ping"}', '{"type":"ping"} x', '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping","a":NaN}', '{"type":"ping","a":01}', '{"type":"ping","a":1.}', '{"type":"ping","a":.5}', '{"type":"ping","a":+1}', '{"type":"ping","a":1e}', '{"type":"ping","a":"\\x"}', '{"type":"ping","a":"\\u12"}',
        '{"type":"ping","a":"tab\there"}', '{"type":"ping","a":tru}', '{"type":"ping","a":[1,]}', '{"type":"ping" "a":1}', '{"type":"ping","a"}', '\ufeff{"type":"ping"}', '{"type":"ping"/**/}', '{"type":"ping"}\u0000', '{"type":"ping","a":"unfinished}'];

      it('must be an object of RFC 8259', async () => {
        for (let i = 0; i < bad.length; i += 4) {
          const a = await open('a');
          for (const text of bad.slice(i, i + 4)) {
            a.raw(text);
            assert.equal((await a.next(f => f.type === 'error' || f.type === 'pong')).code, 'bad_request', JSON.stringify(text));
          }
          await a.settle();
          await a.close();
        }
      });

      it('is judged inside data as well', async () => {
        const [room, a, b] = await gather('a', 'b');
        for (const value of ['[1,]', '01', '{"a":}', 'nul', '"\\q"']) {
          a.raw(`{"type":"publish","room":${JSON.stringify(room)},"data":${value}}`);
          assert.equal((await a.next('error')).code, 'bad_request', value);
        }
        await a.publish(room, 'good');
        assert.equal((await b.message()).data, 'good');
        await a.close(); await b.close();
      });

      it('has members of the right type, once', async () => {
        const room = unique();
        for (const [text, code] of [['{}', 'bad_request'], ['{"type":5}', 'bad_request'], ['{"type":null}', 'bad_request'], ['{"type":"shout"}', 'unknown_type'], ['{"type":""}', 'unknown_type'], ['{"type":"PING"}', 'unknown_type'],
          ['{"type":"ping","type":"ping"}', 'bad_request'], ['{"type":"join"}', 'bad_request'], ['{"type":"join","room":5}', 'bad_request'], ['{"type":"join","room":null}', 'bad_request'],
          ['{"type":"join","room":"a","room":"b"}', 'bad_request'], ['{"type":"join","room":"a","\\u0072oom":"b"}', 'bad_request'], [`{"type":"publish","room":"${room}"}`, 'bad_request'],
          [`{"type":"publish","room":"${room}","data":1,"data":2}`, 'bad_request'], [`{"type":"publish","room":"${room}","data":1,"echo":"no"}`, 'bad_request'], [`{"type":"publish","room":"${room}","data":1,"event":5}`, 'bad_request']]) {
          const a = await open('a');
          await a.join(room);
          a.raw(text);
          assert.equal((await a.next('error')).code, code, text);
          await a.close();
        }
      });

      it('may be written any way, with members we do not know', async () => {
        const a = await open('a'), room = unique();
        a.raw(` {\r\n\t"future" : {"a":[1,{}]} , "\\u0074ype" : "j\\u006fin", "id":1, "room" : "${room.replace('r', '\\u0072')}" }\n`);
        assert.equal((await a.next('ack')).room, room);
        await a.close();
      });

      it('nests 32 deep and no deeper', async () => {
        const [room, a] = await gather('a');
        const nested = n => `{"type":"publish","room":${JSON.stringify(room)},"id":1,"data":${'['.repeat(n - 1)}${']'.repeat(n - 1)}}`;
        a.raw(nested(32));
        assert.equal((await a.next(f => f.type === 'ack' || f.type === 'error')).type, 'ack');
        for (const n of [34, 1000, 20000]) {
          a.raw(nested(n));
          const e = await a.next(f => f.type === 'ack' || f.type === 'error');
          assert.ok(['bad_request', 'too_large'].includes(e.code), JSON.stringify(e));
        }
        await a.close();
      });

      it('names must be whole characters', async () => {
        for (const text of ['\\ud800', '\\udc00x', 'a\\ud83d']) {
          const a = await open('a');
          a.raw(`{"type":"join","room":"${text}"}`);
          assert.ok(['bad_utf8', 'invalid_name', 'bad_request'].includes((await a.next('error')).code), text);
          await a.close();
        }
      });
    });

    describe('binary', () => {
      it('carries any bytes', async () => {
        const [room, a, b] = await gather('a', 'b');
        for (const bytes of [Buffer.from([0, 1, 2, 0, 255, 254]), Buffer.alloc(0), Buffer.alloc(60000, 7), Buffer.from('{"text":"not JSON to us"}')]) {
          const ack = await a.callBinary({ type: 'publish', room, event: 'blob' }, bytes);
          for (const c of [a, b]) {
            const m = await c.message();
            assert.equal(m.binary, true);
            assert.deepEqual([m.room, m.event, m.from, m.position], [room, 'blob', { session: a.session, user: 'a' }, ack.position]);
            assert.equal('data' in JSON.parse(m.head), false);
            assert.deepEqual(m.bytes, bytes);
            recent(m.time);
          }
        }
        await a.close(); await b.close();
      });

      it('goes to one, to all, and keeps its place among text', async () => {
        const [room, a, b] = await gather('a', 'b');
        await a.publish(room, 'text 1');
        await a.callBinary({ type: 'publish', room }, Buffer.from('bytes 2'));
        await a.publish(room, 'text 3');
        assert.deepEqual([(await b.message()).data, (await b.message()).bytes.toString(), (await b.message()).data], ['text 1', 'bytes 2', 'text 3']);
        await a.callBinary({ type: 'send', to: { session: b.session } }, Buffer.from('psst'));
        assert.equal((await b.message()).bytes.toString(), 'psst');
        await a.callBinary({ type: 'broadcast' }, Buffer.from('hear'));
        assert.equal((await b.next(f => f.room === '$all' && f.binary)).bytes.toString(), 'hear');
        await a.close(); await b.close();
      });

      it('is only for what has data, and well formed', async () => {
        const [room, a] = await gather('a');
        const wrong = [Buffer.from('{"type":"ping"}\0'), Buffer.from('{"type":"join","room":"x"}\0x'), Buffer.from(`{"type":"publish","room":"${room}"}`), Buffer.from(`{"type":"publish","room":"${room}","data":1}\0x`), Buffer.from('nonsense\0x'), Buffer.from('\0x'), Buffer.alloc(0)];
        for (const w of wrong) {
          const c = await open('a');
          c.ws.send(w, { binary: true });
          const e = await c.next('error');
          assert.ok(['bad_request', 'unsupported'].includes(e.code), `${w}: ${e.code}`);
          await c.close();
        }
        await a.close();
      });
    });

    describe('RFC 6455', () => {
      it('joins fragments, and control frames between them', async () => {
        const r = await Raw.open(gw.port, { ca: cluster.ca });
        r.send(OP.text, '{"type":', { fin: false });
        r.send(OP.ping, 'in between');
        r.send(OP.cont, '"ping",', { fin: false });
        r.send(OP.cont, '', { fin: false });
        r.send(OP.cont, '"id":7}');
        assert.equal((await r.json('pong')).id, 7);
        assert.equal(r.reader.frames.find(f => f.opcode === OP.pong).payload.toString(), 'in between');
        r.destroy();
      });

      it('joins characters that were cut in two', async () => {
        const r = await Raw.open(gw.port, { ca: cluster.ca }), text = Buffer.from('{"type":"join","room":"信道","id":1}'), cut = text.indexOf('信') + 1;
        r.send(OP.text, text.subarray(0, cut), { fin: false });
        r.send(OP.cont, text.subarray(cut));
        assert.equal((await r.json('ack')).room, '信道');
        r.destroy();
      });

      it('takes frames byte by byte, and many at once', async () => {
        const r = await Raw.open(gw.port, { ca: cluster.ca });
        r.socket.setNoDelay(true);
        for (const byte of frame(OP.text, '{"type":"ping","id":"slow"}')) r.write(Buffer.from([byte]));
        assert.equal((await r.json('pong')).id, 'slow');
        r.write(Buffer.concat(Array.from({ length: 50 }, (_, i) => frame(OP.text, `{"type":"ping","id":${i}}`))));
        await r.wait(() => r.reader.frames.filter(f => f.payload.includes('"pong"')).length === 51, '51 pongs');
        const ids = r.reader.frames.slice(-50).map(f => JSON.parse(f.payload).id);
        assert.deepEqual(ids, Array.from({ length: 50 }, (_, i) => i));
        r.destroy();
      });

      it('answers a close with its code', async () => {
        for (const [code, want] of [[1000, 1000], [1001, 1001], [3000, 3000], [4999, 4999], [1013, 1013]]) {
          const r = await Raw.open(gw.port, { ca: cluster.ca });
          r.send(OP.close, Buffer.from([code >> 8, code & 255]));
          assert.equal((await r.end())?.code, want);
        }
        const empty = await Raw.open(gw.port, { ca: cluster.ca });
        empty.send(OP.close, '');
        assert.ok([1000, 1005].includes((await empty.end()).code));
      });
    });
  });
}
