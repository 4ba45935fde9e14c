"""Connection tokens: how one is made, recognised and hashed, and what a store remembers of it.

Stores, the token route and the handshake import this module; it knows neither Tornado nor a database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOKEN_BYTES = 32
"""Randomness of a token, in bytes: 256 bits leave nothing to guess and nothing to collide."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What a store remembers of one token. The token itself is not in it.

    Times are Unix seconds on the store's own clock. ``context`` is whatever was given to ``issue()``.
    """

    user_id: str
    created_at: float
    expires_at: float
    context: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TokenReplay:
    """Somebody came with a token that had been used: a client that keeps tokens, or a thief, or the thief's victim.

    ``path`` is that of the socket. Addresses are as Tornado sees them (``request.remote_ip``).
    """

    user_id: str | None
    spent_by: str | None
    """Where the token was used first; None where the store does not know."""
    replayed_by: str | None
    """Where it was used again."""
    path: str


def new_token() -> str:
    """Return a new token: 43 characters of ``[A-Za-z0-9_-]`` from the system's CSPRNG."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_well_formed(token: str) -> bool:
    """Say whether ``token`` could have come from `new_token`, so that a store is asked about nothing else."""
    return _WELL_FORMED.fullmatch(token) is not None


def hash_token(token: str) -> str:
    """Return the SHA-256 of ``token`` in hexadecimal: the only form in which a token is stored.

    A token has 256 random bits, so a plain hash cannot be reversed by guessing; salt and stretching are for
    passwords. Looking a hash up needs no constant-time comparison: its timing tells about the hash alone.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def as_user_id(value: object) -> str:
    """Return the one spelling of a user id that tokens, JWTs and connections are compared by.

    A non-empty `str` stays as it is; `bytes` (what ``get_signed_cookie`` returns) are decoded as UTF-8; an `int`
    becomes its decimal digits. Raises `ValueError` for anything else: guessing would let two users meet in one id.
    """
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if isinstance(text, int) and not isinstance(text, bool):
            text = str(text)
        if isinstance(text, str) and text:
            text.encode()  # a lone surrogate, which JSON can carry, is no text
            return text
    except UnicodeError as error:
        raise ValueError(f"a user id is a non-empty str, bytes in UTF-8, or an int: {error}") from error
    raise ValueError(f"a user id is a non-empty str, bytes in UTF-8, or an int, not {type(value).__name__}")
