"""Uvicorn, for the peers that are ASGI applications."""

from __future__ import annotations

import asyncio
import importlib
import socket
from typing import Any

from benchmarks.fanout_servers import BACKLOG


async def start_uvicorn(application: Any, listening: socket.socket) -> None:
    """Serve ``application``, without compression and pings, on the loop that is running."""
    uvicorn = importlib.import_module("uvicorn")
    config = uvicorn.Config(
        application,
        log_level="warning",
        backlog=BACKLOG,
        lifespan="off",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve(sockets=[listening]))
    while not server.started:
        assert not running.done(), running
        await asyncio.sleep(0.01)
