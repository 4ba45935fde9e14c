"""Every page of the documentation is followed as a reader would: every block on it is executed or checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import PageError, read_blocks
from tests.docs.commands import ROOT
from tests.docs.languages import LANGUAGES
from tests.docs.runner import follow
from tests.redis_server import RedisServer

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE_OF_SPHINX = {"{code-block}", "{code}", "{sourcecode}", "{literalinclude}", "{code-cell}"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_reader_who_follows_the_page_gets_what_it_says(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def redis() -> str:
        server: RedisServer = request.getfixturevalue("own_redis")
        return server.url

    wrong = ""
    try:
        follow(page, tmp_path, redis=redis, mongodb=lambda: request.getfixturevalue("mongodb_uri"))
    except PageError as error:
        wrong = str(error)
    if wrong:
        pytest.fail(wrong, pytrace=False)  # page and line are what helps, not how the runner came there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_is_of_a_kind_that_is_run_or_checked(page: Path) -> None:
    for block in read_blocks(page):
        known = block.language in {"python", "sh", *LANGUAGES} or block.is_directive
        assert known, f"{page}:{block.line}: {block.language or 'a block without a language'}"
        assert block.language not in CODE_OF_SPHINX, f"{page}:{block.line}: write ```python, which is executed"
