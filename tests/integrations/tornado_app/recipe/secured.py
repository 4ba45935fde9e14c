# secured.py
import asyncio
import time
from typing import Any

import jwt
from chatapp import ROUTES, SETTINGS, BaseHandler, Database, Logout, Member, Room
from tornado.web import Application, authenticated

from tornado_wsauth import ClientFilesHandler, JWTVerifier, TokenHandler, WebSocketAuthMixin, WSAuth

KEY = "another long text from your configuration"


class AuthenticatedRoom(WebSocketAuthMixin, Room):
    def load_auth_user(self, claims: dict[str, Any]) -> Member | None:
        return self.db.members.get(claims["sub"])  # what get_current_user() returns


class SocketToken(TokenHandler, BaseHandler):
    def get_user_id(self) -> str | None:
        return self.current_user.name if self.current_user else None


class SocketJWT(BaseHandler):
    @authenticated
    def post(self) -> None:
        assert self.current_user is not None
        claims = {"sub": self.current_user.name, "exp": time.time() + 300}
        self.set_header("Cache-Control", "no-store")
        self.finish(jwt.encode(claims, KEY, algorithm="HS256"))


class LogoutEverywhere(Logout):
    async def post(self) -> None:
        if self.current_user is not None:
            await self.settings["wsauth"].disconnect_user(self.current_user.name)
        await super().post()


INSTEAD_OF: dict[type, type] = {Room: AuthenticatedRoom, Logout: LogoutEverywhere}


def make_app(db: Database) -> Application:
    routes = [(path, INSTEAD_OF.get(handler, handler)) for path, handler in ROUTES]
    routes += [(r"/ws/token", SocketToken), (r"/ws/jwt", SocketJWT)]
    handlers = [(path, handler, {"db": db}) for path, handler in routes]
    handlers += [(r"/wsauth/(.*)", ClientFilesHandler, {})]
    return Application(handlers, **SETTINGS, wsauth=WSAuth(JWTVerifier(KEY, algorithms=["HS256"])))


async def main() -> None:
    make_app(Database()).listen(8888)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
