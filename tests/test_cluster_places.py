"""The places that connections hold on the backplane, when it fails or forgets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fanout import complaints
from tests.handshakes import ask
from tests.processes import (
    REPLACED,
    TOO_MANY,
    SpyBackplane,
    Stranger,
    backplane_of,
    everywhere,
    hub_of,
    is_served,
    path_of,
    places_of,
    processes,
)
from tests.processes import to_the_end as to_the_end
from tests.support import AppError, nothing_is_left, settle, until
from tornado_wsauth import BackplaneError, gate
from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import EVERYONE, process_channel
from tornado_wsauth.backplane.memory import Hub
from tornado_wsauth.gate import Close
from tornado_wsauth.places import AT_ONCE, Places


class Pauses(Seams):
    """Remembers how long was to be waited, and waits until it is told to go on."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.go_on = asyncio.Event()

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        self.seconds.append(seconds)
        await self.go_on.wait()
        self.go_on.clear()


class Held:
    """A connection that remembers how it was closed."""

    def __init__(self) -> None:
        self.place: str | None = None
        self.closed: list[Close] = []

    def close(self, close: Close, detail: str = "") -> bool:
        self.closed.append(close)
        return True


class Process:
    """The places of one process, without a server."""

    def __init__(self, hub: Hub, most: int = 1, *, evict: bool = False, spy: type[SpyBackplane] = SpyBackplane) -> None:
        self.backplane = spy(hub)
        self.seams = Pauses()
        self.places = Places(self.backplane, most, evict=evict, seams=self.seams)

    async def start(self) -> Process:
        self.backplane.listen(process_channel(self.backplane.process_id))
        await self.backplane.start(self)
        return self

    def receive(self, channel: str, message: Any) -> None:
        self.places.evict(message["names"])

    def gap(self) -> None:
        """Nothing is lost here."""

    def forgotten(self) -> None:
        self.places.claim_all_again()


def taken(process: Process, user: str = "alice") -> int:
    places: dict[str, Any] = process.backplane.hub.places
    return len(places.get(user, []))


# --- giving back -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_place_that_could_not_be_given_back_is_given_back_later():
    # A26
    process = await Process(Hub()).start()
    holder = Held()
    assert await process.places.claim(holder, "alice")
    process.backplane.failing = {"release"}
    process.places.give_back(holder)
    assert holder.place is None
    for attempt in range(1, 4):
        await settle()
        assert (process.backplane.calls["release"], len(process.seams.seconds)) == (attempt, attempt)
        assert process.seams.seconds[-1] > 0
        assert taken(process) == 1
        if attempt == 3:
            process.backplane.failing = set()
        process.seams.go_on.set()
    await settle()
    assert (process.backplane.calls["release"], taken(process)) == (4, 0)
    assert len(process.seams.seconds) == 3, "nothing is left to wait for"


@pytest.mark.gen_test
async def test_giving_back_twice_gives_back_once():
    process = await Process(Hub(), 5).start()
    holder, other = Held(), Held()
    for one in (holder, other):
        assert await process.places.claim(one, "alice")
    process.places.give_back(holder)
    process.places.give_back(holder)
    process.places.give_back(Held())
    await settle()
    assert (process.backplane.calls["release"], taken(process)) == (1, 1)


@pytest.mark.gen_test
async def test_a_thousand_places_are_given_back_a_few_at_a_time():
    process = await Process(Hub(), 1000).start()
    holders = [Held() for _ in range(1000)]
    for holder in holders:
        assert await process.places.claim(holder, "alice")
    released = process.backplane.hold("release")
    for holder in holders:
        process.places.give_back(holder)
    await settle()
    assert process.backplane.calls["release"] == AT_ONCE
    released.set()
    await until(lambda: taken(process) == 0)
    assert process.backplane.calls["release"] == 1000


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [BackplaneError("down"), AppError("a bug"), asyncio.CancelledError()], ids=repr)
async def test_a_claim_that_fails_in_any_way_holds_no_place(error):
    # A26
    class AnswerLost(SpyBackplane):
        async def claim(self, *args: Any, **kwargs: Any) -> Any:
            await super().claim(*args, **kwargs)
            raise error

    process = await Process(Hub(), spy=AnswerLost).start()
    holder = Held()
    with pytest.raises(type(error)):
        await process.places.claim(holder, "alice")
    assert holder.place is None
    await settle()
    assert taken(process) == 0


