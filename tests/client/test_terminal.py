"""``python -m tornado_wsauth connect`` as people and pipes use it: in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.client.kit import Obedient
from tests.support import Server, make_jwt, until
from tornado_wsauth.__main__ import main
from tornado_wsauth.client.console import clock_time, escaped


class Chat(Obedient):
    pass


class Command:
    """A run of the command. What it writes to the standard error is in ``told``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told = ""
        self._telling = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(4096):
            self.told += data.decode()

    def write(self, text: str) -> None:
        self.process.stdin.write(text.encode())  # type: ignore[union-attr]

    async def tells(self, pattern: str) -> None:
        """Wait until it has said that; a test that waits in vain shows what it did say."""
        try:
            async with asyncio.timeout(8):
                await until(lambda: re.search(pattern, self.told) is not None)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} is not in: {self.told}") from None

    async def line(self) -> str:
        return (await self.process.stdout.readline()).decode()  # type: ignore[union-attr]

    async def end(self, text: str = "") -> tuple[int | None, str]:
        """Send ``text``, close the input, and return the exit status and what else came on the standard output."""
        self.write(text)
        self.process.stdin.close()  # type: ignore[union-attr]
        output = (await self.process.stdout.read()).decode()  # type: ignore[union-attr]
        await self.process.wait()
        await self._telling
        assert "Traceback" not in self.told
        return self.process.returncode, output


@contextlib.asynccontextmanager
async def running(*arguments: str, jwt: str | None = None, **options: Any) -> AsyncIterator[Command]:
    environment = {name: value for name, value in os.environ.items() if name != "WSAUTH_JWT"}
    if jwt is not None:
        environment["WSAUTH_JWT"] = jwt
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tornado_wsauth", "connect", *arguments),
        **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": environment, **options},
    )
    command = Command(process)
    try:
        yield command
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await command._telling


def screen(leader: int, shown: list[str]) -> str:
    """Return all that a terminal has shown so far, and remember it in ``shown``."""
    with contextlib.suppress(BlockingIOError):
        shown.append(os.read(leader, 65536).decode())
    return "".join(shown)


