// peers/socketio.js: room server on Socket.IO: event "m" goes to all members of the room in the query.
// usage: node socketio.js PORT CERT KEY     (CERT "-": plain ws)
const fs = require("fs");
const http = require("http");
const https = require("https");
const { Server } = require("socket.io");

const [port, cert, key] = process.argv.slice(2);
const server =
  cert === "-" ? http.createServer() : https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

io.on("connection", (socket) => {
  const room = String(socket.handshake.query.room);
  socket.join(room);
  socket.on("m", (data) => io.to(room).emit("m", data));
});
server.on("tlsClientError", () => {});
server.listen(Number(port), "127.0.0.1", 4096, () => console.log(`ready port=${server.address().port}`));
