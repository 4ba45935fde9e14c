"""The API reference is complete, and every page can be reached."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

import tornado_wsauth_pytest
from tests.docs.commands import ROOT

DOCS = ROOT / "docs"
MODULES = ["tornado_wsauth", "tornado_wsauth.client", "tornado_wsauth.testing"]
if importlib.util.find_spec("tornado_wsauth.metrics"):
    MODULES.append("tornado_wsauth.metrics")


def documented() -> list[str]:
    """Return what the pages of the API reference ask autodoc for."""
    text = "".join(
        page.read_text(encoding="utf-8")
        for page in sorted((DOCS / "api").glob("*.md"))
        if page.stem != "operations" or "tornado_wsauth.metrics" in MODULES
    )
    return re.findall(r"^\.\. auto(?:class|exception|function|data):: ([\w.]+)$", text, re.MULTILINE)


def names_of(module: str) -> list[str]:
    names: list[str] = importlib.import_module(module).__all__
    return names


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_of_the_module_stands_in_the_api_reference_once(module: str) -> None:
    names = [f"{module}.{name}" for name in names_of(module)]
    assert sorted(names) == sorted(name for name in documented() if name.rpartition(".")[0] == module)


def test_a_class_shows_what_it_has_from_classes_that_are_not_public() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    public = {getattr(importlib.import_module(module), name) for module in MODULES for name in names_of(module)}
    for one in filter(inspect.isclass, public):
        for base in one.__mro__[1:]:
            hidden = base.__module__.startswith("tornado_wsauth") and base not in public
            if hidden and not base.__name__.startswith("_") and any(not name.startswith("_") for name in vars(base)):
                shown = re.search(rf"auto\w+:: [\w.]+\.{one.__name__}\n   :inherited-members:", pages)
                assert shown, f"{one.__name__} has methods of {base.__qualname__}, which the reference does not show"


def test_every_fixture_for_pytest_stands_in_the_api_reference() -> None:
    fixtures = [
        f"tornado_wsauth_pytest.{name}"
        for name, value in vars(tornado_wsauth_pytest).items()
        if isinstance(value, FixtureFunctionDefinition)
    ]
    assert len(fixtures) > 3
    assert set(fixtures) <= set(documented())


def test_every_page_is_in_a_table_of_contents() -> None:
    listed: set[Path] = set()
    for page in DOCS.rglob("*.md"):
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
            lines = [line for line in tree.split("\n") if line and not line.startswith(":")]
            entries = [re.sub(r".*<(.+)>$", r"\1", line) for line in lines]
            listed.update(file for entry in entries for file in page.parent.glob(f"{entry}.md"))
    assert {page for page in DOCS.rglob("*.md") if page not in listed} == {DOCS / "index.md"}


def test_the_figures_that_are_drawn_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    plots = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    for plot in plots:
        for name, *values in plot["bars"]:
            for value in values:
                said = f"{value:,}" if value >= 1000 else f"{value:g}"
                row = rf"^\| \**{re.escape(name)}\**.*(?<![\d.,]){re.escape(said)}(?![\d,]|\.\d)"
                assert re.search(row, measured, re.MULTILINE), f"{plot['file']}: {name} has no {said} in the benchmarks"
