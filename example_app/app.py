"""A Tornado application with two-step WebSocket authentication, and a page that shows each step as it happens.

What an application of your own needs of this are `WSAuth`, `TokenHandler`, `Demo` and three lines of `make_app`. Beside
it, `accounts` is a login such as you have already, `engine` is where several processes keep what they share, `failures`
lets the page break things on purpose, ``frontend/`` is the page, and ``__main__`` runs it all.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from example_app import failures
from example_app.accounts import USERS, AccountHandler, Accounts, FreshJWT, LogIn, LogOut
from example_app.engine import Engine
from example_app.page import PAGE, Page
from tornado_wsauth import (
    Broadcaster,
    ClientFilesHandler,
    HealthHandler,
    TokenHandler,
    WebSocketAuthMixin,
    WSAuth,
)
from tornado_wsauth.metrics import Metrics, MetricsHandler

GROUPS = ("red", "blue")
HEALTH = (r"/health/(live|ready)", HealthHandler)


def make_app(
    engine: Engine,
    *,
    page: Path = PAGE,
    process: int = 1,
    processes: int = 1,
    starts: int = 1,
    auth_timeout: float = 5,
    tick_interval_ms: float = 2000,
    broadcast_interval_ms: float = 3000,
) -> Application:
    """Return the application, as one of ``processes`` on ``engine``.

    Await ``settings["wsauth"].start()`` and ``engine.ledger.start()`` before it serves, and start
    ``settings["broadcaster"]``. ``starts`` says how many times this process has started, this one included. The event
    ``settings["restart"]`` is set when somebody wants another. Times are in seconds, intervals in milliseconds.
    """
    accounts = Accounts(engine.ledger)
    auth = WSAuth(
        accounts.verifier,
        engine.tokens(),
        backplane=engine.backplane(),
        auth_timeout=auth_timeout,
        expiry_warning=15,
        max_connections_per_user=4,
        over_limit="evict_oldest",
        message_rate=(50, 5),
        metrics=Metrics(_registry()),
    )
    started_at = time.time()

    async def status() -> dict[str, Any]:
        return {
            "process": process,
            "processes": processes,
            "starts": starts,
            "uptime": time.time() - started_at,
            "online": await auth.count(),
            "key_id": await accounts.key_id(),
        }

    async def news() -> dict[str, Any]:
        return {"type": "broadcast", **await status()}

    # With a lease, one process speaks, and all clients of all processes hear it.
    lease = engine.lease("broadcast")
    broadcaster = Broadcaster(auth, news, broadcast_interval_ms, slow="latest", lease=lease)

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
            HEALTH,
            (r"/(.*)", Page, {"path": page, "default_filename": "index.html"}),
        ],
        wsauth=auth,
        wsauth_expired=WSAuth(accounts.verifier, auth.tokens, token_ttl=1e-6),
        accounts=accounts,
        status=status,
        restart=asyncio.Event(),
        broadcaster=broadcaster,
        process=process,
        tick_interval_ms=tick_interval_ms,
        websocket_ping_interval=30,
        websocket_max_message_size=16 * 1024,
    )


def make_metrics_app(app: Application) -> Application:
    """Return what is for Prometheus alone, to be served where nobody else comes: the numbers are of all users."""
    return Application([(r"/metrics", MetricsHandler), HEALTH], wsauth=app.settings["wsauth"])


def _registry() -> CollectorRegistry:
    """Return a registry of this application's own: after a restart there is another in the same process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


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

    async def on_message(self, message: str | bytes) -> None:
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
                await self.tell_group(group, said)
            case {"type": "say", "message": str(said)}:
                self.write_message({"type": "echo", "message": said})
            case {"type": "fail", "how": str(how), **rest}:
                failures.fail(self, how, rest.get("code"))
            case _:
                self.write_message({"type": "echo", "message": text})

    async def tell_group(self, group: str, message: str) -> None:
        """Send ``message`` to everyone who has joined ``group``, in any process, whether this client has or not."""
        auth: WSAuth = self.settings["wsauth"]
        await auth.broadcast(
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
                "process": self.settings["process"],
            }
        )


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class Config(AccountHandler):
    """What the page has to know about this server. The passwords are there for the demonstration only."""

    async def get(self) -> None:
        auth: WSAuth = self.settings["wsauth"]
        self.finish(
            {
                "users": USERS,
                "groups": GROUPS,
                "auth_timeout": auth.auth_timeout,
                "max_connections": auth.max_connections_per_user,
                "token_store": type(auth.tokens).__name__,
                "status": await self.settings["status"](),
            }
        )
