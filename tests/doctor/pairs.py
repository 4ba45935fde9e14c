"""For each finding that needs no server, an application that has it and one that has not."""

from __future__ import annotations

from typing import Any, ClassVar

from redis.asyncio import Redis
from tornado.routing import HostMatches, Router, Rule, RuleRouter
from tornado.web import Application, RequestHandler

from tests.doctor.kit import KEY, OTHER_KEY, Chat, Open, Pair, make_app, make_auth, serve
from tornado_wsauth import JWTVerifier, MemoryBackplane, RedisBackplane, RedisTokenStore, TokenHandler, WSAuth
from tornado_wsauth.backplane.memory import Hub
from tornado_wsauth.doctor.subject import Subject, subject_of


class OtherChat(Chat):
    wsauth_setting = "wsauth_other"


class OtherToken(TokenHandler):
    wsauth_setting = "wsauth_other"


class PingedChat(Chat):
    """Has an interval of its own, as Jupyter's handlers do."""

    @property
    def ping_interval(self) -> float:
        return float(self.settings["my_ping_interval"])


class Compressing(Chat):
    def get_compression_options(self) -> dict[str, Any] | None:
        return {}


class OpenToAll(Chat):
    def check_origin(self, origin: str) -> bool:
        return True


class OpenToOne(Chat):
    def check_origin(self, origin: str) -> bool:
        return origin == "https://app.example"


