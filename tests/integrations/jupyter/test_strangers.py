"""A stranger gets nothing from a kernel, and a kernel notices nothing of a stranger."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from tornado.web import create_signed_value

from tests.integrations.jupyter.page import JUPYTER_TOKEN
from tests.integrations.jupyter.server import (
    AS_JUPYTER,
    PATIENCE,
    JupyterServer,
    channels,
    execute_request,
    make_jwt,
)
from tests.support import until
from tornado_wsauth.testing import AuthRefused, manual_clock
from tornado_wsauth.testing.client import CLOSE, RawClient, frame, jwt_message

EXECUTE = json.dumps(execute_request("open('was-here', 'w')"))


@pytest.fixture(scope="module")
def fresh_kernel(io_loop, server) -> str:
    """A kernel that is ready, and whose socket nobody has opened yet."""

    async def start() -> str:
        kernel_id = await server.start_kernel()
        client = server.app.kernel_manager.get_kernel(kernel_id).client()  # past the server, by ZeroMQ
        client.start_channels()
        await client.wait_for_ready(timeout=PATIENCE)
        client.stop_channels()
        while (await server.kernel(kernel_id))["execution_state"] != "idle":
            await asyncio.sleep(0.01)
        return kernel_id

    return io_loop.run_sync(start)


class Unmoved:
    """What Jupyter knows of a kernel is the same after a ``with`` block as before it."""

    def __init__(self, server: JupyterServer, kernel_id: str) -> None:
        self.server, self.kernel_id = server, kernel_id

    async def __aenter__(self) -> None:
        self.before = await self.look()

    async def __aexit__(self, *exc_info: object) -> None:
        assert await self.look() == self.before

    async def look(self) -> tuple[object, object]:
        return await self.server.kernel(self.kernel_id), self.server.traces(self.kernel_id)


def login_cookie(server: JupyterServer, user: str = "owner") -> str:
    """Return the cookie that Jupyter's login page gives to ``user``."""
    member = dict.fromkeys(("username", "name", "display_name", "initials", "avatar_url", "color"), user)
    name = f"username-127-0-0-1-{server.port}"
    value = create_signed_value(server.app.web_app.settings["cookie_secret"], name, json.dumps(member))
    return f"{name}={value.decode()}"


async def upgrade(server: JupyterServer, path: str, **headers: str | None) -> int:
    client = await RawClient.connect(server.port)
    try:
        return (await client.upgrade(path, **headers)).status
    finally:
        await client.close()


@pytest.mark.gen_test
async def test_jupyters_own_credentials_are_good_for_jupyters_other_routes(server):
    # Or the refusals below would say nothing.
    assert (await server.fetch("/api/kernels", headers=AS_JUPYTER)).code == 200
    assert (await server.fetch(f"/api/kernels?token={JUPYTER_TOKEN}")).code == 200
    cookie = {"Cookie": login_cookie(server), "Referer": f"http://127.0.0.1:{server.port}/"}
    assert (await server.fetch("/api/kernels", headers=cookie)).code == 200
    assert (await server.fetch("/api/kernels")).code == 403


@pytest.mark.gen_test
@pytest.mark.parametrize("bearer", ["nothing", "cookie", "token", "bearer", "argument", "everything", "jwt"])
async def test_a_client_without_a_connection_token_is_refused_and_the_kernel_notices_nothing(
    server, fresh_kernel, bearer
):
    path, headers = channels(fresh_kernel), {}
    if bearer in ("cookie", "everything"):
        headers["Cookie"] = login_cookie(server)
    if bearer in ("token", "everything"):
        headers["Authorization"] = f"token {JUPYTER_TOKEN}"
    if bearer == "bearer":
        headers["Authorization"] = f"Bearer {JUPYTER_TOKEN}"
    if bearer == "jwt":
        headers["Authorization"] = f"Bearer {make_jwt()}"
    if bearer in ("argument", "everything"):
        path += f"&token={JUPYTER_TOKEN}"
    async with Unmoved(server, fresh_kernel):
        assert await upgrade(server, path, **headers) == 401


@pytest.mark.gen_test
async def test_nothing_of_jupyters_handler_runs_without_a_connection_token(server, fresh_kernel, monkeypatch):
    import kernel_auth
    from jupyter_server.base.handlers import JupyterHandler
    from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

    called = []
    for owner, name in [
        (JupyterHandler, "prepare"),
        (KernelWebsocketHandler, "pre_get"),
        (kernel_auth.AuthenticatedKernelWebsocket, "get"),
        (kernel_auth.AuthenticatedKernelWebsocket, "select_subprotocol"),
    ]:
        monkeypatch.setattr(owner, name, lambda *args, name=name, **kwargs: called.append(name))
    assert await upgrade(server, channels(fresh_kernel)) == 401
    assert called == []


FIRST_MESSAGES = {
    "a kernel message": [frame(EXECUTE.encode())],
    "a bad JWT, then a kernel message": [
        frame(jwt_message(make_jwt(secret="k" * 40)).encode()),
        frame(EXECUTE.encode()),
    ],
    "another user's JWT": [frame(jwt_message(make_jwt("bob")).encode()), frame(EXECUTE.encode())],
    "a JWT for another service": [frame(jwt_message(make_jwt(aud="mail")).encode()), frame(EXECUTE.encode())],
    "an expired JWT": [frame(jwt_message(make_jwt(expires_in=-60)).encode()), frame(EXECUTE.encode())],
    "Jupyter's token": [frame(jwt_message(JUPYTER_TOKEN).encode()), frame(EXECUTE.encode())],
    "silence": [],
}


