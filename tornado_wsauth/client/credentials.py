"""A JWT and a token for each attempt: asked for afresh, never kept, and not for longer than ``timeout``."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from tornado_wsauth.backoff import Seams
from tornado_wsauth.client.errors import Failed, TimedOut
from tornado_wsauth.errors import ConfigurationError, WSAuthError
from tornado_wsauth.tokens import hash_token

GetJWT = Callable[[], str | Awaitable[str]]
GetToken = Callable[[str], str | Awaitable[str]]

_REMEMBERED = 100  # hashes of spent tokens, to recognise one that comes again
_CREDENTIAL = re.compile(r"[\x21-\x7e]+")  # what a header takes unchanged


class Credentials:
    """Where the credentials come from, until they are forgotten. Its repr shows nothing of them."""

    def __init__(self, jwt: str | GetJWT, get_token: GetToken, timeout: float, seams: Seams) -> None:
        self._jwt: str | GetJWT | None = _checked_jwt(jwt)
        self._get_token: GetToken | None = get_token
        self._timeout = timeout
        self._seams = seams
        self._spent: deque[str] = deque(maxlen=_REMEMBERED)
        self.can_renew: bool = not isinstance(jwt, str)
        """Whether another JWT can be had than the first one."""

    async def jwt(self) -> str:
        """Return a fresh JWT. Raises `Failed`."""
        source = self._jwt
        return await self._ask("jwt_unavailable", (lambda: source) if isinstance(source, str) else source)

    async def token(self, jwt: str) -> str:
        """Return a token that was never returned before. Raises `Failed`."""
        get_token = self._get_token
        token = await self._ask("token_unavailable", None if get_token is None else lambda: get_token(jwt))
        fingerprint = hash_token(token)
        if fingerprint in self._spent:
            raise Failed(None, "spent_token")
        self._spent.append(fingerprint)
        return token

    def forget(self) -> None:
        """Let go of everything a credential could be had from."""
        self._jwt = self._get_token = None
        self._spent.clear()

    async def _ask(self, reason: str, question: Callable[[], Any] | None) -> str:
        error: BaseException
        try:
            async with self._seams.timeout(self._timeout) as deadline:
                answer = question() if question is not None else None
                return _checked(await answer if inspect.isawaitable(answer) else answer)
        except TimeoutError as raised:
            error = TimedOut(f"it took longer than {self._timeout:g} s") if deadline.expired() else raised
        except asyncio.CancelledError as raised:
            if _is_cancelled():
                raise
            error = raised  # what was asked gave itself up, and nobody asked us to
        except Exception as raised:
            error = raised
        if isinstance(error, WSAuthError):
            # It says all there is to say, and its traceback leads to frames that have the JWT.
            error.with_traceback(None)
        # Out of the except block, so that the application's exception is no context that a traceback would show.
        raise Failed(None, reason, error)


def _checked(credential: object) -> str:
    if not isinstance(credential, str):
        raise WSAuthError(f"text was expected, and {type(credential).__name__} came")
    if not _CREDENTIAL.fullmatch(credential):
        what = "empty text" if not credential else "text with a line break, a blank or other than ASCII in it"
        raise WSAuthError(f"a JWT or a token was expected, and {what} came")
    return credential


def _checked_jwt(jwt: object) -> Any:
    if callable(jwt):
        return jwt
    try:
        return _checked(jwt)
    except WSAuthError as error:
        raise ConfigurationError(
            f"connect(jwt=…): {error}; write the JWT itself, or a function, sync or async, that returns a fresh one"
        ) from None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
