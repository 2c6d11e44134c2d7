// cluster.mjs: real processes for a test: redis-server, gateways, HAProxy; stopping them is part of the test
import { spawn, execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, readFileSync, existsSync } from 'node:fs';
import https from 'node:https';
import http from 'node:http';
import { after } from 'node:test';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PATIENCE_MS, freePort, until, within } from './wait.mjs';
import { Metrics } from './metrics.mjs';
import { Client, unique } from './client.mjs';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const LOCAL = { host: '127.0.0.1', exec: [] };
const START_MS = 40000, STOP_MS = 40000;
const DISEASES = [/(?:Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer/, /runtime error:/, /Assertion [`'].*failed/, /\bSIGSEGV\b|\bSIGABRT\b/];

export function gatewayBinary() {
  const tried = process.env.XINDAO_GATEWAY ? [process.env.XINDAO_GATEWAY]
    : ['build/asan/xindao-gateway', 'build/release/xindao-gateway'].map(p => join(ROOT, p));
  const found = tried.find(existsSync);
  if (!found) throw new Error(`no gateway to test: ${tried.join(', ')}; build it or set XINDAO_GATEWAY`);
  return resolve(found);
}

const running = new Set();
// When a hook fails before it stopped its processes, the test file must end all the same.
after(async () => { for (const p of running) await p.kill(); });

/** A process whose output is kept, and whose end is expected or a failure. */
export class Process {
  /** exec: a command that becomes the process, such as `ip netns exec NAME`. */
  constructor(name, command, args, { env = {}, cwd, exec = [] } = {}) {
    [command, ...args] = [...exec, command, ...args];
    this.name = name;
    this.log = '';
    this.ended = null;
    this.problems = [];
    running.add(this);
    this.child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', d => { if (this.log.length < 8 << 20) this.log += d; });
    this.exit = new Promise(yes => {
      this.child.on('error', e => { running.delete(this); this.log += `${e.message}\n`; this.ended = { code: null, signal: null, error: e }; yes(this.ended); });
      this.child.on('close', (code, signal) => {
        running.delete(this);
        this.ended = { code, signal };
        if (!this.expected) this.problems.push(`${name} ended by itself: code ${code}, signal ${signal}`);
        yes(this.ended);
      });
    });
  }

  get pid() { return this.child.pid; }

  signal(name) { if (!this.ended) this.child.kill(name); }

  /** SIGTERM, and the exit status it led to. */
  async terminate(ms = STOP_MS) {
    this.expected = true;
    this.signal('SIGTERM');
    try {
      return await within(this.exit, ms, `${this.name} to exit after SIGTERM`);
    } catch (e) {
      this.signal('SIGKILL');
      await this.exit;
      throw e;
    }
  }

  async kill() {
    this.expected = true;
    this.signal('SIGKILL');
    return this.exit;
  }

  tail(lines = 60) { return this.log.split('\n').slice(-lines).join('\n'); }
}

export class Redis {
  /** machine: {host, exec} of where it is to run; args: more of its configuration; conf: a file that Redis may rewrite. */
  static async start(dir, { aof = true, fsync = 'everysec', machine = LOCAL, args = [], name = 'redis', conf } = {}) {
    const r = new Redis();
    Object.assign(r, { dir, aof, fsync, machine, args, name, conf });
    r.port = await freePort();
    await r.boot();
    return r;
  }

  async boot() {
    const { host, exec } = this.machine;
    this.process = new Process(this.name, 'redis-server', [...(this.conf ? [this.conf] : []), '--port', String(this.port), '--bind', ...new Set(['127.0.0.1', host]), '--dir', this.dir, '--save', '',
      '--appendonly', this.aof ? 'yes' : 'no', '--appendfsync', this.fsync, '--daemonize', 'no', '--loglevel', 'notice', ...this.args], { exec });
    await until(async () => (await this.cli('PING')) === 'PONG', { what: () => `Redis to answer\n${this.process.tail()}`, ms: START_MS });
  }

  get url() { return `redis://${this.machine.host}:${this.port}`; }

  /** What an operator would type: redis-cli's raw output. */
  async cli(...args) {
    const [command, ...rest] = [...this.machine.exec, 'redis-cli', '-h', '127.0.0.1', '-p', String(this.port), '--raw', ...args];
    const { stdout } = await promisify(execFile)(command, rest, { timeout: PATIENCE_MS });
    return stdout.replace(/\n$/, '');
  }

  async hash(key) {
    const lines = (await this.cli('HGETALL', key)).split('\n');
    const fields = {};
    for (let i = 0; i + 1 < lines.length; i += 2) fields[lines[i]] = lines[i + 1];
    return fields;
  }

  async keys(pattern = '*') { return (await this.cli('--scan', '--pattern', pattern)).split('\n').filter(Boolean).sort(); }

  async stop() { await this.process.kill(); }
}

export class Gateway {
  constructor(cluster, name) { this.cluster = cluster; this.name = name; }

  static async start(cluster, name, { flags = [], insecure = false, env = {}, wait = true, demo = 'on', broker, machine = LOCAL, port } = {}) {
    const g = new Gateway(cluster, name);
    Object.assign(g, { insecure, machine });
    g.port = port ?? await freePort();
    // Tests say themselves where they want to be limited, or their sessions parked.
    g.flags = [...flags];
    for (const [flag, value] of [['--message-rate', '0'], ['--resume-window', '0s']]) if (!flags.includes(flag)) g.flags.push(flag, value);
    const args = ['--listen', `${machine.host}:${g.port}`, '--node', name, ...(broker ?? ['--broker', cluster.redis?.url ?? 'memory']), '--demo', demo,
      ...(insecure ? ['--insecure'] : ['--tls-cert', cluster.cert, '--tls-key', cluster.key]), ...g.flags];
    g.args = args;
    g.env = { ASAN_OPTIONS: 'detect_leaks=1:exitcode=66:detect_stack_use_after_return=0', UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1', ...env };
    g.past = [];
    g.boot();
    if (wait) await g.ready();
    return g;
  }

  /** The process of this gateway: the first one, or another in the place of one that has ended. */
  boot() {
    if (this.process) this.past.push(this.process);
    this.process = new Process(this.name, gatewayBinary(), this.args, { env: this.env, exec: this.machine.exec });
  }

  get url() { return `${this.insecure ? 'ws' : 'wss'}://${this.machine.host}:${this.port}`; }
  get log() { return this.process.log; }

  async ready() {
    await until(async () => {
      if (this.process.ended) throw Object.assign(new Error(`${this.name} ended: ${this.process.tail()}`), { final: true });
      return (await this.get('/readyz')).status === 200;
    }, { what: () => `${this.name} to be ready\n${this.process.tail()}`, ms: START_MS });
  }

  /** One HTTP request on a connection of its own. */
  get(path, { method = 'GET', headers = {}, body } = {}) { return request(this.port, path, { method, headers, body, insecure: this.insecure, ca: this.cluster.ca, host: this.machine.host }); }

  async metrics() {
    const r = await this.get('/metrics');
    if (r.status !== 200) throw new Error(`/metrics answered ${r.status}`);
    return Metrics.parse(r.text);
  }

  /** Waits until a counter has grown by at least `by` since `before` (Metrics). */
  counted(before, name, labels = {}, by = 1) {
    return until(async () => (await this.metrics()).sum(name, labels) >= before.sum(name, labels) + by,
      { what: `${name}${JSON.stringify(labels)} to grow by ${by}` });
  }

  client(id, options = {}) { return Client.open(this.url, { id, ca: this.cluster.ca, ...options }); }
  /** Opens clients and joins them to one new room: [room, ...clients]. */
  async gather(...ids) {
    const room = unique(), clients = [];
    for (const id of ids) { const c = await this.client(id); await c.join(room); clients.push(c); }
    for (const c of clients) { await c.settle(); c.take('enter'); }
    return [room, ...clients];
  }

  async stop() {
    if (this.process.ended) return this.process.ended;
    const end = await this.process.terminate();
    if (end.code !== 0) this.process.problems.push(`${this.name} left with ${JSON.stringify(end)} after SIGTERM, not 0`);
    return end;
  }

  kill() { return this.process.kill(); }

  ill() {
    const all = [...this.past, this.process], found = all.flatMap(p => p.problems);
    for (const d of DISEASES) if (all.some(p => d.test(p.log))) found.push(`${this.name}: the log matches ${d}`);
    return found;
  }
}

export function request(port, path, { method = 'GET', headers = {}, body, insecure = false, ca, host = '127.0.0.1' } = {}) {
  return new Promise((yes, no) => {
    const req = (insecure ? http : https).request({ host, port, path, method, headers, ca, agent: false, timeout: PATIENCE_MS }, res => {
      const parts = [];
      res.on('data', d => parts.push(d));
      res.on('end', () => {
        const text = Buffer.concat(parts).toString();
        yes({ status: res.statusCode, headers: res.headers, text, get json() { return JSON.parse(text); } });
      });
      res.on('error', no);
    });
    req.on('timeout', () => req.destroy(new Error(`${path}: no answer in ${PATIENCE_MS / 1000} s`)));
    req.on('error', no);
    req.end(body);
  });
}

export class Cluster {
  /**
   * @param {object} o gateways: how many; redis: false for the memory broker, or options for Redis.start; proxy: HAProxy in front, with the configuration we ship;
   *                   flags, insecure, env: for every gateway; names: what else than localhost the certificate is for.
   */
  static async start({ gateways = 1, redis = true, proxy = false, names = [], ...options } = {}) {
    const c = new Cluster();
    c.dir = mkdtempSync(join(tmpdir(), 'xd-it-'));
    c.gateways = [];
    try {
      execFileSync('bash', [join(ROOT, 'deploy/make-cert.sh'), c.dir, ...names], { stdio: ['ignore', 'pipe', 'pipe'] });
      c.cert = join(c.dir, 'cert.pem'); c.key = join(c.dir, 'key.pem');
      c.ca = readFileSync(join(c.dir, 'ca.pem'));
      if (redis) c.redis = await Redis.start(c.dir, redis === true ? {} : redis);
      if (proxy) options.flags = ['--proxy-protocol', 'optional', ...(options.flags ?? [])];
      await Promise.all(Array.from({ length: gateways }, (_, i) => c.add(`gw${i + 1}`, options)));
      c.gateways.sort((a, b) => a.name.localeCompare(b.name));
      if (proxy) await c.startProxy();
    } catch (e) {
      await c.stop().catch(() => {});
      throw e;
    }
    return c;
  }

  async add(name, options) {
    const g = await Gateway.start(this, name, options);
    this.gateways.push(g);
    return g;
  }

  /** HAProxy in front of the first two gateways. */
  async startProxy(port) {
    this.proxyPort = port ?? await freePort();
    const [a, b] = this.gateways;
    this.proxy = new Process('haproxy', 'haproxy', ['-db', '-f', join(ROOT, 'deploy/haproxy.cfg')], {
      env: { LB_BIND: `127.0.0.1:${this.proxyPort}`, LB_MAXCONN: '500', LB_SERVER_1: `127.0.0.1:${a.port}`, LB_SERVER_2: `127.0.0.1:${b.port}` },
    });
    await until(async () => {
      if (this.proxy.ended) throw Object.assign(new Error(`HAProxy ended: ${this.proxy.tail()}`), { final: true });
      return (await request(this.proxyPort, '/readyz', { ca: this.ca })).status === 200;
    }, { what: () => `HAProxy to pass a request on\n${this.proxy.tail()}`, ms: START_MS });
  }

  /** A client of gateway n. */
  client(n, id, options) { return this.gateways[n].client(id, options); }

  async stop() {
    const problems = [];
    const attempt = async f => { try { await f(); } catch (e) { problems.push(e.message); } };
    if (this.proxy) await attempt(() => this.proxy.terminate());
    await Promise.all(this.gateways.map(g => attempt(() => g.stop())));
    if (this.redis) await attempt(() => this.redis.stop());
    for (const g of this.gateways) problems.push(...g.ill());
    if (problems.length || process.env.XINDAO_KEEP_LOGS) {
      for (const g of this.gateways) {
        // Of the processes before it, all that is asked for, or how those that were ill have ended.
        for (const p of [...g.past, g.process]) if (p === g.process || process.env.XINDAO_KEEP_LOGS || DISEASES.some(d => d.test(p.log)))
          console.error(`--- ${g.name} ---\n${p.tail(process.env.XINDAO_KEEP_LOGS ? 5000 : 80)}`);
      }
    }
    rmSync(this.dir, { recursive: true, force: true });
    if (problems.length) throw new Error(problems.join('\n'));
  }
}
