"""`Metrics`: each number counts what it says, and shows nothing about anybody. Read as Prometheus would, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.fanout import Narrow, clog, handler_of, resume, stall
from tests.support import (
    CLOSE,
    Echo,
    ManualClock,
    Server,
    frame,
    http,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    until,
)
from tornado_wsauth import (
    BackplaneError,
    MemoryBackplane,
    MemoryTokenStore,
    TokenStoreError,
)
from tornado_wsauth.backplane.memory import Hub
from tornado_wsauth.metrics import Metrics, MetricsHandler
from tornado_wsauth.testing.client import RawClient

Numbers = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def start(serve: Callable[..., Server]) -> Callable[..., Server]:
    """Start a server that is measured: ``start(handler, **options)``."""

    def start_one(handler: type = Echo, *, namespace: str = "wsauth", **options: Any) -> Server:
        metrics = Metrics(CollectorRegistry(), namespace=namespace)
        return serve(handler, make_auth(metrics=metrics, **options), routes=[(r"/metrics", MetricsHandler)])

    return start_one


async def scrape(server: Server) -> Numbers:
    """Return the samples that Prometheus would see, by name and label values."""
    answer = await http(server, "/metrics", method="GET")
    assert answer.status == 200
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in parse_text(answer.body.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def read_close(client: RawClient) -> int:
    while True:
        opcode, payload = await client.read_frame()
        if opcode == CLOSE:
            return int.from_bytes(payload[:2], "big")


@pytest.mark.gen_test
async def test_a_token_that_is_issued_redeemed_and_replayed_is_counted_at_each_step(start, connect):
    server = start()
    token = await server.auth.issue_token("alice")
    for _ in range(2):
        await connect(server, path=f"/ws?token={token}")
    await connect(server, path=f"/ws?token={'x' * 43}")
    numbers = await scrape(server)
    assert numbers["wsauth_tokens_issued_total", ()] == 1
    results = {labels[0]: n for (name, labels), n in numbers.items() if name == "wsauth_token_redeems_total" and n}
    assert results == {"accepted": 1, "replayed": 1, "unknown": 1}
    refused = {labels: n for (name, labels), n in numbers.items() if name == "wsauth_authentications_total" and n}
    assert refused == {("token_replayed", "refused"): 1, ("token_unknown", "refused"): 1}
    assert numbers["wsauth_store_seconds_count", ("issue",)] == 1
    assert numbers["wsauth_store_seconds_count", ("redeem",)] == 3
    assert 0 < numbers["wsauth_store_seconds_sum", ("redeem",)] < 3


@pytest.mark.gen_test
async def test_a_token_that_is_refused_before_it_is_spent_is_counted_too(start, connect):
    server = start(max_connections_per_user=1)
    await connect(server, path=f"/ws?token={'x' * 43}")
    numbers = await scrape(server)
    assert numbers["wsauth_token_redeems_total", ("unknown",)] == 1
    assert numbers["wsauth_store_seconds_count", ("look",)] == 1
    assert not [n for (name, _), n in numbers.items() if name == "wsauth_closes_total" and n], "there was no connection"


@pytest.mark.gen_test
async def test_a_request_for_a_token_that_is_refused_is_counted_by_reason(start):
    server = start(max_tokens_per_user=1)
    bearer = f"Bearer {make_jwt()}"
    statuses = [(await http(server, Authorization=given)).status for given in (None, bearer, bearer, "Bearer x")]
    statuses.append((await http(server, method="GET")).status)
    assert statuses == [401, 200, 429, 401, 405]
    numbers = await scrape(server)
    name = "wsauth_token_requests_refused_total"
    refused = {labels[0]: n for (found, labels), n in numbers.items() if found == name and n}
    assert refused == {"anonymous": 1, "too_many_tokens": 1, "jwt_invalid": 1, "method_not_allowed": 1}
    assert numbers["wsauth_tokens_issued_total", ()] == 1


@pytest.mark.gen_test
async def test_a_connection_is_counted_in_the_state_it_is_in(start, connect, login):
    server = start()

    async def states() -> dict[str, float]:
        numbers = await scrape(server)
        return {labels[0]: n for (name, labels), n in numbers.items() if name == "wsauth_connections"}

    nobody = {"handshaking": 0, "authenticating": 0, "open": 0, "closing": 0}
    assert await states() == nobody
    await connect(server)
    assert await states() == {**nobody, "authenticating": 1}
    client = await login(server, "bob")
    assert await states() == {**nobody, "authenticating": 1, "open": 1}
    await server.auth.disconnect_user("bob")
    assert await states() == {**nobody, "authenticating": 1, "closing": 1}
    assert await read_close(client) == 4403
    await client.close()
    await until(lambda: not server.auth.ending)
    assert await states() == {**nobody, "authenticating": 1}


class HeldStore(MemoryTokenStore):
    """Answers when it is let, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.fails = False

    async def redeem(self, token: str, **options: Any) -> Any:
        await self.go_on.wait()
        if self.fails:
            raise TokenStoreError("it is down")
        return await super().redeem(token, **options)


