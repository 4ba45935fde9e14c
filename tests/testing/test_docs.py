"""The examples of ``docs/testing.md`` are run as they stand there, the way a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.fresh import ROOT, run_module

PAGE = ROOT / "docs" / "testing.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the documentation beside them")


def examples() -> dict[str, str]:
    """Return the blocks that begin with the name of a file."""
    blocks = re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return {name: code for code, name in blocks}


def run(directory: Path, *arguments: str) -> str:
    for name, code in examples().items():
        (directory / name).write_text(code, encoding="utf-8")
    status, output = run_module(directory, *arguments)
    assert status == 0, output
    return output


def test_the_example_for_unittest_passes(tmp_path: Path) -> None:
    written = examples()["test_chat_case.py"].count("async def test_")
    assert f"Ran {written} tests" in run(tmp_path, "unittest", "test_chat_case")


def test_the_example_for_pytest_passes(tmp_path: Path) -> None:
    written = examples()["test_chat.py"].count("async def test_")
    plugins = ["-p", "tornado_wsauth_pytest", "-p", "pytest_tornado.plugin", "-p", "no:cacheprovider"]
    assert f"{written} passed" in run(tmp_path, "pytest", *plugins, "test_chat.py")


def test_the_example_of_the_gate_passes(tmp_path: Path) -> None:
    plugins = ["-p", "tornado_wsauth_pytest", "-p", "pytest_tornado.plugin", "-p", "no:cacheprovider"]
    assert "1 passed" in run(tmp_path, "pytest", *plugins, "test_gate.py")
