// browser.mjs: headless Chromium over the DevTools protocol, as much of it as the tests need
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import WebSocket from 'ws';
import { until } from './wait.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--ignore-certificate-errors', '--remote-debugging-port=0'];

/** One browser process with an empty profile. Each page gets a context of its own, as if it were another person's browser. */
export class Browser {
  static async start({ lang = 'en' } = {}) {
    const b = new Browser();
    b.dir = mkdtempSync(join(tmpdir(), 'xd-chromium-'));
    b.child = spawn(process.env.CHROMIUM ?? '/usr/bin/chromium', [...FLAGS, `--lang=${lang}`, `--user-data-dir=${b.dir}`, 'about:blank'],
      { detached: true, stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, LANGUAGE: lang } });
    b.log = '';
    b.child.stderr.on('data', d => { b.log += d; });
    b.exited = new Promise(yes => b.child.on('exit', yes));
    const url = await until(() => /DevTools listening on (ws:\S+)/.exec(b.log)?.[1], { what: 'Chromium to listen', ms: 30000 });
    b.ws = new WebSocket(url, { perMessageDeflate: false, maxPayload: 1 << 28 });
    b.seq = 0; b.calls = new Map(); b.pages = new Map();
    b.ws.on('message', text => b.#receive(JSON.parse(text)));
    b.ws.on('error', () => {});
    await new Promise((yes, no) => { b.ws.once('open', yes); b.ws.once('error', no); });
    return b;
  }

  #receive(m) {
    if (m.id === undefined) { this.pages.get(m.sessionId)?.event(m.method, m.params); return; }
    const call = this.calls.get(m.id);
    this.calls.delete(m.id);
    if (m.error) call.no(new Error(`${call.method}: ${m.error.message}`)); else call.yes(m.result);
  }

  call(method, params = {}, sessionId) {
    const id = ++this.seq;
    this.ws.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((yes, no) => this.calls.set(id, { yes, no, method }));
  }

  async page({ width = 1280, height = 800, mobile = false, dark = false, locale = 'en-US' } = {}) {
    const { browserContextId } = await this.call('Target.createBrowserContext');
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
    const p = new Page(this, sessionId);
    this.pages.set(sessionId, p);
    for (const domain of ['Page', 'Runtime', 'Log']) await p.call(`${domain}.enable`);
    await p.call('Emulation.setDeviceMetricsOverride', { width, height, mobile, deviceScaleFactor: mobile ? 2 : 1 });
    await p.call('Emulation.setTouchEmulationEnabled', { enabled: mobile });
    await p.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
    await p.call('Emulation.setUserAgentOverride', { userAgent: 'Mozilla/5.0 (X11; Linux x86_64) Chrome', acceptLanguage: locale });
    await p.call('Emulation.setFocusEmulationEnabled', { enabled: true });
    return p;
  }

  /** Chromium is a group of processes; some outlive the first one and still write to the profile. */
  async stop() {
    this.ws.terminate();
    process.kill(-this.child.pid, 'SIGKILL');
    await this.exited;
    await until(() => { try { process.kill(-this.child.pid, 0); return false; } catch { return true; } }, { what: 'Chromium to be gone' }).catch(() => {});
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  }
}

class Page {
  constructor(browser, sessionId) { this.browser = browser; this.sessionId = sessionId; this.problems = []; }

  call(method, params) { return this.browser.call(method, params, this.sessionId); }

  /** Uncaught exceptions, failed console calls and refused resources: a test asserts that there are none. */
  event(method, p) {
    if (method === 'Runtime.exceptionThrown') this.problems.push(p.exceptionDetails.exception?.description ?? p.exceptionDetails.text);
    if (method === 'Log.entryAdded' && p.entry.level === 'error') this.problems.push(`${p.entry.text} ${p.entry.url ?? ''}`);
    if (method === 'Page.loadEventFired') this.loaded?.();
  }

  async open(url) {
    const loaded = new Promise(yes => { this.loaded = yes; });
    const { errorText } = await this.call('Page.navigate', { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await loaded;
  }

  /** Runs a function in the page; arguments and result are JSON. */
  async run(fn, ...args) {
    const r = await this.call('Runtime.evaluate', { expression: `(${fn})(...${JSON.stringify(args)})`, awaitPromise: true, returnByValue: true });
    if (r.exceptionDetails) throw new Error(r.exceptionDetails.exception?.description ?? r.exceptionDetails.text);
    return r.result.value;
  }

  until(fn, what, ms = 40000, ...args) { return until(() => this.run(fn, ...args), { what, ms }); }

  /** Clicks where the element is, once it has stopped moving. */
  async click(selector) {
    let last = '';
    const at = await until(async () => {
      const now = await this.run(s => {
        const e = document.querySelector(s), b = e?.getBoundingClientRect();
        return b && b.width > 0 ? { x: b.x + b.width / 2, y: b.y + b.height / 2 } : null;
      }, selector), same = now && JSON.stringify(now) === last;
      last = JSON.stringify(now);
      return same && now;
    }, { what: `${selector} to be on show and stand still`, every: 40 });
    for (const type of ['mousePressed', 'mouseReleased']) await this.call('Input.dispatchMouseEvent', { type, ...at, button: 'left', clickCount: 1 });
  }

  /** Types into the element: what was in it is replaced. */
  async type(selector, text) {
    await this.run(s => { const e = document.querySelector(s); e.focus(); e.select?.(); }, selector);
    await this.call('Input.insertText', { text });
  }

  async key(key, code = key, windowsVirtualKeyCode = { Enter: 13, Escape: 27 }[key]) {
    for (const type of ['keyDown', 'keyUp']) await this.call('Input.dispatchKeyEvent', { type, key, code, windowsVirtualKeyCode, ...(key === 'Enter' && type === 'keyDown' ? { text: '\r' } : {}) });
  }

  async screenshot() { return Buffer.from((await this.call('Page.captureScreenshot', { format: 'png' })).data, 'base64'); }
}
