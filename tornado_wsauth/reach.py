"""Whom an application's messages and logouts reach: everybody, in every process.

`auth` is the only module that imports it; applications find these methods on their `WSAuth`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tornado.escape import json_encode

from tornado_wsauth.cluster import Cluster, to_group, to_user
from tornado_wsauth.connections import Connections, Payload
from tornado_wsauth.fanout import FanOut, Slow
from tornado_wsauth.gate import REVOKED
from tornado_wsauth.lifetime import Lifetimes
from tornado_wsauth.tokens import as_user_id

if TYPE_CHECKING:
    from tornado_wsauth.admission import Admission
    from tornado_wsauth.guard import Guard
    from tornado_wsauth.mixin import WebSocketAuthMixin


class Reach(abc.ABC):
    """The half of `WSAuth` that is about those who are connected, here and in the other processes."""

    connections: Connections
    """The authenticated connections of this process."""
    pending: set[Admission]
    """The connections on their way from the handshake to an accepted JWT. The guard keeps it."""
    lifetimes: Lifetimes
    """How long each session lasts."""
    _cluster: Cluster | None

    @abc.abstractmethod
    async def revoke_tokens(self, user_id: str | bytes | int) -> int:
        """Make the connection tokens worthless that ``user_id`` has not used yet."""

    async def broadcast(
        self, message: Payload, *, group: str | None = None, binary: bool = False, slow: Slow = "close"
    ) -> FanOut:
        """Send ``message`` to every connection of every process, or to those in ``group``.

        Here it goes out as `Connections.broadcast` says, at once, and that is what `FanOut` counts. When this returns,
        the backplane has it for the others; where it has not, which is logged, it reaches this process's clients only.
        Raises what `Connections.broadcast` does, and `ValueError` for a message that is too long for the backplane.
        """
        content = _as_content(message)
        if self._cluster is None:
            return self.connections.broadcast(content, group=group, binary=binary, slow=slow)
        for_others = to_group(content, group, binary, slow)
        fan_out = self.connections.broadcast(content, group=group, binary=binary, slow=slow)
        await self._cluster.send(for_others)
        return fan_out

    async def send_to_user(
        self, user_id: str | bytes | int, message: Payload, *, binary: bool = False, slow: Slow = "close"
    ) -> FanOut:
        """Send ``message`` to every connection of ``user_id`` in every process; otherwise like `broadcast`."""
        user, content = as_user_id(user_id), _as_content(message)
        if self._cluster is None:
            return self.connections.send_to_user(user, content, binary=binary, slow=slow)
        for_others = to_user(content, user, binary, slow)
        fan_out = self.connections.send_to_user(user, content, binary=binary, slow=slow)
        await self._cluster.send(for_others)
        return fan_out

    async def count(self, group: str | None = None) -> int:
        """Return how many connections there are in all processes, or how many are in ``group``.

        Each process is asked, for each call: it costs as many messages as there are processes. One that does not answer
        within a second is left out, and not waited for again until it does. Raises `BackplaneError` when nobody can be
        asked.
        """
        here = self.connections.count(group)
        if self._cluster is None:
            return here
        return here + await self._cluster.count(group)

    async def presence(self, group: str | None = None) -> dict[str, int]:
        """Return who is connected in all processes, or in ``group``: each user's id, and number of connections there.

        It is asked for as `count` is, and raises the same. A process that has died is not in it any more.
        """
        users = self.connections.presence(group)
        if self._cluster is not None:
            users += await self._cluster.presence(group)
        return dict(users)

    async def disconnect_user(self, user_id: str | bytes | int) -> int:
        """End all that ``user_id`` has in every process: connections with 4403 ``revoked``, and tokens.

        Returns how many connections there were in this process; those of others end a moment later.
        Connections that are not authenticated yet are among them. A JWT that has not expired is not void by this:
        whoever holds it can get another token, unless ``load_auth_user`` (or the application's login) knows better.

        Raises `ValueError` for what is no user id, `TokenStoreError` when the store cannot answer, and `BackplaneError`
        when the other processes cannot be told. The connections of this process are closed all the same, but others may
        go on, and a token issued before may still open another: call it again.
        """
        user = as_user_id(user_id)
        ended = self.end_user(user)
        try:
            await self.revoke_tokens(user)
        finally:
            # Again: until the store had answered, a token of before could still be redeemed.
            ended += self.end_user(user)
            if self._cluster is not None:
                await self._cluster.end_user(user)
        return ended

    async def disconnect_session(self, session_id: str) -> int:
        """End the connections of one login in every process, with 4403 ``revoked``; return how many there were in this.

        ``session_id`` is their ``auth_session.session_id``: the JWT's ``sid`` claim, if it has one. The user's other
        sessions and tokens stay. Raises `BackplaneError` when the other processes cannot be told: call it again.
        """
        ended = self.end_session(session_id)
        if self._cluster is not None:
            await self._cluster.end_session(session_id)
        return ended

    # What `cluster` does here for another process.

    def end_user(self, user_id: str) -> int:
        """End the user's connections in this process; return how many there were. `disconnect_user` is for all."""
        pending = sum(guard.revoke(user_id) for guard in [*self.pending])
        return pending + sum(guard.close(REVOKED) for guard in guards_of(self.connections.for_user(user_id)))

    def end_session(self, session_id: str) -> int:
        """End the login's connections in this process; return how many. `disconnect_session` is for all."""
        live = guards_of(self.connections)
        return sum(guard.close(REVOKED) for guard in live if guard.live_session.session_id == session_id)

    def recheck(self) -> None:
        """Ask ``still_valid`` about each session of this process, now."""
        self.lifetimes.recheck()


def _as_content(message: Payload) -> str | bytes:
    """Write a `dict` as JSON, once for all processes. Raises `TypeError` for what is no message."""
    if isinstance(message, dict):
        return json_encode(message)
    if not isinstance(message, (str, bytes)):
        raise TypeError(f"a message is str, bytes or dict, not {type(message).__name__}")
    return message


def guards_of(handlers: Iterable[WebSocketAuthMixin]) -> list[Guard]:
    """Return what stands between Tornado and each of ``handlers``."""
    return [handler._wsauth_guard for handler in handlers]
