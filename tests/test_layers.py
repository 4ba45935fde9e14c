"""Imports run one way, and only `wire` knows what Tornado does not document."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

import tornado_wsauth

ROOT = Path(tornado_wsauth.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(), str(path))
    for path in sorted(ROOT.rglob("*.py"))
}
DRIVERS = {"pymongo", "bson", "motor", "redis", "gridfs"}


def imported(name: str, *, runtime_only: bool = False) -> set[str]:
    """Return the dotted names a module imports; ``from a import b`` counts as ``a`` and ``a.b``."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if runtime_only and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; write the whole name"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(MODULES[name])
    return found


def ours(name: str, *, runtime_only: bool = False) -> set[str]:
    """Return which of our modules a module imports."""
    names = imported(name, runtime_only=runtime_only)
    return {other for other in MODULES if f"tornado_wsauth.{other}" in names} - {name}


def others(name: str) -> set[str]:
    """Return the top-level packages a module imports that are not ours."""
    return {found.partition(".")[0] for found in imported(name)} - {"tornado_wsauth"}


def test_the_modules_are_found():
    expected = {"errors", "tokens", "gate", "verifier", "wire", "auth", "mixin", "guard", "stores.base"}
    assert expected <= set(MODULES)
    assert "errors" in ours("tokens") | ours("verifier"), "the search finds what is there"


def test_errors_imports_nothing_but_the_standard_library():
    assert ours("errors") == set()
    assert others("errors") <= {"__future__", "enum", "typing"}


@pytest.mark.parametrize(
    "name",
    [
        *("errors", "tokens", "gate", "verifier"),
        *(name for name in MODULES if name.startswith(("stores", "backplane", "leases"))),
    ],
)
def test_what_must_not_know_tornado_does_not(name):
    assert "tornado" not in others(name)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("errors", set()),
        ("tokens", {"errors"}),
        ("gate", {"errors"}),
        ("verifier", {"errors"}),
        ("message", set()),
        ("wire", {"message"}),
        ("log", set()),
        ("clock", set()),
        ("redaction", set()),
        ("stores.__init__", set()),
        ("stores.base", {"errors", "tokens"}),
        ("stores.memory", {"errors", "tokens", "stores.base"}),
        ("stores.mongo", {"errors", "tokens", "stores.base", "drivers.mongo"}),
        ("stores.redis", {"errors", "tokens", "stores.base", "drivers.redis"}),
        ("backplane.base", set()),
        ("backplane.envelope", set()),
        ("leases.base", set()),
    ],
)
def test_a_lower_room_knows_only_the_ones_below_it(name, allowed):
    assert ours(name) <= allowed


def test_every_store_knows_only_what_a_store_may():
    for name in MODULES:
        if name.startswith("stores."):
            assert ours(name) <= {"errors", "tokens", "stores.base", "drivers.mongo", "drivers.redis"}, name


LAYERS = [
    {"errors", "clock", "log", "redaction", "message", "backoff", "once"},
    {"observer"},
    {"tokens", "gate", "verifier", "wire", "agenda", "failures", "pace", "drain"},
    {"stores.base", "jwks", "options", "binding", "drivers.__init__"},
    {"drivers.mongo", "drivers.redis"},
    {"stores.memory", "stores.mongo", "stores.redis", "stores.__init__"},
    {"backplane.base", "backplane.envelope", "leases.base"},
    {"backplane.inbox", "backplane.outbox", "backplane.subscriptions", "backplane.__init__", "leases.__init__"},
    {"backplane.engine", "backplane.memory"},
    {"backplane.mongo", "backplane.redis", "leases.mongo", "leases.redis"},
    {"fanout"},
    {"connections"},
    {"session", "places"},
    {"lifetime", "cluster"},
    {"reach", "credentials", "readiness"},
    {"auth"},
    {"handshake"},
    {"admission"},
    {"guard"},
    {"mixin", "token_handler", "broadcaster", "client_files", "health", "metrics"},
    {"__init__"},
    {"client.reactions"},
    {"client.errors"},
    {"client.inbox", "client.options", "client.credentials"},
    {"client.requests", "client.exchange"},
    {"client.renewal"},
    {"client.connection"},
    {"client.__init__"},
    {"client.console"},
    {"client.terminal"},
    {"doctor.findings", "doctor.loading", "doctor.routes", "doctor.secrets", "doctor.__init__"},
    {"doctor.report", "doctor.specimen", "doctor.subject", "doctor.mongo", "doctor.redis"},
    {"doctor.cors", "doctor.keys", "doctor.processes", "doctor.proxies", "doctor.routing"},
    {"doctor.servers", "doctor.sockets"},
    {"doctor.checks"},
    {"doctor.command"},
    {"__main__"},
    {"testing.client", "testing.clock", "testing.credentials"},
    {"testing.connection", "testing.target"},
    {"testing.case", "testing.attack"},
    {"testing.credential_attacks", "testing.frame_attacks"},
    {"testing.attacks"},
    {"testing.conformance"},
    {"testing.__init__"},
]


