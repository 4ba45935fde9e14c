"""What can go wrong, and the codes a client is told. Anyone may import this module; it imports nothing.

The exception tree::

    WSAuthError                    everything this library raises on purpose
    ├── ConfigurationError         an option or a key is wrong; raised at construction (also a ValueError)
    ├── AuthError                  somebody is not who they must be; ``reason`` says why, for the log
    │   └── TokenRejected          a connection token was not redeemed: unknown, expired or replayed
    ├── TokenLimitReached          this user holds as many live tokens as allowed; try again later
    ├── TokenStoreError            the token store cannot answer; the request becomes a 503
    ├── BackplaneError             the other processes cannot be reached, or their limits not be looked at
    └── KeySourceError             no key can be had to verify a JWT with (a JWKS server is down)

No exception carries a token, a JWT or a key.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

TokenRejection = Literal["unknown", "expired", "replayed"]


class WSAuthError(Exception):
    """Base class of every exception this library raises on purpose."""


class ConfigurationError(WSAuthError, ValueError):
    """An option, a key or a setting is wrong. The message names it and says what to write instead."""


class AuthError(WSAuthError):
    """A token or a JWT does not prove who the client is.

    ``reason`` is a short constant such as ``"jwt_expired"``. ``detail`` says more to whoever reads the log and
    never reaches the client; it names what was wrong, never the credential itself.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TokenRejected(AuthError):
    """A connection token was not redeemed.

    ``user_id`` is the user it was issued to, where the store still knows: an ``expired`` or ``replayed`` token.
    ``spent_by`` is the address from which a ``replayed`` one was used first, where the store was told.
    """

    reason: TokenRejection

    def __init__(self, reason: TokenRejection, user_id: str | None = None, spent_by: str | None = None) -> None:
        super().__init__(reason)
        self.user_id = user_id
        self.spent_by = spent_by


class TokenLimitReached(WSAuthError):
    """A user asked for more live tokens than ``max_tokens_per_user`` allows."""


class TokenStoreError(WSAuthError):
    """The token store cannot answer: it is down, too slow, full, or used from the wrong process."""


class BackplaneError(WSAuthError):
    """The backplane, or a lease, cannot answer: it is down, cut off, too slow, or used from the wrong process."""


class KeySourceError(WSAuthError):
    """No key can be had to verify a JWT with, through no fault of the client's."""


class CloseCode(IntEnum):
    """The WebSocket close codes this library sends (RFC 6455 §7.4.1; 4000–4999 are the application's, §7.4.2).

    ``docs/protocol.md`` says what a client should do on each.
    """

    GOING_AWAY = 1001
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    AUTH_TIMEOUT = 4408
    REPLACED = 4409
    TOO_MANY = 4429
