"""Finds a Python 2.7 and installs Autobahn's test suite for it. Only `tests.autobahn.__main__` imports this."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

REQUIREMENT = "autobahntestsuite==25.10.1"

ADVICE = """\
Autobahn's test suite runs under Python 2.7 only, and there is none here. Install one, e.g. with pyenv:
    pyenv install 2.7.18
or name the one you have:
    WSAUTH_TEST_PYTHON27=/path/to/python2.7"""


class NotInstalled(Exception):
    """The test suite cannot be had on this machine. The message says what to do."""


def install(cache: Path) -> Path:
    """Return the path of ``wstest`` in a virtual environment in ``cache``, which is made if it is not there.

    Raises `NotInstalled`.
    """
    wstest = cache / "python27" / "bin" / "wstest"
    if _runs(wstest, "--autobahnversion"):
        return wstest
    python = find_python27(os.environ)
    if importlib.util.find_spec("virtualenv") is None:
        raise NotInstalled("Install what makes environments for Python 2.7: pip install 'virtualenv<20.22'")
    shutil.rmtree(cache / "python27", ignore_errors=True)
    _run("virtualenv", sys.executable, "-m", "virtualenv", "--quiet", "--python", str(python), str(cache / "python27"))
    # Parts of it are compiled where there are no wheels, which takes a C compiler and the headers of Python 2.7.
    _run("pip", str(cache / "python27" / "bin" / "python"), "-m", "pip", "install", "--quiet", REQUIREMENT)
    return wstest


def find_python27(environ: Mapping[str, str]) -> Path:
    """Return the first Python 2.7 that runs: the one named, one on the path, one of pyenv's. Raises `NotInstalled`."""
    named = environ.get("WSAUTH_TEST_PYTHON27")
    if named:
        if not _is_python27(Path(named)):
            raise NotInstalled(f"WSAUTH_TEST_PYTHON27={named} is no Python 2.7 that runs")
        return Path(named)
    for candidate in _candidates(environ):
        if _is_python27(candidate):
            return candidate
    raise NotInstalled(ADVICE)


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("python2.7")
    if on_path:
        yield Path(on_path)
    # pyenv's python2.7 on the path refuses to run unless that version is switched on; its own directory does not ask.
    root = environ.get("PYENV_ROOT")
    pyenv = shutil.which("pyenv")
    if root is None and pyenv is not None:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
    yield from sorted(Path(root or Path.home() / ".pyenv").glob("versions/2.7*/bin/python2.7"), reverse=True)


def _is_python27(python: Path) -> bool:
    return _runs(python, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))")


def _runs(program: Path, *arguments: str) -> bool:
    try:
        return subprocess.run([program, *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(what: str, *command: str) -> None:
    # A Python 3 that is told where its own modules are must not tell Python 2.7 the same.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise NotInstalled(f"{done.stdout}\n{what} failed, as above, on the way to {REQUIREMENT} for Python 2.7")
