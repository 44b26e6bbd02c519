// Node's `ws` as a client whose sockets are closed: node closing_client.mjs MODE wss://HOST:PORT ORIGIN
//
//   drain    one socket for each path of closing_backend.mjs; /large stops reading in its message
//            until /idle has closed
//   silent   tells the pings that come to a socket that says nothing; at the third it asks the
//            backend for one of its own
//   stopped  says nothing, for a process that is stopped
//   big      a message of 100 KiB
//   flood    a thousand messages
//
// Each close is told as an event line, `ready` when everything is under way.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import WebSocket from 'ws';
import { endWithDriver, event } from './scenario.mjs';

const [mode, url, origin] = process.argv.slice(2);

async function open(path, options = {}) {
  const socket = new WebSocket(url + path, { origin, perMessageDeflate: false, ...options });
  socket.on('close', (code) => event('close', { path, code }));
  await once(socket, 'open');
  return socket;
}

function sendWithoutPause(socket) {
  socket.send(randomBytes(512), (error) => {
    if (!error) setImmediate(sendWithoutPause, socket);
  });
}

async function drain() {
  const idle = await open('/idle');
  for (const path of ['/busy', '/deflate']) {
    const socket = await open(path, { perMessageDeflate: path === '/deflate' });
    sendWithoutPause(socket);
    await once(socket, 'message');
  }
  const large = await open('/large');
  large.on('message', (data) => event('large', { bytes: data.length }));
  large.pause();
  large.send('now');
  idle.on('close', () => large.resume());
}

async function silent() {
  const socket = await open('/silent');
  let pings = 0;
  socket.on('ping', () => {
    pings += 1;
    event('ping', { path: '/silent' });
    if (pings === 3) socket.send('ping from-the-backend');
  });
}

async function big() {
  const socket = await open('/big');
  socket.send(randomBytes(100 * 1024));
}

async function flood() {
  const socket = await open('/flood');
  for (let sent = 0; sent < 1000; sent += 1) socket.send('again');
}

const stopped = () => open('/stopped');

endWithDriver();
await { drain, silent, stopped, big, flood }[mode]();
event('ready');
