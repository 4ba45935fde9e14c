"""What the client asks of a server over HTTP: a token, and the upgrade. `connection` uses it; here Tornado is wired.

Whatever Tornado raises or returns here may hold the token or the JWT (a request with its URL and headers, a response
with its body). So nothing of it leaves this module; `Failed`, `LoggedOut` and `TryLater` do.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders, url_concat
from tornado.simple_httpclient import HTTPTimeoutError
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from tornado_wsauth.client.credentials import GetToken
from tornado_wsauth.client.errors import Failed, LoggedOut, Refused, TimedOut, TryLater
from tornado_wsauth.client.options import Options, SSLOptions
from tornado_wsauth.client.reactions import ABNORMAL_CLOSURE
from tornado_wsauth.errors import WSAuthError
from tornado_wsauth.wire import abort

T = TypeVar("T")

PING_SECONDS = 20
"""How often the server is asked whether it is still there; a connection without an answer for as long is over."""


def token_from(url: str, timeout: float, ssl_options: SSLOptions, origin: str | None) -> GetToken:
    """Return a ``get_token`` that POSTs to ``url`` with the JWT as Bearer, and waits ``timeout`` seconds at most."""

    async def get_token(jwt: str) -> str:
        request = HTTPRequest(
            url,
            method="POST",
            body=b"",
            headers={"Authorization": f"Bearer {jwt}", "Accept": "application/json", **_origin(origin)},
            connect_timeout=timeout,
            request_timeout=timeout,
            follow_redirects=False,  # the JWT is for this URL alone
            ssl_options=ssl_options,
        )
        client = AsyncHTTPClient(force_instance=True)  # the shared one makes everybody wait behind ten that hang
        try:
            return _token_in(await _abandonable(lambda: client.fetch(request, raise_error=False)))
        except WSAuthError:
            raise
        except HTTPTimeoutError:
            error: WSAuthError = TimedOut(f"the token route did not answer within {timeout:g} s")
        except Exception as raised:
            error = WSAuthError(f"the token route could not be reached: {type(raised).__name__}: {raised}")
        finally:
            client.close()
        raise error  # out of the except block, so that Tornado's exception is no context of it

    return get_token


async def upgrade(options: Options, token: str) -> WebSocketClientConnection:
    """Open the socket. Raises `Failed`."""
    failed: Failed
    try:
        async with options.seams.timeout(options.timeout):
            return await _abandonable(lambda: _connecting(options, token))
    except (TimeoutError, HTTPTimeoutError):
        failed = Failed(None, "timeout")
    except HTTPClientError as raised:
        failed = _refused(raised)
    except WebSocketError:
        failed = Failed(ABNORMAL_CLOSURE, "upgrade_refused", WSAuthError("the answer was no WebSocket's"))
    except Exception as raised:
        # Its type and text, for it may have a cause with more in it: a ConnectionRefusedError, an SSLError.
        failed = Failed(ABNORMAL_CLOSURE, "unreachable", WSAuthError(f"{type(raised).__name__}: {raised}"))
    raise failed  # out of the except block, so that Tornado's exception is no context of it


def _connecting(options: Options, token: str) -> Awaitable[WebSocketClientConnection]:
    request = HTTPRequest(
        url_concat(options.url, {options.token_param: token}),
        headers=_origin(options.origin),
        connect_timeout=options.timeout,
        request_timeout=options.timeout,
        ssl_options=options.ssl_options,
    )
    return websocket_connect(
        request,
        ping_interval=PING_SECONDS,
        ping_timeout=PING_SECONDS,
        max_message_size=options.max_bytes,
        subprotocols=options.subprotocols,
    )


def _origin(origin: str | None) -> dict[str, str]:
    return {} if origin is None else {"Origin": origin}


async def _abandonable(start: Callable[[], Awaitable[T]]) -> T:
    """Await what ``start()`` begins; when that is given up, end what Tornado has begun for it.

    Tornado works in a task that goes on when the future it returned is cancelled. That task is ended here. The TCP
    connection, if there was one, Tornado closes when the request's own timeout is over.
    """
    begun, tasks = _remembering_tasks(start)
    future = asyncio.ensure_future(begun)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_dispose)
        for task in tasks:
            await _until_it_waits(task)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _until_it_waits(task: asyncio.Task[Any]) -> None:
    """Let ``task`` take what it has waited for, if that is there.

    Cancelled in between it would drop it, and a TCP connection that Tornado has just made would stay open for ever.
    asyncio has no public name for what a task awaits.
    """
    awaited = getattr(task, "_fut_waiter", None)
    while awaited is not None and awaited.done():
        await asyncio.sleep(0)
        awaited = getattr(task, "_fut_waiter", None)


def _remembering_tasks(start: Callable[[], T]) -> tuple[T, list[asyncio.Task[Any]]]:
    """Return what ``start()`` returns, and the tasks it created."""
    loop = asyncio.get_running_loop()
    usual = loop.get_task_factory()
    tasks: list[asyncio.Task[Any]] = []

    def create(loop: asyncio.AbstractEventLoop, coroutine: Any, **named: Any) -> Any:
        task = usual(loop, coroutine, **named) if usual else asyncio.Task(coroutine, loop=loop, **named)
        tasks.append(task)  # type: ignore[arg-type]
        return task

    loop.set_task_factory(create)
    try:
        return start(), tasks
    finally:
        loop.set_task_factory(usual)


def _dispose(future: asyncio.Future[Any]) -> None:
    """Cut a connection that was opened for nobody; an exception is retrieved, so that nobody reports it."""
    if (
        future.cancelled()
        or future.exception() is not None
        or not isinstance(future.result(), WebSocketClientConnection)
    ):
        return
    connection = future.result()
    protocol = connection.protocol  # Tornado's connection lets go of it when it is told to close
    connection.close()
    if protocol is not None:
        abort(protocol)


def _token_in(response: HTTPResponse) -> str:
    answered = f"the token route answered {response.code}"
    if response.code == 401:
        raise LoggedOut(f"{answered}: the JWT is not valid")
    if response.code in (429, 503):
        raise TryLater(answered, retry_after_of(response.headers))
    token = _json(response.body).get("token") if response.code == 200 else None
    if not isinstance(token, str):
        hint = " without a token; is token_url right?" if response.code == 200 else ""
        raise WSAuthError(f"{answered}{hint}")
    return token


def _refused(error: HTTPClientError) -> Failed:
    response = error.response
    if response is None or error.code == 599:
        return Failed(ABNORMAL_CLOSURE, "unreachable", WSAuthError(error.message))
    said = _json(response.body).get("error")
    reason = said if isinstance(said, str) and re.fullmatch(r"[a-z_]{1,64}", said) else ""
    refused = Refused(error.code, reason, retry_after_of(response.headers))
    return Failed(ABNORMAL_CLOSURE, reason or "upgrade_refused", refused)


def retry_after_of(headers: HTTPHeaders) -> float:
    """Return the seconds of a ``Retry-After`` (RFC 9110 §10.2.3), a number or a date; 0 if there is none."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _json(body: bytes) -> dict[str, Any]:
    """Return the object in ``body``, or an empty one: other servers' error pages are no JSON."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
