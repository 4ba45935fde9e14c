"""What a backplane promises. ``tests/contracts/backplane.py`` holds every backplane to it.

`WSAuth` has one where an application runs in several processes; `cluster` says what is sent. A backplane knows neither
connections nor Tornado, and each driver stays inside the one module named after it.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

EVERYONE = "everyone"
"""The channel that every process listens to."""

HEARTBEAT = 2.0
"""Seconds between two signs of life of a process."""

DEAD_AFTER = 6.0
"""Seconds without one after which a process counts as dead, on the engine's clock."""

OnGap = Callable[[], Awaitable[object] | object]
"""Called when messages may have been lost."""


def group_channel(group: str) -> str:
    """Return the channel of what is broadcast to ``group``. Raises `TypeError` for what is no name."""
    if not isinstance(group, str):
        raise TypeError(f"a group is a str, not {type(group).__name__}")
    return f"group:{json.dumps(group)}"  # ASCII alone, whatever the name


def user_channel(user_id: str) -> str:
    """Return the channel of what is sent to ``user_id``."""
    return f"user:{json.dumps(user_id)}"


def process_channel(process_id: str) -> str:
    """Return the channel of what is meant for one process."""
    return f"process:{process_id}"


class Place(NamedTuple):
    """One of the connections that a user may have."""

    process_id: str
    """The process that the connection is of."""
    name: str
    """Its name there."""


class Claim(NamedTuple):
    """The answer to `Backplane.claim`."""

    granted: bool
    evicted: tuple[Place, ...] = ()
    """Whose places were given away for it, oldest first."""


class Receiver(Protocol):
    """Whom a backplane tells of what comes in. It calls from the event loop's thread and survives what is raised."""

    def receive(self, channel: str, message: Mapping[str, Any]) -> None:
        """Another process has sent ``message`` to a channel that this one listens to."""

    def gap(self) -> None:
        """Messages of before this call may have been lost; those of after it are not."""

    def forgotten(self) -> None:
        """The others took this process for dead: the places it had claimed are gone, and it may claim them again."""


class Backplane(abc.ABC):
    """Carries JSON objects between the processes of one application, and keeps count of what they share.

    Promises of every backplane:

    * **At most once.** A process receives a published message once or not at all, whatever is sent again underneath.
      There is no receipt: ``publish`` returns when the engine has the message.
    * **Ordered per publisher.** What one process publishes, in whichever channels, another receives in that order.
      Between two publishers there is no order.
    * **Nothing is echoed.** A process does not receive what it has published itself.
    * **Only what is listened to.** A process receives the channels it listens to, and `EVERYONE`.
    * **Lost messages are told of.** After the connection was cut, and messages may have been lost by it,
      `Receiver.gap` is called once, as soon as messages arrive again. The backplane reconnects by itself, for ever,
      with backoff. What was announced with ``announce`` is not lost: it comes late, before the call of ``gap``.
    * **Places are counted exactly.** However many ``claim`` calls race, a user never holds more places than
      allowed. The places of a dead process are free again `DEAD_AFTER` seconds after its last sign of life.
    * **No answer is never a yes.** When the engine cannot answer in time, `BackplaneError` is raised.

    Payloads are JSON and are checked: what others may have put there is ignored with a warning, never executed.
    """

    on_gap: OnGap | None = None
    """Called, sync or async, when messages may have been lost: an application may ask its clients to look again."""

    @property
    @abc.abstractmethod
    def process_id(self) -> str:
        """What the others know this process by; a new one for each backplane object."""

    @property
    @abc.abstractmethod
    def is_connected(self) -> bool:
        """Whether messages arrive, as far as is known."""

    @abc.abstractmethod
    async def start(self, receiver: Receiver) -> None:
        """Connect, and hand ``receiver`` what arrives from now on.

        Raises `BackplaneError` when the engine cannot be reached or does not fit; the next call tries again.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Send what is waiting, free the places of this process, and end. Closing again does nothing."""

    @abc.abstractmethod
    async def publish(self, channel: str, message: Mapping[str, Any]) -> None:
        """Send ``message`` to the other processes that listen to ``channel``; return when the engine has it.

        Raises `BackplaneError` when the engine cannot be reached or does not answer in time: then the message may
        arrive all the same, once. Raises `TypeError` or `ValueError` for what is not JSON, or longer than
        `envelope.MOST_BYTES`. While the connection is known to be cut, it fails at once.
        """

    @abc.abstractmethod
    async def announce(self, message: Mapping[str, Any]) -> None:
        """Send ``message`` to `EVERYONE`, and keep it for processes that are cut off for a while (an hour, at least).

        Otherwise like ``publish``; its order among published messages is open.
        """

    @abc.abstractmethod
    def listen(self, channel: str) -> None:
        """Receive what is published to ``channel``, from a moment after this call. It does not wait for that moment."""

    @abc.abstractmethod
    def ignore(self, channel: str) -> None:
        """Receive no more of ``channel``; effective at once."""

    @abc.abstractmethod
    async def listening(self) -> None:
        """Wait until every ``listen`` of before is in effect. Raises `BackplaneError` when that takes too long."""

    @abc.abstractmethod
    async def peers(self) -> frozenset[str]:
        """Return the ids of the other processes that are alive. Raises `BackplaneError`."""

    @abc.abstractmethod
    async def claim(self, user_id: str, name: str, *, most: int, evict: bool = False) -> Claim:
        """Take a place for a connection ``name`` of ``user_id``, who may have ``most`` in all processes.

        If all are taken, the claim is not granted; with ``evict``, it is, and the oldest places are given away. To
        claim a place that one has already changes nothing. Raises `BackplaneError`; then it may have been granted, and
        is to be released.
        """

    @abc.abstractmethod
    async def release(self, user_id: str, name: str) -> None:
        """Give a place back. Releasing what is not held does nothing. Raises `BackplaneError`."""
