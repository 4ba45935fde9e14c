"""Tokens that are good only where they were issued for: the origin, the path, the address."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import tornado.httpserver
import tornado.testing

from tests.handshakes import ask
from tests.support import Echo, RawClient, Response, Server, http, make_auth, make_jwt, upgrade_request
from tests.token_routes import bearer
from tornado_wsauth import TokenRejected

APP, OTHER = "https://app.example", "https://other.example"


def bound(*bonds: str, **options: Any) -> Any:
    return make_auth(bind_tokens=bonds, allowed_origins=[APP, OTHER, None], **options)


def start(serve: Any, *bonds: str, **options: Any) -> Server:
    class Other(Echo):
        pass

    return serve(Echo, bound(*bonds, **options), routes=[(r"/other", Other)])


async def token_from(server: Server, path: str = "/ws/token", **headers: str | None) -> str:
    response = await http(server, path, Authorization=bearer(), **headers)
    assert response.status == 200, response
    return response.json()["token"]


def same(response: Response) -> tuple[bytes, ...]:
    return *[line for line in response.head.splitlines() if not line.startswith(b"Date:")], response.body


def by_header(request: Any) -> str:
    return request.headers.get("X-Client", "nowhere")


CASES = {
    "origin": (("/ws/token", {"Origin": APP}), ("/ws", {"Origin": APP}), ("/ws", {"Origin": OTHER})),
    "origin that is missing": (("/ws/token", {"Origin": APP}), ("/ws", {"Origin": APP}), ("/ws", {})),
    "origin that was missing": (("/ws/token", {}), ("/ws", {}), ("/ws", {"Origin": APP})),
    "path": (("/ws/token?path=/ws", {}), ("/ws", {}), ("/other", {})),
    "address": (("/ws/token", {"X_Client": "a"}), ("/ws", {"X_Client": "a"}), ("/ws", {"X_Client": "b"})),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("case", CASES)
async def test_a_token_opens_a_connection_where_it_was_issued_for_and_nowhere_else(serve, logged, case):
    # A7, A39
    bond = case.split()[0]
    server = start(serve, bond, client_address=by_header)
    (issue_path, issued), (path, here), (other_path, elsewhere) = CASES[case]
    token = await token_from(server, issue_path, **issued)
    assert (await ask(server, f"{path}?token={token}", **here)).status == 101
    token = await token_from(server, issue_path, **issued)
    refused = await ask(server, f"{other_path}?token={token}", **elsewhere)
    record = logged.records[-1]
    assert (record.event, record.reason, record.user_id, record.code) == ("refused", "token_elsewhere", "alice", 401)
    assert bond in record.getMessage()
    assert (await ask(server, f"{path}?token={token}", **here)).status == 401, "the token is spent by it"
    assert logged.records[-1].reason == "token_replayed"
    unknown = await ask(server, f"{other_path}?token={'A' * 43}", **elsewhere)
    assert refused.status == 401
    assert same(refused) == same(unknown)


@pytest.mark.gen_test
async def test_all_bonds_hold_together_and_the_log_names_those_that_broke(serve, logged):
    server = start(serve, "origin", "path", "address", client_address=by_header)
    here = {"Origin": APP, "X_Client": "a"}
    token = await token_from(server, "/ws/token?path=/ws", **here)
    assert (await ask(server, f"/ws?token={token}", **here)).status == 101
    token = await token_from(server, "/ws/token?path=/ws", **here)
    assert (await ask(server, f"/other?token={token}", Origin=APP, X_Client="b")).status == 401
    message = logged.records[-1].getMessage()
    assert "path" in message.split("code=401")[1]
    assert "address" in message.split("code=401")[1]
    assert "origin" not in message.split("code=401")[1]


@pytest.mark.gen_test
@pytest.mark.parametrize("query", ["", "?path=", "?path=%20", "?other=/ws"])
async def test_without_one_path_there_is_no_token_that_is_bound_to_one(serve, query):
    server = start(serve, "path")
    response = await http(server, "/ws/token" + query, Authorization=bearer())
    assert (response.status, response.json()) == (400, {"error": "path_required"})
    assert response.headers["cache-control"] == "no-store"
    assert len(server.auth.tokens) == 0


@pytest.mark.gen_test
async def test_a_stranger_without_a_path_is_told_to_log_in_first(serve):
    server = start(serve, "path")
    assert (await http(server, "/ws/token")).status == 401


@pytest.mark.gen_test
async def test_a_path_is_compared_without_the_query(serve):
    server = start(serve, "path")
    token = await token_from(server, "/ws/token?path=/ws")
    assert (await ask(server, f"/ws?a=b&token={token}")).status == 101


@pytest.mark.gen_test
async def test_without_bind_tokens_a_path_in_the_request_means_nothing(serve):
    server = start(serve)
    token = await token_from(server, "/ws/token?path=/other", Origin=OTHER)
    assert (await ask(server, f"/ws?token={token}", Origin=APP)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("single_use", [True, False])
async def test_a_token_that_is_not_bound_opens_nothing_where_tokens_are(serve, single_use):
    server = start(serve, "path", single_use=single_use)
    token = await server.auth.tokens.issue("alice", 30)  # as from before the option was set
    assert (await ask(server, f"/ws?token={token}")).status == 401


@pytest.mark.gen_test
async def test_a_token_bound_to_less_than_is_asked_for_opens_nothing(serve):
    """As one that was issued before the application bound its tokens to more."""
    server = start(serve, "path", "origin")
    before = bound("path", tokens=server.auth.tokens)
    for origin in (None, APP):
        token = await before.issue_token("alice", bound_to={"path": "/ws"})
        assert (await ask(server, f"/ws?token={token}", Origin=origin)).status == 401


@pytest.mark.gen_test
async def test_a_token_used_elsewhere_is_a_401_and_spent_however_many_connections_its_user_has(serve):
    # A7, A26
    server = start(serve, "path", max_connections_per_user=1)
    first, token = [await token_from(server, "/ws/token?path=/ws") for _ in range(2)]
    client = await RawClient.connect(server.port)
    assert (await client.upgrade(f"/ws?token={first}")).status == 101
    elsewhere = await ask(server, f"/other?token={token}")
    await client.close()
    assert elsewhere.status == 401
    with pytest.raises(TokenRejected, match="replayed"):
        await server.auth.redeem_token(token)


# --- issued by the application ---------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "bound_to", [None, {}, {"path": "/ws"}, {"origin": APP}, {"path": "/ws", "origin": APP, "address": "a"}]
)
async def test_bound_to_must_name_exactly_the_bonds(bound_to):
    auth = bound("path", "origin")
    with pytest.raises(ValueError, match="bound_to"):
        await auth.issue_token("alice", bound_to=bound_to)
    with pytest.raises(ValueError, match="bound_to"):
        await make_auth().issue_token("alice", bound_to={"path": "/ws"})
    assert len(auth.tokens) == 0


@pytest.mark.gen_test
async def test_an_issued_token_is_good_where_bound_to_says_and_keeps_the_applications_context(serve):
    server = start(serve, "path", "origin")
    bound_to, context = {"path": "/ws", "origin": None}, {"room": 7}
    token = await server.auth.issue_token("alice", bound_to=bound_to, context=context)
    record = await server.auth.tokens.redeem(token, consume=False)
    assert record.context["room"] == 7
    assert (bound_to, context) == ({"path": "/ws", "origin": None}, {"room": 7})
    assert (await ask(server, f"/ws?token={token}")).status == 101
    token = await server.auth.issue_token("alice", bound_to=bound_to)
    assert (await ask(server, f"/ws?token={token}", Origin=APP)).status == 401


# --- the address -----------------------------------------------------------------------------------------------------


async def from_address(server: Server, port: int, address: str, path: str, **headers: str | None) -> Response:
    """Send a handshake from another address of this machine."""
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))
    try:
        return await client.upgrade(path, **headers)
    finally:
        await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("xheaders", [False, True])
@pytest.mark.parametrize("header", ["X_Real_Ip", "X_Forwarded_For"])
async def test_the_address_cannot_be_forged_by_a_header(serve, xheaders, header):
    plain = start(serve, "address")
    bound_socket, port = tornado.testing.bind_unused_port()
    front = tornado.httpserver.HTTPServer(plain.app, xheaders=xheaders)
    front.add_socket(bound_socket)
    try:
        plain_port, plain.port = plain.port, port
        token = await token_from(plain)
        plain.port = plain_port
        forged = {header: "127.0.0.1"}
        assert (await from_address(plain, port, "127.0.0.2", f"/ws?token={token}", **forged)).status == 401
        plain.port = port
        token = await token_from(plain, **{header: "127.0.0.2"})
        plain.port = plain_port
        assert (await from_address(plain, port, "127.0.0.2", f"/ws?token={token}")).status == 401
        plain.port = port
        token = await token_from(plain, **{header: "10.9.8.7"})
        plain.port = plain_port
        assert (await from_address(plain, port, "127.0.0.1", f"/ws?token={token}")).status == 101
    finally:
        front.stop()
        await front.close_all_connections()


@pytest.mark.gen_test
async def test_a_client_address_that_raises_is_a_500_that_opens_nothing(serve, caplog):
    calls = []

    def broken(request):
        calls.append(request)
        if len(calls) > 1:
            raise ZeroDivisionError("a bug")
        return "a"

    server = start(serve, "address", client_address=broken)
    token = await token_from(server)
    assert (await ask(server, f"/ws?token={token}")).status == 500
    assert token not in caplog.text
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [ZeroDivisionError]


@pytest.mark.gen_test
async def test_neither_the_token_nor_a_jwt_is_in_the_record_of_a_token_elsewhere(serve, caplog):
    # A38
    caplog.set_level(logging.DEBUG)
    server = start(serve, "path", "address")
    jwt = make_jwt("alice")
    response = await http(server, "/ws/token?path=/ws", Authorization=f"Bearer {jwt}")
    token = response.json()["token"]
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/other?token={token}"))
    assert (await client.read_response()).status == 401
    await client.close()
    assert "token_elsewhere" in caplog.text
    assert token not in caplog.text
    assert jwt not in caplog.text


@pytest.mark.gen_test
async def test_a_token_used_elsewhere_is_no_replay_of_somebody_else(serve):
    server = start(serve, "path")
    token = await token_from(server, "/ws/token?path=/ws")
    assert (await ask(server, f"/other?token={token}")).status == 401
    with pytest.raises(TokenRejected, match="replayed"):
        await server.auth.redeem_token(token)
