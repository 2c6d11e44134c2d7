// session.mjs: rules of Engine.IO 3 and 4: heartbeats, going over to a WebSocket, and how sessions end
import { answer } from '../lib/eio.mjs';
import { sleep } from '../lib/wait.mjs';
import { frames, play, rule } from './case.mjs';

const bytes = (...b) => Buffer.from(b);
const GONE = { status: 400, type: 'application/json', text: '{"code":1,"message":"Session ID unknown"}' };
const y = '451-["y",{"_placeholder":true,"num":0}]';
const event = (eio, text) => (eio === 4 ? text : `${text.length}:${text}`);
const both = make => [4, 3].map(make);
const connected = async (w, eio) => (await w.poll(eio, eio === 3 ? '&b64=1' : '')).connect();
const open = (s, eio) => s.heardAll(eio === 3 ? 1 : 0);
/** Keeps a client of its revision alive until `run` is done. */
async function beating(s, frame, run) {
  const timer = setInterval(() => s.send(frame), 100);
  try { return await run(); } finally { clearInterval(timer); }
}
/** A client of revision 4 that answers pings. */
function pongs(s) {
  s.ws.on('message', d => { if (d.toString() === '2') s.send('3'); });
  return s;
}
const quick = { world: 'quick' };
const between = (ms, from, to) => (ms >= from && ms <= to ? 'in time' : `after ${Math.round(ms)} ms`);

export const heartbeats = [
  rule('E26', 'EIO=4: the server pings, the client answers',
    play('over a WebSocket, again and again', async w => {
      const s = pongs(await w.ws(4).connect());
      await sleep(1500);
      const pings = s.heard.filter(t => t === '2').length;
      return [pings >= 3 && pings <= 4, s.end === true];
    }, [true, false], quick),
    play('the first after the interval', async w => { const s = await w.ws(4).connect(); await s.waitFor(t => t === '2', 'the ping'); return between(s.at[s.heard.indexOf('2')] - s.at[0], 330, 700); }, 'in time', quick),
    play('by long-polling', async w => { const s = await connected(w, 4), r = []; for (let i = 0; i < 2; i++) { r.push((await s.get()).text); r.push((await s.post('3')).text); } return r; }, ['2', 'ok', '2', 'ok'], quick)),
  rule('E27', 'EIO=3: the client pings, the server answers, without what was said but to a probe',
    play('over a WebSocket', async w => { const s = await w.ws(3).connect(); s.send('2'); await s.waitFor(t => t.startsWith('3'), 'the pong'); return s.heard.at(-1); }, '3'),
    play('2abc', async w => { const s = await w.ws(3).connect(); s.send('2abc'); await s.waitFor(t => t.startsWith('3'), 'the pong'); return s.heard.at(-1); }, '3'),
    play('2probe, though there is nothing to go over from', async w => { const s = await w.ws(3).connect(); s.send('2probe'); await s.waitFor(t => t.startsWith('3'), 'the pong'); return s.heard.at(-1); }, '3', { differs: { why: '`2probe` on a WebSocket that is alone', want: '3probe' } }),
    play('by long-polling', async w => { const s = await connected(w, 3); await s.post('1:2'); return (await s.get()).text; }, '1:3'),
    play('the server does not ping', async w => { const s = await w.ws(3).connect(); await beating(s, '2', () => sleep(900)); return [s.heard.includes('2'), s.end === true]; }, [false, false], quick)),
  rule('E28', 'who is silent is gone: EIO=4 after interval and timeout, EIO=3 likewise',
    ...both(eio => play(`EIO=${eio} over a WebSocket`, async w => { const s = w.ws(eio); await s.opened; await open(s, eio); if (eio === 4) await s.connect(); await s.closed; return between(s.lasted, 650, 1100); }, 'in time', quick)),
    ...both(eio => play(`EIO=${eio} by long-polling`, async w => { const s = await w.poll(eio); await sleep(1100); return answer(await s.get()); }, GONE, quick)),
    play('a GET that waits is told', async w => { const s = await connected(w, 4), r = [(await s.get()).text, (await s.get()).text]; return [r, (await s.get()).status]; }, [['2', '1'], 400], quick),
    ...both(eio => play(`EIO=${eio}: who speaks, but has no heartbeat`, async w => { const s = await w.ws(eio).connect(); return beating(s, '42["x"]', () => s.fate(1900)); }, 'closed', { world: 'quick', differs: { why: 'who speaks is alive', want: 'open' } }))),
  rule('E29', 'a heartbeat in the wrong direction ends the session',
    frames('EIO=4, over a WebSocket', 4, ['40', '2'], ['40{"sid":"?"}'], { closed: true }),
    frames('EIO=4, with data', 4, ['40', '2probe'], ['40{"sid":"?"}'], { closed: true }),
    frames('EIO=3, over a WebSocket', 3, ['3'], ['40'], { closed: true }),
    ...[[4, '2'], [3, '1:3']].map(([eio, body]) => play(`EIO=${eio}, by long-polling`, async w => { const s = await connected(w, eio); await s.post(body, { abort: 300 }); return (await s.get()).status; }, 400))),
];

