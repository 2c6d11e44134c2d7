// tcplink.mjs: a TCP proxy whose target a test may change: what a client of it sees is a server that is gone and another one in its place
import net from 'node:net';

export class TcpLink {
  static async start(target) {
    const l = new TcpLink();
    l.target = target;
    l.pairs = new Set();
    l.server = net.createServer(from => l.#pass(from));
    await new Promise(yes => l.server.listen(0, '127.0.0.1', yes));
    l.port = l.server.address().port;
    return l;
  }

  #pass(from) {
    if (this.target === null) { from.destroy(); return; }
    const to = net.connect(this.target, '127.0.0.1'), pair = { from, to };
    this.pairs.add(pair);
    const end = () => { from.destroy(); to.destroy(); this.pairs.delete(pair); };
    for (const s of [from, to]) { s.setNoDelay(true); s.on('error', end); s.on('close', end); }
    from.pipe(to);
    to.pipe(from);
  }

  /** Connections break; new ones go to this port, or nowhere (null). */
  turn(target) {
    this.target = target;
    for (const { from, to } of [...this.pairs]) { from.destroy(); to.destroy(); }
  }

  /** What the target says is kept back, and told after release(). */
  hold() { for (const { from, to } of this.pairs) to.unpipe(from).pause(); }
  release() { for (const { from, to } of this.pairs) to.pipe(from); }

  async stop() {
    this.turn(null);
    await new Promise(yes => this.server.close(yes));
  }
}

/** Gives each connection to the next gateway, as a load balancer that knows nothing of sessions. */
export async function roundRobin(cluster) {
  let n = 0;
  const open = new Set(), server = net.createServer(a => {
    const b = net.connect(cluster.gateways[n++ % cluster.gateways.length].port, '127.0.0.1');
    for (const [x, y] of [[a, b], [b, a]]) { open.add(x); x.on('error', () => y.destroy()); x.on('close', () => { open.delete(x); y.destroy(); }); x.pipe(y); }
  });
  await new Promise(yes => { server.listen(0, '127.0.0.1', yes); });
  return { port: server.address().port, close() { for (const s of open) s.destroy(); server.close(); } };
}