@pytest.mark.gen_test
async def test_a_store_that_does_not_answer_is_counted_as_an_error(start):
    store = HeldStore()
    store.fails = True
    server = start(tokens=store)
    client = await RawClient.connect(server.port)
    answer = asyncio.ensure_future(client.upgrade(f"/ws?token={'x' * 43}"))
    await until(lambda: len(server.auth.pending) == 1)
    numbers = await scrape(server)
    assert numbers["wsauth_connections", ("handshaking",)] == 1
    assert numbers["wsauth_connections", ("authenticating",)] == 0
    store.go_on.set()
    assert (await answer).status == 503
    await client.close()
    numbers = await scrape(server)
    assert numbers["wsauth_store_errors_total", ("redeem",)] == 1
    assert numbers["wsauth_store_seconds_count", ("redeem",)] == 1
    assert numbers["wsauth_token_redeems_total", ("error",)] == 1
    assert numbers["wsauth_authentications_total", ("store_unavailable", "refused")] == 1


@pytest.mark.gen_test
async def test_an_accepted_jwt_is_counted_with_the_time_it_took_and_a_renewal_without(start, login):
    server = start()
    client = await login(server)
    client.send_text(jwt_message(make_jwt(expires_in=900)))
    assert (await client.read_json())["type"] == "auth_ok"
    numbers = await scrape(server)
    assert numbers["wsauth_authentications_total", ("auth_ok", "accepted")] == 1
    assert numbers["wsauth_authentications_total", ("refreshed", "accepted")] == 1
    assert numbers["wsauth_authentication_seconds_count", ()] == 1
    assert 0 < numbers["wsauth_authentication_seconds_sum", ()] < 10


@pytest.mark.gen_test
async def test_closes_are_counted_by_code_and_strange_codes_together(start, connect, login):
    server = start()
    client, _ = await connect(server)
    client.send_text("no json")
    assert await read_close(client) == 4400
    for code in (1000, 3999, 4998):
        client = await login(server)
        client.send(frame(code.to_bytes(2, "big"), CLOSE))
        await read_close(client)
    client = await login(server)
    client.abort()
    await nothing_is_left(server)
    numbers = await scrape(server)
    closes = {labels[0]: n for (name, labels), n in numbers.items() if name == "wsauth_closes_total" and n}
    assert closes == {"4400": 1, "1000": 1, "other": 2, "none": 1}
    assert numbers["wsauth_authentications_total", ("bad_message", "refused")] == 1
    assert numbers["wsauth_authentication_seconds_count", ()] == 4, "of those that were let in"


@pytest.mark.gen_test
async def test_what_was_begun_and_never_authenticated_is_forgotten(start, connect):
    clock = ManualClock()
    server = start(clock=clock)
    metrics = server.auth.metrics
    assert isinstance(metrics, Metrics)
    for _ in range(3):
        await connect(server)
    assert len(metrics._upgraded_at) == 3
    clock.advance(11)
    await nothing_is_left(server)
    assert metrics._upgraded_at == {}


