"""Which pages may connect."""

from __future__ import annotations

import pytest
from tornado.websocket import WebSocketHandler

from tests.handshakes import ORIGIN, ask
from tests.support import (
    Echo,
    RawClient,
    make_auth,
    upgrade_request,
)

NEAR_MISSES = [
    "https://app.example.evil.test",
    "https://app.exampl",
    "https://evil-app.example",
    "https://sub.app.example",
    "http://app.example",
    "wss://app.example",
    "https://app.example:443",
    "https://app.example:8443",
    "https://APP.example",
    "HTTPS://app.example",
    "https://app.example/",
    "https://app.example.",
    "https://app.example\\.evil.test",
    "https://app.example@evil.test",
    "https://evil.test#https://app.example",
    "https://app.example https://evil.test",
    "https://app.example, https://evil.test",
    "app.example",
    "null",
    "None",
    "*",
    "",
]


@pytest.mark.gen_test
async def test_an_origin_that_is_nearly_an_allowed_one_is_refused(serve):
    # A9
    server = serve(auth=make_auth(allowed_origins=[ORIGIN]))
    token = await server.auth.issue_token("alice")
    for origin in NEAR_MISSES:
        answer = await ask(server, f"/ws?token={token}", Origin=origin)
        assert answer.status == 403, origin
        assert set(answer.json()) == {"error"}
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


@pytest.mark.gen_test
async def test_two_origin_headers_are_not_an_allowed_one(serve):
    # A9
    server = serve(auth=make_auth(allowed_origins=[ORIGIN]))
    token = await server.auth.issue_token("alice")
    for origins in ([ORIGIN, "https://evil.test"], ["https://evil.test", ORIGIN]):
        client = await RawClient.connect(server.port)
        request = upgrade_request(f"/ws?token={token}")
        extra = "".join(f"Origin: {origin}\r\n" for origin in origins).encode()
        client.send(request.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n"))
        assert (await client.read_response()).status in (400, 403)
        await client.close()
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("fetch_site", [None, "cross-site", "same-site", "same-origin"])
async def test_an_allowed_origin_really_upgrades_whatever_tornado_would_say(serve, login, fetch_site):
    # A9
    class Chat(Echo):
        def check_origin(self, origin):
            return False

    server = serve(Chat, auth=make_auth(allowed_origins=[ORIGIN, "http://localhost:5173"]))
    for origin in (ORIGIN, "http://localhost:5173"):
        client = await login(server, Origin=origin, Sec_Fetch_Site=fetch_site)
        client.send_text("hello")
        assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
@pytest.mark.parametrize("fetch_site", ["same-origin", "none", "same-site", "cross-site"])
async def test_sec_fetch_site_opens_no_way_around_allowed_origins(serve, fetch_site):
    # A9: Tornado 6.6 believes it and skips its own check
    server = serve(auth=make_auth(allowed_origins=[ORIGIN]))
    token = await server.auth.issue_token("alice")
    for origin in ("https://evil.example", server.url, None):
        answer = await ask(server, f"/ws?token={token}", Origin=origin, Sec_Fetch_Site=fetch_site)
        assert answer.status == 403, origin
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


@pytest.mark.gen_test
async def test_a_client_without_an_origin_needs_none_among_allowed_origins(serve):
    # A9
    for allowed, status in (([ORIGIN], 403), ([], 403), ([ORIGIN, None], 101), ([None], 101)):
        server = serve(auth=make_auth(allowed_origins=allowed))
        token = await server.auth.issue_token("alice")
        assert (await ask(server, f"/ws?token={token}")).status == status, allowed


@pytest.mark.gen_test
async def test_the_origin_header_of_old_drafts_does_not_slip_through(serve):
    # A9: Tornado reads Sec-WebSocket-Origin where there is no Origin
    for allowed in ([ORIGIN], [ORIGIN, None]):
        server = serve(auth=make_auth(allowed_origins=allowed))
        token = await server.auth.issue_token("alice")
        answer = await ask(server, f"/ws?token={token}", Sec_WebSocket_Origin="https://evil.example")
        assert answer.status in (403, 101)
        if answer.status == 403:
            assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101
        else:
            assert None in allowed


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", [None, "same", "https://evil.example", "null", ""])
async def test_without_allowed_origins_the_decision_is_bare_tornados(serve, origin):
    # A9: and where it is a refusal, the token still works
    class Bare(WebSocketHandler):
        def open(self):
            pass

    server = serve(routes=[("/bare", Bare)])
    for fetch_site in (None, "same-origin", "none", "same-site", "cross-site"):
        token = await server.auth.issue_token("alice")
        headers = {"Origin": f"http://127.0.0.1:{server.port}" if origin == "same" else origin}
        headers |= {"Sec_Fetch_Site": fetch_site, "Host": f"127.0.0.1:{server.port}"}
        expected = (await ask(server, "/bare", **headers)).status
        assert (await ask(server, f"/ws?token={token}", **headers)).status == expected, fetch_site
        if expected != 101:
            assert (await ask(server, f"/ws?token={token}")).status == 101, fetch_site


@pytest.mark.gen_test
async def test_without_allowed_origins_a_handlers_own_check_origin_decides(serve):
    # A9
    class Chat(Echo):
        def check_origin(self, origin):
            return origin == "https://partner.example"

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}", Origin="https://evil.example")).status == 403
    assert (await ask(server, f"/ws?token={token}", Origin="https://partner.example")).status == 101


@pytest.mark.gen_test
async def test_a_check_origin_that_raises_leaves_the_token_as_it_was(serve):
    # A9
    class Chat(Echo):
        fails = True

        def check_origin(self, origin):
            if self.fails:
                raise RuntimeError("the list of partners is not there")
            return True

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 500
    assert len(server.auth.pending) == 0
    Chat.fails = False
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101
