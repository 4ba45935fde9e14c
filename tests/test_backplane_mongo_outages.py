"""`MongoBackplane` whose connection is cut, whose server hangs or ends, and whose collections have what is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from tests.mongo_processes import (
    MESSAGES,
    PLACES,
    PROCESSES,
    RIGHT_INDEXES,
    Cluster,
    Commands,
    Process,
    connected,
    cut_off,
    every_flavour,
    indexes_of,
    warnings,
)
from tests.mongo_processes import cluster as cluster
from tests.mongo_processes import collected as collected
from tests.mongo_processes import pytestmark as pytestmark
from tests.mongod import FAILING_APP, ReplicaSet, failing, require_mongod
from tornado_wsauth.backplane.base import EVERYONE, Claim
from tornado_wsauth.errors import BackplaneError

# --- A37: what others may have put there ------------------------------------------------------------------------------


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return (logging.getLogger("tornado_wsauth").error, ("a pickle was executed",))


def _not_utf8(field: bytes) -> RawBSONDocument:
    """Return a document whose text is none: another client, or a person, may have written it."""
    element = b"\x02" + field + b"\x00" + (3).to_bytes(4, "little") + b"\xff\xfe\x00"
    return RawBSONDocument((len(element) + 5).to_bytes(4, "little") + element + b"\x00")


GARBAGE: list[Any] = [
    {},
    {"envelope": bson.Binary(pickle.dumps(Bomb()))},
    {"envelope": pickle.dumps(Bomb(), 0).decode("latin-1")},
    {"envelope": None},
    {"envelope": {"v": 1, "from": "x", "seq": 1, "messages": [["everyone", {"bad": 1}]]}},
    {"envelope": ["everyone", {}]},
    {"envelope": float("nan")},
    {"envelope": "[" * 100_000},
    {"envelope": '{"v": 2, "from": "x", "seq": 1, "messages": [["everyone", {"bad": 1}]]}'},
    {"envelope": '{"v": 1, "from": "x", "seq": 1, "messages": [["everyone", "bad"]]}'},
    {"envelope": bson.DatetimeMS(2**62), "announced": bson.Code("while(1);")},
    {"_id": {"a": bson.Regex("x")}, "envelope": 1},
    _not_utf8(b"envelope"),
    _not_utf8(b"announced"),
]


@pytest.mark.gen_test
@every_flavour
async def test_what_does_not_belong_among_the_messages_is_inert_and_warned_about(
    flavour: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    # A37
    ann, bob = await cluster.start(), await cluster.start(cluster.database(flavour))
    await cluster.collection(MESSAGES).insert_many(list(GARBAGE))
    await ann.backplane.publish(EVERYONE, {"good": 1})
    await bob.recorder.until((EVERYONE, {"good": 1}))
    assert bob.received == [(EVERYONE, {"good": 1})]
    assert bob.backplane.is_connected
    said = warnings(caplog)
    assert len(said) >= len(GARBAGE)
    assert all("ignored" in warning for warning in said), said
    assert not any("bad" in warning or "pickle" in warning for warning in said), "what was read is not quoted"


@pytest.mark.gen_test
async def test_garbage_among_places_and_processes_counts_for_nothing(cluster: Cluster) -> None:
    # A37
    await cluster.collection(PROCESSES).insert_many(
        [{"_id": 7, "seen_at": "$$NOW"}, {"_id": "x"}, {"_id": {"a": 1}, "life": ["$life"], "seen_at": None}]
    )
    odd: list[Any] = [None, 1, "$life", {}, {"process": 1, "life": 2, "name": 3}, {"process": "x"}, [[]]]
    await cluster.collection(PLACES).insert_many([{"_id": "u", "places": odd}, {"_id": "v", "places": "$places"}])
    ann = await cluster.start()
    await ann.steps.beat()
    for user_id in ("u", "v"):
        assert await ann.backplane.claim(user_id, "1", most=1) == Claim(granted=True)
        assert not (await ann.backplane.claim(user_id, "2", most=1)).granted
    assert await ann.backplane.peers() == frozenset()


# --- A37: the connection is cut ---------------------------------------------------------------------------------------


CUTS = {
    "dropped connection": {"closeConnection": True},
    "cursor not found": {"errorCode": 43},
    "cursor killed": {"errorCode": 237},
    "interrupted": {"errorCode": 11601},
    "not allowed, for a while": {"errorCode": 13},
}


@contextlib.asynccontextmanager
async def held_off(cluster: Cluster, process: Process, uri: str, **failure: Any) -> AsyncIterator[None]:
    """Let ``process``, of `FAILING_APP`, not read its change stream inside, and be connected again after it."""
    async with failing(cluster.database(uri=uri).client, ["aggregate", "getMore"], 100_000, **failure):
        await cut_off(process.backplane)
        yield
    await connected(process.backplane)


@pytest.mark.gen_test
@every_flavour
@pytest.mark.parametrize("how", CUTS)
async def test_what_was_sent_during_a_cut_arrives_once_and_late_and_there_is_no_gap(
    how: str, flavour: str, cluster: Cluster, replica_set: ReplicaSet
) -> None:
    # A37
    uri = replica_set.uri
    ann = await cluster.start(cluster.database(uri=uri))
    bob = await cluster.start(cluster.database(flavour, uri=uri, appname=FAILING_APP), timeout=1)
    await ann.backplane.publish(EVERYONE, {"n": 0})
    await bob.recorder.until((EVERYONE, {"n": 0}))
    async with held_off(cluster, bob, uri, **CUTS[how]):
        await ann.backplane.publish(EVERYONE, {"n": 1})
        await ann.backplane.announce({"n": 2})
        with pytest.raises(BackplaneError, match="cut off"):
            await bob.backplane.publish(EVERYONE, {})
    await ann.backplane.publish(EVERYONE, {"n": 3})
    await bob.recorder.until((EVERYONE, {"n": 3}))
    assert bob.received == [(EVERYONE, {"n": number}) for number in range(4)]


@pytest.mark.gen_test
async def test_idle_process_goes_on_from_where_the_server_was_and_not_from_its_last_message(
    cluster: Cluster, replica_set: ReplicaSet
) -> None:
    """A token of long ago would one day be older than the server's history."""
    commands = Commands()
    ann = await cluster.start(cluster.database(uri=replica_set.uri, event_listeners=[commands]))
    first = ann.backplane._token
    other = cluster.collection("other", uri=replica_set.uri)
    async with asyncio.timeout(15):
        while ann.backplane._token == first:
            await other.insert_one({})
            await asyncio.sleep(0.05)
    assert ann.received == []


