// moderated-chat.mjs: a backend for a chat in which nobody swears. Node, nothing else needed. Start it and the gateway:
//   KEY_FILE=backend.key PORT=8081 node moderated-chat.mjs
//   xindao-gateway … --backend-url http://127.0.0.1:8081/ --backend-secret-file backend.key --auth backend --policy 'chat.* publish=backend events=join,leave'
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { problem } from './verify.mjs';

const keys = readFileSync(process.env.KEY_FILE, 'utf8').split('\n').map(s => s.trim()).filter(Boolean);
const users = { 'token-of-alice': 'alice', 'token-of-bob': 'bob' }; // your login
const rude = /\b(darn|heck)\b/i;
const strikes = new Map(); // user → how often refused
const present = new Map(); // session → rooms it is in
const done = new Set(); // ids of events: the same one may come twice

const answers = {
  /** Somebody wants to come in. */
  connect({ token }) {
    const user = users[token];
    if (!user) return { allow: false, reason: 'log in first' };
    return { user, rooms: ['chat.lobby'], attributes: { name: user.toUpperCase() } };
  },
  /** Somebody wants to say something in a room with publish=backend. */
  publish({ user, data }) {
    const text = data?.text;
    if (typeof text !== 'string') return { allow: false, reason: 'a message has a text' };
    if (!rude.test(text)) return { data: { text: text.trim() } };
    strikes.set(user, (strikes.get(user) ?? 0) + 1);
    return { allow: false, reason: `mind your language (${strikes.get(user)})` };
  },
  /** Somebody asks us something. */
  call({ event, user }) {
    if (event === 'strikes') return { data: { strikes: strikes.get(user) ?? 0 } };
    if (event === 'present') return { data: [...present.values()].flat().length };
    return { allow: false, reason: `what is ${event}?` };
  },
};

/** What has happened. Each once, although it may be told twice. */
function happened({ id, type, session, room }) {
  if (done.has(id)) return;
  done.add(id);
  if (done.size > 10000) done.delete(done.values().next().value);
  const rooms = present.get(session) ?? [];
  if (type === 'join') present.set(session, [...rooms, room]);
  if (type === 'leave') present.set(session, rooms.filter(r => r !== room));
  if (type === 'disconnect') present.delete(session);
}

createServer(async (req, res) => {
  const parts = [];
  for await (const part of req) parts.push(part);
  const body = Buffer.concat(parts), wrong = problem(req.headers, body, keys);
  if (wrong) return res.writeHead(401).end(wrong);
  const asked = JSON.parse(body);
  if (!asked.sync) {
    happened(asked);
    return res.writeHead(204).end();
  }
  res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answers[asked.type](asked)));
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
