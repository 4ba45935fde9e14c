"""Follows a page of the documentation from top to bottom, as a reader would, and says on which line it goes wrong.

A page is followed in an empty directory, with the library installed. What is done with a block is for its language to
say, and for a comment before it, which readers do not see:

``python`` whose first line is a comment with a file name (``# app.py``)
    is written to that file. A later block for the same file replaces it. A file that nothing on the page names is
    imported by itself, so that no code goes without being run. (Other languages can name a file in the same way, in a
    comment of their own: ``<!-- page.html -->``, ``// page.js``; they are written, and checked as below.)
``python`` without one
    runs, one block after the other, in one namespace of the page. ``await`` at the top level is allowed: an event loop
    runs from the first block to the last, as in a notebook, so ``asyncio.run`` belongs into a file.
``<!-- setup: python``, newline, code, newline, ``-->``
    the same, for what a reader does not need to see. ``<!-- setup: sh`` does so for a shell.
``sh``
    runs with ``bash -e`` in that directory, in a shell of its own; ``.venv/bin`` has the test's Python, and comes first
    on the PATH. A command that installs (``pip install``, ``python3 -m venv``, ``apt-get install``, ``npm install``,
    ``git clone``) is checked for its form and not run.
``<!-- serves: http://localhost:8888/ -->`` before ``sh``
    the block is started, waited for until something accepts connections at that address, and ended with the page, or
    when another block serves the same address.
``<!-- checkout -->`` before ``sh``
    the commands are for a checkout of this repository (all tests, a benchmark): what they name has to be there.
``<!-- prints -->`` before ``text``
    the block has to be what the ``sh`` or ``python`` block before it printed; ``…`` is whatever there is.
``text``, ``console``
    output and wire traffic. All other languages are checked by what reads them: see ``languages.py``.

Two things are not as they stand on the page, because a machine may have them in use: the ports of addresses that the
page serves are replaced by free ones, wherever the page has that number, and ``redis://localhost`` and
``mongodb://localhost`` without another port are servers that the tests start.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tests.docs import languages
from tests.docs.blocks import Block, read_blocks
from tests.docs.commands import ROOT, BadCommandError, check_in_checkout, logical_lines, without_installing
from tests.docs.namespace import Namespace

TIMEOUT = 90.0  # seconds that a shell block may take
START_TIMEOUT = 30.0  # seconds until a server accepts connections

Address = Callable[[], str]
"""Returns where a database server of the tests is, having started it."""


def follow(page: Path, directory: Path, *, redis: Address, mongodb: Address) -> int:
    """Follow ``page`` in ``directory``, which is empty; return how many blocks that were. Raises `PageError`."""
    blocks = read_blocks(page)
    walk = Walk(directory, Translation(blocks, redis, mongodb))
    try:
        for block in blocks:
            walk.take(block)
        walk.import_unused()
    finally:
        walk.close()
    return len(blocks)


class Translation:
    """The addresses on a page, and those that stand for them in the test."""

    def __init__(self, blocks: list[Block], redis: Address, mongodb: Address) -> None:
        self._ports: dict[str, str] = {}
        for block in blocks:
            if block.serves is not None:
                port = urlsplit(block.serves).port
                if port is None:
                    raise block.wrong(f"<!-- serves: {block.serves} --> has no port")
                self._ports.setdefault(str(port), str(free_port()))
        self._redis = redis
        self._mongodb = mongodb

    def there(self, text: str) -> str:
        """Return text of the page as the test has it."""
        text = self._replace(text, self._ports)
        if re.search(r"redis://localhost(:6379)?(?![:\w.])", text):
            server = "{0.scheme}://{0.netloc}".format(urlsplit(self._redis()))
            text = re.sub(r"redis://localhost(:6379)?(?![:\w.])", server, text)
        if re.search(r"mongodb://localhost(:27017)?(?![:\w.])", text):
            text = re.sub(r"mongodb://localhost(:27017)?(?![:\w.])[^\s\"']*", self._mongodb(), text)
        return text

    def back(self, text: str) -> str:
        """Return what the test printed as the page would have it."""
        return self._replace(text, {there: here for here, there in self._ports.items()})

    @staticmethod
    def _replace(text: str, ports: dict[str, str]) -> str:
        return re.sub(r"(?<![\w.])\d{4,5}(?!\w)", lambda number: ports.get(number[0], number[0]), text)


class Walk:
    """One reader, on the way through one page."""

    def __init__(self, directory: Path, translation: Translation) -> None:
        self._directory = directory
        self._translation = translation
        self._environment = _environment(directory)
        self._namespace = Namespace(directory, self._environment)
        self._servers: list[Server] = []
        self._unused: dict[str, Block] = {}
        self._printed: str | None = None

    def take(self, block: Block) -> None:
        """Do with a block what its language and its comment say."""
        code = self._translation.there(block.code)
        if block.prints:
            self._compare(block)
        elif block.checkout:
            self._check_checkout(block)
        elif block.language == "sh":
            self._take_shell(block, code)
        elif block.language == "python" and block.file_name is None:
            self._note_use(code)
            self._printed = self._namespace.run(block, code)
        elif block.language == "python" or block.language in languages.LANGUAGES:
            self._take_text(block, code)
        elif not block.is_directive:
            raise block.wrong(f"nothing here knows what to do with {block.language or 'a block without a language'!r}")

    def import_unused(self) -> None:
        """Import the modules that were written, and that nothing has named."""
        for name in list(self._unused):
            self._import(name, self._unused.pop(name))

    def close(self) -> None:
        self._namespace.close()
        for server in self._servers:
            server.stop()

    def _take_text(self, block: Block, code: str) -> None:
        name = block.file_name
        if block.language == "python":
            assert name is not None
            try:
                compile(code, name, "exec", dont_inherit=True)
            except SyntaxError as error:
                raise block.wrong(f"{name}: {error.msg}", block.line + (error.lineno or 1) - 1) from error
            self._note_use(code)
            if name in self._unused:
                self._import(name, self._unused.pop(name))
            self._unused[name] = block
        else:
            languages.check(block)
        if name is not None:
            (self._directory / name).parent.mkdir(parents=True, exist_ok=True)
            (self._directory / name).write_text(code, encoding="utf-8")
        elif block.language not in {"text", "console"}:
            self._printed = None

    def _take_shell(self, block: Block, code: str) -> None:
        kept = []
        for number, line in logical_lines(code):
            try:
                kept.append(without_installing(line))
            except BadCommandError as error:
                raise block.wrong(str(error), block.line + number) from error
        script = "\n".join(kept)
        self._note_use(script)
        self._printed = None
        if block.serves is not None:
            self._stop_serving(block.serves)
            server = Server(block, script, self._directory, self._environment)
            self._servers.append(server)
            server.wait_until_it_answers(self._translation.there(block.serves))
        elif script.strip():
            self._printed = self._run_shell(block, script)

    def _stop_serving(self, address: str) -> None:
        """End what serves this address: a reader who starts the next version stops the one before."""
        for server in [server for server in self._servers if server.block.serves == address]:
            server.stop()
            self._servers.remove(server)

    def _run_shell(self, block: Block, script: str) -> str:
        with tempfile.TemporaryFile("w+") as said:  # no pipe: what a block leaves running would hold it open
            process = _start_shell(script, self._directory, self._environment, said)
            try:
                status: int | None = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                status = None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            said.seek(0)
            output = said.read()
        if status != 0:
            how = f"did not end within {TIMEOUT:.0f} s" if status is None else f"ended with status {status}"
            raise block.wrong(f"{how}\n{script}\n{self._translation.back(output)}{self._what_servers_said()}")
        return output

    def _compare(self, block: Block) -> None:
        if self._printed is None:
            raise block.wrong("<!-- prints --> stands behind no block that was run and has printed")
        printed = self._translation.back(self._printed)
        pattern = ".*?".join(re.escape(part) for part in _trimmed(block.code).split("…"))
        if not re.fullmatch(pattern, _trimmed(printed), re.DOTALL):
            raise block.wrong(f"this is not what the block before it printed, which is\n{printed}")

    def _check_checkout(self, block: Block) -> None:
        try:
            check_in_checkout(block.code)
        except BadCommandError as error:
            raise block.wrong(str(error)) from error

    def _note_use(self, code: str) -> None:
        for name in list(self._unused):
            if re.search(rf"\b{re.escape(Path(name).stem)}\b", code):
                del self._unused[name]

    def _import(self, name: str, block: Block) -> None:
        module = name.removesuffix(".py").replace("/", ".")
        self._run_shell(block, f'"{sys.executable}" -c "import {module}"')

    def _what_servers_said(self) -> str:
        return "".join(f"\nthe server of line {server.block.line} said\n{server.said()}" for server in self._servers)


class Server:
    """A block that serves until it is stopped."""

    def __init__(self, block: Block, script: str, directory: Path, environment: dict[str, str]) -> None:
        self.block = block
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in stop()
        self._process = _start_shell(script, directory, environment, self._output)

    def wait_until_it_answers(self, url: str) -> None:
        """Wait until ``url`` accepts connections. Raises `PageError` if it does not, or if the block ends."""
        address, deadline = urlsplit(url), time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection((address.hostname or "", address.port or 0), timeout=1).close()
            except OSError:
                if self._process.poll() is not None:
                    raise self.block.wrong(f"ended with status {self._process.returncode}\n{self.said()}") from None
                if time.monotonic() > deadline:
                    said = f"nothing answers at {url} after {START_TIMEOUT:.0f} s\n{self.said()}"
                    raise self.block.wrong(said) from None
                time.sleep(0.05)
            else:
                return

    def said(self) -> str:
        self._output.seek(0)
        return self._output.read()[-4000:]

    def stop(self) -> None:
        """End it, and what it has started; give it two seconds to do so by itself."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(2)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.wait()
        self._output.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def _start_shell(script: str, directory: Path, environment: dict[str, str], output: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that it can be ended with all that it has started
    )


def _environment(directory: Path) -> dict[str, str]:
    """Make the directory's ``.venv``, with the test's own Python; return the environment of a reader who is there."""
    binaries = directory / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, command in {"python": "", "python3": "", "pytest": "-m pytest "}.items():
        script = binaries / name
        # Not a link: Python would look beside the link for the packages of its environment.
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n', encoding="utf-8")
        script.chmod(0o755)
    (binaries / "activate").write_text(f'PATH="{binaries}:$PATH"\n', encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE"))}
    return {
        **kept,
        "PATH": os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONUNBUFFERED": "1",
        # Where the library is on the path and not installed, pytest does not find the fixtures by itself.
        "PYTEST_ADDOPTS": "-p tornado_wsauth_pytest -p no:cacheprovider",
    }
