"""How this library calls MongoDB: in time, without losing what a driver still does, and with the indexes it needs.

`stores.mongo`, `backplane.mongo` and `leases.mongo` use it. It needs PyMongo; Motor's collections and databases are
served as they are, and Motor itself is never imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from tornado_wsauth.errors import ConfigurationError, WSAuthError

logger: logging.Logger = logging.getLogger("tornado_wsauth")

T = TypeVar("T")

_MOTOR = {
    "collection": {
        ("motor.motor_tornado", "MotorCollection"),
        ("motor.motor_asyncio", "AsyncIOMotorCollection"),
    },
    "database": {
        ("motor.motor_tornado", "MotorDatabase"),
        ("motor.motor_asyncio", "AsyncIOMotorDatabase"),
    },
}


def check_collection(collection: object, owner: str) -> None:
    """Raise `ConfigurationError` for a collection that cannot be awaited, given to the class ``owner``."""
    _check("collection", collection, owner, AsyncCollection, Collection, "AsyncMongoClient(uri).mydb.ws_tokens")


def check_database(database: object, owner: str) -> None:
    """Raise `ConfigurationError` for a database that cannot be awaited, given to the class ``owner``."""
    _check("database", database, owner, AsyncDatabase, Database, "AsyncMongoClient(uri).mydb")


def check_prefix(prefix: object, owner: str) -> None:
    """Raise `ConfigurationError` for what names of collections cannot begin with, given to the class ``owner``."""
    if not isinstance(prefix, str) or not re.fullmatch(r"(\w[\w.-]*)?", prefix) or ".." in prefix:
        raise ConfigurationError(
            f"{owner}(prefix={prefix!r}): must be text of letters, digits and ._-; 'wsauth_' is the default"
        )


def _check(kind: str, given: object, owner: str, right: type[object], synchronous: type[object], example: str) -> None:
    classes = {(cls.__module__, cls.__name__) for cls in type(given).__mro__}
    if isinstance(given, right) or classes & _MOTOR[kind]:
        return
    name = f"{type(given).__module__}.{type(given).__qualname__}"
    wanted = f"must be a {kind} of pymongo.AsyncMongoClient, such as {example}"
    why = ", because a synchronous one blocks the event loop" if isinstance(given, synchronous) else ""
    raise ConfigurationError(f"{owner}({kind}=<{name}>): {wanted}{why}; Motor's are served too")


class MongoDatabase(Protocol):
    """What is asked of a database. The asynchronous ones of PyMongo and of Motor have it."""

    def command(self, *args: Any, **kwargs: Any) -> Any: ...
    def get_collection(self, *args: Any, **kwargs: Any) -> Any: ...


def safe_collection(database: MongoDatabase, name: str, *, level: str = "local") -> Any:
    """Return a collection that is read on the primary and written to a majority, whatever the client's URI says.

    ``level``: the read concern; "local" is the primary's newest data, such as what racing calls inserted a moment ago.
    """
    return database.get_collection(
        name,
        # What others may have written there does not make reading fail.
        codec_options=CodecOptions[dict[str, Any]](
            unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_MS
        ),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern("majority"),
        read_concern=ReadConcern(level),
    )


class Calls:
    """Calls to MongoDB through ``driven``, a collection or a database; each ends within ``timeout`` seconds."""

    def __init__(self, driven: object, timeout: float) -> None:
        self.timeout = timeout
        # PyMongo's coroutines are not cancelled on Python 3.11, but left to come to their end: wait_for() can lose a
        # cancellation there, and with it one of the driver's locks, for ever.
        self._cancels = sys.version_info >= (3, 12) or not isinstance(driven, (AsyncCollection, AsyncDatabase))
        self._running: set[asyncio.Task[Any]] = set()

    async def answer(self, operation: Coroutine[Any, Any, T], within: float | None = None) -> T:
        """Return what ``operation`` does, or raise what it raises; `TimeoutError` where it does not answer in time.

        ``within``: seconds that it may take instead of the usual ones. Whoever is cancelled here leaves the operation
        running; `settle` waits for it.
        """
        timeout = within or self.timeout
        # The driver gives up first, with an error that says what it waited for. What it does not bound (DNS, Motor's
        # queue for a thread) the outer timeout does.
        task = asyncio.get_running_loop().create_task(_bounded_call(operation, timeout * 0.9))
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=timeout)
        if not done:
            if self._cancels:
                task.cancel()
                await asyncio.wait({task}, timeout=timeout * 0.1)
            raise TimeoutError
        return task.result()

    async def settle(self) -> None:
        """Wait for what nobody waits for any more, as long as one call may take."""
        if self._running:
            await asyncio.wait({*self._running}, timeout=self.timeout)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # so that asyncio does not complain that nobody looked at it

    def explain(self, error: PyMongoError) -> str:
        """Say what happened without the server's text, in which it may quote a document."""
        if error.timeout:
            return f"MongoDB did not answer within {self.timeout} seconds ({type(error).__name__})"
        return f"MongoDB failed: {describe(error)}"


async def _bounded_call(operation: Coroutine[Any, Any, T], seconds: float) -> T:
    with pymongo.timeout(seconds):
        return await operation


