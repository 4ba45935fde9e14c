"""One application in several processes: what `WSAuth` sends over the backplane, and does about what comes in.

`auth` owns a `Cluster` where it was given a backplane. What a message may look like is in this module alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import inspect
import itertools
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple, Protocol, get_args

from tornado_wsauth.backplane.base import EVERYONE, Backplane, OnGap, group_channel, process_channel, user_channel
from tornado_wsauth.backplane.envelope import MOST_BYTES, wrap
from tornado_wsauth.connections import Connections
from tornado_wsauth.errors import BackplaneError
from tornado_wsauth.fanout import Slow
from tornado_wsauth.log import logger
from tornado_wsauth.observer import Observer, timed
from tornado_wsauth.once import Once
from tornado_wsauth.places import Places

_SLOW = get_args(Slow)

ANSWER_WITHIN = 1.0
"""Seconds that another process is given to answer; one that has died is asked until the engine has noticed."""


class Local(Protocol):
    """What this process does about itself."""

    connections: Connections

    def end_user(self, user_id: str) -> int:
        """End the connections of a user, with those on their way; return how many there were."""

    def end_session(self, session_id: str) -> int:
        """End the connections of one login; return how many there were."""

    def recheck(self) -> None:
        """Ask about each session whether it is still valid."""


class Cluster:
    """The processes of one application, seen from one of them. It is the backplane's `Receiver`."""

    def __init__(self, backplane: Backplane, local: Local, places: Places | None, metrics: Observer | None) -> None:
        self.backplane = backplane
        self._local = local
        self._places = places
        self._metrics = metrics
        self.start: Once = Once(self._start)
        """Connect. Raises `BackplaneError`."""
        self._closed = False
        self._losing = False  # what was sent last did not go out
        self._numbers = itertools.count()
        self._questions: dict[int, _Question] = {}
        self._silent: set[str] = set()  # processes that did not answer, which are not waited for until they do
        self._background: set[asyncio.Task[None]] = set()

    async def _start(self) -> None:
        if self._closed:
            raise BackplaneError("the backplane is closed")
        self.backplane.listen(process_channel(self.backplane.process_id))
        await timed(self._metrics, "backplane", "start", self.backplane.start(self))

    async def close(self) -> None:
        """Leave. The places of this process's connections are free."""
        self._closed = True
        if self._places is not None:
            self._places.close()
        for task in self._background:
            task.cancel()
        await self.backplane.close()

    # What is sent -------------------------------------------------------------------------------------------------

    async def send(self, outgoing: Outgoing) -> None:
        """Send what may be lost. That it is, is said in the log, and to the others as soon as they hear us."""
        try:
            await self.start()
            await timed(self._metrics, "backplane", "publish", self.backplane.publish(*outgoing))
            if self._losing:
                self._losing = False  # before it is told: others send meanwhile
                await self._tell_of_loss()
        except BackplaneError as error:
            if not self._losing:
                logger.warning("what is sent to all processes reaches this one's clients only, for now: %s", error)
            self._losing = True

    async def end_user(self, user_id: str) -> None:
        """Have the other processes end a user's connections. Raises `BackplaneError`: then some may go on."""
        await self.start()
        await self._announce({"kind": "end_user", "user": user_id})

    async def end_session(self, session_id: str) -> None:
        """Have the other processes end the connections of a login. Raises `BackplaneError`: then some may go on."""
        await self.start()
        await self._announce({"kind": "end_session", "session": session_id})

    async def _announce(self, message: Mapping[str, Any]) -> None:
        await timed(self._metrics, "backplane", "announce", self.backplane.announce(message))

    async def count(self, group: str | None) -> int:
        """Return how many connections the other processes have (in ``group``). Raises `BackplaneError`."""
        return sum(answer for answer in await self._ask("count", group) if type(answer) is int and answer > 0)

    async def presence(self, group: str | None) -> Counter[str]:
        """Return who is connected to the other processes (in ``group``), and how often. Raises `BackplaneError`."""
        users: Counter[str] = Counter()
        for answer in await self._ask("presence", group):
            if isinstance(answer, dict):
                users.update({user: count for user, count in answer.items() if type(count) is int and count > 0})
        return users

    async def _tell_of_loss(self) -> None:
        try:
            await self.backplane.publish(EVERYONE, {"kind": "lost"})
        except BackplaneError:
            self._losing = True

    async def _ask(self, what: str, group: str | None) -> list[object]:
        """Return what the other processes answer that are alive."""
        await self.start()
        peers = await timed(self._metrics, "backplane", "peers", self.backplane.peers())
        if not peers:
            return []
        number = next(self._numbers)
        self._silent &= peers
        question = self._questions[number] = _Question(peers - self._silent)
        message = {"kind": "ask", "what": what, "group": group, "number": number, "process": self.backplane.process_id}
        try:
            await self.backplane.publish(EVERYONE, message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN):
                    await question.answered.wait()
        finally:
            del self._questions[number]
        self._silent |= question.missing
        return [*question.answers.values()]

    # What comes in ------------------------------------------------------------------------------------------------

    def receive(self, channel: str, message: Mapping[str, Any]) -> None:
        """Do what another process asks for."""
        match message:
            case {"kind": "broadcast", "group": None | str() as group, "slow": slow} if slow in _SLOW:
                content, binary = _unpack(message)
                self._local.connections.broadcast(content, group=group, binary=binary, slow=slow)
            case {"kind": "send", "user": str(user), "slow": slow} if slow in _SLOW:
                content, binary = _unpack(message)
                self._local.connections.send_to_user(user, content, binary=binary, slow=slow)
            case {"kind": "end_user", "user": str(user)}:
                self._local.end_user(user)
            case {"kind": "end_session", "session": str(session)}:
                self._local.end_session(session)
            case {"kind": "evict", "process": str(process), "names": list(names)}:
                if self._places is not None and process == self.backplane.process_id:
                    self._places.evict([name for name in names if isinstance(name, str)])
            case {
                "kind": "ask",
                "what": "count" | "presence" as what,
                "group": None | str() as group,
                "number": int(number),
                "process": str(process),
            }:
                self._in_background(self._answer(what, group, number, process))
            case {"kind": "answer", "number": int(number), "process": str(process), "answer": answer}:
                self._silent.discard(process)
                if number in self._questions:
                    self._questions[number].take(process, answer)
            case {"kind": "lost"}:
                self.gap()
            case _:
                logger.warning("ignored a message on the backplane that this version does not know, in %r", channel)

    async def _answer(self, what: str, group: str | None, number: int, process: str) -> None:
        connections = self._local.connections
        answer = connections.presence(group) if what == "presence" else connections.count(group)
        message = {
            "kind": "answer",
            "answer": answer,
            "number": number,
            "process": self.backplane.process_id,
        }
        with contextlib.suppress(BackplaneError):  # whoever asks does not wait for ever
            try:
                await self.backplane.publish(process_channel(process), message)
            except ValueError as error:
                logger.warning("could not say who is connected: %s", error)

    def gap(self) -> None:
        """Messages may have been lost, logouts of other processes among them if it was long: ask anew what can be."""
        if self._metrics is not None:
            self._metrics.gap()
        self._local.recheck()
        hook = self.backplane.on_gap
        if hook is not None:
            self._in_background(_call_on_gap(hook))

    def forgotten(self) -> None:
        """The others took this process for dead."""
        if self._places is not None:
            self._places.claim_all_again()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class Outgoing(NamedTuple):
    """A message to other processes."""

    channel: str
    message: dict[str, Any]


