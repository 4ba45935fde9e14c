"""A client of Bokeh's protocol, as far as these tests speak it, on top of either kind of our clients."""

from __future__ import annotations

from typing import Any

from bokeh.document import Document
from bokeh.protocol import Protocol
from bokeh.protocol.message import Message
from bokeh.protocol.receiver import Receiver
from bokeh.util.token import generate_jwt_token, generate_session_id
from tornado.web import create_signed_value

from tornado_wsauth.testing import AuthenticatedConnection


def cookie_of(server: Any, user: str) -> str:
    """Return the value of the cookie ``member`` that the application's login sets for ``user``."""
    return create_signed_value(server._tornado.settings["cookie_secret"], "member", user).decode()


def session_token(server: Any, user: str, *, expiration: int = 300) -> str:
    """Return a token of Bokeh's own for a new session, as a page carries one that ``user`` has loaded."""
    signature = {"secret_key": server._tornado.secret_key, "signed": True}
    page = {"headers": {}, "cookies": {"member": cookie_of(server, user)}, "arguments": {}}
    return generate_jwt_token(generate_session_id(**signature), **signature, expiration=expiration, extra_payload=page)


async def stop(server: Any) -> None:
    """Stop a Bokeh server and wait until nothing of it is left in the event loop."""
    await server._tornado.settings["wsauth"].close(grace=1)
    if hasattr(server, "stop_async"):  # Bokeh 3.10
        await server.stop_async()
    else:
        server.stop()
    await server._http.close_all_connections()


class Peer:
    """The client's end of a connection that is authenticated: it sends and receives Bokeh's messages."""

    def __init__(self, connection: AuthenticatedConnection) -> None:
        self.connection = connection
        self._protocol = Protocol()
        self._receiver = Receiver(self._protocol)

    @classmethod
    async def open(cls, server: Any, *, token: str, jwt: str, session: str) -> Peer:
        url = f"ws://localhost:{server.port}/dashboard/ws"
        return cls(await AuthenticatedConnection.open(url, token=token, jwt=jwt, subprotocols=["bokeh", session]))

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.connection.close()

    async def receive(self) -> Message[Any]:
        """Return the next message, which comes in several frames."""
        while True:
            message = await self._receiver.consume(await self.connection.receive())
            if message is not None:
                return message

    async def send(self, kind: str, *content: Any) -> None:
        message = self._protocol.create(kind, *content)
        for part in (message.header_json, message.metadata_json, message.content_json):
            await self.connection.send(part)

    async def ask(self, kind: str, *content: Any) -> Message[Any]:
        """Send a message and return the next one that comes."""
        await self.send(kind, *content)
        return await self.receive()

    async def pull_document(self) -> Document:
        """Do what ``bokeh.client.pull_session`` does once it is connected."""
        document = Document()
        reply = await self.ask("PULL-DOC-REQ")
        assert reply.msgtype == "PULL-DOC-REPLY", reply
        reply.push_to_document(document)
        return document
