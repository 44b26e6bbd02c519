// A Node `ws` server as an application has it: pages over HTTP, an echo over WebSocket.
//
// Every connection, request, socket and close is told as an event line. A text message that
// starts with `close CODE REASON` or `ping DATA` is carried out, any other message is echoed.
// The path /bye greets and then ends the TCP stream, for clients that only read.

import http from 'node:http';
import { WebSocketServer } from 'ws';
import { endWithDriver, event } from './scenario.mjs';

const PAGE = '<!doctype html><meta charset="utf-8"><title>ws backend</title><p>a page of the app';
const KNOWN_SUBPROTOCOLS = ['chat.v1'];

const sockets = new WebSocketServer({
  noServer: true,
  maxPayload: 4 * 1024 * 1024,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => KNOWN_SUBPROTOCOLS.find((name) => offered.has(name)) ?? false,
});

const server = http.createServer((request, response) => {
  event('request', { path: request.url, method: request.method, headers: request.headers });
  response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
  response.end(PAGE);
});

server.on('connection', () => event('connection'));

server.on('upgrade', (request, tcp, head) => {
  const path = request.url;
  sockets.handleUpgrade(request, tcp, head, (socket) => {
    event('open', {
      path,
      headers: request.headers,
      protocol: socket.protocol,
      extensions: socket.extensions,
    });
    socket.on('close', (code, reason) => {
      event('close', { path, code, reason: reason.toString(), bytes: tcp.bytesRead });
    });
    socket.on('pong', (data) => event('pong', { path, data: data.toString() }));
    socket.on('message', (data, binary) => answer(socket, data, binary));
    if (path === '/bye') socket.send('good bye', { compress: false }, () => tcp.end());
  });
});

sockets.on('headers', (headers, request) => event('answer', { path: request.url, headers }));

function answer(socket, data, binary) {
  const [command, first, ...rest] = binary ? [] : data.toString().split(' ');
  if (command === 'close') socket.close(Number(first), rest.join(' '));
  else if (command === 'ping') socket.ping(first);
  else socket.send(data, { binary });
}

server.listen(0, '127.0.0.1', () => event('listening', { port: server.address().port }));
endWithDriver();
