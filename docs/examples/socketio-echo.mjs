// socketio-echo.mjs: a backend that says back to Socket.IO clients what they say: `auth` with what they brought, as soon as they are in; `message-back` for each `message`;
// the arguments of `message-with-ack` in its ack. Node, nothing else needed. Start it and the gateway:
//   KEY_FILE=backend.key PORT=8081 node socketio-echo.mjs
//   xindao-gateway … --auth backend --backend-url http://127.0.0.1:8081/ --backend-secret-file backend.key --socketio-event '* do=backend' --socketio-namespace /custom
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { problem } from './verify.mjs';

const keys = readFileSync(process.env.KEY_FILE, 'utf8').split('\n').map(s => s.trim()).filter(Boolean);

/** What comes as the data of a question goes out as it was, whatever arguments it stands for; bytes are base64 both ways. */
const same = ({ data, data_type }) => (data_type === 'binary' ? { data_base64: data } : { data });

const said = {
  message: asked => ({ actions: [{ do: 'send', event: 'message-back', ...same(asked) }] }),
  'message-with-ack': ({ data, data_type }) => ({ data: data_type === 'binary' ? { $args: [{ _placeholder: true, num: 0 }], $attachments: [data] } : data }),
};

function answer(asked) {
  if (asked.type === 'connect') return asked.sync ? { actions: [{ do: 'send', event: 'auth', data: asked.data ?? {} }] } : {};
  if (asked.type !== 'call') return {};
  return said[asked.event]?.(asked) ?? { allow: false, reason: `what is ${asked.event}?` };
}

createServer(async (req, res) => {
  const parts = [];
  for await (const part of req) parts.push(part);
  const body = Buffer.concat(parts), wrong = problem(req.headers, body, keys);
  if (wrong) return res.writeHead(401).end(wrong);
  res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer(JSON.parse(body))));
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
