"""The servers that ``benchmarks.cluster`` compares: ``python -m benchmarks.cluster_servers KIND URL``, one of several.

Each joins every client to the group of all and to the group that its URL names, and sends to the clients of all
processes what it is told to. It is controlled by JSON lines on its standard input and ends when that does. The servers
of other libraries are in ``benchmarks.peers``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import logging
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from benchmarks.cluster_plan import ALL, Stream, group_name, stream_from
from benchmarks.fanout_servers import BACKLOG
from benchmarks.measure import allow_many_files, cpu_seconds
from benchmarks.servers import SECRET, TOKEN_TTL
from tornado_wsauth import JWTVerifier, WebSocketAuthMixin, WSAuth

OURS_REDIS, OURS_MONGODB = "ours_redis", "ours_mongodb"
MEANT = ("pings are off", "tokens are kept in memory")  # what ours warns of; neither is measured here
SPREAD = 0.3  # how far a paced message is from its time, in intervals: none keeps in step with an engine's own timers

Publish = Callable[[str, str], Awaitable[object]]
"""Send a text message to a group, in all processes. It is sent when the awaitable is done."""


class OurMember(WebSocketAuthMixin, WebSocketHandler):
    """Both steps, then two groups."""

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self.auth_session.join(ALL)
        self.auth_session.join(group_name(int(self.get_query_argument("group"))))

    def on_message(self, message: str | bytes) -> None:
        pass


async def start_ours(kind: str, listening: socket.socket, url: str) -> tuple[Publish, WSAuth]:
    """Serve with our mixin, tokens in memory, and the backplane that ``kind`` names."""
    logging.getLogger("tornado_wsauth").addFilter(lambda record: not record.getMessage().startswith(MEANT))
    verifier = JWTVerifier(SECRET, algorithms=["HS256"])
    auth = WSAuth(
        verifier, backplane=_backplane(kind, url), token_ttl=TOKEN_TTL, auth_timeout=TOKEN_TTL, max_pending=10**6
    )
    await auth.start()
    HTTPServer(Application([(r"/ws", OurMember)], wsauth=auth)).add_sockets([listening])

    async def publish(group: str, text: str) -> None:
        await auth.broadcast(text, group=group)

    return publish, auth


def _backplane(kind: str, url: str) -> Any:
    if kind == OURS_REDIS:
        import redis.asyncio

        from tornado_wsauth import RedisBackplane

        return RedisBackplane(redis.asyncio.Redis.from_url(url))
    from pymongo import AsyncMongoClient

    from tornado_wsauth import MongoBackplane

    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    return MongoBackplane(client.wsauth_bench)


class Publisher:
    """Sends streams, all at the same time, and remembers when it sent each message."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._sending: list[asyncio.Task[list[float]]] = []

    def start(self, streams: list[Stream]) -> None:
        """Begin to send ``streams``."""
        self._sending = [asyncio.create_task(self._send(stream)) for stream in streams]

    async def times(self) -> list[list[float]]:
        """Return, for each stream, when each of its messages was sent, on the monotonic clock."""
        return [await task for task in self._sending]

    async def _send(self, stream: Stream) -> list[float]:
        times = []
        texts = [stream.text(number) for number in range(stream.messages)]
        for number, (name, text) in enumerate(zip(stream.names(), texts, strict=True)):
            due = stream.start
            if stream.interval:
                due += (number + random.uniform(0, SPREAD)) * stream.interval
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            times.append(time.monotonic())
            await self._publish(name, text)
        return times


async def obey(publisher: Publisher, auth: WSAuth | None) -> None:
    """Answer commands until standard input ends."""
    lines = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command = json.loads(line)
        result: Any = None
        match command["do"]:
            case "cpu":
                result = cpu_seconds()
            case "collect":  # now rather than while it is measured
                gc.collect()
            case "publish":
                publisher.start([stream_from(values) for values in command["streams"]])
            case "times":
                result = await publisher.times()
            case "issue":
                assert auth is not None, "only our server has tokens"
                result = [await auth.issue_token(user_id) for user_id in command["user_ids"]]
            case unknown:
                raise ValueError(unknown)
        print(json.dumps({"result": result}), flush=True)


async def serve(kind: str, url: str) -> None:
    """Serve on a port that is free until standard input ends."""
    allow_many_files()
    listening = bind_sockets(0, "127.0.0.1", backlog=BACKLOG)[0]
    auth: WSAuth | None = None
    if kind in (OURS_REDIS, OURS_MONGODB):
        publish, auth = await start_ours(kind, listening, url)
    else:
        publish = await importlib.import_module(f"benchmarks.peers.{kind}").start(listening, url)
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    await obey(Publisher(publish), auth)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_servers", description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("url")
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    if arguments.uvloop:
        new_loop = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(arguments.kind, arguments.url))


if __name__ == "__main__":
    main()