@pytest.mark.gen_test
async def test_after_close_nothing_is_given_back_and_nothing_is_left_running():
    process = await Process(Hub(), 3).start()
    holders = [Held(), Held()]
    for holder in holders:
        assert await process.places.claim(holder, "alice")
    process.backplane.failing = {"release"}
    process.places.give_back(holders[0])
    await settle()
    claimed = process.backplane.hold("claim")
    process.places.claim_later(Held(), "alice")
    await settle()
    process.places.close()
    await settle()
    process.places.give_back(holders[1])
    claimed.set()
    await settle()
    assert process.backplane.calls["release"] == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await process.backplane.close()
    assert taken(process) == 0


@pytest.mark.gen_test
async def test_an_application_that_is_closed_tries_to_give_nothing_back_any_more(serve, login):
    (server,) = await processes(serve, 1, max_connections_per_user=1)
    before = asyncio.all_tasks()
    client = await login(server)
    backplane_of(server).failing = {"release"}
    client.abort()
    await nothing_is_left(server)
    await settle()
    assert asyncio.all_tasks() - before != set(), "it would be tried again in a while"
    await server.auth.close()
    await settle()
    assert asyncio.all_tasks() - before == set()
    assert hub_of(server).places == {}


@pytest.mark.gen_test
async def test_a_release_that_overtakes_its_claim_is_followed_by_another():
    """The client left during the claim; its release was carried out before the claim, and answered after it."""

    # A26
    class Overtaken(SpyBackplane):
        async def claim(self, *args: Any, **kwargs: Any) -> Any:
            await self._before("claim")
            return await super(SpyBackplane, self).claim(*args, **kwargs)

        async def release(self, *args: Any) -> None:
            await super(SpyBackplane, self).release(*args)
            await self._before("release")

    process = await Process(Hub(), spy=Overtaken).start()
    claimed, released = process.backplane.hold("claim"), process.backplane.hold("release")
    holder = Held()
    claiming = asyncio.ensure_future(process.places.claim(holder, "alice"))
    await settle()
    process.places.give_back(holder)
    await settle()
    claimed.set()
    await claiming
    released.set()
    await settle()
    assert taken(process) == 0


# --- evicting --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_of_each_process_those_are_closed_whose_places_were_given_away():
    # A26
    hub = Hub()
    first, second = await Process(hub, 2, evict=True).start(), await Process(hub, 2, evict=True).start()
    holders = [Held() for _ in range(5)]
    for holder, process in zip(holders, (first, second, first, first, second), strict=True):
        assert await process.places.claim(holder, "alice")
        await settle()
    assert [holder.closed for holder in holders] == [[gate.REPLACED]] * 3 + [[]] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize("names", [["17"], [7, None, {}], [[]], []], ids=str)
async def test_a_place_that_is_not_held_cannot_be_given_away(serve, login, caplog, names):
    # A37
    (server,) = await processes(serve, 1, max_connections_per_user=2, over_limit="evict_oldest")
    client = await login(server)
    await settle()
    stranger = await Stranger(hub_of(server)).start()
    await stranger.send({"kind": "evict", "process": backplane_of(server).process_id, "names": names}, EVERYONE)
    assert await is_served(client)
    assert complaints(caplog) == []


# --- forgotten -------------------------------------------------------------------------------------------------------


def forget(*servers: Any) -> None:
    """Take the places of all for free, as of processes that are taken for dead."""
    hub_of(servers[0]).places.clear()


def learn_of_it(server: Any) -> None:
    receiver = backplane_of(server).receiver
    assert receiver is not None
    receiver.forgotten()


