"""aiohttp: a loop over the clients, as in its own example. A gather instead would add a task for each client."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from benchmarks.fanout_servers import BACKLOG, Broadcast


async def start(listening: socket.socket) -> Broadcast:
    web = importlib.import_module("aiohttp.web")
    members: list[Any] = []

    async def handle(request: Any) -> Any:
        connection = web.WebSocketResponse(compress=False)
        await connection.prepare(request)
        members.append(connection)
        async for _ in connection:
            pass
        return connection

    application = web.Application()
    application.router.add_get("/ws", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening, backlog=BACKLOG).start()

    async def broadcast(message: str) -> None:
        for member in members:
            await member.send_str(message)

    return broadcast
