"""Clients that watch what is broadcast, come back when their connection ends, and remember what they saw on each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.support import TEXT, RawClient, jwt_message, make_jwt


class Viewer:
    """One client of ``user``. ``watch`` runs until it is cancelled."""

    def __init__(self, user: str, ports: Sequence[int], new_token: Callable[[str], Awaitable[str]]) -> None:
        self.user = user
        self.ports = ports
        """Where to connect to, in turn: a port that refuses is passed over."""
        self.seen: list[list[dict[str, Any]]] = []
        """The messages after ``auth_ok``, connection by connection."""
        self.is_ready = False
        self.tries = 0
        self.at_port = 0
        """The port it is, or was last, connected to."""
        self._new_token = new_token

    async def watch(self) -> None:
        while True:
            self.at_port = self.ports[self.tries % len(self.ports)]
            self.tries += 1
            try:
                await self._watch_once(self.at_port)
            except (OSError, asyncio.IncompleteReadError):
                self.is_ready = False
                await asyncio.sleep(0.02)

    async def _watch_once(self, port: int) -> None:
        client = await RawClient.connect(port)
        try:
            response = await client.upgrade(f"/ws?token={await self._new_token(self.user)}")
            if response.status != 101:
                raise ConnectionRefusedError(response.status)
            client.send_text(jwt_message(make_jwt(self.user)))
            assert (await client.read_json())["type"] == "auth_ok", "nothing comes before it"
            self.seen.append([])
            self.is_ready = True
            while True:
                opcode, payload = await client.read_frame()
                if opcode != TEXT:
                    raise ConnectionAbortedError
                self.seen[-1].append(json.loads(payload))
        finally:
            client.abort()
            await client.close()

    def numbers(self, connection: int = -1) -> list[int]:
        """Return the numbers in what it saw on one connection."""
        return [message["n"] for message in self.seen[connection] if "n" in message]
