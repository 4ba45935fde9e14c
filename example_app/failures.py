"""Failures on purpose, for the page to show how the two halves of the library deal with them. Not for an application.

What a client can do wrong by itself, the page does (``frontend/src/sabotage.ts``). This is the server's part:
credentials that come too late, connections that end for one reason or another, new keys, and a restart.
"""

from __future__ import annotations

import asyncio

from tornado.websocket import WebSocketHandler

from example_app.accounts import MembersHandler
from tornado_wsauth import TokenHandler

REASONS = {1001: "shutdown", 1011: "internal", 1012: "restart", 1013: "slow_reader", 4408: "auth_timeout"}
"""The close codes that can be asked for, each with the reason that the library gives with it."""


class DemonstrationError(Exception):
    """Raised on purpose: somebody pressed "Server error"."""


def fail(handler: WebSocketHandler, how: str, code: object = None) -> None:
    """End this connection as its client asked for: ``how`` is ``"lose"``, ``"error"``, or ``"close"`` with a code."""
    if how == "error":
        raise DemonstrationError('somebody pressed "Server error"')
    if how == "lose" and handler.ws_connection is not None and handler.ws_connection.stream is not None:
        handler.ws_connection.stream.close()  # no close frame: this is what a cut cable looks like
    if how == "close" and isinstance(code, int) and code in REASONS:
        handler.close(code, REASONS[code])


class ExpiredToken(TokenHandler):
    """``POST`` like ``/ws/token``; tokens from here live a microsecond, so that one need not wait."""

    wsauth_setting = "wsauth_expired"


class ExpiredJWT(MembersHandler):
    """``POST`` answers a JWT that expired a minute ago, and is right in every other way."""

    async def post(self) -> None:
        self.finish({"jwt": await self.accounts.issue_jwt(self.current_user, lifetime=-60)})


class RotateKeys(MembersHandler):
    """``POST``: JWTs are signed with a new key from now on, in every process. Live connections go on; 204."""

    async def post(self) -> None:
        await self.accounts.rotate_keys()
        self.set_status(204)


class Restart(MembersHandler):
    """``POST``: this process is drained and begins anew; 202, for that is yet to come, and ``{"process": 1}``."""

    def post(self) -> None:
        restart: asyncio.Event = self.settings["restart"]
        restart.set()
        self.set_status(202)
        self.finish({"process": self.settings["process"]})


ROUTES = [
    (r"/demo/expired-token", ExpiredToken),
    (r"/demo/expired-jwt", ExpiredJWT),
    (r"/demo/rotate-keys", RotateKeys),
    (r"/demo/restart", Restart),
]
