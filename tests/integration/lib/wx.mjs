// wx.mjs: as much of the `wx` API of mini-programs as npm weapp.socket.io needs, on npm ws
import { readFileSync } from 'node:fs';
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
