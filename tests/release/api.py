"""The public interface as text, one line for each thing somebody may rely on.

``python -m tests.release.api`` shows it, ``--write`` keeps it in ``public_api.txt``, and ``--release`` in
``released_api.txt`` as well, which is what `changelog` measures the next release by. The code is read and not run, so
no database driver need be there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

from tests.release import ROOT

CURRENT = Path(__file__).with_name("public_api.txt")
RELEASED = Path(__file__).with_name("released_api.txt")

MODULES = (
    "tornado_wsauth",
    "tornado_wsauth.backplane.base",
    "tornado_wsauth.client",
    "tornado_wsauth.leases.base",
    "tornado_wsauth.metrics",
    "tornado_wsauth.stores.base",
    "tornado_wsauth.testing",
    "tornado_wsauth_pytest",
)
"""What applications import from. Whatever else the package has is its own affair."""

_NOT_PROMISED = {
    "__init__",
    "__repr__",
    "__str__",
    "__slots__",
    "__getattr__",
    "__post_init__",
}  # the first by its class

API = dict[str, str]
"""What each thing is, by its name: ``"tornado_wsauth.WSAuth.close(grace)": "argument 1: float = 10"``."""


def read_api(root: Path = ROOT) -> API:
    """Return the public interface of the source under ``root``."""
    loader = griffe.GriffeLoader(search_paths=[root], allow_inspection=False)
    for package in sorted({module.partition(".")[0] for module in MODULES}):
        loader.load(package, try_relative_path=False)  # else the working directory comes before `root`
    loader.resolve_aliases(implicit=True)
    api: API = {}
    for name in MODULES:
        try:
            module = loader.modules_collection[name]
        except KeyError:
            continue  # its names are then missing, and a comparison says so
        for member in _public_names(module):
            api.update(_describe(f"{name}.{member}", module.members[member]))
    return dict(sorted(api.items()))


def as_text(api: API) -> str:
    return "".join(f"{name} -- {what}\n" for name, what in api.items())


def from_text(text: str) -> API:
    return dict(line.split(" -- ", 1) for line in text.splitlines())


def _public_names(module: griffe.Object | griffe.Alias) -> list[str]:
    exports = module.exports
    if exports is not None:
        return sorted(str(name) for name in exports)
    return sorted(name for name, member in module.members.items() if not name.startswith("_") and not member.is_alias)


def _describe(path: str, thing: griffe.Object | griffe.Alias) -> Iterator[tuple[str, str]]:
    if thing.is_alias and isinstance(thing, griffe.Alias):
        thing = thing.final_target
    if isinstance(thing, griffe.Class):
        bases = ", ".join(str(base) for base in thing.bases)
        yield path, f"class({bases})"
        yield from _parameters(path, thing.parameters)
        for name, member in thing.all_members.items():
            if _is_promised(name, member):
                yield from _describe(f"{path}.{name}", member)
    elif isinstance(thing, griffe.Function):
        kinds = [kind for kind in ("async", "classmethod", "staticmethod", "abstractmethod") if kind in thing.labels]
        yield path, f"{' '.join([*kinds, 'function'])} -> {thing.returns}"
        yield from _parameters(path, thing.parameters)
    elif isinstance(thing, griffe.Attribute):
        kind = "property" if "property" in thing.labels else "attribute"
        if thing.annotation:
            kind += f": {thing.annotation}"
        elif "class-attribute" in thing.labels:  # such as a member of an enumeration
            kind += f" = {thing.value}"
        yield path, kind


def _is_promised(name: str, member: griffe.Object | griffe.Alias) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return member.is_function and name not in _NOT_PROMISED
    return not name.startswith("_")


def _parameters(path: str, parameters: griffe.Parameters) -> Iterator[tuple[str, str]]:
    position = 0
    for parameter in parameters:
        if parameter.name in ("self", "cls") or (
            parameter.name.startswith("_") and parameter.kind is griffe.ParameterKind.keyword_only
        ):
            continue
        kind = str(parameter.kind.value if parameter.kind else "argument")
        if parameter.kind in (griffe.ParameterKind.positional_only, griffe.ParameterKind.positional_or_keyword):
            position += 1
            kind = f"{kind} {position}"
        default = "" if parameter.default is None or "variadic" in kind else f" = {parameter.default}"
        yield f"{path}({parameter.name})", f"{kind}: {parameter.annotation}{default}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.release.api", description="The public interface, as text.")
    parser.add_argument("--write", action="store_true", help=f"keep it in {CURRENT.name}")
    parser.add_argument("--release", action="store_true", help=f"keep it in {RELEASED.name}, too: this is a release")
    arguments = parser.parse_args(argv)
    text = as_text(read_api())
    targets = [CURRENT] * (arguments.write or arguments.release) + [RELEASED] * arguments.release
    for target in targets:
        target.write_text(text, encoding="utf-8")
    if not targets:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
