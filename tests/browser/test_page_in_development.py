"""The page as ``npm run dev`` serves it, where React's StrictMode mounts everything twice."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from example_app.node import node_environment
from tests.browser.site import Site, free_port
from tests.browser.visitor import Visit

pytestmark = pytest.mark.page


@pytest.fixture
def development_url(built_page: Path, site: Site) -> Iterator[str]:
    """Run the development server in front of ``site``."""
    frontend = built_page.parent
    port = free_port()
    environment = {**node_environment(), "EXAMPLE_PORT": str(site.port), "NO_COLOR": "1"}
    vite = frontend / "node_modules" / ".bin" / "vite"
    command = [str(vite), "--host=127.0.0.1", f"--port={port}", "--strictPort"]
    with subprocess.Popen(
        command, cwd=frontend, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:  # until it serves
            if "Local:" in line:
                break
        yield f"http://127.0.0.1:{port}"
        os.killpg(process.pid, signal.SIGKILL)  # `node` may be a script that starts the real one


def test_mounted_twice_it_spends_one_token_and_opens_one_socket(
    visit: Callable[..., Visit], development_url: str, site: Site
) -> None:
    tab = visit(development_url)
    assert tab.page.evaluate("document.querySelector('script[src*=\"@vite\"]') !== null"), "this is another server"
    tab.left.enter()
    tab.left.stream("tick").first.wait_for()  # a second socket would be there by now
    assert site.count_requests("POST", "/ws/token") == 1
    assert site.count("accepted") == 1
    assert site.count("refused") == 0
