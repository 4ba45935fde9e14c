"""What the processes of the application share, and what for: tokens, the backplane, the lease, and the ledger.

Your application has one of these already, and makes the four of it where it makes its `WSAuth`.
"""

from __future__ import annotations

import abc

from example_app.ledger import Ledger, MemoryLedger
from example_app.terminal import StartError
from tornado_wsauth import Backplane, Lease, MemoryTokenStore, TokenStore


class Engine(abc.ABC):
    """A server that all processes reach, seen from one of them. Made in the event loop that uses it."""

    where: str
    """Where things are kept, in a sentence."""
    advice: str
    """What to do when it cannot be reached, in a sentence."""
    ledger: Ledger

    @abc.abstractmethod
    def tokens(self) -> TokenStore: ...

    @abc.abstractmethod
    def backplane(self) -> Backplane | None:
        """Return a new one; each application needs its own."""

    @abc.abstractmethod
    def lease(self, name: str) -> Lease | None: ...

    @abc.abstractmethod
    async def close(self) -> None: ...


class MemoryEngine(Engine):
    """For one process: everything is in its memory."""

    where = "in memory"
    advice = ""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()

    def tokens(self) -> TokenStore:
        return MemoryTokenStore()

    def backplane(self) -> Backplane | None:
        return None

    def lease(self, name: str) -> Lease | None:
        return None

    async def close(self) -> None:
        pass


def make_engine(*, redis_url: str | None = None, mongodb_uri: str | None = None) -> Engine:
    """Return an engine, which connects when it is first used. Drivers are loaded only where they are needed.

    Raises `StartError` for a missing driver, and for an address that is none.
    """
    if redis_url:
        try:
            from example_app.redis_engine import RedisEngine
        except ImportError as error:
            raise StartError('--redis-url needs redis-py: pip install "tornado_wsauth[redis]"') from error
        return RedisEngine(redis_url)
    if mongodb_uri:
        try:
            from example_app.mongo_engine import MongoEngine
        except ImportError as error:
            raise StartError('--mongodb-uri needs PyMongo: pip install "tornado_wsauth[mongo]"') from error
        return MongoEngine(mongodb_uri)
    return MemoryEngine()
