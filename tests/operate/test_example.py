"""``python -m example_app --metrics-port``: what Prometheus finds, and who does not."""

from __future__ import annotations

import json
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from tests.example.several import Several, option_for
from tests.example.test_process import failing
from tests.operate.prometheus import CONFIGURATION

pytestmark = pytest.mark.operate
PROCESSES = 2
WITHOUT_PAGE = [sys.executable, "-W", "error", "-m", "tests.browser.server", '{"page": false}']


def two_free_ports() -> int:
    """Return a port that is free, as is the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture(scope="module")
def several() -> Iterator[tuple[Several, int]]:
    port = two_free_ports()
    with option_for("redis", str) as option:
        started = Several(option, "--grace=0", f"--metrics-port={port}", processes=PROCESSES)
        yield started, port
        assert started.stop() == 0
        started.close()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_each_process_counts_for_itself_on_a_port_of_its_own(several):
    site, port = several
    numbers = []
    with site.lines() as lines:
        for number in range(1, PROCESSES + 1):
            session = lines[number].log_in("user-1")
            jwt = lines[number].post("/jwt", session)[1]["jwt"]
            for _ in range(number):
                assert lines[number].post("/ws/token", jwt)[0] == 200
            text = get(port + number - 1, "/metrics")[1]
            numbers.append(float(re.search(r"^wsauth_tokens_issued_total (\S+)$", text, re.MULTILINE)[1]))  # type: ignore[index]
            assert "process_resident_memory_bytes" in text
    assert numbers == [1, 2]


def test_it_says_where_prometheus_finds_the_numbers(several):
    site, port = several
    site.wait_until(lambda: len(site.said) > 1, "the line about Prometheus")
    assert f"http://127.0.0.1:{port}/metrics" in site.said[1]
    assert str(port + 1) in site.said[1]


def test_the_public_port_shows_no_numbers_but_whether_it_is_ready(several):
    site, port = several
    assert "wsauth_" not in get(site.port, "/metrics")[1]
    for one in (site.port, port, port + 1):
        for question in ("live", "ready"):
            status, body = get(one, f"/health/{question}")
            assert (status, json.loads(body)) == (200, {"status": "ok"})


def test_a_port_for_prometheus_that_is_taken_is_an_error_that_names_a_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = failing("--port=0", f"--metrics-port={port}", command=WITHOUT_PAGE)
    assert status == 1
    assert str(port) in said
    assert "--metrics-port" in said


@pytest.mark.parametrize("option", ["--metrics-port=-1", "--metrics-port=65536", "--metrics-port=yes"])
def test_a_port_for_prometheus_that_is_none_is_exit_status_2(option):
    assert failing(option)[0] == 2


def test_the_configuration_that_is_shipped_scrapes_what_its_first_line_starts():
    text = CONFIGURATION.read_text(encoding="utf-8")
    command = re.search(r"python -m example_app .*--processes (\d+).*--metrics-port (\d+)", text)
    assert command is not None
    [job] = yaml.safe_load(text)["scrape_configs"]
    ports = [int(target.rpartition(":")[2]) for target in job["static_configs"][0]["targets"]]
    assert ports == [int(command[2]) + number for number in range(int(command[1]))]
