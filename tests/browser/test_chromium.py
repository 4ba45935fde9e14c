"""How the browser of these tests is found, and what is said where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.browser.chromium import NAMES, VARIABLE, BrowserMissing, find_chromium, playwright_running

pytestmark = pytest.mark.page


@pytest.fixture
def bare_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of one empty folder, and no word of where a browser is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def put(folder: Path, name: str) -> str:
    program = folder / name
    program.touch(mode=0o755)
    return str(program)


def test_without_a_chromium_one_is_told_how_to_get_one(bare_path: Path) -> None:
    with pytest.raises(BrowserMissing, match=rf"apt-get install chromium, or set {VARIABLE}"):
        find_chromium()


def test_the_chromium_on_the_path_is_taken(bare_path: Path) -> None:
    chrome = put(bare_path, NAMES[-1])
    assert find_chromium() == chrome
    chromium = put(bare_path, NAMES[0])
    assert find_chromium() == chromium


def test_the_chromium_that_is_named_comes_first(bare_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bare_path, NAMES[0])
    other = put(bare_path, "my-chromium")
    monkeypatch.setenv(VARIABLE, other)
    assert find_chromium() == other
    monkeypatch.setenv(VARIABLE, "/nowhere/chromium")
    with pytest.raises(BrowserMissing, match="/nowhere/chromium"):
        find_chromium()


def test_without_playwright_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(BrowserMissing, match="pip install playwright"), playwright_running():
        pass
