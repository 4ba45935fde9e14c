"""`AuthWebSocketTestCase`: Tornado's `AsyncHTTPTestCase` with connections that have authenticated.

For applications tested with `unittest`; `testing` gives it to users. It imports nothing of pytest.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from tornado.testing import AsyncHTTPTestCase

from tornado_wsauth.auth import WSAuth
from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.testing.clock import ManualClock, manual_clock
from tornado_wsauth.testing.connection import AuthenticatedConnection
from tornado_wsauth.testing.credentials import Credentials


class AuthWebSocketTestCase(AsyncHTTPTestCase):
    """Tests of an application with authenticated WebSockets. Write ``get_app()`` as for `AsyncHTTPTestCase`::

        class ChatTest(AuthWebSocketTestCase):
            def get_app(self):
                return make_app()

            @gen_test
            async def test_a_message_comes_back(self):
                chat = await self.connect_authenticated("/ws/chat", "alice")
                await chat.send("hello")
                self.assertEqual(await chat.receive(), "echo: hello")

    What a test opens is closed when it ends, and whatever was put in place of the application's own is taken out.
    """

    wsauth_setting = "wsauth"
    """The application setting that holds the `WSAuth`."""

    manual_clock = False
    """Whether the application's authentication goes by `clock`, which stands still until the test turns it.

    Off unless a class says otherwise: on a clock that stands still, a JWT from a login of the application's own, which
    knows the real time alone, is soon one that was issued in the future.
    """

    def setUp(self) -> None:
        super().setUp()
        auth = self._app.settings.get(self.wsauth_setting)
        if not isinstance(auth, WSAuth):
            super().tearDown()  # unittest calls it only after a setUp() that succeeded
            raise ConfigurationError(
                f"{type(self).__name__}.wsauth_setting = {self.wsauth_setting!r}: get_app() returned an application "
                f"with {auth!r} there; write Application(handlers, {self.wsauth_setting}=WSAuth(jwt=…))"
            )
        self.auth = auth
        """The application's `WSAuth`."""
        self._clock = self.enterContext(manual_clock(auth)) if self.manual_clock else None
        self._credentials: Credentials | None = None
        self._opened = AsyncExitStack()

    def tearDown(self) -> None:
        try:
            self.io_loop.run_sync(self._opened.aclose)
        finally:
            super().tearDown()

    @property
    def clock(self) -> ManualClock:
        """The clock to turn. Raises `RuntimeError` unless the class says ``manual_clock = True``."""
        if self._clock is None:
            raise RuntimeError(f"write manual_clock = True into {type(self).__name__} to have a clock to turn")
        return self._clock

    @property
    def credentials(self) -> Credentials:
        """Credentials the application accepts. The first use of them puts their key in place of its own."""
        if self._credentials is None:
            self._credentials = self.enterContext(Credentials(self.auth))
        return self._credentials

    def get_ws_url(self, path: str) -> str:
        """Return the absolute URL of ``path`` on this test's server: ``ws://``, or ``wss://`` where it has TLS."""
        return self.get_url(path).replace("http", "ws", 1)

    def get_jwt(self, user: str, **claims: Any) -> str | Awaitable[str]:
        """Override to get a user's JWT in another way, such as the application's own login. May be async.

        The default makes one with `credentials`; ``claims`` and ``expires_in`` are as in `Credentials.jwt`.
        """
        return self.credentials.jwt(user, **claims)

    async def get_token(self, user: str) -> str:
        """Override to get a connection token in another way, such as the token route. The default issues one."""
        return await self.auth.issue_token(user)

    async def connect_authenticated(
        self,
        path: str,
        user: str = "alice",
        *,
        token: str | None = None,
        jwt: str | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] | None = None,
        **claims: Any,
    ) -> AuthenticatedConnection:
        """Connect to ``path`` as ``user``, with a token of `get_token` and a JWT of `get_jwt` with these ``claims``.

        ``token`` and ``jwt`` replace them. The rest is as in `AuthenticatedConnection.open`, and raises the same.
        """
        if jwt is None:
            made = self.get_jwt(user, **claims)
            jwt = await made if inspect.isawaitable(made) else made
        connection = await AuthenticatedConnection.open(
            self.get_ws_url(path),
            token=await self.get_token(user) if token is None else token,
            jwt=jwt,
            auth=self.auth,
            headers=headers,
            subprotocols=subprotocols,
            validate_cert=False,  # AsyncHTTPSTestCase signs its own
        )
        return await self._opened.enter_async_context(connection)
