"""The page in a real browser: BokehJS, with the recipe's ``bokeh-wsauth.js`` beneath it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tornado.ioloop import IOLoop

from tests.browser.console import Console, failed_request
from tests.browser.visitor import expect
from tests.integrations.bokeh.client import stop
from tests.integrations.in_browser import InThread
from tests.integrations.in_browser import browser as browser
from tornado_wsauth.testing import manual_clock

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.page

PATIENCE_MS = 10_000


class Site(InThread):
    """The recipe's server."""

    def __init__(self, serve_module: Any) -> None:
        super().__init__()
        self.server: Any = self.run(self._start, serve_module)
        self.auth = self.server._tornado.settings["wsauth"]
        self.url = f"http://localhost:{self.server.port}"

    async def _start(self, serve_module: Any) -> Any:
        server = serve_module.make_server(port=0, io_loop=IOLoop.current())
        server.start()
        return server

    def handlers(self) -> list[Any]:
        """Return the handlers of the authenticated sockets."""
        handlers: list[Any] = self.run(lambda: [*self.auth.connections])
        return handlers

    def expiry_of(self, user: str) -> float:
        """Return when the user's only connection ends, in Unix seconds."""
        (expires_at,) = [h.auth_session.expires_at for h in self.handlers() if h.auth_session.user_id == user]
        assert isinstance(expires_at, float)
        return expires_at

    def user_ids(self) -> list[str]:
        return [handler.auth_session.user_id for handler in self.handlers()]

    def stop(self) -> None:
        self.run(stop, self.server)
        super().stop()


@pytest.fixture
def site(serve_module: Any) -> Iterator[Site]:
    site = Site(serve_module)
    yield site
    site.stop()


@pytest.fixture
def log_in(browser: Browser, site: Site) -> Iterator[Callable[[str], tuple[Page, Console]]]:
    """Open a browser of somebody's own and log in: ``page, console = log_in("alice")``. The dashboard opens."""
    with ExitStack() as contexts:

        def open_one(user: str) -> tuple[Page, Console]:
            context = contexts.enter_context(browser.new_context())
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            console = Console(page, site.url)
            page.goto(f"{site.url}/dashboard")
            page.get_by_label("Name").fill(user)
            page.get_by_label("Password").fill(f"{user}'s password")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_text("Question")).to_be_visible(timeout=PATIENCE_MS)
            return page, console

        yield open_one


def ask(page: Page, question: str) -> None:
    """Put a question, and wait for the answer, which the server makes."""
    page.get_by_role("textbox").fill(question)
    page.get_by_role("textbox").press("Enter")
    expect(page.get_by_text(f"You asked: {question}")).to_be_visible(timeout=PATIENCE_MS)


def test_a_user_logs_in_and_gets_answers_from_the_server(log_in: Any, site: Site) -> None:
    page, console = log_in("alice")
    ask(page, "why?")
    assert console.count("/ws/token") == console.count("/ws/jwt") == console.count("/dashboard/ws") == 1
    assert site.user_ids() == ["alice"]
    console.assert_clean()


def test_the_page_renews_its_jwt_and_bokeh_notices_nothing(log_in: Any, site: Site) -> None:
    with manual_clock(site.auth) as clock:
        page, console = log_in("alice")
        ask(page, "before?")
        before = site.expiry_of("alice")
        with page.expect_response("**/ws/jwt"):
            site.run(clock.advance, 280)  # of the 300 seconds that the JWT is good for
        ask(page, "after?")
        assert site.expiry_of("alice") > before
    assert console.count("/ws/jwt") == 2
    assert console.count("/ws/token") == console.count("/dashboard/ws") == 1
    console.assert_clean()


def test_after_the_connection_broke_bokehjs_connects_again_with_a_new_token(log_in: Any, site: Site) -> None:
    page, console = log_in("alice")
    ask(page, "before?")
    (handler,) = site.handlers()
    with page.expect_response("**/ws/token"):
        site.run(handler.close, 1012, "restart")
    ask(page, "after?")
    assert console.count("/ws/token") == console.count("/dashboard/ws") == 2


def test_who_logs_out_elsewhere_sees_nothing_more(log_in: Any, site: Site) -> None:
    page, console = log_in("alice")
    ask(page, "before?")
    page.context.clear_cookies()
    console.allow(failed_request(403))
    with page.expect_response("**/ws/jwt") as refused:
        site.run(site.auth.disconnect_user, "alice")
    assert refused.value.status == 403
    assert site.user_ids() == []
    assert console.count("/dashboard/ws") == 1


def test_without_the_script_the_page_stays_empty(browser: Browser, site: Site) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/bokeh-wsauth.js", lambda route: route.abort())
        page.goto(f"{site.url}/dashboard")
        page.get_by_label("Name").fill("alice")
        page.get_by_label("Password").fill("alice's password")
        with page.expect_event("console", lambda line: "Failed to load Bokeh session" in line.text):
            page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("Question")).to_have_count(0)
        assert site.user_ids() == []
