// A socket.io server as one of several behind the gate: node socketio_backend.mjs NAME
//
// It keeps its sessions in its own memory, as socket.io does: a polling request of another
// server's session is answered "Session ID unknown", which is told as an event.

import http from 'node:http';
import { Server } from 'socket.io';
import { endWithDriver, event } from './scenario.mjs';

const [name] = process.argv.slice(2);
const server = http.createServer();
const io = new Server(server, { serveClient: false });

io.engine.on('connection_error', ({ code, message }) => event('engine_error', { code, message }));

io.on('connection', (socket) => {
  event('session', { id: socket.id });
  socket.on('whoami', (answer) => answer(name));
  socket.on('echo', (data) => socket.emit('echoed', data));
});

server.listen(0, '127.0.0.1', () => event('listening', { port: server.address().port }));
endWithDriver();