class PreparedChat(Chat):
    """Remembers what of it was run. It overrides ``prepare`` without ``super()``, which is no finding."""

    ran: ClassVar[list[str]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ran.append("__init__")
        super().__init__(*args, **kwargs)

    def initialize(self) -> None:
        self.ran.append("initialize")

    def prepare(self) -> None:  # type: ignore[override]
        self.ran.append("prepare")


class SilentRouter(Router):
    """Knows when it is asked."""


def shared(**options: Any) -> Any:
    """Return the two parts of a `WSAuth` that processes share, on a Redis that nobody asks."""
    redis = Redis.from_url("redis://redis.invalid")
    return make_auth(RedisTokenStore(redis), backplane=RedisBackplane(redis), **options)


def half_shared() -> Any:
    return make_auth(backplane=RedisBackplane(Redis.from_url("redis://redis.invalid")))


def alone(app: Application, processes: int | None = None) -> Subject:
    """Return the application as it is looked at with ``--no-connect``."""
    return subject_of(app, processes=processes, connect=False)


def redis_tokens() -> RedisTokenStore:
    return RedisTokenStore(Redis.from_url("redis://redis.invalid"))


def twice(first: JWTVerifier, second: JWTVerifier) -> Application:
    """Return an application with two policies."""
    return make_app(
        (r"/other/token", OtherToken), (r"/other", OtherChat), auth=WSAuth(first), wsauth_other=WSAuth(second)
    )


def keyed(key: str, **options: Any) -> JWTVerifier:
    return JWTVerifier(key, ["HS256"], **options)


def bound(client_address: Any = None) -> Application:
    """Return an application whose tokens are bound to addresses."""
    options = {} if client_address is None else {"client_address": client_address}
    return make_app(auth=make_auth(bind_tokens=["address"], **options))


def by_remote_ip(request: Any) -> str:
    return str(request.remote_ip)


def by_header(request: Any) -> str:
    return str(request.headers.get("X-Forwarded-For", "").split(",")[0])


ROUTING = [
    Pair("no-guarded-route", "warning", lambda: Application([(r"/open", Open)]), make_app),
    Pair("no-wsauth", "error", lambda: make_app(wsauth=None), make_app),
    Pair("no-wsauth", "error", lambda: make_app((r"/o", OtherChat)), make_app, "under another setting"),
    Pair("no-token-route", "warning", lambda: Application([(r"/ws", Chat)], wsauth=make_auth()), make_app),
    Pair(
        "no-token-route",
        "warning",
        lambda: make_app((r"/o", OtherChat), wsauth_other=make_auth()),
        lambda: make_app((r"/o", OtherChat), (r"/o/token", OtherToken), wsauth_other=make_auth()),
        "of another policy",
    ),
    Pair("unguarded-route", "warning", lambda: make_app((r"/open", Open)), make_app),
    Pair(
        "unguarded-route",
        "warning",
        lambda: make_app((r"/open", Open)),
        lambda: Application([(r"/open", Open)]),
        "all of them",
    ),
    Pair(
        "opaque-routing",
        "note",
        lambda: RuleRouter(
            [Rule(HostMatches("a.example"), make_app()), Rule(HostMatches("b.example"), SilentRouter())]
        ),
        lambda: RuleRouter([Rule(HostMatches("a.example"), make_app())]),
    ),
]

KEYS = [
    *(
        Pair("weak-key", "error", lambda key=key: make_app(auth=make_auth(key=key)), make_app, name)  # type: ignore[misc]
        for name, key in {
            "one character": "x" * 40,
            "repeated": "kQ7z" * 10,
            "an example's": "your-256-bit-secret-goes-in-here",
            "CHANGE-ME": "CHANGE-ME-q8Zr4LwXe6KfMj2NvYc9HdGu5PsAi7RkOx3",
            "the alphabet": "zyxwvutsrqponmlkjihgfedcba987654",
            "few letters": "aabbbacabcbbaccabacbbcabacabbbca",
            "one of several": {"old": KEY, "new": "p" * 32},
        }.items()
    ),
    Pair("shared-key", "warning", lambda: make_app(cookie_secret=KEY), lambda: make_app(cookie_secret=OTHER_KEY)),
    Pair(
        "shared-key",
        "warning",
        lambda: make_app(cookie_secret={0: OTHER_KEY, 1: KEY}),
        lambda: make_app(cookie_secret={0: OTHER_KEY}),
        "of several",
    ),
    Pair(
        "same-key-twice", "warning", lambda: twice(keyed(KEY), keyed(KEY)), lambda: twice(keyed(KEY), keyed(OTHER_KEY))
    ),
    Pair(
        "same-key-twice",
        "warning",
        lambda: twice(keyed(KEY, audience="a"), keyed(KEY, audience=["a", "b"])),
        lambda: twice(keyed(KEY, audience="a"), keyed(KEY, audience="b")),
        "told apart by audience",
    ),
    Pair(
        "same-key-twice",
        "warning",
        lambda: twice(keyed(KEY, issuer="a"), keyed(KEY)),
        lambda: twice(one := keyed(KEY), one),
        "one verifier on purpose",
    ),
]

SOCKETS = [
    Pair("debug", "error", lambda: make_app(serve_traceback=True), lambda: make_app(serve_traceback=False)),
    Pair("any-origin", "warning", lambda: make_app(chat=OpenToAll), lambda: make_app(chat=OpenToOne)),
    Pair(
        "any-origin",
        "warning",
        lambda: make_app(chat=OpenToAll),
        lambda: make_app(chat=OpenToAll, auth=make_auth(allowed_origins=["https://app.example"])),
        "beside a list",
    ),
    Pair(
        "no-origin-list",
        "note",
        make_app,
        lambda: make_app(auth=make_auth(allowed_origins=["https://app.example"])),
    ),
    Pair("reusable-tokens", "warning", lambda: make_app(auth=make_auth(single_use=False)), make_app),
    Pair(
        "expiry-disabled",
        "warning",
        lambda: make_app(auth=make_auth(enforce_expiry=False)),
        lambda: make_app(auth=make_auth(enforce_expiry=False, still_valid=lambda session: True)),
    ),
    Pair("no-ping-interval", "warning", lambda: make_app(websocket_ping_interval=0), make_app),
    Pair("no-ping-interval", "warning", lambda: make_app(websocket_ping_interval=None), make_app, "None"),
    Pair(
        "no-ping-interval",
        "warning",
        lambda: make_app(chat=PingedChat, my_ping_interval=0),
        lambda: make_app(chat=PingedChat, my_ping_interval=20, websocket_ping_interval=0),
        "of a handler",
    ),
    Pair("slow-ping-interval", "warning", lambda: make_app(websocket_ping_interval=60), make_app),
    Pair(
        "huge-max-message-size",
        "warning",
        lambda: make_app(websocket_max_message_size=100 * 2**20),
        lambda: make_app(websocket_max_message_size=10 * 2**20),
    ),
    Pair("compression-with-broadcasts", "warning", lambda: make_app(chat=Compressing), make_app),
]

PROCESSES = [
    Pair(
        "memory-store-with-processes",
        "error",
        lambda: alone(make_app(auth=half_shared())),
        lambda: alone(make_app(auth=shared())),
        "by its backplane",
    ),
    Pair(
        "memory-store-with-processes",
        "error",
        lambda: subject_of(make_app(), processes=2),
        lambda: make_app(auth=make_auth(backplane=MemoryBackplane(Hub()))),
        "by their number",
    ),
    Pair("memory-store", "note", make_app, lambda: alone(make_app(auth=shared()))),
    Pair("memory-store", "note", make_app, lambda: subject_of(make_app(), processes=1), "of one process"),
    Pair(
        "memory-backplane-with-processes",
        "error",
        lambda: subject_of(make_app(auth=make_auth(backplane=MemoryBackplane(Hub()))), processes=2),
        lambda: make_app(auth=make_auth(backplane=MemoryBackplane(Hub()))),
    ),
    Pair(
        "no-backplane",
        "warning",
        lambda: alone(make_app(auth=make_auth(redis_tokens())), 2),
        lambda: alone(make_app(auth=shared()), 2),
    ),
    Pair("no-backplane", "warning", lambda: subject_of(make_app(), processes=2), make_app, "in one process"),
]

PROXIES = [
    Pair(
        "xheaders-without-proxies",
        "warning",
        lambda: serve(make_app(), xheaders=True),
        lambda: serve(make_app(), xheaders=True, trusted_downstream=["10.0.0.1"]),
    ),
    Pair(
        "xheaders-without-proxies",
        "warning",
        lambda: serve(make_app(), xheaders=True),
        lambda: serve(make_app()),
        "without a proxy",
    ),
    Pair("xheaders-unknown", "note", make_app, lambda: serve(make_app())),
    Pair("forgeable-address", "warning", lambda: bound(by_header), lambda: bound(by_remote_ip)),
    Pair(
        "forgeable-address",
        "warning",
        lambda: bound(by_header),
        lambda: make_app(auth=make_auth(bind_tokens=["path"], client_address=by_header)),
        "of what is bound to a path",
    ),
    Pair(
        "address-of-proxy",
        "warning",
        lambda: serve(bound(), xheaders=True),
        lambda: serve(bound(by_remote_ip), xheaders=True),
    ),
    Pair(
        "address-of-proxy", "warning", lambda: serve(bound(), xheaders=True), lambda: serve(bound()), "without a proxy"
    ),
    Pair(
        "remote-ip-without-xheaders",
        "warning",
        lambda: serve(bound(by_remote_ip)),
        lambda: serve(bound(by_remote_ip), xheaders=True),
    ),
    Pair("remote-ip-without-xheaders", "note", lambda: bound(by_remote_ip), bound, "unknown"),
]


class Starred(RequestHandler):
    """A base handler of many applications."""

    def set_default_headers(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")


class Echoing(Starred):
    """Believes that a wildcard is what is wrong with the wildcard."""

    def set_default_headers(self) -> None:
        self.set_header("Access-Control-Allow-Origin", self.request.headers.get("Origin", ""))


class StarredByTransform:
    """An output transform that puts the header on whatever is answered."""

    def __init__(self, request: Any) -> None: ...

    def transform_first_chunk(self, status: int, headers: Any, chunk: bytes, finishing: bool) -> Any:
        headers["Access-Control-Allow-Origin"] = "*"
        return status, headers, chunk

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        return chunk


class Protected(TokenHandler, Starred):
    """`TokenHandler` takes back what the base handler says."""


CORS = [
    Pair(
        "wildcard-cors",
        "error",
        lambda: make_app(transforms=[StarredByTransform]),
        lambda: make_app((r"/mine", Protected)),
        "by a transform",
    ),
    Pair(
        "wildcard-cors",
        "error",
        lambda: make_app((r"/my-token", Starred)),
        lambda: make_app((r"/news", Starred)),
        "own",
    ),
    Pair("wildcard-cors", "error", lambda: make_app((r"/my-token", Echoing)), make_app, "echoed"),
    Pair(
        "token-route-not-asked",
        "note",
        lambda: make_app((r"/(a|(b))/token", TokenHandler)),
        lambda: make_app((r"/([a-z0-9]+)/token", TokenHandler)),
    ),
]

PAIRS = [*ROUTING, *KEYS, *SOCKETS, *PROCESSES, *PROXIES, *CORS]

WITH_SERVERS = {"server-unreachable", "standalone-mongodb", "ttl-index-missing", "ttl-index-wrong", "redis-evicts"}
"""The findings whose tests are beside those of their servers."""
