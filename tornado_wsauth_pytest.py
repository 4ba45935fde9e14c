"""pytest fixtures for applications that use tornado_wsauth, beside pytest-tornado's. pytest loads this module itself.

It stands outside of the package, and imports that inside the fixtures alone: every run of pytest on a machine that has
tornado_wsauth installed loads this module, and importing anything from within the package imports Tornado.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tornado_wsauth import WSAuth
    from tornado_wsauth.testing import AuthenticatedConnection, Credentials, ManualClock


@pytest.fixture
def wsauth_setting() -> str:
    """Override to name another application setting that holds the `WSAuth`."""
    return "wsauth"


@pytest.fixture
def wsauth(request: pytest.FixtureRequest, wsauth_setting: str) -> WSAuth:
    """The `WSAuth` of the application that the fixture ``app`` returns (``--app-fixture`` of pytest-tornado)."""
    from tornado_wsauth import WSAuth

    name = request.config.getoption("app_fixture", "app")
    auth = request.getfixturevalue(name).settings.get(wsauth_setting)
    if not isinstance(auth, WSAuth):
        pytest.fail(
            f"the fixture {name!r} returned an application with {auth!r} under {wsauth_setting!r}; write "
            f"Application(handlers, {wsauth_setting}=WSAuth(jwt=…)), or name its setting in a fixture wsauth_setting",
            pytrace=False,
        )
    return auth


@pytest.fixture
def wsauth_credentials(wsauth: WSAuth) -> Iterator[Credentials]:
    """JWTs and tokens that the application accepts; its own key is out of place for the test."""
    from tornado_wsauth.testing import Credentials

    with Credentials(wsauth) as credentials:
        yield credentials


@pytest.fixture
def wsauth_clock(wsauth: WSAuth) -> Iterator[ManualClock]:
    """A clock that stands still until the test turns it; the application's authentication goes by it."""
    from tornado_wsauth.testing import manual_clock

    with manual_clock(wsauth) as clock:
        yield clock


@pytest.fixture
def connect_authenticated(
    request: pytest.FixtureRequest, wsauth: WSAuth
) -> Iterator[Callable[..., Awaitable[AuthenticatedConnection]]]:
    """Connect through both steps: ``chat = await connect_authenticated("/ws/chat", "alice", role="admin")``.

    After path and user come options of `AuthenticatedConnection.open` and claims for the JWT, which is one of
    ``wsauth_credentials`` unless the test gives its own as ``jwt=…``. What was opened is closed when the test ends.
    """
    from tornado_wsauth.testing import AuthenticatedConnection

    base_url, io_loop = _server_of_pytest_tornado(request)
    opened = AsyncExitStack()

    async def connect(
        path: str,
        user: str = "alice",
        *,
        token: str | None = None,
        jwt: str | None = None,
        headers: dict[str, str] | None = None,
        subprotocols: list[str] | None = None,
        **claims: Any,
    ) -> AuthenticatedConnection:
        if jwt is None:  # not before: with these credentials in place, the application's own JWTs are refused
            jwt = request.getfixturevalue("wsauth_credentials").jwt(user, **claims)
        connection = await AuthenticatedConnection.open(
            base_url.replace("http", "ws", 1) + path,
            token=await wsauth.issue_token(user) if token is None else token,
            jwt=jwt,
            auth=wsauth,
            headers=headers,
            subprotocols=subprotocols,
            validate_cert=False,  # a server of the test's own
        )
        return await opened.enter_async_context(connection)

    yield connect
    io_loop.run_sync(opened.aclose)


def _server_of_pytest_tornado(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Start the server, the one with TLS if the test asks for that; return its URL and its event loop."""
    secure = {"https_server", "https_client", "https_port"}.intersection(request.fixturenames)
    try:
        request.getfixturevalue("https_server" if secure else "http_server")
        return request.getfixturevalue("base_url"), request.getfixturevalue("io_loop")
    except pytest.FixtureLookupError as error:
        pytest.fail(
            f"connect_authenticated needs the fixture {error.argname!r} of pytest-tornado; pip install pytest-tornado, "
            "or use tornado_wsauth.testing.connect_authenticated without a fixture",
            pytrace=False,
        )
