// socketio.mjs: rules of the Socket.IO protocol, 4 (clients 2.x, Engine.IO 3) and 5 (clients 3.x and 4.x, Engine.IO 4)
import { masked } from '../lib/eio.mjs';
import { sleep } from '../lib/wait.mjs';
import { frames, play, rule } from './case.mjs';

const bytes = (...b) => Buffer.from(b);
const IN = '40{"sid":"?"}', ADMIN = '40/admin,{"sid":"?"}';
const hole = n => `{"_placeholder":true,"num":${n}}`;
const quick = { world: 'quick' };
/** In a session of protocol 5, or 4: what is sent behind the connect, and what is heard behind its answer. */
const v5 = (name, send, said, more) => frames(name, 4, ['40', ...send], [IN, ...said], more && { ...more, differs: more.differs && { ...more.differs, ...(more.differs.said && { said: [IN, ...more.differs.said] }) } });
const v4 = (name, send, said, more) => frames(name, 3, send, ['40', ...said], more && { ...more, differs: more.differs && { ...more.differs, ...(more.differs.said && { said: ['40', ...more.differs.said] }) } });
/** The same in both: `frame` ends the connection. */
const ends = (name, ...send) => [v5(`5: ${name}`, send, [], { closed: true }), v4(`4: ${name}`, send, [], { closed: true })];
const both = (name, send, said, more) => [v5(`5: ${name}`, send, said, more), v4(`4: ${name}`, send.map(f => (typeof f === 'string' ? f : Buffer.concat([bytes(4), f]))), said.map(f => f.replace(/^bytes /, 'bytes 04')), more)];
const keys = text => Object.keys(JSON.parse(text.replace(/^[^{]*/, ''))).sort();
const UNKNOWN = '{"message":"Invalid namespace"}';

export const connecting = [
  rule('S1', '4: the server connects / by itself, with a CONNECT that has nothing in it',
    frames('at once', 3, [], ['40']),
    frames('events at once', 3, ['42["x",{"a":1}]'], ['40', '42["x",{"a":1}]']),
    play('by long-polling', async w => { const s = await w.poll(3, '&b64=1'); let all = s.first.text; while (!all.endsWith('2:40')) all += (await s.get()).text; return all.replace(/^\d+:0\{[^}]*\}/, ''); }, '2:40')),
  rule('S2', '5: the client connects; the answer has sid, and nothing else',
    frames('nothing comes by itself', 4, [], []),
    frames('40', 4, ['40'], [IN]),
    frames('with a payload', 4, ['40{"token":"x","deep":{"a":[1]}}'], [IN]),
    frames('with spaces', 4, ['40 {} '], [IN]),
    play('the keys', async w => keys((await w.ws(4).connect()).exact[1]), ['sid']),
    play('by long-polling', async w => { const s = await w.poll(4); await s.post('40'); return masked((await s.get()).text); }, IN)),
  rule('S3', 'other namespaces are connected by their names, with a comma behind or without',
    v5('5: with', ['40/admin,'], [ADMIN]),
    v5('5: without', ['40/admin'], [ADMIN]),
    v5('5: with a payload', ['40/admin,{"token":"x"}'], [ADMIN]),
    frames('5: without /', 4, ['40/admin', '42/admin,["x",1]'], [ADMIN, '42/admin,["x",1]']),
    v4('4: with', ['40/admin,'], ['40/admin,']),
    v4('4: without', ['40/admin'], ['40/admin,']),
    v5('5: by a pattern', ['40/dyn-1,', '42/dyn-1,["x"]'], ['40/dyn-1,{"sid":"?"}', '42/dyn-1,["x"]']),
    v4('4: by a pattern', ['40/dyn-1', '42/dyn-1,["x"]'], ['40/dyn-1,', '42/dyn-1,["x"]'])),
  rule('S4', '4: a namespace may have a query; the answer is without it',
    v4('in CONNECT', ['40/admin?token=x,', '42/admin,["x"]'], ['40/admin,', '42/admin,["x"]']),
    v4('without its comma', ['40/admin?a=b&c=d'], ['40/admin,']),
    v4('in what follows', ['40/admin?token=x,', '42/admin?token=x,["x"]'], ['40/admin,', '42/admin,["x"]']),
    v5('5: it is part of the name', ['40/admin?token=x,'], [`44/admin?token=x,${UNKNOWN}`])),
  rule('S5', 'a namespace that does not exist is refused with "Invalid namespace"',
    v5('5', ['40/random,'], [`44/random,${UNKNOWN}`]),
    v5('5: without a comma', ['40/random'], [`44/random,${UNKNOWN}`]),
    v5('5: and the connection stays', ['40/random', '42["x"]'], [`44/random,${UNKNOWN}`, '42["x"]']),
    v5('5: by no pattern', ['40/dy'], [`44/dy,${UNKNOWN}`]),
    v4('4: as a text', ['40/random'], [`44/random,${UNKNOWN}`], { differs: { why: 'refusals of clients 2.x', said: ['44/random,"Invalid namespace"'] } })),
  rule('S6', 'whoever is refused is told why: 5 has message and data, 4 a text',
    play('5', async w => { const s = await w.ws(4).connect(); s.send('40/closed,{"user":7}'); await s.heardAll(2); const [, text] = s.said(); return [text.slice(0, 11), keys(text), s.end === true]; }, ['44/closed,{', ['data', 'message'], false]),
    play('5: and may try again', async w => { const s = await w.ws(4).connect(); s.send('40/closed,{"user":7}'); await s.heardAll(2); s.send('40/closed,{}'); await s.heardAll(3); return s.said()[2]; }, '40/closed,{"sid":"?"}')),
  rule('S7', '5: whoever connects no namespace within connectTimeout is disconnected',
    play('over a WebSocket', async w => { const s = w.ws(4); await s.opened; await s.closed; return s.lasted > 550 && s.lasted < 1000; }, true, quick),
    play('with one that was refused', async w => { const s = w.ws(4); await s.opened; s.send('40/random'); await s.closed; return s.lasted > 550 && s.lasted < 1000; }, true, quick),
    play('not with one that was left again', async w => { const s = await w.ws(4).connect(); s.send('41'); s.ws.on('message', d => { if (d.toString() === '2') s.send('3'); }); return s.fate(900); }, 'open', quick)),
  rule('S8', 'a namespace is connected once',
    frames('5: / twice', 4, ['40', '40'], [IN], { closed: true }),
    frames('5: another one twice', 4, ['40/admin', '40/admin'], [ADMIN], { closed: true }),
    play('4: another one twice', async w => { const s = await w.ws(3).connect(); s.send('40/admin'); await s.heardAll(2); s.send('40/admin'); return s.fate(300); }, 'closed', { differs: { why: 'CONNECT where a client 2.x is already', want: 'open' } }),
    v4('4: /, where it is already', ['40', '42["x"]'], [], { closed: true, differs: { why: 'CONNECT where a client 2.x is already', closed: false, said: ['42["x"]'] } })),
  rule('S9', 'many namespaces of one connection do not know of each other',
    v5('5', ['40/admin,', '42/admin,["x",1]', '42["y"]'], [ADMIN, '42/admin,["x",1]', '42["y"]']),
    v4('4', ['40/admin', '42/admin,["x",1]', '42["y"]'], ['40/admin,', '42/admin,["x",1]', '42["y"]']),
    play('5: seventeen', async w => { const s = await w.ws(4).connect(), names = Array.from({ length: 16 }, (_, i) => `/dyn-${i}`); for (const [i, n] of names.entries()) { s.send(`40${n},`); await s.heardAll(i + 2); } return s.said().filter(t => t.startsWith('40')).length; }, 17, { differs: { why: 'number of namespaces', want: 16 } }),
    v5('5: a name of 101 letters', [`40/dyn-${'x'.repeat(96)},`], [`40/dyn-${'x'.repeat(96)},{"sid":"?"}`], { differs: { why: 'length of a namespace', said: [`44/dyn-${'x'.repeat(96)},{"message":"Invalid namespace"}`] } })),
  rule('S10', '41 leaves a namespace, and the connection open',
    v5('5: /, and back', ['41', '40'], [IN]),
    v5('5: another, with and without its comma', ['40/admin', '41/admin', '40/admin', '41/admin,', '40/admin'], [ADMIN, ADMIN, ADMIN]),
    v5('5: the others stay', ['40/admin', '41', '42/admin,["x"]'], [ADMIN, '42/admin,["x"]']),
    v5('5: what comes for it then ends the connection', ['41', '42["x"]'], [], { closed: true }),
    v4('4: /', ['41', '2'], []),
    v4('4: another, and back', ['40/admin', '41/admin,', '40/admin', '42["x"]'], ['40/admin,', '40/admin,', '42["x"]'])),
  rule('S11', 'the server disconnects a namespace with 41, and the connection stays',
    ...[[4, ''], [4, '/admin,'], [3, ''], [3, '/admin,']].map(([eio, nsp]) => play(`${eio + 1}: ${nsp || '/'}`, async w => {
      const s = await w.ws(eio).connect();
      if (nsp !== '') { s.send(`40${nsp}`); await s.heardAll(2); }
      const before = s.said().length;
      await w.disconnect(nsp.replace(',', '') || '/');
      await s.heardAll(before + 1);
      const said = s.said().slice(before).filter(t => !t.includes('"$'));
      if (eio === 4) { s.send(`40${nsp}`); await s.waitFor(() => s.said().length > before + said.length, 'the connect'); }
      return [said, s.end === true];
    }, [[`41${nsp}`], false]))),
];

