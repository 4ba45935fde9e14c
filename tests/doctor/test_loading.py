"""Whatever can be wrong with a target is told apart, with what to do."""

from __future__ import annotations

import asyncio
import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application

from tornado_wsauth.doctor import loading
from tornado_wsauth.doctor.loading import LoadError, load

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into an empty working directory: ``module(source)`` returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(source: str) -> str:
        name = f"doctored_{next(_numbers)}"
        Path(f"{name}.py").write_text(textwrap.dedent(source))
        return name

    return write


APP = "from tornado.web import Application\nfrom tornado.httpserver import HTTPServer\n"


async def failure(name: str) -> str:
    with pytest.raises(LoadError) as caught:
        await load(name)
    return str(caught.value)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("source", "attribute", "kind"),
    [
        ("app = Application()", "app", Application),
        ("class holder: app = Application()", "holder.app", Application),
        ("def make(): return Application()", "make", Application),
        ("def make(debug=False): return Application()", "make", Application),
        ("async def make(): return Application()", "make", Application),
        ("class App(Application): pass", "App", Application),
        ("server = HTTPServer(Application())", "server", HTTPServer),
        ("async def make(): return HTTPServer(Application())", "make", HTTPServer),
        ("import asyncio\nloop = asyncio.get_running_loop()\napp = Application()", "app", Application),
    ],
)
async def test_what_a_server_would_be_given_is_loaded(module, source, attribute, kind):
    assert isinstance(await load(f"{module(APP + source)}:{attribute}"), kind)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("source", "attribute", "words"),
    [
        ("import no_such_package", "app", ["cannot be imported", "no_such_package", "install"]),
        ("x = {}['JWT_SECRET']", "app", ["cannot be imported: KeyError: 'JWT_SECRET' (", "line 3"]),
        ("def broken(:", "app", ["cannot be imported: SyntaxError", "line 3"]),
        ("import sys; sys.exit(3)", "app", ["sys.exit(3)", "__main__"]),
        ("import asyncio\nasync def f(): ...\nc = f()\ntry: asyncio.run(c)\nfinally: c.close()", "app", ["__main__"]),
        ("import asyncio\nasyncio.get_event_loop().run_forever()", "app", ["already running", "__main__"]),
        ("good = Application()", "app", ["no 'app'", ":good"]),
        ("app = 3", "app", ["is a int", "tornado.web.Application"]),
        ("def make(): pass", "make", ["make() is a NoneType"]),
        ("def make(engine): return Application()", "make", ["without arguments", "engine"]),
        ("def make(): raise ValueError('first\\nsecond')", "make", ["make() failed: ValueError: first (", "line 3"]),
        ("async def make(): raise ValueError('no')", "make", ["make() failed: ValueError: no"]),
        ("async def make(): raise TimeoutError", "make", ["make() failed: TimeoutError"]),
        ("import sys\ndef make(): sys.exit('bye')", "make", ["sys.exit('bye')"]),
    ],
)
async def test_what_goes_wrong_is_said_with_what_to_do(module, source, attribute, words):
    said = await failure(f"{module(APP + source)}:{attribute}")
    assert all(word in said for word in words), said


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("app", "write module:attribute"),
        ("app:", "write module:attribute"),
        (":app", "write module:attribute"),
        ("app.py:app", "such as app:app"),
        ("./web/app.py:make", "such as web.app:make"),
        ("no_such_module:app", "no module 'no_such_module'"),
        ("no_such_package.module:app", "no module 'no_such_package'"),
    ],
)
async def test_a_name_that_leads_nowhere_is_told_what_is_wrong_with_it(module, name, words):
    assert words in await failure(name)


@pytest.mark.gen_test
async def test_a_function_that_serves_for_ever_is_given_up(module, monkeypatch):
    monkeypatch.setattr(loading, "PATIENCE", 0.05)
    name = module("import asyncio\nasync def main(): await asyncio.Event().wait()")
    assert "has not returned after 0.05 s" in await failure(f"{name}:main")


@pytest.mark.gen_test
async def test_the_last_place_in_the_application_is_named_and_not_one_in_a_library(module):
    name = module("import json\ndef make():\n    return json.loads('x')")
    assert f"{name}.py, line 3" in await failure(f"{name}:make")


@pytest.mark.gen_test
async def test_an_application_does_not_see_the_doctors_arguments(module, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["doctor", "--json"])
    name = module(APP + "import sys\napp = Application(argv=list(sys.argv))")
    app: Any = await load(f"{name}:app")
    assert app.settings["argv"] == [name]
    assert sys.argv == ["doctor", "--json"]


@pytest.mark.gen_test
async def test_a_function_is_called_in_the_loop_that_the_checks_run_in(module):
    name = module(APP + "import asyncio\ndef make(): return Application(loop=asyncio.get_running_loop())")
    app: Any = await load(f"{name}:make")
    assert app.settings["loop"] is asyncio.get_running_loop()
