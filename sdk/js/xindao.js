/* sdk/js/xindao.js: a client of the native protocol (docs/protocol.md) that stays: it comes back by itself, to whichever gateway, misses nothing and says nothing twice.
 *
 * For browsers, Node (with `ws`, or 22 and later) and WeChat mini-programs; no dependencies. docs/sdk.md has examples. */

/** Why a command failed: the error frame of the gateway. `code` is of the closed list in docs/protocol.md. */
export class XindaoError extends Error {
  constructor(frame) {
    super(frame.message);
    Object.assign(this, { name: 'XindaoError', code: frame.code, room: frame.room, reason: frame.reason, until: frame.until });
  }
}

const DEFAULTS = {
  user: undefined, // with --auth open: who this is
  token: undefined, // with --auth jwt: a token, or a function that gets one (may be async); asked for every connection
  code: undefined, // with --wechat-login: a function that gets a code of wx.login, or {code, appid} (may be async); the token that comes for it is used from then on
  socket: (url, protocols) => new WebSocket(url, protocols),
  patience: 60000, // ms a command may take, reconnecting included
  answerWithin: 10000, // ms of silence after a ping until a connection counts as dead
  retry: [500, 20000], // ms between attempts to connect: the first, and at most
  random: Math.random,
};

const FINAL = new Set([4001, 4003, 4004]); // close codes: coming back would not help
const NEVER = /^(unauthorized|forbidden|banned)$/;
const RESUME = 0, AUTH = -1; // ids of what is not a command of the application's

const randomKey = random => Array.from({ length: 22 }, () => 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'[Math.floor(random() * 62)]).join('');

// Binary frames are a frame without its data, a zero byte, then the data. The head is written in ASCII and read without TextDecoder, which mini-programs do not have.

const isBytes = data => data instanceof ArrayBuffer || ArrayBuffer.isView(data);
const asBytes = data => (data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength));

