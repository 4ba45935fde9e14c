"""``python -m tornado_wsauth connect URL``: a WebSocket on the command line, that takes both steps by itself."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import logging
import math
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado_wsauth.client import Connection, Step, Stopped, connect
from tornado_wsauth.client.console import Console, clock_time, escaped
from tornado_wsauth.client.credentials import GetJWT
from tornado_wsauth.client.options import shown, socket_url
from tornado_wsauth.errors import ConfigurationError, WSAuthError

ENVIRONMENT = "WSAUTH_JWT"
STOPPED, USAGE = 1, 2

_DESCRIPTION = f"""\
Connect to a WebSocket that tornado_wsauth guards: fetch a connection token, upgrade, present the JWT. Each line of the
standard input is sent as a message (empty ones are not), and each message is printed to the standard output behind
"<", the sent ones behind ">". What is going on is told on the standard error.

The JWT comes from --jwt-command, --jwt-file or the environment variable {ENVIRONMENT}; else it is asked for. It is no
argument, for everybody on the machine can read the arguments of a process. With --jwt-command the connection is renewed
before the JWT expires; the others have one JWT only, and the connection ends with it."""

_EPILOG = """\
exit status: 0 after Ctrl+C, Ctrl+D or the end of the input; 1 if the server, or --no-retry, ended it; 2 for a wrong
option."""


def add_command(commands: Any) -> None:
    """Add ``connect`` to the subcommands of the command line."""
    parser = commands.add_parser(
        "connect",
        help="talk to a WebSocket from the terminal",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="the socket, such as ws://localhost:8888/ws/chat")
    parser.add_argument("--token-url", metavar="URL", help="where a token is had; /ws/token on the same host")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--jwt-file", metavar="FILE", help="a file with the JWT; - for the first line of the input")
    source.add_argument("--jwt-command", metavar="COMMAND", help="prints a JWT; run for each attempt and each renewal")
    parser.add_argument("--no-retry", action="store_true", help="end with the first connection, or the first failure")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="how long to wait for answers after the end of an input that is no terminal; 1, and inf for ever",
    )
    parser.add_argument("--raw", action="store_true", help="print what is received, without marks, and nothing else")
    parser.set_defaults(run=lambda arguments: run(parser, arguments))


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Connect and talk until one side ends it; return the exit status."""
    logging.getLogger().addHandler(logging.NullHandler())  # what Tornado logs, the console says in its own words
    try:
        return asyncio.run(_Talk(arguments).run())
    except ConfigurationError as error:
        parser.error(str(error).removeprefix("connect(): "))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # such as `… | head`; what is still buffered must not meet the pipe at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Talk:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._console = Console(raw=arguments.raw)
        self._url = socket_url(arguments.url)
        self._token_url = arguments.token_url or _default_token_url(self._url)
        self._jwt = _given_jwt(arguments)
        self._lines = _lines_of_stdin()

    async def run(self) -> int:
        jwt = self._jwt
        connection = self._connection((await anext(self._lines, "")).strip() if jwt is None else jwt)
        try:
            async with connection:
                await self._talk(connection)
        except Stopped:
            return STOPPED  # on_close has said why
        return 0

    def _connection(self, jwt: str | GetJWT) -> Connection:
        connection = connect(
            self._url,
            jwt=jwt,
            token_url=self._token_url,
            retries=0 if self._arguments.no_retry else None,
            on_close=lambda close: None if close.reason == "disconnected" else self._console.closed(close),
            on_step=lambda step: self._show(step, connection),
        )
        return connection

    async def _talk(self, connection: Connection) -> None:
        """Send and receive until the input ends. Raises `Stopped` if the server ends it."""
        receiving = asyncio.create_task(self._receive(connection))
        sending = asyncio.create_task(self._send(connection))
        try:
            await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (receiving, sending):
                if task.done():
                    task.result()
        finally:
            for task in (receiving, sending):
                task.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)

    async def _receive(self, connection: Connection) -> None:
        async for message in connection:
            self._console.received(message)

    async def _send(self, connection: Connection) -> None:
        async for line in self._lines:
            if line:
                await connection.send(line)
                self._console.sent(line)
        if not sys.stdin.isatty():
            await (asyncio.Event().wait() if math.isinf(self._arguments.wait) else asyncio.sleep(self._arguments.wait))

    def _show(self, step: Step, connection: Connection) -> None:
        who = f"{escaped(str(connection.user_id))} until {clock_time(connection.expires_at)}"
        match step:
            case "jwt":
                self._console.step("fetching a JWT" if self._arguments.jwt_command else "taking the JWT")
            case "token":
                self._console.step(f"fetching a token from {shown(self._token_url)}")
            case "upgrade":
                self._console.step(f"connecting to {shown(self._url)}")
            case "authenticate":
                self._console.step("connected; presenting the JWT")
            case "ready":
                self._console.success(f"authenticated as {who}")
            case "renew":
                self._console.step("the JWT expires soon; fetching another one")
            case "renewed":
                self._console.success(f"renewed: {who}")


def _given_jwt(arguments: argparse.Namespace) -> str | GetJWT | None:
    """Return the JWT, or where it comes from; None for the first line of the input."""
    file, command = arguments.jwt_file, arguments.jwt_command
    if command is not None:
        return lambda: _output_of(command)
    if file == "-":
        return None
    if file is not None:
        try:
            return Path(file).read_text("ascii").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigurationError(f"--jwt-file {file}: {reason}") from None
    if jwt := os.environ.get(ENVIRONMENT, "").strip():
        return jwt
    if not sys.stdin.isatty():
        raise ConfigurationError(f"there is no JWT; use --jwt-command or --jwt-file, or set {ENVIRONMENT}")
    return getpass.getpass("JWT: ").strip()


def _default_token_url(url: str) -> str:
    parts = urlsplit(url)
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}/ws/token"


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


async def _output_of(command: str) -> str:
    """Run a shell command and return what it prints. It is killed if that is given up."""
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise WSAuthError(f"the command of --jwt-command ended with status {process.returncode}")
    return output.decode("ascii", "replace").strip()


async def _lines_of_stdin() -> AsyncIterator[str]:
    """Return the lines of the standard input as they come, read by a thread: no event loop can read every kind of it.

    The thread reads the descriptor, not `sys.stdin`, whose lock it would hold when the interpreter exits.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    def read() -> None:
        with contextlib.suppress(RuntimeError, OSError):  # the loop is closed: nobody wants more
            data: bytes | None = b""
            while data is not None:
                data = os.read(sys.stdin.fileno(), 65536) or None
                asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()

    threading.Thread(target=read, daemon=True, name="stdin").start()
    rest = b""
    while (data := await queue.get()) is not None:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield _text(line)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
