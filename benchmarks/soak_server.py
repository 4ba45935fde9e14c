"""One of the soak's servers: ``python -m benchmarks.soak_server``. It broadcasts, echoes, and can be told to end.

Everything it says carries a number and the time at which it was made, so that a client can tell what it must not
see. It prints ``{"port": …}`` once it listens, drains on SIGTERM, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import tornado.netutil
from pymongo import AsyncMongoClient
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from benchmarks.measure import allow_many_files, settled_memory
from tornado_wsauth import (
    Broadcaster,
    JWTVerifier,
    MongoTokenStore,
    TokenHandler,
    TokenStoreError,
    WebSocketAuthMixin,
    WSAuth,
)

KEY_VARIABLE = "WSAUTH_SOAK_KEY"
TOKEN_TTL = 15  # seconds
GROUPS = [f"g{number}" for number in range(10)]
BULK = "bulk"  # the group whose messages are large: to fill the buffers of those who do not read
BULK_BYTES = 65536
GRACE = 4.0  # seconds of a drain

numbers: Counter[str] = Counter()
"""How many broadcasts were made, to each group, and to all under an empty name."""

boot = secrets.token_hex(4)
"""Tells this start of the server from others: the numbers begin anew with each."""


class Chat(WebSocketAuthMixin, WebSocketHandler):
    """Says which broadcast was the last, echoes, and lets clients into groups."""

    def open(self) -> None:
        self.write_message(f"hello {boot} {numbers['']}")

    def on_message(self, message: str | bytes) -> None:
        word, _, rest = str(message).partition(" ")
        with contextlib.suppress(WebSocketClosedError):  # the client has just gone
            if word == "e":
                self.write_message(f"e {rest} {time.time():.6f}")
            elif word == "join":
                self.auth_session.join(rest)
                self.write_message(f"joined {rest} {numbers[rest]}")


class Admin(RequestHandler):
    """What an operator does: log a user out, look at the server."""

    def initialize(self, auth: WSAuth) -> None:
        self.auth = auth

    async def post(self, what: str) -> None:
        if what == "state":
            connections = [len(self.auth.connections), len(self.auth.pending), len(self.auth.ending)]
            self.finish({"connections": connections, "memory": settled_memory(), "objects": len(gc.get_objects())})
            return
        began, tokens_too = time.time(), True
        try:
            await self.auth.disconnect_user(self.get_query_argument("user"))
        except TokenStoreError:
            tokens_too = False
        self.finish({"began": began, "done": time.time(), "tokens_too": tokens_too})


def count_to(name: str, padding: str = "") -> Callable[[], str]:
    """Return what makes the messages for a group, or for all if ``name`` is empty."""
    start = f"g {name}" if name else f"b {boot}"

    def make() -> str:
        numbers[name] += 1
        return f"{start} {numbers[name]} {time.time():.6f}{padding}"

    return make


def broadcasters(auth: WSAuth, tick_ms: float) -> list[Broadcaster]:
    """Return all that is broadcast: to everybody, to the groups, and what is large."""
    return [
        Broadcaster(auth, count_to(""), tick_ms),
        *(Broadcaster(auth, count_to(group), 1000, group=group, jitter=0.1) for group in GROUPS),
        Broadcaster(auth, count_to(BULK, " " + "x" * BULK_BYTES), 250, group=BULK),
    ]


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM, or until standard input ends."""
    allow_many_files()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(options.mongodb_uri)
    auth = WSAuth(
        JWTVerifier(os.environ[KEY_VARIABLE], algorithms=["HS256"]),
        MongoTokenStore(client.wsauth_soak.ws_tokens),
        token_ttl=TOKEN_TTL,
        auth_timeout=5,
        expiry_warning=8,
        max_buffer_bytes=2**18,
    )
    routes: list[Any] = [
        (r"/ws", Chat),
        (r"/ws/token", TokenHandler),
        (r"/admin/(disconnect|state)", Admin, {"auth": auth}),
    ]
    application = Application(routes, wsauth=auth, websocket_ping_interval=10)
    application.settings["log_function"] = lambda handler: None
    server = HTTPServer(application)
    server.add_sockets(tornado.netutil.bind_sockets(options.port, "127.0.0.1", backlog=4096))
    for broadcaster in broadcasters(auth, options.tick_ms):
        broadcaster.start()
    terminated = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    standard_input = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(standard_input), sys.stdin)
    parent = loop.create_task(standard_input.read())
    parent.add_done_callback(lambda _: terminated.set())
    print(json.dumps({"port": options.port}), flush=True)
    await terminated.wait()
    await auth.close(grace=GRACE)
    server.stop()
    await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mongodb-uri", required=True)
    parser.add_argument("--tick-ms", type=float, default=250)
    # One record for each connection, refused or not, is what the clients see themselves.
    logging.getLogger("tornado_wsauth").setLevel(logging.ERROR)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