const RESERVED = ['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener'];

export const packets = [
  rule('S12', 'events with any arguments, both ways, in order',
    ...both('none', ['42["x"]'], ['42["x"]']),
    ...both('several of all kinds', ['42["x",1,"two",null,true,{"a":[]},[3]]'], ['42["x",1,"two",null,true,{"a":[]},[3]]']),
    ...both('letters of all kinds', ['42["é😀",{"键":"\\u0000\\ud83d\\ude00"}]'], ['42["é😀",{"键":"\\u0000😀"}]'], { differs: { why: 'spelling of JSON', said: ['42["é😀",{"键":"\\u0000\\ud83d\\ude00"}]'] } }),
    ...both('many', Array.from({ length: 30 }, (_, i) => `42["x",${i}]`), Array.from({ length: 30 }, (_, i) => `42["x",${i}]`)),
    ...both('a name that is a number', ['42[1,2]'], ['42[1,2]'], { differs: { why: 'name that is a number', said: ['42["1",2]'] } }),
    ...both('a name that is empty', ['42["",2]', '42["x"]'], ['42["",2]', '42["x"]'], { differs: { why: 'names of events', said: [/^42\["\$error",\{.*"code":"invalid_name"/, '42["x"]'] } }),
    v5('5: error, which is not reserved', ['42["error",1]'], ['42["error",1]']),
    v4('4: error, which clients 2.x keep for themselves', ['42["error",1]'], ['42["error",1]'], { differs: { why: 'names that clients 2.x keep for themselves', said: ['42["$error",1]'] } }),
    play('5: from the server', async w => { const s = await w.ws(4).connect(); await w.emit('/', 'news', [1, { a: 'b' }]); await s.heardAll(2); return s.said()[1]; }, '42["news",1,{"a":"b"}]'),
    play('4: from the server, in a namespace', async w => { const s = await w.ws(3).connect(); s.send('40/admin'); await s.heardAll(2); await w.emit('/admin', 'news', []); await s.heardAll(3); return s.said()[2]; }, '42/admin,["news"]')),
  rule('S13', 'binary events: the text first, then its attachments',
    ...both('one', [`451-["x",${hole(0)}]`, bytes(1, 2, 3)], [`451-["x",${hole(0)}]`, 'bytes 010203']),
    ...both('two, deep', [`452-["x",{"a":[${hole(0)}]},${hole(1)}]`, bytes(1), bytes(2)], [`452-["x",{"a":[${hole(0)}]},${hole(1)}]`, 'bytes 01', 'bytes 02']),
    ...both('ten', [`4510-["x",[${Array.from({ length: 10 }, (_, i) => hole(i))}]]`, ...Array.from({ length: 10 }, (_, i) => bytes(i))], [`4510-["x",[${Array.from({ length: 10 }, (_, i) => hole(i))}]]`, ...Array.from({ length: 10 }, (_, i) => `bytes 0${i}`)]),
    v5('5: in another order', [`452-["x",${hole(1)},${hole(0)}]`, bytes(1), bytes(2)], [`452-["x",${hole(0)},${hole(1)}]`, 'bytes 02', 'bytes 01'], { differs: { why: 'order of attachments', said: [`452-["x",${hole(1)},${hole(0)}]`, 'bytes 01', 'bytes 02'] } }),
    v5('5: in a namespace', ['40/admin', `451-/admin,["x",${hole(0)}]`, bytes(1)], [ADMIN, `451-/admin,["x",${hole(0)}]`, 'bytes 01']),
    ...both('what looks like a placeholder in an event without', [`42["x",${hole(0)}]`], [`42["x",${hole(0)}]`]),
    v5('5: a heartbeat between', [`451-["x",${hole(0)}]`, '3', bytes(9)], [`451-["x",${hole(0)}]`, 'bytes 09'])),
  rule('S14', 'acks of what clients emit: the id comes back, in the namespace, with the arguments',
    ...both('of /', ['421["ack","a",2]'], ['431["a",2]']),
    ...both('id 0', ['420["ack",1]'], ['430[1]']),
    ...both('none to say', ['425["ack"]'], ['435[]']),
    ...both('a long id', ['42123456789012["ack",1]'], ['43123456789012[1]']),
    ...both('zeros in front', ['42007["ack",1]'], ['437[1]']),
    v5('5: of a namespace', ['40/admin', '42/admin,12["ack",1]'], [ADMIN, '43/admin,12[1]']),
    v4('4: of a namespace', ['40/admin', '42/admin,12["ack",1]'], ['40/admin,', '43/admin,12[1]']),
    ...both('with bytes', [`451-7["ack",${hole(0)}]`, bytes(1, 2)], [`461-7[${hole(0)}]`, 'bytes 0102'])),
  rule('S15', 'acks of what the server emits: ids of each namespace, from 0 on; who answers twice is heard once',
    ...[[4, ''], [4, '/admin,'], [3, '']].map(([eio, nsp]) => play(`${eio + 1}: ${nsp || '/'}`, async w => {
      const s = await w.ws(eio).connect(), name = nsp.replace(',', '') || '/', got = [];
      if (nsp !== '') { s.send(`40${nsp}`); await s.heardAll(2); }
      for (let i = 0; i < 2; i++) {
        const before = s.said().length, answer = w.ask(name, 'ask', [i]);
        await s.heardAll(before + 1);
        const [, asked, id, rest] = /^(42[^[\d]*)(\d+)(\[.*)$/.exec(s.said()[before]);
        s.send(`43${nsp}${id}["yes",${i}]`, `43${nsp}${id}["no"]`);
        got.push(asked, rest, await answer);
      }
      return [got, await s.fate(50)];
    }, [[`42${nsp}`, '["ask",0]', 'yes', `42${nsp}`, '["ask",1]', 'yes'], 'open'])),
    play('the ids', async w => { const s = await w.ws(4).connect(); s.send('40/dyn-ids,'); await s.heardAll(2); w.ask('/dyn-ids', 'ask', []).catch(() => {}); w.ask('/dyn-ids', 'ask', []).catch(() => {}); await s.heardAll(4); return s.said().slice(2); }, ['42/dyn-ids,0["ask"]', '42/dyn-ids,1["ask"]'], { differs: { why: 'ids of acks', want: [/^42\/dyn-ids,\d+\["ask"\]$/, /^42\/dyn-ids,\d+\["ask"\]$/] } }),
    play('with bytes', async w => { const s = await w.ws(4).connect(), answer = w.ask('/', 'ask', []); await s.heardAll(2); const id = /\d+/.exec(s.said()[1].slice(2))[0]; s.send(`461-${id}[${hole(0)}]`, bytes(1, 2)); const got = await answer; return Buffer.isBuffer(got) ? got.toString('base64') : got; }, 'AQI='),
    ...both('nobody asked', ['430[]', '4399["x"]', '42["x"]'], ['42["x"]']),
    ...both('without an id', ['43[]', '42["x"]'], ['42["x"]'])),
];

export const violations = [
  rule('S16', 'a type that does not exist ends the connection', ...['4', '47', '48', '49', '4abc', '4-1', '4/admin,'].flatMap(f => ends(f, f))),
  rule('S17', 'an event whose payload is no array that begins with a name ends the connection',
    ...['42{}', '42[]', '42[{}]', '42[null]', '42[true]', '42[["x"]]', '42"x"', '42null', '42["x"', '42["x"]]', '42["x"] 1', '42[x]', '421{}'].flatMap(f => ends(f, f)),
    ...both('without any payload', ['42', '42["x"]'], ['42["x"]'], { differs: { why: 'event or ack without payload', said: [], closed: true } })),
  rule('S18', 'an event with a reserved name ends the connection', ...RESERVED.flatMap(e => ends(e, `42["${e}"]`)), ...ends('spelled otherwise', '42["\\u0063onnect"]'), ...ends('with bytes', `451-["connect",${hole(0)}]`)),
  rule('S19', 'an ack whose payload is no array ends the connection',
    ...['430{}', '430"x"', '431null', '430[', '461-1{}'].flatMap(f => ends(f, f)),
    ...both('without any payload', ['430', '42["x"]'], ['42["x"]'], { differs: { why: 'event or ack without payload', said: [], closed: true } })),
  rule('S20', 'an id that is none ends the connection', ...['42abc["x"]', '42-1["x"]', '421.5["x"]', '421a["x"]', '42/admin["x"]', '40admin'].flatMap(f => ends(f, f)),
    ...both('of more than 16 digits', ['4212345678901234567["ack",1]'], ['4312345678901234568[1]'], { differs: { why: 'ids of more than 16 digits', said: [], closed: true } })),
  rule('S21', 'text while attachments are missing ends the connection',
    ...ends('an event', `451-["x",${hole(0)}]`, '42["y"]'), ...ends('another binary one', `452-["x",${hole(0)},${hole(1)}]`, bytes(4, 1), `451-["x",${hole(0)}]`), ...ends('a disconnect', `451-["x",${hole(0)}]`, '41')),
  rule('S22', 'an attachment that nobody has announced ends the connection', ...ends('at once', bytes(4, 1)),
    ...[4, 3].map(eio => play(`${eio + 1}: one too many`, async w => { const s = await w.ws(eio).connect(); s.send(`451-["x",${hole(0)}]`, bytes(4, 1)); await s.heardAll(3); s.send(bytes(4, 2)); return s.fate(1000); }, 'closed'))),
  rule('S23', 'the number of attachments is one, from 1 to 10', ...['45["x"]', '45-["x"]', '45x-["x"]', '451["x"]', '451.5-["x"]', '45-1-["x"]', '4511-["x"]', '46["x"]', '4611-1["x"]', '4599999999999-["x"]'].flatMap(f => ends(f, f)),
    ...both('0', ['450-["x"]'], [], { closed: true, differs: { why: '`50-`: no attachments', said: ['42["x"]'], closed: false } })),
  rule('S24', 'a placeholder names an attachment that is there', ...[hole(1), hole(-1), '{"_placeholder":true}', '{"_placeholder":true,"num":"0"}'].flatMap(h => ends(h, `451-["x",${h}]`, bytes(4, 1))),
    ...both(hole(0.5), [`451-["x",${hole(0.5)}]`, bytes(1)], ['42["x",null]'], { differs: { why: 'placeholder with a fraction', said: [], closed: true } })),
  rule('S25', 'a packet for a namespace that is not connected ends the connection, unless it connects it',
    ...['42/admin,["x"]', '41/admin,', '41/admin', '43/admin,1[]', '44/admin,{}'].flatMap(f => ends(f, f)),
    ...ends('a binary one, when it is complete', `451-/admin,["x",${hole(0)}]`, bytes(4, 1)),
    ...['41', '42["x"]', '430[]'].map(f => frames(`5: ${f} before any`, 4, [f], [], { closed: true }))),
  rule('S26', 'CONNECT has an object or nothing, DISCONNECT nothing',
    ...['40[]', '40"x"', '40null'].map(f => frames(`5: ${f}`, 4, [f], [], { closed: true })),
    ...['41{}', '41"x"', '41[]', '41/admin,{}'].flatMap(f => ends(f, f))),
  rule('S27', 'CONNECT_ERROR is for servers to send', ...['44{}', '44"x"', '44{"message":"x"}', '44'].flatMap(f => ends(f, f))),
  rule('S28', 'by long-polling it is the same', ...[[4, '42{}'], [4, '47'], [3, '42{}'], [3, '42["connect"]']].map(([eio, said]) => play(`${eio + 1}: ${said}`, async w => {
    const s = await (await w.poll(eio)).connect();
    await s.post(eio === 4 ? said : `${said.length}:${said}`, { abort: 300 });
    for (let r; ; await sleep(10)) if ((r = await s.get()).status !== 200) return r.status;
  }, 400))),
];
