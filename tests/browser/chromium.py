"""The browser of these tests: the machine's own Chromium, driven by Playwright. Only `conftest` starts one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

VARIABLE = "WSAUTH_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")


class BrowserMissing(Exception):
    """There is no browser, or nothing to drive it with. The message says how to get it."""


@contextlib.contextmanager
def playwright_running() -> Iterator[Playwright]:
    """Run Playwright's driver. Raises `BrowserMissing`.

    Its event loop counts as running in this thread until the end: no other may run here meanwhile.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BrowserMissing("these tests drive a browser with Playwright: pip install playwright") from error
    with sync_playwright() as playwright:
        yield playwright


@contextlib.contextmanager
def chromium_running(playwright: Playwright) -> Iterator[Browser]:
    """Run the machine's Chromium, without a window. Raises `BrowserMissing`."""
    arguments = ["--disable-gpu"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which Chromium has none of for root
    browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
    try:
        yield browser
    finally:
        browser.close()


def find_chromium() -> str:
    """Return the path of a Chromium. Raises `BrowserMissing`."""
    wanted = os.environ.get(VARIABLE)
    for name in (wanted,) if wanted else NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    if wanted:
        raise BrowserMissing(f"{VARIABLE}={wanted}: there is no such program; it is the path of a Chromium")
    raise BrowserMissing(
        f"there is no Chromium on the PATH ({', '.join(NAMES)}): apt-get install chromium, or set {VARIABLE} to one"
    )


@contextlib.contextmanager
def asleep(browser: Browser) -> Iterator[None]:
    """Stop the processes that pages run in, as a laptop does whose lid is closed. The network goes on without them."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [process["id"] for process in processes if process["type"] == "renderer"]
    session.detach()
    try:
        for process in renderers:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in renderers:
            os.kill(process, signal.SIGCONT)
