"""`MongoBackplane` on a real MongoDB, through every driver that is installed: what it keeps, how it starts and ends.

What holds for every backplane is in ``tests/contracts/backplane.py``.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.mongo_processes import (
    MESSAGES,
    PLACES,
    PROCESSES,
    RIGHT_INDEXES,
    Cluster,
    Commands,
    every_flavour,
    indexes_of,
    warnings,
)
from tests.mongo_processes import cluster as cluster
from tests.mongo_processes import collected as collected
from tests.mongo_processes import pytestmark as pytestmark
from tests.mongod import FAILING_APP, ReplicaSet, failing, find_mongod, require_mongod
from tornado_wsauth.backplane.base import EVERYONE
from tornado_wsauth.backplane.envelope import MOST_BYTES
from tornado_wsauth.backplane.mongo import MongoBackplane
from tornado_wsauth.errors import BackplaneError, ConfigurationError

# --- what is in the database ------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@every_flavour
async def test_what_is_published_at_a_time_is_one_document_and_arrives_in_order(flavour: str, cluster: Cluster) -> None:
    database = cluster.database(flavour)
    ann, bob = await cluster.start(database), await cluster.start(database)
    bob.backplane.listen("b")
    await asyncio.gather(*(ann.backplane.publish("ab"[number % 2], {"n": number}) for number in range(6)))
    await bob.recorder.until(("b", {"n": 5}))
    assert bob.received == [("b", {"n": 1}), ("b", {"n": 3}), ("b", {"n": 5})]
    assert ann.received == []
    (document,) = [found async for found in cluster.collection(MESSAGES).find({})]
    assert set(document) == {"_id", "at", "envelope"}
    assert len(json.loads(document["envelope"])["messages"]) == 6
    age = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - document["at"]
    assert abs(age.total_seconds()) < 30


@pytest.mark.gen_test
@every_flavour
async def test_the_longest_message_there_may_be_arrives(flavour: str, cluster: Cluster) -> None:
    database = cluster.database(flavour)
    ann, bob = await cluster.start(database, timeout=15), await cluster.start(database, timeout=15)
    message = {"$set": "$" * (MOST_BYTES - len('{"$set":""}'))}
    await ann.backplane.publish(EVERYONE, message)
    await ann.backplane.announce(message)
    await bob.recorder.until((EVERYONE, message))
    while len(bob.received) < 2:
        await asyncio.sleep(0.01)
    assert bob.received[1] == (EVERYONE, message)


@pytest.mark.gen_test
async def test_announcements_that_overtake_one_another_all_arrive(cluster: Cluster) -> None:
    ann, bob = await cluster.start(), await cluster.start()
    await asyncio.gather(*(ann.backplane.announce({"n": number}) for number in range(30)))
    await ann.backplane.publish(EVERYONE, {"n": 30})
    await bob.recorder.until((EVERYONE, {"n": 30}))
    assert sorted(message["n"] for _, message in bob.received) == list(range(31))


@pytest.mark.gen_test
@every_flavour
async def test_start_creates_the_missing_indexes_silently(
    flavour: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    database = cluster.database(flavour)
    await asyncio.gather(*(cluster.start(database) for _ in range(3)))
    assert await indexes_of(cluster.collection(MESSAGES)) == RIGHT_INDEXES
    assert "places.process_1" in await indexes_of(cluster.collection(PLACES))
    assert warnings(caplog) == []


@pytest.mark.gen_test
@every_flavour
async def test_start_repairs_an_index_that_sweeps_messages_at_another_time_and_says_so(
    flavour: str, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    messages = cluster.collection(MESSAGES)
    await messages.create_index("at", expireAfterSeconds=5)
    await cluster.start(cluster.database(flavour))
    assert await indexes_of(messages) == RIGHT_INDEXES
    (warning,) = warnings(caplog)
    assert f"{messages.full_name} had expireAfterSeconds=5; changed to 3600, so that messages are swept" in warning


@pytest.mark.gen_test
async def test_start_says_what_to_do_about_an_index_it_cannot_repair(cluster: Cluster) -> None:
    await cluster.collection(MESSAGES).create_index("at", unique=True)
    with pytest.raises(BackplaneError, match=r"must not have unique: drop the index 'at_1' .* or use another prefix"):
        await cluster.start()


@pytest.mark.gen_test
@every_flavour
async def test_options_in_the_uri_reach_nothing(flavour: str, cluster: Cluster, mongodb_uri: str) -> None:
    commands = Commands()
    options = "readPreference=secondary&w=0&readConcernLevel=available"
    uri = mongodb_uri + ("&" if "?" in mongodb_uri else "/?") + options
    odd = await cluster.start(cluster.database(flavour, uri=uri, event_listeners=[commands]))
    bob = await cluster.start()
    await odd.backplane.claim("u", "1", most=1)
    assert not (await odd.backplane.claim("u", "2", most=1)).granted
    await odd.backplane.publish(EVERYONE, {"n": 1})
    await bob.recorder.until((EVERYONE, {"n": 1}))
    await bob.backplane.publish(EVERYONE, {"n": 2})
    await odd.recorder.until((EVERYONE, {"n": 2}))
    await odd.backplane.release("u", "1")
    await odd.backplane.close()

    sent = [command for command in commands.sent if "readConcern" in command]
    assert {command["readConcern"]["level"] for command in sent if "aggregate" in command} == {"majority"}
    assert {command["readConcern"]["level"] for command in sent if "find" in command} == {"local"}
    writes = [c for c in commands.sent if {"update", "findAndModify", "delete", "createIndexes"} & set(c)]
    assert writes
    assert all(command["writeConcern"] == {"w": "majority"} for command in writes)
    assert all(command.get("$readPreference", {"mode": "primary"})["mode"] == "primary" for command in commands.sent)


# --- start and close --------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@every_flavour
async def test_closing_leaves_no_task_cursor_process_or_place_behind(flavour: str, cluster: Cluster) -> None:
    database = cluster.database(flavour)
    ann = await cluster.start(database)
    await ann.backplane.claim("u", "1", most=1)
    await asyncio.gather(ann.backplane.close(), ann.backplane.close())
    assert [task for task in asyncio.all_tasks() if "_bounded_call" in repr(task) or "_keep_" in repr(task)] == []
    open_cursors = await cluster.database().client.admin.aggregate(
        [{"$currentOp": {"idleCursors": True}}, {"$match": {"ns": {"$regex": cluster.prefix}}}]
    )
    assert [cursor async for cursor in open_cursors] == []
    for name in (PROCESSES, PLACES):
        assert await cluster.collection(name).count_documents({}) == 0
    assert not ann.backplane.is_connected


@pytest.mark.gen_test
@every_flavour
async def test_closing_while_the_stream_is_being_opened_leaves_no_cursor_behind(
    flavour: str, cluster: Cluster, replica_set: ReplicaSet
) -> None:
    commands = Commands()
    options = {"uri": replica_set.uri, "appname": FAILING_APP, "event_listeners": [commands]}
    ann = await cluster.start(cluster.database(flavour, **options))
    client = cluster.database(uri=replica_set.uri).client
    async with failing(client, ["aggregate"], 100, blockConnection=True, blockTimeMS=300):
        commands.sent.clear()
        await cluster.collection(MESSAGES, uri=replica_set.uri).drop()
        async with asyncio.timeout(10):
            while not any("aggregate" in command for command in commands.sent):
                await asyncio.sleep(0.01)
        await ann.backplane.close()
    open_cursors = await client.admin.aggregate(
        [{"$currentOp": {"idleCursors": True}}, {"$match": {"ns": {"$regex": cluster.prefix}}}]
    )
    assert [cursor async for cursor in open_cursors] == []


@pytest.mark.gen_test
@every_flavour
async def test_start_that_may_not_watch_says_so_and_the_next_one_succeeds(
    flavour: str, cluster: Cluster, replica_set: ReplicaSet
) -> None:
    uri = replica_set.uri
    ann = cluster.make(cluster.database(flavour, uri=uri, appname=FAILING_APP), timeout=1)
    async with failing(cluster.database(uri=uri).client, ["aggregate"], 100_000, errorCode=13):
        with pytest.raises(BackplaneError, match=r"MongoDB failed: OperationFailure \(Unauthorized\)"):
            await ann.backplane.start(ann.recorder)
    assert not ann.backplane.is_connected
    await ann.backplane.start(ann.recorder)
    assert ann.backplane.is_connected
    assert ann.received == []


@pytest.fixture
def standalone_uri(tmp_path: Path) -> Iterator[str]:
    """A server that is not a member of a replica set."""
    require_mongod()
    log = tmp_path / "mongod.log"
    command = [str(find_mongod()), "--dbpath", str(tmp_path), "--logpath", str(log), "--port", "0"]
    options = ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as server:
        try:
            yield f"mongodb://127.0.0.1:{_port_in(log)}/"
        finally:
            server.kill()


def _port_in(log: Path) -> int:
    """Wait until the server has written down which port it took."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else ():
            entry = json.loads(line)
            if entry["msg"] == "Waiting for connections":
                return int(entry["attr"]["port"])
        time.sleep(0.05)
    raise TimeoutError("mongod did not start")