@pytest.mark.gen_test
@pytest.mark.parametrize("sent", FIRST_MESSAGES.values(), ids=FIRST_MESSAGES)
async def test_a_client_with_a_token_and_no_good_jwt_hears_nothing_and_the_kernel_notices_nothing(
    server, fresh_kernel, sent, at_home
):
    async with Unmoved(server, fresh_kernel):
        with manual_clock(server.auth) as clock:
            token = await server.auth.issue_token("alice")
            client = await RawClient.connect(server.port)
            path = f"{channels(fresh_kernel)}&token={token}"
            assert (await client.upgrade(path, Cookie=login_cookie(server), **AS_JUPYTER)).status == 101
            client.send(b"".join(sent))
            if not sent:
                await until(lambda: len(server.auth.pending) == 1)
                clock.advance(10)
            opcode, payload = await client.read_frame()
            assert (opcode, payload[:1]) == (CLOSE, b"\x11")  # 44.., and no data before it
            await client.close()
        await until(lambda: not server.auth.pending)
    assert not (at_home / "was-here").exists()


@pytest.mark.gen_test
async def test_a_client_with_a_token_alone_hears_nothing_of_what_others_execute(server, notebook, kernel_id):
    stranger = await RawClient.connect(server.port)
    await stranger.upgrade(f"{channels(kernel_id)}&token={await server.issue('mallory')}")
    alice = await notebook(kernel_id)
    assert await alice.run("print('secret'); 1 + 1") == "2"
    stranger.send(frame(b"\x03\xe8", CLOSE))
    assert await stranger.read_close() == (1000, "")  # and no data before it
    await stranger.close()


@pytest.mark.gen_test
async def test_a_client_with_a_token_alone_cannot_end_another_session(server, notebook, kernel_id):
    session_id = uuid.uuid4().hex
    alice = await notebook(kernel_id, session_id=session_id)
    stranger = await RawClient.connect(server.port)
    response = await stranger.upgrade(f"{channels(kernel_id, session_id)}&token={await server.issue('mallory')}")
    assert response.status == 101
    assert await alice.run("1 + 1") == "2"
    await stranger.close()
    await until(lambda: not server.auth.pending)
    assert await alice.run("2 + 2") == "4"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:{port}", "null"], ids=["foreign", "Jupyter's", "none"]
)
async def test_a_page_of_an_origin_that_is_not_named_is_refused_and_keeps_its_token(server, fresh_kernel, origin):
    token = await server.issue()
    path = f"{channels(fresh_kernel)}&token={token}"
    assert await upgrade(server, path, Origin=origin.format(port=server.port)) == 403
    assert await upgrade(server, path, Origin="https://app.example") == 101


@pytest.mark.gen_test
async def test_a_host_that_jupyter_does_not_answer_to_is_refused_by_jupyter(server, fresh_kernel):
    path = f"{channels(fresh_kernel)}&token={await server.issue()}"
    async with Unmoved(server, fresh_kernel):
        assert await upgrade(server, path, Host="rebound.example") == 403


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "spelling",
    [
        "/api/kernels/{id}/channels/",
        "//api/kernels/{id}/channels",
        "/api//kernels/{id}/channels",
        "/api/kernels/{id}/./channels",
        "/api/kernels/{id}/channels%0a",
        "/api/kernels/{id}%0a/channels",
        "/api/kernels/{id}/%63hannels",
        "/api/kernels/{ID}/channels",
        "http://127.0.0.1/api/kernels/{id}/channels",
    ],
)
async def test_no_other_spelling_of_the_address_reaches_jupyters_own_handler(server, fresh_kernel, spelling):
    path = spelling.format(id=fresh_kernel, ID=fresh_kernel.upper())
    async with Unmoved(server, fresh_kernel):
        assert await upgrade(server, f"{path}?token={JUPYTER_TOKEN}", **AS_JUPYTER) != 101


@pytest.mark.gen_test
async def test_a_kernel_whose_id_its_back_end_made_up_is_behind_both_steps_too(server, notebook):
    kernel_id = "The-1st_kernel-of-Zoe-4"
    assert await server.start_kernel(kernel_id=kernel_id) == kernel_id
    path = f"/api/kernels/{kernel_id}/channels?token={JUPYTER_TOKEN}"
    assert await upgrade(server, path, **AS_JUPYTER) == 401
    alice = await notebook(kernel_id)
    assert await alice.run("1 + 1") == "2"


@pytest.mark.gen_test
async def test_a_kernel_that_is_not_there_is_4403_to_users_and_401_to_strangers(server, notebook):
    missing = str(uuid.uuid4())
    assert await upgrade(server, channels(missing), **AS_JUPYTER) == 401
    with pytest.raises(AuthRefused, match="4403 forbidden"):
        await notebook(missing)


@pytest.mark.gen_test
@pytest.mark.parametrize("scheme", ["token", "Bearer"])
@pytest.mark.parametrize("credentials", [JUPYTER_TOKEN, make_jwt(secret="k" * 40), make_jwt(aud="mail")])
@pytest.mark.parametrize("xsrf", [False, True])
async def test_the_token_route_knows_nobody_but_the_bearer_of_a_jwt(server, scheme, credentials, xsrf):
    headers = {"Authorization": f"{scheme} {credentials}", "Cookie": login_cookie(server)}
    if xsrf:
        headers = {**headers, "Cookie": f"{headers['Cookie']}; _xsrf=x", "X-XSRFToken": "x"}
    answer = await server.fetch("/ws/token", method="POST", body="", headers=headers)
    assert answer.code == (401 if xsrf or scheme == "Bearer" else 403), answer.body
    assert b'"token"' not in answer.body
