"""What a token store promises. ``tests/contracts/token_store.py`` holds every store to it.

The token route issues, the handshake redeems; a store never sees a connection. Stores import ``tokens`` and
``errors`` only, and each database driver stays inside the one module named after it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from tornado_wsauth.tokens import TokenRecord


class TokenStore(abc.ABC):
    """Where connection tokens wait between the HTTP route and the WebSocket handshake.

    Promises of every store:

    * **Single use is atomic.** However many ``redeem(token)`` calls race, in however many processes, at most one
      returns; the others raise `TokenRejected` with the reason ``replayed``.
    * **A token lives exactly its TTL**, measured on the store's own clock: one that has expired is rejected even
      while its record still waits to be swept.
    * **Only the SHA-256 of a token is kept.** A dump of the store opens no connection.
    * **A spent token is remembered until its expiry**, so that a second use is told apart from a guess.
    * **No answer is never a yes.** When the store cannot answer in time it raises `TokenStoreError`.
    """

    async def start(self) -> None:  # noqa: B027 - not abstract: most stores have nothing to prepare
        """Prepare the store: create indexes, check the server. Safe to call more than once.

        Raises `TokenStoreError` when the store cannot be reached. The default does nothing.
        """

    @abc.abstractmethod
    async def issue(
        self,
        user_id: str,
        ttl: float,
        *,
        context: Mapping[str, Any] | None = None,
        max_live: int | None = None,
    ) -> str:
        """Create a token for ``user_id`` that can be redeemed for ``ttl`` seconds, and return it.

        ``context`` is stored beside it and comes back in the `TokenRecord`; it must be JSON-compatible. With
        ``max_live``, raises `TokenLimitReached` rather than let the user hold more unspent, unexpired tokens than
        that; the limit is never exceeded, though racing calls may be refused a little early. Raises
        `TokenStoreError` when the store cannot answer or is full.
        """

    @abc.abstractmethod
    async def redeem(self, token: str, *, consume: bool = True, spender: str | None = None) -> TokenRecord:
        """Spend ``token`` and return its record.

        With ``consume=False`` the token stays unspent and can be redeemed again until it expires. ``spender`` is the
        address of whoever spends it; of a replayed token, `TokenRejected.spent_by` then says who was first. A store
        whose ``redeem`` does not take it is not given it.

        Raises `TokenRejected`: ``unknown`` (never issued, revoked, or long expired), ``expired``, or ``replayed``
        (already spent, and not yet past its expiry). Raises `TokenStoreError` when the store cannot answer; the
        token may then have been spent, and the client needs a new one.
        """

    @abc.abstractmethod
    async def revoke_user(self, user_id: str) -> int:
        """Make every live (unspent, unexpired) token of ``user_id`` unknown and return how many there were.

        Raises `TokenStoreError` when the store cannot answer.
        """
