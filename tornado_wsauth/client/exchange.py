"""One socket's life in the protocol: the JWT first, ``auth_ok``, messages, renewals, the end.

What comes after the end is `connection`'s. Beside `requests`, only this module knows Tornado's client connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError

from tornado_wsauth.backoff import Seams
from tornado_wsauth.client.errors import Failed
from tornado_wsauth.client.inbox import Inbox
from tornado_wsauth.client.reactions import ABNORMAL_CLOSURE, NORMAL_CLOSURE
from tornado_wsauth.wire import abort

_LONGEST_OF_OURS = 4096  # the protocol's messages are short: nothing long is parsed to find out


@dataclass(frozen=True, slots=True)
class Session:
    """What the server says in ``auth_ok``; ``expires_at`` is in Unix seconds."""

    user_id: str
    expires_at: float | None


class Exchange:
    """The conversation over one socket. ``on_expiring`` is called when the server says ``auth_expiring``."""

    def __init__(
        self,
        socket: WebSocketClientConnection,
        inbox: Inbox,
        timeout: float,
        seams: Seams,
        on_expiring: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._protocol = socket.protocol  # Tornado's connection lets go of it when it is told to close
        self._inbox = inbox
        self._timeout = timeout
        self._seams = seams
        self._on_expiring = on_expiring
        self._is_broken = False  # it is known to be at an end, though there may be something left to read
        self._is_over = False  # there is nothing more to read
        self._given_up: Failed | None = None  # why this side ended it
        self._renewal: asyncio.Future[Session] | None = None  # the one that waits for its auth_ok
        self.session: Session | None = None
        """The last ``auth_ok``."""
        self.subprotocol: str | None = socket.selected_subprotocol
        self.ended: asyncio.Event = asyncio.Event()
        """Set when it is over."""

    async def authenticate(self, jwt: str) -> None:
        """Present the JWT and wait for ``auth_ok``, the first data frame. Raises `Failed` for anything else."""
        try:
            async with self._seams.timeout(self._timeout):
                with contextlib.suppress(WebSocketClosedError):  # why it was closed is still to be read
                    await self._present(jwt)
                message = await self._read()
        except TimeoutError:
            raise Failed(None, "timeout") from None
        if message is None:
            raise self._end()
        session = _session_in(_protocol_message(message))
        if session is None:
            raise Failed(None, "bad_server")
        self.session = session

    async def converse(self) -> Failed:
        """Pass on what comes until the end, and return that."""
        while (message := await self._read()) is not None:
            ours = _protocol_message(message)
            if ours.get("type") == "auth_expiring":
                self._on_expiring()
            elif not self._accepts(ours):
                self._inbox.put(message)
                if not self._is_broken:
                    await self._inbox.room()
        return self._end()

    async def send(self, data: str | bytes) -> bool:
        """Send a message, and wait until the network has taken it. Return False if it was not taken whole."""
        try:
            await self._socket.write_message(data, binary=isinstance(data, bytes))
        except (WebSocketClosedError, StreamClosedError):
            self._is_broken = True
            self._inbox.let_in()  # so that what was read, and the end, are seen though nobody takes messages
            return False
        return True

    async def renew(self, jwt: str) -> Session:
        """Present another JWT and return the ``auth_ok`` that answers it. No answer in time ends the exchange."""
        renewal = self._renewal = asyncio.get_running_loop().create_future()
        try:
            with contextlib.suppress(WebSocketClosedError):
                await self._present(jwt)
            while True:
                try:
                    async with self._seams.timeout(self._timeout):
                        return await asyncio.shield(renewal)
                except TimeoutError:
                    if not self._inbox.is_full:  # else it may be there, and this side does not read on
                        self.give_up(Failed(None, "timeout"))
                        await renewal  # in vain; its end is that of the exchange, which cancels this
        finally:
            renewal.cancel()
            self._renewal = None

    def give_up(self, failed: Failed) -> None:
        """End it from this side, at once: a peer that is gone would keep a closing handshake waiting."""
        self._given_up = failed
        self._is_broken = True
        self._socket.close(NORMAL_CLOSURE)
        self._abort()

    async def leave(self, grace: float) -> None:
        """Say goodbye, wait up to ``grace`` seconds for the answer, and be gone."""
        self.ended.set()
        self._socket.close(NORMAL_CLOSURE)
        try:
            async with self._seams.timeout(grace):
                await self._drain()
        except TimeoutError:
            pass
        finally:
            self._abort()
            await self._drain()  # up to the end, so that Tornado's task has come to its own

    async def _drain(self) -> None:
        while await self._read() is not None:
            pass

    async def _read(self) -> str | bytes | None:
        """Return the next message, or None at the end, any number of times."""
        if self._is_over:
            return None
        message = await self._socket.read_message()
        self._is_over = message is None
        return message

    async def _present(self, jwt: str) -> None:
        await self._socket.write_message(json.dumps({"type": "jwt", "token": jwt}))

    def _accepts(self, message: dict[str, Any]) -> bool:
        """Say whether that is the ``auth_ok`` of a renewal. An application may pass on what others wrote, so what looks
        like one counts only where it is due."""
        session = _session_in(message)
        if session is None or self.session is None or self._renewal is None or self._renewal.done():
            return False
        if session.user_id != self.session.user_id:
            return False
        self.session = session
        self._renewal.set_result(session)
        return True

    def _abort(self) -> None:
        if self._protocol is not None:
            abort(self._protocol)

    def _end(self) -> Failed:
        if self._given_up is not None:
            return self._given_up
        code = self._socket.close_code
        return Failed(ABNORMAL_CLOSURE if code is None else code, self._socket.close_reason or "")


def _protocol_message(data: str | bytes) -> dict[str, Any]:
    """Return the message if it may be one of the protocol's, else an empty one."""
    if not isinstance(data, str) or len(data) > _LONGEST_OF_OURS or '"auth_' not in data:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _session_in(message: dict[str, Any]) -> Session | None:
    user_id, expires_at = message.get("user_id"), message.get("expires_at")
    if message.get("type") != "auth_ok" or not isinstance(user_id, str):
        return None
    return Session(user_id, expires_at if isinstance(expires_at, (int, float)) else None)
