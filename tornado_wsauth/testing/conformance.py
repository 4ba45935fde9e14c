"""`assert_gate_holds`: every attack there is, thrown at a handler of yours. For the tests of applications."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

from tornado_wsauth.testing.attacks import ATTACKS
from tornado_wsauth.testing.client import CLOSE, PING, PONG, TEXT, frame
from tornado_wsauth.testing.target import GateBreach, Intruder, Line, Target


async def assert_gate_holds(
    url: str,
    *,
    new_token: Callable[[], Awaitable[str]],
    make_jwt: Callable[[], str],
    other_jwt: Callable[[], str] | None = None,
    expired_jwt: Callable[[], str] | None = None,
    exchange: tuple[str, str] | None = None,
    token_param: str = "token",
    max_preauth_bytes: int = 16384,
    single_use: bool = True,
    foreign_origin: str | None = "https://foreign.example",
    headers: Mapping[str, str] | None = None,
    patience: float = 10.0,
) -> list[str]:
    """Throw every attack at the handler at ``url``, beside an honest client that must notice nothing.

    The server may run in this event loop or anywhere else. One attack follows the other, each over raw connections,
    a few hundred in all; none of them waits for a deadline. ::

        await assert_gate_holds(
            f"ws://127.0.0.1:{port}/ws/chat",
            new_token=lambda: auth.issue_token("alice"),
            make_jwt=lambda: jwt.encode({"sub": "alice", "exp": time.time() + 60}, SECRET),
            exchange=("hello", "echo: hello"),
        )

    :param url: where the handler listens, ``ws://`` or ``wss://``.
    :param new_token: returns a fresh connection token of one user, always the same. It is asked for a few hundred,
        and up to six wait unspent at a time; all of them, if ``single_use`` is False: see `WSAuth`'s
        ``max_tokens_per_user``.
    :param make_jwt: returns a JWT that is valid for this user.
    :param other_jwt: returns a JWT that is valid for another user; without it, the attack with one is left out.
    :param expired_jwt: returns a JWT of this user that was valid once; without it, the attack with one is left out.
    :param exchange: a text message that the handler answers, and the one text message that is its answer. With it,
        the honest client's round trip is checked, and that no message is handled twice; without, pings alone are.
    :param token_param: `WSAuth`'s option of that name.
    :param max_preauth_bytes: `WSAuth`'s option of that name, in bytes; at least 1000.
    :param single_use: `WSAuth`'s option of that name; if False, the attacks with a spent token are left out.
    :param foreign_origin: an ``Origin`` that must be refused; None where any is welcome.
    :param headers: what every upgrade request carries beside its own, such as an ``Origin`` that is allowed.
    :param patience: how long an attack may take, in seconds.

    Returns the names of the attacks that were made. Raises `GateBreach`, an `AssertionError`, that says which attack
    did what; `ValueError` for a ``max_preauth_bytes`` too small to attack with; `OSError` when nobody listens.
    """
    if max_preauth_bytes < 1000:
        raise ValueError(f"assert_gate_holds(max_preauth_bytes={max_preauth_bytes}): must be at least 1000")
    target = Target(
        url=url,
        new_token=new_token,
        make_jwt=make_jwt,
        other_jwt=other_jwt,
        expired_jwt=expired_jwt,
        exchange=exchange,
        token_param=token_param,
        max_preauth_bytes=max_preauth_bytes,
        single_use=single_use,
        foreign_origin=foreign_origin,
        headers=headers or {},
        patience=patience,
    )
    made = []
    async with Bystander(target) as bystander:
        await bystander.notices_nothing("no attack yet")
        for attack in ATTACKS:
            if attack.possible(target):
                await attack.launch(target)
                await bystander.notices_nothing(attack.name)
                made.append(attack.name)
    return made


class Bystander:
    """An honest client, authenticated and served while others attack: ``async with Bystander(target) as bystander``.

    Raises `GateBreach` when it is not let in, or not served any more.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._intruder = Intruder(target)
        self._line: Line | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self.target.patience):
                self._line = await self._intruder.upgraded()
                self._line.send(self.target.first_message())
                await self._line.let_in()
        except BaseException as error:
            await self._intruder.__aexit__()
            if isinstance(error, GateBreach):
                raise GateBreach(f"the honest client: {error}") from error
            if isinstance(error, TimeoutError):
                raise GateBreach("the honest client was not let in") from None
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._intruder.__aexit__(*exc_info)

    async def notices_nothing(self, after: str) -> None:
        """Make one round trip: the message of the ``exchange``, if there is one, and a ping."""
        try:
            async with asyncio.timeout(self.target.patience):
                await self._round_trip()
        except GateBreach as breach:
            raise GateBreach(f"{after}: the honest client beside it noticed: {breach}") from breach
        except TimeoutError:
            raise GateBreach(f"{after}: the honest client beside it is not served any more") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise GateBreach(f"{after}: the honest client beside it was cut off: {error!r}") from error

    async def _round_trip(self) -> None:
        line, exchange, marker = self._line, self.target.exchange, os.urandom(8)
        assert line is not None
        answers = 0
        answered = exchange is None
        if exchange is not None:
            line.send(self.target.message())
        else:
            line.send(frame(marker, PING))
        while True:
            opcode, payload = await line.client.read_frame()
            if opcode == CLOSE:
                raise GateBreach(f"it was closed: {payload!r}")
            if opcode == PING:
                line.send(frame(payload, PONG))
            if exchange is not None and (opcode, payload) == (TEXT, exchange[1].encode()):
                answers += 1
                if not answered:
                    answered = True
                    line.send(frame(marker, PING))
            if (opcode, payload) == (PONG, marker):
                break
        if exchange is not None and answers != 1:
            raise GateBreach(f"its message was answered {answers} times")
