"""Runs the Python blocks of one page, one after the other, in one namespace; a process of its own.

Started by ``namespace.py`` as a script, in the page's directory. It reads one JSON object a line from its standard
input, ``{"code", "file", "line"}``, and answers each on the standard output it began with, ``{"printed", "error"}``.
Its event loop runs all the time, so what a block starts goes on while the next is awaited, as in a notebook.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import sys
import traceback
from types import ModuleType
from typing import Any


def innermost_line(error: BaseException, file: str, line: int) -> int:
    """Return the line of the page that the error comes from: the last of the traceback that is on the page."""
    if isinstance(error, SyntaxError) and error.filename == file and error.lineno:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] or line if lines else line


async def run(code: str, file: str, line: int, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run one block; return what it printed, and what it raised."""
    printed = io.StringIO()
    answer: dict[str, Any] = {"error": None, "line": line}
    try:
        with contextlib.redirect_stdout(printed):
            compiled = compile("\n" * (line - 1) + code, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
            result = eval(compiled, namespace)
            if inspect.isawaitable(result):
                await result
            await asyncio.sleep(0)
    except BaseException as error:
        answer["error"] = "".join(traceback.format_exception(error))
        answer["line"] = innermost_line(error, file, line)
    return {**answer, "printed": printed.getvalue()}


async def serve(answers: io.TextIOWrapper) -> None:
    """Answer one request after the other until the input ends."""
    page = sys.modules["__main__"] = ModuleType(
        "__main__"
    )  # where its classes are looked up, to be pickled for example
    while line := await asyncio.to_thread(sys.stdin.readline):
        answers.write(json.dumps(await run(**json.loads(line), namespace=vars(page))) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a child process prints must not look like an answer
    asyncio.run(serve(own))
