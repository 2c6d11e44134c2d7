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
