// api.mjs: what a publish over the server API costs a gateway, compared with the same publish over a WebSocket: CPU of the gateway's process per publish, keep-alive TLS on both sides.
// Usage: node tests/bench/api.mjs [--broker URL] [--publishes N] [--connections N] [--rounds N] [--pipeline N]; XINDAO_GATEWAY names the binary (build/release). Exits 1 over 1.3.
import { spawn, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import https from 'node:https';
import tls from 'node:tls';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const WebSocket = createRequire(join(ROOT, 'tests/integration/package.json'))('ws');
const option = (name, otherwise) => { const i = process.argv.indexOf(`--${name}`); return i < 0 ? otherwise : process.argv[i + 1]; };
const N = Number(option('publishes', 20000)), CONNECTIONS = Number(option('connections', 16)), ROUNDS = Number(option('rounds', 5)), PIPELINE = Number(option('pipeline', 1)), MOST = 1.3;
const KEY = 'xdk_bench_0123456789abcdef0123456789abcdef', DATA = JSON.stringify({ text: 'x'.repeat(100) });
const port = 20000 + Math.floor(Math.random() * 9000);

const dir = mkdtempSync(join(tmpdir(), 'xd-bench-'));
execFileSync('bash', [join(ROOT, 'deploy/make-cert.sh'), dir], { stdio: 'ignore' });
const ca = readFileSync(join(dir, 'ca.pem'));
writeFileSync(join(dir, 'keys.json'), JSON.stringify({ keys: [{ name: 'bench', sha256: createHash('sha256').update(KEY).digest('hex'), scopes: ['publish'], rate: 0 }] }));
const gateway = spawn(process.env.XINDAO_GATEWAY ?? join(ROOT, 'build/release/xindao-gateway'), ['--listen', `127.0.0.1:${port}`, '--node', 'bench', '--broker', option('broker', 'memory'), '--tls-cert', join(dir, 'cert.pem'),
  '--tls-key', join(dir, 'key.pem'), '--api-keys', join(dir, 'keys.json'), '--policy', '* publish=anyone retain-count=0', '--message-rate', '0', '--resume-window', '0s', '--log-level', 'warn'], { stdio: ['ignore', 'inherit', 'inherit'] });

/** Seconds of CPU that the gateway has used. */
function cpu() {
  const fields = readFileSync(`/proc/${gateway.pid}/stat`, 'utf8').replace(/.*\) /, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function ready() {
  for (let i = 0; i < 200; i++) {
    const status = await new Promise(yes => https.get({ host: '127.0.0.1', port, path: '/readyz', ca }, r => { r.resume(); yes(r.statusCode); }).on('error', () => yes(0)));
    if (status === 200) return;
    await new Promise(yes => setTimeout(yes, 50));
  }
  throw new Error('the gateway did not get ready');
}

/** Runs N publishes, each connection having PIPELINE under way; write(i) sends one, and on(answers) is told how many answers came. */
function run(clients) {
  return new Promise(yes => {
    let sent = 0, answered = 0;
    for (const c of clients) {
      c.on(n => {
        answered += n;
        for (let i = 0; i < n && sent < N; i++) c.write(sent++);
        if (answered === N) yes();
      });
    }
    for (let k = 0; k < PIPELINE; k++) for (const c of clients) c.write(sent++);
  });
}

async function socketClient() {
  const ws = new WebSocket(`wss://127.0.0.1:${port}/ws`, ['xindao.v1.json'], { ca, perMessageDeflate: false });
  await new Promise((yes, no) => { ws.once('message', yes); ws.once('error', no); });
  let tell;
  ws.on('message', d => { if (!String(d).startsWith('{"type":"ack"')) throw new Error(String(d)); tell(1); });
  return { on: f => { tell = f; }, write: i => ws.send(`{"type":"publish","id":${i},"room":"lobby","event":"e","echo":false,"data":${DATA}}`), close: () => ws.terminate() };
}

async function apiClient() {
  const socket = tls.connect({ host: '127.0.0.1', port, ca, servername: 'localhost' });
  await new Promise(yes => socket.once('secureConnect', yes));
  const body = `{"room":"lobby","event":"e","data":${DATA}}`;
  const request = `POST /api/v1/publish HTTP/1.1\r\nHost: localhost:${port}\r\nAuthorization: Bearer ${KEY}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  let tell, rest = '';
  socket.on('data', d => {
    const parts = (rest + d.toString('latin1')).split('HTTP/1.1 ');
    rest = '';
    let n = 0;
    for (const [i, p] of parts.entries()) {
      if (p === '') continue;
      if (!p.startsWith('200')) throw new Error(p);
      if (p.endsWith('}')) n++; else if (i === parts.length - 1) rest = `HTTP/1.1 ${p}`; else throw new Error(p);
    }
    if (n) tell(n);
  });
  return { on: f => { tell = f; }, write: () => socket.write(request), close: () => socket.destroy() };
}

async function measure(make) {
  const clients = await Promise.all(Array.from({ length: CONNECTIONS }, make));
  const before = cpu();
  await run(clients);
  const used = cpu() - before;
  for (const c of clients) c.close();
  return (used / N) * 1e6;
}

const median = list => list.sort((a, b) => a - b)[list.length >> 1];
let status = 1;
try {
  await ready();
  const socket = [], api = [];
  for (let i = 0; i < ROUNDS; i++) {
    socket.push(await measure(socketClient));
    api.push(await measure(apiClient));
  }
  const ratio = median(api) / median(socket);
  console.log(`socket ${socket.map(x => x.toFixed(1)).join(' ')} us, api ${api.map(x => x.toFixed(1)).join(' ')} us of CPU per publish; medians ${median(socket).toFixed(1)} and ${median(api).toFixed(1)}: ratio ${ratio.toFixed(2)}, at most ${MOST}`);
  status = ratio <= MOST ? 0 : 1;
} finally {
  gateway.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
}
process.exit(status);
