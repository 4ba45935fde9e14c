"""A TCP proxy between us and a server, whose faults are the test's to choose."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Carries TCP between whoever connects to ``port`` and the server at ``target``, a port of this machine."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece takes, either way."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._joined = asyncio.Event()
        self._joined.set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Accept connections; again at the same port after `cut`."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Abort every connection and refuse new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        carrying = [*self._carrying]
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    def part(self) -> None:
        """Let nothing pass and tell nobody, as when a cable is cut. New connections hang, too."""
        self._joined.clear()

    def join(self) -> None:
        """Let what waits pass, and everything after it."""
        self._joined.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: asyncio would complain of one that is cancelled.
        task = asyncio.get_running_loop().create_task(self._carry_both_ways(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry_both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            await self._joined.wait()
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                ends.append(back)
                await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            for end in ends:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(2**16):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._joined.wait()
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()
