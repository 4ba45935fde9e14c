"""The servers that ``benchmarks.connect`` compares: ``python -m benchmarks.servers KIND``, one in a process.

Each echoes. It is controlled by JSON lines on its standard input and ends when that does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import tornado.netutil
from tornado.escape import json_decode
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from benchmarks.measure import allow_many_files, cpu_seconds, settled_memory
from tornado_wsauth import JWTVerifier, Observer, TokenStore, WebSocketAuthMixin, WSAuth

SECRET = "a secret of the benchmarks, long enough for HS256"
TOKEN_TTL = 600  # seconds; longer than any benchmark

BARE, BARE_JWT, MEMORY, METRICS, MONGODB = "bare", "bare-jwt", "memory", "metrics", "mongodb"
KINDS = (BARE, BARE_JWT, MEMORY, METRICS, MONGODB)
OURS = (MEMORY, METRICS, MONGODB)


def make_jwt(user_id: str) -> str:
    """Return a JWT that every server here accepts."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + 3600}, SECRET, algorithm="HS256")


class BareEcho(WebSocketHandler):
    """No authentication at all."""

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class BareJWTEcho(WebSocketHandler):
    """What people write themselves: decode the JWT of the first message, say so, then echo."""

    user_id: str | None = None

    def on_message(self, message: str | bytes) -> None:
        if self.user_id is None:
            try:
                token = json_decode(message)["token"]
                claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
            except (ValueError, KeyError, jwt.PyJWTError):
                self.close(4401, "jwt_invalid")
                return
            self.user_id = claims["sub"]
            self.write_message({"type": "auth_ok", "user_id": self.user_id, "expires_at": claims["exp"]})
            return
        self.write_message(message)


class OurEcho(WebSocketAuthMixin, WebSocketHandler):
    """Both steps, and the bare handler's own method."""

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


async def serve(kind: str, mongodb_uri: str) -> None:
    """Serve until standard input ends."""
    allow_many_files()
    clean_up: Callable[[], Awaitable[object]] | None = None
    auth: WSAuth | None = None
    handler: type[WebSocketHandler] = BareEcho if kind == BARE else BareJWTEcho
    settings: dict[str, Any] = {}
    if kind in OURS:
        store: TokenStore | None = None
        if kind == MONGODB:
            store, clean_up = await _mongo_store(mongodb_uri)
        verifier = JWTVerifier(SECRET, algorithms=["HS256"])
        handler, auth = OurEcho, WSAuth(verifier, store, token_ttl=TOKEN_TTL, metrics=_metrics(kind))
        settings["wsauth"] = auth
        await auth.start()
        logging.getLogger("tornado_wsauth").addHandler(logging.NullHandler())  # it warns that pings are off
    server = HTTPServer(Application([(r"/ws", handler)], **settings))
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1", backlog=1024)
    server.add_sockets(sockets)
    print(json.dumps({"port": sockets[0].getsockname()[1]}), flush=True)

    lines = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(json.dumps({"result": await _answer(json.loads(line), auth)}), flush=True)
    if clean_up is not None:
        await clean_up()


def _metrics(kind: str) -> Observer | None:
    if kind != METRICS:
        return None
    from tornado_wsauth.metrics import Metrics  # what it costs in memory to load it, the others do not pay

    return Metrics()


async def _answer(command: dict[str, Any], auth: WSAuth | None) -> Any:
    if command["do"] == "cpu":
        return cpu_seconds()
    if command["do"] == "memory":
        return settled_memory()
    assert auth is not None, "only our servers have tokens"
    if command["do"] == "single_use":
        auth.single_use = command["value"]
        return None
    assert command["do"] == "issue", command
    started = cpu_seconds()
    tokens = [await auth.issue_token(user_id) for user_id in command["user_ids"]]
    return {"tokens": tokens, "cpu": cpu_seconds() - started}


async def _mongo_store(uri: str) -> tuple[TokenStore, Callable[[], Awaitable[object]]]:
    """Return a store in a database of its own, and what drops it again."""
    from pymongo import AsyncMongoClient

    from tornado_wsauth import MongoTokenStore

    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
    name = f"wsauth_bench_{secrets.token_hex(4)}"

    async def drop() -> None:
        await client.drop_database(name)
        await client.close()

    return MongoTokenStore(client[name].ws_tokens), drop


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--mongodb-uri", default="")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.kind, arguments.mongodb_uri))


if __name__ == "__main__":
    main()