const PROBED = ['6', '1:6'];

/** A session by long-polling, a WebSocket for it that has been probed, and what the GET that had to end for it was answered. */
async function probed(w, eio) {
  const s = await connected(w, eio), u = await w.ws(eio, { sid: s.sid }).probe();
  return { s, u, noop: (await s.get()).text };
}

export const upgrades = [
  rule('E30', '2probe is answered 3probe, the GET that waits gets a noop, 5 goes over, and long-polling is over',
    ...both(eio => play(`EIO=${eio}`, async w => {
      const s = await connected(w, eio), waiting = s.get(), u = await w.ws(eio, { sid: s.sid }).probe(), noop = (await waiting).text;
      u.send('5', '42["x"]');
      await u.waitFor(t => t === '42["x"]', 'the event');
      return [PROBED.indexOf(noop) === (eio === 4 ? 0 : 1), u.said(), (await s.get()).status, (await s.post(event(eio, '42["y"]'))).status, u.end === true];
    }, [true, ['3probe', '42["x"]'], 400, 400, false])),
    play('a second probe', async w => { const { u } = await probed(w, 4); u.heard.length = 0; await u.probe(); u.send('5', '42["x"]'); await u.heardAll(2); return u.said(); }, ['3probe', '42["x"]']),
    play('a GET that still waits at the 5', async w => { const { s, u } = await probed(w, 4), waiting = s.get(); await sleep(60); u.send('5'); return (await waiting).text; }, '1', { differs: { why: 'GET that waits when a WebSocket takes over', want: '6' } }),
    play('without a probe', async w => { const s = await connected(w, 4), u = w.ws(4, { sid: s.sid }); await u.opened; u.send('5', '42["x"]'); await Promise.race([u.heardAll(1), u.closed]); return u.heard; }, ['42["x"]'], { differs: { why: '`5` without a probe', want: [] } }),
    ...both(eio => play(`EIO=${eio}: heartbeats go on`, async w => {
      const s = await w.poll(eio), u = await w.ws(eio, { sid: s.sid }).probe();
      u.send('5');
      if (eio === 4) pongs(u).send('40');
      return beating(u, eio === 4 ? '6' : '2', () => u.fate(1200));
    }, 'open', quick))),
  rule('E31', 'what waits to be told goes over to the WebSocket',
    ...both(eio => play(`EIO=${eio}`, async w => {
      const { s, u } = await probed(w, eio);
      await s.post(event(eio, '42["a"]') + (eio === 4 ? '\x1e' : '') + event(eio, '42["b"]'));
      await sleep(30);
      u.send('5');
      await u.heardAll(3);
      return u.said().filter(t => t.startsWith('42'));
    }, ['42["a"]', '42["b"]'])),
    play('bytes', async w => { const { s, u } = await probed(w, 3); await s.post(event(3, y) + event(3, 'b4AQI=')); await sleep(30); u.send('5'); await u.heardAll(3); return u.said().slice(-2); }, [y, 'bytes 040102']),
    play('but a GET that waits gets what there is, not a noop', async w => { const s = await connected(w, 4); await w.ws(4, { sid: s.sid }).probe(); await s.get(); await s.post('42["a"]'); return (await s.get()).text; }, '42["a"]')),
  rule('E32', 'a second WebSocket is closed, the first goes on',
    play('while the first is at it', async w => { const { s, u } = await probed(w, 4), second = w.ws(4, { sid: s.sid }); await second.opened; second.send('2probe'); const end = await second.closed; u.send('5', '42["x"]'); await u.heardAll(2); return [end, u.heard.at(-1)]; }, ['closed', '42["x"]']),
    play('afterwards', async w => { const { s, u } = await probed(w, 4); u.send('5'); await sleep(50); const end = await w.ws(4, { sid: s.sid }).closed; u.send('42["x"]'); await u.heardAll(2); return [end, u.heard.at(-1)]; }, ['closed', '42["x"]']),
    play('for a session that is no more', async w => { const s = await connected(w, 4); await s.post('1'); return w.ws(4, { sid: s.sid }).closed; }, 'closed'),
    play('of the other revision', async w => { const s = await connected(w, 4), u = w.ws(3, { sid: s.sid }), end = await u.closed; await s.post('42["x"]'); return [end, await s.opened, await s.next()]; }, ['closed', undefined, '42["x"]'])),
  rule('E33', 'a WebSocket that says something else is closed, long-polling goes on',
    ...['abc', '42["x"]', '2', '3probe', '1', ''].map(said => play(`"${said}"`, async w => { const s = await connected(w, 4), u = w.ws(4, { sid: s.sid }); await u.opened; u.send(said); const end = await u.closed; await s.post('42["y"]'); return [end, await s.next()]; }, ['closed', '42["y"]'])),
    play('bytes', async w => { const s = await connected(w, 4), u = w.ws(4, { sid: s.sid }); await u.opened; u.send(bytes(2)); const end = await u.closed; await s.post('42["y"]'); return [end, await s.next()]; }, ['closed', '42["y"]']),
    play('and another one may try', async w => { const s = await connected(w, 4), u = w.ws(4, { sid: s.sid }); await u.opened; u.ws.close(); await u.closed; await sleep(30); const v = await w.ws(4, { sid: s.sid }).probe(); v.send('5', '42["x"]'); await v.heardAll(2); return v.heard.at(-1); }, '42["x"]')),
  rule('E34', 'upgradeTimeout: a WebSocket that does not go on is closed after 10 s, long-polling goes on',
    play('after the probe', async w => { const { s, u } = await probed(w, 4); await u.closed; await s.post('42["y"]'); return [between(u.lasted, 9900, 11500), await s.next()]; }, ['in time', '42["y"]'], { slow: true })),
  rule('E35', 'a session that ends takes the WebSocket along that was to take over',
    play('by a close', async w => { const { s, u } = await probed(w, 4); await s.post('1'); return u.fate(1000); }, 'closed'),
    play('by silence', async w => { const s = await w.poll(4), u = await w.ws(4, { sid: s.sid }).probe(); return u.fate(1500); }, 'closed', quick)),
];

