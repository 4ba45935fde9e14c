"""The clients of ``benchmarks.cluster``: what each receives is kept with the time, and held against what was sent.

Linux only: it uses epoll.
"""

from __future__ import annotations

import gc
import itertools
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.cluster_plan import SIZE, Stream, read_text
from benchmarks.fanout_clients import Member

SILENCE = 8  # seconds without any data, after which what is missing is lost
MOST_AT_ONCE = 2**15  # bytes

Chunk = tuple[float, int, bytes]
"""When something came, on the monotonic clock; to which file descriptor; what."""


@dataclass
class Heard:
    """What all clients have received of some streams."""

    deliveries: int = 0
    lost: int = 0
    doubled: int = 0
    """More than once, or not wanted at all."""
    disordered: int = 0
    """After a later one of the same stream."""
    ended: float = 0
    """When the last came, on the monotonic clock."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from the call that sent a message until a client had it."""


class Audience:
    """All clients, of all servers, in one process that never sleeps while it waits."""

    def __init__(self, make_frame: Callable[[str], bytes]) -> None:
        self._groups: dict[int, int] = {}  # of each socket, by its file descriptor
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        sample = "x" * SIZE
        frame = make_frame(sample)
        self._frame_size = len(frame)
        self._text_at = frame.index(sample.encode())

    def add(self, opened: Sequence[Member], groups: Sequence[int]) -> None:
        """Take over the sockets of clients that have finished their way in, each with its group."""
        for client, group in zip(opened, groups, strict=True):
            client.socket.setblocking(False)
            number = client.socket.fileno()
            self._sockets[number], self._groups[number] = client.socket, group
            self._poll.register(number, select.EPOLLIN)

    def receive(self, streams: Sequence[Stream]) -> list[Chunk]:
        """Return all that comes, until it is as much as ``streams`` are, or nothing has come for `SILENCE`."""
        members = [*self._groups.values()]
        sizes = {group: members.count(group) for group in set(members)}
        missing = self._frame_size * sum(
            sum(sizes.get(group, 0) for group in stream.destinations())
            if stream.groups
            else stream.messages * len(members)
            for stream in streams
        )
        readers = {number: each.recv for number, each in self._sockets.items()}
        chunks: list[Chunk] = []
        poll, clock = self._poll.poll, time.monotonic
        latest = max(clock(), *(stream.start + stream.messages * stream.interval for stream in streams))
        gc.disable()
        while missing > 0:
            # It does not sleep: to wake it up would cost a server more than to send, and the slower ones most often.
            events = poll(0, 16384)
            if not events and clock() > latest + SILENCE:
                break
            for number, _ in events:
                data = readers[number](MOST_AT_ONCE)
                if not data:
                    raise RuntimeError("a server closed a connection")
                latest = clock()
                chunks.append((latest, number, data))
                missing -= len(data)
        gc.enable()
        return chunks

    def judge(self, streams: Sequence[Stream], times: Mapping[int, Sequence[float]], chunks: Sequence[Chunk]) -> Heard:
        """Hold ``chunks`` against ``streams``. ``times`` says when each message of a publisher was sent."""
        heard = Heard(ended=chunks[-1][0] if chunks else time.monotonic())
        arrived: dict[int, dict[int, list[int]]] = {number: {} for number in self._sockets}
        rests = dict.fromkeys(self._sockets, b"")
        size, at = self._frame_size, self._text_at
        for when, number, data in chunks:
            data = rests[number] + data
            end = len(data) - len(data) % size
            rests[number] = data[end:]
            for start in range(at, end, size):
                publisher, message = read_text(data[start : start + SIZE])
                if publisher in times:
                    arrived[number].setdefault(publisher, []).append(message)
                    heard.latencies.append(when - times[publisher][message])
                else:
                    heard.doubled += 1  # what was over before came once more
        if any(rests.values()):
            raise RuntimeError("a client received something that is no message of this benchmark")
        heard.deliveries = len(heard.latencies)
        for group in set(self._groups.values()):
            wanted = _wanted(streams, group)
            for number in (number for number, its in self._groups.items() if its == group):
                if arrived[number] != wanted:
                    _count_faults(heard, wanted, arrived[number])
        return heard

    def check_silence(self) -> None:
        """Raise `RuntimeError` if anything has come that nobody waited for."""
        if events := self._poll.poll(0):
            raise RuntimeError(f"{len(events)} clients received more than was sent")

    def close(self) -> None:
        """Reset every connection, so that none holds its port for a minute."""
        self._poll.close()
        for each in self._sockets.values():
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        self._sockets.clear()


def _wanted(streams: Sequence[Stream], group: int) -> dict[int, list[int]]:
    """Return the messages of each publisher that a client in ``group`` must receive, in order."""
    wanted = {}
    for stream in streams:
        numbers = [n for n, its in enumerate(stream.destinations()) if not stream.groups or its == group]
        if numbers:
            wanted[stream.publisher] = numbers
    return wanted


def _count_faults(heard: Heard, wanted: Mapping[int, list[int]], arrived: Mapping[int, list[int]]) -> None:
    for publisher in {*wanted, *arrived}:
        due, came = set(wanted.get(publisher, ())), arrived.get(publisher, [])
        heard.lost += len(due.difference(came))
        heard.doubled += len(came) - len(due.intersection(came))
        heard.disordered += sum(later < earlier for earlier, later in itertools.pairwise(came))
