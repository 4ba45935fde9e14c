"""picows, which is written in Cython: a loop over its transports."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from benchmarks.fanout_servers import BACKLOG, Broadcast


async def start(listening: socket.socket) -> Broadcast:
    picows = importlib.import_module("picows")
    base: Any = picows.WSListener
    members: list[Any] = []

    class Listener(base):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            members.append(transport)

    await picows.ws_create_server(lambda request: Listener(), sock=listening, backlog=BACKLOG)
    text = picows.WSMsgType.TEXT

    def broadcast(message: str) -> None:
        data = message.encode()
        for member in members:
            member.send(text, data)

    return broadcast
