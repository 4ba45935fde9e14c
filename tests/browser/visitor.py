"""A visitor of the reference page: `Visit` is one tab, `Pane` one half of the page in it.

Everything is found as a person finds it, by what it is called; the few hooks beside that are ``data-`` attributes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.browser.console import Console

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page
    from playwright.sync_api._generated import LocatorAssertions

STEPS = ("jwt", "token", "upgrade", "authenticate", "ready")
PATIENCE_MS = 8000


def expect(locator: Locator) -> LocatorAssertions:
    """Return Playwright's assertions about ``locator``: they wait until they are true."""
    from playwright.sync_api import expect as playwright_expect

    return playwright_expect(locator)


def wait_for(locator: Locator, times: int = 1) -> None:
    """Wait until there are ``times`` of these, and see that there are no more.

    The page itself looks for them, at each frame; `expect` asks again after ever longer pauses, up to a second.
    """
    locator.nth(times - 1).wait_for(state="attached")
    expect(locator).to_have_count(times)


def prepare(context: BrowserContext) -> BrowserContext:
    """Set how long is waited for what should come."""
    from playwright.sync_api import expect as playwright_expect

    context.set_default_timeout(PATIENCE_MS)
    playwright_expect.set_options(timeout=PATIENCE_MS)
    return context


class Visit:
    """One tab with the page of ``url``, in a browser profile of its own. ``options`` are those of a Playwright context.

    Nothing moves in it unless an option says otherwise: painting costs more than all else. Its ``console`` knows what
    should not have been there, or left the page's own origin.
    """

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        options = {"reduced_motion": "reduce", **options}
        self.context = prepare(browser.new_context(**options))  # type: ignore[arg-type]  # twenty kinds of options
        self.page: Page = self.context.new_page()
        self.console = Console(self.page, url)
        self.url = url
        self.page.goto(url)

    @property
    def left(self) -> Pane:
        return Pane(self.page.get_by_role("region", name="Left pane"))

    @property
    def right(self) -> Pane:
        return Pane(self.page.get_by_role("region", name="Right pane"))

    @property
    def panes(self) -> tuple[Pane, Pane]:
        return self.left, self.right

    def button(self, name: str) -> Locator:
        """Return a button of the whole page, such as those of the server."""
        return self.page.get_by_role("button", name=name, exact=True)

    def leave(self) -> None:
        self.context.close()


class Pane:
    """One half of the page: a user, a connection, and what it has seen."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    # What one does --------------------------------------------------------------------------------------------------

    def log_in(self, user: str | None = None) -> None:
        """Log in as ``user``; left out, as the one who is chosen already."""
        if user is not None:
            self.root.get_by_role("radio", name=user).check()
        self.press("Log in")

    def enter(self, user: str | None = None) -> None:
        """Log in, connect, and wait until the server has said ``auth_ok``."""
        self.log_in(user)
        self.press("Connect")
        self.is_now("ready")

    def press(self, name: str) -> None:
        self.button(name).click()

    def provoke(self, name: str, code: int, reaction: str) -> None:
        """Press a button that makes something fail, and wait until the history tells of that end once more."""
        ends = self.history("close", code=str(code), reaction=reaction)
        before = ends.count()
        self.press(name)
        wait_for(ends, before + 1)

    def say(self, text: str, target: str | None = None) -> None:
        """Send ``text``; ``target`` is ``"echo"``, a group, or what is chosen already."""
        if target is not None:
            self.root.get_by_label("To", exact=True).select_option(target)
        self.root.get_by_role("textbox", name="Message").fill(text)
        self.press("Send")

    def stop_the_clock(self) -> None:
        """Let no more time pass in the page, whose ``clock`` is installed, so that what is waiting waits on."""
        self.root.page.clock.pause_at(self.root.page.evaluate("Date.now() / 1000 + 1"))

    def join(self, group: str) -> None:
        self._set_member(group, "joined")

    def leave(self, group: str) -> None:
        self._set_member(group, "left")

    def _set_member(self, group: str, event: str) -> None:
        answers = self.stream("session", f"{event} {group}")
        before = answers.count()
        self.group(group).set_checked(event == "joined")
        wait_for(answers, before + 1)

    # Where things are -----------------------------------------------------------------------------------------------

    def button(self, name: str) -> Locator:
        return self.root.get_by_role("button", name=name, exact=True)

    def group(self, name: str) -> Locator:
        return self.root.get_by_role("checkbox", name=name)

    @property
    def state(self) -> Locator:
        return self.root.get_by_test_id("state")

    def step(self, name: str) -> Locator:
        return self.root.locator(f'li[data-step="{name}"]')

    def history(self, event: str, **data: str) -> Locator:
        """Return the items of the history with this event and these ``data-`` attributes."""
        attributes = "".join(f'[data-{name}="{value}"]' for name, value in {"event": event, **data}.items())
        return self.root.locator(f"li{attributes}")

    def stream(self, kind: str, text: str = "") -> Locator:
        """Return the messages of this kind that contain ``text``."""
        return self.root.locator(f'li[data-kind="{kind}"]', has_text=text)

    # What must be so ------------------------------------------------------------------------------------------------

    def is_now(self, state: str) -> None:
        wait_for(self.state.filter(has_text=re.compile(f"^{state}$")))

    def has_ended(self, code: int | str, reaction: str, *, times: int = 1) -> None:
        """See that the history tells of so many ends with this code, and what is done about it."""
        wait_for(self.history("close", code=str(code), reaction=reaction), times)

    def steps(self) -> dict[str, str]:
        """Return the steps, in the page's order, with their statuses."""
        items = self.root.locator("li[data-step]").all()
        return {str(item.get_attribute("data-step")): str(item.get_attribute("data-status")) for item in items}
