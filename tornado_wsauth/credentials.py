"""What a client shows: connection tokens, which are issued and redeemed here, and JWTs.

`auth` is the only module that imports it; `token_handler`, `handshake`, `guard` and applications find these methods on
their `WSAuth`.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tornado_wsauth.binding import KEY as BOUND_TO
from tornado_wsauth.binding import Bond
from tornado_wsauth.errors import AuthError, TokenRejected, TokenStoreError
from tornado_wsauth.log import logger
from tornado_wsauth.observer import Observer, timed
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.tokens import TokenRecord, TokenReplay, as_user_id, new_token
from tornado_wsauth.verifier import JWTVerifier


class Credentials(abc.ABC):
    """The half of `WSAuth` that is about who somebody is."""

    jwt: JWTVerifier
    tokens: TokenStore
    token_ttl: float
    single_use: bool
    max_tokens_per_user: int
    bind_tokens: frozenset[Bond]
    on_replay: Callable[[TokenReplay], object] | None
    metrics: Observer | None
    _background: set[asyncio.Future[Any]]

    @abc.abstractmethod
    async def start(self) -> None:
        """Prepare the token store."""

    async def issue_token(
        self,
        user_id: str | bytes | int,
        *,
        context: Mapping[str, Any] | None = None,
        bound_to: Mapping[str, str | None] | None = None,
    ) -> str:
        """Return a new connection token for ``user_id``, the id that the user's JWTs carry.

        With ``bind_tokens``, ``bound_to`` says for which origin, path or address it is good (None: no ``Origin``).

        Raises `ValueError` for what is no user id and for a ``bound_to`` that is not all of ``bind_tokens``,
        `TokenLimitReached` when the user holds ``max_tokens_per_user`` live tokens, `TokenStoreError` when the store
        cannot answer.
        """
        user = as_user_id(user_id)
        if (bound_to or {}).keys() != self.bind_tokens:
            wanted = dict.fromkeys(sorted(self.bind_tokens), "…")
            raise ValueError(f"issue_token(bound_to={bound_to!r}): bind_tokens wants {wanted or None}")
        if bound_to:
            context = {**(context or {}), BOUND_TO: dict(bound_to)}
        await self.start()
        issuing = self.tokens.issue(user, self.token_ttl, context=context, max_live=self.max_tokens_per_user)
        token = await timed(self.metrics, "store", "issue", issuing)
        if self.metrics is not None:
            self.metrics.token_issued()
        return token

    async def redeem_token(self, token: str, *, spender: str | None = None) -> TokenRecord:
        """Spend ``token`` as ``single_use`` says; raises `TokenRejected` or `TokenStoreError`.

        ``spender`` is the address of whoever does.
        """
        await self.start()
        redeem = self.tokens.redeem
        if _takes_spender(getattr(redeem, "__func__", redeem)):
            record = await self._redeem("redeem", redeem(token, consume=self.single_use, spender=spender))
        else:
            record = await self._redeem("redeem", redeem(token, consume=self.single_use))
        if self.metrics is not None:
            self.metrics.token_redeemed("accepted")
        return record

    async def look_at_token(self, token: str) -> TokenRecord:
        """Return what the store knows of ``token`` without spending it; raises what `redeem_token` does."""
        await self.start()
        return await self._redeem("look", self.tokens.redeem(token, consume=False))

    async def _redeem(self, operation: str, redeeming: Awaitable[TokenRecord]) -> TokenRecord:
        if self.metrics is None:
            return await redeeming
        try:
            return await timed(self.metrics, "store", operation, redeeming)
        except TokenRejected as rejected:
            self.metrics.token_redeemed(rejected.reason)
            raise
        except TokenStoreError:
            self.metrics.token_redeemed("error")
            raise

    async def check_store(self) -> None:
        """Ask the token store something that it must be able to answer. Raises `TokenStoreError` if it cannot."""
        await self.start()
        with contextlib.suppress(TokenRejected):
            await timed(self.metrics, "store", "check", self.tokens.redeem(new_token(), consume=False))

    async def revoke_tokens(self, user_id: str | bytes | int) -> int:
        """Make the connection tokens worthless that ``user_id`` has not used yet; return how many there were.

        Raises `ValueError` for what is no user id, and `TokenStoreError` when the store cannot answer.
        """
        user = as_user_id(user_id)
        await self.start()
        return await timed(self.metrics, "store", "revoke", self.tokens.revoke_user(user))

    def replayed(self, replay: TokenReplay) -> None:
        """Tell the application of a token that was used again. What the hook raises is logged."""
        hook = self.on_replay
        if hook is None:
            return

        async def tell() -> None:
            try:
                result = hook(replay)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("on_replay() failed for user=%r", replay.user_id)

        # In the background: the thief's answer must not take longer than that of somebody who guesses.
        task = asyncio.get_running_loop().create_task(tell())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def verify_jwt(self, jwt: str) -> tuple[str, dict[str, Any]]:
        """Return the user id and the claims of ``jwt``; raises `AuthError`, or `KeySourceError` without keys."""
        claims = await self.jwt.verify(jwt)
        try:
            return as_user_id(claims[self.jwt.user_claim]), claims
        except (KeyError, ValueError) as error:
            raise AuthError("jwt_invalid", f"its {self.jwt.user_claim!r} claim is not a user id") from error


@functools.lru_cache
def _takes_spender(redeem: Callable[..., Any]) -> bool:
    """Say whether a store's ``redeem`` knows of spenders: one written for an application may not."""
    parameters = inspect.signature(redeem).parameters.values()
    return any(parameter.name == "spender" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
