"""python-socketio on Tornado: an event to all clients."""

from __future__ import annotations

import importlib
import socket

from tornado.httpserver import HTTPServer
from tornado.web import Application

from benchmarks.fanout_servers import Broadcast


async def start(listening: socket.socket) -> Broadcast:
    socketio = importlib.import_module("socketio")
    server = socketio.AsyncServer(async_mode="tornado", transports=["websocket"], ping_interval=3600, ping_timeout=3600)
    application = Application([(r"/socket.io/", socketio.get_tornado_handler(server))])
    HTTPServer(application).add_sockets([listening])

    async def broadcast(message: str) -> None:
        await server.emit("message", message)

    return broadcast
