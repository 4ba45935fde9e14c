"""One handler's gate, wired to Tornado: from the 101 on, it stands between Tornado and the application.

`mixin` makes one for each request and is the only module that imports it; `admission` is its way to the 101. After
that, Tornado's protocol object speaks to the guard in the handler's stead, and the handler is kept from its connection
until the client is authenticated.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tornado.escape import json_encode
from tornado.gen import convert_yielded
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol

from tornado_wsauth import wire
from tornado_wsauth.admission import Admission, ignore
from tornado_wsauth.errors import AuthError, KeySourceError
from tornado_wsauth.gate import (
    CLOSED,
    DELIVER,
    FORBIDDEN,
    IGNORE,
    INTERNAL,
    JWT_EXPIRED,
    JWT_INVALID,
    OPEN,
    PROCEED,
    REPLACED,
    RESTART,
    SHUTDOWN,
    SLOW_READER,
    TOO_MANY,
    Check,
    Close,
    Pass,
)
from tornado_wsauth.session import AuthSession

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

    from tornado_wsauth.auth import WSAuth
    from tornado_wsauth.clock import Timer
    from tornado_wsauth.mixin import WebSocketAuthMixin


_CLOSE, _PINGS = 0x8, (0x9, 0xA)  # opcodes (RFC 6455 §11.8)

ABORT_AFTER = 0.5  # seconds that a slow reader is given to read what is queued, and why it is closed

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_NO_ARGUMENTS: _Arguments = (), {}


class Guard(Admission):
    """What stands between Tornado and one handler, from the request to the close."""

    __slots__ = (
        "_checking",
        "_connection",
        "_message_limit",
        "_open_arguments",
        "_timer",
        "session",
        "wake_at",
        "warn_at",
    )

    def __init__(self, handler: WebSocketAuthMixin, request: HTTPServerRequest, auth: WSAuth) -> None:
        super().__init__(handler, request, auth)
        self.session: AuthSession | None = None
        self._connection: WebSocketProtocol | None = None  # from the 101 to its end
        self._open_arguments: _Arguments | None = _NO_ARGUMENTS  # None: open() completed, so on_close() is due
        self._message_limit: int | None = None  # the application's own, in bytes, while the handler has no connection
        self._timer: Timer | None = None
        self._checking: asyncio.Task[Any] | None = None
        self.wake_at: float = 0.0  # for `lifetime`, as is the next
        self.warn_at: float | None = None

    # What Tornado calls when the 101 was sent ---------------------------------------------------------------------

    def _tornado_open(self, *args: Any, **kwargs: Any) -> None:
        """The 101 was sent: wait for the first message, with a deadline and a size limit."""
        self._connection = wire.take_over(self.handler, self)
        self._message_limit = wire.set_max_message_size(self._connection, self.auth.max_preauth_bytes)
        self.auth.warn_if_never_pinged(wire.seconds_between_pings(self.handler))
        for name in ("get", "open"):  # each is called once, and that was it
            object.__setattr__(self.handler, name, ignore)
        decision = self.gate.upgraded()
        if decision is IGNORE or self._answer is not None:
            # The end came while the application's get() was waiting, and Tornado upgrades all the same; or the client
            # was refused, and is only here to learn that. Either is logged.
            self._send_close(self.gate.ending or RESTART)
        elif self._carry_out(decision):
            if self.auth.metrics is not None:
                self.auth.metrics.upgraded(self)
            self._open_arguments = args, kwargs
            self._timer = self.auth.clock.call_later(self.auth.auth_timeout, self._deadline_passed)

    # What Tornado's protocol object calls, from the 101 on --------------------------------------------------------

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """A plain function on purpose: a coroutine here would cost a task for each message."""
        decision = self.gate.frame(message)
        if self.auth.pace is not None and self.session is not None and not self._keeps_pace():
            return None
        if decision is DELIVER:
            try:
                result = self.handler.on_message(message)
            except (Exception, asyncio.CancelledError):
                self._application_failed()
                return None
            return None if result is None else self._await_application(result)
        if isinstance(decision, Check):
            # Tornado reads the next frame when this has ended, so later frames wait their turn.
            return self._authenticate(decision.jwt) if self.session is None else self._renew(decision.jwt)
        self._carry_out(decision)
        return None

    def on_ping(self, data: bytes) -> Any:
        if self.gate.state is not OPEN or (self.auth.pace is not None and not self._keeps_pace()):
            return None
        return self.handler.on_ping(data)

    def on_pong(self, data: bytes) -> Any:
        return self.handler.on_pong(data) if self.gate.state is OPEN else None

    def _keeps_pace(self) -> bool:
        """Say whether the client sends no faster than it may; close the connection of one that does."""
        assert self.auth.pace is not None
        if self.gate.state is CLOSED or self.auth.pace.allows(self):
            return True
        self.close(TOO_MANY, "more messages than message_rate allows")
        return False

    def on_ws_connection_close(self, close_code: int | None = None, close_reason: str | None = None) -> None:
        """The connection is over, in whichever way and at whichever step."""
        handler, opened = self.handler, self._open_arguments is None
        self.auth.ending.discard(self)
        self._end(close_code)
        self._let_go()
        if not opened:
            object.__setattr__(handler, "on_close", ignore)
        handler.on_ws_connection_close(close_code, close_reason)

    def may_write(self, opcode: int, queued: int) -> bool:
        """Say whether Tornado may send a frame by itself, such as a pong, behind so many bytes that are queued."""
        if self.gate.state is CLOSED:
            return opcode not in _PINGS  # no more of them behind a close frame, which Tornado 6.5 does not see to
        limit: float = self.auth.max_preauth_bytes
        if self.session is not None:
            self.session.writer.idle = False  # what we send next must look whether that went out whole
            limit = self.auth.connections.dispatcher.most_queued
        if queued <= limit or opcode == _CLOSE:
            return True
        self.too_slow()
        return False

    def too_slow(self) -> None:
        """The client reads too slowly. Behind all that is queued it may never see why, so it is not given long."""
        if self.gate.state is CLOSED:
            return
        self.close(SLOW_READER, "too much is queued for it; see max_buffer_bytes, and await write_message()")
        self._timer = self.auth.clock.call_later(ABORT_AFTER, self.abort)

    def log_exception(self, *exc_info: Any) -> None:
        self.handler.log_exception(*exc_info)

    # The JWT ----------------------------------------------------------------------------------------------------

    async def _authenticate(self, jwt: str) -> None:
        """Let the client in if ``jwt`` says so, then open the application's side."""
        await self._check(jwt, self._let_in)
        if self.gate.state is OPEN:
            await self._open_application()

    async def _renew(self, jwt: str) -> None:
        """Go on for as long as ``jwt`` says, which must be the same user's."""
        await self._check(jwt, self._go_on)

    async def _check(self, jwt: str, accept: Callable[[Any, dict[str, Any]], None]) -> None:
        """Call ``accept`` with the user and the claims if ``jwt`` is good; end the connection if it is not."""
        self._checking = asyncio.current_task()
        try:
            user_id, claims = await self.auth.verify_jwt(jwt)
            if not self._carry_out(self.gate.identified(user_id), f"the JWT names {user_id}"):
                return
            user = self.handler.load_auth_user(claims)
            if inspect.isawaitable(user):
                user = await user
            if self._has_left():
                self._end(None)  # or load_auth_user() closed the connection
            elif user is None:
                self.close(FORBIDDEN, "load_auth_user() returned None")
            elif self._has_expired_meanwhile(claims):
                self.close(JWT_EXPIRED)
            elif self.gate.accepted() is PROCEED:
                accept(user, claims)
        except AuthError as error:
            self.close(JWT_EXPIRED if error.reason == "jwt_expired" else JWT_INVALID, error.detail)
        except KeySourceError as error:
            self.close(INTERNAL, str(error))
        except (Exception, asyncio.CancelledError):
            # Cancelled with the gate closed is how the deadline and a drain end a check that hangs.
            if self.gate.state is not CLOSED:
                self._application_failed()
        finally:
            self._checking = None

    def _has_expired_meanwhile(self, claims: dict[str, Any]) -> bool:
        """Say whether this JWT expired while it was checked, or the one before it, which no timer has noticed yet."""
        before = None if self.session is None else self.session.expires_at
        return any(self.auth.lifetimes.has_expired(expires_at) for expires_at in (claims.get("exp"), before))

    def _has_left(self) -> bool:
        return self._connection is None or wire.is_closing(self._connection)

    def _let_in(self, user: Any, claims: dict[str, Any]) -> None:
        """Register the connection, then say so. Nothing awaits in between, so no broadcast overtakes ``auth_ok``."""
        auth, user_id = self.auth, self.gate.user_id
        assert user_id is not None
        self._stop_waiting()
        if auth.max_connections_per_user is not None and auth.over_limit == "evict_oldest":
            others = auth.connections.for_user(user_id)
            for handler in others[: max(0, len(others) + 1 - auth.max_connections_per_user)]:
                handler._wsauth_guard.close(REPLACED)
            if auth.places is not None:
                auth.places.claim_later(self, user_id)
        self.session = AuthSession(self.handler, self._give_writer(), auth.connections, user_id=user_id, claims=claims)
        self.handler.current_user = user
        auth.connections.add(self.session)
        auth.lifetimes.begin(self)
        auth.failures.forget(user_id)
        self._log("accepted", "auth_ok", None)
        self._tell_accepted()

    def _go_on(self, user: Any, claims: dict[str, Any]) -> None:
        """Renew the session; its groups, its tickers and its place among the connections stay as they are."""
        self.handler.current_user = user
        self.live_session.renew(claims)
        self.auth.lifetimes.begin(self)
        self._log("accepted", "refreshed", None)
        self._tell_accepted()

    def _tell_accepted(self) -> None:
        session = self.live_session
        self.tell({"type": "auth_ok", "user_id": session.user_id, "expires_at": session.expires_at})

    @property
    def live_session(self) -> AuthSession:
        """The session, for those who know that it has begun."""
        assert self.session is not None
        return self.session

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message of the protocol, in turn with what is broadcast."""
        with contextlib.suppress(WebSocketClosedError):  # the client has just gone, and on_close() is on its way
            self.live_session.writer.write_message(json_encode(message))

    async def _open_application(self) -> None:
        assert self._open_arguments is not None
        args, kwargs = self._open_arguments
        try:
            result = self._application("open")(*args, **kwargs)
            if result is not None:
                await result
        except (Exception, asyncio.CancelledError):
            self._application_failed()
        else:
            self._open_arguments = None

    async def _await_application(self, result: Any) -> None:
        """Wait for what ``on_message`` returned: an awaitable, or whatever else Tornado waits for."""
        try:
            await (result if inspect.isawaitable(result) else convert_yielded(result))
        except (Exception, asyncio.CancelledError):
            self._application_failed()

    # The end ----------------------------------------------------------------------------------------------------

    def close(self, close: Close, detail: str = "") -> bool:
        """End the connection from our side, for the reason in ``close``; say whether that was still to be done."""
        decision = self.gate.refuse(close)
        self._carry_out(decision, detail)
        return decision is close

    def revoke(self, user_id: str) -> bool:
        """Void what ``user_id`` was issued; say whether this connection ended by it."""
        decision = self.gate.revoked(user_id)
        self._carry_out(decision)
        return isinstance(decision, Close)

    def abort(self) -> None:
        """End the TCP connection, without a further word."""
        if self._connection is not None:
            wire.abort(self._connection)

    def _deadline_passed(self) -> None:
        self._carry_out(self.gate.deadline())

    def _carry_out(self, decision: Pass | Check | Close, detail: str = "") -> bool:
        """Say whether to go on; a decision to close is carried out here."""
        if isinstance(decision, Close):
            self._hang_up(decision, detail)
        return decision is PROCEED

    def _application_failed(self) -> None:
        """Log the exception being handled and close 1011: sync or async, whatever its type."""
        if isinstance(sys.exc_info()[1], WebSocketClosedError) and self._has_left():
            self._end(None)  # it wrote to a client that had just left, which is nobody's fault
            return
        try:
            self.handler.log_exception(*sys.exc_info())
        finally:
            self.close(INTERNAL, "an exception, logged above")

    def _hang_up(self, close: Close, detail: str = "") -> None:
        """Carry out a decision to close."""
        self._log("closed" if self.session else "refused", close.reason, close.code, detail)
        self._send_close(close)
        if self.session is None:
            self._tell_handler(close.reason)

    def _send_close(self, close: Close) -> None:
        """Send a close frame. The base class's method: a subclass's may take no code."""
        if self._connection is not None:
            self.auth.ending.add(self)
        self._give_connection_back()
        if self.session is not None and close not in (RESTART, SHUTDOWN):
            self.session.writer.discard()  # whoever may not stay gets nothing more
        WebSocketHandler.close(self.handler, close.code, close.reason)
        self._release()

    def _release(self) -> None:
        """Free everything the connection holds, at once: a peer may take 5 s to answer a close frame, or never do."""
        self._stop_waiting()
        if self.session is not None:
            self.auth.lifetimes.end(self)
            self.session.end()
        if self.auth.pace is not None:
            self.auth.pace.forget(self)
        if self.auth.places is not None:
            self.auth.places.give_back(self)
        checking, self._checking = self._checking, None
        if checking is not None and checking is not asyncio.current_task():
            checking.cancel()

    def _give_connection_back(self, writer: wire.Writer | None = None) -> None:
        """Let the handler close, and with a ``writer`` write; until now, it had a connection that seems closed.

        Its own limit on messages comes with the writer: whoever is not let in sends no more than before.
        """
        if self._connection is not None and self._message_limit is not None:
            if writer is not None:
                wire.set_max_message_size(self._connection, self._message_limit)
            wire.give_back(self.handler, writer or self._connection)
            self._message_limit = None

    def _give_writer(self) -> wire.Writer:
        """Let the handler write, in turn with what is broadcast."""
        assert self._connection is not None
        writer = wire.Writer(self._connection, self.auth.connections.dispatcher)
        self._give_connection_back(writer)
        return writer

    def _stop_waiting(self) -> None:
        self.auth.pending.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        super()._let_go()
        self._connection = None
