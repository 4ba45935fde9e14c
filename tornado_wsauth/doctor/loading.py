"""Loading what is to be looked at: ``module:attribute``. `command` imports this module.

The module is imported while an event loop runs. So an application finds a loop, as it does in production; and one that
would serve as soon as it is imported fails at once, instead of serving for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType

from tornado.httpserver import HTTPServer
from tornado.routing import Router
from tornado.web import Application

PATIENCE = 30.0
"""Seconds that an asynchronous function may take to return the application."""

_WANTED = "a tornado.web.Application, a tornado.httpserver.HTTPServer, or a function without arguments that returns one"

_LIBRARIES = ("<frozen", __file__, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))

Target = Application | Router | HTTPServer


class LoadError(Exception):
    """There is nothing to look at. The message says why, and what to do; it may hold what the application said."""


async def load(name: str) -> Target:
    """Return what ``name`` stands for, such as ``app:make_app``; a function is called, and awaited.

    The working directory comes first on ``sys.path``. Must be called in an event loop. Raises `LoadError`.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise LoadError(f"{name!r}: write module:attribute, such as app:make_app")
    if module_name.endswith(".py") or os.sep in module_name:
        suggestion = module_name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise LoadError(f"{name!r}: name the module and not its file, such as {suggestion}:{attribute}")
    with _as_if_started_there(module_name):
        module = _import(module_name)
        return await _made(name, _attribute(module, attribute))


@contextlib.contextmanager
def _as_if_started_there(module_name: str) -> Iterator[None]:
    """Keep the doctor's own arguments from an application that reads ``sys.argv``, such as by `tornado.options`."""
    before = sys.argv
    sys.argv = [module_name]
    if (here := os.getcwd()) not in sys.path[:1]:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.argv = before


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"there is no module {error.name!r} in {os.getcwd()}, and none is installed; "
                "start the doctor where the application starts, or set PYTHONPATH"
            ) from None
        raise LoadError(f"{name} cannot be imported: {_cause(error)}; install what it needs beside it") from error
    except (Exception, SystemExit) as error:
        raise LoadError(f"{name} cannot be imported: {_cause(error)}{_hint(error)}") from error


def _attribute(module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            targets = [name for name, value in vars(module).items() if isinstance(value, (Application, HTTPServer))]
            others = f"; it has {', '.join(f'{module.__name__}:{name}' for name in targets)}" if targets else ""
            raise LoadError(f"{module.__name__} has no {path!r}{others}; name {_WANTED}") from None
    return found


async def _made(name: str, found: object) -> Target:
    """Call what is a function, and return what the server would be given."""
    is_target = isinstance(found, (Router, HTTPServer))
    if not is_target and callable(found):
        found = await _called(name, found)
        name = f"{name}()"
        is_target = isinstance(found, (Router, HTTPServer))
    if not is_target:
        raise LoadError(f"{name} is a {type(found).__qualname__}; name {_WANTED}")
    target: Target = found  # type: ignore[assignment]
    return target


async def _called(name: str, function: Callable[[], object]) -> object:
    """Return what ``function`` does, or the awaitable that it returns, in time."""
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise LoadError(f"{name} cannot be called without arguments: {error}; write a function that can") from None
    except ValueError:  # a builtin, whose signature nobody knows
        pass
    waiting = asyncio.timeout(PATIENCE)
    try:
        async with waiting:
            found = function()
            return await found if inspect.isawaitable(found) else found
    except (Exception, SystemExit) as error:
        if isinstance(error, TimeoutError) and waiting.expired():
            raise LoadError(
                f"{name}() has not returned after {PATIENCE:g} s; name a function that returns the application, and "
                "leaves serving to another"
            ) from None
        raise LoadError(f"{name}() failed: {_cause(error)}{_hint(error)}") from error


def _cause(error: BaseException) -> str:
    """Return what went wrong, and the last place in the application that had to do with it."""
    if isinstance(error, SystemExit):
        said = f"it called sys.exit({error.code!r})"
    else:
        words = str(error).strip().splitlines()
        said = ": ".join([type(error).__name__, *words[:1]])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARIES)]
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else said


def _hint(error: BaseException) -> str:
    if isinstance(error, SystemExit) or (isinstance(error, RuntimeError) and "event loop" in str(error)):
        return '; what serves, or reads arguments, belongs under if __name__ == "__main__":'
    return ""
