"""The servers that ``benchmarks.fanout`` compares: ``python -m benchmarks.fanout_servers KIND``, one in a process.

Each accepts WebSockets, keeps them, and sends one text message to all of them when it is told to. It is controlled by
JSON lines on its standard input and ends when that does. The servers of other libraries are in ``benchmarks.peers``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import inspect
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from benchmarks.measure import allow_many_files, cpu_seconds, settled_memory
from benchmarks.servers import SECRET, TOKEN_TTL
from tornado_wsauth import JWTVerifier, Observer, WebSocketAuthMixin, WSAuth

LIMIT, OURS, OURS_METRICS, WRITE_MESSAGE = "limit", "ours", "ours_metrics", "write_message"
BACKLOG = 1024

Broadcast = Callable[[str], object]
"""Send one text message to every client. If it returns an awaitable, it is done when that is."""


def server_frame(payload: bytes) -> bytes:
    """Return a text message in one frame, as a server sends it (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes([0x81, size]) + payload
    length = struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)
    return b"\x81" + length + payload


def payload(number: int, size: int) -> str:
    """Return the message with this number, ``size`` bytes long, at least 10: every message differs."""
    return f"{number:010d}".ljust(size, "m")


# What runs on Tornado: the limit, ours, and the usual loop --------------------------------------------------------


class BareMember(WebSocketHandler):
    """A client of the bare server, who is sent what the others are sent."""

    members: list[BareMember] = []  # noqa: RUF012 - in the order in which they came

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self.members.append(self)

    def on_message(self, message: str | bytes) -> None:
        pass


class OurMember(WebSocketAuthMixin, WebSocketHandler):
    """Both steps; who has passed them is found in ``auth.connections``."""

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        pass


def start_write_message(listening: socket.socket) -> Broadcast:
    """Serve with bare Tornado, and broadcast as its users do."""
    _listen(Application([(r"/ws", BareMember)]), listening)

    def broadcast(message: str) -> None:
        for member in BareMember.members:
            member.write_message(message)

    return broadcast


def start_limit(listening: socket.socket) -> Broadcast:
    """Serve with bare Tornado, but broadcast past it: one system call for each client and nothing else."""
    _listen(Application([(r"/ws", BareMember)]), listening)
    sockets: list[socket.socket] = []

    def broadcast(message: str) -> None:
        if len(sockets) != len(BareMember.members):
            sockets[:] = map(_socket_of, BareMember.members)
        frame = server_frame(message.encode())
        size = len(frame)
        for member in sockets:
            if member.send(frame) != size:
                raise RuntimeError("a client's buffers are full, so this is not the limit")

    return broadcast


def start_ours(listening: socket.socket, auth: WSAuth) -> Broadcast:
    """Serve with our mixin."""
    _listen(Application([(r"/ws", OurMember)], wsauth=auth), listening)
    connections = auth.connections

    def broadcast(message: str) -> None:
        connections.broadcast(message)

    return broadcast


def make_auth(metrics: Observer | None = None) -> WSAuth:
    """Return what our server needs, with room for any number of clients that are on their way in."""
    logging.getLogger("tornado_wsauth").addHandler(logging.NullHandler())  # it warns that pings are off
    verifier = JWTVerifier(SECRET, algorithms=["HS256"])
    return WSAuth(
        verifier,
        token_ttl=TOKEN_TTL,
        auth_timeout=TOKEN_TTL,
        max_tokens_per_user=10**6,
        max_pending=10**6,
        metrics=metrics,
    )


def _listen(application: Application, listening: socket.socket) -> None:
    HTTPServer(application).add_sockets([listening])


def _socket_of(member: BareMember) -> socket.socket:
    connection: Any = member.ws_connection
    found: socket.socket = connection.stream.socket
    return found


# What tells a server what to do -----------------------------------------------------------------------------------


class Control:
    """Reads commands from standard input and answers each with one line.

    What a broadcast costs is the CPU time of this process from just before it to the next command, which comes when
    every client has received everything. So neither reading commands nor answering them is part of the figure.
    """

    def __init__(self, broadcast: Broadcast, auth: WSAuth | None) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._broadcast = broadcast
        self._auth = auth
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._line = b""
        self._cpu = 0.0  # seconds, of the broadcasts that are over
        self._cpu_before: float | None = None  # while a broadcast is being made
        self._stall = 0.0  # seconds between two turns of the loop, the longest
        self._turned: float | None = None  # when the loop turned last, while it is watched
        self._loop.add_reader(0, self._on_readable)

    def _on_readable(self) -> None:
        if self._cpu_before is not None:
            self._cpu += cpu_seconds() - self._cpu_before
        self._cpu_before = self._turned = None
        data = os.read(0, 2**20)
        self._line += data
        if not data:
            self._loop.remove_reader(0)
            self.ended.set_result(None)
        elif self._line.endswith(b"\n"):
            command, self._line = json.loads(self._line), b""
            self._obey(command)

    def _obey(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "broadcast":
                self._start(payload(command["number"], command["size"]), command["watched"])
            case "figures":
                _answer({"cpu": self._cpu, "stall": self._stall})
                self._cpu = self._stall = 0.0
            case "memory":
                _answer(settled_memory())
            case "issue":
                self._keep(self._issue(command["user_ids"]))
            case unknown:
                raise ValueError(unknown)

    def _start(self, message: str, watched: bool) -> None:
        """Broadcast ``message``. The loop is watched in broadcasts of their own, as that takes CPU time."""
        _answer(time.monotonic())
        if watched:
            self._turned = time.monotonic()
            self._loop.call_soon(self._turn)
        else:
            self._cpu_before = cpu_seconds()
        done = self._broadcast(message)
        if inspect.isawaitable(done):
            self._keep(done)

    def _turn(self) -> None:
        if self._turned is not None:
            now = time.monotonic()
            self._stall = max(self._stall, now - self._turned)
            self._turned = now
            self._loop.call_soon(self._turn)

    async def _issue(self, user_ids: list[str]) -> None:
        assert self._auth is not None, "only our server has tokens"
        _answer([await self._auth.issue_token(user_id) for user_id in user_ids])

    def _keep(self, awaitable: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(awaitable)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self.ended.done():
            self.ended.set_exception(task.exception() or RuntimeError())


def _answer(result: object) -> None:
    print(json.dumps({"result": result}), flush=True)


async def serve(kind: str, unix: str) -> None:
    """Serve until standard input ends, on a port that is free or on a Unix-domain socket."""
    allow_many_files()
    listening = bind_unix_socket(unix, backlog=BACKLOG) if unix else bind_sockets(0, "127.0.0.1", backlog=BACKLOG)[0]
    auth: WSAuth | None = None
    if kind in (OURS, OURS_METRICS):
        auth = make_auth(importlib.import_module("tornado_wsauth.metrics").Metrics() if kind == OURS_METRICS else None)
        await auth.start()
        broadcast = start_ours(listening, auth)
    elif kind in (LIMIT, WRITE_MESSAGE):
        broadcast = start_limit(listening) if kind == LIMIT else start_write_message(listening)
    else:
        broadcast = await importlib.import_module(f"benchmarks.peers.{kind}").start(listening)
    control = Control(broadcast, auth)
    gc.collect()
    print(json.dumps({"port": 0 if unix else listening.getsockname()[1]}), flush=True)
    await control.ended


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout_servers", description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("--unix", default="", metavar="PATH")
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    if arguments.uvloop:
        new_loop = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(arguments.kind, arguments.unix))


if __name__ == "__main__":
    main()