@pytest.mark.gen_test
async def test_whoever_is_refused_after_the_upgrade_is_forgotten_too(start, connect):
    server = start(refuse="close")
    client, _ = await connect(server, path=f"/ws?token={'x' * 43}")
    assert await read_close(client) == 4401
    assert server.auth.metrics._upgraded_at == {}
    numbers = await scrape(server)
    assert numbers["wsauth_closes_total", ("4401",)] == 1
    assert numbers["wsauth_authentications_total", ("token_unknown", "refused")] == 1


@pytest.mark.gen_test
async def test_a_store_and_a_backplane_that_cannot_be_started_are_errors(start, connect, monkeypatch):
    async def fail(*arguments: object) -> None:
        raise BackplaneError("no server")

    monkeypatch.setattr(MemoryBackplane, "start", fail)
    server = start(backplane=MemoryBackplane(Hub()))
    with pytest.raises(BackplaneError):
        await server.auth.start()
    assert (await scrape(server))["wsauth_backplane_errors_total", ("start",)] == 1

    class Down(MemoryTokenStore):
        async def start(self) -> None:
            raise TokenStoreError("no server")

    server = start(tokens=Down())
    with pytest.raises(TokenStoreError):
        await server.auth.start()
    assert (await scrape(server))["wsauth_store_errors_total", ("start",)] == 1


@pytest.mark.gen_test
async def test_messages_to_many_and_the_connections_they_went_to_are_counted(start, login):
    server = start()
    for user in ("alice", "alice", "bob"):
        await login(server, user)
    for handler in server.auth.connections.for_user("alice"):
        handler.auth_session.join("news")
    await server.auth.broadcast("to all")
    server.auth.connections.broadcast("to a group", group="news")
    await server.auth.send_to_user("bob", "to one")
    numbers = await scrape(server)
    sent = {labels[0]: n for (name, labels), n in numbers.items() if name == "wsauth_broadcasts_total" and n}
    assert sent == {"all": 1, "group": 1, "user": 1}
    assert numbers["wsauth_deliveries_total", ()] == 3 + 2 + 1


async def log_in_slow(server: Server, login: Any) -> RawClient:
    client: RawClient = await login(server, "slow")
    await until(lambda: Narrow.events[-1:] == ["open"])
    stall(client)
    await clog(server)
    return client


@pytest.mark.gen_test
async def test_what_a_slow_reader_misses_is_counted_by_policy(start, login):
    server = start(Narrow, max_buffer_bytes=300_000)
    client = await log_in_slow(server, login)
    before = await scrape(server)
    assert before["wsauth_buffered_bytes", ()] > 300_000
    connections = server.auth.connections
    for text in ("first", "second", "third"):
        connections.broadcast(text, slow="latest")
    connections.broadcast("not for the slow", slow="drop")
    connections.broadcast("the end", slow="close")
    after = await scrape(server)
    drops = {
        labels[0]: n - before.get((name, labels), 0)
        for (name, labels), n in after.items()
        if name == "wsauth_slow_reader_drops_total"
    }
    assert drops == {"latest": 2, "drop": 1, "close": 1}
    resume(client)
    await client.close()
    await nothing_is_left(server)
    await until(lambda: not server.auth.ending)
    assert (await scrape(server))["wsauth_buffered_bytes", ()] == 0


@pytest.mark.gen_test
async def test_a_reader_left_out_before_its_slice_came_is_counted_as_well(start, login, monkeypatch):
    monkeypatch.setattr("tornado_wsauth.fanout.SLICE_SECONDS", -1)
    monkeypatch.setattr("tornado_wsauth.fanout.STRIDE", 1)
    server = start(Narrow, max_buffer_bytes=300_000)
    await login(server, "first")
    client = await log_in_slow(server, login)
    before = (await scrape(server))["wsauth_slow_reader_drops_total", ("drop",)]
    fan_out = server.auth.connections.broadcast("x", slow="drop")
    assert fan_out.dropped == 1
    assert (await scrape(server))["wsauth_slow_reader_drops_total", ("drop",)] == before + 1
    handler_of(server, "slow").close()
    client.abort()
    await client.close()


