"""An application in several processes: what is sent in one reaches the clients of all."""

from __future__ import annotations

import json

import pytest

from tests.fanout import Narrow, clog, handler_of, queued, read_blocks, resume, texts_until
from tests.first_messages import HangingVerifier, held_jwt
from tests.processes import SpyBackplane, Stranger, backplane_of, everywhere, heard_by, hub_of, log_in_slow, processes
from tests.processes import to_the_end as to_the_end
from tests.support import BINARY, TEXT, jwt_message, make_auth, make_jwt, nothing_is_left, settle, until
from tornado_wsauth import FanOut, WSAuth
from tornado_wsauth.backplane.base import group_channel, user_channel
from tornado_wsauth.backplane.memory import Hub

ODD = ["", " ", "*", 'a"b\\c', "żółw 🐢", "group:red", "everyone", "a\nb\x00", "\ud800", "x" * 5000]


# --- who gets it -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_broadcast_reaches_the_clients_of_every_process_exactly_once(serve, login):
    servers = await processes(serve, 3)
    clients = [*await everywhere(login, servers), *await everywhere(login, servers, "bob")]
    assert [await server.auth.broadcast(f"from {n}") for n, server in enumerate(servers)] == [FanOut(2, 0, 0)] * 3
    for texts in await heard_by(servers, clients):
        assert sorted(texts) == ["from 0", "from 1", "from 2"]


@pytest.mark.gen_test
async def test_what_one_process_sends_arrives_in_the_order_in_which_it_was_sent(serve, login):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    for client_server in servers:
        handler_of(client_server, "alice").auth_session.join("red")
    for number in range(0, 30, 3):
        await servers[0].auth.broadcast(str(number))
        await servers[0].auth.send_to_user("alice", str(number + 1))
        await servers[0].auth.broadcast(str(number + 2), group="red")
    assert await heard_by(servers, clients) == [[str(number) for number in range(30)]] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize("group", ["red", *ODD])
async def test_a_group_is_one_group_in_all_processes_whatever_its_name(serve, login, group):
    servers = await processes(serve)
    alices, bobs = await everywhere(login, servers), await everywhere(login, servers, "bob")
    for server in servers:
        handler_of(server, "alice").auth_session.join(group)
        handler_of(server, "bob").auth_session.join(group + "'")
    assert await servers[0].auth.broadcast("news", group=group) == FanOut(1, 0, 0)
    assert await heard_by(servers, [*alices, *bobs]) == [["news"], ["news"], [], []]


@pytest.mark.gen_test
@pytest.mark.parametrize("user", ["alice", *(name for name in ODD if name not in ("", "\ud800"))])
async def test_a_user_is_one_user_in_all_processes_whatever_the_id(serve, login, user):
    servers = await processes(serve, 3)
    clients = [*await everywhere(login, servers[1:], user), await login(servers[1], user)]
    others = await everywhere(login, servers, user + "'")
    assert await servers[0].auth.send_to_user(user, "psst") == FanOut(0, 0, 0), "counts are of this process"
    assert await servers[1].auth.send_to_user(user, "hey") == FanOut(2, 0, 0)
    texts = await heard_by(servers, [*clients, *others])
    assert [sorted(received) for received in texts] == [["hey", "psst"]] * 3 + [[]] * 3


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", ["7", b"7", 7])
async def test_a_user_may_be_named_in_any_form_that_a_token_may_be_issued_for(serve, login, user_id):
    servers = await processes(serve)
    clients = await everywhere(login, servers, "7")
    assert await servers[0].auth.send_to_user(user_id, "psst") == FanOut(1, 0, 0)
    assert await heard_by(servers, clients) == [["psst"]] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("message", "binary", "expected"),
    [
        ("żółw", False, (TEXT, "żółw".encode())),
        ("żółw", True, (BINARY, "żółw".encode())),
        ("żółw".encode(), False, (TEXT, "żółw".encode())),
        (b"\x00\xff\xfe", True, (BINARY, b"\x00\xff\xfe")),
        ("", False, (TEXT, b"")),
        (b"", True, (BINARY, b"")),
        ({"a": [1, None, "ż"], "</": 0}, True, None),
        ({"a": [1, None, "ż"], "</": 0}, False, None),
    ],
    ids=lambda value: str(value)[:12],
)
@pytest.mark.parametrize("to", ["all", "group", "user"])
async def test_a_message_is_the_same_in_every_process(serve, login, to, message, binary, expected):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    for server in servers:
        handler_of(server, "alice").auth_session.join("red")
    if to == "user":
        await servers[0].auth.send_to_user("alice", message, binary=binary)
    else:
        await servers[0].auth.broadcast(message, group="red" if to == "group" else None, binary=binary)
    here, there = [await client.read_frame() for client in clients]
    assert here == there
    if expected is None:
        assert (here[0], json.loads(here[1])) == (BINARY if binary else TEXT, message)
    else:
        assert here == expected


