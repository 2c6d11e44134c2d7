// socketio-chat.mjs: the backend of a chat for Socket.IO clients: who is there, who says what, who is typing. Node, nothing else needed. Start it and the gateway:
//   KEY_FILE=backend.key PORT=8081 node socketio-chat.mjs
//   xindao-gateway … --backend-url http://127.0.0.1:8081/ --backend-secret-file backend.key --socketio-event '* do=backend'
// Clients emit `add user` with a name, then `new message` with a text, `typing` and `stop typing`; they hear `login`, `user joined`, `user left`, and what the others emit.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { problem } from './verify.mjs';

const keys = readFileSync(process.env.KEY_FILE, 'utf8').split('\n').map(s => s.trim()).filter(Boolean);
const names = new Map(); // session → user name

const to = (session, event, data) => ({ do: 'emit', rooms: [session], event, data });
const others = (session, event, data) => ({ do: 'emit', except: [session], event, data });
const from = (session, more) => ({ username: names.get(session), ...more });

/** What a client may emit, and what is to be done then. */
const heard = {
  'add user'(session, name) {
    if (names.has(session) || typeof name !== 'string') return [];
    names.set(session, name);
    return [to(session, 'login', { numUsers: names.size }), others(session, 'user joined', from(session, { numUsers: names.size }))];
  },
  'new message': (session, message) => [others(session, 'new message', from(session, { message }))],
  typing: session => [others(session, 'typing', from(session))],
  'stop typing': session => [others(session, 'stop typing', from(session))],
};

function gone(session) {
  const username = names.get(session);
  return names.delete(session) ? [others(session, 'user left', { username, numUsers: names.size })] : []; // told twice, done once
}

createServer(async (req, res) => {
  const parts = [];
  for await (const part of req) parts.push(part);
  const body = Buffer.concat(parts), wrong = problem(req.headers, body, keys);
  if (wrong) return res.writeHead(401).end(wrong);
  const { type, session, event, data } = JSON.parse(body);
  const known = type === 'call' && Object.hasOwn(heard, event) && (event === 'add user' || names.has(session));
  const actions = known ? heard[event](session, data) : type === 'disconnect' ? gone(session) : [];
  const answer = type === 'call' && !known ? { allow: false, reason: `who are you, and what is ${event}?` } : { actions };
  res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer));
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
