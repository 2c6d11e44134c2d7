// selftest.js: a tiny native-protocol server that can misbehave, to prove that the load generator notices.
// usage: node selftest.js PORT CERT KEY FAULT     (FAULT: none drop repeat swap refuse error close)
const fs = require("fs");
const https = require("https");
const { WebSocketServer } = require("ws");

const [port, cert, key, fault] = process.argv.slice(2);
const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
const rooms = new Map();
let published = 0;

function deliver(member, text, last) {
  const late = member.late;
  member.late = undefined;
  if (fault === "swap" && last && published % 50 === 10) {
    member.late = text; // goes out after the next one
    return;
  }
  if (fault === "drop" && last && published % 50 === 10) return;
  member.send(text);
  if (late) member.send(late);
  if (fault === "repeat" && last && published % 50 === 10) member.send(text);
}

function publish(ws, frame) {
  const text = JSON.stringify({ type: "message", room: frame.room, event: "message", data: frame.data });
  published++;
  if (fault === "error" && published === 50) ws.send('{"type":"error","code":"rate_limited","message":"too fast"}');
  if (fault === "close" && published === 50) return ws.close(1013, "unavailable");
  const members = [...rooms.get(frame.room)];
  members.forEach((member, i) => deliver(member, text, i === members.length - 1));
}

const wss = new WebSocketServer({ server, verifyClient: () => fault !== "refuse" });
wss.on("connection", (ws) => {
  ws.on("error", () => {});
  ws.on("message", (data) => {
    const frame = JSON.parse(data);
    if (frame.type === "publish") return publish(ws, frame);
    if (!rooms.has(frame.room)) rooms.set(frame.room, new Set());
    for (const member of rooms.get(frame.room)) member.send('{"type":"enter","total":1}');
    rooms.get(frame.room).add(ws);
    ws.send(JSON.stringify({ type: "ack", id: frame.id, total: rooms.get(frame.room).size }));
  });
  ws.send('{"type":"welcome","session":"s"}');
  ws.ping("are you there");
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
