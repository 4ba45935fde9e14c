"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tornado.websocket import WebSocketHandler

import tornado_wsauth
from tornado_wsauth import wire

PACKAGE = Path(tornado_wsauth.__file__).parent
DRIVERS = ("pymongo", "bson", "motor", "redis", "gridfs", "prometheus_client")


def run(code: str) -> str:
    """Run ``code`` in a fresh interpreter, warnings being errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {DRIVERS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def test_these_are_the_public_names():
    assert sorted(tornado_wsauth.__all__) == [
        "AuthError",
        "AuthSession",
        "Backplane",
        "BackplaneError",
        "Broadcaster",
        "ClientFilesHandler",
        "Clock",
        "CloseCode",
        "ConfigurationError",
        "Connections",
        "FanOut",
        "HealthHandler",
        "JWKS",
        "JWTVerifier",
        "KeySourceError",
        "Lease",
        "MemoryBackplane",
        "MemoryTokenStore",
        "MongoBackplane",
        "MongoLease",
        "MongoTokenStore",
        "Observer",
        "RedisBackplane",
        "RedisLease",
        "RedisTokenStore",
        "TokenHandler",
        "TokenLimitReached",
        "TokenRecord",
        "TokenRejected",
        "TokenReplay",
        "TokenStore",
        "TokenStoreError",
        "WSAuth",
        "WSAuthError",
        "WebSocketAuthMixin",
    ]
    assert len(set(tornado_wsauth.__all__)) == len(tornado_wsauth.__all__)


@pytest.mark.parametrize("name", tornado_wsauth.__all__)
def test_a_public_name_can_be_imported_and_knows_its_purpose(name):
    thing = getattr(tornado_wsauth, name)
    assert thing.__module__.startswith("tornado_wsauth.")
    assert thing.__doc__, "a public name has a docstring"


def test_every_name_of_ours_in_the_package_is_a_public_one():
    modules = {path.stem for path in PACKAGE.iterdir()}
    ours = {
        name
        for name, thing in vars(tornado_wsauth).items()
        if getattr(thing, "__module__", "").startswith("tornado_wsauth") and not name.startswith("_")
    }
    assert ours - set(tornado_wsauth.__all__) - modules == set()


def test_a_star_import_brings_the_public_names():
    code = "from tornado_wsauth import *; print('WSAuth' in dir(), 'MongoTokenStore' in dir(), 'annotations' in dir())"
    assert run(code) == "True True False"


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_importing_the_package_imports_no_driver():
    code = f"import sys, tornado_wsauth; print([name for name in {DRIVERS} if name in sys.modules])"
    assert run(code) == "[]"


def test_the_package_works_without_any_driver():
    code = BLOCK + "import tornado_wsauth; print(tornado_wsauth.MemoryTokenStore.__name__)"
    assert run(code) == "MemoryTokenStore"


def test_metrics_without_their_client_say_what_to_install():
    code = BLOCK + "try: import tornado_wsauth.metrics\nexcept ImportError as error: print(error)"
    assert run(code) == 'tornado_wsauth.metrics needs prometheus_client: pip install "tornado_wsauth[metrics]"'


@pytest.mark.parametrize("statement", ["tornado_wsauth.{}", "from tornado_wsauth import {}"], ids=["name", "from"])
@pytest.mark.parametrize(
    ("name", "extra"),
    [
        (f"{engine}{thing}", engine.lower())
        for engine in ("Mongo", "Redis")
        for thing in ("Backplane", "Lease", "TokenStore")
    ],
)
def test_naming_a_store_without_its_driver_says_what_to_install(statement, name, extra):
    code = (
        BLOCK
        + f"""
import tornado_wsauth
try:
    {statement.format(name)}
except ImportError as error:
    print(error)
"""
    )
    assert f'pip install "tornado_wsauth[{extra}]"' in run(code)


def test_looking_for_a_name_without_its_driver_is_no_attribute_error():
    """``hasattr`` that answers no would hide what is missing."""
    code = (
        BLOCK
        + """
import tornado_wsauth
try:
    hasattr(tornado_wsauth, "MongoTokenStore")
except ImportError as error:
    print(error.name)
"""
    )
    assert run(code) in DRIVERS


def test_naming_the_mongo_store_imports_it():
    pytest.importorskip("pymongo")
    from tornado_wsauth.stores.mongo import MongoTokenStore

    assert tornado_wsauth.MongoTokenStore is MongoTokenStore


def test_naming_the_redis_store_imports_it():
    pytest.importorskip("redis")
    from tornado_wsauth.stores.redis import RedisTokenStore

    assert tornado_wsauth.RedisTokenStore is RedisTokenStore


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'tornado_wsauth' has no attribute 'MongoTokenStor'"):
        _ = tornado_wsauth.MongoTokenStor
    with pytest.raises(ImportError):
        from tornado_wsauth import NoSuchName  # noqa: F401


def test_the_mixin_adds_three_public_names_and_no_more():
    added = {name for name in dir(tornado_wsauth.WebSocketAuthMixin) if not name.startswith("_")}
    known = {name for name in dir(WebSocketHandler) if not name.startswith("_")}
    assert added - known == {"auth_session", "load_auth_user", "on_auth_failed"}


def test_the_mixins_private_names_are_its_own():
    private = {
        name for name in vars(tornado_wsauth.WebSocketAuthMixin) if name.startswith("_") and not name.startswith("__")
    }
    private.discard(wire.CURRENT_USER)  # a slot for what every handler has
    assert [name for name in private if not name.startswith("_wsauth_")] == []


@pytest.mark.gen_test
async def test_an_open_handler_has_no_further_public_names_of_ours(serve, login):
    from tests.support import Echo

    server = serve(Echo)
    await login(server)
    (handler,) = server.auth.connections
    ours = {name for name in vars(handler) if name.lstrip("_").startswith("wsauth") or "auth" in name}
    assert {name for name in ours if not name.startswith("_wsauth_")} == set()


def test_every_error_is_one_of_ours():
    errors = [getattr(tornado_wsauth, name) for name in tornado_wsauth.__all__ if name.endswith(("Error", "Rejected"))]
    assert len(errors) >= 6
    assert all(issubclass(error, tornado_wsauth.WSAuthError) for error in errors)
    assert issubclass(tornado_wsauth.TokenLimitReached, tornado_wsauth.WSAuthError)
    assert issubclass(tornado_wsauth.ConfigurationError, ValueError)
    assert issubclass(tornado_wsauth.TokenRejected, tornado_wsauth.AuthError)
    assert not issubclass(tornado_wsauth.TokenStoreError, tornado_wsauth.AuthError), "no answer is not a no"


def test_the_close_codes_are_those_of_the_protocol():
    assert {code.name: int(code) for code in tornado_wsauth.CloseCode} == {
        "GOING_AWAY": 1001,
        "INTERNAL_ERROR": 1011,
        "SERVICE_RESTART": 1012,
        "TRY_AGAIN_LATER": 1013,
        "BAD_MESSAGE": 4400,
        "UNAUTHORIZED": 4401,
        "FORBIDDEN": 4403,
        "AUTH_TIMEOUT": 4408,
        "REPLACED": 4409,
        "TOO_MANY": 4429,
    }
