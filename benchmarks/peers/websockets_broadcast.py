"""websockets, with the function that it has for this."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from benchmarks.fanout_servers import BACKLOG, Broadcast


async def start(listening: socket.socket) -> Broadcast:
    server = importlib.import_module("websockets.asyncio.server")
    members: set[Any] = set()

    async def handle(connection: Any) -> None:
        members.add(connection)
        await connection.wait_closed()

    await server.serve(handle, sock=listening, backlog=BACKLOG, compression=None, ping_interval=None)

    def broadcast(message: str) -> None:
        server.broadcast(members, message)

    return broadcast
