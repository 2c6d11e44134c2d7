// authority.mjs: certificates of every kind, right and wrong, made with openssl
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const DAY = 86400000;
const stamp = ms => new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, ''); // 20261121071500Z
const openssl = args => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] });

/** An authority, either a root or signed by another one. pem: its own certificate. */
export class Authority {
  constructor(dir, name, { by } = {}) {
    this.name = name;
    this.dir = join(dir, name.replace(/\W/g, '-'));
    mkdirSync(this.dir);
    this.file = join(this.dir, 'ca.pem');
    this.keyFile = join(this.dir, 'ca.key');
    writeFileSync(join(this.dir, 'index'), '');
    writeFileSync(join(this.dir, 'serial'), '1000\n');
    writeFileSync(join(this.dir, 'conf'), `[ca]\ndefault_ca=d\n[d]\ndatabase=${this.dir}/index\nserial=${this.dir}/serial\nnew_certs_dir=${this.dir}\nunique_subject=no\npolicy=p\n[p]\ncommonName=supplied\n`);
    this.pem = by ? by.#issue(this.name, this.keyFile, ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign'], {}) : this.#root();
    writeFileSync(this.file, this.pem);
  }

  #root() {
    openssl(['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', this.keyFile, '-out', this.file, '-days', '400', '-subj', `/CN=${this.name}`,
      '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign']);
    return readFileSync(this.file, 'utf8');
  }

  #issue(cn, keyFile, extensions, { from = -DAY, to = 90 * DAY, rsa, digest = 'sha256' }) {
    const request = `${keyFile}.req`, ext = `${keyFile}.ext`, out = `${keyFile}.pem`;
    openssl(['req', '-new', '-newkey', ...(rsa ? [`rsa:${rsa}`] : ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']), '-nodes', '-keyout', keyFile, '-out', request, '-subj', `/CN=${cn}`]);
    writeFileSync(ext, `${extensions.join('\n')}\n`);
    openssl(['ca', '-batch', '-notext', '-config', join(this.dir, 'conf'), '-cert', this.file, '-keyfile', this.keyFile, '-in', request, '-out', out, '-md', digest,
      '-startdate', stamp(Date.now() + from), '-enddate', stamp(Date.now() + to), '-extfile', ext]);
    return readFileSync(out, 'utf8');
  }

  /** A server's certificate: {cert, key} in PEM. names: DNS names; from, to: milliseconds from now; rsa: bits of an RSA key; usage: what for; extra: more lines of extensions. */
  server(names, { extra = [], usage = 'serverAuth', ...options } = {}) {
    const keyFile = join(this.dir, `${Math.random().toString(36).slice(2)}.key`);
    const cert = this.#issue(names[0], keyFile, [`subjectAltName=${names.map(n => `DNS:${n}`).join(',')}`, 'basicConstraints=CA:FALSE', `extendedKeyUsage=${usage}`, ...extra], options);
    return { cert, key: readFileSync(keyFile, 'utf8') };
  }

  static selfSigned(dir, name) {
    const key = join(dir, 'self.key'), cert = join(dir, 'self.pem');
    openssl(['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '90', '-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`]);
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  }
}