def url_of(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/ws"


@pytest.mark.gen_test
async def test_lines_are_sent_answers_are_printed_and_each_step_is_told(serve):
    server = serve(Chat)
    async with running(url_of(server), jwt=make_jwt()) as command:
        command.write("hello\n\nwörld\n")
        assert sorted([await command.line() for _ in range(4)]) == ["< hello\n", "< wörld\n", "> hello\n", "> wörld\n"]
        assert (await command.end("last")) == (0, "> last\n< last\n")
    told = command.told
    assert f"fetching a token from http://127.0.0.1:{server.port}/ws/token" in told
    assert f"connecting to {url_of(server)}\n" in told
    assert re.search(r"✓ authenticated as alice until (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\n", told)
    assert [word in told for word in ("\x1b", "1000", "disconnected", "token=")] == [False] * 4
    assert Chat.events.count("hello") == 1


@pytest.mark.gen_test
async def test_a_jwt_that_is_not_valid_ends_with_status_1_and_the_reason_in_words(serve):
    server = serve(Chat)
    async with running(url_of(server), jwt=make_jwt(secret="another secret, of forty characters or so")) as command:
        assert await command.end() == (1, "")
    assert "the token route answered 401: the JWT is not valid; giving up" in command.told
    async with running(url_of(server), "--no-retry", jwt=make_jwt("bob")) as command:
        await command.tells("authenticated as bob")
        command.write("close 4403 revoked\n")
        await command.tells("4403 revoked: The user was logged out; giving up")
        assert (await command.end())[0] == 1


@pytest.mark.gen_test
async def test_a_server_that_is_gone_is_told_with_the_next_attempt(serve):
    server = serve(Chat)
    async with running(url_of(server), jwt=make_jwt()) as command:
        await command.tells("authenticated")
        command.write("close 1012 restart\n")
        await command.tells(r"1012 restart: The server is restarting; trying again in [01]\.\d s")
        await until(lambda: command.told.count("authenticated as") == 2)
        command.write("still\n")
        while await command.line() != "< still\n":
            pass
        await server.close()
        command.write("close 1001 shutdown\n")
        await command.tells("1001 shutdown")
        await command.tells(r"token_unavailable: .*ConnectionRefusedError.*; trying again in \d+\.\d s")
        command.process.send_signal(signal.SIGINT)
        assert (await command.end())[0] == 0


@pytest.mark.gen_test
async def test_without_retry_the_first_failure_is_the_end(serve):
    server = serve(Chat)
    await server.close()
    async with running(url_of(server), "--no-retry", jwt=make_jwt()) as command:
        assert await command.end() == (1, "")
    assert "giving up" in command.told


@pytest.mark.gen_test
async def test_a_jwt_command_is_run_for_each_attempt_and_its_failure_is_tried_again(serve, tmp_path):
    server = serve(Chat)
    script = tmp_path / "jwt"
    script.write_text(f"echo x >> {tmp_path}/asked; test $(wc -l < {tmp_path}/asked) -gt 1 && echo {make_jwt()}")
    async with running(url_of(server), "--jwt-command", f"sh {shlex.quote(str(script))}") as command:
        await command.tells(r"jwt_unavailable: No JWT could be had: the command of --jwt-command ended with status 1;")
        await command.tells("authenticated")
        assert (await command.end())[0] == 0
    assert (tmp_path / "asked").read_text() == "x\n" * 2


@pytest.mark.gen_test
async def test_a_jwt_may_come_from_a_file_or_from_the_first_line(serve, tmp_path):
    server = serve(Chat)
    file = tmp_path / "jwt"
    file.write_text(make_jwt("bob") + "\n")
    async with (
        running(url_of(server), "--jwt-file", str(file), "--wait", "0") as first,
        running(url_of(server), "--jwt-file", "-", "--raw", "--wait", "0.3") as second,
    ):
        assert (await first.end())[0] == 0
        assert "authenticated as bob" in first.told
        assert await second.end(make_jwt("carol") + "\nhello\n") == (0, "hello\n")
        assert "authenticated as carol" in second.told


@pytest.mark.gen_test
async def test_a_reader_of_the_pipe_that_leaves_is_no_error(serve):
    async with running(url_of(serve(Chat)), "--raw", "--wait", "inf", jwt=make_jwt()) as command:
        command.write("one\n")
        assert await command.line() == "one\n"
        command.process.stdout._transport.close()  # type: ignore[union-attr]
        command.write("two\nthree\n")
        await command.process.wait()
    assert command.process.returncode == 0
    assert "Error" not in command.told


@pytest.mark.gen_test
async def test_on_a_terminal_there_is_colour_unless_somebody_minds_and_ctrl_d_closes(serve):
    server = serve(Chat)
    for no_color in (False, True):
        leader, follower = pty.openpty()
        environment = {**os.environ, "WSAUTH_JWT": make_jwt(), "TERM": "xterm"}
        environment = {**environment, "NO_COLOR": "1"} if no_color else environment
        os.set_blocking(leader, False)
        shown: list[str] = []
        try:
            async with running(url_of(server), stdin=follower, stdout=follower, env=environment) as command:
                os.write(leader, b"hello\n")
                await until(lambda leader=leader, shown=shown: screen(leader, shown).count("hello") == 2)
                os.write(leader, b"\x04")
                assert await command.process.wait() == 0
        finally:
            os.close(leader)
            os.close(follower)
        assert ("\x1b[36m<\x1b[0m hello" in "".join(shown)) is not no_color
        assert ("\r\n< hello" in "".join(shown)) is no_color
        assert "> hello" not in "".join(shown)


# --- without a process -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["connect"], "URL"),
        (["connect", "localhost:8888"], "write a whole URL"),
        (["connect", "ws://h/", "--token-url", "/x"], "token_url"),
        (["connect", "ws://h/?token=x"], "leave it out"),
        (["connect", "ws://h/", "--jwt-file", "/no/such/file"], "--jwt-file /no/such/file: No such file"),
        (["connect", "ws://h/", "--jwt-file", "a", "--jwt-command", "b"], "not allowed with"),
        (["connect", "ws://h/", "--wait", "-1"], "--wait"),
        (["connect", "ws://h/", "--jwt", "a.b.c"], "ambiguous"),
    ],
)
def test_wrong_usage_has_status_2_and_says_what_is_wrong(arguments, said, monkeypatch, capsys):
    if "--jwt-file" not in arguments:
        monkeypatch.setenv("WSAUTH_JWT", "a.b.c")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_a_jwt_and_without_a_terminal_it_says_where_one_can_come_from(monkeypatch, capsys):
    monkeypatch.delenv("WSAUTH_JWT", raising=False)
    with pytest.raises(SystemExit):
        main(["connect", "ws://h/"])
    assert "--jwt-command or --jwt-file, or set WSAUTH_JWT" in capsys.readouterr().err


def test_help_says_why_the_jwt_is_no_argument(capsys):
    with pytest.raises(SystemExit):
        main(["connect", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "everybody on the machine can read the arguments of a process" in words
    assert "exit status: 0" in words


def test_what_a_server_says_cannot_steer_the_terminal():
    assert escaped("a\x1b[2Jb\nc\x07\u202e ü") == r"a\x1b[2Jb\nc\x07\u202e ü"


def test_a_time_has_its_date_only_when_it_is_another_day():
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", clock_time(1))
    assert clock_time(None) == "the server ends it"
    assert clock_time(1e30) == "1e+30"
