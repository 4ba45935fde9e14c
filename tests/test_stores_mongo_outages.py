"""`MongoTokenStore` while MongoDB is down, hangs, drops connections or elects another primary."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contracts.token_store import outcomes, rejection
from tests.mongod import (
    FAILING_APP,
    MONGO_FLAVOURS,
    ReplicaSet,
    close_client,
    failing,
    make_client,
    require_mongod,
)
from tornado_wsauth.errors import TokenRejected, TokenStoreError
from tornado_wsauth.stores.mongo import MongoTokenStore
from tornado_wsauth.tokens import TokenRecord

pytestmark = [
    pytest.mark.outages,
    # PyMongo leaves a socket to the collector when it gives up a connection to a member that was killed.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

every_flavour = pytest.mark.parametrize("flavour", MONGO_FLAVOURS)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what the driver left here, where it may, and not in the next module's tests."""
    yield
    gc.collect()


# --- A34: MongoDB is down or hangs -----------------------------------------------------------------------------------


@pytest.mark.gen_test
@every_flavour
async def test_server_that_hangs_is_an_error_within_the_timeout_and_later_answers_again(
    flavour: str, mongo_collection: Callable[..., Any], replica_set: ReplicaSet
) -> None:
    # A34
    collection = mongo_collection(flavour, uri=replica_set.uri)
    patient, hasty = MongoTokenStore(collection, timeout=20), MongoTokenStore(collection, timeout=0.3)
    tried, kept = [await patient.issue("ann", 30) for _ in range(2)]
    replica_set.members[0].signal(signal.SIGSTOP)
    try:
        for call in (hasty.issue("ann", 30), hasty.redeem(tried), hasty.revoke_user("bob"), hasty.start()):
            before = time.monotonic()
            with pytest.raises(TokenStoreError, match=r"did not answer within 0\.3 seconds"):
                await call
            assert time.monotonic() - before < 0.3 + 0.4  # the second number is for a busy machine
    finally:
        replica_set.members[0].signal(signal.SIGCONT)
    assert (await patient.redeem(kept)).user_id == "ann"
    assert (await patient.redeem(await patient.issue("ann", 30))).user_id == "ann"


@pytest.mark.gen_test
@every_flavour
async def test_server_that_is_not_there_is_an_error_within_the_timeout(
    flavour: str, mongo_client: Callable[..., Any]
) -> None:
    # A34
    client = mongo_client(flavour, uri="mongodb://127.0.0.1:1/?replicaSet=none")
    store = MongoTokenStore(client.app.tokens, timeout=0.3)
    for call in (store.issue("ann", 30), store.redeem("A" * 43)):
        before = time.monotonic()
        with pytest.raises(TokenStoreError, match=r"did not answer within 0\.3 seconds"):
            await call
        assert time.monotonic() - before < 0.3 + 0.4


