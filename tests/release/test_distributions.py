"""What would be uploaded: complete, nothing too much, and it works where there is nothing else."""

from __future__ import annotations

import email
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

import tornado_wsauth
from tests.release import ROOT
from tests.release.distributions import Distributions, Environment, build, contents, install, run, sdist_names
from tests.release.serve_snippet import SECRET

FOLDER = Path(__file__).parent
BROUGHT_ALONG = ("*.js", "*.d.ts", "package.json", "py.typed")
"""What is no Python and has to be in the package all the same."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return build(tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def environment(
    request: pytest.FixtureRequest, distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """One with the wheel, one with the sdist."""
    return install(getattr(distributions, request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture
def port(environment: Environment) -> Iterator[str]:
    """The README's snippet serves there."""
    script = shutil.copy(FOLDER / "serve_snippet.py", environment.directory)
    readme = shutil.copy(ROOT / "README.md", environment.directory)
    with subprocess.Popen(
        [environment.python, script, readme],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=environment.directory,
        env=environment.variables,
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.communicate(timeout=30)


def test_the_version_is_the_packages_wherever_it_is_told(distributions: Distributions) -> None:
    files = contents(distributions.wheel)
    (metadata,) = (text for name, text in files.items() if name.endswith(".dist-info/METADATA"))
    told = {
        "METADATA": email.message_from_bytes(metadata)["Version"],
        "wheel": distributions.wheel.name.split("-")[1],
        "sdist": distributions.sdist.name.removesuffix(".tar.gz").split("-")[1],
        "package.json": json.loads(files["tornado_wsauth/client/package.json"])["version"],
    }
    assert told == dict.fromkeys(told, tornado_wsauth.__version__)


def test_the_version_is_written_down_in_one_place() -> None:
    """Beside the one for npm, which npm itself reads; the test above compares it."""
    packaging = [ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / "tox.ini", *(ROOT / "docs").rglob("conf.py")]
    holders = [path for path in packaging if f'"{tornado_wsauth.__version__}"' in path.read_text(encoding="utf-8")]
    assert holders == []


def test_twine_finds_nothing_to_complain_of(distributions: Distributions) -> None:
    run([sys.executable, "-m", "twine", "check", "--strict", str(distributions.wheel), str(distributions.sdist)])


def test_check_wheel_contents_finds_nothing_to_complain_of(distributions: Distributions) -> None:
    run(
        [
            sys.executable,
            "-m",
            "check_wheel_contents",
            "--config",
            str(ROOT / "pyproject.toml"),
            str(distributions.wheel),
        ]
    )


def test_the_wheel_made_of_the_sdist_is_the_same_wheel(distributions: Distributions) -> None:
    assert contents(distributions.wheel_from_sdist) == contents(distributions.wheel)


def test_the_wheel_holds_the_package_and_nothing_else(distributions: Distributions) -> None:
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "tornado_wsauth").rglob("*.py")}
    for pattern in BROUGHT_ALONG:
        found = {str(path.relative_to(ROOT)) for path in (ROOT / "tornado_wsauth").rglob(pattern)}
        assert found, f"no {pattern} in the checkout"
        source |= found
    held = {name for name in contents(distributions.wheel) if ".dist-info/" not in name}
    assert held == source | {"tornado_wsauth_pytest.py"}


def test_the_sdist_holds_whatever_git_does_but_for_what_ci_needs(distributions: Distributions) -> None:
    """A packager of a Linux distribution runs the tests and builds the docs from it."""
    known = set(run(["git", "ls-files"], cwd=ROOT).splitlines())
    wanted = {name for name in known if (ROOT / name).exists() and not name.startswith((".ci/", ".git"))}
    assert wanted - sdist_names(distributions.sdist) == set()


def test_nothing_is_installed_but_the_package_and_what_it_needs(environment: Environment) -> None:
    assert environment.installed() == {"tornado_wsauth", "tornado", "pyjwt"}


def test_it_is_imported_from_where_it_was_installed(environment: Environment) -> None:
    where = environment.run("-c", "import tornado_wsauth; print(tornado_wsauth.__file__, tornado_wsauth.__version__)")
    file, version = where.split()
    assert Path(file).is_relative_to(environment.folder)
    assert version == tornado_wsauth.__version__


def test_every_public_name_can_be_had_or_says_which_extra_it_needs(environment: Environment) -> None:
    told = environment.run(
        "-c",
        "import tornado_wsauth as package\n"
        "for name in package.__all__:\n"
        "    try:\n"
        "        getattr(package, name)\n"
        "    except ImportError as error:\n"
        "        print(error)\n",
    )
    assert all(re.fullmatch(r'\w+ needs .+: pip install "tornado_wsauth\[\w+\]"', line) for line in told.splitlines())


def test_the_readmes_snippet_serves_and_a_client_passes_both_steps(environment: Environment, port: str) -> None:
    credential = jwt.encode({"sub": "alice", "exp": time.time() + 300}, SECRET, algorithm="HS256")
    url = f"ws://127.0.0.1:{port}/ws/chat"
    client = subprocess.run(
        [environment.python, "-m", "tornado_wsauth", "connect", "--no-retry", url],
        input="how are you?\n",
        capture_output=True,
        text=True,
        timeout=30,
        cwd=environment.directory,
        env={**environment.variables, "WSAUTH_JWT": credential},
        check=False,
    )
    assert "hello alice" in client.stdout, client.stderr
    assert "echo: how are you?" in client.stdout, client.stderr


def test_the_readmes_snippet_lets_nobody_in_who_has_another_key(environment: Environment, port: str) -> None:
    forged = jwt.encode({"sub": "alice", "exp": time.time() + 300}, "x" * 32, algorithm="HS256")
    client = subprocess.run(
        [environment.python, "-m", "tornado_wsauth", "connect", "--no-retry", f"ws://127.0.0.1:{port}/ws/chat"],
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        cwd=environment.directory,
        env={**environment.variables, "WSAUTH_JWT": forged},
        check=False,
    )
    assert client.returncode == 1, client.stderr
    assert "hello" not in client.stdout
