"""A server in a process of its own, so that its memory can be measured: ``python -m tests.hostile.victim OPTIONS``.

OPTIONS is a JSON object: ``auth`` has options of `WSAuth`, ``settings`` those of the application. It serves ``/ws``,
and answers each line of its input, a JSON string, with a line of its output: a user's name with a connection token
for them, an empty one with what it holds. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from typing import Any

from tests.hostile.scene import Answers
from tests.support import Server, make_auth

LARGE = "large"
"""A message that is answered with a large one, however many answers are queued."""


class Victim(Answers):
    def on_message(self, message):
        if message == LARGE:
            self.write_message(b"x" * 10_000, binary=True)
        else:
            self.write_message(message)


def holds(server: Server) -> dict[str, int]:
    """Return the memory that this process has in use, in bytes, and its connections."""
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * resource.getpagesize()
    return {"memory": resident, "pending": len(server.auth.pending), "open": len(server.auth.connections)}


async def main(auth: dict[str, Any], settings: dict[str, Any]) -> None:
    server = Server([(r"/ws", Victim)], make_auth(**auth), settings)
    for listening in server._server._sockets.values():  # what is accepted inherits it: the kernel is to keep little
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    print(server.port, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        user = json.loads(line)
        answer: Any = await server.auth.issue_token(user) if user else holds(server)
        print(json.dumps(answer), flush=True)
    await server.close()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
