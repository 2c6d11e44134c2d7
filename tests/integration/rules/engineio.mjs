// engineio.mjs: rules of Engine.IO 3 and 4: opening, requests and what is wrong with them, framing, limits
import { gunzipSync } from 'node:zlib';
import { answer, masked } from '../lib/eio.mjs';
import { sleep } from '../lib/wait.mjs';
import { Raw, upgrade } from '../lib/raw.mjs';
import { frames, play, rule } from './case.mjs';
import { PAGE } from './world.mjs';

const OPEN = (upgrades, times = '"pingInterval":25000,"pingTimeout":20000') => `0{"sid":"?","upgrades":[${upgrades}],${times},"maxPayload":1000000}`;
const bytes = (...b) => Buffer.from(b);
const TEXT = 'text/plain; charset=UTF-8', JSON_TYPE = 'application/json', OCTETS = 'application/octet-stream';
const refusal = (code, message, status = 400) => ({ status, type: JSON_TYPE, text: JSON.stringify({ code, message }) });
const UNKNOWN = refusal(0, 'Transport unknown'), NO_SID = refusal(1, 'Session ID unknown'), METHOD = refusal(2, 'Bad handshake method'), BAD = refusal(3, 'Bad request'), FORBIDDEN = refusal(4, 'Forbidden', 403);
const counted = packets => packets.map(p => `${p.length}:${p}`).join('');
const y = '451-["y",{"_placeholder":true,"num":0}]';

const first = async (w, eio, o) => { const s = w.ws(eio, o); await s.opened; await s.waitFor(t => t.startsWith('0{'), 'the open packet'); return s; };
const onlyOpen = r => ({ ...answer(r), text: masked(r.text).replace(/2:40$/, '') });
const refused = async (w, query, o) => answer(await w.http(query, o));
/** What a handshake that is refused gets, on the bare socket. */
const aborted = async (w, path, headers) => {
  const r = await Raw.connect(w.port, { secure: false });
  r.write(upgrade(path, headers));
  await r.wait(() => r.received.includes('\r\n\r\n'), 'an answer');
  const fate = await Promise.race([r.gone.then(() => 'closed'), sleep(500).then(() => 'open')]);
  r.destroy();
  return [r.received.toString().split('\r\n')[0], fate];
};
const ABORT = ['HTTP/1.1 400 Bad Request', 'closed'];