function encode(frame) {
  if (!isBytes(frame.data)) return JSON.stringify(frame);
  const { data, ...head } = frame, bytes = asBytes(data);
  const text = JSON.stringify(head).replace(/[^ -~]/g, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
  const out = new Uint8Array(text.length + 1 + bytes.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  out.set(bytes, text.length + 1);
  return out.buffer;
}

function decode(data) {
  if (typeof data === 'string') return JSON.parse(data);
  const bytes = asBytes(data), end = bytes.indexOf(0);
  let head = '';
  for (let i = 0; i < end; i++) head += bytes[i] < 0x80 && bytes[i] !== 0x25 ? String.fromCharCode(bytes[i]) : `%${bytes[i].toString(16)}`;
  return { ...JSON.parse(head.replace(/(%[0-9a-f]{2})+/g, decodeURIComponent)), data: bytes.slice(end + 1) };
}

/**
 * Begins to connect; commands may be given at once.
 * Events, by on(name, f): state ('connecting', 'online', 'offline', 'closed'), welcome, message, enter, exit, suspend, joined, left, recovered, goodbye, error; '*' is every frame.
 */
export function connect(url, options = {}) {
  return new Xindao(url, { ...DEFAULTS, ...options });
}

export class Xindao {
  constructor(url, options) {
    this.url = url;
    this.options = options;
    this.rooms = new Map(); // name -> { position, start, entering }: where this client is in each, and from where on it has seen everything
    this.session = null;
    this.user = null;
    this.state = 'connecting';
    this._listeners = new Map();
    this._commands = new Map(); // id -> what has not been answered yet, in the order in which it was given
    this._ids = 0;
    this._ticket = null; // what resumes the session
    this._token = options.code && typeof options.token === 'string' ? options.token : null; // what came for a code
    this._attempts = 0;
    this._timers = {};
    this._open();
  }

  on(name, f) {
    if (!this._listeners.has(name)) this._listeners.set(name, new Set());
    this._listeners.get(name).add(f);
    return () => this._listeners.get(name).delete(f);
  }

  /** Resolves with the ack {room, position, total}. Coming back to a room goes on where this client was. */
  join(room) { return this._command({ type: 'join', room, ...this._place(room) }); }
  leave(room) { return this._command({ type: 'leave', room }); }
  /** Published once, however often it must be said: resolves with {position} when the cluster has it. data: what JSON can say, or bytes. */
  publish(room, data, { event, key, echo } = {}) { return this._command({ type: 'publish', room, event, echo, key: key ?? this._key(), data }); }
  /** to: {user} or {session}. */
  send(to, data, { event, key } = {}) { return this._command({ type: 'send', to, event, key: key ?? this._key(), data }); }
  broadcast(data, { event, key } = {}) { return this._command({ type: 'broadcast', event, key: key ?? this._key(), data }); }
  presence(room, { cursor, limit } = {}) { return this._command({ type: 'presence', room, cursor, limit }); }
  /** Resolves with {messages, more}. after, before: offsets. */
  history(room, { after, before, limit } = {}) { return this._command({ type: 'history', room, after, before, limit }); }
  /** Any other command of the protocol. */
  command(frame) { return this._command({ ...frame }); }

  /** Leaves for good: the others see `exit` at once. */
  close() {
    this._end(new XindaoError({ code: 'closed', message: 'closed by this client' }), 1000);
  }

  // --- commands

  _place(room) {
    const { position, start } = this.rooms.get(room) ?? {};
    return { position, start };
  }

  _key() { return randomKey(this.options.random); }

  _command(frame) {
    if (this.state === 'closed') return Promise.reject(new XindaoError({ code: 'closed', message: 'this client is closed' }));
    return new Promise((resolve, reject) => {
      const id = ++this._ids, c = { frame: { ...frame, id }, resolve, reject, messages: [], waiting: null };
      c.deadline = setTimeout(() => this._settle(id, c => c.reject(new XindaoError({ code: 'timeout', message: `no answer to ${frame.type} in ${this.options.patience} ms` }))), this.options.patience);
      this._commands.set(id, c);
      if (this.state === 'online') this._say(c);
    });
  }

  _say(c) {
    if (c.frame.type === 'publish' && this.rooms.get(c.frame.room)?.entering) return; // said when it is in
    c.messages = [];
    this._write(c.frame);
  }

  _settle(id, how) {
    const c = this._commands.get(id);
    if (!c) return;
    this._commands.delete(id);
    clearTimeout(c.deadline);
    clearTimeout(c.waiting);
    how(c);
  }

  _answered(f) {
    const c = this._commands.get(f.id);
    if (!c) return;
    const later = f.retry || (c.frame.type === 'join' && f.code === 'conflict'); // the session is on its way into that room already
    if (f.type === 'error' && later) {
      clearTimeout(c.waiting);
      c.waiting = setTimeout(() => { if (this.state === 'online' && this._commands.has(f.id)) this._say(c); }, this._pause(200, 2000));
      return;
    }
    if (f.type === 'error') {
      this._settle(f.id, () => c.reject(new XindaoError(f)));
      return;
    }
    if (c.frame.type === 'join' && !this.rooms.has(f.room)) this.rooms.set(f.room, { position: f.position, start: f.position });
    if (c.frame.type === 'leave') this.rooms.delete(f.room);
    const { type, id, ...answer } = f;
    this._settle(id, () => c.resolve(c.frame.type === 'history' ? { ...answer, messages: c.messages } : answer));
  }

  // --- the connection

  _open() {
    this._state('connecting');
    const { user, socket } = this.options;
    const where = this.url + (user === undefined ? '' : `/${encodeURIComponent(user)}`) + (this._ticket ? '?resume' : '');
    const ws = this._ws = socket(where, ['xindao.v1.json']);
    ws.binaryType = 'arraybuffer';
    ws.onopen = () => this._authenticate(ws);
    ws.onmessage = e => { if (ws === this._ws) this._heard(e.data); };
    ws.onerror = () => {};
    ws.onclose = e => { if (ws === this._ws) this._closed(e.code, e.reason); };
    this._after('dead', this.options.answerWithin, () => this._drop());
  }

  async _authenticate(ws) {
    const { token, code } = this.options;
    if (token === undefined && !code) return;
    try {
      const proof = await (code ? this._proof(code) : typeof token === 'function' ? token() : token);
      if (ws === this._ws) this._write({ type: 'auth', id: AUTH, ...(typeof proof === 'string' ? { token: proof } : proof) });
    } catch (e) {
      this._emit('error', e);
      if (ws === this._ws) this._drop();
    }
  }

  /** The token that came for a code, or another code. */
  async _proof(code) {
    if (this._token) return this._token;
    const c = await code();
    return typeof c === 'string' ? { code: c } : { code: c.code, appid: c.appid };
  }

  _write(frame) {
    try { this._ws.send(encode(frame)); } catch { /* its close is about to be heard */ }
  }

  /** The connection is given up for dead. */
  _drop() {
    const ws = this._ws;
    this._closed(1006, '');
    try { ws.close(); } catch { /* it never opened */ }
  }

  _closed(code, reason) {
    this._ws = null;
    for (const name of Object.keys(this._timers)) this._cancel(name);
    const again = typeof this.options.token === 'function' || this.options.code;
    if (code === 4001) this._token = null;
    if (FINAL.has(code) && !(code === 4001 && again && this._attempts < 3)) {
      this._end(this._refusal ?? new XindaoError({ code: reason || 'unauthorized', message: `refused (${code})` }));
      return;
    }
    if (code === 1009) this._tooLarge();
    const [first, most] = this.options.retry, wait = this._reconnectAfter ?? this._pause(Math.min(first * 2 ** this._attempts, most) / 2, Math.min(first * 2 ** this._attempts, most));
    this._reconnectAfter = undefined;
    this._attempts++;
    this._state('offline');
    this._after('reconnect', wait, () => this._open());
  }

  /** One frame was over the gateway's limit, and would be again. It does not say which: the largest. */
  _tooLarge() {
    const length = c => { const e = encode(c.frame); return e.length ?? e.byteLength; }, [largest] = [...this._commands.values()].sort((a, b) => length(b) - length(a));
    if (largest) this._settle(largest.frame.id, c => c.reject(new XindaoError({ code: 'too_large', message: `a frame of ${length(c)} ${isBytes(c.frame.data) ? 'bytes' : 'characters'} is over the gateway's limit` })));
  }

  _end(error, code) {
    if (this.state === 'closed') return;
    for (const name of Object.keys(this._timers)) this._cancel(name);
    const ws = this._ws;
    this._ws = null;
    if (ws) try { ws.close(code); } catch { /* it never opened */ }
    for (const id of [...this._commands.keys()]) this._settle(id, c => c.reject(error));
    this._state('closed', error);
  }

  _online(welcome) {
    Object.assign(this, { session: welcome.session, user: welcome.user, heartbeat: welcome.heartbeat * 1000, _attempts: 0, _ticket: { session: welcome.session, token: welcome.token } });
    this._state('online');
    this._emit('welcome', welcome);
    for (const c of [...this._commands.values()]) this._say(c);
  }

  /** The first welcome of a connection is that of a new session; the old one is asked for. */
  _welcomed(f) {
    if (f.id === RESUME) {
      this._online(f);
    } else if (this._ticket && f.resume_window > 0) {
      this._fresh = f;
      const positions = [...this.rooms.keys()].map(room => ({ room, ...this._place(room) }));
      this._write({ type: 'resume', id: RESUME, ...this._ticket, positions });
    } else {
      this._anew(f);
    }
  }

  /** A new session: into the rooms again, from where this client was. */
  _anew(f) {
    for (const [room, at] of this.rooms) {
      at.entering = true;
      this._write({ type: 'join', room, ...this._place(room) });
    }
    this._online(f);
  }

  _notResumed(f) {
    if (f.retry) this._drop(); // not now; the session is still there
    else if (NEVER.test(f.code) && f.code !== 'unauthorized') this._end(new XindaoError(f));
    else this._anew(this._fresh);
  }

  // --- what is heard

  _heard(data) {
    this._cancel('dead');
    this._beat();
    if (data === 'pong') return;
    const f = decode(data), c = this._commands.get(f.id);
    this._emit('*', f);
    if (f.type === 'welcome') this._welcomed(f);
    else if (f.type === 'message' && c) c.messages.push(f);
    else if (f.type === 'error' && f.id === RESUME) this._notResumed(f);
    else if (c && /^(ack|error|pong)$/.test(f.type)) this._answered(f);
    else this._told(f);
  }

  _told(f) {
    const room = this.rooms.get(f.room);
    if (f.type === 'token') this._token = f.token;
    else if (f.type === 'message' && room) room.position = f.position;
    else if (f.type === 'recovered') this._recovered(f, room);
    else if (f.type === 'joined') this.rooms.set(f.room, { position: f.position, start: f.position });
    else if (f.type === 'left') this.rooms.delete(f.room);
    else if (f.type === 'goodbye') this._reconnectAfter = f.reconnect_after;
    else if (f.type === 'error') this._failed(f);
    else if (f.type === 'expiring' && typeof this.options.token === 'function' && !this.options.code) this._authenticate(this._ws);
    if (f.type !== 'ack' && f.type !== 'error') this._emit(f.type, f);
  }

  _recovered(f, room) {
    if (f.reason === 'forbidden') this.rooms.delete(f.room);
    else if (room) Object.assign(room, { position: f.position }, f.recovered ? {} : { start: f.position });
    if (!room?.entering) return;
    room.entering = false;
    for (const c of [...this._commands.values()]) if (c.frame.type === 'publish' && c.frame.room === f.room) this._say(c);
  }

  /** An error that answers no command: of a room that is not to be had any more, or of everything. */
  _failed(f) {
    const error = new XindaoError(f);
    if (f.room !== undefined && !f.retry) this.rooms.delete(f.room);
    if (f.room === undefined && NEVER.test(f.code)) this._refusal = error;
    this._emit('error', error);
  }

  // --- time

  /** Something is said often enough that nobody on the way forgets the connection, and an answer must come. */
  _beat() {
    if (!this.heartbeat) return;
    this._after('beat', this.heartbeat * 0.8, () => {
      try { this._ws.send('ping'); } catch { /* its close is about to be heard */ }
      this._after('dead', this.options.answerWithin, () => this._drop());
    });
  }

  _pause(least, most) { return least + this.options.random() * (most - least); }

  _after(name, ms, f) {
    this._cancel(name);
    if (this.state === 'closed') return; // by a listener, just now
    this._timers[name] = setTimeout(() => { delete this._timers[name]; f(); }, ms);
  }

  _cancel(name) {
    clearTimeout(this._timers[name]);
    delete this._timers[name];
  }

  _state(state, detail) {
    if (this.state === state && state !== 'connecting') return;
    this.state = state;
    this._emit('state', state, detail);
  }

  _emit(name, ...what) {
    for (const f of this._listeners.get(name) ?? []) f(...what);
  }
}

/** For WeChat mini-programs: connect(url, { socket: wxSocket(wx) }). */
export function wxSocket(wx) {
  return (url, protocols) => {
    const task = wx.connectSocket({ url, protocols });
    const socket = {
      send: data => task.send({ data }),
      close: (code, reason) => task.close({ code, reason }),
    };
    task.onOpen(() => socket.onopen());
    task.onMessage(e => socket.onmessage(e));
    task.onError(e => { socket.onerror(e); socket.onclose({ code: 1006, reason: e && e.errMsg }); });
    task.onClose(e => socket.onclose({ code: e && e.code, reason: e && e.reason }));
    return socket;
  };
}
