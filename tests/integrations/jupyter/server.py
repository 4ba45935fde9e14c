"""A Jupyter Server in the test's own event loop, and what speaks to its kernels."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import jwt
import tornado.testing
from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer

from tests.integrations.jupyter.page import JUPYTER_TOKEN, SECRET
from tornado_wsauth import WSAuth
from tornado_wsauth.testing import AuthenticatedConnection

V1 = "v1.kernel.websocket.jupyter.org"
PATIENCE = 30.0  # seconds for a kernel to answer on a machine that is busy
AS_JUPYTER = {"Authorization": f"token {JUPYTER_TOKEN}"}


def make_jwt(user: str = "alice", *, expires_in: float = 600, secret: str = SECRET, **claims: Any) -> str:
    """Return a JWT that the page's extension accepts."""
    payload = {"sub": user, "aud": "kernels", "exp": int(time.time() + expires_in), **claims}
    return jwt.encode(payload, secret, algorithm="HS256")


class JupyterServer:
    """A `ServerApp` with the page's extension, listening on a free port of the loopback interface."""

    def __init__(self, app: ServerApp) -> None:
        socket, self.port = tornado.testing.bind_unused_port()
        self.app = app
        self.auth: WSAuth = app.web_app.settings["wsauth"]
        self._http = HTTPServer(app.web_app)
        self._http.add_socket(socket)

    async def fetch(self, path: str, **options: Any) -> HTTPResponse:
        """Ask a route of Jupyter's, and return its answer whatever the status."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return await AsyncHTTPClient().fetch(url, raise_error=False, follow_redirects=False, **options)

    async def start_kernel(self, **model: str) -> str:
        """Start a kernel as a back end would, and return its id."""
        body = json.dumps(model)
        answer = await self.fetch(
            "/api/kernels", method="POST", body=body, headers=AS_JUPYTER, request_timeout=PATIENCE
        )
        assert answer.code == 201, answer.body
        kernel_id: str = json.loads(answer.body)["id"]
        return kernel_id

    async def kernel(self, kernel_id: str) -> dict[str, Any]:
        """Return what Jupyter says of a kernel: its state, its connections, when it did something last."""
        model: dict[str, Any] = json.loads((await self.fetch(f"/api/kernels/{kernel_id}", headers=AS_JUPYTER)).body)
        return model

    def traces(self, kernel_id: str) -> dict[str, Any]:
        """Return what connections leave behind in Jupyter."""
        kernels = self.app.kernel_manager
        sessions = ZMQChannelsWebsocketConnection._open_sessions
        return {
            "asked for its info": hasattr(kernels.get_kernel(kernel_id), "_kernel_info_future"),
            "counted": kernels._kernel_connections.get(kernel_id, 0),
            "sessions": sorted(key for key in sessions if key.startswith(kernel_id)),
            "sockets": len(ZMQChannelsWebsocketConnection._open_sockets),
        }

    async def issue(self, user: str = "alice") -> str:
        """Return a connection token from the extension's route."""
        headers = {"Authorization": f"Bearer {make_jwt(user)}"}
        answer = await self.fetch("/ws/token", method="POST", body="", headers=headers)
        assert answer.code == 200, answer.body
        token: str = json.loads(answer.body)["token"]
        return token

    async def close(self) -> None:
        self._http.stop()
        await self._http.close_all_connections()
        await self.app._cleanup()


def channels(kernel_id: str, session_id: str = "") -> str:
    """Return the path of a kernel's socket."""
    return f"/api/kernels/{kernel_id}/channels?session_id={session_id or uuid.uuid4().hex}"


class Notebook:
    """A client of one kernel, through both steps."""

    def __init__(self, connection: AuthenticatedConnection) -> None:
        self.connection = connection
        self.connection.timeout = PATIENCE

    @classmethod
    async def open(
        cls,
        server: JupyterServer,
        kernel_id: str,
        user: str = "alice",
        *,
        session_id: str = "",
        jwt: str | None = None,
        subprotocols: list[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Notebook:
        url = f"ws://127.0.0.1:{server.port}{channels(kernel_id, session_id)}"
        token = await server.issue(user)
        jwt = jwt or make_jwt(user)
        return cls(
            await AuthenticatedConnection.open(url, token=token, jwt=jwt, subprotocols=subprotocols, headers=headers)
        )

    @property
    def subprotocol(self) -> str | None:
        return self.connection._connection.selected_subprotocol

    async def execute(self, code: str) -> str:
        """Have the kernel run ``code``; return the id of the request."""
        request = execute_request(code)
        await self.connection.send(to_v1(request) if self.subprotocol == V1 else json.dumps(request))
        msg_id: str = request["header"]["msg_id"]
        return msg_id

    async def receive(self) -> dict[str, Any]:
        """Return the kernel's next message; the protocol's own warning of the end is passed over."""
        message = await self.connection.receive()
        while isinstance(message, str) and json.loads(message).get("type") == "auth_expiring":
            message = await self.connection.receive()
        return parse(message, self.subprotocol)

    async def replies(self, msg_id: str) -> list[dict[str, Any]]:
        """Return what the kernel says about a request, up to its reply and until it is idle again."""
        replies: list[dict[str, Any]] = []
        kinds: set[str] = set()
        while not {"execute_reply", "idle"} <= kinds:
            message = await self.receive()
            if message["parent_header"].get("msg_id") == msg_id:
                replies.append(message)
                kinds.add(kind(message))
        return replies

    async def run(self, code: str) -> str:
        """Have the kernel run ``code``, and return the text of its result."""
        return result(await self.replies(await self.execute(code)))

    async def close(self) -> None:
        await self.connection.close()


def execute_request(code: str) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": "",
        "username": "",
        "version": "5.4",
    }
    content = {"code": code, "silent": False}
    return {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}


def to_v1(message: dict[str, Any]) -> bytes:
    data: bytes = serialize_msg_to_ws_v1(message, message["channel"], lambda part: json.dumps(part).encode())
    return data


def parse(message: str | bytes, subprotocol: str | None) -> dict[str, Any]:
    """Return a message of either of Jupyter's protocols; the one of JSON sends bytes where there are buffers."""
    if subprotocol != V1:
        parsed: dict[str, Any] = (
            json.loads(message) if isinstance(message, str) else deserialize_binary_message(message)
        )
        return parsed
    assert isinstance(message, bytes)
    channel, parts = deserialize_msg_from_ws_v1(message)
    names = ("header", "parent_header", "metadata", "content")
    return {"channel": channel, **{name: json.loads(part) for name, part in zip(names, parts, strict=False)}}


def kind(message: dict[str, Any]) -> str:
    """Say what a message is; a status says which."""
    state: str | None = message["content"].get("execution_state")
    return state or message["header"]["msg_type"]


def result(replies: list[dict[str, Any]]) -> str:
    (text,) = [reply["content"]["data"]["text/plain"] for reply in replies if kind(reply) == "execute_result"]
    assert isinstance(text, str)
    return text
