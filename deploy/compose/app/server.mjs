// An application behind the gate: it echoes every message and says which backend it is.
// It speaks plain HTTP and believes X-Real-IP, because only the gate can reach it.
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { WebSocketServer } from 'ws';

const name = process.env.BACKEND_NAME ?? hostname();
const port = Number(process.env.PORT ?? 8080);
const host = process.env.HOST ?? '0.0.0.0';
const pingEveryMs = 30_000;
const closeWithinMs = 8_000;
let stopping = false;

const server = createServer((request, response) => {
  response.setHeader('X-Backend', name);
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  if (request.url === '/health') {
    response.writeHead(stopping ? 503 : 200).end(stopping ? 'stopping\n' : 'ok\n');
    return;
  }
  const { host: asked, 'x-real-ip': client, 'x-forwarded-proto': proto } = request.headers;
  response.end(`${name}: ${client ?? 'no gate in front'} asked for ${proto ?? 'http'}://${asked}\n`);
});

// Longer than the gate keeps an idle connection, so that it never reuses one closing under it.
server.keepAliveTimeout = 120_000;

const sockets = new WebSocketServer({ server, maxPayload: 1024 * 1024 });
sockets.on('headers', (headers) => headers.push(`X-Backend: ${name}`));
sockets.on('connection', (socket) => {
  socket.alive = true;
  socket.on('pong', () => { socket.alive = true; });
  socket.on('error', (error) => console.error(`${name}: ${error.message}`));
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.send(`hello from ${name}`);
});

// A client that vanished without a FIN is found here: two rounds of silence end it.
const heartbeat = setInterval(() => {
  for (const socket of sockets.clients) {
    if (!socket.alive) { socket.terminate(); continue; }
    socket.alive = false;
    socket.ping();
  }
}, pingEveryMs);

function stop() {
  if (stopping) return;
  stopping = true;
  clearInterval(heartbeat);
  server.close(() => process.exit(0));
  for (const socket of sockets.clients) socket.close(1001, 'server is going away');
  setTimeout(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
  }, closeWithinMs).unref();
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

server.listen(port, host, () => console.log(`${name}: listening on ${host}:${port}`));
