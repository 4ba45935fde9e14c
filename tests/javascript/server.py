"""The real servers that Vitest's tests connect to: ``python -m tests.javascript.server``.

The process prints the port it is controlled at and ends when its standard input does. A test makes a site of its own
there, a Tornado application with a `WSAuth` on another port, and tells it what to do: ``POST /`` takes the name of a
method of `Control`, or with a ``port`` of the `Site` there, and its arguments; ``site.js`` is the other end of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from typing import Any
from weakref import WeakSet

import jwt
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from tornado_wsauth import JWTVerifier, MemoryTokenStore, TokenHandler, WebSocketAuthMixin, WSAuth
from tornado_wsauth.testing import ManualClock

SECRET = "a secret of the tests, long enough for HS256"

STEPS = ("token", "upgrade", "authenticate")
"""Where a site can be made to hang: before the token's answer, before the 101, before the JWT is accepted."""


class Site:
    """One application, and the log of what it saw: ``events`` are in the order in which they happened."""

    auth: WSAuth

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.clock = ManualClock()
        self.events: list[dict[str, Any]] = []
        self.sockets: set[WebSocketHandler] = set()
        self.handlers: WeakSet[WebSocketHandler] = WeakSet()
        self.token_answers: list[dict[str, Any]] = []
        self.script: dict[str, Any] = {}
        self._gates = {step: asyncio.Event() for step in STEPS}
        for gate in self._gates.values():
            gate.set()
        self.port = 0
        self._server: HTTPServer | None = None

    def log(self, event: str, **details: Any) -> None:
        self.events.append({"event": event, **details})

    async def passes(self, step: str) -> None:
        """Return when this step is not made to hang, or no more."""
        await self._gates[step].wait()

    # What a test may tell it to do -----------------------------------------------------------------------------

    async def start(self) -> int:
        """Listen, on the same port as before where there was one, and return the port. Tokens of before are lost."""
        verifier = JWTVerifier(SECRET, algorithms=["HS256"], clock=self.clock.time)
        store = MemoryTokenStore(clock=self.clock.time)
        self.auth = WSAuth(verifier, store, clock=self.clock, **self._options)
        routes = {r"/ws/token": Token, r"/ws/chat": Chat, r"/ws/rude": Rude}
        application = Application(
            [(pattern, handler, {"site": self}) for pattern, handler in routes.items()],
            wsauth=self.auth,
            websocket_ping_interval=30,
            log_function=lambda handler: None,
        )
        sockets = bind_sockets(self.port, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(application)
        self._server.add_sockets(sockets)
        return self.port

    async def stop(self) -> None:
        """Listen no more, and cut every connection."""
        if self._server is not None:
            self._server.stop()
            await self.cut_sockets()  # Tornado waits for these otherwise
            await self._server.close_all_connections()
            self._server = None

    async def end(self) -> None:
        """Let go of whoever hangs, and stop."""
        for step in STEPS:
            await self.release(step)
        await self.stop()

    async def seen(self) -> dict[str, Any]:
        """Return what happened, and how many sockets are there, the unauthenticated among them."""
        return {"events": self.events, "sockets": len(self.sockets | {*self.auth.connections}) + len(self.auth.pending)}

    async def make_jwt(self, user: str, seconds: float) -> str:
        """Return a JWT that is good for so long, by the site's own clock."""
        return jwt.encode({"sub": user, "exp": int(self.clock.time() + seconds)}, SECRET, algorithm="HS256")

    async def advance(self, seconds: float) -> None:
        """Turn the site's clock."""
        self.clock.advance(seconds)

    async def hang(self, step: str) -> None:
        self._gates[step].clear()

    async def release(self, step: str) -> None:
        self._gates[step].set()

    async def answer_tokens(self, *answers: dict[str, Any]) -> None:
        """Let the token route give these answers next: ``{"status", "headers", "body"}``."""
        self.token_answers += answers

    async def play(self, **script: Any) -> None:
        """Say what ``/ws/rude`` does: sends what is in ``on_open`` and ``on_message``, and then ``close``."""
        self.script = script

    async def send(self, *messages: str) -> None:
        """Send to every socket, whatever it is."""
        for socket in self.sockets:
            for message in messages:
                await socket.write_message(message)

    async def send_bytes(self, *octets: int) -> None:
        for socket in self.sockets:
            await socket.write_message(bytes(octets), binary=True)

    async def close_sockets(self, code: int | None = None, reason: str | None = None) -> None:
        for socket in [*self.sockets]:
            socket.close(code, reason)

    async def cut_sockets(self) -> None:
        """Break every connection without a close frame, those on their way to authentication too."""
        for socket in [*self.handlers]:
            stream = socket.ws_connection and socket.ws_connection.stream
            if stream:
                stream.close()

    async def disconnect_user(self, user: str) -> int:
        return await self.auth.disconnect_user(user)

    async def shut_down(self, restart: bool) -> None:
        await self.auth.close(grace=0, restart=restart)


class Token(TokenHandler):
    """The token route; it can be told to answer otherwise."""

    def initialize(self, site: Site) -> None:
        self.site = site

    async def post(self) -> None:
        headers = {name: value for name, value in self.request.headers.get_all() if name.startswith(("X-", "Auth"))}
        self.site.log("token", headers=headers)
        await self.site.passes("token")
        if not self.site.token_answers:
            await super().post()
            return
        answer = self.site.token_answers.pop(0)
        self.set_status(answer["status"])
        for name, value in answer.get("headers", {}).items():
            self.set_header(name, value)
        self.finish(answer.get("body", ""))

    def on_finish(self) -> None:
        self.site.log("token answered", status=self.get_status())


class Socket(WebSocketHandler):
    """What both kinds of sockets log."""

    def initialize(self, site: Site) -> None:
        self.site = site
        site.handlers.add(self)

    def check_origin(self, origin: str) -> bool:
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0] if subprotocols else None

    def open(self) -> None:
        self.site.sockets.add(self)
        self.site.log("open", subprotocol=self.selected_subprotocol)

    def on_message(self, message: str | bytes) -> None:
        self.site.log("message", data=message if isinstance(message, str) else [*message])

    def on_close(self) -> None:
        self.site.sockets.discard(self)
        self.site.log("close", code=self.close_code, reason=self.close_reason)


