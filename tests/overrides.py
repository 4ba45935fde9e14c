"""Handlers that override whatever can be overridden, and forget whatever can be forgotten (A11)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from tornado.websocket import WebSocketHandler

from tornado_wsauth import WebSocketAuthMixin


class App(WebSocketHandler):
    """What an application did before it met us. Its callbacks write down what reached them."""

    events: list[Any]

    def open(self, *args, **kwargs):
        self.events.append("open")

    def on_message(self, message):
        self.events.append(message)
        self.write_message(message)

    def on_close(self):
        self.events.append("close")

    def on_ping(self, data):
        self.events.append("ping")

    def on_pong(self, data):
        self.events.append("pong")


class Plain(WebSocketAuthMixin, App):
    """Inherits all its callbacks from a handler that is there already."""


class OverridesPrepare(Plain):
    def prepare(self):
        self.started = True


class OverridesPrepareAsync(Plain):
    async def prepare(self):
        await asyncio.sleep(0)


class CallsTornadosPrepare(Plain):
    def prepare(self):
        return WebSocketHandler.prepare(self)


class SwallowsPrepare(Plain):
    async def prepare(self):
        with contextlib.suppress(BaseException):
            await super().prepare()


class SwallowsPrepareAndClears(Plain):
    async def prepare(self):
        try:
            await super().prepare()
        except BaseException:
            self.clear()
            self.set_status(200)


class ReturnsPrepare(Plain):
    def prepare(self):
        return super().prepare()


class DropsPrepare(Plain):
    """Forgets the await: the check never runs there."""

    def prepare(self):
        awaitable = super().prepare()
        if asyncio.iscoroutine(awaitable):
            awaitable.close()


class PreparesTwice(Plain):
    async def prepare(self):
        await super().prepare()
        await super().prepare()


class PreparesInBackground(Plain):
    def prepare(self):
        self.background = asyncio.ensure_future(super().prepare())
        self.background.add_done_callback(lambda task: task.cancelled() or task.exception())


class OverridesInitialize(Plain):
    def initialize(self):
        self.started = True


class OverridesInit(Plain):
    def __init__(self, application, request, **kwargs):
        WebSocketHandler.__init__(self, application, request, **kwargs)


class OverridesInitAndPrepare(OverridesInit):
    def prepare(self):
        pass


class OverridesGetCurrentUser(Plain):
    def get_current_user(self):
        return "admin"


class OverridesCheckOrigin(Plain):
    def check_origin(self, origin):
        return True


class OverridesGet(Plain):
    async def get(self, *args, **kwargs):
        await WebSocketHandler.get(self, *args, **kwargs)


class OverridesPrepareAndGet(OverridesGet):
    def prepare(self):
        pass


class OverridesInitPrepareAndGet(OverridesInitAndPrepare):
    async def get(self, *args, **kwargs):
        await WebSocketHandler.get(self, *args, **kwargs)


class SwallowsGet(Plain):
    def prepare(self):
        pass

    async def get(self, *args, **kwargs):
        try:
            await super().get(*args, **kwargs)
        except BaseException:
            await WebSocketHandler.get(self, *args, **kwargs)


class OverridesOnFinish(Plain):
    def on_finish(self):
        pass


class OverridesLogException(Plain):
    def log_exception(self, typ, value, tb):
        pass


class OverridesWriteError(Plain):
    def write_error(self, status_code, **kwargs):
        self.set_status(200)
        self.finish("oops")


class OverridesSendError(Plain):
    def send_error(self, status_code=500, **kwargs):
        pass


class OverridesDefaultHeaders(Plain):
    def set_default_headers(self):
        self.set_header("Server", "mine")


class OverridesSubprotocol(Plain):
    def select_subprotocol(self, subprotocols):
        return None


class OverridesProtocol(Plain):
    def get_websocket_protocol(self):
        from tornado.websocket import WebSocketProtocol13

        return WebSocketProtocol13(self, False, super().get_websocket_protocol().params)


class CallsTornadosConnectionClose(Plain):
    def on_connection_close(self):
        WebSocketHandler.on_connection_close(self)


class OverridesConnectionClose(Plain):
    """Tornado itself does not call on_close() then."""

    def on_connection_close(self):
        pass


class OverridesAsyncCallbacks(Plain):
    async def open(self):
        await asyncio.sleep(0)
        self.events.append("open")

    async def on_message(self, message):
        await asyncio.sleep(0)
        self.events.append(message)
        await self.write_message(message)


class CallsSuper(Plain):
    def open(self, *args, **kwargs):
        return super().open(*args, **kwargs)

    def on_message(self, message):
        return super().on_message(message)

    def on_close(self):
        return super().on_close()


class InFront:
    """Somebody else's mixin, written without super()."""

    def prepare(self):
        pass

    def open(self):
        self.events.append("open")

    def on_message(self, message):
        self.events.append(message)
        self.write_message(message)

    def on_close(self):
        self.events.append("close")


class BehindAnotherMixin(InFront, WebSocketAuthMixin, WebSocketHandler):
    pass


class BehindItsOwnBase(App, WebSocketAuthMixin, WebSocketHandler):
    pass


class DeepApp(App):
    def prepare(self):
        self.started = True


class OverDeepBase(WebSocketAuthMixin, DeepApp):
    pass


class OwnMixin(WebSocketAuthMixin):
    """An application's own mixin on top of ours."""

    def prepare(self):
        self.started = True


class BehindOwnMixin(OwnMixin, App):
    pass


