"""Python's `websockets` as a client: python websockets_client.py wss://HOST:PORT ORIGIN"""

import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scenario import scenario

URL, ORIGIN = sys.argv[1:]
MIB = 1024 * 1024


def dial(path, **options):
    return connect(URL + path, max_size=4 * MIB, proxy=None, **{"origin": ORIGIN, **options})


async def echoed(socket, message):
    await socket.send(message)
    return await socket.recv() == message


async def messages():
    async with dial("/echo", subprotocols=["chat.v2", "chat.v1"]) as socket:
        found = {
            "subprotocol": socket.subprotocol,
            "extensions": socket.response.headers.get("Sec-WebSocket-Extensions"),
            "hsts": socket.response.headers.get_all("Strict-Transport-Security"),
            "text": await echoed(socket, "grüße"),
            "binary": await echoed(socket, b"\x00\x01\xff"),
            "mebibyte": await echoed(socket, os.urandom(MIB)),
            "fragments": await fragments(socket),
            "pong": await (await socket.ping(b"are you there")) >= 0,
        }
        await socket.close(4001, "session over")
        return {**found, "code": socket.close_code, "reason": socket.close_reason}


async def fragments(socket):
    await socket.send(["in ", "three ", "parts"])
    return await socket.recv() == "in three parts"


async def closed_by_backend():
    async with dial("/backend-4001") as socket:
        await socket.send("close 4001 session over")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            return {"code": closed.rcvd.code, "reason": closed.rcvd.reason}


async def refused(origin):
    try:
        async with dial("/refused", origin=origin):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


async def main():
    return {
        "messages": await messages(),
        "backend": await closed_by_backend(),
        "foreign_origin": await refused("https://evil.example"),
        "no_origin": await refused(None),
    }


scenario(main)
