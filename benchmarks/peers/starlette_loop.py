"""Starlette on Uvicorn: a loop over the clients, as in the documentation of FastAPI, whose WebSockets these are."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from benchmarks.fanout_servers import Broadcast
from benchmarks.peers.on_uvicorn import start_uvicorn


async def start(listening: socket.socket) -> Broadcast:
    applications = importlib.import_module("starlette.applications")
    routing = importlib.import_module("starlette.routing")
    members: list[Any] = []

    async def handle(connection: Any) -> None:
        await connection.accept()
        members.append(connection)
        async for _ in connection.iter_text():
            pass

    await start_uvicorn(applications.Starlette(routes=[routing.WebSocketRoute("/ws", handle)]), listening)

    async def broadcast(message: str) -> None:
        for member in members:
            await member.send_text(message)

    return broadcast
