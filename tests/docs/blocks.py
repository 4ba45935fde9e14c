"""Takes a page of the documentation apart, into its blocks of code and what the comments before them say.

What the comments mean stands at the top of ``runner.py``. Nothing is run here.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

MARK = re.compile(r"^<!--\s*(setup|serves|prints|checkout)\b:?[ \t]*(.*?)\s*-->\s*$", re.DOTALL)
FILE_NAME = re.compile(r"^(?:#|//|;|<!--)\s*([\w./@-]*\w\.\w+)\s*(?:-->)?$")


class PageError(Exception):
    """Something on a page is not as it should be. The message begins with page and line, as editors like it."""

    def __init__(self, page: Path, line: int, what: str) -> None:
        super().__init__(f"{page}:{line}: {what}")
        self.page = page
        self.line = line


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code, as a reader sees it, or one that is hidden in a comment."""

    page: Path
    line: int
    """Where its first line of code stands on the page, from 1."""
    language: str
    """What stands behind the opening fence; empty where nothing does, or where the block is made by indentation."""
    code: str
    hidden: bool = False
    serves: str | None = None
    """The address that answers while the block runs."""
    prints: bool = False
    """It is what the block before it printed."""
    checkout: bool = False
    """Its commands are for a checkout of the repository: each is checked, none is run."""

    @property
    def file_name(self) -> str | None:
        """The file that this is the content of, if its first line names one."""
        named = FILE_NAME.match(self.code.split("\n", 1)[0].strip())
        return None if named is None else named[1]

    @property
    def is_directive(self) -> bool:
        """Whether it is an instruction to Sphinx, and no code."""
        return self.language.startswith("{")

    def wrong(self, what: str, line: int | None = None) -> PageError:
        """Return the error to raise about this block."""
        return PageError(self.page, self.line if line is None else line, what)


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order. Raises `PageError` for a comment that belongs to no block."""
    blocks: list[Block] = []
    marks: dict[str, tuple[int, str]] = {}
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    for token in tokens:
        if token.map is None or token.type == "inline":
            continue
        if token.type == "html_block":
            _read_comment(page, token, blocks, marks)
        elif token.type in {"fence", "code_block"}:
            blocks.append(_fence(page, token, marks))
            marks.clear()
        elif marks:
            break
    for kind, (line, _) in marks.items():
        raise PageError(page, line, f"<!-- {kind} --> stands before no block")
    return blocks


def _read_comment(page: Path, token: Token, blocks: list[Block], marks: dict[str, tuple[int, str]]) -> None:
    """Note what a comment says about the next block, or append the block that it hides."""
    assert token.map is not None
    mark = MARK.match(textwrap.dedent(token.content).strip())
    if mark is None:
        return
    line, (kind, rest) = token.map[0] + 1, mark.groups()
    if kind != "setup":
        marks[kind] = (line, rest)
        return
    language, _, code = rest.partition("\n")
    if language.strip() not in {"python", "sh"}:
        raise PageError(page, line, "say <!-- setup: python or <!-- setup: sh, and the code from the next line on")
    blocks.append(Block(page, line + 1, language.strip(), textwrap.dedent(code).rstrip() + "\n", hidden=True))


def _fence(page: Path, token: Token, marks: dict[str, tuple[int, str]]) -> Block:
    assert token.map is not None
    first = token.map[0] + (2 if token.type == "fence" else 1)
    return Block(
        page,
        first,
        (token.info.split() or [""])[0],
        token.content,
        serves=marks["serves"][1] if "serves" in marks else None,
        prints="prints" in marks,
        checkout="checkout" in marks,
    )
