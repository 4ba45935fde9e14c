"""The audit says what is known, and never takes silence for a clean bill. A service of the tests' own answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires

import pytest

from tests.release import audit


class Service(ThreadingHTTPServer):
    """An OSV that knows what a test told it: for each package, the advisory and the version that mends it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.known: dict[str, tuple[str, str]] = {}
        self.broken_about: str | None = None
        self.asked: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.server.asked[name] = query["version"]
        body = json.dumps({"vulns": [self.advisory(name)]} if name in self.server.known else {}).encode()
        self.send_response(500 if name == self.server.broken_about else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def advisory(self, name: str) -> dict[str, object]:
        identity, fixed = self.server.known[name]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
        return {"id": identity, "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]}

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(service: Service, *resolutions: str) -> int:
    return audit.main(["--service", "osv", "--osv-url", service.url, *resolutions])


def test_all_that_users_install_is_asked_for_and_nothing_known_is_clean(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(service, "newest") == audit.CLEAN
    assert {"tornado", "pyjwt", "pymongo", "motor", "redis", "hiredis", "cryptography"} <= set(service.asked)
    assert re.search(r"newest: \d+ packages, 0 known vulnerabilities", capsys.readouterr().out)


def test_the_oldest_are_the_lower_bounds_that_are_declared(service: Service) -> None:
    run(service, "oldest")
    wanted = set(audit.extras())
    floors = {
        match["name"].replace("_", "-"): match["floor"]
        for requirement in requires("tornado_wsauth") or ()
        if (match := re.match(r"(?P<name>\w+)(\[\w+\])?>=(?P<floor>[\d.]+)", requirement))
        and (not (extra := re.search(r'extra == "(\w+)"', requirement)) or extra[1] in wanted)
    }
    assert {"tornado", "pyjwt", "redis"} <= floors.keys()
    padded = {name: version.split(".") for name, version in service.asked.items() if name in floors}
    assert {name: [*floor.split("."), "0", "0"][:3] for name, floor in floors.items()} == padded


def test_what_is_known_is_named_with_the_version_that_mends_it(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.known["tornado"] = ("GHSA-test", "99.1")
    assert run(service, "oldest") == audit.VULNERABLE
    told = capsys.readouterr().err
    assert re.search(r"oldest: tornado 6\.[\d.]+: GHSA-test, fixed in 99\.1", told)
    assert "raise the lower bounds in setup.py" in told


def test_an_error_of_the_service_about_one_package_is_no_clean_bill(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.broken_about = "pyjwt"
    assert run(service, "newest") == audit.NOT_ASKED
    assert "NOT AUDITED, the newest: osv" in capsys.readouterr().err


def test_a_service_that_cannot_be_reached_is_no_clean_bill(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.server_close()
    assert run(service, "newest") == audit.NOT_ASKED
    assert "NOT AUDITED, the newest: osv" in capsys.readouterr().err


def test_a_package_that_pip_audit_skipped_is_no_clean_bill() -> None:
    """PyPI's answer to a package that it does not have; ``pip-audit`` goes on and ends with 0."""
    told: list[dict[str, object]] = [
        {"name": "tornado", "version": "6.6.1", "vulns": []},
        {"name": "pyjwt", "skip_reason": "Dependency not found on PyPI"},
    ]
    with pytest.raises(audit.NotAskedError, match="pypi: no answer about pyjwt"):
        audit._findings("pypi", "tornado==6.6.1\npyjwt==2.15.1\n", told)


def test_a_package_that_pip_audit_forgot_is_no_clean_bill() -> None:
    with pytest.raises(audit.NotAskedError, match="no answer about pyjwt"):
        audit._findings(
            "osv", "tornado==6.6.1\npyjwt==2.15.1\n", [{"name": "tornado", "version": "6.6.1", "vulns": []}]
        )


def test_what_is_known_about_one_of_the_two_counts_though_the_other_is_clean(service: Service) -> None:
    service.known["redis"] = ("GHSA-test", "99.1")
    assert run(service, "newest", "oldest") == audit.VULNERABLE
