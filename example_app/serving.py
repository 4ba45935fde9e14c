"""One process of the application: it serves until it is to stop, and begins anew when somebody wants a restart."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from example_app.app import make_app, make_metrics_app
from example_app.engine import Engine
from example_app.ledger import LedgerError
from example_app.terminal import StartError, say
from tornado_wsauth import BackplaneError, TokenStoreError, WSAuth

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Server:
    """What a process serves: ``sockets`` are bound, and every process has the same.

    ``grace`` is in seconds. ``jwt_secret`` is signed with if ``engine`` knows of no key yet; left out, a random one is.
    With ``behind_proxy``, a proxy on this machine says who a client is, and whether it came over TLS. ``metrics_port``
    is where Prometheus finds the first process, on the loopback address; each has the one after the last's, for what
    one counts the others know nothing of. 0: nowhere.
    """

    sockets: Sequence[socket.socket]
    engine: Callable[[], Engine]
    grace: float
    jwt_secret: str | None = None
    process: int = 1
    processes: int = 1
    behind_proxy: bool = False
    metrics_port: int = 0

    async def serve(self, ready: Callable[[Engine], None]) -> None:
        """Serve until a signal comes; ``ready`` is called once clients are served. Raises `StartError`."""
        stop = _stop_signal()
        metrics_sockets = self._bind_for_metrics()
        engine = self.engine()
        try:
            for starts in itertools.count(1):
                # Another application in this process is as good as another process: but for the engine, nothing of the
                # old one is left.
                app = await self._start_app(engine, starts)
                if starts == 1:
                    ready(engine)
                else:
                    which = f"Process {self.process} r" if self.processes > 1 else "R"
                    say(f"{which}estarted; this is start {starts}.")
                await self._serve_one(app, metrics_sockets, stop)
                if stop.is_set():
                    break
        finally:
            await engine.close()
            for listening in metrics_sockets:
                listening.close()

    def _bind_for_metrics(self) -> list[socket.socket]:
        if not self.metrics_port:
            return []
        port = self.metrics_port + self.process - 1
        try:
            return bind_sockets(port, "127.0.0.1")
        except OSError as error:
            raise StartError(
                f"cannot listen on 127.0.0.1, port {port}, for Prometheus: {error}; "
                f"choose another --metrics-port, and as many free ones after it as there are processes"
            ) from error

    async def _start_app(self, engine: Engine, starts: int) -> Application:
        """Return an application whose engine answers."""
        app = make_app(engine, process=self.process, processes=self.processes, starts=starts)
        try:
            await app.settings["wsauth"].start()  # now, and not at the first login: who is to mend it looks now
            await engine.ledger.start(self.jwt_secret or secrets.token_urlsafe(32))
        except (TokenStoreError, BackplaneError, LedgerError) as error:
            raise StartError(f"{error}; {engine.advice}") from error
        return app

    async def _serve_one(self, app: Application, metrics_sockets: Sequence[socket.socket], stop: asyncio.Event) -> None:
        """Serve until this server is to stop or to restart, and let its clients go."""
        auth: WSAuth = app.settings["wsauth"]
        # Nobody else may set these headers: without a proxy that overwrites them, a client could claim any address.
        server = HTTPServer(app, xheaders=self.behind_proxy)
        # Copies: server.stop() closes what it listens on. Who comes between two applications waits in the backlog.
        server.add_sockets([listening.dup() for listening in self.sockets])
        metrics_server = HTTPServer(make_metrics_app(app))
        metrics_server.add_sockets([listening.dup() for listening in metrics_sockets])
        app.settings["broadcaster"].start()
        await _either(stop, app.settings["restart"])

        if stop.is_set() and auth.connections and self.processes == 1:
            say(f"Connections to close: {len(auth.connections)}. Ctrl+C again stops at once.")
        app.settings["broadcaster"].stop()  # before the clients go: another process broadcasts from now on
        # The server goes on listening, so that whoever comes now is told 503 and not that nobody is there.
        await auth.close(grace=self.grace)
        for one in (server, metrics_server):  # Prometheus watches to the end
            one.stop()
            await one.close_all_connections()


def _stop_signal() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set, and the death of the parent, if there is one."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    parent = multiprocessing.parent_process()

    def on_signal(*_: object) -> None:
        if parent is None:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)  # whoever asks twice does not want to wait
        loop.call_soon_threadsafe(stop.set)

    def on_death() -> None:
        assert parent is not None
        loop.remove_reader(parent.sentinel)
        stop.set()

    for number in SIGNALS if parent is None else [signal.SIGTERM]:
        signal.signal(number, on_signal)  # not loop.add_signal_handler(), which Windows has not

    if parent is not None:
        loop.add_reader(parent.sentinel, on_death)
    return stop


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
