// peers/ws.js: room server on node with the npm package ws: every frame goes to all members of the room in the URL.
// usage: node ws.js PORT CERT KEY     (CERT "-": plain ws)
const fs = require("fs");
const http = require("http");
const https = require("https");
const { WebSocketServer, WebSocket } = require("ws");

const [port, cert, key] = process.argv.slice(2);
const server =
  cert === "-" ? http.createServer() : https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
const rooms = new Map();

new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (ws, request) => {
  const name = request.url;
  let room = rooms.get(name);
  if (!room) rooms.set(name, (room = new Set()));
  room.add(ws);
  ws.on("message", (data, isBinary) => {
    for (const member of room) if (member.readyState === WebSocket.OPEN) member.send(data, { binary: isBinary });
  });
  ws.on("error", () => {}); // "close" follows
  ws.on("close", () => {
    room.delete(ws);
    if (room.size === 0) rooms.delete(name);
  });
});
server.on("tlsClientError", () => {});
server.listen(Number(port), "127.0.0.1", 4096, () => console.log(`ready port=${server.address().port}`));
