"""The page of an application in several processes: who serves which pane is shown, and makes no difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.browser.site import Site, hurried
from tests.browser.visitor import Visit, expect
from tests.redis_server import RedisServer

pytestmark = pytest.mark.page


@pytest.fixture
def several(built_page: object, own_redis: RedisServer) -> Iterator[Site]:
    """The example in two processes."""
    site = hurried("--processes=2", f"--redis-url={own_redis.url}")
    yield site
    site.kill()


def served_by(tab: Visit) -> str:
    """Return what the page says about who serves its panes, both of which are connected."""
    shown = tab.page.get_by_role("region", name="The server").get_by_test_id("processes")
    expect(shown).to_have_text(re.compile(r"^2 \(left [12], right [12]\)$"))
    return shown.inner_text()


def test_panes_of_two_processes_hear_the_same_and_log_out_together(visit: Callable[..., Visit], several: Site) -> None:
    tab = visit(several.url)
    for pane in tab.panes:
        pane.enter("alice")
    while served_by(tab) not in ("2 (left 1, right 2)", "2 (left 2, right 1)"):
        tab.right.press("Disconnect")
        tab.right.press("Connect")
        tab.right.is_now("ready")
    expect(tab.page.get_by_test_id("online")).to_have_text("2")
    tab.left.join("red")
    while not tab.left.stream("group", "to another process").count():  # it takes a moment to hear of the member
        tab.right.say("to another process", "red")
        tab.page.wait_for_timeout(50)
    for pane in tab.panes:
        pane.stream("broadcast", "2 online").first.wait_for()
    tab.left.press("Log out everywhere")
    for pane in tab.panes:
        pane.has_ended(4403, "stop")
