"""Who is connected in all processes, and how many they are."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.fanout import Prompt, complaints, handler_of
from tests.processes import Stranger, backplane_of, everywhere, hub_of, processes
from tests.processes import to_the_end as to_the_end
from tests.support import nothing_is_left, settle, until
from tornado_wsauth import BackplaneError
from tornado_wsauth import cluster as cluster_module
from tornado_wsauth.backplane import envelope


@pytest.fixture
def soon(monkeypatch):
    """Let nobody be waited for longer than a moment."""
    monkeypatch.setattr(cluster_module, "ANSWER_WITHIN", 0.02)


async def asked_by(servers, group=None):
    """Return what each process answers; it is the same for all."""
    answers = [(await server.auth.count(group), await server.auth.presence(group)) for server in servers]
    assert answers == answers[:1] * len(servers)
    count, presence = answers[0]
    assert type(presence) is dict
    return count, presence


@pytest.mark.gen_test
async def test_every_process_counts_the_connections_of_all(serve, connect, login):
    servers = await processes(serve, 3)
    assert await asked_by(servers) == (0, {})
    await everywhere(login, servers)
    await login(servers[1])
    bob = await login(servers[2], "bob")
    await connect(servers[0], "carol")  # on the way, and not there yet
    assert await asked_by(servers) == (5, {"alice": 4, "bob": 1})
    bob.abort()
    await until(lambda: len(servers[2].auth.connections) == 1)
    assert await asked_by(servers) == (4, {"alice": 4})


@pytest.mark.gen_test
async def test_a_group_is_counted_in_all_processes(serve, login):
    servers = await processes(serve, 3)
    await everywhere(login, servers)
    await everywhere(login, servers[:2], "bob")
    for server, user in [(servers[0], "alice"), (servers[1], "alice"), (servers[1], "bob")]:
        handler_of(server, user).auth_session.join("red")
    assert await asked_by(servers, "red") == (3, {"alice": 2, "bob": 1})
    assert await asked_by(servers, "blue") == (0, {})
    handler_of(servers[1], "alice").auth_session.leave("red")
    assert await asked_by(servers, "red") == (2, {"alice": 1, "bob": 1})
    await servers[2].auth.disconnect_user("bob")
    await settle()
    assert await asked_by(servers, "red") == (1, {"alice": 1})
    assert await asked_by(servers) == (3, {"alice": 3})


@pytest.mark.gen_test
async def test_a_user_whose_id_is_odd_is_counted(serve, login):
    servers = await processes(serve)
    for user in ("żółw", '"', "kind"):
        await everywhere(login, servers, user)
    assert await asked_by(servers) == (6, {"żółw": 2, '"': 2, "kind": 2})


@pytest.mark.gen_test
async def test_many_may_ask_at_once(serve, login):
    servers = await processes(serve, 3)
    await everywhere(login, servers)
    await login(servers[0], "bob")
    handler_of(servers[0], "bob").auth_session.join("red")
    calls = [call for server in servers for call in (server.auth.count(), server.auth.count("red"))]
    assert await asyncio.gather(*calls) == [4, 1] * 3


@pytest.mark.gen_test
async def test_nobody_is_asked_where_nobody_else_is(serve, login):
    (server,) = await processes(serve, 1)
    await login(server)
    assert await asked_by([server]) == (1, {"alice": 1})
    assert backplane_of(server).published == []


@pytest.mark.gen_test
async def test_a_process_that_does_not_answer_is_left_out(serve, login, soon):
    servers = await processes(serve)
    await everywhere(login, servers)
    stranger = await Stranger(hub_of(servers[0])).start()
    assert await asked_by(servers) == (2, {"alice": 2})
    assert {message["kind"] for message in stranger.received} == {"ask"}


@pytest.mark.gen_test
async def test_a_process_that_did_not_answer_is_waited_for_once_until_it_does(serve, login, soon, monkeypatch):
    """One that was killed counts as alive for seconds: whoever asks at each tick must not be late at each."""
    servers = await processes(serve)
    await everywhere(login, servers)
    stranger = await Stranger(hub_of(servers[0])).start()
    assert await servers[0].auth.count() == 2
    monkeypatch.setattr(cluster_module, "ANSWER_WITHIN", 60)
    for _ in range(3):
        assert await asyncio.wait_for(servers[0].auth.count(), 5) == 2
    late = {"kind": "answer", "process": stranger.backplane.process_id, "answer": 1, "number": 0}
    await stranger.send(late, f"process:{backplane_of(servers[0]).process_id}")
    asking = asyncio.ensure_future(servers[0].auth.count())
    await settle()
    assert not asking.done()
    asking.cancel()


@pytest.mark.gen_test
async def test_a_process_that_has_left_is_not_waited_for(serve, login):
    servers = await processes(serve)
    await everywhere(login, servers)
    await servers[1].auth.close(grace=0)
    await nothing_is_left(servers[1])
    # ANSWER_WITHIN is as it is: a wait for it would be seen in the time that the test takes.
    assert await asyncio.wait_for(asked_by(servers[:1]), 0.5) == (1, {"alice": 1})


@pytest.mark.gen_test
async def test_answers_that_are_late_twice_or_to_no_question_change_nothing(serve, login, caplog, soon):
    servers = await processes(serve)
    await everywhere(login, servers)
    stranger = await Stranger(hub_of(servers[0])).start()
    channel = f"process:{backplane_of(servers[0]).process_id}"
    here = stranger.backplane.process_id
    answer = {"kind": "answer", "process": here, "answer": 100}
    assert await servers[0].auth.count() == 2
    number = stranger.received[-1]["number"]
    for late in (number, number, number + 1000, -1):
        await stranger.send({**answer, "number": late}, channel)
    assert await servers[0].auth.count() == 2

    await stranger.send({**answer, "number": number + 1}, channel)  # now it is waited for again
    asking = asyncio.ensure_future(servers[0].auth.count())
    await until(lambda: stranger.received[-1]["number"] == number + 2)
    for _ in range(3):
        await stranger.send({**answer, "number": number + 2}, channel)
    assert await asking == 102, "counted once, however often it was said"
    assert complaints(caplog) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("answer", [None, "5", 1.5, ["alice"], {"alice": "many"}, {"alice": None}, True, -3])
async def test_an_answer_that_makes_no_sense_counts_for_nothing(serve, login, soon, answer):
    # A37
    servers = await processes(serve)
    await everywhere(login, servers)
    stranger = await Stranger(hub_of(servers[0])).start()
    channel = f"process:{backplane_of(servers[0]).process_id}"

    async def ask(what):
        asking = asyncio.ensure_future(getattr(servers[0].auth, what)())
        before = len(stranger.received)
        await until(lambda: len(stranger.received) > before)
        number = stranger.received[-1]["number"]
        message = {"kind": "answer", "process": stranger.backplane.process_id, "answer": answer, "number": number}
        await stranger.send(message, channel)
        return await asking

    assert await ask("count") == 2
    assert await ask("presence") == {"alice": 2}


@pytest.mark.gen_test
@pytest.mark.parametrize("fails", ["peers", "publish"])
@pytest.mark.parametrize("what", ["count", "presence"])
async def test_when_nobody_can_be_asked_that_is_an_error_and_no_number(serve, login, fails, what):
    servers = await processes(serve)
    await everywhere(login, servers)
    backplane_of(servers[0]).failing = {fails}
    with pytest.raises(BackplaneError, match=f"no answer to {fails}"):
        await getattr(servers[0].auth, what)()
    backplane_of(servers[0]).failing = set()
    assert (await asked_by(servers))[0] == 2


@pytest.mark.gen_test
async def test_a_process_that_cannot_answer_is_left_out_without_a_word(serve, login, caplog, soon):
    servers = await processes(serve)
    await everywhere(login, servers)
    backplane_of(servers[1]).failing = {"publish"}
    assert await servers[0].auth.count() == 1
    assert complaints(caplog) == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "ask",
    [
        {},
        {"what": None, "group": None},
        {"what": "count", "group": 7},
        {"what": "count"},
        {"what": "count", "group": None},
        {"what": "count", "group": None, "number": 1},
        {"what": "count", "group": None, "number": {"a": []}, "process": ["b"]},
        {"what": "passwords", "group": None, "number": 1, "process": "nobody"},
    ],
    ids=str,
)
async def test_a_question_that_makes_no_sense_is_nobodys_problem(serve, login, caplog, ask):
    # A37
    servers = await processes(serve, handler=Prompt)
    await everywhere(login, servers)
    stranger = await Stranger(hub_of(servers[0])).start()
    await stranger.send({"kind": "ask", **ask})
    await stranger.backplane.close()
    assert [record for record in caplog.records if record.exc_info] == []
    assert await asked_by(servers) == (2, {"alice": 2})


@pytest.mark.gen_test
async def test_a_question_whose_number_is_none_is_nobodys_problem(serve, login, caplog):
    # A37
    servers = await processes(serve)
    question = '{"kind":"ask","what":"count","group":null,"number":NaN,"process":"x"}'
    text = f'{{"v":1,"from":"x","seq":1,"messages":[["everyone",{question}]]}}'
    backplane_of(servers[0])._take(text)
    await settle()
    gc.collect()
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
async def test_users_that_are_too_many_for_one_message_are_left_out_and_that_is_logged(
    serve, login, caplog, soon, monkeypatch
):
    servers = await processes(serve)
    await login(servers[1], "a" * 1000)
    monkeypatch.setattr(envelope, "MOST_BYTES", 500)
    assert await servers[0].auth.presence() == {}
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert len(complaints(caplog)) == 1
