"""What the doctor says of a real MongoDB, and how it bears with one that does not answer."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tornado_wsauth
from tests.doctor.kit import findings, make_app, make_auth
from tests.mongod import FAILING_APP, MONGO_FLAVOURS, failing, find_mongod, require_mongod
from tornado_wsauth import MongoBackplane, MongoTokenStore
from tornado_wsauth.doctor import servers

pytestmark = pytest.mark.engines

SERVER_IDS = {"server-unreachable", "standalone-mongodb", "ttl-index-missing", "ttl-index-wrong"}


@pytest.fixture(scope="module")
def standalone_uri() -> Iterator[str]:
    """A MongoDB that is no replica set."""
    require_mongod()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="wsauth-doctor-")
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    options = ["--dbpath", folder, "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"]
    small = ["--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"]
    process = subprocess.Popen([*guard, str(find_mongod()), *options, *small], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, "mongod does not listen"
            time.sleep(0.05)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def with_store(collection) -> object:
    return make_app(auth=make_auth(MongoTokenStore(collection)))


async def found_by(app) -> dict:
    return {name: finding for name, finding in (await findings(app)).items() if name in SERVER_IDS}


@pytest.mark.gen_test
@pytest.mark.parametrize("flavour", MONGO_FLAVOURS)
async def test_a_store_that_was_started_on_a_replica_set_has_no_finding(mongo_collection, flavour):
    app = with_store(mongo_collection(flavour))
    await app.settings["wsauth"].start()
    assert await found_by(app) == {}


@pytest.mark.gen_test
async def test_a_collection_that_is_not_there_yet_is_a_note(mongo_collection):
    found = await found_by(with_store(mongo_collection()))
    assert [(name, finding.level) for name, finding in found.items()] == [("ttl-index-missing", "note")]


@pytest.mark.gen_test
async def test_looking_changes_nothing(mongo_collection):
    collection = mongo_collection()
    await findings(with_store(collection))
    assert collection.name not in await collection.database.list_collection_names()


@pytest.mark.gen_test
async def test_a_collection_without_a_ttl_index_is_a_warning(mongo_collection):
    collection = mongo_collection()
    await collection.insert_one({"of": "an older version"})
    found = await found_by(with_store(collection))
    assert found["ttl-index-missing"].level == "warning"


@pytest.mark.gen_test
async def test_an_index_that_sweeps_at_another_time_is_a_warning_until_it_is_repaired(mongo_collection):
    collection = mongo_collection()
    await collection.create_index("expires_at", expireAfterSeconds=3600)
    app = with_store(collection)
    assert (await found_by(app))["ttl-index-wrong"].level == "warning"
    await app.settings["wsauth"].start()
    assert await found_by(app) == {}


@pytest.mark.gen_test
async def test_an_index_that_start_fails_at_is_an_error(mongo_collection):
    collection = mongo_collection()
    await collection.create_index("expires_at", expireAfterSeconds=0, unique=True)
    found = (await found_by(with_store(collection)))["ttl-index-wrong"]
    assert found.level == "error"
    assert "unique" in found.problem


@pytest.mark.gen_test
@pytest.mark.parametrize("flavour", MONGO_FLAVOURS)
async def test_a_standalone_server_is_a_warning_for_tokens_and_an_error_for_a_backplane(
    mongo_client, standalone_uri, flavour
):
    database = mongo_client(flavour, uri=standalone_uri).wsauth
    store = await found_by(with_store(database.tokens))
    assert store["standalone-mongodb"].level == "warning"
    backplane = await found_by(make_app(auth=make_auth(backplane=MongoBackplane(database))))
    assert backplane["standalone-mongodb"].level == "error"


@pytest.mark.gen_test
async def test_a_backplane_on_a_replica_set_has_no_finding(mongo_collection):
    database = mongo_collection().database
    assert await found_by(make_app(auth=make_auth(backplane=MongoBackplane(database)))) == {}


@pytest.mark.gen_test
async def test_a_server_that_refuses_to_answer_is_an_error_and_says_why(mongo_collection):
    collection = mongo_collection(appname=FAILING_APP)
    async with failing(collection.database.client, ["listIndexes"], 1, errorCode=13):
        found = (await found_by(with_store(collection)))["server-unreachable"]
    assert found.level == "error"
    assert "Unauthorized" in found.problem


@pytest.mark.gen_test
async def test_a_server_that_is_not_there_is_one_error_within_seconds(monkeypatch, mongo_client):
    monkeypatch.setattr(servers, "PATIENCE", 0.3)
    name = secrets.token_hex(4)
    client = mongo_client(uri=f"mongodb://somebody:{name}@127.0.0.1:1/?serverSelectionTimeoutMS=60000")
    store, backplane = MongoTokenStore(client.wsauth.tokens), MongoBackplane(client.wsauth)
    began = time.monotonic()
    found = await found_by(make_app(auth=make_auth(store, backplane=backplane)))
    assert set(found) == {"server-unreachable"}
    assert time.monotonic() - began < 10
    assert name not in repr(found), "the password of the URI"


@pytest.mark.gen_test
async def test_a_client_that_the_application_has_closed_is_an_error(mongo_client):
    client = mongo_client()
    await client.admin.command("ping")
    await client.close()
    found = await found_by(make_app(auth=make_auth(MongoTokenStore(client.wsauth.tokens))))
    assert "InvalidOperation" in found["server-unreachable"].problem


@pytest.mark.gen_test
async def test_a_wrong_password_is_an_error_that_does_not_tell_it(mongo_client, mongodb_uri):
    client = mongo_client(uri=mongodb_uri.replace("mongodb://", "mongodb://somebody:hunter2@"))
    found = await found_by(make_app(auth=make_auth(MongoTokenStore(client.wsauth.tokens))))
    assert "AuthenticationFailed" in found["server-unreachable"].problem
    assert "hunter2" not in repr(found)


@pytest.mark.gen_test
async def test_servers_are_left_alone_without_connect(mongo_client):
    client = mongo_client(uri="mongodb://127.0.0.1:1")
    app = make_app(auth=make_auth(MongoTokenStore(client.wsauth.tokens)))
    assert not SERVER_IDS & set(await findings(app, connect=False))


APPLICATION = """
from pymongo import AsyncMongoClient
from tests.doctor.kit import make_app, make_auth
from tornado_wsauth import MongoBackplane, MongoTokenStore

def make():
    database = AsyncMongoClient({uri!r}).wsauth_doctor
    return make_app(auth=make_auth(MongoTokenStore(database.tokens), backplane=MongoBackplane(database)))
"""


@pytest.mark.parametrize("reachable", [True, False])
def test_the_command_looks_at_mongodb_and_ends_without_a_noise(mongodb_uri, tmp_path, reachable):
    uri = mongodb_uri if reachable else "mongodb://somebody:hunter2@127.0.0.1:1"
    (tmp_path / "app.py").write_text(APPLICATION.format(uri=uri))
    environment = {**os.environ, "PYTHONPATH": str(Path(tornado_wsauth.__file__).parent.parent)}
    command = [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning"]
    command += ["-m", "tornado_wsauth", "doctor", "app:make", "--json"]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    report = json.loads(run.stdout)
    expected = [] if reachable else ["server-unreachable", "server-unreachable"]
    assert [finding["id"] for finding in report["findings"] if finding["level"] == "error"] == expected
    assert run.stderr == ""
    assert "hunter2" not in run.stdout
