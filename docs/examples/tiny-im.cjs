// tiny-im.cjs: an instant messenger for the terminal, over the native protocol: private messages that wait for who is away, read on one device and so
// on all, and who is there. The gateway needs `--policy '$user:* retain-count=1000 retain-age=30d'`. Needs Node 18 or later and `npm install ws`.
//
//   node tiny-im.cjs wss://localhost:8443 ann
//   @ben how are you?     a message to Ben
//   /watch ben            is he there? and tell me when that changes
const readline = require('node:readline');
const WebSocket = require('ws');

const [url, me] = process.argv.slice(2);
const waiting = new Map(); // commands by id, until they are answered
let socket, session, fresh, resuming = false, position, ids = 0, retry = 500;

const call = frame => new Promise((yes, no) => {
  const id = ++ids;
  waiting.set(id, { yes, no });
  socket.send(JSON.stringify({ ...frame, id }));
});

function status({ user, state, seen }) {
  console.log(`* ${user} is ${state}${state !== 'online' && seen ? `, last seen ${new Date(seen).toLocaleString()}` : ''}`);
}

const on = {
  welcome(f) {
    if (resuming && !f.resumed) { fresh = f; return; } // until it is known whether the old session is still there
    retry = 500;
    resuming = false;
    session = { session: f.session, token: f.token };
    if (!f.resumed) console.log(`* you are ${f.user}`);
    ready();
  },
  recovered(f) { // where the inbox goes on; the messages follow
    if (!f.recovered) console.log(`* some messages are gone (${f.reason})`);
    if (f.position) position = f.position;
  },
  message(f) {
    position = f.position;
    console.log(`${f.from?.user ?? '?'}: ${f.data}`);
    call({ type: 'read', position }).catch(() => {}); // what is on the screen has been read
  },
  read(f) { console.log(`* read on another device, up to ${f.position}`); },
  status,
  watching(f) { f.users.forEach(status); },
  ack(f) { waiting.get(f.id)?.yes(f); waiting.delete(f.id); },
  error(f) {
    waiting.get(f.id)?.no(new Error(f.message));
    waiting.delete(f.id);
  },
};

let ready, connected = new Promise(yes => { ready = yes; });

function connect() {
  socket = new WebSocket(`${url}/ws/${encodeURIComponent(me)}${session ? '?resume' : ''}`, 'xindao.v1.json');
  resuming = session !== undefined;
  socket.on('open', () => {
    if (!resuming) return;
    call({ type: 'resume', ...session, positions: position ? [{ room: `$user:${me}`, position }] : [] })
      .catch(() => { resuming = false; if (fresh) on.welcome(fresh); }); // its time is over: the new session will do
  });
  socket.on('message', data => { const f = JSON.parse(data); on[f.type]?.(f); });
  socket.on('error', () => {});
  socket.on('close', () => { // a random while later, and longer every time
    for (const w of waiting.values()) w.no(new Error('the connection broke; it may have arrived'));
    waiting.clear();
    connected = new Promise(yes => { ready = yes; });
    setTimeout(connect, retry * (0.5 + Math.random()));
    retry = Math.min(retry * 2, 30000);
  });
}

async function say(line) {
  const [, to, text] = /^@(\S+) (.*)/.exec(line) ?? [], [, whom] = /^\/watch (\S+)/.exec(line) ?? [];
  if (whom) (await call({ type: 'watch', users: [whom] })).users.forEach(status);
  else if (!to) console.log('* @NAME TEXT, or /watch NAME');
  else if ((await call({ type: 'send', to: { user: to }, data: text, key: `${process.pid}-${Date.now()}-${ids}` })).stored) console.log(`* ${to} will find it`);
}

connect();
(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await connected;
    await say(line).catch(e => console.log(`* ${e.message}`));
  }
  await connected;
  setTimeout(() => process.exit(0), 300); // the end of the input: what has arrived is shown
})();
