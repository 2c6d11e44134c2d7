// peers/bun-json.js: the same room server on Bun, but with Xindao's messages: it parses what clients say, numbers it, wraps it in the same JSON
// (room, position, sender, time) and acknowledges it. What an application on Bun would do to offer the same; speaks enough of docs/protocol.md.
// usage: bun bun-json.js PORT CERT KEY     (CERT "-": plain ws)
const [port, cert, key] = process.argv.slice(2);
const rooms = new Map(); // name -> { offset, total }
const letters = (n) => Buffer.from(crypto.getRandomValues(new Uint8Array(n))).toString("base64url").slice(0, n);

function roomOf(name) {
  let room = rooms.get(name);
  if (!room) rooms.set(name, (room = { offset: 0, total: 0, tag: "" }));
  return room;
}

const commands = {
  join(ws, { id, room: name }) {
    const room = roomOf(name);
    ws.subscribe(name);
    room.total++;
    ws.send(JSON.stringify({ type: "ack", id, room: name, position: room.offset === 0 ? "0" : `${room.offset}.${room.tag}`, total: room.total }));
  },
  publish(ws, { id, room: name, event = "message", data }) {
    const room = roomOf(name);
    room.tag = letters(8);
    const position = `${++room.offset}.${room.tag}`;
    server.publish(name, JSON.stringify({
      type: "message", room: name, position, event, from: { session: ws.data.session, user: null }, time: Date.now(), data,
    }));
    if (id !== undefined) ws.send(JSON.stringify({ type: "ack", id, room: name, position }));
  },
};

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  tls: cert === "-" ? undefined : { cert: Bun.file(cert), key: Bun.file(key) },
  fetch(request, server) {
    if (!server.upgrade(request, { data: { session: letters(16) } })) return new Response("no", { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    open(ws) {
      ws.send(JSON.stringify({
        type: "welcome", session: ws.data.session, token: letters(32), user: null, node: "bun", heartbeat: 25, resume_window: 0,
      }));
    },
    message(ws, text) {
      const command = JSON.parse(text);
      commands[command.type]?.(ws, command);
    },
  },
});
console.log(`ready port=${server.port}`);
