"""Python's `websockets` as a server: what closing_backend.mjs is for Node, but for the pages."""

import asyncio
import os

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from scenario import end_with_driver, event

LARGE = bytes(8 * 1024 * 1024)


async def handle(socket):
    path = socket.request.path
    event("open", path=path)
    sending = None
    if path in ("/busy", "/deflate"):
        sending = asyncio.create_task(send_without_pause(socket))
    try:
        messages = 0
        async for message in socket:
            messages += 1
            if path == "/large":
                await socket.send(LARGE)
            elif sending and messages == 100:
                event("busy", path=path)
            elif not sending:
                event("message", path=path, bytes=len(message))
    except ConnectionClosed:
        pass
    finally:
        if sending:
            sending.cancel()
    event("close", path=path, code=socket.close_code)


async def send_without_pause(socket):
    try:
        while True:
            await socket.send(os.urandom(4096))
            await asyncio.sleep(0)
    except ConnectionClosed:
        pass


async def main():
    async with serve(handle, "127.0.0.1", 0, ping_interval=None) as server:
        event("listening", port=server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


end_with_driver()
asyncio.run(main())
