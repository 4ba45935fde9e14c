"""No JWT and no token in a log line, a repr or an exception."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest

from tests.client.kit import Answering, Client, Obedient, QuickPauses, Scripted
from tests.jwt_factory import everything_in
from tests.support import Echo, settle, until
from tornado_wsauth.client import Stopped

JWT, TOKEN = "canary-of-a-jwt.a.b", "canary-of-a-token"


class Other(Scripted):
    pass


class Route(Answering):
    pass


def shown_by(one: Client) -> str:
    """Return all that can be printed of a client and its closes."""
    parts = [repr(one.connection), str(one.connection), repr(one.closes), repr(one.connection._options)]
    parts += [repr(one.connection._credentials), repr(one.connection._exchange), repr(one.connection._renewal)]
    for close in one.closes:
        parts += [close.words, close.reason, everything_in(close.error)]
    return "\n".join(parts)


@pytest.fixture
def scene(serve, client, caplog):
    """Run one attempt against what ``script`` or the routes do; return everything that was shown or logged."""
    caplog.set_level(logging.DEBUG)
    Other.script, Other.heard, Other.arguments, Other.live = [], [], [], []
    Route.asked, Route.release = [], asyncio.Event()

    async def run(path: str = "/other", **options: Any) -> str:
        asyncio.get_running_loop().set_debug(True)
        server = serve(Echo, routes=[(r"/other", Other), (r"/route", Route)])
        if options.pop("with_token_url", False):
            options["token_url"] = f"{server.url}/route"
        else:
            tokens = iter(range(100))
            options.setdefault("get_token", lambda jwt: f"{TOKEN}-{next(tokens)}")
        one = client(
            server, path, **{"jwt": lambda: JWT, "retries": 1, "timeout": 0.05, "_seams": QuickPauses(), **options}
        )
        shown = ""
        try:
            await one.connection
            for number in (1, 2):
                await one.connection.renew()
                Other.live[-1].close(1012)
                await until(lambda number=number: one.steps.count("ready") == number + 1 or one.closes[number:] != [])
        except Stopped as stopped:
            shown = "".join(traceback.format_exception(stopped)) + everything_in(stopped)
        await settle()
        shown += shown_by(one)
        await one.connection.close()
        await settle()
        # What the test's own server logs of a request is not the client's doing.
        records = [record for record in caplog.records if record.name != "tornado.access"]
        logged = [logging.Formatter().format(record) for record in records]
        return "\n".join([shown, shown_by(one), *logged, *(repr(vars(record)) for record in records)])

    return run


def assert_clean(shown: str) -> None:
    assert len(shown) > 200
    assert "canary" not in shown


@pytest.mark.gen_test
async def test_nothing_is_shown_by_a_connection_that_lives_and_renews(scene, monkeypatch):
    monkeypatch.setattr(Other, "on_message", lambda self, message: self.do("ok"))
    assert_clean(await scene())


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["close 4401 jwt_invalid", "close 4403 revoked", "cut", "hang", "say no"])
async def test_nothing_is_shown_by_a_socket_that_fails(scene, what):
    Other.script = [what] * 3
    assert_clean(await scene())


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("where", ["upgrade", "token"])
async def test_nothing_is_shown_by_an_answer_over_http_that_echoes_credentials(scene, status, where):
    body = {"error": TOKEN, "echo": JWT} if status != 200 else f"{JWT} {TOKEN}"
    Route.answers = [(status, {"X-Echo": JWT, "Location": f"/{TOKEN}"}, body)]
    shown = await (scene("/route") if where == "upgrade" else scene(with_token_url=True))
    assert_clean(shown)


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/other", "/route"])
async def test_nothing_is_shown_of_what_the_applications_functions_raise(scene, path):
    def get_token(jwt: str) -> str:
        error = ValueError("told apart")
        error.__cause__ = None
        raise error

    Route.answers = [None]
    assert_clean(await scene(path, get_token=get_token))


@pytest.mark.gen_test
async def test_the_text_of_an_applications_exception_is_in_no_words_and_no_repr(serve, client):
    def get_token(jwt: str) -> str:
        raise ValueError(f"cannot exchange {JWT}")

    one = client(serve(Echo), jwt=lambda: JWT, get_token=get_token, retries=0)
    with pytest.raises(Stopped) as stopped:
        await one.connection
    shown = [
        str(stopped.value),
        repr(stopped.value),
        repr(one.closes),
        "".join(traceback.format_exception(stopped.value)),
    ]
    assert "canary" not in "".join(shown)
    assert isinstance(one.closes[0].error, ValueError)
    assert stopped.value.close.words == "No connection token could be had: ValueError."


@pytest.mark.gen_test
async def test_nothing_is_shown_by_a_credential_with_a_line_break(scene):
    assert_clean(await scene(jwt=lambda: f"{JWT}\n"))


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/route", "/other", "token"])
async def test_no_traceback_leads_to_them_while_the_next_attempt_is_waited_for(serve, client, path):
    Route.answers, Route.asked, Other.script, Other.live = [(429, {}, "")], [], ["close 1013"], []
    server = serve(Echo, routes=[(r"/route", Route), (r"/other", Other)])
    options = {"token_url": f"{server.url}/route"} if path == "token" else {"path": path}
    one = client(server, **options)
    one.seams.holds_pauses = True
    connecting = asyncio.ensure_future(one.connection._begin())
    await until(lambda: one.connection.state == "waiting")
    (frame,) = one.connection._task.get_stack()
    assert frame.f_locals["failed"].__traceback__ is None
    error = one.connection.last_close.error
    assert (error is None) == (path == "/other")
    assert getattr(error, "__traceback__", None) is None
    await one.connection.close()
    with pytest.raises(Stopped):
        await connecting


@pytest.mark.gen_test
async def test_neither_is_kept_once_it_was_sent(serve, client):
    class Chat(Obedient):
        pass

    server = serve(Chat)
    one = client(server)
    await one.connection
    await one.connection.renew()
    held = "\n".join(
        repr(vars(part))
        for part in (one.connection, one.connection._credentials, one.connection._exchange, one.connection._renewal)
    )
    assert not any(secret in held for secret in (*one.jwts, *one.tokens))
    locals_of = "\n".join(repr(frame.f_locals) for frame in one.connection._task.get_stack())
    assert not any(secret in locals_of for secret in (*one.jwts, *one.tokens))
