// rps.mjs: the backend of rock-paper-scissors for Socket.IO clients: who is there, who plays with whom, who wins. Node, nothing else needed. Start it and the gateway:
//   KEY_FILE=backend.key API_KEY_FILE=api.key API=https://gateway:8443 PORT=8081 node rps.mjs
//   xindao-gateway … --backend-url http://127.0.0.1:8081/ --backend-secret-file backend.key --api-keys keys.json --socketio-event '* do=backend' --socketio-path /applet/ws/socket.io
// Clients emit `hello` {identity, place}, `join`, `choice` (rock, paper or scissors), `face` and `leave`; they hear `hi` {near}, `start` {round, players}, `movement` {player, face or choice} and `result` {scores}.
// It answers what is posted to it with actions, and speaks by the API when nobody has asked: when a robot has sat down, or a round is over.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { problem } from './verify.mjs';

const { KEY_FILE, API_KEY_FILE, API, PORT, SEATS = 2, ROUND_MS = 5000, WAIT_MS = 3000 } = process.env;
const keys = readFileSync(KEY_FILE, 'utf8').split('\n').map(s => s.trim()).filter(Boolean), apiKey = readFileSync(API_KEY_FILE, 'utf8').trim();
const CHOICES = ['rock', 'paper', 'scissors'], NEAR = 0.05; // degrees
const players = new Map(); // by session
let open = null; // the game that has a free seat

const emit = (to, event, data) => ({ rooms: to.filter(p => !p.robot).map(p => p.id), event, data });
const others = p => (p.game?.seats ?? []).filter(o => o !== p);
const near = p => [...players.values()].filter(o => Math.hypot(o.place[0] - p.place[0], o.place[1] - p.place[1]) < NEAR).length;

/** What is said when nobody has asked. */
async function say(messages) {
  for (const m of messages.filter(m => m.rooms.length > 0)) {
    const r = await fetch(`${API}/api/v1/emit`, { method: 'POST', headers: { Authorization: `Bearer ${apiKey}`, 'Content-Type': 'application/json' }, body: JSON.stringify(m) });
    if (!r.ok) console.error(`emit: ${r.status} ${await r.text()}`);
  }
}

// --- a game ---

/** 1: a beats b, -1: b beats a. Who has chosen nothing loses against who has. */
function compare(a, b) {
  const [i, j] = [a, b].map(p => CHOICES.indexOf(p.choice));
  if (i === j) return 0;
  if (i < 0 || j < 0) return i < 0 ? -1 : 1;
  return (i - j + 3) % 3 === 1 ? 1 : -1;
}

function finish(game) {
  const scores = game.seats.map(p => {
    const score = others(p).reduce((sum, o) => sum + compare(p, o), 0);
    p.streak = score > 0 ? p.streak + 1 : 0;
    return { player: p.id, identity: p.identity, choice: p.choice ?? null, score, streak: p.streak, points: score * p.streak };
  });
  const { seats } = game;
  for (const p of seats) p.game = p.choice = undefined;
  return say([emit(seats, 'result', { scores })]);
}

/** Everybody sits: what they are told. */
function begin(game) {
  if (open === game) open = null;
  clearTimeout(game.timer);
  for (const p of game.seats) if (p.robot) p.choice = CHOICES[Math.floor(Math.random() * 3)];
  game.timer = setTimeout(() => { finish(game).catch(e => console.error(e.message)); }, Number(ROUND_MS));
  return [emit(game.seats, 'start', { round: Number(ROUND_MS), players: game.seats.map(p => ({ player: p.id, identity: p.identity })) })];
}

function sit(game, p) {
  game.seats.push(p);
  p.game = game;
  return game.seats.length === Number(SEATS) ? begin(game) : [];
}

/** Nobody else has come: robots take the other seats. */
function robots(game) {
  let told = [];
  for (let i = 1; told.length === 0; i++) told = sit(game, { id: `robot-${i}`, identity: `robot ${i}`, robot: true, streak: 0 });
  say(told).catch(e => console.error(e.message));
}

function rise(p) {
  const { game } = p;
  if (!game) return;
  game.seats.splice(game.seats.indexOf(p), 1);
  p.game = p.choice = undefined;
  if (game.seats.some(o => !o.robot)) return;
  clearTimeout(game.timer);
  if (open === game) open = null;
}

// --- what clients emit ---

const heard = {
  hello(p, { identity, place }) {
    if (typeof identity === 'string') p.identity = identity.slice(0, 40);
    if (Array.isArray(place) && place.length === 2 && place.every(Number.isFinite)) p.place = place;
    return [emit([p], 'hi', { near: near(p) })];
  },
  join(p) {
    if (p.game) return []; // it came twice
    if (!open) {
      const game = open = { seats: [] };
      game.timer = setTimeout(() => robots(game), Number(WAIT_MS));
    }
    return sit(open, p);
  },
  leave(p) { rise(p); return []; },
  choice(p, { choice }) {
    if (!CHOICES.includes(choice) || !p.game || p.game === open) return [];
    p.choice = choice;
    return [emit(others(p), 'movement', { player: p.id, choice })];
  },
  face: (p, { face }) => [emit(others(p), 'movement', { player: p.id, face: String(face).slice(0, 40) })],
};

function answer({ type, session, event, data }) {
  if (type === 'disconnect') {
    if (players.has(session)) rise(players.get(session));
    players.delete(session);
    return {};
  }
  if (type !== 'call') return {};
  if (!Object.hasOwn(heard, event) || (event !== 'hello' && !players.has(session))) return { allow: false, reason: `who are you, and what is ${event}?` };
  if (!players.has(session)) players.set(session, { id: session, identity: 'somebody', place: [0, 0], streak: 0 });
  return { actions: heard[event](players.get(session), data ?? {}).filter(m => m.rooms.length > 0).map(m => ({ do: 'emit', ...m })) };
}

createServer(async (req, res) => {
  const parts = [];
  for await (const part of req) parts.push(part);
  const body = Buffer.concat(parts), wrong = problem(req.headers, body, keys);
  if (wrong) return res.writeHead(401).end(wrong);
  res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer(JSON.parse(body))));
}).listen(Number(PORT), '127.0.0.1', () => console.log('ready'));