@pytest.mark.gen_test
async def test_what_the_backplane_answers_is_timed_and_its_gaps_and_errors_counted(start, serve):
    backplane = MemoryBackplane(Hub())
    server = start(backplane=backplane)
    await server.auth.start()
    await server.auth.broadcast("x")
    await server.auth.disconnect_user("nobody")
    numbers = await scrape(server)
    assert numbers["wsauth_backplane_connected", ()] == 1
    assert numbers["wsauth_backplane_seconds_count", ("publish",)] == 1
    assert numbers["wsauth_backplane_seconds_count", ("announce",)] == 1
    assert numbers["wsauth_backplane_errors_total", ("publish",)] == 0, "shown from the start"

    async def fail(*arguments: Any) -> None:
        raise BackplaneError("it is down")

    backplane.publish = fail  # type: ignore[method-assign]
    await server.auth.broadcast("x")
    server.auth._cluster.gap()
    numbers = await scrape(server)
    assert numbers["wsauth_backplane_errors_total", ("publish",)] == 1
    assert numbers["wsauth_backplane_gaps_total", ()] == 1
    await server.auth.close(grace=0)


@pytest.mark.gen_test
async def test_claims_of_places_are_timed(start, connect):
    server = start(backplane=MemoryBackplane(Hub()), max_connections_per_user=2)
    _, response = await connect(server)
    assert response.status == 101
    assert (await scrape(server))["wsauth_backplane_seconds_count", ("claim",)] == 1
    await server.auth.close(grace=0)


@pytest.mark.gen_test
async def test_draining_shows(start):
    server = start()
    assert (await scrape(server))["wsauth_draining", ()] == 0
    await server.auth.close(grace=0)
    numbers = await scrape(server)
    assert numbers["wsauth_draining", ()] == 1
    assert not [name for name, _ in numbers if name.startswith("wsauth_backplane_connected")], "there is none"


@pytest.mark.gen_test
async def test_no_user_no_token_and_no_jwt_is_in_what_is_shown(start, connect):
    # A38
    server = start()
    canary = make_jwt("canary-user")
    token = await server.auth.issue_token("canary-user")
    for _ in range(2):
        client, _ = await connect(server, path=f"/ws?token={token}")
        client.send_text(jwt_message(canary))
    await http(server, Authorization=f"Bearer {canary}")
    await connect(server, path="/ws?token=canary")
    await until(lambda: len(server.auth.connections) == 1)
    shown = (await http(server, "/metrics", method="GET")).body.decode()
    for secret in (token, canary, "canary", "127.0.0.1"):
        assert secret not in shown


@pytest.mark.gen_test
async def test_prometheus_gets_the_format_it_asks_for(start):
    server = start()
    await server.auth.issue_token("alice")
    answer = await http(server, "/metrics", method="GET", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(answer.body.decode())}
    assert [s.value for s in families["wsauth_tokens_issued"].samples if s.name.endswith("_total")] == [1]
    plain = await http(server, "/metrics", method="GET")
    assert plain.headers["content-type"].startswith("text/plain")
    assert plain.headers["cache-control"] == "no-store"
    assert (await http(server, "/metrics", method="HEAD")).status == 200
    assert (await http(server, "/metrics", method="POST")).status == 405


@pytest.mark.gen_test
async def test_a_route_without_metrics_says_what_is_missing(serve, caplog):
    server = serve(routes=[(r"/metrics", MetricsHandler)])
    assert (await http(server, "/metrics", method="GET")).status == 500
    assert "WSAuth(metrics=None): MetricsHandler needs a Metrics there" in caplog.text