export const handshake = [
  rule('E1', 'the open packet of EIO=4 has exactly sid, upgrades, pingInterval, pingTimeout and maxPayload, with the defaults 25 s and 20 s',
    play('by long-polling', async w => answer((await w.poll(4)).first), { status: 200, type: TEXT, text: OPEN('"websocket"') }),
    play('over a WebSocket', async w => (await first(w, 4)).heard[0], OPEN(''))),
  rule('E2', 'the open packet of EIO=3 is the same, and is the first of its session',
    play('by long-polling', async w => onlyOpen((await w.poll(3, '&b64=1')).first), { status: 200, type: TEXT, text: `N:${OPEN('"websocket"')}` }),
    play('by long-polling, to a client that takes bytes', async w => onlyOpen((await w.poll(3)).first), { status: 200, type: TEXT, text: `N:${OPEN('"websocket"')}` }),
    play('over a WebSocket', async w => (await first(w, 3)).heard[0], OPEN(''))),
  rule('E3', 'every EIO but 4 means 3',
    ...['abc', '', '5', '2'].map(eio => play(`EIO=${eio}`, async w => { const s = await first(w, eio); await s.heardAll(1); return s.said(); }, ['40'])),
    play('none', async w => /^\d+:0\{/.test((await w.http('transport=polling')).text), true)),
  rule('E4', 'upgrades are what there is to go over to',
    play('with the WebSocket alone', async w => (await first(w, 4)).heard[0], OPEN(''), { world: 'websocket only' }),
    play('with long-polling alone', async w => answer((await w.poll(4)).first).text, OPEN(''), { world: 'polling only' })),
  rule('E5', 'the sid of EIO=3 is the id of its session in /; that of EIO=4 is another',
    play('EIO=4: the id in / is not the sid', async w => { const s = await w.ws(4).connect(); return JSON.parse(s.exact[0].slice(1)).sid === JSON.parse(s.exact[1].slice(2)).sid; }, false),
    play('EIO=3: nothing in CONNECT names another', async w => { const s = await w.ws(3).connect(); return s.exact[1]; }, '40'),
    play('EIO=3: it is who is meant', async w => { const s = await w.ws(3).connect(); await w.emit('/', 'psst', [1], { to: JSON.parse(s.exact[0].slice(1)).sid }); await s.heardAll(2); return s.said()[1]; }, '42["psst",1]'),
    play('EIO=3: in /admin, /admin#sid', async w => { const s = await w.ws(3).connect(); s.send('40/admin'); await s.heardAll(2); await w.emit('/admin', 'psst', [1], { to: `/admin#${JSON.parse(s.exact[0].slice(1)).sid}` }); await w.emit('/admin', 'end', []); await s.waitFor(t => t.includes('"end"'), 'the end'); return s.said()[2]; }, '42/admin,["psst",1]', { differs: { why: 'ids of clients 2.x in other namespaces', want: '42/admin,["end"]' } }),
    play('letters, digits, - and _', async w => (await Promise.all([3, 4].map(eio => first(w, eio)))).map(s => /^[A-Za-z0-9_-]{16,20}$/.test(JSON.parse(s.exact[0].slice(1)).sid)), [true, true]),
    play('EIO=4 by long-polling: the sid names a node', async w => /^[A-Za-z0-9_-]+$/.test((await w.poll(4)).sid), true, { differs: { why: 'form of a `sid`', want: false } })),
  rule('E6', 'a path with a slash behind it, and parameters that mean nothing',
    play('t=', async w => (await w.http('EIO=4&transport=polling&t=Pabc&b=1')).status, 200),
    play('a second path', async w => (await w.http('EIO=4&transport=polling', { path: '/engine.io/' })).status, 200, { alone: true }),
    play('without the slash', async w => (await w.http('EIO=4&transport=polling', { path: '/socket.io' })).status, 404, { differs: { why: 'path without its last slash', want: 200 } }),
    play('another path', async w => (await w.http('EIO=4&transport=polling', { path: '/socket/' })).status, 404)),
  rule('E7', 'GET is answered as text/plain in UTF-8, POST with ok as text/html, and neither is kept in a cache',
    play('EIO=4', async w => { const s = await w.poll(4), p = await s.post('40'), g = await s.get(); return [s.first, p, g].map(r => [r.status, r.type, r.headers['cache-control']]).concat([[p.text]]); },
      [[200, TEXT, 'no-store'], [200, 'text/html', 'no-store'], [200, TEXT, 'no-store'], ['ok']]),
    play('EIO=3', async w => { const s = await w.poll(3), p = await s.post('1:2'); return [s.first, p].map(r => [r.status, r.type, r.headers['cache-control']]).concat([[p.text]]); },
      [[200, TEXT, 'no-store'], [200, 'text/html', 'no-store'], ['ok']])),
  rule('E8', 'no cookie is set', ...[3, 4].map(eio => play(`EIO=${eio}`, async w => (await w.poll(eio)).first.headers['set-cookie'] ?? 'none', 'none'))),
  rule('E9', 'pages of other origins are told so: their own name, with credentials, and what they may send',
    play('GET', async w => { const { first: r } = await w.poll(3, '', { headers: { origin: PAGE } }); return ['access-control-allow-origin', 'access-control-allow-credentials'].map(n => r.headers[n]); }, [PAGE, 'true']),
    play('POST', async w => { const s = await w.poll(4), r = await s.post('40', { headers: { origin: PAGE } }); return ['access-control-allow-origin', 'access-control-allow-credentials'].map(n => r.headers[n]); }, [PAGE, 'true']),
    play('OPTIONS', async w => {
      const r = await w.http('EIO=3&transport=polling', { method: 'OPTIONS', headers: { origin: PAGE, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' } });
      return [r.status, r.headers['access-control-allow-origin'], r.headers['access-control-allow-credentials'], /content-type/i.test(r.headers['access-control-allow-headers']), /GET.*POST/.test(r.headers['access-control-allow-methods'])];
    }, [204, PAGE, 'true', true, true]),
    play('a refusal', async w => (await w.http('EIO=4&transport=abc', { headers: { origin: PAGE } })).headers['access-control-allow-origin'], PAGE)),
  rule('E10', 'large answers are compressed for whoever takes that', ...[[5000, 'gzip'], [100, 'none']].map(([n, want]) => play(`${n} letters`, async w => {
    const s = await (await w.poll(4)).connect();
    await s.post(`42["x","${'y'.repeat(n)}"]`);
    const r = await s.get({ headers: { 'accept-encoding': 'gzip' } });
    return [r.headers['content-encoding'] ?? 'none', (want === 'gzip' ? gunzipSync(r.raw).toString() : r.text) === `42["x","${'y'.repeat(n)}"]`];
  }, [want, true])),
    play('who takes deflate alone', async w => { const s = await (await w.poll(4)).connect(); await s.post(`42["x","${'y'.repeat(5000)}"]`); return (await s.get({ headers: { 'accept-encoding': 'deflate' } })).headers['content-encoding'] ?? 'none'; }, 'deflate', { differs: { why: '`deflate`', want: 'none' } }),
    play('who takes nothing', async w => { const s = await (await w.poll(4)).connect(); await s.post(`42["x","${'y'.repeat(5000)}"]`); return (await s.get()).headers['content-encoding'] ?? 'none'; }, 'none')),
];

export const errors = [
  rule('E11', '400 {"code":0}: a transport that does not exist',
    ...['', '&transport=', '&transport=abc', '&transport=constructor', '&transport=__proto__'].map(t => play(t || 'none', w => refused(w, `EIO=4${t}`), UNKNOWN)),
    play('polling, where there is none', w => refused(w, 'EIO=4&transport=polling'), UNKNOWN, { world: 'websocket only' }),
    play('websocket, where there is none', w => refused(w, 'EIO=4&transport=websocket'), UNKNOWN, { world: 'polling only' })),
  rule('E12', '400 {"code":1}: a session that does not exist',
    ...['abc', 'constructor', '__proto__', 'x'.repeat(16), 'x'.repeat(300), `${'x'.repeat(16)}.nowhere`].map(sid => play(`${sid.slice(0, 25)}`, w => refused(w, `EIO=4&transport=polling&sid=${sid}`), NO_SID)),
    play('POST', w => refused(w, 'EIO=4&transport=polling&sid=abc', { method: 'POST', body: '40' }), NO_SID),
    play('EIO=3', w => refused(w, 'EIO=3&transport=polling&sid=abc'), NO_SID),
    play('an empty one is none', async w => masked((await w.http('EIO=4&transport=polling&sid=')).text), OPEN('"websocket"'))),
  rule('E13', '400 {"code":2}: a session is opened by GET', ...['POST', 'PUT', 'DELETE', 'PATCH'].map(method => play(method, w => refused(w, 'EIO=4&transport=polling', { method, body: '40' }), METHOD))),
  rule('E14', '400 {"code":3}: a WebSocket that is none; a request for a session that does not fit it',
    play('transport=websocket without an upgrade', w => refused(w, 'EIO=4&transport=websocket'), BAD),
    play('polling a session of a WebSocket', async w => { const s = await first(w, 4); return refused(w, `EIO=4&transport=polling&sid=${JSON.parse(s.exact[0].slice(1)).sid}`); }, BAD, { differs: { why: 'request for the session of a WebSocket', want: NO_SID } }),
    play('transport=websocket for one by long-polling', async w => { const s = await w.poll(4); return refused(w, `EIO=4&transport=websocket&sid=${s.sid}`); }, BAD),
    ...[[4, 3], [3, 4]].map(([eio, other]) => play(`EIO=${other} for one of EIO=${eio}`, async w => { const s = await w.poll(eio), r = await refused(w, `EIO=${other}&transport=polling&sid=${s.sid}`, { method: 'POST', body: '1' }); return [r, (await s.post(eio === 4 ? '40' : '1:2')).status]; }, [BAD, 200])),
    play('PUT for a session', async w => { const s = await w.poll(4), r = await w.http(s.query, { method: 'PUT', body: '40' }); return [r.status, (await s.post('40')).status]; }, [500, 200], { differs: { why: 'other methods than GET and POST', want: [400, 200] } })),
  rule('E15', '403 {"code":4}: who may not come in',
    play('an origin that is not on the list', w => refused(w, 'EIO=4&transport=polling', { headers: { origin: 'http://elsewhere.example' } }), FORBIDDEN)),
  rule('E16', '400 {"code":5}: a revision that is not spoken here',
    play('EIO=3 is one, unless told otherwise', async w => (await w.poll(3)).first.status, 200),
    play('by long-polling', w => refused(w, 'EIO=3&transport=polling'), refusal(5, 'Unsupported protocol version'), { world: 'EIO=4 only' }),
    play('over a WebSocket', w => w.ws(3).closed, 'closed', { world: 'EIO=4 only' }),
    play('EIO=4', async w => (await w.poll(4)).first.status, 200, { world: 'EIO=4 only' })),
  rule('E17', 'a WebSocket that is refused is answered with 400 on its socket, which is closed',
    play('an unknown transport', w => aborted(w, '/socket.io/?EIO=4&transport=abc'), ABORT),
    play('no transport', w => aborted(w, '/socket.io/?EIO=4'), ABORT),
    play('an unknown sid', w => aborted(w, '/socket.io/?EIO=4&transport=websocket&sid=abc'), ABORT),
    play('where there are none', w => aborted(w, '/socket.io/?EIO=4&transport=websocket'), ['HTTP/1.1 400 Bad Request', 'open'], { world: 'polling only', differs: { why: 'WebSocket where none is offered', want: ABORT } }),
    play('transport=polling', async w => { const s = w.ws(4, { transport: 'polling' }); return [await s.opened, await s.closed]; }, [true, 'closed'], { differs: { why: 'WebSocket that says `transport=polling`', want: [false, 'closed'] } }),
    play('an origin that is not on the list', w => aborted(w, '/socket.io/?EIO=4&transport=websocket', { Origin: 'http://elsewhere.example' }), ABORT, { differs: { why: 'WebSocket of a forbidden origin', want: ['HTTP/1.1 403 Forbidden', 'closed'] } })),
];

export const framing = [
  rule('E18', 'EIO=3: packets behind their length in UTF-16 code units',
    play('out', async w => { const s = await (await w.poll(3, '&b64=1')).connect(); await s.post(counted(['42["x","é😀12"]'])); return s.next(); }, counted(['42["x","é😀12"]'])),
    play('several at once, in order', async w => { const s = await (await w.poll(3, '&b64=1')).connect(), all = ['42["a","😀"]', '42["b"]', '42["c","é"]']; const p = await s.post(counted(all)); let got = ''; while (got.length < counted(all).length) got += await s.next(); return [p.text, got]; }, ['ok', counted(['42["a","😀"]', '42["b"]', '42["c","é"]'])]),
    play('a length in bytes is wrong', async w => { const s = await (await w.poll(3)).connect(); await s.post('12:42["x","é"]', { abort: 300 }); return (await s.get()).status; }, 400),
    play('a letter that comes in two pieces', async w => { const s = await (await w.poll(3, '&b64=1')).connect(), body = Buffer.from(counted(['42["😀"]'])); await s.post([body.subarray(0, 7), body.subarray(7)], { chunked: true }); return s.next(); }, counted(['42["😀"]'])),
    play('0: holds nothing', async w => { const s = await (await w.poll(3)).connect(), p = await s.post('0:'); await s.post(counted(['42["x"]'])); return [p.status, p.text, await s.next()]; }, [200, 'ok', counted(['42["x"]'])])),
  rule('E19', 'EIO=4: packets between \\x1e',
    play('both ways', async w => { const s = await (await w.poll(4)).connect(); await s.post('42["x","é😀"]\x1e42["y"]'); let got = await s.next(); if (!got.includes('"y"')) got += `\x1e${await s.next()}`; return got; }, '42["x","é😀"]\x1e42["y"]'),
    play('one behind the last', async w => { const s = await (await w.poll(4)).connect(); await s.post('42["x"]\x1e', { abort: 300 }); const r = []; for (let i = 0; i < 2; i++) r.push((await s.get()).status); return r.at(-1); }, 400)),
  rule('E20', 'EIO=3: a payload with bytes is all bytes, unless b64 was asked for',
    play('out', async w => {
      const s = await (await w.poll(3)).connect();
      const p = await s.post(Buffer.concat([bytes(0, 3, 9, 255), Buffer.from(y), bytes(1, 3, 255, 4, 1, 2)]), { headers: { 'content-type': OCTETS } });
      const r = await s.get();
      return [p.text, r.type, r.raw.toString('hex')];
    }, ['ok', OCTETS, Buffer.concat([bytes(0, 3, 9, 255), Buffer.from(y), bytes(1, 3, 255, 4, 1, 2)]).toString('hex')]),
    play('texts in it have their length in bytes', async w => {
      const s = await (await w.poll(3)).connect(), text = Buffer.from('42["é😀"]');
      await s.post(Buffer.concat([bytes(0, 1, 2, 255), text]), { headers: { 'content-type': OCTETS } });
      return s.next();
    }, counted(['42["é😀"]']))),
  rule('E21', 'EIO=3 with b64=1: bytes are b4 and base64',
    play('both ways', async w => { const s = await (await w.poll(3, '&b64=1')).connect(); await s.post(counted([y, 'b4AQIDBA=='])); let got = await s.next(); if (!got.includes('b4')) got += await s.next(); return got; }, counted([y, 'b4AQIDBA=='])),
    play('in, from whoever did not ask for it', async w => { const s = await (await w.poll(3)).connect(); await s.post(counted([y, 'b4AQI='])); const r = await s.get(); return [r.type, r.raw.subarray(-6).toString('hex')]; }, [OCTETS, '0103ff040102'])),
  rule('E22', 'EIO=4: bytes are b and base64, and never an octet-stream',
    play('both ways', async w => { const s = await (await w.poll(4)).connect(); await s.post(`${y}\x1ebAQIDBA==`); let got = await s.next(); if (!got.includes('\x1e')) got += `\x1e${await s.next()}`; return got; }, `${y}\x1ebAQIDBA==`),
    play('an octet-stream ends the session', async w => { const s = await (await w.poll(4)).connect(), p = await s.post('42["x"]', { headers: { 'content-type': OCTETS } }); return [p.status, (await s.get()).status]; }, [400, 400])),
  rule('E23', 'WebSocket: EIO=3 writes the type in front of bytes, EIO=4 nothing',
    frames('EIO=4', 4, ['40', y, bytes(4, 1, 2)], ['40{"sid":"?"}', y, 'bytes 040102']),
    frames('EIO=3', 3, [y, bytes(4, 1, 2)], ['40', y, 'bytes 040102']),
    frames('EIO=3: another type', 3, [bytes(7, 1, 2)], ['40'], { differs: { why: 'bytes that are no message', closed: true } }),
    frames('EIO=4: an empty one', 4, ['40', y, bytes()], ['40{"sid":"?"}', y, 'bytes ']),
    frames('EIO=4: base64 in a text', 4, ['40', y, 'bAQI='], ['40{"sid":"?"}', y, 'bytes 0102']),
    frames('EIO=3: base64 in a text', 3, [y, 'b4AQI='], ['40', y, 'bytes 040102']),
    frames('EIO=3 with b64=1', 3, [y, 'b4AQI='], ['40', y, 'b4AQI='], { socket: { extra: '&b64=1' }, differs: { why: '`b64=1` over a WebSocket', said: ['40', y, 'bytes 040102'] } })),
  rule('E24', 'JSONP: scripts that call ___eio[j], and forms whose field d has \\n escaped',
    ...[4, 3].map(eio => play(`EIO=${eio}`, async w => {
      const s = await (await w.poll(eio, '&j=7&b64=1')).connect(), said = '42["x","a\\nb\u2028 +\\"&=%"]';
      const p = await s.post((eio === 3 ? counted([said]) : said).replaceAll('\\n', '\\\\n'));
      return [masked(s.first.text).replace(/2:40"/, '"').replace(/"\d+:0/, '"N:0'), p.text, p.type, (await s.get()).text];
    }, [`___eio[7]("${eio === 3 ? 'N:' : ''}${OPEN('"websocket"').replaceAll('"', '\\"')}");`, 'ok', 'text/html', `___eio[7](${JSON.stringify(eio === 3 ? counted(['42["x","a\\nb\u2028 +\\"&=%"]']) : '42["x","a\\nb\u2028 +\\"&=%"]').replaceAll('\u2028', '\\u2028')});`])),
    play('a line feed between packets', async w => { const s = await (await w.poll(4, '&j=0')).connect(); await s.post('42["x", \\n1]'); return (await s.get()).text; }, '___eio[0]("42[\\"x\\",1]");'),
    play('only digits of j', async w => /^[^(]*/.exec((await w.poll(4, '&j=1];alert(2);x[')).first.text)[0], '___eio[12]'),
    play('of a page that is not allowed', async w => [(await w.poll(4, '&j=7', { headers: { referer: 'http://elsewhere.example/' } })).first.status, (await w.http('EIO=4&transport=polling&j=7')).status], [200, 200], { differs: { why: 'JSONP of a page that is not allowed', want: [403, 403] } }),
    play('the type', async w => (await w.poll(4, '&j=7')).first.type, TEXT, { differs: { why: 'type of a script', want: 'text/javascript; charset=UTF-8' } })),
  rule('E25', 'a message is at most maxPayload',
    play('POST', async w => { const s = await (await w.poll(4)).connect(), p = await s.post(`42["${'x'.repeat(1000001)}"]`, { abort: 3000 }); await s.post('42["y"]'); return [p.status, await s.next()]; }, [413, '42["y"]'], { home: true }),
    play('POST in pieces', async w => { const s = await (await w.poll(4)).connect(); return (await s.post(`42["${'x'.repeat(1000001)}"]`, { chunked: true, abort: 3000 })).status; }, 413, { home: true }),
    play('one of just that size', async w => { const s = await (await w.poll(4)).connect(), said = `42["${'x'.repeat(999990)}",1]`; const p = await s.post(said); return [said.length, p.text]; }, [999998, 'ok']),
    play('WebSocket', async w => { const s = await w.ws(4).connect(); s.send(`42["${'x'.repeat(1000001)}"]`); return [await s.closed, s.code]; }, ['closed', 1009])),
];
