"""A real server of JWK Sets that does as a test says, and the tokens that go with its keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tests.jwt_factory import NOW, rsa_key, sign
from tornado_wsauth.errors import AuthError
from tornado_wsauth.jwks import JWKS
from tornado_wsauth.verifier import JWTVerifier

OLD, NEW, OTHER = rsa_key(), rsa_key(nth=1), rsa_key(nth=2)

OLD_TOKEN = sign(OLD, "RS256", kid="old")
NEW_TOKEN = sign(NEW, "RS256", kid="new")
UNKNOWN_TOKEN = sign(OTHER, "RS256", kid="unknown")


class PublishedKeys(RequestHandler):
    def initialize(self, server: KeyServer) -> None:
        self.server = server

    async def get(self) -> None:
        self.server.requests.append(self.request)
        self.server.asked.set()
        await self.server.may_answer.wait()
        answer = self.server.answer(self)
        if answer is not None:
            with contextlib.suppress(StreamClosedError):
                await answer


class KeyServer:
    """Serves a JWK Set. ``answer`` may be replaced, and ``may_answer`` cleared to make it hang."""

    def __init__(self) -> None:
        self.requests: list[HTTPServerRequest] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer: Callable[[RequestHandler], Any] = lambda handler: handler.send_error(500)
        socket, self.port = bind_unused_port()
        self.url = f"http://127.0.0.1:{self.port}/jwks"
        self._http = HTTPServer(Application([("/.*", PublishedKeys, {"server": self})]))
        self._http.add_socket(socket)

    def publish(self, *keys: Any) -> None:
        self.publish_text(json.dumps({"keys": keys}))

    def publish_text(self, body: str | bytes) -> None:
        self.answer = lambda handler: handler.finish(body)

    def hang(self) -> None:
        self.may_answer.clear()
        self.asked.clear()

    async def close(self) -> None:
        self.may_answer.set()
        self._http.stop()
        await self._http.close_all_connections()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*pending, return_exceptions=True)


@contextlib.contextmanager
def key_server(io_loop: IOLoop) -> Iterator[KeyServer]:
    """Run a `KeyServer` on ``io_loop``."""

    async def start() -> KeyServer:
        return KeyServer()

    server = io_loop.run_sync(start)
    yield server
    io_loop.run_sync(server.close)


def verifier_for(jwks: JWKS, *algorithms: str) -> JWTVerifier:
    return JWTVerifier(jwks, algorithms or ["RS256"], clock=lambda: NOW)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tornado_wsauth"]


async def refused(verifier: JWTVerifier, token: str) -> bool:
    """Say whether ``token`` is refused as invalid, rather than accepted."""
    try:
        await verifier.verify(token)
    except AuthError as error:
        return error.reason == "jwt_invalid"
    return False
