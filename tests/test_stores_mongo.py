"""`MongoTokenStore` on a real MongoDB, through every driver that is installed."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from pymongo.monitoring import CommandListener

from tests.contracts.token_store import TokenStoreContract, outcomes, rejection
from tests.mongod import FAILING_APP, MONGO_FLAVOURS, ReplicaSet, failing
from tornado_wsauth.errors import ConfigurationError, TokenStoreError
from tornado_wsauth.stores.mongo import MongoTokenStore
from tornado_wsauth.tokens import hash_token

every_flavour = pytest.mark.parametrize("flavour", MONGO_FLAVOURS)


async def age(collection: Any, seconds: float) -> None:
    """Move the dates of every token ``seconds`` into the past."""
    earlier = {name: {"$subtract": [f"${name}", round(seconds * 1000)]} for name in ("created_at", "expires_at")}
    await collection.update_many({}, [{"$set": earlier}])


class Harness:
    def __init__(self, collection: Any) -> None:
        self.collection = collection
        self.store = MongoTokenStore(collection)

    async def pass_time(self, seconds: float) -> None:
        await age(self.collection, seconds)

    async def dump(self) -> str:
        return repr([document async for document in self.collection.find({})])


@pytest.fixture(params=MONGO_FLAVOURS)
def harness(request: pytest.FixtureRequest, mongo_collection: Callable[..., Any]) -> Harness:
    return Harness(mongo_collection(request.param))


class TestMongoTokenStore(TokenStoreContract):
    pass


class Commands(CommandListener):
    """Remembers every command that was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def started(self, event: Any) -> None:
        self.sent.append(event.command)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest.mark.gen_test
async def test_one_token_is_one_document_of_the_documented_shape(mongo_collection: Callable[..., Any]) -> None:
    # A2
    collection = mongo_collection()
    store = MongoTokenStore(collection)
    token = await store.issue("ann", 30, context={"a": 1})
    document = await collection.find_one({})
    assert set(document) == {"_id", "token_type", "user_id", "created_at", "expires_at", "context"}
    assert (document["_id"], document["token_type"], document["user_id"]) == (hash_token(token), "ws", "ann")
    assert (document["expires_at"] - document["created_at"]).total_seconds() == 30
    await store.redeem(token)
    spent = await collection.find_one({})
    assert document["created_at"] <= spent.pop("spent_at") < document["expires_at"]
    assert spent == document


@pytest.mark.gen_test
async def test_who_spent_a_token_is_one_more_field_of_its_document(mongo_collection: Callable[..., Any]) -> None:
    # A2
    collection = mongo_collection()
    store = MongoTokenStore(collection)
    await store.redeem(await store.issue("ann", 30), spender="$now")
    document = await collection.find_one({})
    assert set(document) == {"_id", "token_type", "user_id", "created_at", "expires_at", "spent_at", "spent_by"}
    assert document["spent_by"] == "$now", "it is a value to the database, whatever it looks like"


@pytest.mark.gen_test
async def test_documents_of_another_type_in_the_collection_are_left_alone(mongo_collection: Callable[..., Any]) -> None:
    collection = mongo_collection()
    store = MongoTokenStore(collection)
    token = await store.issue("ann", 30)
    await collection.update_one({}, {"$set": {"token_type": "password_reset"}})
    assert await rejection(store.redeem(token)) == ("unknown", None)
    assert await store.revoke_user("ann") == 0
    await store.issue("ann", 30, max_live=1)
    assert await collection.count_documents({"token_type": "password_reset", "spent_at": None}) == 1


# Runs with the application's clock wrong by argv[1] seconds, and says so by printing what it thinks the time is.
WRONG_CLOCK = """
import asyncio, datetime, sys, time
shift, uri, database, name, *tokens = sys.argv[1:]
shift, real, real_ns = float(shift), time.time, time.time_ns
time.time, time.time_ns = (lambda: real() + shift), (lambda: real_ns() + int(shift * 1e9))
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=shift)
    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)
datetime.datetime = Shifted

from pymongo import AsyncMongoClient
from tornado_wsauth.errors import TokenRejected
from tornado_wsauth.stores.mongo import MongoTokenStore

async def main():
    async with AsyncMongoClient(uri) as client:
        store = MongoTokenStore(client[database][name])
        print(await store.issue("from-wrong-clock", 30))
        for token in tokens:
            try:
                print((await store.redeem(token)).user_id)
            except TokenRejected as rejected:
                print(rejected.reason)

asyncio.run(main())
"""


