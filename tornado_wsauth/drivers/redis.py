"""What the token store, the backplane and the lease have in common on Redis; only they import it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tornado_wsauth.errors import ConfigurationError, WSAuthError

T = TypeVar("T")
E = TypeVar("E", bound=WSAuthError)

_OLDEST_SERVER = (7, 0)
_MOST_CALLS_AT_ONCE = 50  # the driver has a hundred connections unless told otherwise, and raises for one more

_NOT_FOR_LINES = ("retry", "socket_timeout", "health_check", "decode_responses", "protocol", "maint_", "orig_")
_CLOSING = 0.5  # seconds for the goodbyes of TLS

# Of each client: whoever shares one shares its connections.
_places: weakref.WeakKeyDictionary[Redis | RedisCluster, asyncio.Semaphore] = weakref.WeakKeyDictionary()


def check_client(owner: str, redis: object, *, no_cluster: str | None = None) -> None:
    """Raise `ConfigurationError` unless ``redis`` can be awaited; ``no_cluster`` says why it may be no cluster."""
    given = f"{type(redis).__module__}.{type(redis).__qualname__}"
    if no_cluster and isinstance(redis, RedisCluster):
        raise ConfigurationError(
            f"{owner}(redis=<{given}>): must be a redis.asyncio.Redis, on a server that is no cluster: {no_cluster}"
        )
    if not isinstance(redis, (Redis, RedisCluster)):
        raise ConfigurationError(
            f"{owner}(redis=<{given}>): must be a redis.asyncio.Redis, such as"
            ' redis.asyncio.Redis.from_url("redis://localhost"); a synchronous one blocks the event loop'
        )


def check_prefix(owner: str, prefix: object) -> None:
    """Raise `ConfigurationError` for what no key can begin with."""
    if not isinstance(prefix, str) or not prefix:
        raise ConfigurationError(f'{owner}(prefix={prefix!r}): must be a text; "wsauth:" is the default')


def check_timeout(owner: str, timeout: object) -> None:
    """Raise `ConfigurationError` for what is no number of seconds to wait."""
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not 0 < timeout < math.inf:
        raise ConfigurationError(f"{owner}(timeout={timeout!r}): must be positive; 5.0 is the default")


class Caller(Generic[E]):
    """Asks ``redis`` for ``owner``; where there is no answer in ``timeout`` seconds, it raises ``failure``."""

    def __init__(self, owner: str, redis: Redis | RedisCluster, timeout: float, failure: type[E]) -> None:
        self._owner = owner
        self._redis = redis
        self._timeout = timeout
        self._failure = failure

    async def check_server(self) -> None:
        """Raise ``failure`` unless the server is recent enough. It is a call to `ask`, or `answer`, with."""
        info: Mapping[str, Any] = await self._redis.info("server")
        version = str(info.get("redis_version", ""))
        numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
        if tuple(numbers) < _OLDEST_SERVER:
            raise self._failure(f"Redis {version} is too old: {self._owner} needs 7.0")

    async def ask(self, call: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        """Return the answer to ``call()``, which is made ``again``, once, where the connection was dropped."""
        async with self._place():
            try:
                return await call()
            except RedisConnectionError:
                if not again:
                    raise
                return await call()

    async def answer(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask, in time, and turn every way of not answering into ``failure``."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self.ask(call)
        except TimeoutError:
            raise self._failure(f"Redis did not answer within {self._timeout} seconds") from None
        except Exception as error:
            failure = self.translate(error)
            if failure is None:
                raise
            raise failure from None

    def translate(self, error: Exception) -> E | None:
        """Return what to raise for an error of the driver's; None for one that is no failure of the server's."""
        if isinstance(error, self._failure):
            return error
        if isinstance(error, (RedisError, OSError)):
            # Without its text, and as no cause: a server quotes arguments, and they have user ids and hashes.
            return self._failure(f"Redis failed: {type(error).__name__}")
        return None

    def _place(self) -> asyncio.Semaphore:
        if self._redis not in _places:
            most = _MOST_CALLS_AT_ONCE
            if isinstance(self._redis, Redis):
                most = min(most, self._redis.connection_pool.max_connections)
            _places[self._redis] = asyncio.Semaphore(most)
        return _places[self._redis]


class Line:
    """A connection on which to subscribe, with the settings of the client's.

    It is the driver's, without the driver's pub/sub: that would connect again by itself, and hide that it did. It has
    no retries and no timeouts of its own, whatever the client has, for it may be long until something arrives.
    """

    def __init__(self, redis: Redis) -> None:
        pool = redis.connection_pool
        options = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_NOT_FOR_LINES)}
        connection_class: Any = pool.connection_class
        self._connection = connection_class(
            **options,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            health_check_interval=0,
            decode_responses=False,
            protocol=2,  # in which nothing but answers and messages arrives
        )
        self._sending = asyncio.Lock()
        self.unanswered: int = 0
        """How many times the server was asked for a sign of life since it gave one."""

    async def connect(self) -> None:
        """Connect. Raises what the driver does; the caller bounds the time."""
        await self._connection.connect()

    async def send(self, *command: str, within: float) -> None:
        """Send ``command``. Raises what the driver does, and `TimeoutError`."""
        async with asyncio.timeout(within), self._sending:
            await self._connection.send_command(*command, check_health=False)

    async def ping(self, *, within: float) -> None:
        """Ask for a sign of life."""
        self.unanswered += 1
        await self.send("PING", within=within)

    async def read(self) -> Any:
        """Return what arrives next, with ``bytes`` for texts; wait for it for ever."""
        arrived = await self._connection.read_response()
        self.unanswered = 0
        return arrived

    async def close(self) -> None:
        """Close it, however it is; wait a moment only."""
        with contextlib.suppress(RedisError, TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await self._connection.disconnect()


def text(value: bytes | str | None) -> str | None:
    """Return ``value`` as a text, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else value


def texts(values: list[bytes | str]) -> list[str]:
    """Return all of ``values`` as texts."""
    return [value.decode() if isinstance(value, bytes) else value for value in values]
