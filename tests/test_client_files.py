"""The browser's half, served from the installed package."""

from __future__ import annotations

import json
import re

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.web import Application

import tornado_wsauth
from tornado_wsauth import ClientFilesHandler
from tornado_wsauth.client_files import CLIENT, FILES


@pytest.fixture
def app():
    return Application([(r"/wsauth/(.*)", ClientFilesHandler)])


@pytest.fixture
def fetch(http_client: AsyncHTTPClient, base_url: str):
    async def fetch(path: str, **options) -> HTTPResponse:
        return await http_client.fetch(base_url + path, raise_error=False, **options)

    return fetch


@pytest.mark.gen_test
@pytest.mark.parametrize("name", sorted(FILES))
async def test_each_script_comes_as_one_whatever_the_machine_thinks_js_is(fetch, name, monkeypatch):
    monkeypatch.setattr("mimetypes.guess_type", lambda *_: ("text/plain", None))
    response = await fetch(f"/wsauth/{name}")
    assert response.code == 200
    assert response.headers["Content-Type"] == "text/javascript"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.body == (CLIENT / name).read_bytes()


@pytest.mark.gen_test
async def test_a_script_that_has_not_changed_is_not_sent_again(fetch):
    first = await fetch("/wsauth/wsauth.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await fetch("/wsauth/wsauth.js", headers={"If-None-Match": first.headers["Etag"]})
    assert (again.code, again.body) == (304, b"")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    [
        "",
        "__init__.py",
        "connection.py",
        "package.json",
        "wsauth.d.ts",
        "../errors.py",
        "%2e%2e/errors.py",
        "no.js",
        ".",
    ],
)
async def test_nothing_else_in_the_folder_is_served(fetch, path):
    assert (await fetch(f"/wsauth/{path}")).code in (403, 404)


@pytest.mark.gen_test
async def test_a_head_request_is_answered_without_the_file(fetch):
    response = await fetch("/wsauth/wsauth.js", method="HEAD")
    assert (response.code, response.body) == (200, b"")
    assert int(response.headers["Content-Length"]) == (CLIENT / "wsauth.js").stat().st_size


def test_the_scripts_depend_on_nothing_but_each_other_and_react():
    found = set()
    for name in FILES:
        for module in re.findall(r'\bfrom "([^"]+)"', (CLIENT / name).read_text(encoding="utf-8")):
            assert module.removeprefix("./") in FILES or (name, module) == ("react.js", "react"), (name, module)
            found.add(module)
    assert {"react", "./wsauth.js"} <= found


def test_the_package_for_npm_is_of_the_same_version_and_names_files_that_are_there():
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert package["version"] == tornado_wsauth.__version__
    targets = [target for entry in package["exports"].values() if isinstance(entry, dict) for target in entry.values()]
    assert len(targets) == 4
    assert all((CLIENT / target).is_file() for target in targets)
