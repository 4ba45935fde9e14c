"""`MongoLease` on a real MongoDB, through every driver that is installed: what is MongoDB's own.

What holds for every lease is in ``tests/contracts/lease.py``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import pymongo
import pytest

from tests.mongod import FAILING_APP, MONGO_FLAVOURS, ReplicaSet, failing
from tornado_wsauth.errors import BackplaneError, ConfigurationError
from tornado_wsauth.leases.mongo import MongoLease

pytestmark = pytest.mark.engines

every_flavour = pytest.mark.parametrize("flavour", MONGO_FLAVOURS)

INTERVAL = 60.0


class Bench:
    """A lease's collection, and the processes that want the lease."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.prefix = f"wsauth_{secrets.token_hex(4)}_"
        self.leases = database[f"{self.prefix}leases"]

    def lease(self, name: str = "ticker", **options: Any) -> MongoLease:
        return MongoLease(self.database, name, prefix=self.prefix, **options)

    async def pass_time(self, seconds: float) -> None:
        earlier = {field: {"$subtract": [f"${field}", round(seconds * 1000)]} for field in ("until", "last")}
        await self.leases.update_many({}, [{"$set": earlier}])


@pytest.fixture
def bench(mongo_client: Callable[..., Any], mongo_database_name: str) -> Callable[..., Bench]:
    return lambda flavour="pymongo", **client: Bench(mongo_client(flavour, **client)[mongo_database_name])


@pytest.mark.gen_test
@every_flavour
async def test_lease_is_one_document_of_the_documented_shape(flavour: str, bench: Callable[..., Bench]) -> None:
    place = bench(flavour)
    assert await place.lease().claim(INTERVAL)
    (document,) = [found async for found in place.leases.find({})]
    assert set(document) == {"_id", "holder", "until", "last", "granted"}
    assert document["_id"] == "ticker"
    assert (document["until"] - document["last"]).total_seconds() == INTERVAL


@pytest.mark.gen_test
@every_flavour
async def test_of_racing_claims_of_a_new_lease_one_is_granted(flavour: str, bench: Callable[..., Bench]) -> None:
    place = bench(flavour)
    for name in ("ticker", "$ticker"):
        assert sum(await asyncio.gather(*(place.lease(name).claim(INTERVAL) for _ in range(20)))) == 1


@pytest.mark.gen_test
@every_flavour
async def test_holder_is_granted_again_after_half_an_interval_and_others_after_a_whole_one(
    flavour: str, bench: Callable[..., Bench]
) -> None:
    place = bench(flavour)
    holder, other = place.lease(), place.lease()
    assert await holder.claim(INTERVAL)
    await place.pass_time(INTERVAL / 2 - 5)
    assert not await holder.claim(INTERVAL)
    await place.pass_time(5)
    assert not await other.claim(INTERVAL)
    assert await holder.claim(INTERVAL)
    await place.pass_time(INTERVAL - 5)
    assert not await other.claim(INTERVAL)
    await place.pass_time(5)
    assert await other.claim(INTERVAL)
    assert not await holder.claim(INTERVAL), "it was paused, and another has acted for this instant"


@pytest.mark.gen_test
@every_flavour
async def test_released_lease_is_anyones_but_not_for_the_same_instant(
    flavour: str, bench: Callable[..., Bench]
) -> None:
    place = bench(flavour)
    holder, other = place.lease(), place.lease()
    await holder.release()
    assert await holder.claim(INTERVAL)
    await place.pass_time(INTERVAL / 2 + 5)
    await other.release()
    assert not await other.claim(INTERVAL), "it was not its own to release"
    await place.pass_time(-10)
    await holder.release()
    assert not await other.claim(INTERVAL)
    await place.pass_time(5)
    assert await other.claim(INTERVAL)


@pytest.mark.gen_test
@every_flavour
async def test_claim_whose_connection_is_dropped_is_granted_by_the_drivers_own_retry(
    flavour: str, bench: Callable[..., Bench], replica_set: ReplicaSet
) -> None:
    place = bench(flavour, uri=replica_set.uri, appname=FAILING_APP)
    lease = place.lease()
    async with failing(place.database.client, ["findAndModify"], 1, closeConnection=True):
        assert await lease.claim(INTERVAL)
    assert not await lease.claim(INTERVAL)


@pytest.mark.gen_test
@every_flavour
async def test_claim_that_hangs_is_an_error_within_the_timeout(
    flavour: str, bench: Callable[..., Bench], replica_set: ReplicaSet
) -> None:
    place = bench(flavour, uri=replica_set.uri, appname=FAILING_APP)
    lease = place.lease("secret", timeout=0.3)
    for command, call in (("findAndModify", lambda: lease.claim(INTERVAL)), ("update", lease.release)):
        async with failing(place.database.client, [command], 10, blockConnection=True, blockTimeMS=1000):
            before = time.monotonic()
            with pytest.raises(BackplaneError, match=r"did not answer within 0\.3 seconds") as caught:
                await call()
            assert time.monotonic() - before < 0.3 + 0.4  # the second number is for a busy machine
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.gen_test
async def test_claim_that_the_server_refuses_is_an_error(bench: Callable[..., Bench], replica_set: ReplicaSet) -> None:
    place = bench(uri=replica_set.uri, appname=FAILING_APP)
    async with failing(place.database.client, ["findAndModify"], 1, errorCode=13):
        with pytest.raises(BackplaneError, match=r"MongoDB failed: OperationFailure \(Unauthorized\)"):
            await place.lease().claim(INTERVAL)


@pytest.mark.gen_test
async def test_write_concern_in_the_uri_does_not_reach_a_claim(bench: Callable[..., Bench], mongodb_uri: str) -> None:
    uri = mongodb_uri + ("&" if "?" in mongodb_uri else "/?") + "readPreference=secondary&w=0"
    place = bench(uri=uri)
    assert await place.lease().claim(INTERVAL)
    assert not await place.lease().claim(INTERVAL)


@pytest.mark.gen_test
async def test_wrong_options_are_refused_and_the_message_says_what_to_write(mongo_client: Callable[..., Any]) -> None:
    database = mongo_client(uri="mongodb://127.0.0.1:1").app
    for name in ("", None, 1):
        with pytest.raises(ConfigurationError, match=r"MongoLease\(name=.*\): must be text, such as 'ticker'"):
            MongoLease(database, name)  # type: ignore[arg-type]
    for timeout in (0, -1, float("nan"), float("inf"), "5", None, True):
        with pytest.raises(ConfigurationError, match=r"MongoLease\(timeout=.*5\.0 is the default"):
            MongoLease(database, "ticker", timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"MongoLease\(prefix='\$'\).*'wsauth_' is the default"):
        MongoLease(database, "ticker", prefix="$")
    with pytest.raises(ConfigurationError, match=r"MongoLease\(database=.*must be a database of pymongo\.Async"):
        MongoLease(database.leases, "ticker")


def test_synchronous_database_is_refused() -> None:
    with (
        pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client,
        pytest.raises(ConfigurationError, match="synchronous one blocks the event loop"),
    ):
        MongoLease(client.app, "ticker")
