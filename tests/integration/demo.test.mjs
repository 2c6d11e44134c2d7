// demo.test.mjs: the demo page in headless Chromium, two people on different gateways behind the load balancer
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Browser } from './lib/browser.mjs';
import { Cluster } from './lib/cluster.mjs';

describe('the demo page', { timeout: 240000 }, () => {
  let cluster, browser, base;
  before(async () => {
    cluster = await Cluster.start({ gateways: 2, proxy: true, flags: ['--lease', '2s', '--redis-timeout', '1s'] });
    browser = await Browser.start();
    base = `https://127.0.0.1:${cluster.proxyPort}/`;
  });
  after(async () => { try { await browser?.stop(); } finally { await cluster.stop(); } });

  const online = p => p.until(() => document.querySelector('#app').dataset.phase === 'online' && document.querySelector('#node').textContent, 'the page to be online');
  const says = async (p, text) => { await p.type('#text', text); await p.key('Enter'); };
  const texts = p => p.run(() => [...document.querySelectorAll('#log .bubble')].map(e => e.textContent));
  const hears = (p, text, ms = 15000) => p.until(t => [...document.querySelectorAll('#log .bubble')].some(e => e.textContent === t), `"${text}" to be heard`, ms, text);
  const delivered = (p, text) => p.until(t => [...document.querySelectorAll('.own')].some(e => e.dataset.state === 'sent' && e.querySelector('.bubble').textContent === t), `"${text}" to be delivered`, 20000, text);
  const people = (p, names) => p.until(n => [...document.querySelectorAll('#members .name')].map(e => e.textContent).sort().join() === n, `${names} to be in the room`, 15000, [...names].sort().join());

  /** Enters by the door, as a person does. */
  async function visit(nick, options = {}, hash = '') {
    const p = await browser.page(options);
    await p.open(base + hash);
    await p.type('#nick', nick);
    await p.click('#enter');
    p.node = await online(p);
    return p;
  }

  /** leastconn usually does it at once; HTTP requests under way may tip the balance. */
  async function visitOtherNode(nick, not) {
    for (let i = 0; i < 8; i++) {
      const p = await visit(nick);
      if (p.node !== not) return p;
      await p.call('Page.close');
    }
    throw new Error('never on the other gateway');
  }

  it('two people chat across gateways, in private too, and survive the loss of one', async () => {
    const ann = await visit('Ann'), ben = await visitOtherNode('本', ann.node);
    assert.notEqual(ann.node, ben.node);
    assert.equal(await ann.run(() => location.hash), '#lobby');
    await people(ann, ['Ann', '本']);
    await people(ben, ['Ann', '本']);

    await says(ann, 'hello from one node');
    await delivered(ann, 'hello from one node');
    await hears(ben, 'hello from one node');
    await says(ben, '你好 <b>&amp;</b> <img src=x onerror="window.hacked=1">');
    await hears(ann, '你好 <b>&amp;</b> <img src=x onerror="window.hacked=1">');
    assert.equal(await ann.run(() => window.hacked), undefined);
    assert.deepEqual(await texts(ann), await texts(ben), 'the same messages in the same order');

    // Private: a click on a person, and back.
    await ben.run(() => [...document.querySelectorAll('#members li button')].find(b => b.querySelector('.name').textContent === 'Ann').click());
    await ben.until(() => document.querySelector('#title').textContent === 'Ann', 'the private talk');
    await says(ben, 'psst');
    await delivered(ben, 'psst');
    await ann.until(() => document.querySelector('#dms .unread')?.textContent === '1', 'one unread private message');
    assert.match(await ann.run(() => document.title), /^\(1\)/);
    assert.equal((await texts(ann)).includes('psst'), false, 'not in the room');
    await ann.click('#dms li button');
    await hears(ann, 'psst');

    // Another room, with unread counts in the one that is not on show.
    await ann.type('#add-room', '茶馆'); await ann.key('Enter');
    await ann.until(() => document.querySelector('#title').textContent === '#茶馆' && /1/.test(document.querySelector('#sub').textContent), 'the new room');
    await ben.click('#joined li button');
    await says(ben, 'anybody in the lobby?');
    await ann.until(() => [...document.querySelectorAll('#joined .unread')].some(e => e.textContent === '1'), 'the unread count');
    await ann.run(() => [...document.querySelectorAll('#joined li')].find(li => li.textContent.includes('茶馆')).querySelector('.leave').click());
    await ann.until(() => document.querySelector('#title').textContent === '#lobby', 'the lobby again');
    await hears(ann, 'anybody in the lobby?');

    // The gateway of one of them dies.
    const victim = cluster.gateways.find(g => ann.node.startsWith(`${g.name}-`));
    await victim.kill();
    await ann.until(() => document.querySelector('#app').dataset.phase !== 'online', 'the loss to be noticed');
    await says(ann, 'written while away');
    assert.equal(await ann.run(() => document.querySelector('.own.pending .bubble')?.textContent), 'written while away');
    await ann.until(n => document.querySelector('#app').dataset.phase === 'online' && document.querySelector('#node').textContent !== n, 'the other node', 30000, ann.node);
    assert.equal(await online(ann), ben.node);
    await delivered(ann, 'written while away');
    await hears(ben, 'written while away');
    await people(ben, ['Ann', '本']);
    await people(ann, ['Ann', '本']);
    await says(ben, 'still here');
    await hears(ann, 'still here');
    const count = list => list.filter(t => t === 'written while away').length;
    assert.deepEqual([count(await texts(ann)), count(await texts(ben))], [1, 1], 'nothing is doubled');

    // Who is not there.
    await ann.call('Page.close');
    await people(ben, ['本']);
    await ben.run(() => [...document.querySelectorAll('#log .by button')].find(b => b.textContent === 'Ann').click());
    await says(ben, 'are you there?');
    await ben.until(() => document.querySelector('.own.failed .foot')?.textContent.includes('Ann'), 'that Ann is not there');
    assert.ok(await ben.run(() => document.querySelector('.own.failed .retry') !== null));
    const loads = ben.problems.filter(x => !/WebSocket/.test(x));
    assert.deepEqual(loads, []);
  });

  it('obeys goodbye when its node drains, and is back in its room', async () => {
    const [alive] = cluster.gateways.filter(g => !g.process.ended);
    const second = await cluster.add('gw3', { flags: ['--drain-time', '3s'] });
    const p = await browser.page();
    await p.open(`https://127.0.0.1:${second.port}/?name=cy#drained`);
    await online(p);
    const watch = await alive.client('watch');
    await watch.join('drained');
    second.process.signal('SIGTERM');
    second.process.expected = true;
    await p.until(() => document.querySelector('#app').dataset.phase === 'waiting' && S.moveIn !== null, 'the page to wait as long as goodbye says');
    assert.equal((await watch.next('exit')).user, 'cy');
    await second.process.exit;
    assert.equal(second.process.ended.code, 0);
    await p.call('Page.close');
    await watch.close();
  });

  it('works on a phone, in Chinese, in the dark, from a link', async () => {
    const p = await visit('小明', { width: 360, height: 740, mobile: true, dark: true, locale: 'zh-CN' }, '#%E4%BF%A1%E9%81%93');
    assert.equal(await p.run(() => document.querySelector('#title').textContent), '#信道');
    assert.equal(await p.run(() => document.documentElement.lang), 'zh-CN');
    assert.equal(await p.run(() => document.documentElement.dataset.theme), 'dark');
    assert.equal(await p.run(() => document.documentElement.scrollWidth), 360, 'nothing sticks out');
    await says(p, '你好');
    await delivered(p, '你好');
    await p.click('#open-people');
    await p.until(() => getComputedStyle(document.querySelector('#people')).visibility === 'visible', 'the drawer');
    assert.equal(await p.run(() => document.querySelector('#open-people').getAttribute('aria-expanded')), 'true');
    await p.key('Escape');
    await p.until(() => !document.querySelector('#people').classList.contains('open'), 'the drawer to close');
    await p.click('#open-rail');
    await p.click('#rail [data-act="lang"]');
    await p.until(() => document.documentElement.lang === 'en', 'English');
    await p.click('#me');
    await p.until(() => document.querySelector('#rename').open, 'the dialog');
    await p.type('#new-nick', '新名字');
    await p.key('Enter');
    await p.until(() => S.user === '新名字' && S.phase === 'online', 'to be welcomed by the new name');
    await p.until(() => document.querySelector('#sub').textContent === '1 here', 'to be in the room again, once');
    const unlabelled = await p.run(() => [...document.querySelectorAll('button:not([hidden]), input, textarea')].filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML.slice(0, 80)));
    assert.deepEqual(unlabelled, []);
    assert.deepEqual(p.problems, []);
    await p.call('Page.close');
  });

  it('comes with a policy that lets it work and nothing else in', async () => {
    const alive = cluster.gateways.find(g => !g.process.ended), r = await alive.get('/');
    assert.equal(r.status, 200);
    assert.match(r.headers['content-type'], /^text\/html; charset=utf-8/i);
    const csp = r.headers['content-security-policy'];
    assert.match(csp, /default-src '(none|self)'/);
    assert.match(csp, /connect-src 'self'/);
    assert.doesNotMatch(r.text, /(?:src|href)="https?:|@import|url\(http/, 'no external assets');
  });
});
