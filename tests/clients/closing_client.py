"""Python's `websockets` as a client: the modes `drain` and `silent` of closing_client.mjs."""

import asyncio
import logging
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from scenario import end_with_driver, event

MODE, URL, ORIGIN = sys.argv[1:]


def dial(path, **options):
    return connect(
        URL + path,
        origin=ORIGIN,
        proxy=None,
        ping_interval=None,
        max_size=16 * 1024 * 1024,
        **{"compression": None, **options},
    )


async def until_closed(socket, path):
    try:
        async for message in socket:
            if path == "/large":
                event("large", bytes=len(message))
    except ConnectionClosed:
        pass
    event("close", path=path, code=socket.close_code)


async def send_without_pause(socket):
    try:
        while True:
            await socket.send(os.urandom(512))
            await asyncio.sleep(0)
    except ConnectionClosed:
        pass


async def drain():
    idle = await dial("/idle")
    busy = await dial("/busy")
    deflate = await dial("/deflate", compression="deflate")
    large = await dial("/large")
    large.transport.pause_reading()
    await large.send("now")
    event("ready")

    async def after_idle():
        await until_closed(idle, "/idle")
        large.transport.resume_reading()

    await asyncio.gather(
        after_idle(),
        until_closed(large, "/large"),
        until_closed(busy, "/busy"),
        send_without_pause(busy),
        until_closed(deflate, "/deflate"),
        send_without_pause(deflate),
    )


class Pings(logging.Handler):
    """The library answers pings by itself and tells them only to its log."""

    def emit(self, record):
        if record.getMessage().startswith("< PING"):
            event("ping", path="/silent-python")


async def silent():
    logger = logging.Logger("frames", logging.DEBUG)
    logger.addHandler(Pings())
    async with dial("/silent-python", logger=logger) as socket:
        event("ready")
        await until_closed(socket, "/silent-python")


end_with_driver()
asyncio.run({"drain": drain, "silent": silent}[MODE]())
