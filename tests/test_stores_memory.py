"""`MemoryTokenStore`: the contract, and what only a store in memory can get wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.contracts.token_store import TokenStoreContract
from tornado_wsauth.errors import ConfigurationError, TokenLimitReached, TokenStoreError
from tornado_wsauth.stores.memory import MemoryTokenStore


class Harness:
    def __init__(self, **options: Any) -> None:
        self.now = 1_700_000_000.0
        self.store = MemoryTokenStore(clock=lambda: self.now, **options)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds

    async def dump(self) -> str:
        return deep_repr(vars(self.store))


def deep_repr(value: Any) -> str:
    """Return the text of every string and number that ``value`` holds, however deep."""
    if isinstance(value, dict):
        return " ".join(map(deep_repr, [*value.keys(), *value.values()]))
    if isinstance(value, (list, tuple, set)):
        return " ".join(map(deep_repr, value))
    slots = getattr(type(value), "__slots__", ())
    return " ".join(deep_repr(getattr(value, name)) for name in slots) if slots else repr(value)


@pytest.fixture
def harness() -> Harness:
    return Harness()


class TestMemoryTokenStore(TokenStoreContract):
    pass


@pytest.mark.gen_test
async def test_full_store_refuses_the_next_token_and_keeps_those_it_has() -> None:
    harness = Harness(max_tokens=3)
    spent, live, _ = [await harness.store.issue("ann", 30) for _ in range(3)]
    await harness.store.redeem(spent)
    with pytest.raises(TokenStoreError, match="full: 3 tokens"):
        await harness.store.issue("bob", 30)
    assert len(harness.store) == 3
    assert (await harness.store.redeem(live)).user_id == "ann"
    await harness.pass_time(30)
    assert (await harness.store.redeem(await harness.store.issue("bob", 30))).user_id == "bob"


@pytest.mark.gen_test
async def test_issuing_and_revoking_in_turn_does_not_get_around_the_bound() -> None:
    harness = Harness(max_tokens=10)
    for _ in range(10):
        await harness.store.issue("ann", 30)
        await harness.store.revoke_user("ann")
    with pytest.raises(TokenStoreError, match="full"):
        await harness.store.issue("ann", 30)
    assert {len(value) for value in vars(harness.store).values() if isinstance(value, (dict, list))} == {0, 10}


@pytest.mark.gen_test
async def test_sweep_gives_back_the_memory_of_everything_that_expired() -> None:
    """Whatever became of a token, nothing of it stays, and no single call does all the work."""
    harness = Harness()
    store = harness.store
    for number in range(300):
        token = await store.issue(f"user-{number}", 10 + number % 7, context={"n": number}, max_live=5)
        if number % 3 == 0:
            await store.redeem(token)
        if number % 3 == 1:
            await store.revoke_user(f"user-{number}")
    await harness.pass_time(20)
    before = len(store)
    await store.issue("ann", 1)
    assert 1 < before - len(store) < 50
    for _ in range(30):
        await store.issue("ann", 1)
    await harness.pass_time(1)
    await store.issue("bob", 1)
    await store.issue("bob", 1)
    assert "user-" not in await harness.dump()
    assert "ann" not in await harness.dump()
    assert len(store) == 2


@pytest.mark.gen_test
async def test_a_users_expired_tokens_do_not_count_before_they_are_swept() -> None:
    # A4
    harness = Harness()
    for _ in range(100):  # these stand first in the sweep
        await harness.store.issue("bob", 1)
    for _ in range(5):
        await harness.store.issue("ann", 2, max_live=5)
    await harness.pass_time(2)
    for _ in range(5):
        await harness.store.issue("ann", 30, max_live=5)
    with pytest.raises(TokenLimitReached):
        await harness.store.issue("ann", 30, max_live=5)


# In processes of their own: Python warns of a fork where an earlier test has left threads.
FORK = """
import asyncio, os
from tornado_wsauth.errors import TokenStoreError
from tornado_wsauth.stores.memory import MemoryTokenStore

async def attempt(call):
    try:
        await call
    except TokenStoreError as error:
        return str(error)

async def attempt_all(store, token):
    for call in (store.start(), store.issue("ann", 30), store.redeem(token), store.revoke_user("ann")):
        print(os.getpid(), os.getppid(), await attempt(call), sep="|", flush=True)

store = MemoryTokenStore()
token = asyncio.run(store.issue("ann", 30))
if os.fork() == 0:
    asyncio.run(attempt_all(store, token))
else:
    assert os.wait()[1] == 0
    print(asyncio.run(store.redeem(token)).user_id)
"""

FORK_PROCESSES = """
import asyncio, os
from tornado.process import fork_processes
from tornado_wsauth.errors import TokenStoreError
from tornado_wsauth.stores.memory import MemoryTokenStore

store = MemoryTokenStore()
fork_processes(2, max_restarts=0)
try:
    asyncio.run(store.issue("ann", 30))
except TokenStoreError:
    os.write(1, b"refused\\n")
else:
    os.write(1, b"worked\\n")
"""


def output_of(script: str) -> list[str]:
    """Run a script and return its lines."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert run.stdout, run.stderr
    return run.stdout.splitlines()


def test_store_refuses_to_work_in_a_forked_process_and_goes_on_in_its_own() -> None:
    """It says why and what to do; a token that the child tried stays good in the parent."""
    *lines, parent = output_of(FORK)
    assert parent == "ann"
    assert len(lines) == 4
    for line in lines:
        child, parent, message = line.split("|")
        assert f"created in process {parent} and is used in process {child}" in message
        assert "MongoTokenStore" in message


def test_every_process_of_fork_processes_refuses_a_store_made_before_it() -> None:
    assert output_of(FORK_PROCESSES) == ["refused", "refused"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, r"^MemoryTokenStore\(max_tokens=0\): must be positive; 100000 is the default$"),
        ({"max_tokens": -1}, r"max_tokens=-1\): must be positive"),
        ({"max_tokens": True}, r"max_tokens=True\): must be an int"),
        ({"max_tokens": 1.5}, r"max_tokens=1.5\): must be an int"),
        ({"clock": 5}, r"clock=5\): must be a function"),
    ],
)
def test_bad_option_is_refused_with_its_name_and_its_default(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MemoryTokenStore(**options)
