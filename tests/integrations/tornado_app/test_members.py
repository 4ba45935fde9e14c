"""Members get in, and find the application as it was."""

from __future__ import annotations

import inspect
import json

import pytest
from tornado.web import Application

from tests.support import until


@pytest.mark.gen_test
async def test_a_member_logs_in_by_cookie_and_chats(visitor):
    alice, bob = await visitor().log_in("alice"), await visitor().log_in("bob")
    async with await alice.enter() as hers, await bob.enter() as his:
        assert await hers.receive() == "alice is here"
        assert await hers.receive() == await his.receive() == "bob is here"
        await his.send("good morning")
        assert await hers.receive() == await his.receive() == "bob says good morning"
        await his.close()
        assert await hers.receive() == "bob has left"


@pytest.mark.gen_test
async def test_rooms_stay_apart(visitor):
    alice, bob = await visitor().log_in("alice"), await visitor().log_in("bob")
    async with await alice.enter("lobby") as hers, await bob.enter("kitchen") as his:
        await his.send("it is warm here")
        await hers.send("and here")
        assert [await hers.receive() for _ in range(2)] == ["alice is here", "alice says and here"]


@pytest.mark.gen_test
async def test_the_handlers_own_subprotocol_and_compression_are_negotiated(visitor):
    alice = await visitor().log_in("alice")
    extension = {"Sec_WebSocket_Extensions": "permessage-deflate"}
    query = f"?token={await alice.get_token()}"
    client, response = await alice.knock(query, Sec_WebSocket_Protocol="chat.v1, chat.v2", **extension)
    assert response.status == 101
    assert response.headers["sec-websocket-protocol"] == "chat.v2"
    assert response.headers["sec-websocket-extensions"].startswith("permessage-deflate")
    await client.close()


@pytest.mark.gen_test
async def test_the_current_user_of_the_room_is_what_the_application_makes_of_the_claims(visitor, db):
    async with await (await visitor().log_in("alice")).enter():
        await until(lambda: bool(db.rooms["lobby"]))
        assert db.rooms["lobby"][0].current_user is db.members["alice"]


@pytest.mark.gen_test
async def test_the_prepare_of_the_base_handler_still_turns_everybody_away(visitor, db):
    alice = await visitor().log_in("alice")
    query = f"?token={await alice.get_token()}"
    db.in_maintenance = True
    client, response = await alice.knock(query)
    assert (response.status, response.json()) == (503, {"problem": "Back in an hour"})
    assert (await alice.post("/ws/token")).code == 503
    await client.close()


@pytest.mark.gen_test
async def test_errors_of_the_applications_own_routes_look_as_before(visitor):
    nobody = visitor()
    nobody.sends_xsrf = False
    answer = await nobody.post("/login", "name=alice&password=wrong")
    assert (answer.code, json.loads(answer.body)) == (403, {"problem": "Forbidden"})


def test_the_application_has_not_heard_of_the_library():
    import chatapp

    assert "wsauth" not in inspect.getsource(chatapp)


@pytest.mark.gen_test
async def test_no_route_is_left_that_leads_to_the_room_without_the_mixin(app: Application):
    from chatapp import Room

    from tornado_wsauth import WebSocketAuthMixin

    targets = [rule.target for rule in app.wildcard_router.rules]
    rooms = [target for target in targets if isinstance(target, type) and issubclass(target, Room)]
    assert len(rooms) == 1
    assert all(issubclass(room, WebSocketAuthMixin) for room in rooms)
