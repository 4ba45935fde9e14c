"""Django Channels with the layer of channels_redis that is on pub/sub."""

from __future__ import annotations

import socket

from benchmarks.cluster_servers import Publish
from benchmarks.peers import cluster_channels

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


async def start(listening: socket.socket, url: str) -> Publish:
    return await cluster_channels.start(listening, url, PUBSUB)
