"""What the library tells whoever measures it. `metrics` makes Prometheus' numbers of it; others may be made.

Where nobody measures, ``WSAuth.metrics`` is None, and all of this costs one look at that.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from tornado_wsauth.errors import BackplaneError, TokenStoreError

if TYPE_CHECKING:
    from tornado_wsauth.fanout import FanOut, Slow

Audience = Literal["all", "group", "user"]
Service = Literal["store", "backplane"]

T = TypeVar("T")


class State(NamedTuple):
    """How things stand with one `WSAuth`, in this process, at the moment."""

    handshaking: int
    """Connections whose request is being checked."""
    authenticating: int
    """Connections that were upgraded and whose JWT was not accepted yet."""
    open: int
    """Authenticated connections."""
    closing: int
    """Connections that we have closed and whose clients have not left yet."""
    buffered_bytes: int
    """Bytes that wait for slow readers."""
    draining: bool
    """Whether `WSAuth.close` was called."""
    connected: bool | None
    """Whether the backplane's messages arrive; None without one."""


class Observer(abc.ABC):
    """Is told what happens: ``WSAuth(metrics=…)``. Subclass it to feed another system than Prometheus.

    Every method is called from the event loop's thread, often, and while somebody waits: it must be quick and must not
    raise. No token, JWT or address is ever passed; a user id is neither.
    """

    @abc.abstractmethod
    def attach(self, look: Callable[[], State]) -> None:
        """Called once, by the `WSAuth` it is given to. ``look`` says how things stand, whenever it is called."""

    @abc.abstractmethod
    def token_issued(self) -> None:
        """A connection token was issued."""

    @abc.abstractmethod
    def token_refused(self, reason: str) -> None:
        """The token route refused a request; ``reason`` is the log's."""

    @abc.abstractmethod
    def token_redeemed(self, result: str) -> None:
        """The store was asked to redeem a token: ``accepted``, ``unknown``, ``expired``, ``replayed`` or ``error``."""

    @abc.abstractmethod
    def upgraded(self, connection: object) -> None:
        """The 101 was sent on ``connection``, which is hashable and the same in the calls that follow."""

    @abc.abstractmethod
    def recorded(self, connection: object, event: str, reason: str, code: int | None) -> None:
        """A connection was accepted, refused or closed. The arguments are those of its record in the log.

        ``code`` is an HTTP status or a WebSocket close code, the client's own where it closed; None for neither.
        """

    @abc.abstractmethod
    def broadcast(self, audience: Audience, fan_out: FanOut) -> None:
        """A message went to many connections of this process, or to those of one user."""

    @abc.abstractmethod
    def dropped(self, policy: Slow) -> None:
        """One connection reads too slowly for a message: it was closed, left out, or lost an older one kept for it."""

    @abc.abstractmethod
    def answered(self, service: Service, operation: str, seconds: float, *, failed: bool) -> None:
        """The token store, or the backplane, has answered; ``failed`` if it could not."""

    @abc.abstractmethod
    def gap(self) -> None:
        """Messages of other processes may have been lost."""


async def timed(observer: Observer | None, service: Service, operation: str, answer: Awaitable[T]) -> T:
    """Wait for ``answer`` and tell ``observer`` how long it took. Raises what it raises."""
    if observer is None:
        return await answer
    began, failed = perf_counter(), False
    try:
        return await answer
    except (TokenStoreError, BackplaneError):
        failed = True
        raise
    finally:
        observer.answered(service, operation, perf_counter() - began, failed=failed)
