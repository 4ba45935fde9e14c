"""The wheel and the sdist, built from a copy of the checkout, and environments that have nothing but one of them.

A copy, because setuptools puts into a wheel whatever an earlier build left in ``build/``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.release import ROOT

_NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".tox", ".venv", "*.egg-info", "build", "dist", "node_modules", "__pycache__", ".*_cache", ".hypothesis"
)
_TIMEOUT = 120  # seconds; a build fetches setuptools


@dataclass(frozen=True)
class Distributions:
    wheel: Path
    sdist: Path
    wheel_from_sdist: Path
    """The wheel that pip makes of the sdist where there is no wheel."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and an empty directory to be in, so that nothing is imported from the checkout."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")

    @property
    def directory(self) -> Path:
        return self.folder / "empty"

    @property
    def variables(self) -> dict[str, str]:
        """This process's environment, without what would lead its Python elsewhere."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(self, *arguments: str) -> str:
        """Run its Python in the empty directory; return what it prints. Raises `AssertionError` if it fails."""
        return run([self.python, *arguments], cwd=self.directory, env=self.variables)

    def installed(self) -> set[str]:
        """Return the names of the packages in it."""
        packages = run(["uv", "pip", "list", "--python", self.python, "--format", "json"], cwd=self.directory)
        return {package["name"].replace("-", "_") for package in json.loads(packages)}


def build(folder: Path) -> Distributions:
    """Build what would be uploaded, into ``folder``."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=_NOT_SOURCE)
    _build(source, folder / "dist", "--sdist", "--wheel")
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    _build(unpacked, folder / "again", "--wheel")
    (again,) = (folder / "again").glob("*.whl")
    return Distributions(wheel, sdist, again)


def install(distribution: Path, folder: Path) -> Environment:
    """Install ``distribution`` and what it needs into a fresh environment."""
    environment = Environment(folder)
    environment.directory.mkdir(parents=True)
    run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder / "venv")])
    run(["uv", "pip", "install", "--quiet", "--python", environment.python, str(distribution)])
    return environment


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files in ``wheel`` by name, but for the list of them."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def sdist_names(sdist: Path) -> set[str]:
    """Return the files in ``sdist`` by name, without the folder they are all in."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, cwd=cwd, env=env, check=False)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _build(source: Path, target: Path, *kinds: str) -> None:
    run([sys.executable, "-m", "build", "--installer", "uv", *kinds, "--outdir", str(target), str(source)])