class Chat(WebSocketAuthMixin, Socket):
    """A socket behind the library's gate."""

    async def prepare(self) -> None:
        self.site.log("upgrade", path=self.request.path)
        await self.site.passes("upgrade")
        await super().prepare()

    async def load_auth_user(self, claims: dict[str, Any]) -> Any:
        self.site.log("authenticate", user=claims["sub"], exp=claims["exp"])
        await self.site.passes("authenticate")
        return claims["sub"]

    def on_auth_failed(self, reason: str) -> None:
        self.site.log("refused", reason=reason)


class Rude(Socket):
    """A socket of some other server, which sends what a test says and asks for nothing."""

    def prepare(self) -> None:
        self.site.log("upgrade", path=self.request.path, query=self.request.query)

    async def open(self) -> None:  # type: ignore[override]
        super().open()
        for message in self.site.script.get("on_open", []):
            await self.write_message(message)

    async def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
        super().on_message(message)
        for answer in self.site.script.get("on_message", []):
            await self.write_message(answer)
        if "close" in self.site.script:
            self.close(*self.site.script["close"])


class Control(RequestHandler):
    """Does what a test says."""

    sites: dict[int, Site]

    def initialize(self, sites: dict[int, Site]) -> None:
        self.sites = sites

    async def post(self) -> None:
        order = json.loads(self.request.body)
        target: Any = self.sites[order["port"]] if "port" in order else self
        result = await getattr(target, order["do"])(*order.get("arguments", []), **order.get("options", {}))
        self.finish({"result": result})

    async def make_site(self, **options: Any) -> int:
        site = Site(**options)
        port = await site.start()
        self.sites[port] = site
        return port

    async def end_site(self, port: int) -> None:
        await self.sites.pop(port).end()


async def main() -> None:
    logging.getLogger("tornado_wsauth").setLevel(logging.ERROR)  # refusals are what the tests are about
    sites: dict[int, Site] = {}
    server = HTTPServer(Application([("/", Control, {"sites": sites})], log_function=lambda handler: None))
    (socket,) = bind_sockets(0, "127.0.0.1")
    server.add_socket(socket)
    print(socket.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.stop()
    for site in sites.values():
        await site.end()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
