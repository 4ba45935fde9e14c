"""Clients that only receive: many sockets in one process, which reads and counts as cheaply as Python can.

Linux only: it uses epoll, and has the kernel drop what has been counted instead of copying it.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import clients
from benchmarks.fanout_servers import server_frame

TOGETHER = 250  # clients that take each step of their way in at the same time; a server's backlog must hold them
PATIENCE = 60  # seconds without any data, after which what is missing is missing
AUTH_OK = b'"auth_ok"'
SOCKET_IO_PATH = "/socket.io/?EIO=4&transport=websocket"


class Step(NamedTuple):
    """What a client says on its way in, framed, and what must be in the answer to it."""

    say: bytes
    hear: bytes


class Member(clients.Client):
    """One connection on its way in: to a port of this machine, or to the path of a Unix-domain socket."""

    def __init__(self, address: int | str) -> None:
        if isinstance(address, int):
            super().__init__(address)
            return
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self._received = b""

    def check_silence(self) -> None:
        """Raise `RuntimeError` if something has been read that nobody wanted."""
        if self._received:
            raise RuntimeError(f"more than expected: {self._received!r}")


def connect(address: int | str, paths: Sequence[str], dialogues: Sequence[Sequence[Step]]) -> list[Member]:
    """Open a connection to each of ``paths`` and go through its dialogue; all take each step together."""
    members = [Member(address) for _ in paths]
    for member, path in zip(members, paths, strict=True):
        member.socket.sendall(clients.upgrade_request(path))
    for member in members:
        member.read_head()
    for steps in zip(*dialogues, strict=True):
        for member, step in zip(members, steps, strict=True):
            member.socket.sendall(step.say)
        for member, step in zip(members, steps, strict=True):
            answer = member.read_message()
            if step.hear not in answer:
                raise RuntimeError(f"no {step.hear!r} in {answer!r}")
    for member in members:
        member.check_silence()
    return members


def connect_raw(address: int | str, count: int) -> list[Member]:
    """Connect clients that have nothing to say."""
    return connect(address, ["/ws"] * count, [[]] * count)


def connect_authenticated(address: int | str, tokens: Sequence[str], jwts: Sequence[bytes]) -> list[Member]:
    """Connect clients in the two steps of ours. ``jwts`` are framed messages."""
    return connect(address, [f"/ws?token={token}" for token in tokens], [[Step(jwt, AUTH_OK)] for jwt in jwts])


def connect_socket_io(address: int | str, count: int) -> list[Member]:
    """Connect clients of Socket.IO 5 on Engine.IO 4: its greeting, then the namespace."""
    dialogue = [Step(b"", b"0{"), Step(clients.frame(b"40"), b"40{")]
    return connect(address, [SOCKET_IO_PATH] * count, [dialogue] * count)


def raw_frame(text: str) -> bytes:
    """Return what a client receives for one message."""
    return server_frame(text.encode())


def socket_io_frame(text: str) -> bytes:
    """Return what a client of Socket.IO receives for one event named ``message``."""
    return server_frame(b"42" + json.dumps(["message", text], separators=(",", ":")).encode())


class Crowd:
    """All clients of one server. Of one, the first, everything is compared; of the others, the bytes are counted."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._buffer = bytearray(2**18)
        self._sampled = -1

    def __len__(self) -> int:
        return len(self._sockets)

    def add(self, opened: Sequence[Member]) -> None:
        """Take over the sockets of clients that have finished their way in."""
        for client in opened:
            client.socket.setblocking(False)
            number = client.socket.fileno()
            self._sockets[number] = client.socket
            self._poll.register(number, select.EPOLLIN)
            if self._sampled < 0:
                self._sampled = number

    def receive(self, expected: bytes) -> float:
        """Wait until every client has received ``expected``, and return the `time.monotonic` of the last byte.

        Raises `RuntimeError` if one received anything else.
        """
        received = dict.fromkeys(self._sockets, 0)
        readers = {number: each.recv_into for number, each in self._sockets.items()}
        sample, sampled = bytearray(), self._sampled
        missing = len(expected) * len(readers)
        poll, buffer, size, drop = self._poll.poll, self._buffer, len(self._buffer), socket.MSG_TRUNC
        silent_until = time.monotonic() + PATIENCE
        while missing > 0:
            # It does not sleep: to wake it up would cost a server more than to send, and the slower ones most often.
            events = poll(0, 16384)
            if events:
                silent_until = time.monotonic() + PATIENCE
            elif time.monotonic() > silent_until:
                raise RuntimeError(f"{missing} bytes of {len(expected) * len(readers)} never came")
            for number, _ in events:
                got = readers[number](buffer, size, 0 if number == sampled else drop)
                if not got:
                    raise RuntimeError("the server closed a connection")
                if number == sampled:
                    sample += buffer[:got]
                received[number] += got
                missing -= got
        ended = time.monotonic()
        wrong = {got for got in received.values() if got != len(expected)}
        if wrong or sample != expected:
            raise RuntimeError(
                f"wanted {len(expected)} bytes, {expected[:40]!r}…, not {wrong}, {bytes(sample[:40])!r}…"
            )
        return ended

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
