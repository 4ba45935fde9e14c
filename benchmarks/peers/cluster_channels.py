"""Django Channels with channels_redis, on Uvicorn: a message to a group.

Its layer drops what is more than ``capacity`` messages behind, 100 unless told otherwise. Here it has room for a run.
"""

from __future__ import annotations

import importlib
import socket
from typing import Any

from benchmarks.cluster_plan import ALL, group_name
from benchmarks.cluster_servers import Publish
from benchmarks.peers.on_uvicorn import start_uvicorn

CORE = "channels_redis.core.RedisChannelLayer"


async def start(listening: socket.socket, url: str, backend: str = CORE) -> Publish:
    # redis-py 8 gives up on an answer after 5 seconds by default, which is as long as the layer waits for a message.
    hosts = [{"address": url, "socket_timeout": None}]
    layers = {"default": {"BACKEND": backend, "CONFIG": {"hosts": hosts, "capacity": 1_000_000}}}
    importlib.import_module("django.conf").settings.configure(ALLOWED_HOSTS=["*"], CHANNEL_LAYERS=layers)
    importlib.import_module("django").setup()
    base: Any = importlib.import_module("channels.generic.websocket").AsyncWebsocketConsumer

    class Consumer(base):  # type: ignore[misc]
        async def connect(self) -> None:
            group = int(self.scope["query_string"].rpartition(b"group=")[2])
            await self.channel_layer.group_add(ALL, self.channel_name)
            await self.channel_layer.group_add(group_name(group), self.channel_name)
            await self.accept()

        async def group_message(self, event: dict[str, Any]) -> None:
            await self.send(text_data=event["text"])

    await start_uvicorn(Consumer.as_asgi(), listening)
    layer = importlib.import_module("channels.layers").get_channel_layer()

    async def publish(group: str, text: str) -> None:
        await layer.group_send(group, {"type": "group.message", "text": text})

    return publish
