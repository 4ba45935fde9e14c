"""What the client raises, and what the application's own functions may raise to be understood by it.

Everybody in `client` may import it. No exception of ours carries a JWT or a token; Tornado's do (in a response's URL
and body), which is why none of them is ever a cause or a context of ours.
"""

from __future__ import annotations

from tornado_wsauth.client.reactions import Close, describe_refusal
from tornado_wsauth.errors import WSAuthError


class LoggedOut(WSAuthError):
    """Nobody is logged in: another attempt is of no use, and the connection stops. For ``jwt`` and ``get_token``."""


class TryLater(WSAuthError):
    """Credentials are not to be had now. For ``jwt`` and ``get_token``.

    The next attempt comes after ``retry_after`` seconds, or later.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after: float = float(retry_after)


class Refused(WSAuthError):
    """The server answered the upgrade with an HTTP status instead of a WebSocket; it stands in `Close.error`.

    ``error`` is the code in the body (``docs/protocol.md`` §2), or empty. ``retry_after`` is in seconds.
    """

    def __init__(self, status: int, error: str = "", retry_after: float = 0) -> None:
        super().__init__(describe_refusal(status))
        self.status = status
        self.error = error
        self.retry_after = retry_after


class TimedOut(WSAuthError, TimeoutError):
    """A JWT or a token could not be had within ``timeout`` seconds; it stands in `Close.error`."""


class Stopped(WSAuthError):
    """The connection has stopped for good; ``close`` says how, and how that is put in words."""

    def __init__(self, close: Close) -> None:
        super().__init__(close.words)
        self.close = close


class Failed(Exception):
    """An attempt, or a connection, has ended. It stays within `client`: `connection` makes a `Close` of it."""

    def __init__(self, code: int | None, reason: str, error: BaseException | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.error = error

    @property
    def retry_after(self) -> float:
        """Seconds before which the server, or the application, does not want to be asked again."""
        wanted = self.error.retry_after if isinstance(self.error, (TryLater, Refused)) else 0
        return max(0.0, wanted)

    @property
    def status(self) -> int | None:
        """The HTTP status of a refused upgrade."""
        return self.error.status if isinstance(self.error, Refused) else None
