"""What all processes have to know: who is logged in, and the keys that JWTs are signed with.

In your application this is the database, and you have it already. This is its interface, and one process's memory;
`redis_engine` and `mongo_engine` have the others.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

from tornado_wsauth import KeySourceError

LOGIN_LIFETIME = 12 * 60 * 60
"""Seconds after which a login ends by itself, so that a database does not fill up."""

ANSWER_WITHIN = 5.0
"""Seconds that a database may take to answer."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user who logged in once. ``session_id`` is no secret: it is the digest of the one that proves the login."""

    user_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The key that JWTs are signed with, and the one before it, whose JWTs are still out."""

    newest: str = field(repr=False)
    before: str | None = field(default=None, repr=False)
    rotations: int = 0

    @property
    def newest_id(self) -> str:
        """The ``kid`` of the newest."""
        return f"key-{self.rotations + 1}"

    @property
    def by_id(self) -> dict[str, str]:
        """What a JWT may be signed with, by its ``kid``."""
        older = {} if self.before is None else {f"key-{self.rotations}": self.before}
        return {**older, self.newest_id: self.newest}


class LedgerError(KeySourceError):
    """The ledger cannot answer: its server is down, or too slow. A client hears 503, or 1011, and tries again."""


class Ledger(abc.ABC):
    """The logins and the keys. What one process has changed, every other sees at its next call.

    Each method raises `LedgerError`. Keys are replaced in one step, however many processes do so at a time.
    """

    @abc.abstractmethod
    async def start(self, first_key: str) -> None:
        """Prepare the database. ``first_key`` is signed with if there is none in it yet."""

    @abc.abstractmethod
    async def add(self, login: Login) -> None: ...

    @abc.abstractmethod
    async def user_of(self, session_id: str) -> str | None:
        """Return whose login this is; None once it has ended."""

    @abc.abstractmethod
    async def end(self, login: Login) -> None: ...

    @abc.abstractmethod
    async def end_all(self, user_id: str) -> None:
        """End all logins of a user."""

    @abc.abstractmethod
    async def keys(self) -> Keys: ...

    @abc.abstractmethod
    async def rotate(self, new_key: str) -> None:
        """Make ``new_key`` the newest. The one that was is the one before; the one before that is forgotten."""


class MemoryLedger(Ledger):
    """A ledger for one process, and for as long as that lives."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}  # by the id of the session
        self._keys: Keys | None = None

    async def start(self, first_key: str) -> None:
        self._keys = self._keys or Keys(first_key)

    async def add(self, login: Login) -> None:
        self._users[login.session_id] = login.user_id

    async def user_of(self, session_id: str) -> str | None:
        return self._users.get(session_id)

    async def end(self, login: Login) -> None:
        self._users.pop(login.session_id, None)

    async def end_all(self, user_id: str) -> None:
        self._users = {session: other for session, other in self._users.items() if other != user_id}

    async def keys(self) -> Keys:
        if self._keys is None:
            raise LedgerError("there are no keys yet: await Ledger.start()")
        return self._keys

    async def rotate(self, new_key: str) -> None:
        keys = await self.keys()
        self._keys = Keys(new_key, keys.newest, keys.rotations + 1)
