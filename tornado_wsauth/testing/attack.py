"""What an attack is. `credential_attacks` and `frame_attacks` have them, `attacks` lists them all.

An attack gets an `Intruder` and nothing else: it knows the wire, the credentials of one user, and no more. It raises
`GateBreach` when it is given anything but what it is entitled to: a data frame before its JWT was accepted, a wrong
status or close code, or no refusal at all. Where the WebSocket protocol itself is broken, any end will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tornado_wsauth.testing.target import GateBreach, Intruder, Target

CONTINUATION = 0x0
BAD_MESSAGE, UNAUTHORIZED, FORBIDDEN, TOO_BIG, TRY_AGAIN_LATER = 4400, 4401, 4403, 1009, 1013

Run = Callable[[Intruder], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """One attack: ``summary`` says in a sentence what it does and what must come of it."""

    name: str
    summary: str
    run: Run
    needs: str | None = None
    """The attribute of a `Target` without which the attack cannot be made."""

    def possible(self, target: Target) -> bool:
        """Say whether ``target`` has what the attack needs."""
        return self.needs is None or bool(getattr(target, self.needs))

    async def launch(self, target: Target) -> None:
        """Attack ``target``. Raises `GateBreach`, with the attack's name, unless all came as it must."""
        try:
            async with asyncio.timeout(target.patience), Intruder(target) as intruder:
                await self.run(intruder)
        except GateBreach as breach:
            raise GateBreach(f"{self.name}: {breach}") from breach
        except TimeoutError:
            raise GateBreach(f"{self.name}: what must come did not come within {target.patience} s") from None
        except (OSError, ValueError) as error:
            raise GateBreach(f"{self.name}: the server's answer made no sense: {error!r}") from error


def attack(attacks: list[Attack], *, needs: str | None = None) -> Callable[[Run], Run]:
    """Add the decorated function to ``attacks``, under its own name and docstring."""

    def add(run: Run) -> Run:
        attacks.append(Attack(run.__name__, (run.__doc__ or "").strip(), run, needs))
        return run

    return add


async def named(name: str, outcome: Awaitable[None]) -> None:
    """Wait for ``outcome``; a breach says that it was the one of ``name``."""
    try:
        await outcome
    except GateBreach as breach:
        raise GateBreach(f"{name}: {breach}") from breach
