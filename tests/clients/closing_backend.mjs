// A Node `ws` server whose sockets are busy in the way their paths say:
//
//   /idle      says nothing
//   /busy      sends without a pause and takes what comes; /deflate the same, compressed
//   /large     answers a message with one of 8 MiB in a single frame
//   any other  tells each message; a text `ping DATA` is carried out
//
// GET /hold is answered when the socket on /idle has closed, any other request with a page.

import http from 'node:http';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { WebSocketServer } from 'ws';
import { endWithDriver, event } from './scenario.mjs';

const LARGE = Buffer.alloc(8 * 1024 * 1024, 'large');

const plain = new WebSocketServer({ noServer: true });
const deflating = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });
let idleClosed = () => {};
const idle = new Promise((resolve) => { idleClosed = resolve; });

const server = http.createServer(async (request, response) => {
  event('request', { path: request.url });
  if (request.url === '/hold') await idle;
  response.writeHead(200, { 'Content-Type': 'text/html' });
  response.end('<!doctype html><meta charset="utf-8"><title>closing</title>');
});

server.on('upgrade', (request, tcp, head) => {
  const path = request.url;
  const sockets = path === '/deflate' ? deflating : plain;
  sockets.handleUpgrade(request, tcp, head, (socket) => serve(socket, path));
});

function serve(socket, path) {
  let messages = 0;
  event('open', { path, extensions: socket.extensions });
  socket.on('close', (code) => {
    event('close', { path, code });
    if (path === '/idle') idleClosed();
  });
  socket.on('pong', (data) => event('pong', { path, data: data.toString() }));
  socket.on('message', (data, binary) => {
    messages += 1;
    if (path === '/busy' || path === '/deflate') {
      if (messages === 100) event('busy', { path });
      return;
    }
    if (path === '/large') {
      socket.send(LARGE);
      return;
    }
    event('message', { path, bytes: data.length });
    const [command, text] = binary ? [] : data.toString().split(' ');
    if (command === 'ping') socket.ping(text);
  });
  if (path === '/busy' || path === '/deflate') sendWithoutPause(socket);
}

// Random: of what compresses well, more messages than a client can handle wait in the buffers between.
function sendWithoutPause(socket) {
  socket.send(randomBytes(4096), (error) => { if (!error) setImmediate(sendWithoutPause, socket); });
}

server.listen(0, '127.0.0.1');
await once(server, 'listening');
event('listening', { port: server.address().port });
endWithDriver();
