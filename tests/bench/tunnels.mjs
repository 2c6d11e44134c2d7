// tunnels.mjs: CPU of a gateway per delivery, pushed to many Wafer tunnels and published to as many native members, in turns in one run
// Usage: node tests/bench/tunnels.mjs [CLIENTS [PER_SECOND [SECONDS]]]; XINDAO_GATEWAY: the binary (default: build/release/xindao-gateway)
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [clients = 1000, rate = 100, seconds = 5] = process.argv.slice(2).map(Number);
const binary = process.env.XINDAO_GATEWAY ?? 'build/release/xindao-gateway', KEY = 'a-tunnel-key', API = 'xdk_bench_0123456789abcdef0123456789';
const sha1 = text => createHash('sha1').update(text).digest('hex'), sleep = ms => new Promise(yes => setTimeout(yes, ms));
const free = () => new Promise(yes => { const s = net.createServer().listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => yes(port)); }); });
const port = await free(), dir = mkdtempSync(join(tmpdir(), 'xd-bench-'));
const business = http.createServer((req, res) => { req.resume(); res.end('{"code":0}'); });
await new Promise(yes => business.listen(0, '127.0.0.1', yes));
const receiveUrl = `http://127.0.0.1:${business.address().port}/tunnel`;
writeFileSync(join(dir, 't.json'), JSON.stringify({ tenants: [{ name: 'bench', tc_id: 'bench', keys: [KEY], receive_urls: [receiveUrl], requests: 0 }] }));
writeFileSync(join(dir, 'k.json'), JSON.stringify({ keys: [{ name: 'bench', sha256: createHash('sha256').update(API).digest('hex'), scopes: ['admin'], rate: 0 }] }));
const gateway = spawn(binary, ['--insecure', '--listen', `127.0.0.1:${port}`, '--wafer-tenants', join(dir, 't.json'), '--wafer-url', `ws://127.0.0.1:${port}`, '--api-keys', join(dir, 'k.json'), '--max-connections-per-ip', '0', '--log-level', 'warn'], { stdio: 'inherit' });
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const post = (path, body, headers = {}) => new Promise((yes, no) => {
  const req = http.request({ host: '127.0.0.1', port, path, method: 'POST', agent, headers: { 'Content-Type': 'application/json', ...headers } }, async res => { let text = ''; for await (const d of res) text += d; res.statusCode === 200 ? yes(JSON.parse(text)) : no(new Error(`${path}: ${res.statusCode} ${text}`)); });
  req.on('error', no);
  req.end(JSON.stringify(body));
});
const wafer = async (path, data) => { const text = JSON.stringify(data), a = await post(path, { data: text, tcId: 'bench', signature: sha1(text + KEY) }); if (a.code !== 0) throw new Error(a.message); return a.data; };
let bytes = 0;
const dial = (path, first) => new Promise((yes, no) => {
  const s = net.connect(port, '127.0.0.1', () => s.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`));
  let head = '';
  s.on('error', no);
  s.on('data', d => {
    bytes += d.length;
    if (head === null) return;
    head += d.toString('latin1');
    if (!head.includes(first)) return;
    head = null;
    yes(s);
  });
});
const frame = text => { const b = Buffer.from(text), mask = Buffer.alloc(4); return Buffer.concat([Buffer.from([0x81, 0x80 | b.length]), mask, b]); };
const cpu = () => { const f = readFileSync(`/proc/${gateway.pid}/stat`, 'utf8').split(') ')[1].split(' '); return (Number(f[11]) + Number(f[12])) * 10; };
const delivered = async () => Number(/^xindao_deliveries_total(?:\{[^}]*\})? (\d+)/m.exec(await new Promise(yes => http.get({ host: '127.0.0.1', port, path: '/metrics', agent }, async res => { let t = ''; for await (const d of res) t += d; yes(t); })))[1]);
async function measure(say) {
  const from = await delivered(), before = cpu(), start = Date.now();
  for (let i = 0; i < rate * seconds; i++) { await say(); const due = start + (i + 1) * 1000 / rate - Date.now(); if (due > 0) await sleep(due); }
  await sleep(200);
  const n = await delivered() - from;
  return { n, us: (cpu() - before) * 1000 / n, took: Date.now() - start };
}
try {
  for (let i = 0; ; i++) { try { await post('/get/wsurl', {}); break; } catch (e) { if (i > 100) throw e; await sleep(50); } }
  const ids = [], sockets = [], data = 'x'.repeat(100);
  for (let i = 0; i < clients; i++) {
    const { tunnelId, connectUrl } = JSON.parse(await wafer('/get/wsurl', { receiveUrl }));
    ids.push(tunnelId);
    sockets.push(await dial(new URL(connectUrl).pathname, 'timeout:'));
  }
  for (let i = 0; i < clients; i++) { const s = await dial('/ws', 'welcome'); s.write(frame('{"type":"join","room":"bench"}')); sockets.push(s); }
  await sleep(1000);
  const content = JSON.stringify({ type: 'n', content: data }), api = { Authorization: `Bearer ${API}` };
  const push = () => wafer('/ws/push', [{ tunnelIds: ids, type: 'message', content }]), publish = () => post('/api/v1/publish', { room: 'bench', event: 'n', data }, api);
  const found = { tunnels: [], native: [] };
  for (let turn = 0; turn < 3; turn++) for (const [name, say] of [['tunnels', push], ['native', publish]]) {
    const r = await measure(say);
    if (r.n !== clients * rate * seconds) throw new Error(`${name}: ${r.n} deliveries, not ${clients * rate * seconds}`);
    found[name].push(r.us);
    console.log(`${name}: ${r.n} deliveries in ${r.took} ms, ${r.us.toFixed(2)} µs CPU each`);
  }
  const median = list => [...list].sort((a, b) => a - b)[list.length >> 1];
  console.log(`tunnels ${median(found.tunnels).toFixed(2)} µs, native ${median(found.native).toFixed(2)} µs: ${(median(found.tunnels) / median(found.native)).toFixed(2)} times`);
  for (const s of sockets) s.destroy();
} finally {
  gateway.kill('SIGKILL');
  business.close();
  agent.destroy();
  rmSync(dir, { recursive: true, force: true });
  process.exit();
}
