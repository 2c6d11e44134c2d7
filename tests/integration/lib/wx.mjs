// wx.mjs: as much of the `wx` API of mini-programs as the SDKs of npm need, on npm ws
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import vm from 'node:vm';
import WebSocket from 'ws';

function connectSocket({ url, header, protocols }, ca) {
  const ws = new WebSocket(url, protocols?.length ? protocols : [], { headers: header, ca });
  ws.binaryType = 'arraybuffer';
  const done = (o, e) => { (e ? o.fail : o.success)?.({ errMsg: e?.message ?? 'ok' }); o.complete?.({}); };
  return {
    onOpen: f => ws.on('open', () => f({ header: {} })),
    onMessage: f => ws.on('message', (data, binary) => f({ data: binary ? data : Buffer.from(data).toString() })),
    onClose: f => ws.on('close', (code, reason) => f({ code, reason: reason.toString() })),
    onError: f => ws.on('error', e => f({ errMsg: e.message })),
    send: o => ws.send(o.data, e => done(o, e)),
    breakOff: () => ws.terminate(),
    close: (o = {}) => { if (ws.readyState === WebSocket.CONNECTING) ws.terminate(); else ws.close(o.code, o.reason); },
  };
}

/** The library's `io`, run as a mini-program runs it: there is a wx, and neither Node nor a DOM. */
export function weapp(name, ca) {
  const module = { exports: {} }, timers = { setTimeout, clearTimeout, setInterval, clearInterval };
  vm.runInNewContext(readFileSync(createRequire(import.meta.url).resolve(name), 'utf8'),
    { module, exports: module.exports, window: timers, ...timers, console, ArrayBuffer, Uint8Array, wx: { connectSocket: o => connectSocket(o, ca) } }, { filename: name });
  return module.exports;
}

/** A mini-program on one phone: its `wx` with requests, storage, and the one global socket of old base libraries; and the SDKs it loads. */
export class MiniProgram {
  constructor({ ca, more = {} } = {}) { Object.assign(this, { ca, storage: {}, task: null, handlers: {}, dialled: [], more }); }

  get wx() {
    const on = what => f => { this.handlers[what] = f; };
    return {
      request: o => this.#request(o),
      connectSocket: o => this.#connect(o),
      sendSocketMessage: o => (this.task ? this.task.send(o) : o.fail?.({ errMsg: 'sendSocketMessage:fail' })),
      closeSocket: (o = {}) => { this.task?.close(o); },
      onSocketOpen: on('Open'), onSocketMessage: on('Message'), onSocketClose: on('Close'), onSocketError: on('Error'),
      getStorageSync: k => this.storage[k] ?? '',
      setStorageSync: (k, v) => { this.storage[k] = v; },
      removeStorageSync: k => { delete this.storage[k]; },
      ...this.more,
    };
  }

  // One at a time: what an older socket still says is not told.
  #connect(o) {
    const task = connectSocket(o, this.ca), mine = (what, f) => event => { if (this.task === task) f?.(event); };
    this.dialled.push(o.url);
    this.task?.close();
    this.task = task;
    for (const what of ['Open', 'Message', 'Error']) task[`on${what}`](mine(what, e => this.handlers[what]?.(e)));
    task.onClose(mine('Close', e => { this.task = null; this.handlers.Close?.(e); }));
    o.success?.({ errMsg: 'connectSocket:ok' });
  }

  #request({ url, header, method = 'GET', data, success, fail, complete }) {
    const body = data === undefined ? undefined : typeof data === 'string' ? data : JSON.stringify(data);
    const req = (url.startsWith('https:') ? https : http).request(url, { method, ca: this.ca, agent: false, headers: { ...(body ? { 'Content-Type': 'application/json' } : {}), ...header } }, async res => {
      const parts = [];
      try {
        for await (const part of res) parts.push(part);
      } catch (e) { fail?.({ errMsg: e.message }); complete?.({}); return; }
      let told = Buffer.concat(parts).toString();
      try { told = JSON.parse(told); } catch { /* it is a string then */ }
      const answer = { statusCode: res.statusCode, header: res.headers, data: told };
      success?.(answer); complete?.(answer);
    });
    req.on('error', e => { fail?.({ errMsg: `request:fail ${e.message}` }); complete?.({}); });
    req.end(body);
  }

  /** The connection breaks, as in a tunnel of another kind: no close frame. */
  breakConnection() { this.task?.breakOff(); }

  /** What `require(name)` gives in the mini-program: a copy of its own, with this `wx`, and neither Node nor a DOM. */
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
