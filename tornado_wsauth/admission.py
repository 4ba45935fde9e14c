"""A handler's way to the 101: its request is checked, its token redeemed, and everybody else is turned away.

`guard` goes on from there. What a subclass of the application overrides cannot get past this: Tornado looks ``get``,
``finish`` and ``open`` up on the *instance* when it calls them, and an admission puts its own there before any of the
application's code has run.
"""

from __future__ import annotations

import abc
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tornado.web import Finish
from tornado.websocket import WebSocketHandler

from tornado_wsauth import handshake, log
from tornado_wsauth.gate import CLOSED, CONNECTING, REVOKED, Close, Gate
from tornado_wsauth.redaction import take_query_argument

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

    from tornado_wsauth.auth import WSAuth
    from tornado_wsauth.mixin import WebSocketAuthMixin


GUARDED = ("get", "finish", "open", "on_close")
"""The names that the guard takes on each handler instance."""


def ignore(*args: object, **kwargs: object) -> None:
    """Stand where a callback of the application must not be reached any more."""


def _allow_any_origin(origin: str) -> bool:
    return True


class _Get:
    """Stands where Tornado looks a handler's ``get`` up, and shows what decorators have left on that.

    Frameworks mark methods, and look at the marks before they call one: whether it is public, what it needs.
    """

    __slots__ = ("_admission",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        return self._admission._tornado_get(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._admission._application("get"), name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Get) and other._admission is self._admission


class Admission(abc.ABC):
    """What stands between Tornado and one handler, up to the 101."""

    __slots__ = ("_answer", "_own_callbacks", "_token", "auth", "expected", "gate", "handler", "place")

    def __init__(self, handler: WebSocketAuthMixin, request: HTTPServerRequest, auth: WSAuth) -> None:
        self.handler: WebSocketAuthMixin = handler
        self.auth: WSAuth = auth
        self.gate: Gate = Gate(auth.max_preauth_bytes)
        self.expected: str | None = None  # whose place among the user's connections this one takes, once that is known
        self.place: str | None = None  # for `places`, which alone sets it
        self._token: Sequence[bytes] = take_query_argument(request, auth.token_param)
        self._answer: handshake.Answer | None = None  # to the handshake, if it is not a 101
        self._own_callbacks: dict[str, Callable[..., Any]] | None = None
        for name, ours in self._ours():
            object.__setattr__(handler, name, ours)

    # Between Tornado and the application ------------------------------------------------------------------------

    def _ours(self) -> tuple[tuple[str, Callable[..., Any]], ...]:
        return ("get", _Get(self)), ("finish", self._tornado_finish), ("open", self._tornado_open)

    def _stand_in_front(self) -> None:
        """Put our callbacks before the handler's own again, keeping what it has set on the instance itself."""
        for name, ours in self._ours():
            theirs = getattr(self.handler, name)
            if theirs != ours:
                self._own_callbacks = self._own_callbacks or {}
                self._own_callbacks[name] = theirs
                object.__setattr__(self.handler, name, ours)

    def _application(self, name: str) -> Callable[..., Any]:
        """Return the application's own callback ``name``, as Tornado would have found it without us."""
        if self._own_callbacks and name in self._own_callbacks:
            return self._own_callbacks[name]
        ours = getattr(self.handler, name)
        object.__delattr__(self.handler, name)
        try:
            callback: Callable[..., Any] = getattr(self.handler, name)
            return callback
        finally:
            object.__setattr__(self.handler, name, ours)

    # The handshake ----------------------------------------------------------------------------------------------

    async def prepare(self, theirs: Callable[[], Any]) -> None:
        """Admit the client, then do what the application's own ``prepare()`` does, sync or async."""
        await self.admit()
        result = theirs()
        if result is not None:
            await result

    async def admit(self) -> None:
        """Check the request and redeem its token, once. Raises `Finish` with the answer if it is refused."""
        if self.gate.state is CONNECTING and self.gate.user_id is None and self._answer is None:
            try:
                handshake.check(self.handler, self.auth)
                self.auth.pending.add(self)
                values, self._token = self._token, ()
                user_id = await handshake.redeem(self, values)
                if isinstance(self.gate.admitted(user_id), Close):
                    raise handshake.Refused(handshake.TOKEN, reason="token_revoked", user_id=user_id)
            except handshake.Refused as refused:
                self._refused(refused)
            finally:
                if self.gate.user_id is None:
                    self._release()  # not left to the answer: Tornado 6.5 gives a cancelled request none
        if self._answer is None and self.gate.state is not CONNECTING:
            # While we waited, for the store or for the application, the client left or we began to close.
            self._answer = handshake.answer_to(self.gate.ending)
        if self._answer is not None:
            await self._turn_away(self._answer)

    def _refused(self, refused: handshake.Refused) -> None:
        if self.gate.state is CLOSED and self.gate.ending is not REVOKED:
            return  # the client has left, or we began to close: that is the answer, and it is logged
        answer = self._answer = refused.answer
        code: int = answer.status
        if self.auth.refuse == "close" and answer.close is not None and self.gate.state is CONNECTING:
            self.gate.rejected(answer.close)
            code = answer.close.code
        else:
            self.gate.closed()
        self._log("refused", refused.reason, code, refused.detail, refused.user_id, **refused.more)
        self._tell_handler(refused.reason)

    async def _turn_away(self, answer: handshake.Answer) -> NoReturn:
        """Give ``answer``; or, if the client is to learn it from a close frame, upgrade for that alone."""
        if self.gate.state is CONNECTING:
            self._allow_origin()
            await WebSocketHandler.get(self.handler)  # it returns when the connection is over
            raise Finish
        self.handler.set_status(answer.status, answer.phrase)
        for name, value in answer.headers.items():
            self.handler.set_header(name, value)
        raise Finish({"error": answer.error})

    def _allow_origin(self) -> None:
        """Keep Tornado from refusing what ``allowed_origins`` allows: that is the only one to ask."""
        if self.auth.allowed_origins is not None:
            object.__setattr__(self.handler, "check_origin", _allow_any_origin)

    # What Tornado calls -----------------------------------------------------------------------------------------

    def _tornado_get(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """The last stop before the upgrade. An overridden ``prepare()`` may have passed `admit` by; this does not."""
        if self.gate.user_id is None or self.gate.state is not CONNECTING:
            return self._admit_and_get(args, kwargs)
        self._allow_origin()
        self._stand_in_front()
        get = self._application("get")
        result: Awaitable[None] | None = get(*args, **kwargs)
        return result

    async def _admit_and_get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        await self.admit()
        result = self._tornado_get(*args, **kwargs)
        if result is not None:
            await result

    def _tornado_finish(self, *args: Any, **kwargs: Any) -> Any:
        """An answer goes out: the 101, or whatever ends the request instead of it."""
        finished = self._application("finish")(*args, **kwargs)
        status = self.handler.get_status()
        if status == 101:
            self._stand_in_front()  # none of the application's code runs between this and open()
            return finished
        if self.gate.state is not CLOSED:  # else it was us, or the client has left
            self.gate.closed()
            self._log("refused", "internal" if status >= 500 else "not_upgraded", status)
        self._release()
        object.__delattr__(self.handler, "finish")
        self._let_go()
        return finished

    @abc.abstractmethod
    def _tornado_open(self, *args: Any, **kwargs: Any) -> None:
        """The 101 was sent."""

    def left(self) -> bool:
        """The connection broke. Say whether that is news for the guard alone, because there was no 101."""
        if not hasattr(self, "handler") or self.handler.get_status() == 101:
            return False
        self._end(None)
        return True

    # What `guard` adds, for it knows of more that a connection can hold and be -----------------------------------

    @abc.abstractmethod
    def close(self, close: Close, detail: str = "") -> bool:
        """End the connection from our side, for the reason in ``close``; say whether that was still to be done."""

    @abc.abstractmethod
    def revoke(self, user_id: str) -> bool:
        """Void what ``user_id`` was issued; say whether this connection ended by it."""

    @abc.abstractmethod
    def _release(self) -> None:
        """Free everything the connection holds."""

    # The end ----------------------------------------------------------------------------------------------------

    def _end(self, code: int | None) -> None:
        """The connection ended, and not because the gate decided so; ``code`` is the client's, if it sent one."""
        if self.gate.state is not CLOSED:
            self.gate.closed()
            self._log("closed", "disconnected", code)
        self._release()

    def _let_go(self) -> None:
        """Leave the handler shut, without the reference cycle that our callbacks make."""
        for name in ("get", "open"):
            object.__setattr__(self.handler, name, ignore)
        del self.handler

    # Telling ----------------------------------------------------------------------------------------------------

    def _log(
        self,
        event: str,
        reason: str,
        code: int | None,
        detail: str = "",
        user_id: str | None = None,
        **more: object,
    ) -> None:
        user_id = user_id or self.gate.user_id
        if event == "refused" and user_id is not None:
            self.auth.failures.note(user_id, reason)
        if self.auth.metrics is not None:
            self.auth.metrics.recorded(self, event, reason, code)
        log.record(event, self.handler.request, reason=reason, user_id=user_id, code=code, detail=detail, **more)

    def _tell_handler(self, reason: str) -> None:
        try:
            self.handler.on_auth_failed(reason)
        except (Exception, asyncio.CancelledError):
            self.handler.log_exception(*sys.exc_info())
