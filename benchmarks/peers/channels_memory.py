"""Django Channels with its in-memory layer, on Uvicorn. Every client is in one group."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from benchmarks.fanout_servers import Broadcast
from benchmarks.peers.on_uvicorn import start_uvicorn


async def start(listening: socket.socket) -> Broadcast:
    importlib.import_module("django.conf").settings.configure(
        ALLOWED_HOSTS=["*"],
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}},
    )
    importlib.import_module("django").setup()
    base: Any = importlib.import_module("channels.generic.websocket").AsyncWebsocketConsumer

    class Consumer(base):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.channel_layer.group_add("everyone", self.channel_name)
            await self.accept()

        async def everyone_message(self, event: dict[str, Any]) -> None:
            await self.send(text_data=event["text"])

    await start_uvicorn(Consumer.as_asgi(), listening)
    layer = importlib.import_module("channels.layers").get_channel_layer()

    async def broadcast(message: str) -> None:
        await layer.group_send("everyone", {"type": "everyone.message", "text": message})

    return broadcast
