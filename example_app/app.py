"""A Tornado application with two-step WebSocket authentication, and a page that shows each step as it happens.

What an application of your own needs of this are `WSAuth`, `TokenHandler`, `Demo` and three lines of `make_app`. Beside
it, `accounts` is a login such as you have already, `failures` lets the page break things on purpose, ``frontend/`` is
the page, and ``__main__`` runs it all.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import time
from pathlib import Path
from typing import Any

from tornado.web import Application, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

from example_app import failures
from example_app.accounts import USERS, Accounts, FreshJWT, LogIn, LogOut
from tornado_wsauth import Broadcaster, ClientFilesHandler, TokenHandler, TokenStore, WebSocketAuthMixin, WSAuth

PAGE = Path(__file__).parent / "frontend" / "dist"
"""The page as ``npm run build`` leaves it."""

GROUPS = ("red", "blue")

# Windows may have "text/plain" for it in its registry, and with nosniff a browser then runs no script at all.
mimetypes.add_type("text/javascript", ".js")


def make_app(
    accounts: Accounts,
    *,
    tokens: TokenStore | None = None,
    page: Path = PAGE,
    starts: int = 1,
    auth_timeout: float = 5,
    tick_interval_ms: float = 2000,
    broadcast_interval_ms: float = 3000,
) -> Application:
    """Return the application. Start ``settings["broadcaster"]`` once the event loop runs.

    Left out, ``tokens`` is a `MemoryTokenStore`. ``starts`` says how many times the server has started, this one
    included. The event ``settings["restart"]`` is set when somebody wants another. Times are in seconds, intervals in
    milliseconds.
    """
    auth = WSAuth(
        accounts.verifier,
        tokens,
        auth_timeout=auth_timeout,
        expiry_warning=15,
        max_connections_per_user=4,
        over_limit="evict_oldest",
        message_rate=(50, 5),
    )
    started_at = time.time()

    def status() -> dict[str, Any]:
        return {
            "starts": starts,
            "uptime": time.time() - started_at,
            "online": len(auth.connections),
            "key_id": accounts.key_id,
        }

    return Application(
        [
            (r"/login", LogIn),
            (r"/jwt", FreshJWT),
            (r"/logout(/here)?", LogOut),
            (r"/ws/token", TokenHandler),
            (r"/demo", Demo),
            *failures.ROUTES,
            (r"/config.json", Config),
            (r"/wsauth/(.*)", ClientFilesHandler),
            (r"/(.*)", Page, {"path": page, "default_filename": "index.html"}),
        ],
        wsauth=auth,
        wsauth_expired=WSAuth(accounts.verifier, auth.tokens, token_ttl=1e-6),
        accounts=accounts,
        status=status,
        restart=asyncio.Event(),
        broadcaster=Broadcaster(auth, lambda: {"type": "broadcast", **status()}, broadcast_interval_ms, slow="latest"),
        tick_interval_ms=tick_interval_ms,
        websocket_ping_interval=30,
        websocket_max_message_size=16 * 1024,
    )


class Demo(WebSocketAuthMixin, WebSocketHandler):
    """The WebSocket. None of its methods ever meets a client that is not authenticated.

    It answers JSON with a ``type`` as the methods below say, and echoes everything else.
    """

    number = 0

    def open(self, *args: str, **kwargs: str) -> None:
        self.tell_of_session("opened")
        # A ticker of this connection's own; it ends with the connection.
        self.auth_session.call_every(self.tick, self.settings["tick_interval_ms"])

    async def tick(self) -> None:
        self.number += 1
        await self.write_message({"type": "tick", "number": self.number})

    def on_message(self, message: str | bytes) -> None:
        text = message.decode(errors="replace") if isinstance(message, bytes) else message
        match _json_object(text):
            case {"type": "ping", "id": int(number)}:
                self.write_message({"type": "pong", "id": number})
            case {"type": "join", "group": group} if group in GROUPS:
                self.auth_session.join(group)
                self.tell_of_session(f"joined {group}")
            case {"type": "leave", "group": group} if group in GROUPS:
                self.auth_session.leave(group)
                self.tell_of_session(f"left {group}")
            case {"type": "say", "to": group, "message": str(said)} if group in GROUPS:
                self.tell_group(group, said)
            case {"type": "say", "message": str(said)}:
                self.write_message({"type": "echo", "message": said})
            case {"type": "fail", "how": str(how), **rest}:
                failures.fail(self, how, rest.get("code"))
            case _:
                self.write_message({"type": "echo", "message": text})

    def tell_group(self, group: str, message: str) -> None:
        """Send ``message`` to everyone who has joined ``group``, whether this client has or not."""
        auth: WSAuth = self.settings["wsauth"]
        auth.connections.broadcast(
            {"type": "group", "group": group, "from": self.auth_session.user_id, "message": message}, group=group
        )

    def tell_of_session(self, event: str) -> None:
        session = self.auth_session
        self.write_message(
            {
                "type": "session",
                "event": event,
                "user_id": session.user_id,
                "session_id": session.session_id,
                "groups": sorted(session.groups),
            }
        )


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Config(RequestHandler):
    """What the page has to know about this server. The passwords are there for the demonstration only."""

    def get(self) -> None:
        auth: WSAuth = self.settings["wsauth"]
        self.set_header("Cache-Control", "no-store")
        self.finish(
            {
                "users": USERS,
                "groups": GROUPS,
                "auth_timeout": auth.auth_timeout,
                "max_connections": auth.max_connections_per_user,
                "token_store": type(auth.tokens).__name__,
                "status": self.settings["status"](),
            }
        )


class Page(StaticFileHandler):
    """The page and its files, with headers that leave a stranger's script, style or frame nothing to do there."""

    async def get(self, path: str, include_body: bool = True) -> None:
        if not (Path(self.root) / "index.html").is_file():
            self.set_status(503)
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish("The page is not built yet. Run: cd example_app/frontend && npm ci && npm run build\n")
            return
        await super().get(path, include_body)

    def set_default_headers(self) -> None:
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "no-referrer")

    def set_extra_headers(self, path: str) -> None:
        # Names of assets have a digest of their content in them; all else is asked for again, so that an edit shows.
        is_asset = path.startswith("assets/")
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if is_asset else "no-cache")
