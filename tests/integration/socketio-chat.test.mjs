// socketio-chat.test.mjs: the chat everybody knows from Socket.IO's own documentation, with a small backend of ours: people in Chromium with npm's client, on two gateways
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';
import { Browser } from './lib/browser.mjs';
import { Cluster, Process, ROOT } from './lib/cluster.mjs';
import { KEY } from './lib/backend.mjs';
import { freePort, until } from './lib/wait.mjs';

const CLIENT = join(dirname(createRequire(import.meta.url).resolve('socket.io-client/package.json')), 'dist/socket.io.min.js');
const PAGE = '<!doctype html><title>chat</title><link rel="icon" href="data:,"><script src="/socket.io.js"></script>';

describe('a chat of Socket.IO clients', { timeout: 120000 }, () => {
  let cluster, browser, backend, site, base;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    const key = join(cluster.dir, 'backend.key'), port = await freePort();
    writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
    backend = new Process('backend', process.execPath, [join(ROOT, 'docs/examples/socketio-chat.mjs')], { env: { KEY_FILE: key, PORT: String(port) } });
    await until(() => backend.log.includes('ready'), { what: () => `the backend\n${backend.tail()}` });
    for (const name of ['gw1', 'gw2']) await cluster.add(name, { insecure: true, flags: ['--backend-url', `http://127.0.0.1:${port}/`, '--backend-secret-file', key, '--socketio-event', '* do=backend'] });
    site = createServer((req, res) => {
      const script = req.url === '/socket.io.js';
      res.writeHead(200, { 'Content-Type': script ? 'text/javascript' : 'text/html' }).end(script ? readFileSync(CLIENT) : PAGE);
    });
    await new Promise(yes => site.listen(0, '127.0.0.1', yes));
    base = `http://127.0.0.1:${site.address().port}/`;
    browser = await Browser.start();
  });
  after(async () => {
    try { await browser?.stop(); site?.closeAllConnections(); site?.close(); } finally { await backend?.terminate().catch(() => {}); await cluster.stop(); }
  });

  /** Opens the page, connects to a gateway, and says a name. */
  async function visit(n, name) {
    const p = await browser.page();
    await p.open(base);
    await p.run((url, who) => {
      window.heard = [];
      window.socket = io(url, { transports: ['websocket'] });
      socket.onAny((...args) => heard.push(args));
      socket.emit('add user', who);
    }, `http://127.0.0.1:${cluster.gateways[n].port}`, name);
    await hears(p, 'login');
    return p;
  }
  const hears = (p, event) => p.until(e => heard.some(h => h[0] === e), `${event} to be heard`, 15000, event);
  const heard = p => p.run(() => window.heard);

  it('names, messages, who is typing, who comes and goes, with the count', async () => {
    const ann = await visit(0, 'Ann'), ben = await visit(1, '本');
    await hears(ann, 'user joined');
    await ben.run(() => { socket.emit('typing'); socket.emit('stop typing'); socket.emit('new message', 'hello <b>all</b>'); });
    await hears(ann, 'new message');
    const cleo = await visit(1, 'Cleo');
    await ann.run(() => { socket.emit('new message', 'welcome'); });
    for (const p of [ben, cleo]) await hears(p, 'new message');
    await ben.run(() => { socket.disconnect(); });
    for (const p of [ann, cleo]) await hears(p, 'user left');
    assert.deepEqual(await heard(ann), [['login', { numUsers: 1 }], ['user joined', { username: '本', numUsers: 2 }], ['typing', { username: '本' }], ['stop typing', { username: '本' }], ['new message', { username: '本', message: 'hello <b>all</b>' }],
      ['user joined', { username: 'Cleo', numUsers: 3 }], ['user left', { username: '本', numUsers: 2 }]]);
    assert.deepEqual(await heard(ben), [['login', { numUsers: 2 }], ['user joined', { username: 'Cleo', numUsers: 3 }], ['new message', { username: 'Ann', message: 'welcome' }]]);
    assert.deepEqual(await heard(cleo), [['login', { numUsers: 3 }], ['new message', { username: 'Ann', message: 'welcome' }], ['user left', { username: '本', numUsers: 2 }]]);
    for (const p of [ann, ben, cleo]) assert.deepEqual(p.problems, []);
  });
});
