"""The ledger of logins and keys: in memory, on Redis, and on MongoDB. Two objects are two processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from example_app import mongo_engine, redis_engine
from example_app.engine import MemoryEngine
from example_app.ledger import Keys, Ledger, LedgerError, Login, MemoryLedger
from example_app.mongo_engine import MongoLedger
from example_app.redis_engine import RedisLedger
from tests.example.site import refused_with

ALICE, BOB = Login("alice", "a1"), Login("bob", "b1")
ALICE_ELSEWHERE = Login("alice", "a2")


@pytest.fixture(params=["memory", "redis", "mongo"])
def new_ledger(request: pytest.FixtureRequest) -> Callable[[], Ledger]:
    """Make a ledger for another process, on the same engine: in memory, there is one."""
    if request.param == "memory":
        ledger = MemoryLedger()
        return lambda: ledger
    if request.param == "redis":
        url, connect = request.getfixturevalue("own_redis").url, request.getfixturevalue("redis_client")
        return lambda: RedisLedger(connect(url, decode_responses=True))
    collection = request.getfixturevalue("mongo_collection")
    name = collection().name
    # A collection may have collections, as a database has; these are the test's own.
    return lambda: MongoLedger(collection(name=name))


@pytest.mark.gen_test
async def test_a_login_is_known_to_every_process_until_it_has_ended(new_ledger):
    one, other = new_ledger(), new_ledger()
    for ledger in (one, other):
        await ledger.start("the first key")
    for login in (ALICE, ALICE_ELSEWHERE, BOB):
        await one.add(login)
    assert [await other.user_of(session) for session in ("a1", "a2", "b1", "c1")] == ["alice", "alice", "bob", None]
    for _ in range(2):
        await other.end(ALICE)
    assert [await one.user_of(session) for session in ("a1", "a2", "b1")] == [None, "alice", "bob"]


@pytest.mark.gen_test
async def test_all_logins_of_a_user_end_and_nobody_elses(new_ledger):
    one, other = new_ledger(), new_ledger()
    for ledger in (one, other):
        await ledger.start("the first key")
    for login in (ALICE, ALICE_ELSEWHERE, BOB):
        await one.add(login)
    for _ in range(2):
        await other.end_all("alice")
    assert [await one.user_of(session) for session in ("a1", "a2", "b1")] == [None, None, "bob"]
    await other.add(ALICE)
    assert await one.user_of("a1") == "alice"


@pytest.mark.gen_test
async def test_of_processes_that_start_at_once_one_chooses_the_first_key_for_all(new_ledger):
    ledgers = [new_ledger() for _ in range(5)]
    await asyncio.gather(*(ledger.start(f"key of {number}") for number, ledger in enumerate(ledgers)))
    (keys,) = {await ledger.keys() for ledger in ledgers}
    assert keys.newest in {f"key of {number}" for number in range(5)}
    assert keys.by_id == {"key-1": keys.newest}


@pytest.mark.gen_test
async def test_the_key_before_stays_good_and_the_one_before_that_does_not(new_ledger):
    one, other = new_ledger(), new_ledger()
    await one.start("the first key")
    await other.start("not needed")
    await one.rotate("the second key")
    assert await other.keys() == Keys("the second key", "the first key", 1)
    await other.rotate("$third")
    assert (await one.keys()).by_id == {"key-2": "the second key", "key-3": "$third"}


@pytest.mark.gen_test
async def test_rotations_that_race_are_all_counted_and_leave_the_last_two_keys(new_ledger):
    ledgers = [new_ledger() for _ in range(4)]
    await ledgers[0].start("the first key")
    await asyncio.gather(*(ledger.rotate(f"key of {number}") for number, ledger in enumerate(ledgers)))
    keys = await ledgers[0].keys()
    assert keys.newest_id == "key-5"
    assert len({keys.newest, keys.before} & {f"key of {number}" for number in range(4)}) == 2


def test_keys_do_not_show_what_they_are():
    assert "secret" not in repr(Keys("a secret", "a secret of before", 1))


@pytest.mark.gen_test
@pytest.mark.parametrize("engine", ["redis", "mongo"])
async def test_an_engine_that_is_not_there_is_a_ledger_error(engine, redis_client, mongo_client, monkeypatch):
    for module in (redis_engine, mongo_engine):
        monkeypatch.setattr(module, "ANSWER_WITHIN", 0.05)
    if engine == "redis":
        ledger: Ledger = RedisLedger(redis_client("redis://127.0.0.1:1", decode_responses=True))
    else:
        ledger = MongoLedger(mongo_client(uri="mongodb://127.0.0.1:1").nowhere)
    with pytest.raises(LedgerError, match="does not answer"):
        await ledger.user_of("a1")


@pytest.mark.gen_test
async def test_while_the_ledger_does_not_answer_it_is_503_and_nobody_gets_in(visit):
    class Broken(MemoryLedger):
        is_broken = False

        async def keys(self) -> Keys:
            if self.is_broken:
                raise LedgerError("broken")
            return await super().keys()

        async def user_of(self, session_id: str) -> str | None:
            if self.is_broken:
                raise LedgerError("broken")
            return await super().user_of(session_id)

    engine = MemoryEngine()
    engine.ledger = ledger = Broken()
    site = visit(engine=engine)
    session = await site.log_in()
    jwt = await site.jwt(session)
    token = await site.token(jwt)
    ledger.is_broken = True
    for path, bearer in [("/jwt", session), ("/logout", session), ("/ws/token", jwt)]:
        assert (await site.post(path, bearer)).code == 503, path
    assert (await site.fetch("/config.json")).code == 503
    ws = await site.connect(token)
    await ws.write_message(f'{{"type": "jwt", "token": "{jwt}"}}')
    assert await ws.read_message() is None
    assert ws.close_code == 1011
    ledger.is_broken = False
    await site.enter(session=session)
    assert await refused_with(site.connect(token)) == 401
