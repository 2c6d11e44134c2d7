// sentinels.mjs: a primary, a replica and three real sentinels, that a test may kill, stop and order to fail over
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Process, Redis } from './cluster.mjs';
import { freePort, until } from './wait.mjs';

const SERVICE = 'main', HOST = '127.0.0.1';

export class Sentinels {
  /** tls: the files {cert, key, ca}; then clients, replication and sentinels all speak TLS. downAfter: when a silent server is taken for dead, ms. */
  static async start(dir, { tls = null, downAfter = 1000, quorum = 2 } = {}) {
    const s = new Sentinels();
    Object.assign(s, { dir, tls, downAfter, quorum });
    s.servers = [];
    s.sentinels = [];
    await s.#server('first');
    await s.#server('second', ['--replicaof', HOST, String(s.servers[0].announced)]);
    await until(async () => /state=online/.test(await s.servers[0].cli('INFO', 'replication')), { what: 'the replica to follow' });
    for (let i = 0; i < 3; i++) s.sentinels.push(await s.#sentinel(i));
    await until(async () => {
      const known = await Promise.all(s.sentinels.map(x => s.#ask(x, 'SENTINEL', 'MASTER', SERVICE)));
      return known.every(k => /num-slaves\n1\nnum-other-sentinels\n2/.test(k));
    }, { what: 'the sentinels to know each other and the replica', ms: 60000 });
    return s;
  }

  #tlsOptions() {
    return this.tls ? { 'tls-cert-file': this.tls.cert, 'tls-key-file': this.tls.key, 'tls-ca-cert-file': this.tls.ca, 'tls-auth-clients': 'no', 'tls-replication': 'yes' } : {};
  }

  async #server(name, args = []) {
    const dir = join(this.dir, name);
    mkdirSync(dir);
    const tlsPort = this.tls ? await freePort() : 0;
    const more = Object.entries({ ...this.#tlsOptions(), ...(this.tls ? { 'tls-port': tlsPort } : {}), 'repl-diskless-sync-delay': 0 });
    const r = await Redis.start(dir, { fsync: 'always', name, args: [...more.flatMap(([k, v]) => [`--${k}`, String(v)]), ...args] });
    r.announced = tlsPort || r.port;
    r.args = r.args.filter((a, i) => a !== '--replicaof' && r.args[i - 1] !== '--replicaof' && r.args[i - 2] !== '--replicaof'); // the sentinels will say, next time
    this.servers.push(r);
  }

  async #sentinel(i) {
    const port = await freePort(), conf = join(this.dir, `sentinel${i}.conf`);
    const tls = Object.entries(this.#tlsOptions()).map(([k, v]) => `${k} ${v}`);
    writeFileSync(conf, [
      ...(this.tls ? ['port 0', `tls-port ${port}`, ...tls] : [`port ${port}`]), `bind ${HOST}`, `dir ${this.dir}`,
      `sentinel monitor ${SERVICE} ${HOST} ${this.servers[0].announced} ${this.quorum}`,
      `sentinel down-after-milliseconds ${SERVICE} ${this.downAfter}`, `sentinel failover-timeout ${SERVICE} 2000`, ''].join('\n'));
    return { port, process: new Process(`sentinel${i}`, 'redis-server', [conf, '--sentinel']) };
  }

  async #ask(sentinel, ...command) {
    const tls = this.tls ? ['--tls', '--cacert', this.tls.ca] : [];
    const { stdout } = await promisify(execFile)('redis-cli', ['-h', HOST, '-p', String(sentinel.port), ...tls, '--raw', ...command], { timeout: 30000 }).catch(e => ({ stdout: String(e) }));
    return stdout;
  }

  url(credentials = '', parameters = '') {
    return `redis${this.tls ? 's' : ''}+sentinel://${credentials}${this.sentinels.map(s => `${HOST}:${s.port}`).join()}/${SERVICE}${parameters}`;
  }

  /** The server that the sentinels call the primary. */
  async primary() {
    const said = await Promise.all(this.sentinels.map(s => this.#ask(s, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', SERVICE)));
    const ports = new Set(said.map(x => Number(x.split('\n')[1])));
    return ports.size === 1 ? this.servers.find(s => ports.has(s.announced)) : undefined;
  }

  other(server) { return this.servers.find(s => s !== server); }

  /** Orders one, as soon as the sentinel thinks that the replica will do. */
  async failover(ms = 40000) {
    let said;
    await until(async () => (said = await this.#ask(this.sentinels[0], 'SENTINEL', 'FAILOVER', SERVICE)) === 'OK\n', { what: () => `the sentinel to agree to a failover; it said ${said}`, ms });
  }

  /** Until all sentinels name a server other than this one, which is a primary then. */
  async moved(from, ms = 60000) {
    return until(async () => {
      const now = await this.primary();
      return now && now !== from && /^master/.test(await now.cli('ROLE')) && now;
    }, { what: 'the sentinels to name another primary', ms });
  }

  /** Until every server runs and the other one follows the primary: another failover is possible. */
  async healed(ms = 60000) {
    for (const s of this.servers) {
      if (!s.process.ended) continue;
      const args = s.args; // a sentinel would make it a replica too, but only after eight seconds
      s.args = [...args, '--replicaof', HOST, String(this.other(s).announced)];
      await s.boot();
      s.args = args;
    }
    return until(async () => {
      const primary = await this.primary(), rest = this.other(primary);
      if (primary && /^master/.test(await primary.cli('ROLE')) && /^master/.test(await rest.cli('ROLE'))) await rest.cli('REPLICAOF', HOST, String(primary.announced)); // as above
      return primary && /state=online/.test(await primary.cli('INFO', 'replication')) && primary;
    }, { what: 'the other server to follow the primary', ms });
  }

  async stop() {
    for (const s of this.sentinels) await s.process.kill();
    for (const s of this.servers) await s.stop();
  }
}
