"""A wrong option is an error at once, which says what to write instead; and what the package exports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import tornado_wsauth.client
from tornado_wsauth.client import Connection, LoggedOut, Stopped, TryLater, connect
from tornado_wsauth.errors import ConfigurationError, WSAuthError

GOOD: dict[str, Any] = {"jwt": "a.b.c", "get_token": lambda jwt: "t"}
URL = "ws://localhost:8888/ws"


@pytest.mark.parametrize("url", [URL, "wss://h/x?y=1", "http://h", "https://[::1]:8/x", " ws://localhost/ws "])
def test_a_good_url_makes_a_connection_that_has_not_begun(url):
    assert isinstance(connect(url, **GOOD), Connection)


WRONG_URLS = [
    "",
    "/ws",
    "localhost/ws",
    "ftp://h/",
    "ws:///x",
    "ws://h/#part",
    "ws://h:x/",
    "ws://h:99999/",
    "ws://[h/",
]
MORE_WRONG_URLS = ["ws://h/a b", "ws://h/ü", "ws://h/?token=secret", "ws://h/?x=1&token=", None, b"ws://h/", 7]


@pytest.mark.parametrize("url", [*WRONG_URLS, *MORE_WRONG_URLS])
def test_a_wrong_url_is_an_error_that_does_not_repeat_it(url):
    with pytest.raises(ConfigurationError, match=r"^connect\(\): url .*; (write|leave|percent)") as caught:
        connect(url, **GOOD)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token_url", ["", "/ws/token", "ws://h/token", 7])
def test_a_wrong_token_url_is_an_error(token_url):
    with pytest.raises(
        ConfigurationError, match=r"token_url .*; write a whole URL that begins with http:// or https://"
    ):
        connect(URL, jwt="a.b.c", token_url=token_url)


def test_exactly_one_of_token_url_and_get_token_is_wanted():
    with pytest.raises(ConfigurationError, match="neither"):
        connect(URL, jwt="a.b.c")
    with pytest.raises(ConfigurationError, match="give one of them"):
        connect(URL, token_url="http://h/", **GOOD)


@pytest.mark.parametrize(
    "option",
    [
        {"timeout": 0},
        {"timeout": "1"},
        {"timeout": None},
        {"timeout": float("nan")},
        {"retries": -1},
        {"retries": 1.5},
        {"retries": True},
        {"retry_interval": 0},
        {"max_retry_interval": -1},
        {"max_queue": 0},
        {"max_queue": 1.5},
        {"max_message_size": 0},
        {"token_param": ""},
        {"subprotocols": "chat"},
        {"origin": "app.example"},
        {"origin": "https://app.example/"},
        {"origin": "https://app.example\r\nX: y"},
        {"get_token": "token"},
        {"on_close": "print"},
        {"decide": 7},
        {"jwt": ""},
        {"jwt": None},
        {"jwt": b"a.b.c"},
        {"jwt": "a.b.c\n"},
    ],
)
def test_a_wrong_option_is_named_with_what_to_write(option):
    with pytest.raises(ConfigurationError) as caught:
        connect(URL, **{**GOOD, **option})
    message = str(caught.value)
    assert next(iter(option)) in message
    assert ";" in message
    assert "a.b.c" not in message


def test_errors_are_of_the_librarys_tree():
    for kind in (LoggedOut, TryLater, Stopped):
        assert issubclass(kind, WSAuthError)
    assert TryLater("busy", 7).retry_after == 7


def test_these_are_the_public_names_and_each_is_there():
    names = tornado_wsauth.client.__all__
    assert names == sorted(names)
    assert {"connect", "Connection", "Close", "LoggedOut", "TryLater", "Stopped", "describe_close"} <= set(names)
    assert all(hasattr(tornado_wsauth.client, name) for name in names)


def test_nothing_of_the_server_is_imported_by_the_client_itself():
    code = (
        "import ast, pathlib, tornado_wsauth.client as c\n"
        "found = set()\n"
        "for path in pathlib.Path(c.__file__).parent.glob('*.py'):\n"
        "    for node in ast.walk(ast.parse(path.read_text())):\n"
        "        if isinstance(node, ast.ImportFrom) and node.module.startswith('tornado_wsauth'):\n"
        "            found.add(node.module)\n"
        "print(sorted(name for name in found if not name.startswith('tornado_wsauth.client')))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    names = ("backoff", "errors", "tokens", "wire")
    assert done.stdout.strip() == str([f"tornado_wsauth.{name}" for name in names]), done.stderr
