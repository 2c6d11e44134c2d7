// redis-backend.cjs: a backend with nothing but Redis: it reads what happens to sessions, greets who joins, and puts out who says a bad word. The gateway needs
// `--events on --commands on --policy 'chat.* events=message,join'`. Needs Node 18 or later and `npm install ioredis`.
const Redis = require('ioredis');

const redis = new Redis(process.argv[2] ?? 'redis://127.0.0.1:6379');
const streams = [0, 1, 2, 3].map(n => `xd:{events:${n}}`); // as many as --event-shards
const seen = new Map(); // ids of the last minutes: an event may come again

const command = fields => redis.xadd('xd:{commands}', 'MAXLEN', '~', 100000, '*', ...Object.entries(fields).flat());

async function on(e) {
  const data = JSON.parse(e.data ?? 'null');
  if (e.type === 'join') await command({ do: 'publish', room: e.room, event: 'say', data: JSON.stringify({ text: `welcome, ${e.user}` }), key: `${e.id}:hello` });
  if (e.type === 'message' && /heck/i.test(data?.text)) await command({ do: 'leave', session: e.session, room: e.room, reason: 'mind your language' });
}

async function main() {
  for (const key of streams) await redis.xgroup('CREATE', key, 'app', '$', 'MKSTREAM').catch(() => {}); // exists
  console.log('ready');
  for (let from = '0'; ;) { // first what this consumer had not finished when it stopped, then what is new
    const found = await redis.xreadgroup('GROUP', 'app', 'consumer-1', 'COUNT', 100, 'BLOCK', 5000, 'STREAMS', ...streams, ...streams.map(() => from));
    if (from === '0' && !found?.some(([, entries]) => entries.length)) from = '>';
    for (const [key, entries] of found ?? []) for (const [place, fields] of entries) {
      const e = Object.fromEntries(Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i], fields[2 * i + 1]]));
      if (!seen.has(e.id)) await on(e);
      seen.set(e.id, Date.now());
      await redis.xack(key, 'app', place);
    }
    for (const [id, at] of seen) if (at < Date.now() - 300000) seen.delete(id); else break;
  }
}
main();
