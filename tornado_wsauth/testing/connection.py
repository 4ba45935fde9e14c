"""A real client connection through both steps, for the tests of handlers: it begins where ``auth_ok`` has come.

`testing` gives it to users; `case` and the pytest fixtures open connections with it. For what no well-behaved client
sends there is `client.RawClient`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import url_concat
from tornado.iostream import StreamClosedError
from tornado.simple_httpclient import HTTPTimeoutError
from tornado.testing import get_async_test_timeout
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketError, websocket_connect

from tornado_wsauth.auth import WSAuth
from tornado_wsauth.testing.client import jwt_message
from tornado_wsauth.testing.credentials import Credentials

Step = Literal["upgrade", "jwt", "refresh"]

_NORMAL = 1000  # RFC 6455 §7.4.1


class AuthRefused(Exception):
    """The server refused a client: at the ``upgrade``, at its ``jwt`` or, later, at a ``refresh``.

    At the upgrade there is the HTTP ``status``, and the ``error`` of the JSON body, if there was one. No status says
    that the server cut the connection or spoke no WebSocket; ``error`` is then Tornado's word on it. At the other two
    there are ``close_code`` and ``close_reason``; a code of None says that the connection ended without one.
    """

    def __init__(
        self,
        step: Step,
        *,
        status: int | None = None,
        error: str | None = None,
        close_code: int | None = None,
        close_reason: str | None = None,
    ) -> None:
        self.step: Step = step
        self.status = status
        self.error = error
        self.close_code = close_code
        self.close_reason = close_reason
        if step == "upgrade":
            super().__init__(f"the upgrade was refused: {_words(status, error)}")
        else:
            super().__init__(f"the JWT of the {step} step was refused: {_ending(close_code, close_reason)}")


class ConnectionEnded(Exception):
    """The connection is over, and there is no message left to receive.

    ``close_code`` and ``close_reason`` are the server's; None says that it cut the connection or gave no code.
    """

    def __init__(self, close_code: int | None, close_reason: str | None) -> None:
        super().__init__(_ending(close_code, close_reason))
        self.close_code = close_code
        self.close_reason = close_reason


class AuthenticatedConnection:
    """A client that the server has accepted. It reads whatever comes at once and keeps it for `receive`.

    ``async with`` closes it at the end. A wait lasts ``timeout`` seconds at most, then `TimeoutError` is raised; for a
    shorter one there is `asyncio.timeout`, and no message is lost to it.
    """

    def __init__(self, connection: WebSocketClientConnection, inbox: asyncio.Queue[str | bytes | None]) -> None:
        self._connection = connection
        self._inbox = inbox  # None: the end
        self._kept: deque[str | bytes] = deque()  # what was passed over while something else was waited for
        self.timeout: float = _longest_wait()
        """How long a wait may last, in seconds: 80 % of Tornado's ``ASYNC_TEST_TIMEOUT``, which is 5 s."""
        self.auth_ok: dict[str, Any] = {}
        """The server's last ``auth_ok``."""
        self._ended = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        token: str,
        jwt: str,
        auth: WSAuth | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] | None = None,
        validate_cert: bool = True,
    ) -> Self:
        """Connect to ``url`` (``ws://`` or ``wss://``) with ``token``, send ``jwt`` and wait for ``auth_ok``.

        ``auth`` is the server's `WSAuth`, where the test has it: the name of the token's argument is taken from it,
        and an ``Origin`` it allows, unless ``headers`` has one.

        Raises `AuthRefused` when the server refuses, `TimeoutError` when it does not answer, and `AssertionError` when
        the first message is something other than ``auth_ok``.
        """
        inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        request = HTTPRequest(
            url_concat(url, {"token" if auth is None else auth.token_param: token}),
            headers={**_origin(auth), **(headers or {})},
            validate_cert=validate_cert,
            request_timeout=_longest_wait(),
        )
        connection = await _upgrade(request, inbox, None if subprotocols is None else list(subprotocols))
        client = cls(connection, inbox)
        try:
            await client._present(jwt)
        except BaseException:
            connection.close()
            raise
        return client

    async def send(self, message: str | bytes | dict[str, Any]) -> None:
        """Send a text message, a binary one, or a dict as JSON. Raises `ConnectionEnded` if the connection is over."""
        try:
            await self._connection.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:  # there may still be something to receive
            raise ConnectionEnded(self.close_code, self.close_reason) from None

    async def receive(self) -> str | bytes:
        """Return the next message: a str if it is text, bytes if it is binary.

        Raises `ConnectionEnded` when there is none and the connection is over, `TimeoutError` when none comes.
        """
        return self._kept.popleft() if self._kept else await self._next("message")

    async def receive_json(self) -> Any:
        """Return the next message, parsed. Raises as `receive`, and `AssertionError` for what is no JSON text."""
        message = await self.receive()
        try:
            if isinstance(message, str):
                return json.loads(message)
        except ValueError:
            pass
        raise AssertionError(f"a message of JSON text was expected, not {message!r}")

    async def refresh(self, jwt: str) -> dict[str, Any]:
        """Send a further JWT, wait for the ``auth_ok`` that answers it, and return that.

        Messages that come before it stay for `receive`. Raises `AuthRefused` when the server ends the connection
        instead, `TimeoutError` when no ``auth_ok`` comes.
        """
        await self.send(jwt_message(jwt))
        try:
            async with asyncio.timeout(self.timeout):
                while (auth_ok := _auth_ok(message := await self._next("auth_ok"))) is None:
                    self._kept.append(message)
        except ConnectionEnded as end:
            raise AuthRefused("refresh", close_code=end.close_code, close_reason=end.close_reason) from None
        except TimeoutError:
            raise TimeoutError(f"no auth_ok came within {self.timeout:g} s after the refresh") from None
        self.auth_ok = auth_ok
        return auth_ok

    async def wait_closed(self) -> tuple[int | None, str | None]:
        """Wait for the end of the connection; return ``close_code`` and ``close_reason``.

        Messages that come before it stay for `receive`. Raises `TimeoutError` when it does not come.
        """
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    self._kept.append(await self._next("end of the connection"))
        except ConnectionEnded:
            return self.close_code, self.close_reason
        except TimeoutError:
            raise TimeoutError("the connection is still open") from None

    async def close(self, code: int = _NORMAL, reason: str | None = None) -> None:
        """Close the connection and wait until it is over, ``timeout`` seconds at most. Safe to call again."""
        self._connection.close(code, reason)
        if not self._ended:
            try:
                await self.wait_closed()
            except TimeoutError:
                self._ended = True  # nobody is there to agree; Tornado cuts it on its own

    @property
    def close_code(self) -> int | None:
        """The code the connection was closed with. None while it is open, and where it ended without one."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str | None:
        """The reason that came with `close_code`."""
        return self._connection.close_reason

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _present(self, jwt: str) -> None:
        """Take the second step."""
        try:
            await self.send(jwt_message(jwt))
            message = await self._next("auth_ok")
        except ConnectionEnded as end:
            raise AuthRefused("jwt", close_code=end.close_code, close_reason=end.close_reason) from None
        auth_ok = _auth_ok(message)
        if auth_ok is None:
            shown = repr(message).replace(jwt, "<the JWT>")
            raise AssertionError(
                f"the first message must be auth_ok, not {shown}; "
                "does WebSocketAuthMixin stand in front of this handler's WebSocketHandler?"
            )
        self.auth_ok = auth_ok

    async def _next(self, what: str) -> str | bytes:
        if self._ended:
            raise self._over()
        try:
            async with asyncio.timeout(self.timeout):
                message = await self._inbox.get()
        except TimeoutError:
            raise TimeoutError(f"no {what} came within {self.timeout:g} s") from None
        if message is None:
            raise self._over()
        return message

    def _over(self) -> ConnectionEnded:
        self._ended = True
        self._connection.close()  # else Tornado warns of an unclosed one
        return ConnectionEnded(self.close_code, self.close_reason)


async def connect_authenticated(
    url: str,
    user: str = "alice",
    *,
    credentials: Credentials,
    token: str | None = None,
    jwt: str | None = None,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] | None = None,
    validate_cert: bool = True,
    **claims: Any,
) -> AuthenticatedConnection:
    """Connect to ``url`` as ``user`` with a token and a JWT of ``credentials``; ``claims`` go into the JWT.

    ``token`` and ``jwt`` replace what ``credentials`` would give. The rest is as in `AuthenticatedConnection.open`, and
    raises the same.
    """
    return await AuthenticatedConnection.open(
        url,
        token=await credentials.token(user) if token is None else token,
        jwt=credentials.jwt(user, **claims) if jwt is None else jwt,
        auth=credentials.auth,
        headers=headers,
        subprotocols=subprotocols,
        validate_cert=validate_cert,
    )


async def _upgrade(
    request: HTTPRequest, inbox: asyncio.Queue[str | bytes | None], subprotocols: list[str] | None
) -> WebSocketClientConnection:
    """Take the first step. What arrives afterwards goes into ``inbox``."""
    try:
        return await websocket_connect(request, on_message_callback=inbox.put_nowait, subprotocols=subprotocols)
    except HTTPTimeoutError as error:
        raise TimeoutError(f"no answer to the upgrade within {_longest_wait():g} s") from error
    except (HTTPClientError, WebSocketError, StreamClosedError) as error:
        if isinstance(error, HTTPClientError) and error.response is not None:
            raise AuthRefused("upgrade", status=error.code, error=_error_in(error.response.body)) from None
        raise AuthRefused("upgrade", error=str(error)) from error  # cut, or no WebSocket at all


def _longest_wait() -> float:
    """Return seconds: less than a whole test may take, so that it is the wait that says what did not come."""
    return 0.8 * get_async_test_timeout()


def _origin(auth: WSAuth | None) -> dict[str, str]:
    """Return an Origin header that ``auth`` allows, where it refuses a request without one."""
    if auth is None or auth.allowed_origins is None or None in auth.allowed_origins:
        return {}
    return {"Origin": min(origin for origin in auth.allowed_origins if origin is not None)}


def _auth_ok(message: str | bytes) -> dict[str, Any] | None:
    """Return ``message`` parsed if it is an ``auth_ok``."""
    try:
        value = json.loads(message) if isinstance(message, str) else None
    except ValueError:
        return None
    return value if isinstance(value, dict) and value.get("type") == "auth_ok" else None


def _error_in(body: bytes) -> str | None:
    """Return the error code in the body of a refusal, if it is one of ours."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return None
    return error if isinstance(error, str) else None


def _ending(code: int | None, reason: str | None) -> str:
    if code is None:
        return "the connection ended without a close code: it was cut, or closed without one"
    return f"the connection was closed with {_words(code, reason)}"


def _words(code: int | None, reason: str | None) -> str:
    return " ".join(str(part) for part in (code, reason) if part) or "no reason given"
