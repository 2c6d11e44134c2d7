// valgrind-client.mjs: clients of every kind for valgrind.sh; some are still there when the gateway (PID) gets its SIGTERM
//
// Environment: URL (ws… or wss://host:port), CA (file), PID.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { Client } from './lib/client.mjs';
import { until, within } from './lib/wait.mjs';

const { URL: url, CA, PID } = process.env;
const { port, protocol } = new URL(url), insecure = protocol === 'ws:', ca = readFileSync(CA);
const ok = text => console.log(`ok - ${text}`);

const get = path => new Promise((yes, no) => {
  const request = (insecure ? http : https).get({ host: '127.0.0.1', port, path, ca, agent: false, timeout: 10000 }, answer => {
    answer.resume().on('end', () => yes(answer.statusCode));
  });
  request.on('timeout', () => request.destroy(new Error(`${path}: no answer`))).on('error', no);
});

await until(async () => (await get('/readyz')) === 200, { what: 'the gateway to be ready', ms: 40000, every: 200 });
for (const path of ['/', '/metrics', '/api/v1/rooms', '/api/v1/rooms/lobby']) assert.equal(await get(path), 200, path);
assert.equal(await get('/nothing'), 404);

const [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map(id => Client.open(url, { id, ca })));
for (const c of [alice, bob, carol]) await c.join('lobby');
await alice.publish('lobby', { text: 'hello' }, { key: 'k1' });
await alice.callBinary({ type: 'publish', room: 'lobby' }, Buffer.from([0, 1, 2]));
await bob.next('message');
await bob.call({ type: 'send', to: { user: 'alice' }, data: 1 });
await alice.message(`$user:alice`);
await bob.call({ type: 'broadcast', data: 'all' });
await carol.call({ type: 'presence', room: 'lobby' });
await carol.refused({ type: 'publish', room: 'elsewhere', data: 1 });
carol.raw('not json');
await carol.next('error');
carol.raw('ping');
await carol.next('text.pong');
await carol.drop(); // without a goodbye
await bob.leave('lobby');
ok('clients chat, ask and make mistakes');

// Left behind: connections in the middle of something.
const sockets = ['', 'GET / HTTP/1.1\r\nHost: x', '\x16\x03\x01\x02'].map(text => {
  const s = net.connect({ port, host: '127.0.0.1' }, () => s.write(text));
  s.on('error', () => {});
  return s;
});
alice.ws.pause(); // reads nothing more
for (let i = 0; i < 20; i++) bob.send({ type: 'publish', room: '$all', data: 'x'.repeat(1000) });
await bob.settle();

process.kill(Number(PID), 'SIGTERM');
alice.ws.resume();
const goodbye = await bob.next('goodbye', 30000);
assert.equal(goodbye.reason, 'draining');
assert.equal((await within(bob.closed, 30000, 'the end of bob')).code, 1001);
await within(alice.closed, 30000, 'the end of alice');
sockets.forEach(s => s.destroy());
ok('clients are told goodbye and closed');
