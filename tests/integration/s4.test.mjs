// s4.test.mjs: scenario S4, the ws chat room: plain WebSocket, JSON strings, the id in the URL, no SDK of ours
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { Cluster } from './lib/cluster.mjs';
import { until, within } from './lib/wait.mjs';

/** What such an application has of its own: a socket and a switch over the type. */
class ChatApp {
  constructor(url, id, ca) {
    this.seen = [];
    this.ws = new WebSocket(`${url}/ws/${encodeURIComponent(id)}`, { ca });
    this.ws.onmessage = e => { const m = JSON.parse(e.data); this.seen.push(m); if (m.type === 'welcome') this.me = m.session; };
    this.opened = new Promise((yes, no) => { this.ws.onopen = yes; this.ws.onerror = no; });
  }
  say(o) { this.ws.send(JSON.stringify(o)); }
  saw(match, what) { return until(() => this.seen.find(match), { what: () => `${what}; seen ${JSON.stringify(this.seen)}` }); }
  close() { this.ws.close(); return new Promise(yes => { this.ws.onclose = yes; }); }
}

describe('S4, the ws chat room', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2, proxy: true }); });
  after(() => cluster.stop());

  it('works with plain WebSocket through the load balancer', async () => {
    const url = `wss://127.0.0.1:${cluster.proxyPort}`;
    const [ann, ben, eve] = ['ann', '本', 'eve'].map(id => new ChatApp(url, id, cluster.ca));
    await within(Promise.all([ann, ben, eve].map(c => c.opened)), 10000, 'three sockets');
    for (const [c, id] of [[ann, 'ann'], [ben, '本'], [eve, 'eve']]) assert.equal((await c.saw(m => m.type === 'welcome', 'the greeting')).user, id);

    ann.say({ type: 'join', room: '聊天室', id: 1 });
    await ann.saw(m => m.type === 'ack' && m.id === 1 && m.total === 1, 'ann in the room');
    ben.say({ type: 'join', room: '聊天室', id: 1 });
    await ann.saw(m => m.type === 'enter' && m.user === '本' && m.total === 2, 'ben entering');

    ben.say({ type: 'publish', room: '聊天室', data: { text: '大家好' } });
    const heard = await ann.saw(m => m.type === 'message' && m.room === '聊天室', 'what ben says');
    assert.deepEqual([heard.data, heard.from.user], [{ text: '大家好' }, '本']);
    assert.equal(eve.seen.some(m => m.room === '聊天室'), false, 'eve is not in the room');

    eve.say({ type: 'broadcast', data: 'to everyone' });
    for (const c of [ann, ben, eve]) await c.saw(m => m.room === '$all' && m.data === 'to everyone', 'the broadcast');

    ann.say({ type: 'send', to: { user: 'eve' }, data: 'only you', id: 'p1' });
    const notice = await eve.saw(m => m.type === 'message' && m.room === '$user:eve', 'the private notice');
    assert.deepEqual([notice.data, notice.from], ['only you', { session: ann.me, user: 'ann' }]);
    await ann.saw(m => m.type === 'ack' && m.id === 'p1', 'that it was delivered');
    assert.equal(ben.seen.some(m => m.data === 'only you'), false);

    ann.say({ type: 'send', to: { user: 'nobody-here' }, data: 'hello?', id: 'p2' });
    const missing = await ann.saw(m => m.type === 'error' && m.id === 'p2', 'that the target is not there');
    assert.equal(missing.code, 'not_found');

    ben.say({ type: 'leave', room: '聊天室', id: 2 });
    await ann.saw(m => m.type === 'exit' && m.user === '本' && m.reason === 'leave' && m.total === 1, 'ben leaving');
    await eve.close();
    ann.say({ type: 'send', to: { user: 'eve' }, data: 'gone?', id: 'p3' });
    await ann.saw(m => m.id === 'p3', 'an answer');
    await ann.close(); await ben.close();
  });
});
