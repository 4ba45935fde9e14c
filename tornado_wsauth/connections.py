"""Who is connected to this process, by user and by group, and who of them gets a message.

`auth` owns one `Connections`; `session` registers in it; applications reach it as ``auth.connections``. Only
authenticated connections ever get in, so nothing here asks whether a connection may receive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tornado.escape import json_encode

from tornado_wsauth.backplane.base import Backplane, group_channel, user_channel
from tornado_wsauth.fanout import Dispatcher, FanOut, Slow
from tornado_wsauth.message import Message
from tornado_wsauth.observer import Observer

if TYPE_CHECKING:
    from tornado_wsauth.mixin import WebSocketAuthMixin
    from tornado_wsauth.session import AuthSession
    from tornado_wsauth.wire import Writer

Payload = str | bytes | dict[str, Any]
"""What can be broadcast: text, bytes, or what is to become a JSON object."""


class Connections:
    """The authenticated connections of this process.

    Iterating yields the handlers, oldest connection first, from a snapshot: connections may come and go meanwhile.
    With a ``backplane``, what other processes send to the users and groups that are here is listened to.
    """

    def __init__(
        self,
        max_buffer_bytes: int = 2**20,
        end_expired: Callable[[], None] = lambda: None,
        backplane: Backplane | None = None,
        metrics: Observer | None = None,
    ) -> None:
        # Dictionaries as ordered sets: broadcasts go out in the order in which connections came in.
        self._writers: dict[AuthSession, Writer] = {}
        self._by_user: dict[str, tuple[AuthSession, ...]] = {}  # mostly of one, and a tuple is the smallest
        self._by_group: dict[str, dict[AuthSession, Writer]] = {}
        self.dispatcher: Dispatcher = Dispatcher(max_buffer_bytes, end_expired, metrics)
        self._backplane = backplane
        self._metrics = metrics

    def __len__(self) -> int:
        return len(self._writers)

    def __iter__(self) -> Iterator[WebSocketAuthMixin]:
        return iter([session.handler for session in self._writers])

    def __contains__(self, session: object) -> bool:
        return session in self._writers

    def for_user(self, user_id: str) -> list[WebSocketAuthMixin]:
        """Return the handlers of ``user_id``'s connections, oldest first."""
        return [session.handler for session in self._by_user.get(user_id, ())]

    def broadcast(
        self, message: Payload, *, group: str | None = None, binary: bool = False, slow: Slow = "close"
    ) -> FanOut:
        """Send ``message`` to every connection, or to those in ``group``. Call it from the event loop's thread.

        A `dict` is sent as JSON; `str` as UTF-8 text; `bytes` as they are, in a text message unless ``binary``.

        When this returns, the message has been handed to the kernel, or queued, for as many connections as can be
        served in 4 ms, about a thousand. For the others it waits and goes out in slices of the same length, oldest
        connection first, while the loop serves its other clients in between. `FanOut` counts those as sent. On each
        connection, whatever is sent or closed later comes after it. Who joins later does not get it; nor does a
        connection that ends before its turn.

        ``slow`` says what becomes of it for a reader that has more than ``max_buffer_bytes`` queued (or, where
        Tornado's ``max_write_buffer_size`` is set, no room for it there): ``"close"`` closes the connection with 1013
        ``slow_reader``, and aborts it half a second later; ``"drop"`` leaves it out; ``"latest"`` keeps it
        until the reader has caught up, in place of an older one kept for the same ``group``.

        Raises `TypeError` for any other message, and `ValueError` for text that is not Unicode or another ``slow``,
        before anything is sent.
        """
        self.dispatcher.end_expired()  # before it is known who is there
        members = self._writers if group is None else self._by_group.get(group, {})
        fan_out = self.dispatcher.send(list(members.values()), _encode(message, binary), slow, ("group", group))
        if self._metrics is not None:
            self._metrics.broadcast("all" if group is None else "group", fan_out)
        return fan_out

    def send_to_user(self, user_id: str, message: Payload, *, binary: bool = False, slow: Slow = "close") -> FanOut:
        """Send ``message`` to every connection of ``user_id``; otherwise like `broadcast`.

        With ``slow="latest"``, it takes the place of an older one kept for the same user.
        """
        self.dispatcher.end_expired()  # before it is known who is there
        writers = [session.writer for session in self._by_user.get(user_id, ())]
        fan_out = self.dispatcher.send(writers, _encode(message, binary), slow, ("user", user_id))
        if self._metrics is not None:
            self._metrics.broadcast("user", fan_out)
        return fan_out

    def count(self, group: str | None = None) -> int:
        """Return how many connections there are, or how many are in ``group``."""
        return len(self) if group is None else len(self._by_group.get(group, ()))

    def presence(self, group: str | None = None) -> Counter[str]:
        """Return the users who are connected, or in ``group``, each with the number of their connections there."""
        members = self._writers if group is None else self._by_group.get(group, {})
        return Counter(session.user_id for session in members)

    # What follows is for `session`, which keeps a connection's own view of its groups in step.

    def add(self, session: AuthSession) -> None:
        """Register an authenticated connection."""
        self._writers[session] = session.writer
        if self._backplane is not None and session.user_id not in self._by_user:
            self._backplane.listen(user_channel(session.user_id))
        self._by_user[session.user_id] = (*self._by_user.get(session.user_id, ()), session)

    def remove(self, session: AuthSession) -> None:
        """Forget a connection and take it out of its groups. Forgetting it again does nothing."""
        if session not in self._writers:
            return
        del self._writers[session]
        others = tuple(other for other in self._by_user[session.user_id] if other is not session)
        if others:
            self._by_user[session.user_id] = others
        else:
            del self._by_user[session.user_id]
            if self._backplane is not None:
                self._backplane.ignore(user_channel(session.user_id))
        for group in session.groups:
            self.leave(session, group)

    def join(self, session: AuthSession, group: str) -> bool:
        """Put a connection into ``group``; False if it is not registered, or not any more."""
        if session not in self._writers:
            return False
        if self._backplane is not None and group not in self._by_group:
            self._backplane.listen(group_channel(group))
        self._by_group.setdefault(group, {})[session] = session.writer
        return True

    def leave(self, session: AuthSession, group: str) -> None:
        """Take a connection out of ``group``. A group without connections is forgotten."""
        members = self._by_group.get(group)
        if members is None:
            return
        members.pop(session, None)
        if not members:
            del self._by_group[group]
            if self._backplane is not None:
                self._backplane.ignore(group_channel(group))


def _encode(message: Payload, binary: bool) -> Message:
    if isinstance(message, dict):
        message = json_encode(message)
    elif not isinstance(message, (str, bytes)):
        raise TypeError(f"a message is str, bytes or dict, not {type(message).__name__}")
    elif isinstance(message, bytes) and not binary:
        message.decode()  # a client must drop its connection over text that is not UTF-8 (RFC 6455 §8.1)
    return Message(message, binary)
