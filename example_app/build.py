"""Builds the page: ``frontend/`` and the library's client become ``frontend/dist/``, which the server serves.

``python -m example_app`` does it when there is none yet or one of these files has changed since.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import tornado_wsauth
from example_app.node import NodeMissing, is_installed, node_environment, npm_command

FRONTEND = Path(__file__).parent / "frontend"
DIST = FRONTEND / "dist"
CLIENT = Path(tornado_wsauth.__file__).parent / "client"

_STAMP = DIST / ".built-from"
_OURS = {"node_modules", "dist"}


class BuildError(Exception):
    """The page could not be built. The message says why and what to do about it."""


def ensure_page() -> Path:
    """Build the page if it is not there or not up to date, and return its folder. Raises `BuildError`."""
    digest = _digest_of_sources()
    if _STAMP.exists() and _STAMP.read_text(encoding="utf-8") == digest:
        return DIST
    try:
        npm = npm_command()
    except NodeMissing as error:
        raise BuildError(str(error)) from error
    if not is_installed(FRONTEND):
        _say("Fetching what the page is built with, once …")
        _run([*npm, "ci"])
    _say("Building the page …")
    _run([*npm, "run", "build", "--silent"])
    _STAMP.write_text(digest, encoding="utf-8")
    return DIST


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    files = [path for path in FRONTEND.rglob("*") if not _OURS & set(path.relative_to(FRONTEND).parts)]
    for path in sorted([*files, *CLIENT.glob("*.js"), *CLIENT.glob("*.ts")]):
        if path.is_file():
            digest.update(f"{path}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(command: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - a command of ours
        command,
        cwd=FRONTEND,
        env=node_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-20:])
        what = " ".join(["npm", *command[1:]])
        raise BuildError(f"{what} in {FRONTEND} failed with status {done.returncode}; it said:\n{said}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
