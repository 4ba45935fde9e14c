"""Applications for the doctor to look at, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tornado_wsauth import JWTVerifier, TokenHandler, WebSocketAuthMixin, WSAuth
from tornado_wsauth.doctor.checks import examine
from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.subject import Subject, subject_of

KEY = "nXv0Uf8q2mZbL5tYkR7wGc3HsPaE9dJ4oViT1xCu6yQ"
"""As good as a random one."""
OTHER_KEY = "b8TqZr4LwXe6KfMj2NvYc9HdGu5PsAi7RkOx3BtWm1E"


class Chat(WebSocketAuthMixin, WebSocketHandler):
    pass


class Open(WebSocketHandler):
    """A WebSocket for everybody."""


def make_auth(tokens: Any = None, *, key: Any = KEY, **options: Any) -> WSAuth:
    """Return a `WSAuth` with a good key."""
    return WSAuth(JWTVerifier(key, ["HS256"]), tokens, **options)


def make_app(*routes: Any, chat: type = Chat, auth: WSAuth | None = None, **settings: Any) -> Application:
    """Return an application that the doctor has nothing to say of but notes; ``routes`` come on top."""
    settings = {"wsauth": auth or make_auth(), "websocket_ping_interval": 30, **settings}
    return Application([(r"/ws/token", TokenHandler), (r"/ws/chat", chat), *routes], **settings)


def serve(app: Any, **options: Any) -> HTTPServer:
    """Return a server that listens nowhere."""
    return HTTPServer(app, **options)


async def findings(target: Any, **options: Any) -> dict[str, Finding]:
    """Return what the doctor finds, by id."""
    subject = target if isinstance(target, Subject) else subject_of(target, **options)
    return {finding.id: finding for finding in await examine(subject)}


@dataclass(frozen=True)
class Pair:
    """An application that has a finding, and one like it that has not."""

    id: str
    level: str
    has: Callable[[], Any]
    has_not: Callable[[], Any]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.id}-{self.name}" if self.name else self.id