@pytest.mark.gen_test
@every_flavour
async def test_lost_history_is_a_gap_after_what_was_announced_meanwhile(
    flavour: str, cluster: Cluster, replica_set: ReplicaSet, caplog: pytest.LogCaptureFixture
) -> None:
    # A37
    uri = replica_set.uri
    ann = await cluster.start(cluster.database(uri=uri))
    bob = await cluster.start(cluster.database(flavour, uri=uri, appname=FAILING_APP))
    await ann.backplane.announce({"n": 0})
    await bob.recorder.until((EVERYONE, {"n": 0}))
    async with held_off(cluster, bob, uri, errorCode=286):
        await ann.backplane.publish(EVERYONE, {"lost": True})
        await ann.backplane.announce({"n": 1})
    await ann.backplane.publish(EVERYONE, {"n": 2})
    await bob.recorder.until((EVERYONE, {"n": 2}))
    assert bob.received == [(EVERYONE, {"n": 0}), (EVERYONE, {"n": 1}), "gap", (EVERYONE, {"n": 2})]
    assert any(
        "cut off (MongoDB failed: OperationFailure (ChangeStreamHistoryLost))" in warning
        for warning in warnings(caplog)
    )


@pytest.mark.gen_test
async def test_collection_that_was_dropped_is_a_gap_and_gets_its_indexes_again(cluster: Cluster) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    await cluster.collection(MESSAGES).drop()
    await asyncio.gather(ann.recorder.until("gap"), bob.recorder.until("gap"))
    await ann.backplane.publish(EVERYONE, {"n": 1})
    await bob.recorder.until((EVERYONE, {"n": 1}))
    assert bob.received == ["gap", (EVERYONE, {"n": 1})]
    assert await indexes_of(cluster.collection(MESSAGES)) == RIGHT_INDEXES


@pytest.mark.gen_test
async def test_a_new_process_gets_nothing_of_before(cluster: Cluster) -> None:
    ann = await cluster.start()
    await ann.backplane.announce({"old": 1})
    await ann.backplane.publish(EVERYONE, {"old": 2})
    bob = await cluster.start()
    await ann.backplane.publish(EVERYONE, {"new": 1})
    await bob.recorder.until((EVERYONE, {"new": 1}))
    assert bob.received == [(EVERYONE, {"new": 1})]


