"""One Jupyter Server for each module, in its event loop, with the extension as it stands on the page."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import IOLoop

from tests.integrations.jupyter import page
from tests.integrations.jupyter.server import JupyterServer, Notebook

STRICT = [
    "--ServerApp.allow_unauthenticated_access=False",  # the default of a Jupyter to come, says its help
    "--ServerApp.terminals_enabled=False",  # its own socket for terminals is not as strict, and Jupyter warns of that
]


@pytest.fixture(scope="module")
def io_loop() -> Iterator[IOLoop]:
    """The event loop of a module's tests: a kernel takes seconds to start, and belongs to the loop it started in."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    io_loop = IOLoop(asyncio_loop=loop, make_current=False)
    yield io_loop
    io_loop.close(all_fds=True)
    asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the page's files in it, and Jupyter's own files nowhere else."""
    home = tmp_path_factory.mktemp("jupyter")
    page.save(home)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("JUPYTER_TOKEN", page.JUPYTER_TOKEN)
        patch.setenv("KERNEL_JWT_SECRET", page.SECRET)
        patch.syspath_prepend(home)
        patch.chdir(home)
        yield home
    sys.modules.pop("kernel_auth", None)


class App(ServerApp):
    """Jupyter Server, which leaves the signals to pytest."""

    def init_signal(self) -> None:
        pass


@pytest.fixture(scope="module")
def server(io_loop: IOLoop, at_home: Path) -> Iterator[JupyterServer]:
    """A Jupyter Server with the page's configuration and extension, as strict about logins of its own as it can be."""
    app = App.instance(log_level=logging.DEBUG)
    arguments = [f"--config={at_home / 'jupyter_server_config.py'}", "--allow-root", *STRICT]

    async def start() -> JupyterServer:
        app.initialize(arguments, new_httpserver=False)
        return JupyterServer(app)

    try:
        server = io_loop.run_sync(start)
        yield server
        io_loop.run_sync(server.close)
    finally:
        App.clear_instance()


@pytest.fixture(scope="module")
def kernel_id(io_loop: IOLoop, server: JupyterServer) -> str:
    """A kernel that the module's tests share."""
    return io_loop.run_sync(server.start_kernel)


@pytest.fixture
def notebook(io_loop: IOLoop, server: JupyterServer) -> Iterator[Callable[..., Awaitable[Notebook]]]:
    """Open a client of a kernel: ``await notebook(kernel_id, user="alice", **options)``."""
    notebooks: list[Notebook] = []

    async def open_one(kernel_id: str, user: str = "alice", **options: Any) -> Notebook:
        notebooks.append(await Notebook.open(server, kernel_id, user, **options))
        return notebooks[-1]

    yield open_one

    async def close() -> None:
        for notebook in notebooks:
            await notebook.close()

    io_loop.run_sync(close)
