"""A server in a process of its own, for what only two processes can show: ``python -m tests.server_process …``.

It takes the URI, the database and the collection of a MongoDB token store, prints the port it serves ``/ws`` on, and
ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys

from pymongo import AsyncMongoClient

from tests.support import Echo, Server, make_auth
from tornado_wsauth import MongoTokenStore


class Chat(Echo):
    pass


async def main(uri: str, database: str, collection: str) -> None:
    client = AsyncMongoClient(uri)
    auth = make_auth(tokens=MongoTokenStore(client[database][collection]))
    await auth.start()
    server = Server([(r"/ws", Chat)], auth, {"websocket_ping_interval": 30})
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await auth.close()
    await server.close()
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
