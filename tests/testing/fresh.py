"""Runs of pytest and unittest in a process of their own, as a user of the library has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tornado_wsauth

ROOT = Path(tornado_wsauth.__file__).parent.parent


def run_module(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run ``python -m arguments…`` in ``directory``; return the exit code and what it printed.

    pytest loads only the plugins named: the machine may have others, and ours may not be installed on it.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
