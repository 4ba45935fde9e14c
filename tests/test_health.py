"""What a load balancer is told: whether the process lives, and whether clients should be sent to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import Echo, ManualClock, Server, http, make_auth, settle, until
from tornado_wsauth import BackplaneError, HealthHandler, MemoryBackplane, MemoryTokenStore, TokenStoreError
from tornado_wsauth.backplane.memory import Hub
from tornado_wsauth.readiness import AT_MOST_EVERY

ROUTES = [(r"/health/(live|ready)", HealthHandler)]


class Store(MemoryTokenStore):
    """A store that can fail, and be held up, and remembers how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def redeem(self, token: str, **options: Any) -> Any:
        self.asked += 1
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return await super().redeem(token, **options)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(serve: Any, clock: ManualClock) -> Any:
    def start_one(**options: Any) -> Server:
        return serve(Echo, make_auth(clock=clock, **options), routes=ROUTES)

    return start_one


async def ready(server: Server) -> tuple[int, Any]:
    answer = await http(server, "/health/ready", method="GET")
    return answer.status, answer.json()


READY = 200, {"status": "ok"}


def unavailable(*reasons: str) -> tuple[int, Any]:
    return 503, {"status": "unavailable", "reasons": [*reasons]}


@pytest.mark.gen_test
async def test_a_process_that_can_serve_is_ready_and_lives(start):
    server = start()
    assert await ready(server) == READY
    answer = await http(server, "/health/live", method="GET")
    assert (answer.status, answer.json()) == READY
    assert answer.headers["cache-control"] == "no-store"
    head = await http(server, "/health/ready", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert (await http(server, "/health/ready", method="POST")).status == 405
    assert (await http(server, "/health/other", method="GET")).status == 404


@pytest.mark.gen_test
@pytest.mark.parametrize("failure", [TokenStoreError("down"), RuntimeError("a bug of the store's")])
async def test_it_is_not_ready_while_the_store_cannot_answer_and_lives_all_the_same(start, clock, caplog, failure):
    store = Store()
    server = start(tokens=store)
    store.failure = failure
    assert await ready(server) == unavailable("store_unavailable")
    assert (await http(server, "/health/live", method="GET")).status == 200
    assert "not ready: store_unavailable" in caplog.text
    store.failure = None
    clock.advance(AT_MOST_EVERY)
    caplog.set_level("INFO")
    assert await ready(server) == READY
    assert "ready again" in caplog.text


@pytest.mark.gen_test
async def test_a_store_that_cannot_be_started_is_not_ready(start, clock):
    class Unprepared(Store):
        async def start(self) -> None:
            if self.failure:
                raise self.failure

    store = Unprepared()
    store.failure = TokenStoreError("no server")
    server = start(tokens=store)
    assert await ready(server) == unavailable("store_unavailable")
    store.failure = None
    clock.advance(AT_MOST_EVERY)
    assert await ready(server) == READY


@pytest.mark.gen_test
async def test_it_is_not_ready_while_the_backplane_is_cut(start, clock, monkeypatch):
    backplane = MemoryBackplane(Hub())
    server = start(backplane=backplane)
    assert await ready(server) == READY, "the first who asks connects it"
    monkeypatch.setattr(MemoryBackplane, "is_connected", False)
    assert await ready(server) == unavailable("backplane_unavailable"), "at once, it costs nothing to know"
    monkeypatch.setattr(MemoryBackplane, "is_connected", True)
    assert await ready(server) == READY
    await server.auth.close(grace=0)


@pytest.mark.gen_test
async def test_a_backplane_that_cannot_be_reached_at_first_is_one_reason_and_not_two(start, monkeypatch):
    async def fail(*arguments: object) -> None:
        raise BackplaneError("no server")

    monkeypatch.setattr(MemoryBackplane, "start", fail)
    server = start(backplane=MemoryBackplane(Hub()))
    assert await ready(server) == unavailable("backplane_unavailable")


@pytest.mark.gen_test
async def test_it_is_not_ready_while_it_drains_and_the_store_is_not_asked_for_that(start):
    store = Store()
    server = start(tokens=store)
    await server.auth.close(grace=0)
    assert await ready(server) == unavailable("draining")
    assert store.asked == 0


@pytest.mark.gen_test
async def test_however_many_ask_the_store_is_asked_once_a_second(start, clock):
    store = Store()
    server = start(tokens=store)
    store.answers.clear()
    first = asyncio.ensure_future(server.auth.readiness.reasons())
    await until(lambda: store.asked > 0)
    asking = [asyncio.ensure_future(ready(server)) for _ in range(20)]
    await settle()
    first.cancel()  # whoever asked first may leave
    await settle()
    store.answers.set()
    assert await asyncio.gather(*asking) == [READY] * 20
    assert await ready(server) == READY
    assert store.asked == 1
    clock.advance(AT_MOST_EVERY)
    assert await ready(server) == READY
    assert store.asked == 2


@pytest.mark.gen_test
async def test_a_clock_that_was_set_back_does_not_keep_an_old_answer(start, clock):
    store = Store()
    server = start(tokens=store)
    assert await ready(server) == READY
    clock.advance(-3600)
    store.failure = TokenStoreError("down")
    assert await ready(server) == unavailable("store_unavailable")


@pytest.mark.gen_test
async def test_the_question_spends_and_leaves_nothing(start):
    store = Store()
    server = start(tokens=store)
    token = await server.auth.issue_token("alice")
    assert await ready(server) == READY
    assert (await server.auth.redeem_token(token)).user_id == "alice"
    assert store.asked == 2


@pytest.mark.gen_test
async def test_a_change_is_logged_once(start, clock, caplog):
    store = Store()
    server = start(tokens=store)
    store.failure = TokenStoreError("down")
    for _ in range(3):
        assert (await ready(server))[0] == 503
        clock.advance(AT_MOST_EVERY)
    assert len([r for r in caplog.records if r.getMessage().startswith("not ready")]) == 1
