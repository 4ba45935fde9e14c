"""One process of an application of several: ``python -m tests.cluster_process '{"kind": "redis", …}'``.

The options are JSON: ``kind``, ``url`` and ``prefix`` of `tests.engines.Engine`; ``tick_ms``, if it is to have a
`Broadcaster` with a lease; ``limit``, if connections of a user are limited. It prints the port it serves ``/ws`` on,
and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from tests.engines import Engine
from tests.support import Echo, Server, make_auth
from tornado_wsauth import Broadcaster, WSAuth


class Chat(Echo):
    """Does what its client asks for, in JSON: ``{"do": "broadcast", "message": …}``, ``join``, ``log out``."""

    async def on_message(self, message: str | bytes) -> None:
        auth: WSAuth = self.settings["wsauth"]
        asked = json.loads(message)
        match asked["do"]:
            case "broadcast":
                await auth.broadcast(asked["message"], group=asked.get("group"))
            case "join":
                self.auth_session.join(asked["group"])
                assert auth.backplane is not None
                await auth.backplane.listening()
                self.write_message({"joined": asked["group"]})
            case "log out":
                await auth.disconnect_user(asked["user"])


async def main(options: dict[str, Any]) -> None:
    engine = Engine(options["kind"], options["url"], options["prefix"])
    limit = options.get("limit")
    auth = make_auth(
        tokens=engine.tokens(), backplane=engine.backplane(), max_pending=2000, max_connections_per_user=limit
    )
    await auth.start()
    server = Server([(r"/ws", Chat)], auth, {"websocket_ping_interval": 30})
    ticker = None
    if "tick_ms" in options:
        tick = lambda: {"tick": time.monotonic(), "process": os.getpid()}  # noqa: E731
        ticker = Broadcaster(auth, tick, options["tick_ms"], lease=engine.lease("ticks"))
        ticker.start()
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    if ticker is not None:
        ticker.stop()
    await auth.close(grace=2)
    await server.close()
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
