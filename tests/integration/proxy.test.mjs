// proxy.test.mjs: the PROXY protocol: the client's address comes from the load balancer
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import tls from 'node:tls';
import { Cluster } from './lib/cluster.mjs';
import { Raw, upgrade } from './lib/raw.mjs';
import { until, within } from './lib/wait.mjs';

const V2 = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const v1 = ip => Buffer.from(`PROXY TCP4 ${ip} 127.0.0.1 40000 443\r\n`);
const v2 = ip => Buffer.concat([V2, Buffer.from([0x21, 0x11, 0, 12, ...ip.split('.').map(Number), 127, 0, 0, 1, 0x9c, 0x40, 1, 0xbb])]);
const v2local = Buffer.concat([V2, Buffer.from([0x20, 0x00, 0, 0])]);
const v2six = Buffer.concat([V2, Buffer.from([0x21, 0x21, 0, 36 + 4]), Buffer.from('20010db8000000000000000000000007', 'hex'), Buffer.alloc(15), Buffer.from([1, 0x9c, 0x40, 1, 0xbb]), Buffer.from([4, 0, 1, 0])]);

describe('PROXY protocol', { timeout: 120000 }, () => {
  let cluster, on, optional;
  before(async () => {
    cluster = await Cluster.start({ gateways: 0 });
    on = await cluster.add('on', { flags: ['--proxy-protocol', 'on', '--handshake-timeout', '2s', '--max-connections-per-ip', '3'], wait: false });
    optional = await cluster.add('optional', { flags: ['--proxy-protocol', 'optional', '--max-connections-per-ip', '50'] });
    await until(() => / ready/.test(on.log), { what: 'the gateway' });
  });
  after(() => cluster.stop());

  /** A client behind a proxy: header, then TLS. pieces: the header is sent byte by byte. */
  async function behind(gw, header, { pieces = false, id = 'p' } = {}) {
    const plain = net.connect(gw.port, '127.0.0.1');
    plain.setNoDelay(true);
    plain.on('error', () => {});
    await new Promise(yes => plain.once('connect', yes));
    if (pieces) for (const b of header) { plain.write(Buffer.from([b])); await new Promise(yes => setImmediate(yes)); } else plain.write(header);
    const socket = tls.connect({ socket: plain, ca: cluster.ca, servername: 'localhost' });
    await within(new Promise((yes, no) => { socket.once('secureConnect', yes); socket.once('error', no); socket.once('close', () => no(new Error('closed'))); }), 8000, 'TLS');
    let got = '';
    socket.on('data', d => { got += d.toString('latin1'); });
    socket.on('error', () => {});
    socket.write(upgrade(`/ws/${id}`));
    await until(() => got.includes('"welcome"') || /HTTP\/1\.1 [45]/.test(got) || socket.destroyed, { what: 'an answer' });
    const session = /"session":"([^"]+)"/.exec(got)?.[1];
    return { socket, session, got, ip: async () => (await cluster.redis.hash(`xd:session:{${session}}`)).ip };
  }

  it('versions 1 and 2 tell the address, whole or in pieces', async () => {
    for (const gw of [on, optional]) {
      for (const [header, ip] of [[v1('203.0.113.7'), '203.0.113.7'], [v2('203.0.113.8'), '203.0.113.8'], [v2six, '2001:db8::7'], [v2local, '127.0.0.1']]) {
        for (const pieces of [false, true]) {
          const c = await behind(gw, header, { pieces });
          assert.ok(c.session, c.got);
          assert.equal(await c.ip(), ip);
          c.socket.destroy();
        }
      }
    }
  });

  it('optional takes clients without it, on refuses them', async () => {
    const c = await optional.client('direct');
    assert.equal((await cluster.redis.hash(`xd:session:{${c.session}}`)).ip, '127.0.0.1');
    await c.close();
    await assert.rejects(on.client('direct'));
  });

  it('refuses what is no header', async () => {
    for (const bytes of [Buffer.from('PROXY NONSENSE\r\n'), Buffer.from(`PROXY TCP4 ${'1'.repeat(200)}`), Buffer.concat([V2, Buffer.from([0x91, 0x11, 0, 12]), Buffer.alloc(12)]), Buffer.concat([V2, Buffer.from([0x21, 0x11, 0xff, 0xff]), Buffer.alloc(3000)]), Buffer.from('PROXY TCP4 300.1.1.1 127.0.0.1 1 1\r\n')]) {
      const r = await Raw.connect(on.port, { secure: false });
      r.write(bytes);
      await within(r.gone, 30000, `the end of ${bytes.subarray(0, 30).toString('latin1')}`);
    }
    const c = await behind(on, v1('203.0.113.99'));
    c.socket.write('');
    c.socket.destroy();
    assert.ok(c.session);
  });

  it('counts connections by the address it tells', async () => {
    const held = [];
    for (let i = 0; i < 3; i++) held.push(await behind(on, v2('198.51.100.1')));
    await assert.rejects(behind(on, v2('198.51.100.1')).then(c => { if (!c.session) throw new Error('refused'); c.socket.destroy(); }));
    const other = await behind(on, v2('198.51.100.2'));
    assert.ok(other.session);
    for (const c of [...held, other]) c.socket.destroy();
    await until(async () => { const c = await behind(on, v2('198.51.100.1')).catch(() => null); c?.socket.destroy(); return c?.session; }, { what: 'the places to be free again' });
  });
});
