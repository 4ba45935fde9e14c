"""What a page's shell commands look like: those that install are checked for their form and never run, and so are
those for a checkout of the repository, which would run all of its tests.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

ROOT = Path(__file__).parents[2]
OUR_NAME = "tornado_wsauth"
PACKAGE = re.compile(r"^(@[\w.-]+/)?[\w.+-]+([@=<>~!]=?[\w.*^~-]+)?$")


class BadCommandError(Exception):
    """A command that nobody can run as it stands there."""


def logical_lines(code: str) -> Iterator[tuple[int, str]]:
    """Yield each line of a shell block with its number, from 0; lines that end in a backslash as one."""
    start, whole = 0, ""
    for number, line in enumerate(code.split("\n")):
        start = start if whole else number
        if line.endswith("\\"):
            whole += line[:-1]
            continue
        yield start, whole + line
        whole = ""


def words_of(command: str) -> list[str]:
    """Return the words of a command without what is said of variables and ``sudo`` before it."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        raise BadCommandError(f"{command}: {error}") from error
    while words and (words[0] == "sudo" or re.match(r"^\w+=", words[0])):
        words = words[1:]
    return words


def without_installing(line: str) -> str:
    """Return a line without its parts that install, having checked them. Raises `BadCommandError`."""
    parts = re.split(r"\s+&&\s+", line)
    try:
        words = [words_of(part) for part in parts]
    except BadCommandError:
        return line  # a part of something longer, such as a text over several lines; bash will say what is wrong
    kept = [part for part, of_it in zip(parts, words, strict=True) if not check_installing(of_it)]
    return line if len(kept) == len(parts) else " && ".join(kept)


def check_installing(words: list[str]) -> bool:
    """Say whether a command installs something. Raises `BadCommandError` if it does and cannot be right."""
    match [Path(words[0]).name if words else "", *words[1:]]:
        case ["pip" | "pip3", "install", *rest] | ["uv", "pip", "install", *rest]:
            _check_pip(rest)
        case ["python" | "python3", "-m", "pip", "install", *rest]:
            _check_pip(rest)
        case ["python" | "python3", "-m", "venv", _]:
            pass
        case ["apt-get" | "apt", "update"] | ["npm", "ci"]:
            pass
        case ["apt-get" | "apt" | "npm", "install" | "i", *rest]:
            for name in _without_options(rest):
                if not PACKAGE.match(name) and not name.startswith(("file:", "$")):
                    raise BadCommandError(f"{name!r} is no package's name")
        case ["git", "clone", address, *_]:
            if not re.match(r"^https://[\w./-]+$", address):
                raise BadCommandError(f"{address!r} is no address to clone from")
        case _:
            return False
    return True


def _without_options(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _check_pip(words: list[str]) -> None:
    named = _without_options(words)
    if not named:
        raise BadCommandError("pip install: of what?")
    if "-r" in words:
        return
    for word in named:
        try:
            wanted = Requirement(re.sub(r"^\.(?=\[|$)", OUR_NAME, word))
        except InvalidRequirement as error:
            raise BadCommandError(f"pip install {word!r}: {error}") from error
        unknown = wanted.extras - extras() if wanted.name in {OUR_NAME, "tornado-wsauth"} else set()
        if unknown:
            raise BadCommandError(f"pip install {word!r}: there is no extra {', '.join(sorted(unknown))}")


def extras() -> set[str]:
    """Return the names of the package's extras, from ``setup.py``."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "extras_require" and isinstance(node.value, ast.Dict):
            return {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    raise AssertionError("setup.py has no extras_require")


def check_in_checkout(code: str) -> None:
    """Check each command of a block for a checkout: what it names is there. Raises `BadCommandError`."""
    folder = ROOT
    for _, line in logical_lines(code):
        for part in re.split(r"\s+&&\s+", line):
            words = words_of(part)
            if words[:1] == ["cd"]:
                folder = ROOT / words[1]
                _must_exist(folder)
            elif words and not check_installing(words):
                _check_command([Path(words[0]).name, *words[1:]], folder)


def _check_command(words: list[str], folder: Path) -> None:
    match words:
        case ["tox", "run-parallel"]:
            pass
        case ["tox", "run", "-e", names, *rest]:
            for factor in re.split(r"[-,]", names):
                if not re.search(rf"\b{factor}\b", _tox_factors()):
                    raise BadCommandError(f"tox run -e {names}: tox.ini knows nothing of {factor!r}")
            if names == "bench" and rest[:1] == ["--"]:
                _check_module(f"benchmarks.{rest[1]}", rest[2:])
        case ["python" | "python3", "-m", "pytest", *rest] | ["pytest", *rest]:
            for word in _without_options(rest):
                if "/" in word:
                    _must_exist(ROOT / word)
        case ["python" | "python3", "-m", module, *rest]:
            _check_module(module, rest)
        case ["npm", "run", script]:
            if script not in json.loads((folder / "package.json").read_text(encoding="utf-8"))["scripts"]:
                raise BadCommandError(f"npm run {script}: {folder.name}/package.json has no such script")
        case ["prometheus" | "promtool" | "grafana-cli", *rest]:
            for word in rest:
                if "/" in word and "://" not in word:
                    _must_exist(ROOT / word.rpartition("=")[2])
        case ["ruff" | "mypy", *_]:
            pass
        case _:
            raise BadCommandError(f"{shlex.join(words)}: nothing here knows this command; see _check_command")


def _check_module(module: str, arguments: list[str]) -> None:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise BadCommandError(f"python -m {module}: there is no such module")
    place = Path(found.origin)
    sources = place.parent.rglob("*.py") if place.name == "__init__.py" else place.parent.glob("*.py")
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    for option in arguments:
        if option.startswith("--") and f'"{option}"' not in text:
            raise BadCommandError(f"python -m {module} has no option {option}")


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise BadCommandError(f"{path.relative_to(ROOT)} does not exist")


def _tox_factors() -> str:
    """Return the names of tox's environments, with what their braces stand for written out."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    named = [section.removeprefix("testenv:") for section in tox.sections()]
    listed = re.sub(
        r"(\w*)\{([\w,]+)\}",
        lambda braces: " ".join(braces[1] + part for part in braces[2].split(",")),
        tox["tox"]["env_list"],
    )
    return " ".join([*named, listed])
