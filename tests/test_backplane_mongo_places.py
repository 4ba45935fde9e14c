"""`MongoBackplane`'s signs of life, and the places of a user's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.mongo_processes import (
    PLACES,
    PROCESSES,
    Cluster,
    every_flavour,
)
from tests.mongo_processes import cluster as cluster
from tests.mongo_processes import collected as collected
from tests.mongo_processes import pytestmark as pytestmark
from tests.mongod import FAILING_APP, ReplicaSet, failing
from tornado_wsauth.backplane.base import DEAD_AFTER, Claim, Place
from tornado_wsauth.backplane.mongo import MongoBackplane

# --- processes and places ---------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@every_flavour
async def test_racing_first_claims_of_a_user_never_get_more_than_there_are(flavour: str, cluster: Cluster) -> None:
    database = cluster.database(flavour)
    ann, bob = await cluster.start(database), await cluster.start(database)
    for user_id in ("u", "$u", "", "\ud800", "\x00"):
        claims = [process.backplane.claim(user_id, str(n), most=3) for n in range(8) for process in (ann, bob)]
        granted = [claim.granted for claim in await asyncio.gather(*claims)]
        assert granted.count(True) == 3
        await asyncio.gather(*(p.backplane.release(user_id, str(n)) for n in range(8) for p in (ann, bob)))
    assert await cluster.collection(PLACES).count_documents({}) == 0


@pytest.mark.gen_test
async def test_names_that_look_like_field_paths_are_names(cluster: Cluster) -> None:
    ann = await cluster.start()
    for name in ("$places", "$$NOW", "a.b", ""):
        assert await ann.backplane.claim("$_id", name, most=4) == Claim(granted=True)
        assert await ann.backplane.claim("$_id", name, most=4) == Claim(granted=True)
    assert [name for _, name in await cluster.place_owners("$_id")] == ["$places", "$$NOW", "a.b", ""]
    assert (await ann.backplane.claim("$_id", "x", most=3, evict=True)).evicted == (
        Place(ann.id, "$places"),
        Place(ann.id, "$$NOW"),
    )
    for name in ("a.b", "", "x", "x", "never there"):
        await ann.backplane.release("$_id", name)
    assert await cluster.collection(PLACES).count_documents({}) == 0


@pytest.mark.gen_test
@every_flavour
@pytest.mark.parametrize("evict", [False, True])
async def test_places_of_a_dead_process_are_free_and_are_not_evicted(
    evict: bool, flavour: str, cluster: Cluster
) -> None:
    database = cluster.database(flavour)
    ann, bob = await cluster.start(database), await cluster.start(database)
    for name in ("1", "2"):
        await ann.backplane.claim("u", name, most=3)
    await bob.backplane.claim("u", "1", most=3)
    await cluster.die(ann, ago=DEAD_AFTER - 3)
    assert not (await bob.backplane.claim("u", "2", most=3)).granted
    await cluster.die(ann, ago=3)
    assert await bob.backplane.claim("u", "2", most=3, evict=evict) == Claim(granted=True)
    assert await cluster.place_owners("u") == [(bob.id, "1"), (bob.id, "2")]
    assert ann.id not in await bob.backplane.peers()


@pytest.mark.gen_test
async def test_places_of_a_process_that_nobody_knows_of_are_free(cluster: Cluster) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    await ann.backplane.claim("u", "1", most=1)
    await cluster.collection(PROCESSES).delete_one({"_id": ann.id})
    assert await bob.backplane.claim("u", "1", most=1, evict=True) == Claim(granted=True)


@pytest.mark.gen_test
async def test_place_of_a_process_that_came_after_the_look_at_the_dead_is_kept(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    await ann.backplane.claim("u", "1", most=1)
    await cluster.die(ann)
    look, newcomers = MongoBackplane._dead_among, []

    async def slow_look(backplane: MongoBackplane, places: Any) -> list[object]:
        dead = await look(backplane, places)
        if not newcomers:
            newcomers.append(await cluster.start())
            assert (await newcomers[0].backplane.claim("u", "new", most=1)).granted
        return dead

    monkeypatch.setattr(MongoBackplane, "_dead_among", slow_look)
    assert not (await bob.backplane.claim("u", "1", most=1)).granted
    assert await cluster.place_owners("u") == [(newcomers[0].id, "new")]


@pytest.mark.gen_test
@every_flavour
async def test_the_next_beat_of_anyone_buries_a_dead_process_with_all_its_places(
    flavour: str, cluster: Cluster
) -> None:
    database = cluster.database(flavour)
    ann, bob = await cluster.start(database), await cluster.start(database)
    for number in range(5):
        await ann.backplane.claim(f"user {number}", "1", most=3)
    await bob.backplane.claim("user 0", "1", most=3)
    await bob.steps.beat()
    assert len(await cluster.place_owners("user 0")) == 2
    await cluster.die(ann)
    await bob.steps.beat()
    assert await cluster.collection(PROCESSES).distinct("_id") == [bob.id]
    assert [place["_id"] async for place in cluster.collection(PLACES).find({})] == ["user 0"]
    assert await cluster.place_owners("user 0") == [(bob.id, "1")]


@pytest.mark.gen_test
@every_flavour
async def test_process_that_was_taken_for_dead_is_told_once_and_its_places_are_gone(
    flavour: str, cluster: Cluster
) -> None:
    ann = await cluster.start(cluster.database(flavour))
    await ann.backplane.claim("u", "1", most=2)
    await ann.backplane.claim("u", "2", most=2)
    await cluster.die(ann)
    await ann.steps.beat()
    await ann.steps.beat()
    assert ann.received == ["forgotten"]
    assert await cluster.place_owners("u") == []


@pytest.mark.gen_test
async def test_places_claimed_after_coming_back_outlive_the_burial_that_has_begun_before(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    await ann.backplane.claim("u", "1", most=2)
    free, back = MongoBackplane._free, []

    async def slow_free(backplane: MongoBackplane, owner: Mapping[str, Any]) -> None:
        if backplane is bob.backplane and owner["process"] == {"$eq": ann.id} and not back:
            back.append(ann)
            await ann.steps.beat()
            await ann.backplane.claim("u", "1", most=2)
        await free(backplane, owner)

    monkeypatch.setattr(MongoBackplane, "_free", slow_free)
    await cluster.die(ann)
    await bob.steps.beat()
    assert back == [ann]
    assert ann.received == ["forgotten"]
    assert await cluster.place_owners("u") == [(ann.id, "1")]
    assert ann.id in await bob.backplane.peers()


@pytest.mark.gen_test
async def test_process_whose_beat_is_late_does_not_take_its_own_places_for_free(cluster: Cluster) -> None:
    ann = await cluster.start()
    await ann.backplane.claim("u", "1", most=1)
    await cluster.die(ann)
    assert not (await ann.backplane.claim("u", "2", most=1)).granted


@pytest.mark.gen_test
async def test_process_learns_that_it_was_taken_for_dead_even_if_that_answer_was_lost(cluster: Cluster) -> None:
    ann = await cluster.start()
    await cluster.collection(PROCESSES).update_one({"_id": ann.id}, {"$set": {"life": "of a beat without an answer"}})
    await ann.steps.beat()
    assert ann.received == ["forgotten"]


@pytest.mark.gen_test
async def test_claim_during_which_the_process_was_taken_for_dead_is_made_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    attempt, died = MongoBackplane._try_to_claim, []

    async def interrupted(backplane: MongoBackplane, *args: Any) -> Mapping[str, Any]:
        found = await attempt(backplane, *args)
        if not died:
            died.append(True)
            await cluster.die(ann)
            await ann.steps.beat()
        return found

    monkeypatch.setattr(MongoBackplane, "_try_to_claim", interrupted)
    assert (await ann.backplane.claim("u", "1", most=1)).granted
    assert not (await bob.backplane.claim("u", "1", most=1)).granted
    assert await cluster.place_owners("u") == [(ann.id, "1")]


@pytest.mark.gen_test
async def test_beat_under_way_when_the_backplane_closes_does_not_bring_the_process_back(
    cluster: Cluster, replica_set: ReplicaSet
) -> None:
    ann = await cluster.start(cluster.database(uri=replica_set.uri, appname=FAILING_APP))
    await ann.steps._begun.wait()
    client = cluster.database(uri=replica_set.uri).client
    async with failing(client, ["findAndModify"], 1, blockConnection=True, blockTimeMS=300):
        ann.steps._due.set()
        await asyncio.sleep(0.05)
        await ann.backplane.close()
    assert await cluster.collection(PROCESSES, uri=replica_set.uri).count_documents({}) == 0