@pytest.mark.gen_test
@pytest.mark.parametrize("to", ["all", "user"])
async def test_who_is_not_authenticated_gets_nothing_from_any_process(serve, connect, login, to):
    # A12, A31
    verifier = HangingVerifier()
    auths = [WSAuth(verifier, backplane=SpyBackplane(hub)) for hub in [Hub()] * 2]
    servers = [serve(auth=auth) for auth in auths]
    for auth in auths:
        await auth.start()
    (waiting, _), (checking, _) = [await connect(servers[1], "alice") for _ in range(2)]
    inside = await login(servers[1], "alice")
    checking.send_text(jwt_message(held_jwt(verifier)))
    await verifier.entered.wait()
    for number in range(100):
        if to == "all":
            await auths[0].broadcast(f"secret {number}")
        else:
            await auths[0].send_to_user("alice", f"secret {number}")
    await settle()
    verifier.release.set()
    waiting.send_text(jwt_message(make_jwt("alice")))
    for client in (waiting, checking):
        assert (await client.read_json())["type"] == "auth_ok"
    assert await heard_by(servers, [waiting, checking, inside]) == [[], [], [f"secret {n}" for n in range(100)]]


@pytest.mark.gen_test
async def test_who_was_closed_gets_nothing_from_any_process(serve, login):
    # A31
    servers = await processes(serve)
    alice, bob = await login(servers[1]), await login(servers[1], "bob")
    await servers[0].auth.broadcast("before")
    await settle()
    await servers[1].auth.disconnect_user("alice")
    await servers[0].auth.broadcast("after")
    await settle()
    assert await texts_until(bob, "after") == ["before", "after"]
    assert await alice.read_frame() == (TEXT, b"before")
    assert await alice.read_close() == (4403, "revoked")


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["close", "drop", "latest"])
@pytest.mark.parametrize("to", ["all", "group", "user"])
async def test_what_becomes_of_a_slow_reader_is_the_same_in_every_process(serve, login, slow, to):
    # A32
    servers = await processes(serve, handler=Narrow, max_buffer_bytes=300_000)
    client = await log_in_slow(login, servers[1])
    handler = handler_of(servers[1], "slow")
    handler.auth_session.join("red")
    number = await clog(servers[1])

    async def send(text):
        if to == "user":
            await servers[0].auth.send_to_user("slow", text, slow=slow)
        else:
            await servers[0].auth.broadcast(text, group="red" if to == "group" else None, slow=slow)
        await settle()

    for text in ("old", "new"):
        await send(text)
    assert len(servers[1].auth.connections) == (0 if slow == "close" else 1)
    resume(client)
    if slow == "close":
        await nothing_is_left(servers[1])
        return
    await read_blocks(client, number)
    await until(lambda: queued(handler) == 0)
    await send("end")
    assert await texts_until(client, "end") == (["new", "end"] if slow == "latest" else ["end"])


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("message", "options"),
    [
        (None, {}),
        (7, {}),
        (["a"], {}),
        (b"\xff", {}),
        ("\ud800", {}),
        ({"a": object()}, {}),
        ("fine", {"slow": "later"}),
        ("fine", {"slow": None}),
        ("x" * (8 * 2**20), {}),
        ("\0" * (2 * 2**20), {}),  # six bytes each, as JSON
        (b"x" * (7 * 2**20), {"binary": True}),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_what_cannot_be_sent_is_sent_nowhere(serve, login, message, options):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    with pytest.raises((TypeError, ValueError)):
        await servers[0].auth.broadcast(message, **options)
    with pytest.raises((TypeError, ValueError)):
        await servers[0].auth.send_to_user("alice", message, **options)
    assert await heard_by(servers, clients) == [[], []]
    assert backplane_of(servers[0]).published == []


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", [None, True, "", b"\xff", "\ud800", 1.5])
async def test_what_is_no_user_id_is_sent_nothing(serve, login, user_id):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    with pytest.raises(ValueError, match="user id"):
        await servers[0].auth.send_to_user(user_id, "psst")
    assert await heard_by(servers, clients) == [[], []]


# --- what is listened to ---------------------------------------------------------------------------------------------


def heard(server):
    """Return what the process began and ceased to listen to; its own channel, which comes first, left out."""
    (own, *others) = backplane_of(server).heard
    assert own == f"+process:{backplane_of(server).process_id}"
    return others


@pytest.mark.gen_test
async def test_a_process_listens_to_a_user_from_the_first_connection_to_the_last(serve, login):
    (server,) = await processes(serve, 1)
    channel = user_channel("alice")
    clients = [await login(server) for _ in range(2)]
    assert heard(server) == [f"+{channel}"]
    clients[0].abort()
    await until(lambda: len(server.auth.connections) == 1)
    assert heard(server) == [f"+{channel}"]
    clients[1].abort()
    await nothing_is_left(server)
    assert heard(server) == [f"+{channel}", f"-{channel}"]
    await login(server)
    assert heard(server) == [f"+{channel}", f"-{channel}", f"+{channel}"]


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["leaves", "says goodbye", "is disconnected"])
async def test_a_process_listens_to_a_group_from_the_first_member_to_the_last(serve, login, how):
    (server,) = await processes(serve, 1)
    channel = group_channel("red")
    clients = {user: await login(server, user) for user in ("alice", "bob")}
    sessions = [handler_of(server, user).auth_session for user in clients]
    before = len(heard(server))
    for session in sessions * 2:
        session.join("red")
    assert heard(server)[before:] == [f"+{channel}"]
    for user, session in zip(clients, sessions, strict=True):
        assert f"-{channel}" not in heard(server)
        if how == "leaves":
            session.leave("red")
            session.leave("red")
        elif how == "says goodbye":
            clients[user].abort()
            await until(lambda user=user: not server.auth.connections.for_user(user))
        else:
            await server.auth.disconnect_user(user)
    assert [entry for entry in heard(server)[before:] if entry.endswith(channel)] == [f"+{channel}", f"-{channel}"]


@pytest.mark.gen_test
async def test_what_is_for_one_user_or_group_does_not_go_to_all(serve, login):
    servers = await processes(serve)
    stranger = await Stranger(hub_of(servers[0])).start()
    await login(servers[1])
    await servers[0].auth.send_to_user("alice", "psst")
    await servers[0].auth.broadcast("news", group="red")
    await settle()
    assert stranger.received == []
    stranger.backplane.listen(user_channel("alice"))
    await servers[0].auth.send_to_user("alice", "psst")
    await settle()
    assert [message["text"] for message in stranger.received] == ["psst"]


# --- without others --------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_a_backplane_all_processes_are_this_one(serve, login):
    server = serve(auth=make_auth())
    client = await login(server)
    assert await server.auth.broadcast({"n": 1}) == FanOut(1, 0, 0)
    assert await server.auth.send_to_user("alice", b"two", binary=True) == FanOut(1, 0, 0)
    assert [await client.read_frame() for _ in range(2)] == [(TEXT, b'{"n": 1}'), (BINARY, b"two")]
    assert (await server.auth.count(), await server.auth.presence()) == (1, {"alice": 1})
    assert await server.auth.disconnect_session("unknown") == 0
