"""Frameworks mark a handler's ``get`` with decorators and look at the marks in ``prepare()``: they find them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

from tests.handshakes import status_of
from tests.support import Echo, jwt_message, make_jwt
from tornado_wsauth import WebSocketAuthMixin


def public(method: Callable[..., Any]) -> Callable[..., Any]:
    """A framework's decorator: whoever comes may call ``method``."""

    @functools.wraps(method)
    def marked(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, *args, **kwargs)

    marked.is_public = True  # type: ignore[attr-defined]
    return marked


class Framework(WebSocketHandler):
    """A framework's handler, which asks for a login of its own where a method is not public."""

    async def prepare(self) -> None:
        if not getattr(getattr(self, self.request.method.lower()), "is_public", False):
            raise HTTPError(403)


class Private(Echo, Framework):
    pass


class Public(Echo, Framework):
    @public
    async def get(self, *args: str, **kwargs: str) -> None:
        await super().get(*args, **kwargs)


class MarkedByABase(Echo, type("Base", (Framework,), {"get": public(WebSocketHandler.get)})):
    pass


class MarkedOnTheInstance(Echo, Framework):
    def initialize(self) -> None:
        self.get = functools.partial(public(WebSocketHandler.get), self)
        self.get.is_public = True


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Public, MarkedByABase, MarkedOnTheInstance])
async def test_a_frameworks_prepare_finds_the_mark_that_a_decorator_left_on_get(serve, connect, handler):
    server = serve(handler)
    client, response = await connect(server)
    assert response.status == 101
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
async def test_a_frameworks_prepare_finds_no_mark_where_there_is_none(serve, connect):
    _, response = await connect(serve(Private))
    assert response.status == 403


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Public, MarkedByABase, MarkedOnTheInstance])
async def test_a_mark_on_get_opens_nothing_to_a_client_without_a_token(serve, handler):
    # A11
    assert await status_of(serve(handler), "/ws") == 401


@pytest.mark.gen_test
async def test_what_is_not_on_get_is_an_attributeerror_on_the_gates_stand_in(serve, login):
    found: list[Any] = []

    class Chat(WebSocketAuthMixin, Framework):
        @public
        async def get(self, *args: str, **kwargs: str) -> None:
            await super().get(*args, **kwargs)

        async def prepare(self) -> None:
            await super().prepare()
            found.extend([hasattr(self.get, "nonsense"), self.get.__name__, self.get == self.get, self.get == 1])

    await login(serve(Chat))
    assert found == [False, "get", True, False]