@pytest.mark.gen_test
@pytest.mark.parametrize("shift", [600, -600])
async def test_token_lives_exactly_its_ttl_when_the_applications_clock_is_wrong(
    shift: int, mongo_collection: Callable[..., Any], mongodb_uri: str
) -> None:
    """Issued by a process whose clock is ten minutes off and redeemed by one whose clock is right, and vice versa."""
    # A6
    collection = mongo_collection()
    store = MongoTokenStore(collection)
    dead = await store.issue("ann", 30)
    await age(collection, 30)
    alive = await store.issue("ann", 30)
    arguments = [str(shift), mongodb_uri, collection.database.name, collection.name, dead, alive]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRONG_CLOCK, *arguments, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    token, *answers = output.decode().split()
    assert answers == ["expired", "ann"]
    await age(collection, 20)
    assert (await store.redeem(token, consume=False)).user_id == "from-wrong-clock"
    await age(collection, 10)
    assert await rejection(store.redeem(token)) == ("expired", "from-wrong-clock")


@pytest.mark.gen_test
async def test_revoked_or_limited_token_leaves_no_document_behind(mongo_collection: Callable[..., Any]) -> None:
    collection = mongo_collection()
    store = MongoTokenStore(collection)
    await store.issue("ann", 30, max_live=1)
    await outcomes(store.issue("ann", 30, max_live=1))
    assert await collection.count_documents({}) == 1
    await store.revoke_user("ann")
    assert await collection.count_documents({}) == 0


@pytest.mark.gen_test
@every_flavour
async def test_error_shows_neither_token_nor_hash_even_where_the_server_quotes_the_document(
    flavour: str, mongo_collection: Callable[..., Any]
) -> None:
    # A38
    collection = mongo_collection(flavour)
    store = MongoTokenStore(collection)
    token = await store.issue("ann", 30)
    await collection.database.command("collMod", collection.name, validator={"spent_at": None})
    with pytest.raises(TokenStoreError, match="DocumentValidationFailure") as caught:
        await store.redeem(token)
    report = "".join(traceback.format_exception(caught.value))
    assert token not in report
    assert hash_token(token) not in report


# --- A36: options in the URI, and indexes -----------------------------------------------------------------------------


@pytest.fixture
def tokyo_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is not UTC, so that a date without its time zone is nine hours off."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.gen_test
@every_flavour
async def test_options_in_the_uri_do_not_reach_token_queries(
    flavour: str, mongo_collection: Callable[..., Any], mongodb_uri: str, tokyo_time: None
) -> None:
    """Write concern, read preference, read concern and the form of dates are the store's own."""
    # A36
    commands = Commands()
    uri = (
        mongodb_uri
        + ("&" if "?" in mongodb_uri else "/?")
        + "readPreference=secondary&w=0&readConcernLevel=available&tz_aware=false"
    )
    collection = mongo_collection(flavour, uri=uri, event_listeners=[commands])
    store = MongoTokenStore(collection)
    await store.start()
    token = await store.issue("ann", 30, max_live=5)
    record = await store.redeem(token, consume=False)
    assert abs(record.created_at - time.time()) < 60
    await store.redeem(token)
    assert await rejection(store.redeem(token)) == ("replayed", "ann")
    await store.issue("ann", 30)
    assert await store.revoke_user("ann") == 1

    sent = {next(iter(command)): command for command in commands.sent}
    for name in ("createIndexes", "update", "findAndModify", "delete"):
        assert sent[name]["writeConcern"] == {"w": "majority"}, name
    for name in ("find", "aggregate"):
        assert sent[name]["readConcern"] == {"level": "local"}, name
    assert all(command.get("$readPreference", {"mode": "primary"})["mode"] == "primary" for command in commands.sent)


async def indexes_of(collection: Any) -> dict[str, Any]:
    information = await collection.index_information()
    return {name: (index["key"], index.get("expireAfterSeconds")) for name, index in information.items()}


RIGHT_INDEXES = {
    "_id_": ([("_id", 1)], None),
    "expires_at_1": ([("expires_at", 1)], 0),
    "user_id_1": ([("user_id", 1)], None),
}


