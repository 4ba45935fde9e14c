"""The embedded token store: tokens of one process, in its memory. The default of ``WSAuth``, and good for tests.

``auth`` and the package's public names import this module; it uses nothing but the standard library.
"""

from __future__ import annotations

import heapq
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tornado_wsauth.errors import ConfigurationError, TokenLimitReached, TokenRejected, TokenStoreError
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.tokens import TokenRecord, hash_token, new_token

# One issued token adds one record, so anything above 1 catches up with a burst; this much costs about 15 µs.
_SWEPT_PER_ISSUE = 16


class _Entry:
    """What is remembered of one token. ``user_id`` is None once it was revoked."""

    __slots__ = ("context", "created_at", "expires_at", "spent", "spent_by", "user_id")

    def __init__(self, user_id: str, created_at: float, expires_at: float, context: str | None) -> None:
        self.user_id: str | None = user_id
        self.created_at = created_at
        self.expires_at = expires_at
        self.context = context  # as JSON, so that nobody can change it in here
        self.spent = False
        self.spent_by: str | None = None


class MemoryTokenStore(TokenStore):
    """Keeps tokens in the memory of the process that created it, and is gone with it.

    For one process. A token issued in one process is unknown in the others, so a store that finds itself in a
    process forked after its construction raises `TokenStoreError`; with several processes use `MongoTokenStore` or
    `RedisTokenStore`. Processes that each construct a store of their own cannot notice.

    Holds at most ``max_tokens`` unexpired tokens, spent and revoked ones included. When it is full it raises
    `TokenStoreError` instead of evicting a live token: nobody can push out another user's. One token takes about
    800 bytes. Expired records are swept a few at a time as new tokens are issued; there is no timer and no thread.

    Every call is made of plain dictionary operations and never awaits: on one event loop it is atomic. Not for use
    from several threads.

    ``max_tokens``: a positive number, 100 000 unless given. ``clock`` returns Unix seconds and is there for tests.
    Raises `ConfigurationError` for options that cannot work.
    """

    def __init__(self, *, max_tokens: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
            raise ConfigurationError(
                f"MemoryTokenStore(max_tokens={max_tokens!r}): must be an int; 100000 is the default"
            )
        if max_tokens <= 0:
            raise ConfigurationError(
                f"MemoryTokenStore(max_tokens={max_tokens}): must be positive; 100000 is the default"
            )
        if not callable(clock):
            raise ConfigurationError(
                f"MemoryTokenStore(clock={clock!r}): must be a function that returns Unix seconds;"
                " time.time is the default"
            )
        self._max_tokens = max_tokens
        self.clock = clock
        # The process that constructs the store owns it. Were it the first to use it, each of the children of
        # fork_processes() would own a store of its own, and tokens would be redeemed by luck.
        self._pid = os.getpid()
        self._entries: dict[str, _Entry] = {}  # token hash -> entry
        self._unspent: dict[str, set[str]] = {}  # user id -> hashes of tokens neither spent, revoked nor swept
        # Expiry and hash of every entry, soonest first. It holds what _entries holds, no more: a revoked entry
        # stays until its expiry, else issuing and revoking in turn would grow the heap without bound.
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return the number of records held: unspent, spent and revoked tokens not swept yet."""
        return len(self._entries)

    async def start(self) -> None:
        """Check that this is the process the store was created in. Raises `TokenStoreError` if it is not."""
        self._check_process()

    async def issue(
        self,
        user_id: str,
        ttl: float,
        *,
        context: Mapping[str, Any] | None = None,
        max_live: int | None = None,
    ) -> str:
        """Create a token; see `TokenStore.issue`. Raises `TokenStoreError` when ``max_tokens`` are unexpired."""
        self._check_process()
        now = self.clock()
        self._sweep(now)
        if max_live is not None and self._has_live(user_id, max_live, now):
            raise TokenLimitReached(f"the user already holds {max_live} live tokens")
        if len(self._entries) >= self._max_tokens:
            raise TokenStoreError(
                f"MemoryTokenStore is full: {self._max_tokens} tokens have not expired yet;"
                " raise max_tokens or shorten token_ttl"
            )
        token = new_token()
        key = hash_token(token)
        expires_at = now + ttl
        self._entries[key] = _Entry(user_id, now, expires_at, None if context is None else json.dumps(context))
        heapq.heappush(self._expiries, (expires_at, key))
        keys = self._unspent.get(user_id)
        if keys is None:
            self._unspent[user_id] = {key}
        else:
            keys.add(key)
        return token

    async def redeem(self, token: str, *, consume: bool = True, spender: str | None = None) -> TokenRecord:
        """Spend ``token`` and return its record; see `TokenStore.redeem`."""
        self._check_process()
        key = hash_token(token)
        entry = self._entries.get(key)
        if entry is None or entry.user_id is None:
            raise TokenRejected("unknown")
        if entry.expires_at <= self.clock():
            raise TokenRejected("expired", entry.user_id)
        if entry.spent:
            raise TokenRejected("replayed", entry.user_id, entry.spent_by)
        if consume:
            entry.spent = True
            entry.spent_by = spender
            self._forget_unspent(entry.user_id, key)
        context = None if entry.context is None else json.loads(entry.context)
        return TokenRecord(entry.user_id, entry.created_at, entry.expires_at, context)

    async def revoke_user(self, user_id: str) -> int:
        """Make the user's live tokens unknown and return their number; see `TokenStore.revoke_user`."""
        self._check_process()
        now = self.clock()
        revoked = 0
        for key in self._unspent.pop(user_id, ()):
            entry = self._entries[key]
            if entry.expires_at > now:
                entry.user_id = entry.context = None
                revoked += 1
        return revoked

    def _check_process(self) -> None:
        pid = os.getpid()
        if pid != self._pid:
            raise TokenStoreError(
                f"MemoryTokenStore was created in process {self._pid} and is used in process {pid}: a token issued"
                " in one process is unknown in another. Use MongoTokenStore when several processes serve; when only"
                " this one does, create the store after the fork"
            )

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEPT_PER_ISSUE):
            if not self._expiries or self._expiries[0][0] > now:
                return
            _, key = heapq.heappop(self._expiries)
            entry = self._entries.pop(key)
            if entry.user_id is not None and not entry.spent:
                self._forget_unspent(entry.user_id, key)

    def _has_live(self, user_id: str, number: int, now: float) -> bool:
        """Say whether the user holds ``number`` live tokens. Each expired one is looked at once at most."""
        keys = self._unspent.get(user_id, ())
        if len(keys) < number:
            return False
        live = 0
        expired = []
        for key in keys:
            if self._entries[key].expires_at <= now:
                expired.append(key)
                continue
            live += 1
            if live == number:
                break
        for key in expired:
            self._forget_unspent(user_id, key)
        return live >= number

    def _forget_unspent(self, user_id: str, key: str) -> None:
        # The key may be gone: _has_live() and revoke_user() take expired ones out before the sweep reaches them.
        keys = self._unspent.get(user_id)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._unspent[user_id]
