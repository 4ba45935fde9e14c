"""The soak's hostile clients: a few per cent, all the time, each trying something that must not work.

What must never be seen is the ledger's business. Here, each attack says what came of it, and complains when the
server lets somebody off whom it should have thrown out. ``soak`` starts them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.soak_ledger import WHILE_FAULTY, Ledger
from benchmarks.soak_server import BULK
from benchmarks.soak_sockets import PING, TIMEOUT, Login, Refused, Server, Socket, connect

MANY = 200  # upgrades in a large race
LET_OFF = "hostile client let off"
PAUSE_SECONDS = 3.0  # on average, between two attacks of one attacker
GARBAGE = (
    b"",
    b"{}",
    b"[1]",
    b"hello",
    b'{"type":"jwt"}',
    b'{"type":"jwt","token":7}',
    b"{" * 5000,
    b'{"type":"auth_ok"}',
)


class Thwarted(Exception):
    """The attack did not get as far as it should: a fault is in its way."""


class Attackers:
    """All hostile clients."""

    def __init__(self, servers: Sequence[Server], login: Login, ledger: Ledger, seed: int, count: int) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """How often each attack ended how."""
        self._servers = servers
        self._login = login
        self._ledger = ledger
        self._random = random.Random(seed)
        self._count = count
        self._users = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: set[Socket] = set()
        self._attacks = {
            "race for one token": self._race,
            "spent token again": self._replay,
            "another user's JWT": self._foreign_jwt,
            "another user's JWT, later": self._foreign_refresh,
            "no JWT at all": self._silence,
            "garbage for a JWT": self._garbage,
            "messages before the JWT": self._early,
            "flood of pings": self._pings,
            "stalled reader": self._stall,
            "half-open": self._half_open,
        }

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._attack_for_ever()) for _ in range(self._count)]

    def check(self) -> None:
        """Raise what went wrong in an attacker: that is a mistake in here."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in self._sockets:
            socket.reset()

    async def _attack_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / PAUSE_SECONDS))
            name = self._random.choice([*self._attacks])
            try:
                outcome = await self._attacks[name]()
            except (OSError, TimeoutError, Refused, Thwarted):
                outcome = "a fault in between"
            self.outcomes[name, outcome] += 1

    # Steps --------------------------------------------------------------------------------------------------------

    def _user(self) -> str:
        self._users += 1
        return f"mallory-{self._users}"

    async def _token(self, user: str) -> str:
        return await self._login.token(self._random.choice(self._servers), user, self._login.jwt(user, 25))

    async def _try(self, token: str, server: Server | None = None, *, receive_buffer: int = 0) -> tuple[int, Socket]:
        """Ask for an upgrade; return the status and the socket."""
        server = server or self._random.choice(self._servers)
        record = self._ledger.attempt(token, server.name, time.time())
        socket = await connect(server, token, record, receive_buffer=receive_buffer)
        self._sockets.add(socket)
        socket.end.add_done_callback(lambda _: self._sockets.discard(socket))
        try:
            status, _ = await asyncio.wait_for(socket.answer, TIMEOUT)
        except BaseException:
            socket.reset()
            raise
        return status, socket

    async def _open(self, user: str, *, receive_buffer: int = 0) -> Socket:
        """Get as far as the 101. Raises `Thwarted`."""
        status, socket = await self._try(await self._token(user), receive_buffer=receive_buffer)
        if status != 101:
            socket.reset()
            raise Thwarted
        return socket

    async def _enter(self, user: str, *, receive_buffer: int = 0) -> Socket:
        """Get as far as ``auth_ok``. Raises `Thwarted`."""
        socket = await self._open(user, receive_buffer=receive_buffer)
        socket.record.sent_jwt(user)
        socket.send_jwt(self._login.jwt(user, 25))
        await self._hear(socket, "auth_ok")
        return socket

    async def _hear(self, socket: Socket, expected: str) -> None:
        """Wait for a message. Raises `Thwarted` when the connection ends instead."""
        came = asyncio.get_running_loop().create_future()
        socket.heard = lambda word: came.set_result(None) if word == expected and not came.done() else None
        await asyncio.wait({came, socket.end}, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not came.done():
            socket.reset()
            raise Thwarted

    async def _thrown_out(self, socket: Socket, *expected: int) -> str:
        """Wait to be closed with one of the codes that are ``expected``; anything else is a breach."""
        try:
            end = await asyncio.wait_for(asyncio.shield(socket.end), 2 * TIMEOUT)
        except TimeoutError:
            self._ledger.breach(LET_OFF, f"{socket.record.user} on {socket.record.server}: not closed at all")
            return "not closed"
        finally:
            socket.reset()
        if end.code not in (1006, *expected, *WHILE_FAULTY):
            self._ledger.breach(LET_OFF, f"{socket.record.user}: closed {end.code} {end.reason}, not {expected}")
        return f"closed {end.code} {end.reason}".strip()

    # Attacks ------------------------------------------------------------------------------------------------------

    async def _race(self) -> str:
        token = await self._token(self._user())
        count = MANY if self._random.random() < 0.1 else 10
        tries = (self._try(token, self._servers[number % 2]) for number in range(count))
        results = await asyncio.gather(*tries, return_exceptions=True)
        statuses = []
        for result in results:
            if not isinstance(result, BaseException):
                result[1].reset()
            elif not isinstance(result, (OSError, TimeoutError)):
                raise result
            statuses.append(0 if isinstance(result, BaseException) else result[0])
        self._ledger.raced(statuses)
        seen = sorted(set(statuses) - {101})
        return f"{count} at once: {statuses.count(101)} × 101, else {', '.join(str(s or 'nothing') for s in seen)}"

    async def _replay(self) -> str:
        token = await self._token(self._user())
        status, socket = await self._try(token)
        await asyncio.sleep(self._random.uniform(0, 3))
        again = [await self._try(token, server) for server in self._servers]
        for _, other in again:
            other.reset()
        socket.reset()
        return f"{status}, then {' and '.join(str(status or 'nothing') for status, _ in again)}"

    async def _foreign_jwt(self) -> str:
        socket = await self._open(self._user())
        other = self._user()
        socket.record.sent_jwt(other)
        socket.send_jwt(self._login.jwt(other, 25))
        return await self._thrown_out(socket, 4403)

    async def _foreign_refresh(self) -> str:
        socket = await self._enter(self._user())
        socket.send_jwt(self._login.jwt(self._user(), 25))
        return await self._thrown_out(socket, 4403)

    async def _silence(self) -> str:
        return await self._thrown_out(await self._open(self._user()), 4408)

    async def _garbage(self) -> str:
        socket = await self._open(self._user())
        if self._random.random() < 0.3:
            socket.send_jwt("e30.e30.e30")
            return await self._thrown_out(socket, 4401)
        socket.send(self._random.choice(GARBAGE))
        return await self._thrown_out(socket, 4400)

    async def _early(self) -> str:
        socket = await self._open(self._user())
        for _ in range(20):
            socket.send(b"e 1")
        socket.send(b"join g0")
        return await self._thrown_out(socket, 4400)

    async def _pings(self) -> str:
        user = self._user()
        socket = await self._open(user)
        for _ in range(500):
            socket.send(b"p" * 100, PING)
        socket.record.sent_jwt(user)
        socket.send_jwt(self._login.jwt(user, 25))
        for _ in range(500):
            socket.send(b"p" * 100, PING)
        socket.send_echo()
        await self._hear(socket, "e")
        socket.reset()
        return "served like others"

    async def _stall(self) -> str:
        socket = await self._enter(self._user(), receive_buffer=4096)
        socket.send(f"join {BULK}".encode())
        await self._hear(socket, "joined")
        return await self._read_nothing(socket, 20)

    async def _half_open(self) -> str:
        return await self._read_nothing(await self._enter(self._user()), 40)

    async def _read_nothing(self, socket: Socket, seconds: float) -> str:
        """Read nothing, not even pings, then look what is left of the connection."""
        socket.record.stalled = True
        if socket.transport is not None:
            socket.transport.pause_reading()
        await asyncio.sleep(seconds)
        if socket.transport is not None:
            socket.transport.resume_reading()
        return await self._thrown_out(socket, 1013, 4401, 1000)  # that is Tornado's for "ping timed out"
