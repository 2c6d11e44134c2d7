// peers/bun.js: room server on Bun (uWebSockets, BoringSSL): every frame goes to all members of the room in the URL.
// usage: bun bun.js PORT CERT KEY     (CERT "-": plain ws)
const [port, cert, key] = process.argv.slice(2);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  tls: cert === "-" ? undefined : { cert: Bun.file(cert), key: Bun.file(key) },
  fetch(request, server) {
    const room = new URL(request.url).pathname;
    if (!room.startsWith("/r/") || !server.upgrade(request, { data: room })) return new Response("no", { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    open(ws) {
      ws.subscribe(ws.data);
    },
    message(ws, message) {
      server.publish(ws.data, message); // unlike ws.publish() this includes the sender
    },
  },
});
console.log(`ready port=${server.port}`);