@pytest.mark.gen_test
@every_flavour
async def test_driver_that_is_busy_is_an_error_within_the_timeout(
    flavour: str,
    mongo_collection: Callable[..., Any],
    replica_set: ReplicaSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The application's own slow queries hold every connection, and with Motor every thread."""
    # A34
    if flavour != "pymongo":
        framework = importlib.import_module(f"motor.frameworks.{flavour.removeprefix('motor_')}")
        monkeypatch.setattr(framework, "_EXECUTOR", ThreadPoolExecutor(2))
    collection = mongo_collection(flavour, uri=replica_set.uri, maxPoolSize=2)
    admin = collection.database.client.admin
    await admin.command("ping")
    slow = [asyncio.ensure_future(admin.command("sleep", 1, millis=800, lock="none")) for _ in range(2)]
    await asyncio.sleep(0)
    before = time.monotonic()
    with pytest.raises(TokenStoreError, match=r"did not answer within 0\.3 seconds"):
        await MongoTokenStore(collection, timeout=0.3).issue("ann", 30)
    assert time.monotonic() - before < 0.3 + 0.4
    await asyncio.gather(*slow)


@pytest.mark.gen_test
async def test_a_store_that_was_asked_too_much_while_the_server_hung_answers_when_it_is_back(
    mongo_collection: Callable[..., Any], replica_set: ReplicaSet
) -> None:
    """Calls run out of time inside the driver, on a loop that has other work to do."""
    # A34
    store = MongoTokenStore(mongo_collection(uri=replica_set.uri), timeout=1)
    await store.start()

    async def other_work() -> None:
        while True:
            time.sleep(0.002)  # noqa: ASYNC251 - as a busy application does
            await asyncio.sleep(0)

    replica_set.members[0].signal(signal.SIGSTOP)
    try:
        calls = [asyncio.ensure_future(store.issue(f"user {number}", 30, max_live=10)) for number in range(400)]
        working = asyncio.ensure_future(other_work())
        await asyncio.sleep(1.6)
        working.cancel()
    finally:
        replica_set.members[0].signal(signal.SIGCONT)
    for call in calls:
        with contextlib.suppress(TokenStoreError):
            await call
    async with asyncio.timeout(15):
        while True:  # the driver may take a moment to see that the server is there again
            with contextlib.suppress(TokenStoreError):
                await store.issue("ann", 30)
                break


# --- A35: what a replica set rides out --------------------------------------------------------------------------------


FAILURES = {
    "dropped connection": (1, {"closeConnection": True}),
    "primary stepping down": (1, {"errorCode": 10107}),
    "three errors in a row": (3, {"errorCode": 189}),
}


@pytest.mark.gen_test
@every_flavour
@pytest.mark.parametrize("failure", FAILURES)
async def test_failure_of_the_server_is_invisible_to_redeem(
    failure: str, flavour: str, mongo_collection: Callable[..., Any], replica_set: ReplicaSet
) -> None:
    # A35
    collection = mongo_collection(flavour, uri=replica_set.uri, appname=FAILING_APP)
    store = MongoTokenStore(collection)
    times, how = FAILURES[failure]
    token = await store.issue("ann", 30)
    async with failing(collection.database.client, ["findAndModify"], times, **how):
        assert (await store.redeem(token)).user_id == "ann"


@pytest.mark.gen_test
@pytest.mark.parametrize("failure", FAILURES)
async def test_failure_of_the_server_is_invisible_to_every_other_call(
    failure: str, mongo_collection: Callable[..., Any], replica_set: ReplicaSet
) -> None:
    """Each command that a call sends is failed in turn."""
    # A35
    collection = mongo_collection(uri=replica_set.uri, appname=FAILING_APP)
    client, store = collection.database.client, MongoTokenStore(collection)
    times, how = FAILURES[failure]
    for command in ("update", "aggregate"):
        async with failing(client, [command], times, **how):
            token = await store.issue("ann", 30, max_live=5)
    await store.redeem(token)
    async with failing(client, ["find"], times, **how):
        assert await rejection(store.redeem(token)) == ("replayed", "ann")
    for command in ("find", "delete"):
        await store.issue("bob", 30)
        async with failing(client, [command], times, **how):
            assert await store.revoke_user("bob") == 1
    if times == 1:
        async with failing(client, ["createIndexes"], times, **how):
            await store.start()


@pytest.mark.gen_test(timeout=110)
async def test_no_token_is_redeemed_twice_or_lost_while_primaries_are_killed() -> None:
    """Three members; each token is tried twice at a time, while ``kill -9`` takes the primary again and again."""
    # A35
    require_mongod()
    # Long enough that a busy machine does not take a member that was not scheduled for one that is gone.
    with ReplicaSet(members=3, election_ms=2000) as replica_set:
        client = make_client(MONGO_FLAVOURS[0], replica_set.uri)
        store = MongoTokenStore(client.app.tokens, timeout=15)
        await store.start()
        tally: Counter[str] = Counter()
        over = asyncio.Event()
        workers = [asyncio.create_task(keep_redeeming(store, tally, over)) for _ in range(4)]
        try:
            await kill_primary(replica_set, tally, workers)
            replica_set.start_all()  # not in a thread, with which it would die
            await asyncio.to_thread(replica_set.wait_until_all_serve)
            await kill_primary(replica_set, tally, workers)
        finally:
            # Not cancelled: on Python 3.11, asyncio.wait_for() in the driver may lose that, and they would go on.
            over.set()
            ended = await asyncio.gather(*workers, return_exceptions=True)
            await close_client(client)
    assert ended == [None] * 4
    assert tally["won twice"] == tally["lost"] == 0, tally
    assert tally["won"] > 40, tally
    assert tally["unclear"] < tally["won"] / 10, tally


async def kill_primary(replica_set: ReplicaSet, tally: Counter[str], workers: list[asyncio.Task[None]]) -> None:
    """End the primary, and wait until 20 tokens were redeemed on the next one."""
    primary = await asyncio.to_thread(replica_set.primary)
    primary.kill()
    served = tally["won"]
    while tally["won"] < served + 20:
        for worker in workers:
            if worker.done():
                worker.result()  # raises what ended it
        await asyncio.sleep(0.05)


async def keep_redeeming(store: MongoTokenStore, tally: Counter[str], over: asyncio.Event) -> None:
    """Issue token after token, redeem each twice at the same time, and count what came of it."""
    while not over.is_set():
        try:
            token = await store.issue("ann", 600)
        except TokenStoreError:
            tally["not issued"] += 1
            continue
        results = await outcomes(store.redeem(token), store.redeem(token))
        assert all(isinstance(result, (TokenRecord, TokenRejected, TokenStoreError)) for result in results), results
        wins = sum(isinstance(result, TokenRecord) for result in results)
        if wins:
            tally["won" if wins == 1 else "won twice"] += 1
        else:
            tally["unclear" if any(isinstance(result, TokenStoreError) for result in results) else "lost"] += 1
