"""Python's `websockets` as a server: an echo that tells every socket and close as an event.

A text message `close CODE REASON` or `ping DATA` is carried out, any other message is echoed.
"""

import asyncio

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from scenario import end_with_driver, event


async def handle(socket):
    path = socket.request.path
    headers = {name.lower(): value for name, value in socket.request.headers.raw_items()}
    event("open", path=path, headers=headers, protocol=socket.subprotocol)
    try:
        while True:
            await answer(socket, await socket.recv())
    except ConnectionClosed:
        event("close", path=path, code=socket.close_code, reason=socket.close_reason)


async def answer(socket, message):
    match message.split(" ", 2) if isinstance(message, str) else []:
        case ["close", code, reason]:
            await socket.close(int(code), reason)
        case ["ping", data]:
            (await socket.ping(data)).add_done_callback(
                lambda _: event("pong", path=socket.request.path, data=data)
            )
        case _:
            await socket.send(message)


def choose(_, offered):
    return "chat.v1" if "chat.v1" in offered else None


async def main():
    options = {"select_subprotocol": choose, "max_size": 4 * 1024 * 1024}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        event("listening", port=server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


end_with_driver()
asyncio.run(main())