@pytest.mark.outages
@pytest.mark.gen_test
async def test_standalone_server_is_refused_and_the_message_says_what_to_do(
    standalone_uri: str, cluster: Cluster
) -> None:
    with pytest.raises(BackplaneError, match=r"needs change streams.*--replSet.*replica set of one member is enough"):
        await cluster.start(cluster.database(uri=standalone_uri))


@pytest.mark.gen_test
async def test_server_that_is_too_old_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_wsauth.backplane.mongo._MONGODB_4_4", 1000)
    with pytest.raises(BackplaneError, match=r"needs MongoDB 4\.4 or later"):
        await cluster.start()


# --- options ----------------------------------------------------------------------------------------------------------


def test_synchronous_database_is_refused_and_the_message_says_what_to_pass() -> None:
    with (
        pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client,
        pytest.raises(ConfigurationError, match=r"pymongo\.AsyncMongoClient.*synchronous one blocks the event loop"),
    ):
        MongoBackplane(client.app)


@pytest.mark.gen_test
@every_flavour
async def test_anything_but_a_database_is_refused(flavour: str, mongo_client: Callable[..., Any]) -> None:
    client = mongo_client(flavour, uri="mongodb://ann:secret@127.0.0.1:1")
    for wrong in (client, client.app.messages, None, "app", {}):
        with pytest.raises(ConfigurationError, match=r"must be a database of pymongo\.AsyncMongoClient") as caught:
            MongoBackplane(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.gen_test
async def test_prefix_that_no_collection_can_have_is_refused(mongo_client: Callable[..., Any]) -> None:
    database = mongo_client(uri="mongodb://127.0.0.1:1").app
    for prefix in (None, 1, "$x", ".x", "a..b", "a\0", "a b", "-"):
        with pytest.raises(ConfigurationError, match=r"MongoBackplane\(prefix=.*'wsauth_' is the default"):
            MongoBackplane(database, prefix=prefix)
    for prefix in ("", "a.b.", "wsauth-1_"):
        assert MongoBackplane(database, prefix=prefix)._messages.name == f"{prefix}messages"


def test_module_does_not_import_motor_or_tornado() -> None:
    script = (
        "import sys, tornado_wsauth.backplane.mongo, tornado_wsauth.leases.mongo;"
        " print([n for n in ('motor', 'tornado') if n in sys.modules])"
    )
    package = "import types; p = types.ModuleType('tornado_wsauth'); p.__path__ = ['tornado_wsauth']"
    register = "import sys; sys.modules['tornado_wsauth'] = p"  # the module, without what the package's names import
    run = subprocess.run([sys.executable, "-c", f"{package}; {register}; {script}"], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
