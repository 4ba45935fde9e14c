"""Taking the token out of a request, and out of what is logged."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from tests.support import (
    make_auth,
)
from tornado_wsauth.redaction import RedactTokens, redact_in_tornado_logs, take_query_argument

CANARY = "CANARY-" + "c" * 29 + "-CANARY"  # as long as a token, and well-formed
assert len(CANARY) == 43


def request_for(uri: str) -> HTTPServerRequest:
    connection = SimpleNamespace(context=SimpleNamespace(remote_ip="192.0.2.1", protocol="http"))
    headers = HTTPHeaders({"Host": "app.example"})
    start_line = RequestStartLine("GET", uri, "HTTP/1.1")
    return HTTPServerRequest(headers=headers, connection=connection, start_line=start_line)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "values", "left"),
    [
        ("/ws?token=abc", [b"abc"], "/ws"),
        ("/ws?token=abc&a=1", [b"abc"], "/ws?a=1"),
        ("/ws?a=1&token=abc", [b"abc"], "/ws?a=1"),
        ("/ws?b=2&token=abc&a=1&b=3", [b"abc"], "/ws?b=2&a=1&b=3"),
        ("/ws?token=one&token=two", [b"one", b"two"], "/ws"),
        ("/ws?token=one&a=1&token=two", [b"one", b"two"], "/ws?a=1"),
        ("/ws?token=", [b""], "/ws"),
        ("/ws?token", [b""], "/ws"),
        ("/ws?token=abc&blank=&a", [b"abc"], "/ws?blank=&a"),
        ("/ws?%74oken=abc&a=1", [b"abc"], "/ws?a=1"),
        ("/ws?%74%6F%6b%65%6E=abc", [b"abc"], "/ws"),
        ("/ws?token=a%62c", [b"abc"], "/ws"),
        ("/ws?token=%ff%00", [b"\xff\x00"], "/ws"),
        ("/ws?token=a+b", [b"a b"], "/ws"),
        ("/ws?a=%2f%3D%26&token=abc&b=x+y%20z", [b"abc"], "/ws?a=%2f%3D%26&b=x+y%20z"),
        ("/ws?a=1", [], "/ws?a=1"),
        ("/ws", [], "/ws"),
        ("/ws?tokens=abc&atoken=d&Token=e&token%5B$ne%5D=f", [], "/ws?tokens=abc&atoken=d&Token=e&token%5B$ne%5D=f"),
        ("/ws?a=?token=x", [], "/ws?a=?token=x"),
        ("/w%20s;p?token=abc&redirect=/a?b=c", [b"abc"], "/w%20s;p?redirect=/a?b=c"),
        ("/token=abc?token=d", [b"d"], "/token=abc"),
    ],
)
def test_the_argument_goes_and_everything_else_stays_as_it_was_written(uri, values, left):  # A38
    request = request_for(uri)
    before = {name: list(got) for name, got in request.arguments.items() if name != "token"}
    assert take_query_argument(request, "token") == values
    assert request.uri == left
    assert request.query == left.partition("?")[2]
    assert request.path == left.partition("?")[0]
    assert request.full_url() == f"http://app.example{left}"
    assert request.arguments == request.query_arguments == before
    assert "token" not in request.arguments


@pytest.mark.parametrize(
    "uri",
    [
        f"/ws?token={CANARY}",
        f"/ws?a=1&%74oken={CANARY}&b=2",
        f"/ws?token={CANARY}&token={CANARY}",
        f"/ws?token={CANARY}#fragment",
        f"/ws?token={CANARY};a=1",
        f"/ws?&&token={CANARY}&&",
        f"/ws?token=={CANARY}",
        f"http://app.example/ws?token={CANARY}",
    ],
)
def test_nothing_of_the_request_knows_the_token_afterwards(uri):  # A38
    request = request_for(uri)
    assert take_query_argument(request, "token") != []
    known = [repr(request), request.full_url(), request.uri, request.query, str(request.arguments)]
    known += [str(request.query_arguments), str(request.body_arguments), str(vars(request))]
    assert [text for text in known if "CANARY" in text] == []


def test_taking_one_parameter_leaves_the_other_ones_alone():
    request = request_for("/ws?ticket=abc&token=def")
    assert take_query_argument(request, "ticket") == [b"abc"]
    assert request.uri == "/ws?token=def"
    assert request.arguments == {"token": [b"def"]}


def test_taking_twice_finds_nothing_the_second_time():
    request = request_for("/ws?token=abc&a=1")
    take_query_argument(request, "token")
    assert take_query_argument(request, "token") == []
    assert request.uri == "/ws?a=1"


def filtered(msg: Any, *args: Any, name: str = "token", exc_info: Any = None) -> logging.LogRecord:
    redact = RedactTokens()
    redact.add(name)
    record = logging.LogRecord("tornado.access", logging.WARNING, "x.py", 1, msg, None, exc_info)
    record.args = args[0] if len(args) == 1 and isinstance(args[0], dict) else args
    assert redact.filter(record), "a filter that redacts must never swallow a record"
    return record


@pytest.mark.parametrize(
    "uri",
    [
        f"/nowhere?token={CANARY}",
        f"/nowhere?a=1&token={CANARY}&b=2",
        f"/nowhere?%74oken={CANARY}",
        f"/nowhere?%54oken={CANARY}&tok%65n={CANARY}",
        f"/nowhere?tok%65n={CANARY}",
        f"/nowhere?t%6F%6b%65%6E={CANARY}",
        f"/nowhere?token={CANARY}&token={CANARY}",
        f"/nowhere?a=1;token={CANARY}",
        f"/nowhere?token={CANARY};a=1",
        f"/nowhere?token={CANARY}#fragment",
        f"/nowhere?token=={CANARY}",
        f"/nowhere?token='{CANARY}'",
        f'/nowhere?token="{CANARY}"',
        f"/nowhere?token=x{quote('=&?')}{CANARY}",
        f"http://app.example/nowhere?token={CANARY}",
    ],
)
def test_the_filter_takes_the_token_out_of_a_logged_uri(uri):  # A38
    if "%54" in uri:  # %54 is a capital T, another parameter's name
        uri = uri.replace(f"%54oken={CANARY}&", "")
    record = filtered("404 GET %s (127.0.0.1)", uri)
    assert "CANARY" not in record.getMessage()
    assert "[redacted]" in record.getMessage()
    assert record.getMessage().startswith("404 GET ")
    assert record.getMessage().endswith("(127.0.0.1)")


def test_the_filter_leaves_the_other_arguments_readable():  # A38
    assert filtered("%s", f"/ws?a=1&token={CANARY}&b=2").getMessage() == "/ws?a=1&token=[redacted]&b=2"


def test_the_filter_finds_a_token_in_the_repr_of_a_request():  # A38
    record = filtered("Uncaught exception %s\n%r", "GET /x", request_for(f"/x?token={CANARY}&a=1"))
    assert "CANARY" not in record.getMessage()
    assert "HTTPServerRequest(" in record.getMessage()


def test_the_filter_looks_at_a_message_without_arguments_and_at_one_that_is_no_str():  # A38
    assert "CANARY" not in filtered(f"GET /ws?token={CANARY}").getMessage()
    assert "CANARY" not in filtered(RuntimeError(f"GET /ws?token={CANARY}")).getMessage()
    assert "CANARY" not in filtered("%(uri)s", {"uri": f"/ws?token={CANARY}"}).getMessage()
    assert "CANARY" not in filtered("%s", f"/ws?ticket={CANARY}", name="ticket").getMessage()


def test_the_filter_leaves_a_record_without_a_token_as_it_was():
    args = ("/ws?a=1", 3)
    record = filtered("%s took %d ms", *args)
    assert (record.msg, record.args) == ("%s took %d ms", args)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("msg", "args"),
    [("%s %s", ("one",)), ("%d", ("one",)), ("no place", ("one",)), ("%s", (Unprintable(),)), (Unprintable(), ())],
    ids=["too few", "wrong type", "too many", "unprintable argument", "unprintable message"],
)
def test_a_record_that_cannot_be_formatted_passes_the_filter(msg, args):
    record = filtered(msg, *args)
    assert record.levelno == logging.WARNING


def test_the_filter_takes_the_token_out_of_a_logged_exception():  # A38
    try:
        raise RuntimeError(f"cannot serve /ws?token={CANARY}")
    except RuntimeError as error:
        record = filtered("Uncaught exception", exc_info=(type(error), error, error.__traceback__))
    text = logging.Formatter().format(record)
    assert "CANARY" not in text
    assert "RuntimeError" in text, "the traceback is still there"


def test_the_filter_is_installed_once_however_many_applications_there_are():
    for _ in range(3):
        make_auth()
        make_auth(token_param="ticket")
        redact_in_tornado_logs("token")
    for name in ("tornado.access", "tornado.application", "tornado.general"):
        filters = [found for found in logging.getLogger(name).filters if isinstance(found, RedactTokens)]
        assert len(filters) == 1, name
