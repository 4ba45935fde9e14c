"""Runs Vitest's tests of the browser's client and hooks, and the check of their declarations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from example_app.node import is_installed, node_environment, npm_command

pytestmark = pytest.mark.page

FOLDER = Path(__file__).parent

FEWEST_TESTS = 350
"""A run with fewer has not found its files."""


def npm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run npm in this folder. What fails fails the test, and shows what npm said."""
    environment = {**node_environment(), "NO_COLOR": "1", "WSAUTH_PYTHON": sys.executable}
    result = subprocess.run(
        [*npm_command(), *arguments],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if result.returncode != 0:
        pytest.fail(f"npm {' '.join(arguments)}\n{result.stdout}\n{result.stderr}", pytrace=False)
    return result


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    """Install what the lock file names, unless that was done since it was written."""
    if not is_installed(FOLDER):
        npm("ci")


@pytest.mark.timeout(300)
def test_every_test_of_the_client_and_the_hooks_passes_and_none_is_skipped(tmp_path: Path) -> None:
    report = tmp_path / "vitest.json"
    npm("test", "--", "--reporter=default", "--reporter=json", f"--outputFile.json={report}")
    results: dict[str, Any] = json.loads(report.read_text())
    assert results["numPassedTests"] == results["numTotalTests"], results
    assert results["numTotalTests"] >= FEWEST_TESTS


@pytest.mark.timeout(300)
def test_the_declarations_allow_what_a_page_does_and_no_mistake() -> None:
    npm("run", "types")


def test_the_lock_file_names_no_registry() -> None:
    """Whoever installs from it takes the registry that npm is set to use."""
    lock: dict[str, Any] = json.loads((FOLDER / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
