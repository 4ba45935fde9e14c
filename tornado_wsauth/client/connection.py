"""A connection that authenticates itself, and does so again when it breaks: the life through its attempts.

One socket's life is in `exchange`, the choice of what to do about an end in `reactions`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

from tornado_wsauth.backoff import Backoff
from tornado_wsauth.client.credentials import Credentials
from tornado_wsauth.client.errors import Failed, LoggedOut, Refused, Stopped
from tornado_wsauth.client.exchange import Exchange, Session
from tornado_wsauth.client.inbox import Inbox
from tornado_wsauth.client.options import Options, shown
from tornado_wsauth.client.reactions import (
    NORMAL_CLOSURE,
    Close,
    Reaction,
    State,
    Step,
    Usual,
    describe_close,
    usual_reaction,
)
from tornado_wsauth.client.renewal import Renewal
from tornado_wsauth.client.requests import upgrade
from tornado_wsauth.errors import ConfigurationError, WSAuthError

logger: logging.Logger = logging.getLogger("tornado_wsauth.client")

_GOODBYE_SECONDS = 1.0  # how long a server may take to answer our goodbye


class Connection:
    """What `connect` returns. It begins to connect when it is awaited, or entered with ``async with``.

    For one event loop, and not thread-safe. Any number of tasks may send and receive.
    """

    def __init__(self, options: Options, credentials: Credentials) -> None:
        self._options = options
        self._credentials = credentials
        self._backoff = Backoff(options.retry_interval, options.max_retry_interval, options.seams)
        self._inbox = Inbox(options.max_queue)
        self._exchange: Exchange | None = None
        self._renewal: Renewal | None = None
        self._session: Session | None = None
        self._state: State = "connecting"
        self._last_close: Close | None = None
        self._had_second_chance = False  # a 4401 that is worth one retry has had it
        self._was_ended_here = False
        self._grace = _GOODBYE_SECONDS
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()  # it was ready once, or never will be
        self._settled = asyncio.Event()  # it is ready, or stopped
        self._woken = asyncio.Event()

    @property
    def state(self) -> State:
        """Where it stands; only ``stopped`` is final."""
        return self._state

    @property
    def user_id(self) -> str | None:
        """Whose connection it is, once it was ready."""
        return None if self._session is None else self._session.user_id

    @property
    def expires_at(self) -> float | None:
        """When the JWT expires, in Unix seconds, as the server said last; None before, and where it does not say."""
        return None if self._session is None else self._session.expires_at

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose for the present, or the last, socket."""
        return None if self._exchange is None else self._exchange.subprotocol

    @property
    def last_close(self) -> Close | None:
        """How the last attempt, or the last connection, ended."""
        return self._last_close

    def __repr__(self) -> str:
        return f"<Connection to {shown(self._options.url)}, {self._state}, user_id={self.user_id!r}>"

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begin().__await__()

    async def __aenter__(self) -> Self:
        return await self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.recv()
        except Stopped:
            if self._was_ended_here:
                raise StopAsyncIteration from None
            raise

    async def send(self, data: str | bytes | dict[str, Any] | list[Any]) -> None:
        """Send text, bytes, or a dict or list as JSON; wait until it is ready, and the network has taken the message.

        A message that a broken connection did not take whole is sent on the next one; one that was taken whole may
        still be lost with the connection, and is not sent again. Raises `Stopped`.
        """
        message = _encoded(data)
        while True:
            exchange = await self._ready_exchange()
            if await exchange.send(message):
                return
            await exchange.ended.wait()

    async def recv(self) -> str | bytes:
        """Return the next message of the application, across reconnects. None is lost if the wait is cancelled.

        Raises `Stopped` once there is none and none will come; after `close()`, at once.
        """
        self._check_begun()
        return await self._inbox.get()

    async def renew(self) -> None:
        """Present a fresh JWT on the live connection, and wait for the server's ``auth_ok``.

        Where the connection ends meanwhile, or is not ready, the ``auth_ok`` of the next one will do. Raises what
        ``jwt`` raised, `Stopped`, and `ConfigurationError` where ``jwt`` is a text and there is nothing to renew with.
        """
        if not self._credentials.can_renew and self._state != "stopped":
            raise ConfigurationError("renew(): jwt is a text; give connect() a function that returns a fresh JWT")
        is_ready = self._state == "ready" and self._settled.is_set()
        await self._ready_exchange()
        if not is_ready or self._renewal is None:
            return
        try:
            await asyncio.shield(self._renewal.once())
        except Failed as failed:
            raise (failed.error or WSAuthError(describe_close(failed.code, failed.reason))) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._ready_exchange()  # it was the exchange that ended

    def retry_now(self) -> None:
        """End a wait for the next attempt now. Does nothing in any other state."""
        self._woken.set()

    async def close(self) -> None:
        """Say goodbye (1000), forget the credentials, and never connect again. Safe to call again.

        What was not received is discarded; whoever waits to send or receive gets `Stopped`, and iterations end.
        """
        if self._state != "stopped":
            self._was_ended_here = True
            words = describe_close(NORMAL_CLOSURE, "disconnected")
            self._stop(Close(NORMAL_CLOSURE, "disconnected", words, self._state, "stop", None))
        if self._task is not None:
            if not self._task.cancelling():  # a second time would cut the goodbye short
                self._task.cancel()
            if self._task is not asyncio.current_task():  # it is where jwt() calls this
                await asyncio.wait({self._task})

    # --- attempts ----------------------------------------------------------------------------------------------------

    async def _begin(self) -> Self:
        if self._task is None and self._state != "stopped":
            self._task = asyncio.create_task(self._run())
        try:
            await self._begun.wait()
        except BaseException:
            self._grace = 0
            await self.close()
            raise
        if self._session is None:
            assert self._last_close is not None
            raise Stopped(self._last_close)
        return self

    async def _run(self) -> None:
        try:
            while True:
                failed = await self._attempt()
                if self._was_ended_here:
                    return None
                close = self._judge(failed)
                if close.reaction == "stop":
                    return self._stop(close)
                await self._wait(close)
        except Exception as error:  # a defect: nobody shall wait for what will never come
            logger.exception("the client stops: this is a defect of tornado_wsauth")
            self._stop(self._close_of(Failed(None, "client_error", error), "stop", None))

    async def _attempt(self) -> Failed:
        """Make one attempt, and return how it ended: at once, or after hours of messages."""
        self._set_state("connecting")
        try:
            exchange = await self._authenticate()
            return await exchange.converse()
        except Failed as failed:
            return failed.with_traceback(None)  # it leads to frames that have the JWT
        finally:
            await self._leave()

    async def _authenticate(self) -> Exchange:
        """Take both steps. In a function of its own, so that no JWT and no token outlives it."""
        options = self._options
        self._step("jwt")
        jwt = await self._credentials.jwt()
        self._step("token")
        token = await self._credentials.token(jwt)
        self._step("upgrade")
        socket = await upgrade(options, token)
        # From here to the assignment nothing is awaited: `_leave` will find it.
        exchange = self._exchange = Exchange(socket, self._inbox, options.timeout, options.seams, self._on_expiring)
        backoff = Backoff(options.retry_interval, options.max_retry_interval, options.seams)
        self._renewal = Renewal(exchange, self._credentials, backoff, options.seams, self._renewal_step)
        self._set_state("authenticating")
        self._step("authenticate")
        await exchange.authenticate(jwt)
        self._on_ready(exchange)
        return exchange

    def _on_ready(self, exchange: Exchange) -> None:
        self._session = exchange.session
        self._backoff.failures = 0
        self._had_second_chance = False
        self._set_state("ready")
        self._step("ready")
        self._settled.set()
        self._begun.set()

    def _on_expiring(self) -> None:
        if self._renewal is not None:
            self._renewal.keep_trying()

    async def _leave(self) -> None:
        """Let go of the socket, if there is one."""
        if self._state != "stopped":
            self._settled.clear()
        exchange, renewal = self._exchange, self._renewal
        if exchange is None or renewal is None or exchange.ended.is_set():
            return
        try:
            await renewal.end()
        finally:
            await exchange.leave(self._grace)

    # --- what comes after an end -------------------------------------------------------------------------------------

    def _judge(self, failed: Failed) -> Close:
        retries = self._options.retries
        usual = self._usual(failed)
        is_hopeless = usual == "stop" or (usual == "once" and self._had_second_chance)
        is_hopeless |= retries is not None and self._backoff.failures >= retries
        retry_in = 0.0 if usual == "now" else self._backoff.delay() + failed.retry_after
        self._had_second_chance |= usual == "once"
        self._backoff.failures += 1
        close = self._close_of(failed, "stop" if is_hopeless else "retry", retry_in)
        decided = self._call("decide", self._options.decide, close)
        if decided not in ("stop", "retry", None):
            logger.error('decide() returned %s; "stop", "retry" and None are understood', type(decided).__name__)
        elif decided is not None:
            close = self._close_of(failed, decided, retry_in)
        return close

    def _usual(self, failed: Failed) -> Usual:
        if isinstance(failed.error, LoggedOut):
            return "stop"
        can_renew = self._credentials.can_renew
        return usual_reaction(failed.code, failed.reason, self._state, status=failed.status, can_renew=can_renew)

    def _close_of(self, failed: Failed, reaction: Reaction, retry_in: float | None) -> Close:
        words = describe_close(failed.code, failed.reason)
        if isinstance(failed.error, Refused):
            words = str(failed.error)
        elif failed.error is not None:
            # The text of an exception that is not ours may hold anything, credentials too.
            is_ours = isinstance(failed.error, WSAuthError)
            words = f"{words[:-1]}: {failed.error if is_ours else type(failed.error).__name__}."
        retry_in = None if reaction == "stop" else retry_in
        return Close(failed.code, failed.reason, words, self._state, reaction, retry_in, failed.error)

    async def _wait(self, close: Close) -> None:
        assert close.retry_in is not None
        self._last_close = close
        self._woken.clear()
        self._set_state("waiting")
        self._call("on_close", self._options.on_close, close)
        await self._options.seams.pause(close.retry_in, self._woken)

    def _stop(self, close: Close) -> None:
        self._last_close = close
        self._credentials.forget()
        self._inbox.end(Stopped(close), discard=self._was_ended_here)
        self._set_state("stopped")
        self._settled.set()
        self._begun.set()
        self._call("on_close", self._options.on_close, close)

    # --- the rest ----------------------------------------------------------------------------------------------------

    async def _ready_exchange(self) -> Exchange:
        self._check_begun()
        await self._settled.wait()
        if self._state == "stopped" or self._exchange is None:
            assert self._last_close is not None
            raise Stopped(self._last_close)
        return self._exchange

    def _check_begun(self) -> None:
        if self._task is None and self._state != "stopped":
            raise WSAuthError("the connection has not begun; await what connect() returned, or enter it: async with")

    def _renewal_step(self, step: Step) -> None:
        if step == "renewed" and self._exchange is not None:
            self._session = self._exchange.session
        self._step(step)

    def _set_state(self, state: State) -> None:
        if self._state != state:
            self._state = state
            self._call("on_state", self._options.on_state, state)

    def _step(self, step: Step) -> None:
        self._call("on_step", self._options.on_step, step)

    def _call(self, name: str, function: Callable[[Any], Any] | None, given: object) -> Any:
        """Call one of the application's functions. What it raises is logged and does not reach the connection."""
        try:
            return None if function is None else function(given)
        except Exception:
            logger.exception("%s() raised an exception; the connection goes on", name)
            return None


def _encoded(data: object) -> str | bytes:
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, (dict, list)):
        return json.dumps(data)
    raise TypeError(f"send(): {type(data).__name__} cannot be sent; text, bytes, a dict or a list can")
