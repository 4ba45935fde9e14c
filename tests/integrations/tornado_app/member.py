"""Somebody who uses the application with a browser: it keeps cookies, and sends them with everything."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Self
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from tests.support import RawClient, Response
from tornado_wsauth.testing import AuthenticatedConnection


class Visitor:
    """``alice = await Visitor(port).log_in("alice")``"""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: SimpleCookie = SimpleCookie()
        self.sends_xsrf = True

    @property
    def cookie_header(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items() if morsel.value)
        return {"Cookie": cookies} if cookies else {}

    async def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> HTTPResponse:
        """Send a request of a page of the site; return the answer, whatever its status."""
        fields = {**self.cookie_header, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "POST" and self.sends_xsrf and "_xsrf" in self.cookies:
            fields["X-XSRFToken"] = self.cookies["_xsrf"].value
        answer = await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{self.port}{path}", method=method, headers=fields, body=body, raise_error=False
        )
        for cookie in answer.headers.get_list("Set-Cookie"):
            self.cookies.load(cookie)
        return answer

    async def post(self, path: str, body: str = "", **headers: str) -> HTTPResponse:
        return await self.ask("POST", path, body, **headers)

    async def log_in(self, name: str) -> Self:
        await self.ask("GET", "/login")
        answer = await self.post("/login", urlencode({"name": name, "password": f"{name}'s password"}))
        assert answer.body == b"welcome", answer.body
        return self

    async def get_token(self) -> str:
        answer = await self.post("/ws/token")
        assert answer.code == 200, answer.body
        token: str = Response(200, b"", answer.body, {}).json()["token"]
        return token

    async def get_jwt(self) -> str:
        answer = await self.post("/ws/jwt")
        assert answer.code == 200, answer.body
        return answer.body.decode()

    async def enter(self, room: str = "lobby", *, subprotocols: list[str] | None = None) -> AuthenticatedConnection:
        """Go through both steps, with the cookie that a browser would send along."""
        return await AuthenticatedConnection.open(
            f"ws://127.0.0.1:{self.port}/rooms/{room}",
            token=await self.get_token(),
            jwt=await self.get_jwt(),
            headers=self.cookie_header,
            subprotocols=subprotocols,
        )

    async def knock(self, query: str = "", room: str = "lobby", **headers: str) -> tuple[RawClient, Response]:
        """Ask for an upgrade, cookie and all, and go no further."""
        client = await RawClient.connect(self.port)
        return client, await client.upgrade(f"/rooms/{room}{query}", **self.cookie_header, **headers)
