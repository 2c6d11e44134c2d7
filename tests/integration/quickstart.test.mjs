// quickstart.test.mjs: README.md to the letter: deploy/quickstart.sh, then its JavaScript, then its commands, which show what the JavaScript has done
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { ROOT, gatewayBinary } from './lib/cluster.mjs';
import { freePort, until } from './lib/wait.mjs';

const PORTS = { QUICKSTART_PORT: '8443', QUICKSTART_REDIS_PORT: '6380', QUICKSTART_GW1_PORT: '9443', QUICKSTART_GW2_PORT: '9444' };

/** The block of that language below a heading. */
function block(file, heading, language) {
  const text = readFileSync(join(ROOT, file), 'utf8'), at = text.indexOf(`\n${heading}\n`);
  assert.ok(at >= 0, `${file} has no ${heading}`);
  return new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(text.slice(at))[1];
}

describe('quickstart', { timeout: 120000 }, () => {
  const ports = {};
  let dir, env;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'xd-quickstart-'));
    for (const name of Object.keys(PORTS)) ports[name] = String(await freePort());
    env = { ...process.env, ...ports, QUICKSTART_DIR: dir, QUICKSTART_BINARY: gatewayBinary() };
  });
  after(async () => {
    await quickstart('stop').catch(() => {});
    rmSync(dir, { recursive: true, force: true });
  });

  const run = (file, args) => promisify(execFile)(file, args, { env, timeout: 60000 });
  const quickstart = what => run(join(ROOT, 'deploy/quickstart.sh'), [what]);
  const here = text => Object.entries(PORTS).reduce((t, [name, port]) => t.replaceAll(port, ports[name]), text);

  it('starts everything, says what to open, and leaves alone what runs', async () => {
    const { stdout } = await quickstart('start'), pids = /pid \d+/g;
    assert.match(stdout, new RegExp(`https://localhost:${ports.QUICKSTART_PORT}/`));
    await quickstart('start');
    const { stdout: status } = await quickstart('status');
    assert.deepEqual(status.match(pids), stdout.match(pids));
    assert.equal(status.match(/ready/g).length, 4);
  });

  it('the JavaScript of README.md says what its comments say, and its commands show it', async () => {
    const said = [], ca = readFileSync(join(dir, 'certs/ca.pem')), sockets = [];
    const Socket = function (url) { const s = new WebSocket(url, { ca }); sockets.push(s); return s; };
    new Function('WebSocket', 'console', here(block('README.md', '## Talk to it', 'js')))(Socket, { log: text => said.push(JSON.parse(text)) });
    const one = match => until(() => said.find(match), { what: () => `${match}; it said ${JSON.stringify(said)}` });
    const { session } = await one(f => f.type === 'welcome');
    await one(f => f.type === 'ack' && f.id === 2);
    await one(f => f.type === 'message' && f.data.text === '你好');
    assert.equal((await one(f => f.id === 3)).code, 'not_found');

    const shows = [/^gw[12]-\w+\ngw[12]-\w+\n$/, new RegExp(session), new RegExp(session), /user\nalice\n[^]*room:lobby/, /"room":"lobby"/, /"text":"你好"/, /^xindao_connections /m];
    const commands = here(block('README.md', '## Look into it', 'sh')).trimEnd().split('\n');
    assert.equal(commands.length, shows.length);
    for (const [i, line] of commands.entries()) {
      const { stdout } = await run('bash', ['-c', line.replace('{…}', `{${session}}`)]);
      assert.match(stdout, shows[i], line);
    }
    for (const line of block('docs/operations.md', 'What is where, as plain fields (braces are part of the key; all of it: [redis-layout.md](redis-layout.md)):\n', '').trimEnd().split('\n')) {
      const node = (await run('redis-cli', ['-p', ports.QUICKSTART_REDIS_PORT, 'ZRANGE', 'xd:nodes', '0', '0'])).stdout.trim();
      const { stdout } = await run('bash', ['-c', line.replace('redis-cli', `redis-cli -p ${ports.QUICKSTART_REDIS_PORT}`).replace('{SID}', `{${session}}`).replace('{gw1-5f3a9c}', `{${node}}`)]);
      assert.notEqual(stdout.trim(), '', line);
    }
    sockets[0].close();
  });

  it('stops what it started', async () => {
    assert.match((await quickstart('stop')).stdout, /stopped: gw1 gw2/);
    await assert.rejects(quickstart('status'), { code: 1 });
  });
});
