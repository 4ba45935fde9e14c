# serve.py
import time
from pathlib import Path
from typing import Any

import jwt
from bokeh.document import Document
from bokeh.server.auth_provider import AuthModule
from bokeh.server.server import Server
from bokeh.server.urls import per_app_patterns
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from bokeh.server.views.ws import WSHandler
from bokeh.util.token import get_token_payload
from dashboard import dashboard
from jinja2 import Template
from tornado.web import StaticFileHandler, authenticated, decode_signed_value

from tornado_wsauth import ClientFilesHandler, JWTVerifier, TokenHandler, WebSocketAuthMixin, WSAuth

KEY = "a long text from your configuration, and not this one"
COOKIE_SECRET = "another long text from your configuration"
BOKEH_SECRET = "and another one"
HERE = Path(__file__).parent


class AuthenticatedSocket(WebSocketAuthMixin, WSHandler):
    def load_auth_user(self, claims: dict[str, Any]) -> str | None:
        """Let nobody into somebody else's session: it belongs to whoever loaded the page."""
        page = get_token_payload(self._token or "")
        owner = decode_signed_value(COOKIE_SECRET, "member", page["cookies"].get("member"))
        return claims["sub"] if owner == claims["sub"].encode() else None


per_app_patterns[:] = [
    (path, AuthenticatedSocket if handler is WSHandler else handler) for path, handler, *_ in per_app_patterns
]


class SocketToken(TokenHandler, AuthRequestHandler):
    def get_user_id(self) -> object:
        return self.current_user


class SocketJWT(AuthRequestHandler):
    @authenticated
    def post(self) -> None:
        claims = {"sub": self.current_user, "exp": time.time() + 300}
        self.set_header("Cache-Control", "no-store")
        self.finish(jwt.encode(claims, KEY, algorithm="HS256"))


PAGE = Template("""{% extends base %}
{% block preamble %}<script type="module" src="/bokeh-wsauth.js"></script>{% endblock %}""")


def page(document: Document) -> None:
    dashboard(document)
    document.template = PAGE


def make_server(**options: Any) -> Server:
    return Server(
        {"/dashboard": page},
        auth_provider=AuthModule(HERE / "auth.py"),
        extra_patterns=[
            (r"/ws/token", SocketToken),
            (r"/ws/jwt", SocketJWT),
            (r"/wsauth/(.*)", ClientFilesHandler),
            (r"/(bokeh-wsauth\.js)", StaticFileHandler, {"path": HERE}),
        ],
        cookie_secret=COOKIE_SECRET,
        secret_key=BOKEH_SECRET.encode(),
        sign_sessions=True,
        xsrf_cookies=True,
        websocket_ping_interval=30,
        wsauth=WSAuth(JWTVerifier(KEY, algorithms=["HS256"])),
        **options,
    )


if __name__ == "__main__":
    make_server(port=5006).run_until_shutdown()
