"""The pytest fixtures, in runs of pytest of their own: beside pytest-tornado, and without it."""

from __future__ import annotations

from pathlib import Path

from tests.testing.fresh import ROOT, run_module

APP = """
import pytest
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tornado_wsauth import JWTVerifier, WebSocketAuthMixin, WSAuth


class Chat(WebSocketAuthMixin, WebSocketHandler):
    def open(self):
        self.write_message(f"hello {self.auth_session.user_id}")

    def on_message(self, message):
        self.write_message(f"echo: {message}")


AUTH = WSAuth(JWTVerifier("a key that the tests do not know at all", algorithms=["HS256"]))
VERIFIER, CLOCK = AUTH.jwt, AUTH.clock


@pytest.fixture
def app():
    return Application([(r"/ws/chat", Chat)], wsauth=AUTH, websocket_ping_interval=30)
"""

# pytest-tornado's own event loop is made in a way that Python 3.12 and Tornado warn about.
IO_LOOP = """
import asyncio
from tornado.ioloop import IOLoop


@pytest.fixture
def io_loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    io_loop = IOLoop(asyncio_loop=loop, make_current=False)
    yield io_loop
    io_loop.close(all_fds=True)
    asyncio.set_event_loop(None)
"""

BESIDE = """
from tornado_wsauth.testing import AuthRefused

OPENED = []


@pytest.mark.gen_test
async def test_1_messages(connect_authenticated):
    alice = await connect_authenticated("/ws/chat", "alice")
    bob = await connect_authenticated("/ws/chat", "bob")
    assert [await alice.receive(), await bob.receive()] == ["hello alice", "hello bob"]
    await alice.send("hi")
    assert await alice.receive() == "echo: hi"
    OPENED.extend([alice, bob])


def test_2_all_is_over_and_back_in_its_place(wsauth):
    assert wsauth is AUTH
    assert [connection.close_code for connection in OPENED] == [1000, 1000]
    assert (AUTH.jwt, AUTH.clock) == (VERIFIER, CLOCK)


@pytest.mark.gen_test
async def test_3_expiry(connect_authenticated, wsauth_credentials, wsauth_clock):
    jwt, token = wsauth_credentials.jwt("alice", expires_in=60), await wsauth_credentials.token("alice")
    wsauth_clock.advance(61)
    with pytest.raises(AuthRefused) as caught:
        await connect_authenticated("/ws/chat", "alice", token=token)
    assert (caught.value.status, caught.value.error) == (401, "token_invalid")
    with pytest.raises(AuthRefused) as caught:
        await connect_authenticated("/ws/chat", "alice", jwt=jwt)
    assert caught.value.close_reason == "jwt_expired"


def test_4_the_clock_is_back_in_its_place(wsauth):
    assert (AUTH.jwt, AUTH.clock) == (VERIFIER, CLOCK)


@pytest.mark.gen_test
async def test_5_a_jwt_of_the_tests_own(connect_authenticated):
    with pytest.raises(AuthRefused):
        await connect_authenticated("/ws/chat", "alice", jwt="a.b.c")
    assert AUTH.jwt is VERIFIER


@pytest.mark.gen_test
async def test_6_that_must_fail(connect_authenticated):
    chat = await connect_authenticated("/ws/chat", "alice")
    assert await chat.receive() == "hello bob"


@pytest.mark.gen_test
async def test_7_tls(connect_authenticated, https_server):
    assert (await connect_authenticated("/ws/chat")).auth_ok["user_id"] == "alice"


@pytest.fixture
def ssl_options():
    import os.path, tornado.test
    folder = os.path.dirname(tornado.test.__file__)
    return {"certfile": os.path.join(folder, "test.crt"), "keyfile": os.path.join(folder, "test.key")}
"""
"""Tests of an application that is tested with pytest-tornado; one of them must fail."""

WITHOUT = """
def test_plain():
    assert True


def test_credentials(wsauth_credentials):
    assert wsauth_credentials.jwt("bob").count(".") == 2
    assert AUTH.jwt is not VERIFIER


def test_connecting(connect_authenticated):
    pass


class TestNamed:
    @pytest.fixture
    def wsauth_setting(self):
        return "admins"

    @pytest.fixture
    def app(self):
        return Application(admins=AUTH)

    def test_another_setting(self, wsauth):
        assert wsauth is AUTH


class TestMissing:
    @pytest.fixture
    def app(self):
        return Application()

    def test_no_setting(self, wsauth):
        pass
"""
"""Tests where there is no pytest-tornado; two of them cannot be set up."""


class Run:
    """What came of one run of pytest."""

    def __init__(self, directory: Path, *options: str) -> None:
        plugins = ["-p", "tornado_wsauth_pytest", "-p", "no:cacheprovider"]
        _, self.output = run_module(directory, "pytest", *plugins, "-rA", *options)
        lines = self.output.splitlines()
        self.passed = {line.rpartition("::")[2] for line in lines if line.startswith("PASSED")}
        self.failed = {
            line.rpartition("::")[2].partition(" ")[0] for line in lines if line.startswith(("FAILED", "ERROR test_"))
        }


def test_the_fixtures_work_beside_pytest_tornado(tmp_path: Path) -> None:
    (tmp_path / "test_chat.py").write_text(APP + IO_LOOP + BESIDE)
    run = Run(tmp_path, "-p", "pytest_tornado.plugin")
    assert run.failed == {"test_6_that_must_fail"}, run.output
    assert len(run.passed) == 6, run.output


def test_without_pytest_tornado_the_rest_works_and_what_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_chat.py").write_text(APP + WITHOUT)
    run = Run(tmp_path)
    assert run.passed == {"test_plain", "test_credentials", "test_another_setting"}, run.output
    assert run.failed == {"test_connecting", "test_no_setting"}, run.output
    assert "connect_authenticated needs the fixture 'http_server' of pytest-tornado" in run.output
    assert "write Application(handlers, wsauth=WSAuth(jwt=…))" in run.output


def test_a_run_that_uses_nothing_of_it_imports_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("""
import sys

def test_plain():
    assert "tornado_wsauth_pytest" in sys.modules
    assert {"tornado", "tornado_wsauth", "jwt", "cryptography", "pymongo"} & set(sys.modules) == set()
""")
    run = Run(tmp_path)
    assert run.passed == {"test_plain"}, run.output


def test_pytest_finds_it_as_an_entry_point_of_its_own_name() -> None:
    """Else ``-p tornado_wsauth_pytest`` would be a second plugin beside the first, and pytest refuses that."""
    setup = (ROOT / "setup.py").read_text()
    assert '"pytest11": ["tornado_wsauth_pytest = tornado_wsauth_pytest"]' in setup
    assert 'py_modules=["tornado_wsauth_pytest"]' in setup