def describe(error: PyMongoError) -> str:
    """Name the error without its text, in which a server may quote a document."""
    details = getattr(error, "details", None) or {}
    code = details.get("codeName") or getattr(error, "code", None)
    return f"{type(error).__name__} ({code})" if code else type(error).__name__


class StreamEndedError(Exception):
    """The server has ended a change stream, because its collection was dropped or renamed."""


class ChangeStream:
    """The changes of a collection, as ``pipeline`` leaves them; from ``token`` on if given.

    ``await open()``, then ``await read()`` again and again, and ``await close()`` at last, also after a failure or a
    cancellation: no read is ever cancelled, and no cursor left behind.
    """

    MOST_IDLE = 0.25
    """Seconds a read lasts where nothing happens; `close` may take as long."""

    def __init__(
        self, calls: Calls, collection: Any, pipeline: list[dict[str, Any]], token: Mapping[str, Any] | None
    ) -> None:
        self._calls = calls
        self._collection = collection
        self._options = {"resume_after": token, "max_await_time_ms": round(self.MOST_IDLE * 1000)}
        self._pipeline = pipeline
        self._stream: Any = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def token(self) -> Mapping[str, Any] | None:
        """Where another stream would go on after what was read."""
        token: Mapping[str, Any] | None = self._stream.resume_token
        return token

    async def open(self) -> None:
        """Fix the point in time that the stream begins at."""
        await self._calls.answer(self._open())

    async def read(self) -> Mapping[str, Any] | None:
        """Return the next change, or None if there is none after a while."""
        # Soon given up: who reads must know that nothing arrives, and another stream goes on where this one was cut.
        return await self._calls.answer(self._read(), self._calls.timeout / 2 + self.MOST_IDLE)

    async def close(self) -> None:
        """Wait for the read that is under way, and free the cursor."""
        with contextlib.suppress(TimeoutError, PyMongoError):
            await self._calls.answer(self._close())

    async def _open(self) -> None:
        with self._busy():
            stream = self._collection.watch(self._pipeline, **self._options)
            if inspect.isawaitable(stream):
                stream = await stream
            self._stream = await stream.__aenter__()  # sends the command, with Motor

    async def _read(self) -> Mapping[str, Any] | None:
        with self._busy():
            change: Mapping[str, Any] | None = await self._stream.try_next()
        if change is None and not self._stream.alive:
            raise StreamEndedError
        return change

    async def _close(self) -> None:
        await self._idle.wait()
        if self._stream is not None:
            await self._stream.close()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()


async def twice(prepare: Callable[[], Awaitable[None]]) -> None:
    """Await ``prepare()``, again if the connection was lost: the driver does not retry createIndexes and collMod."""
    try:
        await prepare()
    except ServerSelectionTimeoutError:
        raise
    except AutoReconnect:
        await prepare()


class Indexes:
    """Creates the indexes of a collection that are missing.

    ``failure`` is raised for one in the way that only a person can decide about; ``elsewhere`` says what that person
    could use instead, such as "another collection".
    """

    def __init__(self, collection: Any, failure: type[WSAuthError], elsewhere: str) -> None:
        self._collection = collection
        self._failure = failure
        self._elsewhere = elsewhere

    async def ensure(self, field: str, **options: Any) -> None:
        """Create an index on ``field`` unless there is one."""
        if not await self._on(field):
            await self._create(field, options)

    async def ensure_ttl(self, field: str, seconds: int, purpose: str) -> None:
        """Have documents removed ``seconds`` after the date in ``field``, by a new index or by one that is repaired.

        ``purpose``: what that is for, as the warning about a repair puts it.
        """
        found = await self._on(field)
        for name, index in found.items():
            await self._repair(name, field, index, seconds, purpose)
        if not found:
            await self._create(field, {"expireAfterSeconds": seconds})

    async def _on(self, field: str) -> dict[str, Mapping[str, Any]]:
        """Return the ordinary indexes on ``field`` alone, by name."""
        indexes = await self._collection.index_information()
        return {name: index for name, index in indexes.items() if index["key"] in ([(field, 1)], [(field, -1)])}

    async def _create(self, field: str, options: Mapping[str, Any]) -> None:
        try:
            await self._collection.create_index(field, **options)
        except OperationFailure as error:
            raise self._failure(
                f"cannot create the index on {field} of {self._collection.full_name}, {describe(error)}:"
                " drop the index in its way, or grant createIndex"
            ) from error

    async def _repair(self, name: str, field: str, index: Mapping[str, Any], seconds: int, purpose: str) -> None:
        namespace = self._collection.full_name
        advice = f"drop the index {name!r} of {namespace} (start() creates the right one), or use {self._elsewhere}"
        for obstacle in ("unique", "partialFilterExpression"):
            if index.get(obstacle):
                raise self._failure(f"an index on {field} must not have {obstacle}: {advice}")
        before = index.get("expireAfterSeconds")
        if before == seconds:
            return
        change = {"name": name, "expireAfterSeconds": seconds}
        try:
            await self._collection.database.command(
                "collMod", self._collection.name, index=change, writeConcern={"w": "majority"}
            )
        except OperationFailure as error:
            raise self._failure(f"cannot set expireAfterSeconds to {seconds}, {describe(error)}: {advice}") from error
        logger.warning(
            "the index %r of %s had expireAfterSeconds=%s; changed to %s, so that %s",
            name,
            namespace,
            before,
            seconds,
            purpose,
        )
