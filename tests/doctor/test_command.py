"""``python -m tornado_wsauth doctor`` as people and CI use it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tornado_wsauth
from tests.doctor.kit import KEY

APPLICATION = f"""
print("this is not the report")
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler
from tornado_wsauth import JWTVerifier, TokenHandler, WebSocketAuthMixin, WSAuth

class Chat(WebSocketAuthMixin, WebSocketHandler):
    pass

def make(key="{KEY}", **settings):
    auth = WSAuth(JWTVerifier(key, ["HS256"]), allowed_origins=["https://app.example"])
    return Application([("/ws/token", TokenHandler), ("/ws/chat", Chat)], wsauth=auth, **settings)

def good():
    return HTTPServer(make(websocket_ping_interval=30))

def warned():
    return HTTPServer(make())

weak_key = "hunter2-" + "change-me-please-" * 2
def bad():
    return HTTPServer(make(weak_key, websocket_ping_interval=30, cookie_secret=weak_key))

def broken():
    raise ValueError("mongodb://alice:hunter2@db.example/ is no URI")
"""


@pytest.fixture
def doctor(tmp_path):
    """Run the command: ``doctor("app:good", "--json")``."""
    (tmp_path / "app.py").write_text(textwrap.dedent(APPLICATION))
    root = str(Path(tornado_wsauth.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tornado_wsauth", "doctor", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**environment, **more}, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_healthy_application_exits_with_0_and_says_so(doctor):
    run = doctor("app:good", "--processes", "1")
    assert (run.returncode, run.stdout) == (0, "app:good: nothing found in 2 routes\n")
    assert run.stderr == "this is not the report\n"


def test_a_note_fails_nobody_unless_it_is_meant_to(doctor):
    assert doctor("app:good").returncode == 0
    assert doctor("app:good", "--fail-on", "note").returncode == 1


def test_a_warning_fails_unless_only_errors_do(doctor):
    run = doctor("app:warned")
    assert run.returncode == 1
    assert "warning  no-ping-interval\n         Application(websocket_ping_interval=…)\n" in run.stdout
    assert "-> set websocket_ping_interval=30\n" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert doctor("app:warned", "--fail-on", "error").returncode == 0


def test_what_is_accepted_does_not_fail_and_is_counted(doctor):
    run = doctor("app:warned", "--processes=1", "--ignore", "no-ping-interval")
    assert run.returncode == 0
    assert run.stdout == "app:warned: nothing found in 2 routes; 1 ignored (no-ping-interval)\n"


def test_a_finding_that_does_not_exist_cannot_be_ignored(doctor):
    run = doctor("app:warned", "--ignore", "no-ping-intervall")
    assert run.returncode == 2
    assert "no-ping-intervall" in run.stderr


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_secret_is_printed(doctor, arguments):
    run = doctor("app:bad", *arguments)
    assert run.returncode == 1
    assert "weak-key" in run.stdout
    assert "shared-key" in run.stdout
    assert "hunter2" not in run.stdout + run.stderr
    assert "change-me-please" not in run.stdout + run.stderr


def test_json_has_the_shape_that_is_documented(doctor):
    report = json.loads(doctor("app:warned", "--json", "--ignore", "memory-store").stdout)
    findings = report.pop("findings")
    assert report == {
        "version": 1,
        "target": "app:warned",
        "failed": True,
        "counts": {"error": 0, "warning": 1, "note": 0},
        "ignored": ["memory-store"],
    }
    assert [list(finding) for finding in findings] == [["id", "level", "where", "problem", "advice"]]


def test_an_application_that_cannot_be_loaded_exits_with_2_without_its_secrets(doctor):
    run = doctor("app:broken")
    assert (run.returncode, run.stdout) == (2, "")
    assert "doctor: app:broken() failed: ValueError: mongodb://[hidden]@db.example/ is no URI" in run.stderr
    run = doctor("app:broken", "--json")
    report = json.loads(run.stdout)
    assert (run.returncode, sorted(report)) == (2, ["error", "failed", "target", "version"])
    assert report["failed"] is True
    assert "hunter2" not in run.stdout + run.stderr


@pytest.mark.parametrize("arguments", [(), ("app:good", "--processes", "0"), ("app:good", "--fail-on", "never")])
def test_a_wrong_option_exits_with_2(doctor, arguments):
    run = doctor(*arguments)
    assert run.returncode == 2
    assert "usage:" in run.stderr


def test_a_terminal_that_lacks_letters_gets_the_report_all_the_same(doctor):
    run = doctor("app:warned", PYTHONIOENCODING="ascii")
    assert run.returncode == 1
    assert "no-ping-interval" in run.stdout


def test_no_driver_is_loaded_for_an_application_that_has_none(doctor, tmp_path):
    (tmp_path / "look.py").write_text(
        "import sys\nfrom tornado_wsauth.__main__ import main\nmain(['doctor', 'app:good'])\n"
        "print(sorted({'pymongo', 'redis', 'motor'} & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tornado_wsauth.__file__).parent.parent)}
    command = [sys.executable, "look.py"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert run.stderr.splitlines()[-1] == "[]"


def test_the_reference_application_has_no_finding_above_a_note(doctor, tmp_path):
    (tmp_path / "reference.py").write_text(
        "from example_app.app import make_app\nfrom example_app.engine import make_engine\n"
        "def make():\n    return make_app(make_engine())\n"
    )
    run = doctor("reference:make", "--json")
    report = json.loads(run.stdout)
    assert (run.returncode, report["counts"]["error"], report["counts"]["warning"]) == (0, 0, 0), report["findings"]