def test_imports_run_one_way():
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    assert set(height) == set(MODULES), "a new module needs a place among the layers"
    upward = {
        (name, other) for name in MODULES for other in ours(name, runtime_only=True) if height[other] > height[name]
    }
    assert upward == set()


def test_the_library_does_not_know_what_tests_it():
    knowing = {name for name in MODULES if any(found.startswith("tornado_wsauth.testing") for found in imported(name))}
    assert "testing.__init__" in knowing
    assert {name for name in knowing if not name.startswith("testing.")} == set()


def test_nothing_in_the_package_needs_pytest():
    """The fixtures stand in a module of their own, ``tornado_wsauth_pytest``."""
    assert {name for name in MODULES if others(name) & {"pytest", "_pytest"}} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("testing.")])
def test_the_kit_needs_no_more_than_the_library_does(name):
    assert others(name) <= {"tornado", "jwt"} | sys.stdlib_module_names


def test_no_module_imports_itself_in_a_circle():
    done: set[str] = set()

    def reach(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, " -> ".join([*seen, name])
        if name not in done:
            for other in ours(name, runtime_only=True):
                reach(other, (*seen, name))
            done.add(name)

    for name in MODULES:
        reach(name, ())


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__init__")])
def test_a_driver_is_known_only_by_the_module_named_after_it(name):
    known = others(name) & DRIVERS
    if name.endswith(".mongo"):
        assert known <= {"pymongo", "bson"}
    elif name.endswith(".redis"):
        assert known <= {"redis"}
    else:
        assert known == set()


def test_only_the_guard_drives_the_gate():
    drivers = {name for name in MODULES if "gate" in ours(name)}
    assert "guard" in drivers
    others = drivers - {"guard", "admission"}
    assert others <= {"auth", "handshake", "lifetime", "places", "reach"}
    from_gate = {found for name in others for found in imported(name) if found.startswith("tornado_wsauth.gate.")}
    taken = {found.rpartition(".")[2] for found in from_gate}
    assert all(name.isupper() for name in taken - {"Close"}), "they may take a decision, no behaviour"


def test_wire_is_used_only_where_tornado_is_wired():
    assert {name for name in MODULES if "wire" in ours(name, runtime_only=True)} <= {
        "binding",
        "client.exchange",
        "client.requests",
        "doctor.specimen",
        "fanout",
        "guard",
        "handshake",
        "mixin",
    }


UNDOCUMENTED = {
    "ws_connection",
    "params",
    "stream",
    "open_args",
    "open_kwargs",
    "ping_interval",
    "ping_timeout",
    "max_message_size",
}

WORDS = {"params", "stream"}
"""Those of them that a string may hold without meaning the attribute."""


@functools.cache
def private_names_of_tornado() -> set[str]:
    """Return every attribute with one leading underscore that Tornado's own classes set or define."""
    import tornado.http1connection
    import tornado.httputil
    import tornado.iostream
    import tornado.web
    import tornado.websocket

    names = set()
    for module in (tornado.web, tornado.websocket, tornado.iostream, tornado.http1connection, tornado.httputil):
        assert module.__file__ is not None
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.add(node.name)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@functools.cache
def own_names(name: str) -> set[str]:
    """Return the private names a module defines itself: attributes of ``self``, functions, slots."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_the_search_for_private_names_finds_tornados():
    assert {"_check_cross_origin", "_write_buffer"} & private_names_of_tornado()


@pytest.mark.parametrize("name", [name for name in MODULES if name != "wire"])
def test_only_wire_touches_what_tornado_does_not_document(name):
    mine = set().union(*(own_names(module) for module in MODULES))
    forbidden = UNDOCUMENTED | (private_names_of_tornado() - mine)
    touched = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Attribute) and node.attr in forbidden:
            touched.add(f"{name}:{node.lineno} .{node.attr}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in forbidden - WORDS:
            touched.add(f"{name}:{node.lineno} {node.value!r}")
    assert touched == set()


def test_wire_is_what_touches_it():
    touched = {node.attr for node in ast.walk(MODULES["wire"]) if isinstance(node, ast.Attribute)}
    touched |= {node.value for node in ast.walk(MODULES["wire"]) if isinstance(node, ast.Constant)}
    assert "ws_connection" in touched


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name):
    if name == "stores.__init__" and not MODULES[name].body:
        return
    assert ast.get_docstring(MODULES[name])
