"""Who is connected to this process, by user and by group, and sending one message to many of them.

`auth` owns one `Connections`; `session` registers in it; applications reach it as ``auth.connections``. Only
authenticated connections ever get in, so nothing here asks whether a connection may receive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tornado.escape import json_encode
from tornado.iostream import StreamBufferFullError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

if TYPE_CHECKING:
    from tornado_wsauth.mixin import WebSocketAuthMixin
    from tornado_wsauth.session import AuthSession

Message = str | bytes | dict[str, Any]


class FanOut(NamedTuple):
    """What became of one message to many: how many connections it was handed to, and how many missed it."""

    sent: int
    """Connections the message was written to."""
    dropped: int
    """Connections that were left out because their write buffer is full."""
    closed: int
    """Connections that turned out to be closing already."""


class Connections:
    """The authenticated connections of this process.

    Iterating yields the handlers, oldest connection first, from a snapshot: connections may come and go meanwhile.
    """

    def __init__(self) -> None:
        # Dictionaries as ordered sets: broadcasts go out in the order in which connections came in.
        self._sessions: dict[AuthSession, None] = {}
        self._by_user: dict[str, tuple[AuthSession, ...]] = {}  # mostly of one, and a tuple is the smallest
        self._by_group: dict[str, dict[AuthSession, None]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[WebSocketAuthMixin]:
        return iter([session.handler for session in self._sessions])

    def __contains__(self, session: object) -> bool:
        return session in self._sessions

    def for_user(self, user_id: str) -> list[WebSocketAuthMixin]:
        """Return the handlers of ``user_id``'s connections, oldest first."""
        return [session.handler for session in self._by_user.get(user_id, ())]

    def broadcast(self, message: Message, *, group: str | None = None, binary: bool = False) -> FanOut:
        """Send ``message`` to every connection, or to those in ``group``.

        A `dict` is sent as JSON; `str` as UTF-8 text; `bytes` as they are, in a text message unless ``binary``.
        The message has been handed to each connection when this returns. A connection that is closing is skipped,
        and so is one whose write buffer is full, where Tornado's ``max_write_buffer_size`` is set.
        Raises `TypeError` for any other message, before anything is sent.
        """
        return _send_to(self._sessions if group is None else self._by_group.get(group, ()), message, binary)

    def send_to_user(self, user_id: str, message: Message, *, binary: bool = False) -> FanOut:
        """Send ``message`` to every connection of ``user_id``; otherwise like `broadcast`."""
        return _send_to(self._by_user.get(user_id, ()), message, binary)

    def count(self, group: str | None = None) -> int:
        """Return how many connections there are, or how many are in ``group``."""
        return len(self) if group is None else len(self._by_group.get(group, ()))

    # What follows is for `session`, which keeps a connection's own view of its groups in step.

    def add(self, session: AuthSession) -> None:
        """Register an authenticated connection."""
        self._sessions[session] = None
        self._by_user[session.user_id] = (*self._by_user.get(session.user_id, ()), session)

    def remove(self, session: AuthSession) -> None:
        """Forget a connection and take it out of its groups. Forgetting it again does nothing."""
        if session not in self._sessions:
            return
        del self._sessions[session]
        others = tuple(other for other in self._by_user[session.user_id] if other is not session)
        if others:
            self._by_user[session.user_id] = others
        else:
            del self._by_user[session.user_id]
        for group in session.groups:
            _discard(self._by_group, group, session)

    def join(self, session: AuthSession, group: str) -> bool:
        """Put a connection into ``group``; False if it is not registered, or not any more."""
        if session not in self._sessions:
            return False
        self._by_group.setdefault(group, {})[session] = None
        return True

    def leave(self, session: AuthSession, group: str) -> None:
        """Take a connection out of ``group``. A group without connections is forgotten."""
        _discard(self._by_group, group, session)


def deliver(handler: WebSocketAuthMixin, message: str | bytes, binary: bool = False) -> None:
    """Write ``message`` to one connection. Raises `WebSocketClosedError`, or `StreamBufferFullError`.

    A subclass's ``write_message`` is passed by: it may wrap what the application says, and this is ours to say.
    """
    WebSocketHandler.write_message(handler, message, binary=binary).add_done_callback(_retrieve)


def _send_to(sessions: Iterable[AuthSession], message: Message, binary: bool) -> FanOut:
    if isinstance(message, dict):
        message = json_encode(message)
    elif not isinstance(message, (str, bytes)):
        raise TypeError(f"a message is str, bytes or dict, not {type(message).__name__}")
    sent = dropped = closed = 0
    for handler in [session.handler for session in sessions]:
        try:
            deliver(handler, message, binary)
            sent += 1
        except WebSocketClosedError:
            closed += 1
        except StreamBufferFullError:
            dropped += 1
    return FanOut(sent, dropped, closed)


def _discard(index: dict[str, dict[AuthSession, None]], key: str, session: AuthSession) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(session, None)
        if not members:
            del index[key]


def _retrieve(written: asyncio.Future[None]) -> None:
    """Look at a write's failure, which is the client's leaving, so that asyncio does not complain that nobody did."""
    if not written.cancelled():
        written.exception()
