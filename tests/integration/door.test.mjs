// door.test.mjs: how one gets in, with both brokers: WebSocket handshakes, what /ws/<id> means, and the HTTP beside it
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster, request } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { Raw, upgrade } from './lib/raw.mjs';
import { offsetOf } from './lib/position.mjs';

for (const broker of ['memory', 'redis']) {
  describe(`the door, ${broker} broker`, { timeout: 240000 }, () => {
    let cluster, gw, open, gather;

    before(async () => {
      cluster = await Cluster.start({ redis: broker === 'redis', flags: ['--policy', 'secret.* presence=off public-history=off', '--policy', 'brief.* retain-count=0'] });
      gw = cluster.gateways[0];
      open = (...a) => gw.client(...a);
      gather = (...ids) => gw.gather(...ids);
    });
    after(() => cluster.stop());

    describe('connecting', () => {
      it('welcomes a user', async () => {
        const c = await open('alice');
        const { type, session, token, user, node, heartbeat, resume_window } = c.welcome;
        assert.equal(type, 'welcome');
        assert.match(session, /^[A-Za-z0-9_-]{16,}$/);
        assert.match(token, /^[A-Za-z0-9_-]{22,}$/);
        assert.notEqual(session, token);
        assert.equal(user, 'alice');
        assert.match(node, /^gw1-[0-9a-f]{6}$/);
        assert.ok(heartbeat > 0 && heartbeat <= 50);
        assert.equal(resume_window, 0);
        assert.equal(c.ws.protocol, 'xindao.v1.json');
        await c.close();
      });

      it('belongs to nobody without an id', async () => {
        const c = await open();
        assert.equal(c.welcome.user, null);
        assert.match(c.welcome.raw, /"user":null/);
        await c.close();
      });

      it('gives every session its own id and token', async () => {
        const all = await Promise.all(Array.from({ length: 5 }, () => open('same')));
        assert.equal(new Set(all.flatMap(c => [c.session, c.welcome.token])).size, 10);
        for (const c of all) await c.close();
      });

      it('decodes the id: percent signs, UTF-8, slashes, 128 bytes', async () => {
        for (const id of ['小明', 'a b/c?d#e', '100%', 'x'.repeat(128), 'é'.repeat(64)]) {
          const c = await open(id);
          assert.equal(c.welcome.user, id);
          await c.close();
        }
      });

      it('refuses ids that break the rules', async () => {
        for (const path of [`/ws/${'x'.repeat(129)}`, '/ws/a%01b', '/ws/a%00', '/ws/%ff', '/ws/%c3%28', '/ws/%ed%a0%80', '/ws/a%zz', '/ws/a%2']) {
          await assert.rejects(open(undefined, { path }), e => {
            assert.ok(e.status >= 400 && e.status < 500, `${path}: ${e.message}`);
            const body = JSON.parse(e.body);
            assert.ok(['invalid_name', 'bad_utf8', 'bad_request'].includes(body.code), e.body);
            assert.equal(typeof body.message, 'string');
            return true;
          }, path);
        }
      });

      it('echoes the subprotocol it knows, among several, and none when none was offered', async () => {
        const several = await open('a', { protocols: ['mqtt', 'xindao.v1.json'] });
        assert.equal(several.ws.protocol, 'xindao.v1.json');
        const none = await open('a', { protocols: [] });
        assert.equal(none.ws.protocol, '');
        assert.equal(none.welcome.user, 'a');
        const unknown = await Raw.open(gw.port, { headers: { 'Sec-WebSocket-Protocol': 'mqtt' }, ca: cluster.ca });
        assert.doesNotMatch(unknown.head, /sec-websocket-protocol/i);
        unknown.destroy();
        await several.close(); await none.close();
      });

      it('refuses what is no handshake, with an HTTP error that says why', async () => {
        const bad = [
          ['a plain GET', upgrade('/ws/x', { Connection: null, Upgrade: null, 'Sec-WebSocket-Key': null, 'Sec-WebSocket-Version': null }), [400, 426]],
          ['version 12', upgrade('/ws/x', { 'Sec-WebSocket-Version': '12' }), [400, 426]],
          ['no version', upgrade('/ws/x', { 'Sec-WebSocket-Version': null }), [400, 426]],
          ['no key', upgrade('/ws/x', { 'Sec-WebSocket-Key': null }), [400]],
          ['a short key', upgrade('/ws/x', { 'Sec-WebSocket-Key': 'AAAA' }), [400]],
          ['a key that is not base64', upgrade('/ws/x', { 'Sec-WebSocket-Key': '!'.repeat(24) }), [400]],
          ['POST', upgrade('/ws/x').replace('GET', 'POST'), [400, 405]],
          ['another upgrade', upgrade('/ws/x', { Upgrade: 'h2c' }), [400, 426]],
          ['another path', upgrade('/elsewhere'), [400, 404]],
        ];
        for (const [what, text, statuses] of bad) {
          const r = await Raw.connect(gw.port, { ca: cluster.ca });
          r.write(text);
          const a = await r.response();
          assert.ok(statuses.includes(a.status), `${what}: ${a.head}`);
          const body = JSON.parse(a.body);
          assert.equal(typeof body.code, 'string', what);
          assert.equal(typeof body.message, 'string', what);
          if (/version/.test(what) && a.status === 426) assert.match(a.head, /sec-websocket-version: 13/i);
          r.destroy();
        }
      });

      it('takes the handshake of a picky client: odd case, extra tokens, other headers', async () => {
        const r = await Raw.connect(gw.port, { ca: cluster.ca });
        r.write(upgrade('/ws/x?from=test', { Connection: 'keep-alive, UPGRADE', Upgrade: 'WebSocket', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits', Cookie: 'a=b' }));
        const text = await r.wait(() => r.received.includes('\r\n\r\n') && r.received.toString('latin1'), 'the 101');
        assert.match(text, /^HTTP\/1\.1 101 /);
        assert.match(text, /sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/i);
        assert.doesNotMatch(text.split('\r\n\r\n')[0], /sec-websocket-extensions/i);
        r.destroy();
      });
    });

    describe('HTTP beside it', () => {
      it('lists rooms and shows one', async () => {
        const [room, a, b] = await gather('a', 'b');
        await a.publish(room, 1);
        const { position: at } = await a.publish(room, 2);
        const all = [];
        let next = null, pages = 0;
        do {
          const r = await gw.get(`/api/v1/rooms?limit=2${next ? `&cursor=${encodeURIComponent(next)}` : ''}`);
          assert.equal(r.status, 200);
          assert.match(r.headers['content-type'], /^application\/json/);
          all.push(...r.json.rooms);
          next = r.json.next;
          assert.ok(next === null || typeof next === 'string');
          assert.ok(++pages < 200);
        } while (next !== null);
        assert.deepEqual(all.filter(x => x.room === room), [{ room, total: 2 }]);
        assert.deepEqual(all.filter(x => x.room.startsWith('$')), []);
        const one = await gw.get(`/api/v1/rooms/${encodeURIComponent(room)}`);
        assert.equal(one.status, 200);
        assert.deepEqual([one.json.room, one.json.total, one.json.position], [room, 2, at]);
        assert.deepEqual(one.json.members.map(m => [m.session, m.user, m.state]).sort(), [[a.session, 'a', 'active'], [b.session, 'b', 'active']].sort());
        await a.close(); await b.close();
      });

      it('decodes the room of the path', async () => {
        const a = await open('a'), room = `${unique()}/信道 %`;
        await a.join(room);
        const r = await gw.get(`/api/v1/rooms/${encodeURIComponent(room)}`);
        assert.deepEqual([r.status, r.json.room, r.json.total], [200, room, 1]);
        await a.close();
      });

      it('pages through the history of a room, both ways', async () => {
        const [room, a] = await gather('a'), path = `/api/v1/rooms/${room}/history`;
        for (let i = 1; i <= 250; i++) a.send({ type: 'publish', room, event: 'step', data: i });
        await a.settle();
        const acked = (await a.publish(room, 251)).position, heard = [];
        while (heard.length < 251) heard.push(await a.message(room));
        const page = async query => {
          const r = await gw.get(`${path}?${query}`);
          assert.equal(r.status, 200, r.text);
          assert.match(r.headers['content-type'], /^application\/json/);
          return r.json;
        };
        const kept = heard.slice(-100), newest = await page('limit=30'), back = [newest];
        assert.deepEqual([newest.room, newest.position, newest.next], [room, acked, 251]);
        while (back[0].previous !== null) back.unshift(await page(`before=${back[0].previous}&limit=30`));
        assert.deepEqual(back.map(p => p.messages.length), [10, 30, 30, 30]);
        const forward = [await page(`after=${offsetOf(kept[0].position) - 1}&limit=40`)];
        while (forward.at(-1).more) forward.push(await page(`after=${forward.at(-1).next}&limit=40`));
        assert.deepEqual(forward.map(p => p.messages.length), [40, 40, 20]);
        for (const pages of [back, forward, [await page('limit=1000')], [await page('after=0&limit=1000')]])
          assert.deepEqual(pages.flatMap(p => p.messages), kept.map(({ type, room: _, ...m }) => m));
        assert.deepEqual((await page('after=251')).messages, []);
        await a.close();
      });

      it('tells data as it was written, and bytes as base64', async () => {
        const [room, a] = await gather('a');
        a.raw(`{"type":"publish","room":"${room}","data":{"b" : [1.0, "\\u4f60"] ,"a":1e2}}`);
        const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
        await a.callBinary({ type: 'publish', room, event: 'blob' }, bytes);
        const r = await gw.get(`/api/v1/rooms/${room}/history`);
        assert.ok(r.text.includes('"data":{"b" : [1.0, "\\u4f60"] ,"a":1e2}}'), r.text);
        assert.deepEqual(Buffer.from(r.json.messages[1].data_base64, 'base64'), bytes);
        assert.deepEqual(Object.keys(r.json.messages[1]), ['position', 'event', 'from', 'time', 'data_base64']);
        const { 'content-length': length } = (await gw.get(`/api/v1/rooms/${room}/history`, { method: 'HEAD' })).headers;
        assert.equal(Number(length), Buffer.byteLength(r.text));
        await a.close();
      });

      it('shows no history that policy keeps to itself, or does not keep', async () => {
        for (const [room, status, code] of [['secret.1', 403, 'forbidden'], ['brief.1', 501, 'unsupported'], ['$all', 404, 'not_found'], ['%24user:a', 404, 'not_found']]) {
          const r = await gw.get(`/api/v1/rooms/${room}/history`);
          assert.deepEqual([r.status, r.json.code], [status, code], room);
        }
        for (const query of ['limit=0', 'limit=1001', 'after=x', 'before=', 'after=1&before=9']) {
          const r = await gw.get(`/api/v1/rooms/x/history?${query}`);
          assert.deepEqual([r.status, r.json.code], [400, 'bad_request'], query);
        }
      });

      it('answers what it does not know', async () => {
        for (const [path, options, statuses] of [['/nothing', {}, [404]], [`/api/v1/rooms/${'x'.repeat(256)}`, {}, [400]], ['/api/v1/rooms/%ff', {}, [400]], ['/api/v1/nothing', {}, [404]], ['/api/v1/rooms?limit=0', {}, [400]],
          ['/api/v1/rooms?limit=x', {}, [400]], ['/healthz', { method: 'DELETE' }, [400, 404, 405]], ['/api/v1/rooms', { method: 'POST', body: '{}' }, [400, 404, 405]]]) {
          const r = await gw.get(path, options);
          assert.ok(statuses.includes(r.status), `${path}: ${r.status} ${r.text}`);
          assert.deepEqual(Object.keys(r.json).sort(), ['code', 'message'], path);
        }
      });

      it('keeps a connection alive for several requests', async () => {
        const r = await Raw.connect(gw.port, { ca: cluster.ca });
        for (let i = 0; i < 3; i++) {
          r.received = Buffer.alloc(0);
          r.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
          assert.equal((await r.response()).status, 200);
        }
        r.received = Buffer.alloc(0);
        r.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
        await r.wait(() => r.received.toString().split('HTTP/1.1 200').length === 3, 'two answers');
        await r.gone;
      });
    });
  });
}

describe('protocol, behind a proxy that ends TLS', { timeout: 120000 }, () => {
  it('speaks plain ws when asked to', async () => {
    const cluster = await Cluster.start({ redis: false, insecure: true });
    try {
      const [gw] = cluster.gateways, a = await gw.client('a');
      await a.join('plain');
      await a.publish('plain', 1);
      assert.equal((await a.message()).data, 1);
      assert.equal((await request(gw.port, '/healthz', { insecure: true })).status, 200);
      await a.close();
    } finally { await cluster.stop(); }
  });
});
