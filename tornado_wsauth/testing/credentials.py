"""Credentials for the tests of an application that verifies with keys its tests do not have: an identity provider's.

`testing` gives `Credentials` to users; `connection`, `case` and the pytest fixtures take JWTs and tokens from it.
"""

from __future__ import annotations

import secrets
import time
from types import TracebackType
from typing import Any, Self

import jwt

from tornado_wsauth.auth import WSAuth


class Credentials:
    """JWTs and connection tokens that ``auth`` accepts, whatever key it was made with.

    From here on, and until `restore` or the end of a ``with`` block, ``auth.jwt`` verifies with a random secret of
    this object's, and no JWT signed with the application's own key is accepted. Everything else about the verifier
    stays: its class, audience, issuer, leeway, user claim and clock. A verifier that was left on the system's clock
    follows ``auth.clock``, so that both show the same time when that is a `ManualClock`.
    """

    def __init__(self, auth: WSAuth) -> None:
        self.auth = auth
        """Whose credentials these are."""
        self._secret = secrets.token_bytes(32)
        self._original = auth.jwt
        self._verifier = auth.jwt.with_key(self._secret, ["HS256"])
        if self._verifier.clock is time.time:
            self._verifier.clock = lambda: auth.clock.time()  # asked anew each time: it may be replaced
        auth.jwt = self._verifier

    def jwt(self, user: str = "alice", *, expires_in: float = 600, **claims: Any) -> str:
        """Return a JWT of ``user`` that is accepted for ``expires_in`` seconds from now, rounded down to a whole one.

        ``now`` is what the verifier's clock shows; a negative ``expires_in`` makes a JWT that has expired. ``claims``
        are added and win over those made here (the user claim, ``exp``, and ``aud`` and ``iss`` where the verifier
        asks for them); a claim given as None is left out.
        """
        verifier = self._verifier
        made: dict[str, Any] = {verifier.user_claim: user, "exp": int(verifier.clock() + expires_in)}
        for name, accepted in (("aud", verifier.audience), ("iss", verifier.issuer)):
            if accepted is not None:
                made[name] = min(accepted)  # any will do; always the same one
        payload = {name: value for name, value in {**made, **claims}.items() if value is not None}
        return jwt.encode(payload, self._secret, algorithm="HS256")

    async def token(self, user: str = "alice") -> str:
        """Return a new connection token for ``user``; raises as `WSAuth.issue_token` does."""
        return await self.auth.issue_token(user)

    def restore(self) -> None:
        """Give ``auth`` its own verifier back, unless somebody has put another in place since."""
        if self.auth.jwt is self._verifier:
            self.auth.jwt = self._original

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()