@pytest.mark.gen_test
async def test_a_backplane_that_was_closed_and_started_again_gets_nothing_of_meanwhile(cluster: Cluster) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    await bob.backplane.close()
    await ann.backplane.publish(EVERYONE, {"old": 1})
    await bob.backplane.start(bob.recorder)
    await ann.backplane.publish(EVERYONE, {"new": 1})
    await bob.recorder.until((EVERYONE, {"new": 1}))
    assert (EVERYONE, {"old": 1}) not in bob.received


# --- servers that hang or end -----------------------------------------------------------------------------------------


@pytest.mark.gen_test
@every_flavour
async def test_call_that_hangs_is_an_error_within_the_timeout_and_quotes_nothing(
    flavour: str, cluster: Cluster, replica_set: ReplicaSet
) -> None:
    uri = replica_set.uri
    ann = await cluster.start(cluster.database(flavour, uri=uri, appname=FAILING_APP), timeout=0.4)
    backplane = ann.backplane
    commands = ["update", "findAndModify", "find"]
    async with failing(cluster.database(uri=uri).client, commands, 1000, blockConnection=True, blockTimeMS=1500):
        for call in (
            backplane.publish(EVERYONE, {"secret": 1}),
            backplane.announce({"secret": 1}),
            backplane.claim("secret", "secret", most=1),
            backplane.release("secret", "secret"),
            backplane.peers(),
        ):
            before = time.monotonic()
            with pytest.raises(BackplaneError, match=r"did not answer within 0\.4 seconds") as caught:
                await call
            assert time.monotonic() - before < 0.4 + 0.4  # the second number is for a busy machine
            assert "secret" not in str(caught.value)
            assert caught.value.__cause__ is None


@pytest.mark.outages
@pytest.mark.gen_test
@every_flavour
async def test_server_that_hangs_is_a_cut_and_what_was_sent_meanwhile_arrives_when_it_goes_on(
    flavour: str, cluster: Cluster, replica_set: ReplicaSet
) -> None:
    # A37
    database = cluster.database(flavour, uri=replica_set.uri)
    ann, bob = await cluster.start(database, timeout=2), await cluster.start(database, timeout=2)
    replica_set.members[0].signal(signal.SIGSTOP)
    try:
        before = time.monotonic()
        await asyncio.gather(cut_off(ann.backplane), cut_off(bob.backplane))
        assert time.monotonic() - before < 2 / 2 + 0.25 + 0.8  # the last number is for a busy machine
    finally:
        replica_set.members[0].signal(signal.SIGCONT)
    await asyncio.gather(connected(ann.backplane), connected(bob.backplane))
    async with asyncio.timeout(10):
        while (EVERYONE, {"n": 1}) not in bob.received:
            with contextlib.suppress(BackplaneError):
                await ann.backplane.publish(EVERYONE, {"n": 1})
            await asyncio.sleep(0.05)
    assert "gap" not in bob.received


@pytest.mark.outages
@pytest.mark.gen_test(timeout=60)
@every_flavour
async def test_server_that_is_killed_and_comes_back_is_a_cut_without_a_gap(flavour: str, cluster: Cluster) -> None:
    # A37
    require_mongod()
    with ReplicaSet() as replica_set:
        database = cluster.database(flavour, uri=replica_set.uri, serverSelectionTimeoutMS=500)
        ann, bob = await cluster.start(database, timeout=1), await cluster.start(database, timeout=1)
        await ann.backplane.publish(EVERYONE, {"n": 0})
        await bob.recorder.until((EVERYONE, {"n": 0}))
        replica_set.members[0].kill()
        await asyncio.gather(cut_off(ann.backplane), cut_off(bob.backplane))
        with pytest.raises(BackplaneError, match="cut off"):
            await ann.backplane.publish(EVERYONE, {"n": 1})
        replica_set.start_all()
        await asyncio.to_thread(replica_set.wait_until_all_serve)
        await asyncio.gather(connected(ann.backplane), connected(bob.backplane))
        await ann.backplane.publish(EVERYONE, {"n": 2})
        await bob.recorder.until((EVERYONE, {"n": 2}))
        assert bob.received == [(EVERYONE, {"n": 0}), (EVERYONE, {"n": 2})]
        await asyncio.gather(ann.backplane.close(), bob.backplane.close())
