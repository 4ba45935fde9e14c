"""python-socketio on Tornado, several processes over its Redis manager: an event to a room."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from benchmarks.cluster_plan import ALL, group_name
from benchmarks.cluster_servers import Publish


async def start(listening: socket.socket, url: str) -> Publish:
    socketio = importlib.import_module("socketio")
    server = socketio.AsyncServer(
        async_mode="tornado",
        client_manager=socketio.AsyncRedisManager(url),
        transports=["websocket"],
        ping_interval=3600,
        ping_timeout=3600,
    )

    @server.on("connect")  # type: ignore[untyped-decorator]
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        await server.enter_room(sid, ALL)
        await server.enter_room(sid, group_name(int(environ["QUERY_STRING"].rpartition("group=")[2])))

    application = Application([(r"/socket.io/", socketio.get_tornado_handler(server))])
    HTTPServer(application).add_sockets([listening])

    async def publish(group: str, text: str) -> None:
        await server.emit("message", text, room=group)

    return publish
