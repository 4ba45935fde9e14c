"""The soak's honest clients: they do what docs/protocol.md says a client should, for as long as they are left to.

Each gets in, talks, joins a group, renews its JWT when told to (a few do not, on purpose), leaves and comes back.
``soak`` starts them and asks who is waiting to get in.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.soak_ledger import Ledger
from benchmarks.soak_server import GROUPS
from benchmarks.soak_sockets import TIMEOUT, End, Login, Refused, Server, Socket, connect

JWT_SECONDS = 20.0, 40.0
STAY_SECONDS = 90.0  # on average
THINK_SECONDS = 2.5  # on average, between two things that a client does
CAREFREE = 0.1  # of the sessions do not renew their JWT
BACKOFF_FIRST, BACKOFF_MOST = 0.3, 5.0  # seconds
STARTS_A_SECOND = 60


class Swarm:
    """All honest clients, and what they share."""

    def __init__(self, servers: Sequence[Server], login: Login, ledger: Ledger, seed: int, count: int) -> None:
        self.servers = servers
        self.login = login
        self.ledger = ledger
        self.random = random.Random(seed)
        self.clients = [Client(self, number) for number in range(count)]
        self.inside: set[Client] = set()
        """Those who are authenticated."""
        self.ends: Counter[str] = Counter()
        """How connections ended, by code and reason."""
        self.failures: Counter[str] = Counter()
        """Why attempts to get in failed."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ramp_seconds(self) -> float:
        """How long it takes to send everybody on the way."""
        return len(self.clients) / STARTS_A_SECOND

    def start(self) -> None:
        """Send the clients on their way, one after the other."""
        loop = asyncio.get_running_loop()
        for number, client in enumerate(self.clients):
            self._tasks.append(loop.create_task(client.run(number / STARTS_A_SECOND)))

    def check(self) -> None:
        """Raise what went wrong in a client: that is a mistake in here."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def all_back(self, since: float) -> bool:
        """Say whether everybody is in who wanted to be at ``since``."""
        return all(client.waiting_since is None or client.waiting_since > since for client in self.clients)

    async def wait_until_all_back(self, since: float, seconds: float) -> None:
        """Wait for everybody who wanted to be in at ``since``, but not longer than ``seconds`` from then."""
        while time.time() < since + seconds:
            if self.all_back(since):
                return
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Have everybody say goodbye."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(client.socket.close() for client in self.clients if client.socket is not None))

    async def log_out(self) -> str:
        """Have both servers disconnect somebody, and try a token of before; return what came of that."""
        if not self.inside:
            return "nobody there"
        user = self.random.choice([*self.inside]).user
        with contextlib.suppress(OSError, TimeoutError, Refused):
            token = await self.login.token(self.servers[0], user, self.login.jwt(user, 30))
            self.ledger.revoking(user)
            done = await asyncio.gather(*(self._disconnect(server, user) for server in self.servers))
            record = self.ledger.attempt(token, self.servers[1].name, time.time())
            socket = await connect(self.servers[1], token, record)
            status, _ = await asyncio.wait_for(socket.answer, TIMEOUT)
            socket.reset()
            return f"{sum(done)} servers told, the old token: {status or 'no answer'}"
        return "a fault in between"

    async def _disconnect(self, server: Server, user: str) -> bool:
        try:
            answer = await asyncio.wait_for(self.login.post(server, f"/admin/disconnect?user={user}"), TIMEOUT)
        except (OSError, TimeoutError):
            return False
        status, _, said = answer
        if status == 200:
            self.ledger.revoked(user, server.name, said["began"], said["done"], tokens_too=said["tokens_too"])
        return status == 200


class Again(Exception):
    """This attempt failed; ``after`` so many seconds at the earliest, there may be another."""

    def __init__(self, why: str, after: float = 0) -> None:
        super().__init__(why)
        self.after = after


class Client:
    """One person at a browser."""

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.swarm = swarm
        self.number = number
        self.logins = 0
        self.waiting_since: float | None = None
        """Since when it has wanted to be in; None while it is, or is away because it likes to be."""
        self.told = False  # `soak` told of it that it cannot get in
        self.socket: Socket | None = None
        self._refreshes = True

    @property
    def user(self) -> str:
        """Who it is logged in as: another user after each logout."""
        return f"user-{self.number}-{self.logins}"

    async def run(self, delay: float) -> None:
        """Live, until cancelled."""
        await asyncio.sleep(delay)
        while True:
            self.waiting_since = self.waiting_since or time.time()
            await self._get_in()
            self.waiting_since = None
            assert self.socket is not None
            self.swarm.inside.add(self)
            try:
                end = await self._stay(self.socket)
            finally:
                self.swarm.inside.discard(self)
            self.socket = None
            if end is None:
                await asyncio.sleep(self.swarm.random.uniform(0.5, 5))
            else:
                await self._react(end)

    async def _get_in(self) -> None:
        """Try until the server has said ``auth_ok``, with pauses that grow and are left to chance."""
        failures = 0
        while True:
            after = 0.0
            try:
                self.socket = await self._attempt()
                return
            except (Again, Refused) as refused:
                after = refused.after if isinstance(refused, Again) else refused.retry_after
                self.swarm.failures[str(refused)] += 1
            except (OSError, TimeoutError) as error:
                self.swarm.failures[type(error).__name__] += 1
            pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(failures, 8))
            failures += 1
            await asyncio.sleep(max(pause, after) * self.swarm.random.uniform(0.75, 1.25))

    async def _attempt(self) -> Socket:
        """Get a token, connect, send the JWT. Raises `Again`, `Refused`, `OSError` or `TimeoutError`."""
        swarm, user = self.swarm, self.user
        server = swarm.random.choice(swarm.servers)
        user_jwt = swarm.login.jwt(user, swarm.random.uniform(*JWT_SECONDS))
        token = await swarm.login.token(server, user, user_jwt)
        server = swarm.random.choice(swarm.servers)  # not always the one that issued it
        socket = await connect(server, token, swarm.ledger.attempt(token, server.name, time.time(), honest=True))
        try:
            status, retry_after = await asyncio.wait_for(socket.answer, TIMEOUT)
            if status != 101:
                raise Again(f"upgrade {status}", retry_after)
            return await self._authenticate(socket, user_jwt)
        except BaseException:
            socket.reset()
            raise

    async def _authenticate(self, socket: Socket, user_jwt: str) -> Socket:
        accepted = asyncio.get_running_loop().create_future()
        self._refreshes = self.swarm.random.random() >= CAREFREE

        def heard(word: str) -> None:
            if word == "auth_ok" and not accepted.done():
                accepted.set_result(None)
            elif word == "auth_expiring" and self._refreshes:
                socket.record.sent_refresh(time.time())
                socket.send_jwt(self.swarm.login.jwt(self.user, self.swarm.random.uniform(*JWT_SECONDS)))

        socket.heard = heard
        socket.record.sent_jwt(self.user)
        socket.send_jwt(user_jwt)
        if self.swarm.random.random() < 0.3:
            socket.send_echo()  # without waiting, which the protocol allows
        await asyncio.wait({accepted, socket.end}, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if accepted.done():
            return socket
        if not socket.end.done():
            raise Again("no auth_ok")
        end = socket.end.result()
        if end.reason == "revoked":
            self.logins += 1
        raise Again(f"closed {end.code} {end.reason} before auth_ok")

    async def _stay(self, socket: Socket) -> End | None:
        """Talk, until the connection ends or, with None, until there is something better to do."""
        chance = self.swarm.random
        leaves_at = time.time() + chance.expovariate(1 / STAY_SECONDS)
        while time.time() < leaves_at:
            await asyncio.wait({socket.end}, timeout=chance.expovariate(1 / THINK_SECONDS))
            if socket.end.done():
                end = socket.end.result()
                self.swarm.ends[f"{end.code} {end.reason}".strip()] += 1
                return end
            if not socket.record.groups:
                socket.send(f"join {chance.choice(GROUPS)}".encode())
            for _ in range(chance.randint(1, 3)):
                socket.send_echo()
        if chance.random() < 0.5:
            self.swarm.ends["left with a close frame"] += 1
            await socket.close()
        else:
            self.swarm.ends["left by a reset"] += 1
            socket.reset()
        return None

    async def _react(self, end: End) -> None:
        """Do what the close code asks for, before the next attempt."""
        if end.reason == "revoked":  # stop: this login is over; somebody logs in anew
            self.logins += 1
            await asyncio.sleep(self.swarm.random.uniform(1, 5))
            return
        self.waiting_since = time.time()
        if end.reason != "jwt_expired":  # that one needs nothing but new credentials
            await asyncio.sleep(self.swarm.random.uniform(0, 2))
