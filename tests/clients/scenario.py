"""One run of a client: a hard time limit and one JSON line of findings."""

import asyncio
import json
import sys
import threading
import os
import traceback

SECONDS_MAX = 45


def scenario(main):
    """Runs the coroutine function `main` and prints what it returned; exits 1 on any error."""
    try:
        found, code = asyncio.run(asyncio.wait_for(main(), SECONDS_MAX)), 0
    except Exception:
        found, code = {"error": traceback.format_exc()}, 1
    print(json.dumps(found), flush=True)
    sys.exit(code)


def event(name, **fields):
    """Tells the driver, as one JSON line, what a backend saw."""
    print(json.dumps({"event": name, **fields}), flush=True)


def end_with_driver():
    """Ends a backend with the driver that started it: its standard input closes then."""

    def wait():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
