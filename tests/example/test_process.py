"""``python -m example_app``."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from example_app.accounts import USERS
from tornado_wsauth.testing.client import frame, jwt_message, upgrade_request

COMMAND = [sys.executable, "-W", "error", "-m", "example_app"]
CHECKOUT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the example on a free port; yield the process and the line it prints when it is ready."""
    process = subprocess.Popen(
        [*COMMAND, "--port=0", *options], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


def port_of(line: str) -> int:
    return int(re.search(r":(\d+)/", line)[1])  # type: ignore[index]


def failing(*options: str, command: list[str] = COMMAND) -> tuple[int, str]:
    """Run the example, which cannot start; return its status and the one line it says."""
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=20)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.page
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_serves_the_page_and_stops_cleanly(number):
    with running() as (process, line):
        url = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert url is not None, line
        assert "in memory" in line
        with urllib.request.urlopen(url[0], timeout=10) as response:
            assert b"tornado_wsauth" in response.read()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def http(port: int, path: str, body: str = "", **headers: str) -> Any:
    """POST to the process that listens there; return the JSON it answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or "null")


def log_in(port: int) -> str:
    """Return the secret of a new login of alice."""
    return str(http(port, "/login", json.dumps({"username": "alice", "password": USERS["alice"]}))["session"])


@contextlib.contextmanager
def entered(port: int, session: str) -> Iterator[socket.socket]:
    """Yield a socket that was let in and reads nothing by itself."""
    token = http(port, "/jwt", Authorization=f"Bearer {session}")["jwt"]
    ticket = http(port, "/ws/token", Authorization=f"Bearer {token}")["token"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(upgrade_request(f"/demo?token={ticket}"))
        client.sendall(frame(jwt_message(token).encode()))
        received = b""
        while b"auth_ok" not in received:
            received += client.recv(4096)
        yield client


@pytest.mark.page
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_clients_with_1012_and_one_that_never_answers_does_not_hold_the_server(number):  # A27
    with running("--grace=1") as (process, line):
        port = port_of(line)
        with entered(port, log_in(port)) as client:
            process.send_signal(number)
            assert process.wait(10) == 0
            received = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"\x88\x09\x03\xf4restart" in received


@pytest.mark.page
def test_a_restart_closes_the_clients_with_1012_and_the_same_login_enters_again_on_the_same_port():
    with running("--grace=0.2") as (process, line):
        port = port_of(line)
        session = log_in(port)
        with entered(port, session) as client:
            http(port, "/demo/restart", Authorization=f"Bearer {session}")
            assert b"\x88\x09\x03\xf4restart" in b"".join(iter(lambda: client.recv(4096), b""))
        assert process.stdout is not None
        assert "start 2" in process.stdout.readline()
        with entered(port, session):
            pass
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config.json", timeout=10) as response:
            assert json.loads(response.read())["status"]["starts"] == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.page
def test_with_mongodb_it_says_so(mongodb_uri, mongo_database_name):
    uri = urlunsplit(urlsplit(mongodb_uri)._replace(path=f"/{mongo_database_name}"))
    with running(f"--mongodb-uri={uri}") as (process, line):
        assert "in MongoDB" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.page
def test_a_port_in_use_is_an_error_that_names_a_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = failing(f"--port={port}")
    assert status == 1
    assert str(port) in said
    assert "--port=0" in said


@pytest.mark.page
def test_a_short_secret_is_an_error_that_says_how_long_it_must_be():
    status, said = failing("--port=0", "--jwt-secret=too short")
    assert status == 2
    assert "--jwt-secret" in said
    assert "32" in said
    assert "too short" not in said


def prepared(preparation: str) -> list[str]:
    """Return a command that runs the example in an interpreter where ``preparation`` went first."""
    return [sys.executable, "-c", f"import runpy; {preparation}; runpy.run_module('example_app', run_name='__main__')"]


@pytest.mark.page
def test_a_mongodb_that_is_not_there_is_an_error_at_the_start():
    impatient = prepared(
        "import functools, tornado_wsauth as library; "
        "library.MongoTokenStore = functools.partial(library.MongoTokenStore, timeout=0.05)"
    )
    status, said = failing("--port=0", "--mongodb-uri=mongodb://127.0.0.1:1/", command=impatient)
    assert status == 1
    assert "--mongodb-uri" in said
    assert "in memory" in said


@pytest.mark.page
@pytest.mark.parametrize("processes", [1, 2])
def test_a_redis_that_is_not_there_is_an_error_at_the_start_said_once(processes):
    status, said = failing("--port=0", "--redis-url=redis://127.0.0.1:1", f"--processes={processes}")
    assert status == 1
    assert said.count("\n") == 1
    assert "--redis-url" in said


@pytest.mark.page
@pytest.mark.parametrize(
    ("option", "driver", "extra"),
    [("--mongodb-uri=mongodb://127.0.0.1/", "pymongo", "mongo"), ("--redis-url=redis://127.0.0.1/", "redis", "redis")],
)
def test_a_missing_driver_is_an_error_that_says_what_to_install(option, driver, extra):
    status, said = failing("--port=0", option, command=prepared(f"import sys; sys.modules['{driver}'] = None"))
    assert status == 1
    assert f'pip install "tornado_wsauth[{extra}]"' in said


@pytest.mark.page
@pytest.mark.parametrize("option", ["--port=65536", "--mongodb-uri=mongdb://localhost", "--redis-url=localhost"])
def test_a_wrong_option_is_exit_status_2(option):
    assert failing(option)[0] == 2
