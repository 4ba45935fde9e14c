"""The rest of Jupyter Server beside the extension, and the page followed as a reader would."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_server.services.kernels.handlers import _kernel_id_regex
from tornado.httpclient import AsyncHTTPClient
from tornado.testing import bind_unused_port

from tests.integrations.jupyter import page
from tests.integrations.jupyter.conftest import STRICT
from tests.integrations.jupyter.server import AS_JUPYTER, channels, execute_request, kind, make_jwt
from tests.integrations.jupyter.test_strangers import upgrade
from tests.logs import UNKNOWN_TOKEN
from tornado_wsauth.testing.client import CLOSE, RawClient, jwt_message

JUPYTERS_ROUTES = [
    "/api",
    "/api/status",
    "/api/kernels",
    "/api/kernelspecs",
    "/api/sessions",
    "/api/contents",
    "/api/me",
]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", JUPYTERS_ROUTES)
async def test_jupyters_other_routes_ask_for_jupyters_login_as_before(server, path):
    # /api tells everybody its version.
    assert (await server.fetch(path)).code == (200 if path == "/api" else 403)
    assert (await server.fetch(path, headers=AS_JUPYTER)).code == 200
    bearer = {"Authorization": f"Bearer {make_jwt()}"}
    assert (await server.fetch(path, headers=bearer)).code == (200 if path == "/api" else 403)


@pytest.mark.gen_test
async def test_no_token_and_no_jwt_is_in_any_log_line_of_jupyter_or_ours(server, notebook, kernel_id, caplog):
    # A38
    caplog.set_level(logging.DEBUG)
    tokens = [await server.issue() for _ in range(4)]
    jwt = make_jwt()
    client = await RawClient.connect(server.port)
    assert (await client.upgrade(f"{channels(kernel_id)}&token={tokens[0]}")).status == 101
    client.send_text(jwt_message(jwt))
    assert (await client.read_json())["type"] == "auth_ok"
    await client.close()
    assert await upgrade(server, f"{channels(kernel_id)}&token={tokens[0]}") == 401  # used
    assert await upgrade(server, f"{channels(kernel_id)}&token={UNKNOWN_TOKEN}") == 401
    assert await upgrade(server, f"/api/kernels/nonsense/channels?token={tokens[1]}") != 101
    assert await upgrade(server, f"{channels(kernel_id)}&token={tokens[2]}", Host="rebound.example") == 403
    assert await upgrade(server, f"/api/kernels?token={tokens[3]}") == 403
    lines = [record.getMessage() for record in caplog.records] + [record.exc_text or "" for record in caplog.records]
    assert any("channels" in line for line in lines)
    for secret in [*tokens, UNKNOWN_TOKEN, jwt]:
        assert [line for line in lines if secret in line] == []


@pytest.mark.gen_test
async def test_the_socket_may_have_an_address_of_its_own_beside_jupyters(server, kernel_id):
    import kernel_auth

    name = rf"/api/authenticated-kernels/{_kernel_id_regex}/channels"
    server.app.web_app.add_handlers(".*$", [(name, kernel_auth.AuthenticatedKernelWebsocket)])
    path = f"/api/authenticated-kernels/{kernel_id}/channels"
    assert await upgrade(server, path, **AS_JUPYTER) == 401
    client = await RawClient.connect(server.port)
    assert (await client.upgrade(f"{path}?token={await server.issue()}")).status == 101
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    client.send_text(json.dumps(execute_request("1 + 1")))
    while kind(message := await client.read_json()) != "execute_result":
        pass
    assert message["content"]["data"]["text/plain"] == "2"
    await client.close()


# As a process --------------------------------------------------------------------------------------------------------


class Process:
    """Jupyter Server as the page starts it, on a port of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        socket, self.port = bind_unused_port()
        socket.close()
        homes = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        self.environment = {**os.environ, **{name: str(directory / name.lower()) for name in homes}}
        self.environment |= {"JUPYTER_TOKEN": page.JUPYTER_TOKEN, "KERNEL_JWT_SECRET": page.SECRET}
        command = [sys.executable, "-m", "jupyter_server", "--config=jupyter_server_config.py", "--allow-root"]
        self._log = (directory / "log.txt").open("wb")
        self._process = subprocess.Popen(
            [*command, f"--port={self.port}", *arguments],
            cwd=directory,
            env=self.environment,
            stdout=self._log,
            stderr=self._log,
        )
        self._directory = directory

    @property
    def log(self) -> str:
        return (self._directory / "log.txt").read_text()

    async def status(self) -> int | None:
        """Return the status that it ended with, once it has."""
        return await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    async def listens(self) -> None:
        """Wait until it takes connections."""
        while True:
            assert self._process.poll() is None, self.log
            try:
                return (await asyncio.open_connection("127.0.0.1", self.port))[1].close()
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def start(tmp_path: Path):
    """Start the page's server in an empty directory: ``start("--debug", **{"kernel_auth.py": "other content"})``."""
    processes: list[Process] = []

    def start_one(*arguments: str, **files: str) -> Process:
        page.save(tmp_path)
        for name, content in files.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        processes.append(Process(tmp_path, *arguments))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()


@pytest.mark.gen_test
async def test_who_follows_the_page_gets_what_it_says_and_jupyter_finds_nothing_to_warn_of(start, tmp_path):
    process = start(*STRICT)
    await process.listens()
    program = tmp_path / "run_on_kernel.py"
    program.write_text(program.read_text().replace("localhost:8888", f"127.0.0.1:{process.port}"))
    ran = await asyncio.create_subprocess_exec(
        sys.executable, program.name, cwd=tmp_path, env=process.environment, stdout=subprocess.PIPE
    )
    printed, _ = await ran.communicate()
    (promised,) = re.findall(r"<!-- prints -->\n```text\n(.*?)```", page.PAGE.read_text(encoding="utf-8"), re.S)
    assert printed.decode() == promised
    assert "JupyterServerAuthWarning" not in process.log


@pytest.mark.gen_test
async def test_a_server_that_ends_says_1012_to_its_clients_and_takes_its_kernels_along(start):
    process = start()
    await process.listens()
    url = f"http://127.0.0.1:{process.port}"
    answer = await AsyncHTTPClient().fetch(f"{url}/api/kernels", method="POST", body="{}", headers=AS_JUPYTER)
    bearer = {"Authorization": f"Bearer {make_jwt()}"}
    token = json.loads((await AsyncHTTPClient().fetch(f"{url}/ws/token", method="POST", body="", headers=bearer)).body)
    client = await RawClient.connect(process.port)
    await client.upgrade(f"{channels(json.loads(answer.body)['id'])}&token={token['token']}")
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    process.stop()
    frames = [await client.read_frame()]
    while frames[-1][0] != CLOSE:
        frames.append(await client.read_frame())
    assert frames[-1][1] == (1012).to_bytes(2, "big") + b"restart"
    await client.close()
    assert await process.status() == 0
    assert "Traceback" not in process.log


@pytest.mark.gen_test
@pytest.mark.parametrize("why", ["its secret is missing", "it has no extension"])
async def test_a_server_whose_extension_cannot_be_loaded_does_not_start(start, why):
    code = page.files()["kernel_auth.py"].replace("KERNEL_JWT_SECRET", "NOT_IN_THE_ENVIRONMENT")
    process = start(**{"kernel_auth.py": code if why == "its secret is missing" else ""})
    assert await process.status() not in (None, 0), process.log
    assert "Traceback" in process.log
