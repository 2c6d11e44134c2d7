// compose-chat.mjs: what tests/compose.sh asks of a running stack, as a client of its load balancer
//
// Environment: URL (wss://…), CA (file), NODES (how many gateways must be seen), REDIS_CLI and STOP (commands; STOP gets a container's name).
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { strict as assert } from 'node:assert';
import { Client, unique } from './lib/client.mjs';
import { sleep, until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

const { URL: url, CA, NODES, REDIS_CLI, STOP } = process.env;
const ca = readFileSync(CA), want = Number(NODES), MESSAGES = 20;
const ok = text => console.log(`ok - ${text}`);

async function run(command, ...args) {
  const [file, ...first] = command.split(' ');
  return (await promisify(execFile)(file, [...first, ...args], { timeout: 60000 })).stdout.trimEnd();
}
const redis = (...args) => run(REDIS_CLI, ...args);

async function hash(key) {
  const lines = (await redis('HGETALL', key)).split('\n'), fields = {};
  for (let i = 0; i + 1 < lines.length; i += 2) fields[lines[i]] = lines[i + 1];
  return fields;
}

/** Connects until each of the gateways has one client; the others are closed again. */
async function oneClientPerNode() {
  const byNode = new Map(), spare = [], end = Date.now() + 90000;
  let failed;
  while (byNode.size < want) {
    if (Date.now() > end) throw new Error(`${byNode.size} of ${want} gateways seen: ${[...byNode.keys()]}${failed ? `; last: ${failed.message}` : ''}`);
    const c = await Client.open(url, { id: unique('user'), ca }).catch(e => { failed = e; });
    if (!c) { await sleep(250); continue; }
    if (byNode.has(c.welcome.node)) { spare.push(c); await sleep(50); } else byNode.set(c.welcome.node, c);
  }
  await Promise.all(spare.map(c => c.close()));
  return [...byNode.values()];
}

async function chat(clients) {
  const room = unique('compose');
  for (const [i, c] of clients.entries()) assert.equal((await c.join(room)).total, i + 1);
  await Promise.all(clients.map(async (c, who) => {
    for (let i = 0; i < MESSAGES; i++) await c.publish(room, { who, i });
  }));
  const seen = await Promise.all(clients.map(async c => {
    const list = [];
    while (list.length < clients.length * MESSAGES) list.push(await c.message(room));
    return list;
  }));
  const order = list => list.map(m => [m.position, m.data.who, m.data.i]);
  for (const list of seen) assert.deepEqual(order(list), order(seen[0]), 'every client has the same messages in the same order');
  seen[0].forEach((m, i) => assert.equal(offsetOf(m.position), i + 1, 'offsets have no hole'));
  ok(`${clients.length * MESSAGES} messages of ${clients.length} clients on ${clients.length} gateways: all have all of them in one order`);
  return room;
}

async function talkInPrivate(clients) {
  const [from, to] = [clients[0], clients.at(-1)];
  await from.call({ type: 'send', to: { session: to.session }, data: 'psst' });
  assert.equal((await to.message(`$session:${to.session}`)).data, 'psst');
  ok('a private message crosses the gateways');
}

async function readInRedis(client, room) {
  const key = `xd:session:{${client.session}}`, s = await hash(key);
  assert.equal(s.user, client.welcome.user, JSON.stringify(s));
  assert.equal(s.node, client.welcome.node);
  assert.match(s[`room:${room}`] ?? '', /^\d{13}$/, 'a field per room says since when');
  assert.match(await redis('HGET', `xd:{${room}}:members`, client.session), new RegExp(client.welcome.user));
  ok(`redis-cli HGETALL ${key}: ${Object.entries(s).filter(f => f[0] !== 'token_hash').map(f => f.join('=')).join(' ')}`);
  assert.equal(Number(await redis('ZCARD', 'xd:nodes')), want, 'as many nodes in Redis as there are gateways');
  return key;
}

/** docker stop of a gateway: goodbye, close; its client takes its session up again on another one and has missed nothing. */
async function drainOne(clients, room) {
  const [stays, leaves] = [clients[0], clients.at(-1)], { node, session, token } = leaves.welcome;
  const { position } = await stays.publish(room, 'the last one seen');
  assert.equal((await leaves.message(room)).data, 'the last one seen');
  const stopped = run(STOP, node.slice(0, node.lastIndexOf('-')));
  const goodbye = await leaves.next('goodbye', 30000);
  assert.equal(goodbye.reason, 'draining');
  assert.equal(typeof goodbye.reconnect_after, 'number');
  await leaves.closed;
  await stays.publish(room, 'while away');

  const again = await Client.open(url, { id: leaves.welcome.user, ca });
  assert.notEqual(again.welcome.node, node, 'a draining gateway gets no new clients');
  again.send({ type: 'resume', id: 'r', session, token, positions: [{ room, position }] });
  const back = await again.next(f => f.id === 'r');
  assert.equal(back.resumed, true, JSON.stringify(back));
  assert.equal(back.session, session);
  assert.equal((await again.next('recovered')).recovered, true);
  await stays.publish(room, 'still here');
  assert.equal((await again.message(room)).data, 'while away');
  assert.equal((await again.message(room)).data, 'still here');
  await stopped;
  await again.close();
  ok(`a gateway is stopped: goodbye (back in ${goodbye.reconnect_after} ms), close ${leaves.end.code}; the session goes on on another one and missed nothing`);
}

const clients = await oneClientPerNode();
ok(`${want} gateways behind the load balancer: ${clients.map(c => c.welcome.node).join(' ')}`);
const room = await chat(clients);
await talkInPrivate(clients);
const key = await readInRedis(clients.at(-1), room);
if (STOP) await drainOne(clients, room);
await Promise.all(clients.map(c => c.ws.readyState === c.ws.OPEN && c.close()));
await until(async () => Number(await redis('EXISTS', key)) === 0, { what: `${key} to be gone`, ms: 15000, every: 250 });
ok('the session is gone from Redis after its client left');