@pytest.mark.gen_test
@every_flavour
async def test_start_creates_the_missing_indexes_silently(
    flavour: str, mongo_collection: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    # A36
    collection = mongo_collection(flavour)
    store = MongoTokenStore(collection)
    await outcomes(*(store.start() for _ in range(5)))
    assert await indexes_of(collection) == RIGHT_INDEXES
    assert [record for record in caplog.records if record.name == "tornado_wsauth"] == []


@pytest.mark.gen_test
@every_flavour
@pytest.mark.parametrize("wrong", [{"expireAfterSeconds": 3600}, {}], ids=["an hour late", "no TTL"])
async def test_start_repairs_an_index_that_does_not_sweep_at_the_expiry_and_says_so(
    wrong: dict[str, Any], flavour: str, mongo_collection: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    # A36
    collection = mongo_collection(flavour)
    await collection.create_index("expires_at", **wrong)
    store = MongoTokenStore(collection)
    with caplog.at_level(logging.WARNING, "tornado_wsauth"):
        await store.start()
        await store.start()
    assert await indexes_of(collection) == RIGHT_INDEXES
    warning = f"{collection.full_name} had expireAfterSeconds={wrong.get('expireAfterSeconds')}; changed to 0"
    assert [warning in record.getMessage() for record in caplog.records if record.name == "tornado_wsauth"] == [True]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        ("expires_at", {"unique": True}, "must not have unique: drop the index 'expires_at_1'"),
        (
            "expires_at",
            {"partialFilterExpression": {"a": 1}, "expireAfterSeconds": 0},
            "must not have partialFilterExpression: drop the index 'expires_at_1'",
        ),
        ("other", {"name": "expires_at_1"}, r"\(IndexKeySpecsConflict\): drop the index in its way"),
    ],
)
async def test_start_says_what_to_do_about_an_index_it_cannot_repair(
    field: str, options: dict[str, Any], message: str, mongo_collection: Callable[..., Any]
) -> None:
    # A36
    collection = mongo_collection()
    await collection.create_index(field, **options)
    with pytest.raises(TokenStoreError, match=message):
        await MongoTokenStore(collection).start()


@pytest.mark.gen_test
async def test_refused_collmod_is_an_error_that_says_what_to_do(
    mongo_collection: Callable[..., Any], replica_set: ReplicaSet
) -> None:
    # A36
    collection = mongo_collection(uri=replica_set.uri, appname=FAILING_APP)
    await collection.create_index("expires_at", expireAfterSeconds=60)
    async with failing(collection.database.client, ["collMod"], 1, errorCode=13):
        with pytest.raises(TokenStoreError, match=r"\(Unauthorized\): drop the index 'expires_at_1'"):
            await MongoTokenStore(collection).start()


# --- options ----------------------------------------------------------------------------------------------------------


def test_synchronous_collection_is_refused_and_the_message_says_what_to_pass() -> None:
    with (
        pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False) as client,
        pytest.raises(ConfigurationError, match=r"pymongo\.AsyncMongoClient.*synchronous one blocks the event loop"),
    ):
        MongoTokenStore(client.app.tokens)  # type: ignore[arg-type]


@pytest.mark.gen_test
@every_flavour
async def test_anything_but_a_collection_is_refused(flavour: str, mongo_client: Callable[..., Any]) -> None:
    client = mongo_client(flavour, uri="mongodb://ann:secret@127.0.0.1:1")
    for wrong in (client, client.app, None, "tokens", {}):
        with pytest.raises(ConfigurationError, match=r"must be a collection of pymongo\.AsyncMongoClient") as caught:
            MongoTokenStore(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.gen_test
async def test_timeout_that_cannot_work_is_refused(mongo_client: Callable[..., Any]) -> None:
    collection = mongo_client(uri="mongodb://127.0.0.1:1").app.tokens
    for timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match=r"timeout=.*\): must be positive and finite; 5\.0 is the default"):
            MongoTokenStore(collection, timeout=timeout)
    for timeout in ("5", None, True):
        with pytest.raises(ConfigurationError, match=r"timeout=.*\): must be seconds; 5\.0 is the default"):
            MongoTokenStore(collection, timeout=timeout)


def test_module_does_not_import_motor_or_tornado() -> None:
    script = (
        "import sys, tornado_wsauth.stores.mongo as m; print([n for n in ('motor', 'tornado') if n in sys.modules])"
    )
    package = "import types; p = types.ModuleType('tornado_wsauth'); p.__path__ = ['tornado_wsauth']"
    register = "import sys; sys.modules['tornado_wsauth'] = p"  # the module, without what the package's names import
    run = subprocess.run([sys.executable, "-c", f"{package}; {register}; {script}"], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