@pytest.mark.gen_test
@pytest.mark.parametrize("over_limit", ["refuse", "evict_oldest"])
async def test_a_process_that_was_taken_for_dead_claims_its_places_again(serve, login, over_limit):
    # A26
    servers = await processes(serve, max_connections_per_user=2, over_limit=over_limit)
    clients = [await login(servers[0]), await login(servers[0]), await login(servers[0], "bob")]
    await settle()
    before = {user: set(places) for user, places in hub_of(servers[0]).places.items()}
    forget(*servers)
    learn_of_it(servers[0])
    await settle()
    assert {user: set(places) for user, places in hub_of(servers[0]).places.items()} == before
    for client in clients:
        assert await is_served(client)
    learn_of_it(servers[0])
    await settle()
    assert {user: set(places) for user, places in hub_of(servers[0]).places.items()} == before


@pytest.mark.gen_test
async def test_a_thousand_places_are_claimed_again_a_few_at_a_time():
    process = await Process(Hub(), 1000).start()
    for _ in range(1000):
        assert await process.places.claim(Held(), "alice")
    process.backplane.hub.places.clear()
    process.backplane.calls.clear()
    claimed = process.backplane.hold("claim")
    process.places.claim_all_again()
    await settle()
    assert process.backplane.calls["claim"] == AT_ONCE
    claimed.set()
    await until(lambda: taken(process) == 1000)
    assert process.backplane.calls["claim"] == 1000


@pytest.mark.gen_test
async def test_who_finds_no_place_any_more_has_to_go(serve, login, logged):
    # A26
    servers = await processes(serve, max_connections_per_user=2)
    old = [await login(servers[0]) for _ in range(2)]
    bob = await login(servers[0], "bob")
    forget(*servers)
    new = await login(servers[1])
    learn_of_it(servers[0])
    await until(lambda: len(servers[0].auth.connections.for_user("alice")) == 1)
    await settle()
    assert await old[1].read_close() == TOO_MANY
    for client in (old[0], new, bob):
        assert await is_served(client)
    assert places_of(servers[0]) == 2
    assert ("closed", "too_many", "alice", 4429) in logged.events
    assert (await ask(servers[1], await path_of(servers[1]))).status == 429


@pytest.mark.gen_test
async def test_who_claims_again_where_the_oldest_makes_room_leaves_no_more_than_may_be(serve, login):
    # A26
    servers = await processes(serve, max_connections_per_user=2, over_limit="evict_oldest")
    clients = [await login(servers[0]) for _ in range(2)]
    await settle()
    forget(*servers)
    clients += [await login(servers[1]) for _ in range(2)]
    await settle()
    assert sum(len(server.auth.connections) for server in servers) == 4
    learn_of_it(servers[0])
    await until(lambda: sum(len(server.auth.connections) for server in servers) == 2)
    await settle()
    assert places_of(servers[0]) == 2
    gone = [client for client in clients if client.reader._buffer]  # type: ignore[attr-defined]
    assert [await client.read_close() for client in gone] == [REPLACED] * 2


@pytest.mark.gen_test
async def test_who_leaves_while_places_are_claimed_again_holds_none(serve, login):
    # A26
    servers = await processes(serve, max_connections_per_user=2)
    client = await login(servers[0])
    forget(*servers)
    claimed = backplane_of(servers[0]).hold("claim")
    learn_of_it(servers[0])
    await settle()
    client.abort()
    await nothing_is_left(servers[0])
    await settle()
    claimed.set()
    await settle()
    assert places_of(servers[0]) == 0


@pytest.mark.gen_test
async def test_a_claim_that_fails_while_all_are_claimed_again_is_tried_again():
    # A26
    process = await Process(Hub(), 3).start()
    for _ in range(3):
        assert await process.places.claim(Held(), "alice")
    process.backplane.hub.places.clear()
    process.backplane.failing = {"claim"}
    process.places.claim_all_again()
    await settle()
    process.backplane.failing = set()
    process.seams.go_on.set()
    await settle()
    assert taken(process) == 3


@pytest.mark.gen_test
async def test_without_a_limit_there_are_no_places_to_forget(serve, login, caplog):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    learn_of_it(servers[0])
    await settle()
    assert backplane_of(servers[0]).calls["claim"] == 0
    assert hub_of(servers[0]).places == {}
    for client in clients:
        assert await is_served(client)
    assert complaints(caplog) == []
