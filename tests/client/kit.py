"""What the tests of the client share: time and chance in the test's hands, a client that takes notes, odd servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar

from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from tests.support import Echo, Server, make_jwt
from tornado_wsauth.backoff import Seams
from tornado_wsauth.client import Close, Connection, connect


class ManualSeams(Seams):
    """Chance gives the limit, always. No deadline passes but by `expire`; a pause is over at once, or by `release`."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        """What the backoff drew from: the upper limit, in seconds."""
        self.pauses: list[float] = []
        self.deadlines: list[asyncio.Timeout] = []
        self.holds_pauses = False
        self.released = asyncio.Event()

    def uniform(self, limit: float) -> float:
        self.limits.append(limit)
        return limit

    def timeout(self, seconds: float) -> asyncio.Timeout:
        self.deadlines.append(asyncio.timeout(None))
        return self.deadlines[-1]

    def expire(self) -> None:
        """Let the deadline pass that was set last."""
        self.deadlines[-1].reschedule(0)

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        self.pauses.append(seconds)
        if not self.holds_pauses:
            return await asyncio.sleep(0)
        waits = [asyncio.ensure_future(woken.wait()), asyncio.ensure_future(self.released.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            self.released.clear()


class QuickPauses(Seams):
    """Real deadlines, and no waits between attempts."""

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        await asyncio.sleep(0)


class Client:
    """A connection to ``server``, and notes of all that happened to it. ``connection`` has not begun yet."""

    def __init__(self, server: Server, path: str = "/ws", user: str = "alice", **options: Any) -> None:
        self.server, self.user = server, user
        self.seams = ManualSeams()
        self.jwts: list[str] = []
        self.tokens: list[str] = []
        self.closes: list[Close] = []
        self.states: list[str] = []
        self.steps: list[str] = []
        options.setdefault("jwt", self.jwt)
        if "token_url" not in options:
            options.setdefault("get_token", self.token)
        self.connection: Connection = connect(
            f"ws://127.0.0.1:{server.port}{path}",
            on_close=options.pop("on_close", self.closes.append),
            on_state=options.pop("on_state", self.states.append),
            on_step=options.pop("on_step", self.steps.append),
            _seams=options.pop("_seams", self.seams),
            **options,
        )

    def jwt(self) -> str:
        self.jwts.append(make_jwt(self.user, number=len(self.jwts)))
        return self.jwts[-1]

    async def token(self, jwt: str) -> str:
        assert jwt == self.jwts[-1] if self.jwts else True
        auth = self.server.auth
        assert auth is not None
        self.tokens.append(await auth.issue_token(self.user))
        return self.tokens[-1]

    @property
    def ends(self) -> list[tuple[int | None, str, str]]:
        return [(close.code, close.reason, close.reaction) for close in self.closes]


class Obedient(Echo):
    """Closes as it is told: ``close 4408 auth_timeout``."""

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            self.close(int(code), reason or None)
        else:
            super().on_message(message)


class Scripted(WebSocketHandler):
    """A server of another make, that does to each connection's first message what the next line of ``script`` says.

    ``ok`` answers ``auth_ok`` (``ok bob`` for another user), ``close 4401 jwt_invalid`` closes, ``say …`` sends,
    ``cut`` breaks the connection, ``hang`` does nothing. Further messages are ``heard``.
    """

    script: ClassVar[list[str]]
    heard: ClassVar[list[Any]]
    arguments: ClassVar[list[dict[str, list[bytes]]]]
    live: ClassVar[list[Scripted]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.script, cls.heard, cls.arguments, cls.live = [], [], [], []

    def open(self, *args: str, **kwargs: str) -> None:
        self.arguments.append(dict(self.request.query_arguments))
        self.live.append(self)
        self.is_first = True
        if self.script and self.script[0].startswith("greet "):
            self.write_message(self.script.pop(0).removeprefix("greet "))

    def on_message(self, message: str | bytes) -> None:
        self.heard.append(message)
        if self.is_first:
            self.is_first = False
            self.do(self.script.pop(0) if self.script else "ok")

    def do(self, what: str) -> None:
        verb, _, rest = what.partition(" ")
        if verb == "ok":
            self.write_message({"type": "auth_ok", "user_id": rest or "alice", "expires_at": 2_000_000_000})
        elif verb == "close":
            code, _, reason = rest.partition(" ")
            self.close(int(code), reason or None)
        elif verb == "say":
            self.write_message(rest)
        elif verb == "cut":
            self.ws_connection.stream.close()  # type: ignore[union-attr]


class Answering(RequestHandler):
    """Answers each request with the next of ``answers``, a status with headers and body; the last one stays.

    A ``None`` never comes to an end, until ``release`` is set.
    """

    answers: ClassVar[list[tuple[int, dict[str, str], Any] | None]]
    asked: ClassVar[list[dict[str, str]]]
    release: ClassVar[asyncio.Event]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.answers, cls.asked, cls.release = [], [], asyncio.Event()

    def check_xsrf_cookie(self) -> None:
        pass

    async def answer(self) -> None:
        self.asked.append(dict(self.request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await self.release.wait()
            return
        status, headers, body = answer
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(body if isinstance(body, str) else json.dumps(body))

    async def get(self) -> None:
        await self.answer()

    async def post(self) -> None:
        await self.answer()


async def never(*args: Any) -> str:
    """Hang, as a function that fetches a JWT or a token."""
    await asyncio.Event().wait()
    raise AssertionError


def hanging_steps(server: Server) -> dict[str, dict[str, Any]]:
    """Return, for each step, the options with which it hangs at a server whose ``/hang`` and ``/other`` do."""
    return {
        "jwt": {"jwt": never},
        "token": {"get_token": never},
        "token_url": {"token_url": f"{server.url}/hang"},
        "upgrade": {"path": "/hang"},
        "authenticate": {"path": "/other"},
    }


async def receive(connection: Connection, number: int) -> list[str | bytes]:
    return [await connection.recv() for _ in range(number)]


ClientFactory = Callable[..., Client]
