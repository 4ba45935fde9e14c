"""How the page is served."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from example_app.accounts import USERS
from example_app.build import ensure_page
from example_app.page import PAGE


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return a folder that looks like what the build leaves."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text('<script src="/assets/index-1a2b.js"></script>')
    (tmp_path / "assets" / "index-1a2b.js").write_text("export {}")
    return tmp_path


@pytest.mark.gen_test
async def test_the_page_comes_with_headers_that_keep_strangers_out(visit, page):
    response = await visit(page=page).fetch("/")
    assert response.code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.gen_test
async def test_what_has_a_digest_in_its_name_is_kept_and_the_page_is_asked_for_again(visit, page):
    site = visit(page=page)
    assert (await site.fetch("/")).headers["Cache-Control"] == "no-cache"
    asset = await site.fetch("/assets/index-1a2b.js")
    assert "immutable" in asset.headers["Cache-Control"]
    # With nosniff a browser runs a script only under a JavaScript type (Fetch standard, §3.8).
    assert "javascript" in asset.headers["Content-Type"]


@pytest.mark.gen_test
async def test_without_a_page_it_is_503_with_a_word_on_how_to_build_one_and_all_else_works(visit, tmp_path):
    site = visit(page=tmp_path)
    response = await site.fetch("/")
    assert response.code == 503
    assert response.headers["Content-Type"].startswith("text/plain")
    assert b"npm run build" in response.body
    await site.enter()


@pytest.mark.gen_test
async def test_the_page_is_told_what_it_needs_to_know_of_the_server(visit):
    config = json.loads((await visit(auth_timeout=7, starts=2).fetch("/config.json")).body)
    assert config.pop("status").items() > {"starts": 2, "online": 0, "key_id": "key-1"}.items()
    assert config == {
        "users": USERS,
        "groups": ["red", "blue"],
        "auth_timeout": 7,
        "max_connections": 4,
        "token_store": "MemoryTokenStore",
    }


@pytest.mark.gen_test
async def test_nothing_outside_the_page_is_served(visit, page):
    site = visit(page=page)
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/app.py"):
        assert (await site.fetch(path)).code in (403, 404), path


@pytest.mark.gen_test
async def test_the_client_of_the_library_is_served_to_pages_without_a_build(visit):
    response = await visit().fetch("/wsauth/wsauth.js")
    assert response.code == 200
    assert "javascript" in response.headers["Content-Type"]


@pytest.mark.page
@pytest.mark.gen_test
async def test_every_file_the_built_page_refers_to_is_there_and_its_own(visit):
    ensure_page()
    site = visit()
    wanted, seen = ["/"], set()
    while wanted:
        path = wanted.pop()
        response = await site.fetch(path)
        assert response.code == 200, path
        seen.add(path)
        if path.endswith(".js"):  # one bundle: its text is full of React's own addresses
            continue
        names = re.findall(r'(?:src|href)="([^"#]+)"|url\(([^)]+)\)', response.body.decode())
        found = {name for pair in names for name in pair if name}
        assert not [name for name in found if ":" in name], "nothing comes from elsewhere"
        wanted += found - seen
    served = {PAGE / (path.strip("/") or "index.html") for path in seen}
    built = {file for file in PAGE.rglob("*") if file.is_file() and not file.name.startswith(".")}
    assert served == built, "no file lies about unused"


@pytest.mark.page
def test_the_built_page_has_no_script_or_style_that_its_policy_would_block():
    html = (ensure_page() / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", html)
