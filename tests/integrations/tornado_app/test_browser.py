"""The recipe's ``chat.js`` in a real browser, which keeps cookies as browsers do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import RequestHandler

from tests.browser.console import Console
from tests.browser.visitor import expect
from tests.integrations.in_browser import InThread
from tests.integrations.in_browser import browser as browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCRIPT = Path(__file__).parent / "recipe" / "chat.js"

pytestmark = pytest.mark.page


class Chat(RequestHandler):
    """A page with nothing but the script."""

    def get(self) -> None:
        script = SCRIPT.read_text(encoding="utf-8")
        self.finish(f'<!doctype html><link rel="icon" href="data:,"><body><script type="module">{script}</script>')


class Site(InThread):
    """The recipe's server, with a page at ``/chat``."""

    def __init__(self) -> None:
        super().__init__()
        bound, port = bind_unused_port()
        self.url = f"http://127.0.0.1:{port}"
        self.run(self._start, bound)

    def _start(self, bound: socket.socket) -> None:
        from chatapp import Database
        from secured import make_app

        self.app = make_app(Database())
        self.app.add_handlers(".*", [(r"/chat", Chat)])
        self.auth = self.app.settings["wsauth"]
        self.server = HTTPServer(self.app)
        self.server.add_socket(bound)

    async def _end(self) -> None:
        self.server.stop()
        await self.auth.close(grace=1)
        await self.server.close_all_connections()

    def stop(self) -> None:
        self.run(self._end)
        super().stop()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(10_000)
        yield context.new_page()


def log_in(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/login")
    page.locator("[name=name]").fill("alice")
    page.locator("[name=password]").fill("alice's password")
    page.locator("[name=password]").press("Enter")
    expect(page.locator("body")).to_contain_text("welcome")


def test_a_member_who_logged_in_is_in_the_room(page: Page, site: Site) -> None:
    log_in(page, site)
    console = Console(page, site.url)
    page.goto(f"{site.url}/chat")
    expect(page.locator("body")).to_contain_text("alice says hello")
    assert console.count("/ws/token") == console.count("/ws/jwt") == console.count("/rooms/lobby") == 1
    console.assert_clean()


def test_who_did_not_log_in_does_not_even_ask_for_a_socket(page: Page, site: Site) -> None:
    console = Console(page, site.url)
    with page.expect_event("pageerror") as error:
        page.goto(f"{site.url}/chat")
    assert error.value.name == "Stopped"
    assert console.count("/ws/jwt") == 1
    assert console.count("/rooms/lobby") == 0


def test_logging_out_in_another_tab_ends_the_room_of_this_one(page: Page, site: Site) -> None:
    log_in(page, site)
    page.goto(f"{site.url}/chat")
    expect(page.locator("body")).to_contain_text("alice says hello")
    other = page.context.new_page()
    other.goto(f"{site.url}/login")
    xsrf = "document.forms[0]._xsrf.value"
    script = f"fetch('/logout', {{method: 'POST', headers: {{'X-XSRFToken': {xsrf}}}}}).then((answer) => answer.text())"
    assert other.evaluate(script) == "goodbye"
    assert site.run(lambda: len(site.auth.connections)) == 0