export const ends = [
  rule('E36', 'a second GET while one waits ends the session: the first is told 1, the second that it is wrong',
    ...both(eio => play(`EIO=${eio}`, async w => { const s = await connected(w, eio), one = s.get(); await sleep(40); const two = await s.get(); return [(await one).text, [400, 500].includes(two.status), (await s.get()).status]; }, [eio === 4 ? '1' : '1:1', true, 400]))),
  rule('E37', 'a second POST while one is under way ends the session',
    play('EIO=4', async w => {
      const s = await connected(w, 4), slow = s.post(undefined, { headers: { 'content-type': 'text/plain', 'content-length': 100 }, abort: 400 });
      await sleep(60);
      const two = await s.post('42["x"]', { abort: 300 });
      await slow;
      return [two.status, (await s.get()).status];
    }, [400, 400], { differs: { why: 'POST that is not complete', want: [200, 200] } }),
    play('one that its client gives up', async w => { const s = await connected(w, 4); await s.post(undefined, { headers: { 'content-type': 'text/plain', 'content-length': 100 }, abort: 60 }); await sleep(60); return (await s.post('42["x"]')).status; }, 400, { differs: { why: 'POST that is not complete', want: 200 } })),
  rule('E38', 'a GET that its client gives up ends the session',
    ...both(eio => play(`EIO=${eio}`, async w => { const s = await connected(w, eio); await s.get({ abort: 40 }); await sleep(60); return answer(await s.get()); }, GONE))),
  rule('E39', 'the client says close by POST: the GET that waits gets a noop, and then there is nothing',
    ...both(eio => play(`EIO=${eio}`, async w => { const s = await connected(w, eio), waiting = s.get(); await sleep(40); const p = await s.post(event(eio, '1')); return [(await waiting).text, p.text, answer(await s.get()), (await s.post(event(eio, '42["x"]'))).status]; }, [eio === 4 ? '6' : '1:6', 'ok', GONE, 400])),
    play('what is behind it means nothing', async w => { const s = await connected(w, 4), other = await connected(w, 4); await s.post('1\x1e42["x"]'); await other.post('42["y"]'); return [await other.next(), (await s.get()).status]; }, ['42["y"]', 400]),
    play('what is before it counts', async w => { const s = await connected(w, 4), waiting = s.get(); await sleep(40); await s.post('421["ack",5]\x1e1'); await sleep(100); return [/^(6|431\[5\](\x1e6)?)$/.test((await waiting).text), (await s.get()).status]; }, [true, 400])),
  rule('E40', 'the server closes while a GET waits: that ends with 1',
    play('no namespace', async w => { const s = await w.poll(4), all = []; for (let r; (r = await s.get()).status === 200;) { all.push(r.text); if (r.text === '2') await s.post('3'); } return all.join('\x1e').replace(/^(2\x1e)*/, ''); }, '1', quick),
    play('bad input', async w => { const s = await connected(w, 4), waiting = s.get(); await sleep(40); await s.post('47', { abort: 300 }); return [(await waiting).text, (await s.get()).status]; }, ['1', 400])),
  rule('E41', 'a body that is no payload ends the session',
    ...[[4, 'abc'], [4, ''], [4, '42["x"]\x1eabc'], [3, 'abc'], [3, '5:4'], [3, ''], [3, ':'], [3, '-1:4'], [3, '1:7']].map(([eio, body]) => play(`EIO=${eio}: "${body.replace('\x1e', '\\x1e')}"`, async w => { const s = await connected(w, eio); await s.post(body, { abort: 300 }); for (;;) { const r = await s.get(); if (r.status !== 200) return r.status; } }, 400)),
    play('how the POST is answered', async w => { const s = await connected(w, 4); return (await s.post('abc', { abort: 300 })).status; }, 200, { differs: { why: 'body that is no payload', want: 400 } })),
  rule('E42', 'a WebSocket message that is no packet ends the session',
    ...['x', '7', '', ' 4'].map(said => frames(`EIO=4: "${said}"`, 4, ['40', said], ['40{"sid":"?"}'], { closed: true })),
    ...['x', '7', ''].map(said => frames(`EIO=3: "${said}"`, 3, [said], ['40'], { closed: true }))),
  rule('E43', 'packets that only a server sends, or that mean nothing here, are passed over',
    ...both(eio => frames(`EIO=${eio}`, eio, [...(eio === 4 ? ['40'] : []), '6', '5', '0{}', '42["x"]'], [eio === 4 ? '40{"sid":"?"}' : '40', '42["x"]']))),
  rule('E44', 'the client says close over a WebSocket',
    ...both(eio => play(`EIO=${eio}`, async w => { const s = await w.ws(eio).connect(); s.send('1'); return s.closed; }, 'closed', quick)),
    play('at once', async w => { const s = await w.ws(4).connect(); s.send('1'); return s.fate(300); }, 'open', { differs: { why: 'close over a WebSocket', want: 'closed' } })),
];
