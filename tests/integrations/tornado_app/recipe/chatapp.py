# chatapp.py
"""Rooms to chat in, for members who log in with a password."""

from contextlib import suppress
from typing import Any

from tornado.escape import xhtml_escape
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler


class Member:
    def __init__(self, name: str, password: str) -> None:
        self.name, self.password = name, password


class Database:
    def __init__(self) -> None:
        self.members = {name: Member(name, f"{name}'s password") for name in ("alice", "bob")}
        self.rooms: dict[str, list[Room]] = {"lobby": [], "kitchen": []}
        self.in_maintenance = False


class BaseHandler(RequestHandler):
    current_user: Member | None

    def initialize(self, db: Database) -> None:
        self.db = db

    def prepare(self) -> None:
        if self.db.in_maintenance:
            raise HTTPError(503, reason="Back in an hour")

    def get_current_user(self) -> Member | None:
        name = self.get_signed_cookie("member")
        return self.db.members.get(name.decode()) if name else None

    def write_error(self, status_code: int, **kwargs: object) -> None:
        self.finish({"problem": xhtml_escape(self._reason)})


class Login(BaseHandler):
    def get(self) -> None:
        fields = '<input name="name"><input name="password" type="password"><button>Log in</button>'
        self.finish(f'<form method="post">{self.xsrf_form_html()}{fields}</form>')

    def post(self) -> None:
        member = self.db.members.get(self.get_argument("name"))
        if member is None or member.password != self.get_argument("password"):
            raise HTTPError(401)
        self.set_signed_cookie("member", member.name, httponly=True)
        self.finish("welcome")


class Logout(BaseHandler):
    async def post(self) -> None:
        self.clear_cookie("member")
        self.finish("goodbye")


class Room(BaseHandler, WebSocketHandler):
    def check_origin(self, origin: str) -> bool:
        return origin == "https://partner.example" or super().check_origin(origin)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "chat.v2" if "chat.v2" in subprotocols else None

    def get_compression_options(self) -> dict[str, int]:
        return {"compression_level": 6}

    def open(self, room: str) -> None:
        self.room = self.db.rooms[room]
        self.room.append(self)
        self.tell_all("is here")

    def on_message(self, message: str | bytes) -> None:
        self.tell_all(f"says {message!s}")

    def on_close(self) -> None:
        self.room.remove(self)
        self.tell_all("has left")

    def tell_all(self, what: str) -> None:
        assert self.current_user is not None
        for each in self.room:
            with suppress(WebSocketClosedError):
                each.write_message(f"{self.current_user.name} {what}")


ROUTES: list[tuple[str, type[BaseHandler]]] = [
    (r"/login", Login),
    (r"/logout", Logout),
    (r"/rooms/(\w+)", Room),
]
SETTINGS: dict[str, Any] = {
    "cookie_secret": "a long text from your configuration, and not this one",
    "xsrf_cookies": True,
    "websocket_ping_interval": 30,
}