class AssignsInInitialize(Plain):
    def initialize(self):
        self.open, self.on_message, self.on_close = self.opened, self.arrived, self.closed

    def opened(self, *args, **kwargs):
        self.events.append("open")

    def arrived(self, message):
        self.events.append(message)
        self.write_message(message)

    def closed(self):
        self.events.append("close")


class AssignsInPrepare(AssignsInInitialize):
    def initialize(self):
        pass

    def prepare(self):
        AssignsInInitialize.initialize(self)


class AssignsAfterPrepare(AssignsInInitialize):
    def initialize(self):
        pass

    async def prepare(self):
        await super().prepare()
        AssignsInInitialize.initialize(self)


class AssignsInInit(AssignsInInitialize):
    def initialize(self):
        pass

    def __init__(self, application, request, **kwargs):
        super().__init__(application, request, **kwargs)
        AssignsInInitialize.initialize(self)


class AssignsInGet(AssignsInInitialize):
    def initialize(self):
        pass

    async def get(self, *args, **kwargs):
        AssignsInInitialize.initialize(self)
        await super().get(*args, **kwargs)


class AssignsInSubprotocol(AssignsInInitialize):
    """As late as it can be: Tornado asks this right before the 101."""

    def initialize(self):
        pass

    def select_subprotocol(self, subprotocols):
        AssignsInInitialize.initialize(self)

    def get_compression_options(self):
        AssignsInInitialize.initialize(self)


class AssignsOnFinish(AssignsInInitialize):
    """Later still: Tornado calls this after the 101."""

    def initialize(self):
        pass

    def on_finish(self):
        AssignsInInitialize.initialize(self)


class AssignsAfterFinish(AssignsInInitialize):
    """Later still: ``finish()`` returns when the 101 is out and Tornado is about to call open()."""

    def initialize(self):
        pass

    def finish(self, chunk=None):
        finished = super().finish(chunk)
        AssignsInInitialize.initialize(self)
        return finished


class WritesItsDict(AssignsInInitialize):
    def initialize(self):
        pass

    def on_finish(self):
        self.__dict__.update(open=self.opened, on_message=self.arrived, on_close=self.closed)


class Callback:
    """A callable object as a handler's method: it is not bound, so the class tells it where to write."""

    def __init__(self, note: Callable[..., Any]) -> None:
        self.note = note

    def __get__(self, instance: Any, owner: type) -> Any:
        return functools.partial(self.note, instance)


class UsesProperties(Plain):
    """Data descriptors, which nothing on the instance could shadow."""

    @property
    def on_message(self):
        return self.arrived

    @property
    def on_ping(self):
        return lambda data: self.events.append("ping")

    @property
    def write_message(self):
        return functools.partial(WebSocketHandler.write_message, self)

    def arrived(self, message):
        self.events.append(message)
        self.write_message(message)


class AssignsWriteMessage(Plain):
    def initialize(self):
        self.write_message = functools.partial(WebSocketHandler.write_message, self)


class UsesDescriptors(Plain):
    open = Callback(lambda self: self.events.append("open"))
    on_message = Callback(lambda self, message: self.events.append(message) or (self.write_message(message) and None))
    on_close = Callback(lambda self: self.events.append("close"))


class UsesPartialMethods(Plain):
    def note(self, what, *args):
        self.events.append(args[0] if args else what)
        if args:
            self.write_message(args[0])

    open = functools.partialmethod(note, "open")
    on_message = functools.partialmethod(note, "message")
    on_close = functools.partialmethod(note, "close")


class IgnoresAssignment(Plain):
    """Lets nobody set a callback on it."""

    def __setattr__(self, name, value):
        if name not in ("open", "on_message", "on_close"):
            super().__setattr__(name, value)


class OverridesClose(Plain):
    def close(self, code=None, reason=None):
        self.asked_to_close = True


class OverridesWriteMessage(Plain):
    def write_message(self, message, binary=False):
        return None


class OverridesWritingIntoEnvelope(Plain):
    def write_message(self, message, binary=False):
        return super().write_message({"envelope": message})


WORKING = [
    Plain,
    OverridesPrepare,
    OverridesPrepareAsync,
    CallsTornadosPrepare,
    ReturnsPrepare,
    DropsPrepare,
    PreparesTwice,
    OverridesInitialize,
    OverridesGetCurrentUser,
    OverridesCheckOrigin,
    OverridesOnFinish,
    OverridesLogException,
    OverridesWriteError,
    OverridesDefaultHeaders,
    OverridesSubprotocol,
    CallsTornadosConnectionClose,
    OverridesAsyncCallbacks,
    CallsSuper,
    BehindAnotherMixin,
    BehindItsOwnBase,
    OverDeepBase,
    BehindOwnMixin,
    AssignsInInitialize,
    AssignsInPrepare,
    AssignsInInit,
    AssignsAfterPrepare,
    AssignsInGet,
    AssignsWriteMessage,
    UsesProperties,
    UsesDescriptors,
    UsesPartialMethods,
    SwallowsPrepare,
]
"""They must be closed to strangers, and open to their users."""

HOSTILE = [
    SwallowsPrepareAndClears,
    PreparesInBackground,
    OverridesInit,
    OverridesInitAndPrepare,
    OverridesGet,
    OverridesPrepareAndGet,
    OverridesInitPrepareAndGet,
    SwallowsGet,
    OverridesSendError,
    OverridesProtocol,
    OverridesConnectionClose,
    AssignsInSubprotocol,
    AssignsOnFinish,
    AssignsAfterFinish,
    WritesItsDict,
    IgnoresAssignment,
    OverridesClose,
    OverridesWriteMessage,
    OverridesWritingIntoEnvelope,
]
"""They need only be closed to strangers: what they do to their users is theirs."""