class _Question:
    """What was asked, and who has not answered."""

    def __init__(self, peers: frozenset[str]) -> None:
        self.answers: dict[str, object] = {}
        self.answered = asyncio.Event()
        self.missing = {*peers}
        self._look()

    def take(self, process: str, answer: object) -> None:
        self.answers[process] = answer
        self.missing.discard(process)
        self._look()

    def _look(self) -> None:
        if not self.missing:
            self.answered.set()


async def _call_on_gap(hook: OnGap) -> None:
    try:
        result = hook()
        if inspect.isawaitable(result):
            await result
    except Exception:
        logger.exception("on_gap() failed")


def to_group(content: str | bytes, group: str | None, binary: bool, slow: Slow) -> Outgoing:
    """Return what has other processes broadcast ``content``. Raises `ValueError` where it is too long for that."""
    channel = EVERYONE if group is None else group_channel(group)
    return Outgoing(channel, {"kind": "broadcast", "group": group, "slow": slow, **_pack(content, binary)})


def to_user(content: str | bytes, user_id: str, binary: bool, slow: Slow) -> Outgoing:
    """Return what has other processes send ``content`` to a user. Raises `ValueError` where it is too long for that."""
    return Outgoing(user_channel(user_id), {"kind": "send", "user": user_id, "slow": slow, **_pack(content, binary)})


def _pack(content: str | bytes, binary: bool) -> dict[str, Any]:
    if binary:
        data = content.encode() if isinstance(content, str) else content
        packed = {"binary": base64.b64encode(data).decode("ascii")}
    else:
        packed = {"text": content if isinstance(content, str) else content.decode()}
    if len(content) > MOST_BYTES / 8:  # else it cannot be too long: JSON takes up to six bytes for a character
        wrap("", packed)
    return packed


def _unpack(message: Mapping[str, Any]) -> tuple[str | bytes, bool]:
    """Return what was packed, and whether it is binary. Raises `ValueError` for what was not."""
    match message:
        case {"text": str(text)}:
            return text, False
        case {"binary": str(data)}:
            with contextlib.suppress(binascii.Error):
                return base64.b64decode(data, validate=True), True
    raise ValueError("a message without content")
