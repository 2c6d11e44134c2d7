// wechat.mjs: what a test needs of WeChat: its API as far as a gateway asks it, and the phone of a user
import https from 'node:https';
import http from 'node:http';
import vm from 'node:vm';
import { createCipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { freePort } from './wait.mjs';

/** api.weixin.qq.com: knows its apps, makes login codes, and exchanges each once. */
export class WeChat {
  /** apps: appid → secret. tls: the cluster whose certificate it has. */
  static async start(apps, { tls } = {}) {
    const w = new WeChat();
    Object.assign(w, { apps, codes: new Map(), asked: [], problems: [], port: await freePort(), sockets: new Set() });
    const on = (req, res) => w.#on(req, res);
    w.server = tls ? https.createServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) }, on) : http.createServer(on);
    w.server.on('connection', s => { w.sockets.add(s); s.on('close', () => w.sockets.delete(s)); });
    w.url = `http${tls ? 's' : ''}://localhost:${w.port}`;
    await w.up();
    return w;
  }

  up() { return new Promise((yes, no) => this.server.once('error', no).listen(this.port, '127.0.0.1', yes)); }

  down() {
    const closed = new Promise(yes => this.server.close(yes));
    for (const s of this.sockets) s.destroy();
    return closed;
  }

  stop() { return this.server.listening ? this.down() : undefined; }

  /** A code of wx.login for this user, with the session_key it stands for. */
  code(appid, openid, more = {}) {
    const code = `0${randomBytes(15).toString('base64')}+/ &=%`; // letters that must be encoded
    const login = { appid, openid, key: randomBytes(16), ...more };
    this.codes.set(code, login);
    return { code, ...login };
  }

  #answer(q) {
    const login = this.codes.get(q.get('js_code'));
    if (this.apps[q.get('appid')] === undefined) return { errcode: 40013, errmsg: 'invalid appid' };
    if (this.apps[q.get('appid')] !== q.get('secret')) return { errcode: 40125, errmsg: 'invalid appsecret' };
    if (!login || login.appid !== q.get('appid')) return { errcode: 40029, errmsg: 'invalid code, rid: 1' };
    if (login.used) return { errcode: 40163, errmsg: 'code been used' };
    login.used = true;
    return login.answer ?? { openid: login.openid, session_key: login.key.toString('base64'), ...(login.unionid && { unionid: login.unionid }) };
  }

  #on(req, res) {
    const url = new URL(req.url, this.url), names = [...url.searchParams.keys()].sort();
    this.asked.push(url);
    if (this.mute) return;
    const wrong = req.method !== 'GET' ? 'method' : url.pathname !== '/sns/jscode2session' ? 'path' : names.join() !== 'appid,grant_type,js_code,secret' ? 'parameters'
      : url.searchParams.get('grant_type') !== 'authorization_code' ? 'grant_type' : undefined;
    if (wrong) this.problems.push(`${wrong}: ${req.method} ${req.url}`);
    const a = this.broken ?? (wrong ? { status: 400 } : { json: this.#answer(url.searchParams) });
    res.writeHead(a.status ?? 200, { 'Content-Type': 'text/plain' }).end(a.text ?? JSON.stringify(a.json ?? {}));
  }
}

/** encryptedData and iv of wx.getUserInfo; data: the object, or the bytes that are to come out. */
export function seal(key, data, { padding = true } = {}) {
  const iv = randomBytes(16), cipher = createCipheriv('aes-128-cbc', key, iv).setAutoPadding(padding);
  const bytes = typeof data === 'object' && !Buffer.isBuffer(data) ? Buffer.from(JSON.stringify(data)) : Buffer.from(data);
  return { encryptedData: Buffer.concat([cipher.update(bytes), cipher.final()]).toString('base64'), iv: iv.toString('base64') };
}

export const profile = (login, more = {}) => ({ openId: login.openid, nickName: '阿花 "🌸"', gender: 1, language: 'zh_CN', city: '', ...more,
  watermark: { appid: login.appid, timestamp: Math.floor(Date.now() / 1000), ...more.watermark } });

/** The phone of one user in one mini-program: an SDK of npm as a mini-program runs it, with wx and neither Node nor a DOM. */
export class Phone {
  constructor(wechat, appid, openid) { Object.assign(this, { wechat, appid, openid, storage: {}, requests: [] }); }

  get wx() {
    const phone = this;
    return {
      login: o => { phone.session = phone.wechat.code(phone.appid, phone.openid); o.success({ code: phone.session.code, errMsg: 'login:ok' }); },
      getUserInfo: o => { const told = profile(phone.session); o.success({ userInfo: told, ...seal(phone.session.key, told) }); },
      checkSession: o => (phone.session ? o.success() : o.fail()),
      getStorageSync: k => phone.storage[k],
      setStorageSync: (k, v) => { phone.storage[k] = v; },
      removeStorageSync: k => { delete phone.storage[k]; },
      request: o => phone.#request(o),
      ...Object.fromEntries(['Open', 'Message', 'Close', 'Error'].map(what => [`onSocket${what}`, () => {}])),
    };
  }

  #request({ url, header, method, data, success, fail, complete }) {
    this.requests.push(url);
    const req = http.request(url, { method, headers: header, agent: false }, async res => {
      const parts = [];
      for await (const part of res) parts.push(part);
      const text = Buffer.concat(parts).toString();
      let body = text;
      try { body = JSON.parse(text); } catch { /* wx.request leaves it a string */ }
      success?.({ statusCode: res.statusCode, data: body });
      complete?.();
    });
    req.on('error', e => { fail?.({ errMsg: e.message }); complete?.(); });
    req.end(data && JSON.stringify(data));
  }

  /** What `require(name)` gives in the mini-program. */
  require(name) {
    const context = vm.createContext({ wx: this.wx, console, setTimeout, clearTimeout, setInterval, clearInterval }), loaded = new Map();
    const load = path => {
      if (loaded.has(path)) return loaded.get(path).exports;
      const module = { exports: {} }, find = createRequire(path);
      loaded.set(path, module);
      vm.runInContext(`(function (module, exports, require) {${readFileSync(path, 'utf8')}\n})`, context, { filename: path })(module, module.exports, n => load(find.resolve(n)));
      return module.exports;
    };
    return load(createRequire(import.meta.url).resolve(name));
  }
}
