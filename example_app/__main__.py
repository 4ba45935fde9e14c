"""``python -m example_app``: runs `example_app.app` until SIGINT or SIGTERM. ``--help`` lists the options."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.log import enable_pretty_logging
from tornado.netutil import bind_sockets
from tornado.options import Error, OptionParser
from tornado.web import Application

from example_app.accounts import Accounts
from example_app.app import make_app
from example_app.build import BuildError, ensure_page
from tornado_wsauth import ConfigurationError, TokenStoreError, WSAuth

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient

options = OptionParser()  # one of our own: --help then lists these five and not Tornado's ten about log files
options.define("port", 8888, type=int, help="port to listen on; 0 takes any free one")
options.define("address", "127.0.0.1", type=str, help="address to listen on")
options.define(
    "mongodb-uri",
    type=str,
    metavar="URI",
    help="keep connection tokens in this MongoDB, such as mongodb://localhost/example; left out, in memory",
)
options.define("grace", 5, type=float, help="seconds in which a server that is stopped lets its clients go")
options.define(
    "jwt-secret",
    type=str,
    metavar="SECRET",
    help="what JWTs are signed with, at least 32 bytes; left out, a new random one for each start",
)


class StartError(Exception):
    """The application cannot start. The message says why and what to do about it."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def main() -> None:
    """Run until a signal comes, then exit with status 0; say so in one line and exit with 1 or 2 if that fails."""
    try:
        _read_options()
        _build_page()
        asyncio.run(serve())
    except (StartError, ConfigurationError) as error:
        sys.stderr.write(f"example_app: {error}\n")
        sys.exit(error.status if isinstance(error, StartError) else 2)


def _read_options() -> None:
    enable_pretty_logging()
    try:
        surplus = options.parse_command_line()
    except Error as error:
        raise StartError(str(error), status=2) from error
    except ValueError as error:  # of the two options that are not text
        raise StartError(f"--port and --grace are numbers: {error}", status=2) from error
    if surplus:
        raise StartError(f"{surplus[0]}: options begin with two dashes; --help lists them", status=2)
    if not 0 <= options.port <= 65535:
        raise StartError(f"--port={options.port}: a port is a number from 0 to 65535", status=2)
    if not 0 <= options.grace < 3600:
        raise StartError(f"--grace={options.grace}: seconds, from 0 to an hour; 5 is the default", status=2)


async def serve() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not loop.add_signal_handler(), which Windows has not.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))

    client = _connect(options.mongodb_uri) if options.mongodb_uri else None
    try:
        await _serve_until(stop, client)
    finally:
        if client is not None:
            await client.close()


async def _serve_until(stop: asyncio.Event, client: AsyncMongoClient[Any] | None) -> None:
    accounts = _make_accounts()
    app = await _start_app(accounts, client, starts=1)
    sockets = _bind(options.port, options.address)
    where = "in memory" if client is None else "in MongoDB"
    _say(f"Open {_url(sockets[0])} in a browser. Tokens are kept {where}; Ctrl+C stops.")
    for starts in itertools.count(2):
        await _serve_one(app, sockets, stop)
        if stop.is_set():
            break
        # Another application in this process is as good as another process: but for the logins and the keys, which
        # would be in a database, nothing of the old one is left.
        app = await _start_app(accounts, client, starts)
        _say(f"Restarted; this is start {starts}.")
    for listening in sockets:
        listening.close()


async def _start_app(accounts: Accounts, client: AsyncMongoClient[Any] | None, starts: int) -> Application:
    """Return an application whose token store answers."""
    tokens = None
    if client is not None:
        from tornado_wsauth import MongoTokenStore

        tokens = MongoTokenStore(client.get_default_database("wsauth_example").ws_tokens)
    app = make_app(accounts, tokens=tokens, starts=starts)
    try:
        await app.settings["wsauth"].start()  # now, and not at the first login: who is to mend it looks now
    except TokenStoreError as error:
        raise StartError(
            f"--mongodb-uri: {error}; start MongoDB, mend the URI, or leave it out to keep tokens in memory"
        ) from error
    return app


async def _serve_one(app: Application, sockets: list[socket.socket], stop: asyncio.Event) -> None:
    """Serve until this server is to stop or to restart, and let its clients go."""
    auth: WSAuth = app.settings["wsauth"]
    server = HTTPServer(app)
    # Copies: server.stop() closes what it listens on. Who comes between two applications waits in the backlog.
    server.add_sockets([listening.dup() for listening in sockets])
    app.settings["broadcaster"].start()
    await _either(stop, app.settings["restart"])

    if stop.is_set():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # whoever asks twice does not want to wait
        if auth.connections:
            _say(f"Connections to close: {len(auth.connections)}. Ctrl+C again stops at once.")
    # The server goes on listening, so that whoever comes now is told 503 and not that nobody is there.
    await auth.close(grace=options.grace)
    app.settings["broadcaster"].stop()
    server.stop()
    await server.close_all_connections()


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()


def _make_accounts() -> Accounts:
    try:
        return Accounts(options.jwt_secret)
    except ConfigurationError as error:
        raise StartError(f"--jwt-secret: {error}", status=2) from error


def _build_page() -> None:
    try:
        ensure_page()
    except BuildError as error:
        raise StartError(str(error)) from error


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _connect(uri: str) -> AsyncMongoClient[Any]:
    """Return a client for ``uri``. It connects when it is first used."""
    try:
        from pymongo import AsyncMongoClient
        from pymongo.errors import PyMongoError
    except ImportError as error:
        raise StartError('--mongodb-uri needs PyMongo: pip install "tornado_wsauth[mongo]"') from error
    try:
        return AsyncMongoClient(uri)
    except (PyMongoError, ValueError) as error:
        raise StartError(f"--mongodb-uri: {error}; it looks like mongodb://localhost/example", status=2) from error


def _bind(port: int, address: str) -> list[socket.socket]:
    try:
        return bind_sockets(port, address)
    except OSError as error:
        raise StartError(
            f"cannot listen on {address}, port {port}: {error}; "
            f"choose another port with --port=8889, or any free one with --port=0"
        ) from error


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listened on, but no place to go to
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # before the signal handlers are there
        main()
