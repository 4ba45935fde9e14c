"""The public interface is what ``public_api.txt`` says; ``CHANGELOG.md`` names what differs from the last release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tornado_wsauth
from tests.release import ROOT, api, changelog

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

UNRELEASED = """# Changes

## 1.1.0 (unreleased)

- `WSAuth(color=…)`, and a broadcast that is faster.

## 1.0.0 (2026-12-01)

- `paint` was new.
"""

OLD = {
    "m.WSAuth": "class()",
    "m.WSAuth(jwt)": "positional or keyword 1: JWTVerifier",
    "m.WSAuth.close": "async function -> None",
    "m.WSAuth.close(grace)": "keyword-only: float = 10",
}


@pytest.fixture
def snapshot() -> api.API:
    return api.from_text(api.CURRENT.read_text(encoding="utf-8"))


@pytest.fixture
def released() -> api.API:
    return api.from_text(api.RELEASED.read_text(encoding="utf-8"))


def test_the_public_interface_is_the_one_that_was_written_down(snapshot: api.API) -> None:
    changed = changelog.differences(snapshot, api.read_api())
    assert changed == {}, (
        f"the public interface is another one: {changed}. If that is meant, name it in `code` under the unreleased "
        "heading of CHANGELOG.md, then write it down with: python -m tests.release.api --write"
    )


def test_the_changelog_names_all_that_differs_from_the_last_release(snapshot: api.API, released: api.API) -> None:
    newest = changelog.sections(CHANGELOG)[0]
    missing = [] if newest.is_released else changelog.unnamed(released, snapshot, newest)
    assert missing == [], (
        f"CHANGELOG.md does not name, in `code` under {newest.version} (unreleased): {', '.join(missing)}"
    )


def test_a_released_version_has_the_interface_it_was_released_with(snapshot: api.API, released: api.API) -> None:
    newest = changelog.sections(CHANGELOG)[0]
    changed = changelog.differences(released, snapshot) if newest.is_released else {}
    assert changed == {}, (
        f"{newest.version} is released and its interface has changed since: {changed}. Raise __version__ and begin "
        "'## <version> (unreleased)' in CHANGELOG.md; or, if this is the release: python -m tests.release.api --release"
    )


def test_the_last_release_is_on_record_if_there_was_one(released: api.API) -> None:
    assert bool(released) == any(section.is_released for section in changelog.sections(CHANGELOG))


def test_the_newest_heading_of_the_changelog_is_the_packages_version() -> None:
    assert changelog.sections(CHANGELOG)[0].version == tornado_wsauth.__version__


def test_every_public_name_of_the_package_is_on_record(snapshot: api.API) -> None:
    """The snapshot is read from source, ``__all__`` is what the interpreter sees."""
    on_record = {name.split(".")[1] for name in snapshot if name.count(".") == 1 and "(" not in name}
    on_record -= {name.split(".")[1] for name in snapshot if name.startswith("tornado_wsauth_pytest.")}
    assert on_record == set(tornado_wsauth.__all__)


@pytest.mark.parametrize(
    ("file", "before", "after", "difference"),
    [
        ("auth.py", "token_ttl: float = 30", "token_ttl: float = 31", ("tornado_wsauth.WSAuth(token_ttl)", "changed")),
        ("broadcaster.py", "def start(", "def begin(", ("tornado_wsauth.Broadcaster.start", "removed")),
        ("errors.py", "FORBIDDEN = 4403", "FORBIDDEN = 4404", ("tornado_wsauth.CloseCode.FORBIDDEN", "changed")),
        ("__init__.py", '    "Clock",\n', "", ("tornado_wsauth.Clock", "removed")),
    ],
    ids=["a default", "a method", "a member", "an export"],
)
def test_a_change_in_the_source_is_a_difference(
    tmp_path: Path, snapshot: api.API, file: str, before: str, after: str, difference: tuple[str, str]
) -> None:
    shutil.copytree(ROOT / "tornado_wsauth", tmp_path / "tornado_wsauth")
    shutil.copy(ROOT / "tornado_wsauth_pytest.py", tmp_path)
    source = tmp_path / "tornado_wsauth" / file
    text = source.read_text(encoding="utf-8")
    assert before in text, "what this test changes is no longer there"
    source.write_text(text.replace(before, after, 1), encoding="utf-8")
    assert difference in changelog.differences(snapshot, api.read_api(tmp_path)).items()


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, []),
        ({"m.WSAuth(color)": "keyword-only: str"}, []),
        ({"m.WSAuth(size)": "keyword-only: int"}, ["m.WSAuth(size) (added)"]),
        ({"m.WSAuth.broadcast": "function -> None"}, ["m.WSAuth.broadcast (added)"]),
        ({"m.WSAuth.close(grace)": "keyword-only: float = 9"}, ["m.WSAuth.close(grace) (changed)"]),
        ({"m.WSAuth.close": None, "m.WSAuth.close(grace)": None}, ["m.WSAuth.close (removed)"]),
        ({"m.paint": "function -> None", "m.paint(color)": "keyword-only: str"}, ["m.paint (added)"]),
    ],
    ids=[
        "nothing",
        "named",
        "not named",
        "in prose only",
        "a default",
        "removed with its argument",
        "in an old section",
    ],
)
def test_a_difference_is_missed_unless_the_unreleased_section_names_it(
    change: dict[str, str | None], missing: list[str]
) -> None:
    new = {name: what for name, what in {**OLD, **change}.items() if what is not None}
    assert changelog.unnamed(OLD, new, changelog.sections(UNRELEASED)[0]) == missing


def test_a_heading_that_is_not_understood_is_an_error_and_no_end_of_the_search() -> None:
    with pytest.raises(ValueError, match=r"'## 1\.2\.0 - soon' is no heading"):
        changelog.sections("# Changes\n\n## 1.2.0 - soon\n")
