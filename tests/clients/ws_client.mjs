// Node's `ws` as a client: node ws_client.mjs wss://HOST:PORT ORIGIN
//
// One socket per path, so that what the backend saw of each can be told apart.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import WebSocket from 'ws';
import { scenario } from './scenario.mjs';

const MIB = 1024 * 1024;
const [url, origin] = process.argv.slice(2);

async function open(path, protocols = [], options = {}) {
  const socket = new WebSocket(url + path, protocols, { origin, ...options });
  const [[response]] = await Promise.all([once(socket, 'upgrade'), once(socket, 'open')]);
  return { socket, headers: response.headers, raw: response.rawHeaders };
}

async function echo(socket, data) {
  socket.send(data);
  const [back, binary] = await once(socket, 'message');
  return { same: Buffer.from(data).equals(back), binary };
}

async function closed(socket) {
  const [code, reason] = await once(socket, 'close');
  return { code, reason: reason.toString() };
}

async function messages() {
  const { socket, headers, raw } = await open('/echo', [], { perMessageDeflate: false });
  const found = {
    headers,
    raw,
    text: await echo(socket, 'grüße'),
    binary: await echo(socket, Buffer.from([0, 1, 2, 255])),
    empty: await echo(socket, ''),
    mebibyte: await echo(socket, randomBytes(MIB)),
  };
  socket.close(1000, 'done');
  return { ...found, closed: await closed(socket) };
}

async function deflate() {
  const { socket, headers } = await open('/deflate');
  const found = {
    negotiated: socket.extensions,
    answered: headers['sec-websocket-extensions'],
    mebibyte: await echo(socket, 'a'.repeat(MIB)),
  };
  socket.close();
  await closed(socket);
  return found;
}

async function subprotocol() {
  const { socket, headers } = await open('/subprotocol', ['chat.v2', 'chat.v1']);
  const found = { chosen: socket.protocol, answered: headers['sec-websocket-protocol'] };
  socket.close();
  await closed(socket);
  return found;
}

async function pings() {
  const { socket } = await open('/ping');
  socket.ping('from the client');
  const [pong] = await once(socket, 'pong');
  socket.send('ping from-the-backend');
  const [ping] = await once(socket, 'ping');
  // The pong to the backend's ping went out before this echo, so the backend has it by then.
  await echo(socket, 'after the pong');
  socket.close();
  await closed(socket);
  return { pong: pong.toString(), ping: ping.toString() };
}

async function closedByBackend(code, reason) {
  const { socket } = await open(`/backend-${code}`);
  socket.send(`close ${code} ${reason}`);
  return closed(socket);
}

async function closedByClient(code, reason) {
  const { socket } = await open(`/client-${code}`);
  socket.close(code, reason);
  return closed(socket);
}

async function forged() {
  const { socket } = await open('/forged', [], {
    headers: {
      'X-Real-IP': '203.0.113.6',
      'X-Forwarded-For': '203.0.113.6',
      'X-Forwarded-Proto': 'http',
      'X-Forwarded-Host': 'evil.example',
      Forwarded: 'for=203.0.113.6',
    },
  });
  socket.close();
  return closed(socket);
}

async function refused(options) {
  const socket = new WebSocket(`${url}/refused`, options);
  const status = new Promise((resolve) => {
    socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
    socket.on('open', () => resolve(101));
    socket.on('error', (error) => resolve(error.message));
  });
  const seen = await status;
  socket.terminate();
  return seen;
}

scenario(async (step) => {
  const found = {};
  const parts = {
    messages,
    deflate,
    subprotocol,
    pings,
    backendNormal: () => closedByBackend(1000, 'bye'),
    backendOwn: () => closedByBackend(4001, 'session over'),
    clientNormal: () => closedByClient(1000, 'bye'),
    clientOwn: () => closedByClient(4001, 'session over'),
    forged,
    foreignOrigin: () => refused({ origin: 'https://evil.example' }),
    noOrigin: () => refused({}),
  };
  for (const [name, part] of Object.entries(parts)) {
    step(name);
    found[name] = await part();
  }
  return found;
});
