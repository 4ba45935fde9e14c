"""README's page of a few lines, as it stands there, opened in a browser."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from tests.browser.console import Console, failed_request
from tests.browser.visitor import expect, prepare
from tests.support import make_auth, make_jwt
from tornado_wsauth import ClientFilesHandler, TokenHandler, WebSocketAuthMixin

if TYPE_CHECKING:
    from playwright.sync_api import Browser

README = Path(__file__).parent.parent.parent / "README.md"

pytestmark = [
    pytest.mark.page,
    pytest.mark.skipif(not README.exists(), reason="the tests run without the documentation beside them"),
]


class ReadmePage(RequestHandler):
    """README's one block of HTML."""

    def get(self) -> None:
        (page,) = re.findall(r"^```html\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
        self.finish(page)


class FreshJWT(RequestHandler):
    """Your login, which knows already that this is alice."""

    def post(self) -> None:
        self.finish(make_jwt("alice"))


class Chat(WebSocketAuthMixin, WebSocketHandler):
    """README's handler."""

    def open(self, *args: str, **kwargs: str) -> None:
        self.write_message(f"hello {self.auth_session.user_id}")

    def on_message(self, message: str | bytes) -> None:
        self.write_message(f"echo: {message!s}")


@pytest.fixture
def readme_url() -> Iterator[str]:
    """Serve README's page, in a thread: the browser's driver has the event loop of this one."""
    bound, port = bind_unused_port()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[_serve(bound, stop)])
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


async def _serve(bound: object, stop: asyncio.Event) -> None:
    auth = make_auth()
    routes = [
        (r"/", ReadmePage),
        (r"/jwt", FreshJWT),
        (r"/ws/token", TokenHandler),
        (r"/ws/chat", Chat),
        (r"/wsauth/(.*)", ClientFilesHandler),
    ]
    server = HTTPServer(Application(routes, wsauth=auth, websocket_ping_interval=30))
    server.add_socket(bound)  # type: ignore[arg-type]  # a socket, which mypy knows as bind_unused_port's
    await stop.wait()
    server.stop()
    await auth.close()
    await server.close_all_connections()


def test_readmes_page_greets_its_user_and_shows_an_echo(browser: Browser, readme_url: str) -> None:
    with prepare(browser.new_context()) as context:
        page = context.new_page()
        console = Console(page, readme_url)
        console.allow(failed_request(404))  # its icon: it has none
        page.goto(readme_url)
        body = page.locator("body")
        expect(body).to_contain_text("hello alice")
        page.get_by_label("Message").fill("is anybody there?")
        page.get_by_role("button", name="Send").click()
        expect(body).to_contain_text("echo: is anybody there?")
        assert console.count("/ws/token") == 1
        assert console.count("/ws/chat") == 1
    console.assert_clean()
