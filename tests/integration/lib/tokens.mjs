// tokens.mjs: keys and JSON Web Tokens made by npm jose, for gateways with --auth jwt
import * as jose from 'jose';
import { createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const now = () => Math.floor(Date.now() / 1000);

/** A key that signs, and files with what a gateway may know of it. */
export class Key {
  static async make(alg, kid) {
    const k = new Key();
    Object.assign(k, { alg, kid });
    if (alg.startsWith('HS')) {
      k.secret = Buffer.from(Array.from({ length: Number(alg.slice(2)) / 8 }, () => Math.floor(Math.random() * 94) + 33));
      k.private = new Uint8Array(k.secret);
      k.jwk = { kty: 'oct', k: jose.base64url.encode(k.secret), alg, ...(kid && { kid }) };
    } else {
      const pair = await jose.generateKeyPair(alg, { crv: 'Ed25519', extractable: true });
      k.private = pair.privateKey;
      k.pem = await jose.exportSPKI(pair.publicKey);
      k.jwk = { ...await jose.exportJWK(pair.publicKey), use: 'sig', alg, ...(kid && { kid }) };
    }
    return k;
  }

  /** Writes what a gateway needs to check signatures: a PEM file or the secret itself. */
  file(dir) {
    const path = join(dir, `${this.kid ?? 'key'}-${this.alg}.${this.pem ? 'pem' : 'secret'}`);
    writeFileSync(path, this.pem ?? this.secret);
    return path;
  }

  /** A token of this user; more: further claims, beside exp in `seconds`. */
  sign(sub, more = {}, { seconds = 300, header = {} } = {}) {
    return new jose.SignJWT({ sub, exp: now() + seconds, ...more }).setProtectedHeader({ alg: this.alg, ...(this.kid && { kid: this.kid }), ...header }).sign(this.private);
  }
}

export const keySet = (dir, name, ...keys) => {
  const path = join(dir, name);
  writeFileSync(path, JSON.stringify({ keys: keys.map(k => k.jwk) }));
  return path;
};

const part = o => jose.base64url.encode(typeof o === 'string' ? o : JSON.stringify(o));

/** What no library would make: any header and claims, signed by HMAC with any secret, or not at all. */
export function forge(header, claims, secret) {
  const text = `${part(header)}.${part(claims)}`;
  return `${text}.${secret === undefined ? '' : createHmac('sha256', secret).update(text).digest('base64url')}`;
}
