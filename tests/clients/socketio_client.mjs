// Several socket.io clients: node socketio_client.mjs https://HOST:PORT ORIGIN KEY
//
// KEY says where each client carries what it is known by: `client_ip` (nothing), `cookie`
// (Cookie: room=N), `query` (?room=N), or `none`, for a gate whose hash differs from request to
// request: then the run ends with the first client that fails.

import { once } from 'node:events';
import { io } from 'socket.io-client';
import { scenario } from './scenario.mjs';

const CLIENTS = 12;
const [url, origin, key] = process.argv.slice(2);

function options(room) {
  const headers = { Origin: origin };
  if (key === 'cookie') headers.Cookie = `room=${room}`;
  return {
    forceNew: true,
    reconnection: false,
    timestampRequests: true,
    extraHeaders: headers,
    query: key === 'query' ? { room } : {},
  };
}

/** Starts to connect by polling. What is seen on the way is noted in `seen`. */
function start(room) {
  const socket = io(url, options(room));
  const seen = { room, transports: [], errors: [] };
  const failed = new Promise((resolve) => {
    const note = (what, error) => {
      seen.errors.push(`${what}: ${error?.context?.responseText}`);
      resolve();
    };
    socket.on('connect_error', (error) => note(String(error), error));
    socket.on('disconnect', note);
  });
  const connected = once(socket, 'connect');
  const upgraded = new Promise((resolve) => {
    socket.io.on('open', () => {
      const { engine } = socket.io;
      seen.transports.push(engine.transport.name);
      engine.on('upgrade', (transport) => {
        seen.transports.push(transport.name);
        resolve();
      });
    });
  });
  return { socket, seen, failed, ready: Promise.all([connected, upgraded]) };
}

async function talk({ socket, seen, failed, ready }) {
  await Promise.race([ready, failed]);
  if (seen.errors.length > 0) return seen;
  seen.backend = await socket.emitWithAck('whoami');
  const bytes = Buffer.alloc(100_000, seen.room);
  socket.emit('echo', { text: 'grüße', bytes });
  const [back] = await once(socket, 'echoed');
  seen.echoed = back.text === 'grüße' && back.bytes.equals(bytes);
  socket.off('disconnect');
  socket.disconnect();
  return seen;
}

scenario(async (step) => {
  step('connect and talk');
  const clients = Array.from({ length: CLIENTS }, (_, number) => start(number + 1));
  if (key === 'none') {
    await Promise.race(clients.map(({ failed }) => failed));
    return { clients: clients.map(({ seen }) => seen) };
  }
  return { clients: await Promise.all(clients.map(talk)) };
});
