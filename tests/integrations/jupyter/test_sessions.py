"""Whose connection to a kernel it is, how long it lasts, and how it comes back."""

from __future__ import annotations

import uuid

import pytest
from jupyter_server.auth import Authorizer, User

from tests.integrations.jupyter.server import V1, channels, kind, make_jwt
from tests.integrations.jupyter.test_strangers import login_cookie
from tests.support import until
from tornado_wsauth.testing import AuthRefused, manual_clock
from tornado_wsauth.testing.client import RawClient, jwt_message


class Bouncer(Authorizer):
    """Lets everybody but Mallory do everything, and remembers who was asked about."""

    def is_authorized(self, handler, user, action, resource):
        self.asked.append((user, action, resource))
        return user.username not in self.banned


@pytest.fixture
def bouncer(server, monkeypatch):
    bouncer = Bouncer(parent=server.app)
    bouncer.asked, bouncer.banned = [], {"mallory"}
    monkeypatch.setitem(server.app.web_app.settings, "authorizer", bouncer)
    return bouncer


# Who -----------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_current_user_is_the_jwts_whoever_jupyters_cookie_names(server, notebook, kernel_id, bouncer):
    await notebook(kernel_id, "alice", headers={"Cookie": login_cookie(server, "owner")})
    await until(lambda: len(bouncer.asked) == 2)  # by load_auth_user(), and by Jupyter's pre_get()
    assert bouncer.asked == [(User("alice"), "execute", "kernels")] * 2
    (alice,) = server.auth.connections.for_user("alice")
    assert alice.current_user == User("alice")
    assert alice.logged_in


@pytest.mark.gen_test
async def test_a_user_whom_jupyters_authorizer_denies_is_turned_away_before_the_kernel_is_asked(
    server, notebook, kernel_id, bouncer
):
    before = server.traces(kernel_id)
    with pytest.raises(AuthRefused, match="4403 forbidden"):
        await notebook(kernel_id, "mallory")
    assert [asked[0].username for asked in bouncer.asked] == ["mallory"]
    assert server.traces(kernel_id) == before


@pytest.mark.gen_test
async def test_a_user_whom_jupyters_authorizer_denies_from_now_on_loses_the_kernel_at_the_next_renewal(
    notebook, kernel_id, bouncer
):
    alice = await notebook(kernel_id)
    assert await alice.run("1 + 1") == "2"
    bouncer.banned.add("alice")
    with pytest.raises(AuthRefused, match="4403 forbidden"):
        await alice.connection.refresh(make_jwt("alice"))


# How long ------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("protocol", [None, V1])
async def test_a_connection_ends_with_its_jwt_and_the_kernel_is_let_go(server, notebook, kernel_id, protocol):
    with manual_clock(server.auth) as clock:
        jwt = make_jwt(expires_in=60)
        alice = await notebook(kernel_id, jwt=jwt, subprotocols=[protocol] if protocol else None)
        await alice.execute("import time\nfor n in range(15):\n    print(n, flush=True); time.sleep(0.05)")
        while kind(await alice.receive()) != "stream":
            pass
        clock.advance(61)
        assert await alice.connection.wait_closed() == (4401, "jwt_expired")
    await until(lambda: server.traces(kernel_id)["counted"] == 0)


@pytest.mark.gen_test
@pytest.mark.parametrize("protocol", [None, V1])
async def test_a_renewed_connection_goes_on_with_its_kernel(server, notebook, kernel_id, protocol):
    with manual_clock(server.auth) as clock:
        jwt = make_jwt(expires_in=60)
        alice = await notebook(kernel_id, jwt=jwt, subprotocols=[protocol] if protocol else None)
        await alice.replies(await alice.execute("kept = 6"))
        await alice.connection.refresh(make_jwt(expires_in=600))
        clock.advance(120)
        assert await alice.run("kept * 7") == "42"


@pytest.mark.gen_test
async def test_a_user_who_is_logged_out_loses_the_kernel_and_others_do_not(server, notebook, kernel_id):
    alice, bob = [await notebook(kernel_id, user) for user in ("alice", "bob")]
    await server.auth.disconnect_user("alice")
    assert await alice.connection.wait_closed() == (4403, "revoked")
    assert await bob.run("1 + 1") == "2"
    await until(lambda: server.traces(kernel_id)["counted"] == 1)


# How it comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("user", ["alice", "bob"])
async def test_a_newer_connection_of_a_session_replaces_the_older_one(server, notebook, kernel_id, user):
    session_id = uuid.uuid4().hex
    older = await notebook(kernel_id, session_id=session_id)
    assert await older.run("1 + 1") == "2"
    newer = await notebook(kernel_id, user, session_id=session_id)
    assert await newer.run("2 + 2") == "4"
    await older.connection.wait_closed()
    await until(lambda: server.traces(kernel_id)["counted"] == 1)
    assert server.traces(kernel_id)["sessions"] == [f"{kernel_id}:{session_id}"]
    assert await newer.run("3 + 3") == "6"


@pytest.mark.gen_test
async def test_a_client_that_comes_back_gets_what_the_kernel_said_meanwhile(server, notebook, kernel_id):
    session_id = uuid.uuid4().hex
    first = await notebook(kernel_id, session_id=session_id)
    asked = await first.execute("import time; time.sleep(0.5); 6 * 7")
    while kind(await first.receive()) != "execute_input":
        pass
    await first.close()
    await until(lambda: server.traces(kernel_id)["counted"] == 0)
    second = await notebook(kernel_id, session_id=session_id)
    while True:
        message = await second.receive()
        if kind(message) == "execute_result" and message["parent_header"]["msg_id"] == asked:
            break
    assert message["content"]["data"]["text/plain"] == "42"


@pytest.mark.gen_test
@pytest.mark.parametrize("when", ["at once", "behind the JWT", "after auth_ok"])
async def test_a_client_that_leaves_while_its_kernel_starts_leaves_nothing_behind(server, when):
    kernel_id = await server.start_kernel()
    client = await RawClient.connect(server.port)
    response = await client.upgrade(f"{channels(kernel_id)}&token={await server.issue()}")
    assert response.status == 101
    if when != "at once":
        client.send_text(jwt_message(make_jwt()))
    if when == "after auth_ok":
        assert (await client.read_json())["type"] == "auth_ok"
    client.abort()
    await client.close()
    await until(lambda: not server.auth.pending and not len(server.auth.connections))
    await until(lambda: server.traces(kernel_id)["sessions"] == [])
    await until(lambda: server.traces(kernel_id)["counted"] == 0)
    await until(lambda: server.traces(kernel_id)["sockets"] == 0)
