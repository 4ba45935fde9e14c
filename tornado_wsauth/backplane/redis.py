"""A backplane on Redis: pub/sub, and a stream for what is kept. The only backplane module that imports its driver.

Applications name `RedisBackplane`, and only then is this module loaded.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import DEAD_AFTER, HEARTBEAT, Claim, OnGap, Place
from tornado_wsauth.backplane.engine import EngineBackplane, end
from tornado_wsauth.backplane.envelope import Parcel, seal
from tornado_wsauth.backplane.subscriptions import Subscriptions
from tornado_wsauth.drivers.redis import Caller, Line, check_client, check_prefix, texts
from tornado_wsauth.errors import BackplaneError

_KEPT = 3600  # seconds an announcement is kept for
_PLACES_LIVE = 24 * 3600  # seconds after which the places of a user are forgotten that nobody has renewed
_BEATS_TO_RENEW = 900  # within which every user's places are renewed: half an hour
_MOST_NAMES = 1000  # in one command
_MOST_ENTRIES = 100  # in one answer
_MOST_UNANSWERED = round(DEAD_AFTER / HEARTBEAT) - 1  # the next would be due when nothing came for DEAD_AFTER
_MOST_UNRELEASED = 10_000
_START = "0-0"  # of every stream

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_ANNOUNCE = f"""{_NOW}
local stream, envelope, wake_up, kept = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('XADD', stream, 'MINID', '~', string.format('%d', now - kept), '*', 'envelope', envelope)
redis.call('PEXPIRE', stream, 2 * kept)
redis.call('PUBLISH', wake_up, '')
"""

# A process that is not known is not taken in unless it says that it knows: an answer that says so may get lost. The
# other keys are the places to keep.
_BEAT = f"""{_NOW}
local processes, process, dead_after, live, join = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
redis.call('ZREMRANGEBYSCORE', processes, '-inf', '(' .. string.format('%d', now - dead_after))
for i = 2, #KEYS do redis.call('PEXPIRE', KEYS[i], live) end
if join == '' and not redis.call('ZSCORE', processes, process) then return 0 end
redis.call('ZADD', processes, now, process)
redis.call('PEXPIRE', processes, live)
return 1
"""

_PEERS = f"""{_NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%d', now - ARGV[1]), '+inf')
"""

# What is evicted is told again if the same attempt is sent twice, because the answer to the first was lost.
_CLAIM = f"""{_NOW}
local places, processes, attempt = KEYS[1], KEYS[2], KEYS[3]
local process, name, most, evict = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local dead_after, live = tonumber(ARGV[5]), ARGV[6]
local ours = process .. '/' .. name
local told = redis.call('LRANGE', attempt, 0, -1)
if #told > 0 then return {{1, unpack(told)}} end
local taken, held = {{}}, false
for _, place in ipairs(redis.call('ZRANGE', places, 0, -1)) do
  local owner = string.match(place, '^[^/]*')
  local seen = redis.call('ZSCORE', processes, owner)
  if owner == process or (seen and tonumber(seen) >= now - dead_after) then
    taken[#taken + 1] = place
  else
    redis.call('ZREM', places, place)
  end
  held = held or place == ours
end
local answer = {{1}}
if not held then
  if #taken >= most and evict == '' then return {{0}} end
  for i = 1, math.min(#taken, #taken + 1 - most) do
    redis.call('ZREM', places, taken[i])
    redis.call('RPUSH', attempt, taken[i])
    answer[#answer + 1] = taken[i]
  end
  redis.call('PEXPIRE', attempt, 60000)
  local last = redis.call('ZRANGE', places, -1, -1, 'WITHSCORES')
  redis.call('ZADD', places, (tonumber(last[2]) or 0) + 1, ours)
end
redis.call('PEXPIRE', places, live)
return answer
"""


class RedisBackplane(EngineBackplane):
    """Carries messages over Redis.

    ``redis``: a `redis.asyncio.Redis`, with or without ``decode_responses``; `RedisBackplane` opens one connection more
    with the same settings, to receive. ``prefix``: what all keys and channels begin with; each application on a server
    needs its own, for Redis publishes across its databases. ``timeout``: seconds within which each call
    answers or raises `BackplaneError`.

    A message is published to ``{prefix}{channel}``, and a process subscribes to the channels it listens to. What is
    announced is also kept, for an hour, in the stream ``{prefix}announcements``. The sorted set ``{prefix}processes``
    has when each process showed its last sign of life (milliseconds on the server's clock), and
    ``{prefix}places:{user id as JSON}`` the places of a user as ``process/name``, in the order of claiming. All of them
    expire when nobody needs them. Redis 7.0 or later.

    Redis answers before its replicas have written: a failover can forget a place that was claimed, or a message that
    was announced, a moment before. It is followed by ``on_gap``.

    Raises `ConfigurationError` for a client it cannot await, a cluster, an empty prefix, and a timeout that is not
    positive.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str = "wsauth:",
        timeout: float = 5.0,
        on_gap: OnGap | None = None,
        seams: Seams | None = None,
    ) -> None:
        owner = type(self).__name__
        why = "a script looks at the places of a user and the processes at once, which a cluster keeps apart"
        check_client(owner, redis, no_cluster=why)
        check_prefix(owner, prefix)
        super().__init__(timeout=timeout, on_gap=on_gap, seams=seams)
        self._redis = redis
        self._caller = Caller(owner, redis, timeout, BackplaneError)
        self._prefix = prefix
        self._seq = itertools.count(1)
        self._announcing = asyncio.Lock()
        self._announced = asyncio.Event()
        self._position: str | None = None  # of the last announcement that was read
        self._subscriptions = Subscriptions()
        self._joined = False
        self._was_forgotten = False
        self._held: OrderedDict[str, set[str]] = OrderedDict()  # the names of each user's places
        self._unreleased: set[tuple[str, str]] = set()
        self._announce = redis.register_script(_ANNOUNCE)
        self._show_life = redis.register_script(_BEAT)
        self._get_peers = redis.register_script(_PEERS)
        self._take_place = redis.register_script(_CLAIM)

    @property
    def redis(self) -> Redis:
        """The client it was given."""
        return self._redis

    # What goes out ------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._position = None
        await self._caller.ask(self._caller.check_server)

    async def _deliver(self, parcels: Sequence[Parcel], *, keep: bool) -> None:
        if keep:
            async with self._announcing:  # one that is overtaken counts as a copy
                keys, arguments = [self._key("announcements")], [self._seal(parcels), self._key("announced")]
                await self._caller.ask(lambda: self._announce(keys=keys, args=[*arguments, 1000 * _KEPT]))
            return
        batches = [
            (self._key(channel), self._seal(batch))
            for channel, batch in itertools.groupby(parcels, lambda parcel: parcel.channel)
        ]

        async def publish() -> None:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for channel, envelope in batches:
                    pipeline.publish(channel, envelope)
                await pipeline.execute()

        await self._caller.ask(publish, again=False)

    def _seal(self, parcels: Iterable[Parcel]) -> str:
        return seal(self._process_id, next(self._seq), parcels)

    # What comes in ------------------------------------------------------------------------------------------------

    def listen(self, channel: str) -> None:
        self._subscriptions.stirred.add(channel)
        super().listen(channel)

    def ignore(self, channel: str) -> None:
        self._subscriptions.stirred.add(channel)
        super().ignore(channel)

    def _channels_changed(self) -> None:
        self._subscriptions.change()

    async def _wait_until_listening(self) -> None:
        await self._subscriptions.wait()
        await self._connected.wait()

    async def _receive(self) -> NoReturn:
        if self._position is None:
            self._position = await self._answer(self._find_end())
        line = Line(self._redis)
        tasks: list[asyncio.Task[NoReturn]] = []
        try:
            async with asyncio.timeout(self._timeout):
                await line.connect()
            self._subscriptions.forget(self._channels)
            create = asyncio.get_running_loop().create_task
            jobs = (self._read(line), self._keep_subscribed(line), self._keep_asking(line), self._keep_up())
            tasks = [create(job) for job in jobs]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failure = done.pop().exception()
            assert failure is not None, "none of them ends otherwise"
            raise failure
        finally:
            await end(tasks, again_after=0.1)
            self._subscriptions.forget(self._channels)
            await line.close()

    async def _read(self, line: Line) -> NoReturn:
        assert self._inbox is not None
        wake_up = self._key("announced").encode()
        while True:
            match await line.read():
                case [b"message", channel, _] if channel == wake_up:
                    self._announced.set()
                case [b"message", _, bytes(envelope)]:
                    self._inbox.take(envelope)
                case [b"subscribe" | b"unsubscribe", *_]:
                    self._subscriptions.confirm()

    async def _keep_subscribed(self, line: Line) -> NoReturn:
        self._subscriptions.sent += 1
        await line.send("SUBSCRIBE", self._key("announced"), within=DEAD_AFTER)
        while True:
            more, less = self._subscriptions.take_changes(self._channels)
            for command, names in (("SUBSCRIBE", more), ("UNSUBSCRIBE", less)):
                for first in range(0, len(names), _MOST_NAMES):
                    keys = map(self._key, names[first : first + _MOST_NAMES])
                    await line.send(command, *keys, within=DEAD_AFTER)
            await self._subscriptions.changed.wait()

    async def _keep_asking(self, line: Line) -> NoReturn:
        while True:
            await self._seams.pause(HEARTBEAT, self._never)
            if line.unanswered >= _MOST_UNANSWERED:
                raise BackplaneError(f"Redis sent nothing for about {DEAD_AFTER} seconds")
            await line.ping(within=DEAD_AFTER)

    async def _keep_up(self) -> NoReturn:
        await self._subscriptions.wait()
        assert self._position is not None
        newest = await self._answer(self._find_end())
        if _order(newest) < _order(self._position):  # it is another stream, or its clock went back
            self._position = newest
        await self._answer(self._catch_up())
        self._arrived(lost=True)
        while True:
            await self._announced.wait()
            await self._answer(self._catch_up())

    async def _catch_up(self) -> None:
        """Read what was announced since."""
        assert self._inbox is not None
        self._announced.clear()
        while entries := await self._read_stream("XRANGE", f"({self._position}", "+", _MOST_ENTRIES):
            for position, fields in entries:
                self._inbox.take((fields or {}).get(b"envelope", b""), way="announced")
                self._position = position.decode()

    async def _find_end(self) -> str:
        entries = await self._read_stream("XREVRANGE", "+", "-", 1)
        return entries[0][0].decode() if entries else _START

    async def _read_stream(self, command: str, first: str, last: str, most: int) -> list[tuple[bytes, Any]]:
        arguments = (command, self._key("announcements"), first, last, "COUNT", most)
        # What others may have put there need not be a text, and a client that decodes would stumble over it for ever.
        redis: Any = self._redis
        found = await self._caller.ask(lambda: redis.execute_command(*arguments, **{NEVER_DECODE: True}))
        return list(found)

    # Who is alive, and who holds places ---------------------------------------------------------------------------

    async def _beat(self) -> bool:
        users = [*itertools.islice(self._held, len(self._held) // _BEATS_TO_RENEW + 1)]
        for user_id in users:
            self._held.move_to_end(user_id)
        keys = [self._key("processes"), *map(self._places_key, users)]
        known = self._joined and await self._show(keys, join=False)
        if not known:
            self._was_forgotten = self._was_forgotten or self._joined
            await self._show(keys, join=True)
            self._joined = True
        for user_id, name in [*self._unreleased]:
            if (user_id, name) in self._unreleased:  # and not claimed again meanwhile
                await self._release(user_id, name)
        forgotten, self._was_forgotten = self._was_forgotten, False
        return not forgotten

    async def _show(self, keys: list[str], *, join: bool) -> bool:
        arguments: list[str | int] = [self._process_id, _ms(DEAD_AFTER), _ms(_PLACES_LIVE), "join" if join else ""]
        return bool(await self._caller.ask(lambda: self._show_life(keys=keys, args=arguments)))

    async def _find_peers(self) -> frozenset[str]:
        keys, arguments = [self._key("processes")], [_ms(DEAD_AFTER)]
        return frozenset(texts(await self._caller.ask(lambda: self._get_peers(keys=keys, args=arguments))))

    async def _claim(self, user_id: str, name: str, most: int, evict: bool) -> Claim:
        attempt = self._key(f"claim:{secrets.token_hex(8)}")
        keys = [self._places_key(user_id), self._key("processes"), attempt]
        arguments: list[str | int] = [self._process_id, name, most, "evict" if evict else ""]
        arguments += [_ms(DEAD_AFTER), _ms(_PLACES_LIVE)]
        self._unreleased.discard((user_id, name))
        self._held.setdefault(user_id, set()).add(name)
        granted, *evicted = await self._caller.ask(lambda: self._take_place(keys=keys, args=arguments))
        if not granted:
            self._forget(user_id, name)
        return Claim(bool(granted), tuple(Place(*place.split("/", 1)) for place in texts(evicted)))

    async def _release(self, user_id: str, name: str) -> None:
        self._forget(user_id, name)
        if len(self._unreleased) < _MOST_UNRELEASED:
            self._unreleased.add((user_id, name))  # until it is; a beat tries again
        await self._caller.ask(lambda: self._redis.zrem(self._places_key(user_id), self._place(name)))
        self._unreleased.discard((user_id, name))

    async def _leave(self) -> None:
        self._joined = self._was_forgotten = False
        held = [(user_id, name) for user_id, names in self._held.items() for name in names]
        await self._caller.ask(lambda: self._redis.zrem(self._key("processes"), self._process_id))
        for first in range(0, len(held), _MOST_NAMES):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for user_id, name in held[first : first + _MOST_NAMES]:
                    pipeline.zrem(self._places_key(user_id), self._place(name))
                await self._caller.ask(pipeline.execute, again=False)
        self._held.clear()
        self._unreleased.clear()

    def _forget(self, user_id: str, name: str) -> None:
        names = self._held.get(user_id, set())
        names.discard(name)
        if not names:
            self._held.pop(user_id, None)

    def _place(self, name: str) -> str:
        return f"{self._process_id}/{name}"

    def _places_key(self, user_id: str) -> str:
        return self._key(f"places:{json.dumps(user_id)}")  # ASCII alone, whatever the id

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _translate(self, error: Exception) -> BackplaneError | None:
        return self._caller.translate(error)


def _order(position: str) -> tuple[int, ...]:
    """Return what positions in a stream are compared by."""
    return tuple(map(int, position.split("-")))


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
