"""`ClientFilesHandler`: serves the browser's half, ``client/*.js``, from the installed package."""

from __future__ import annotations

from pathlib import Path

from tornado.web import HTTPError, StaticFileHandler

CLIENT = Path(__file__).parent / "client"
FILES = frozenset(path.name for path in CLIENT.glob("*.js"))


class ClientFilesHandler(StaticFileHandler):
    """Serves ``wsauth.js``, ``react.js`` and what they import: ``(r"/wsauth/(.*)", ClientFilesHandler)``.

    A page loads it by ``import {connect} from "/wsauth/wsauth.js"``. Anything else in that folder is a 404. Browsers
    ask again each time whether it has changed (``ETag``), so that a page never runs with a client older than its
    server.
    """

    def initialize(self) -> None:  # type: ignore[override]  # the route has nothing to say about where they are
        super().initialize(str(CLIENT))

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")

    async def get(self, path: str, include_body: bool = True) -> None:
        if path not in FILES:
            raise HTTPError(404)
        await super().get(path, include_body)

    def get_content_type(self) -> str:
        return "text/javascript"  # whatever the machine's own table of types says (RFC 9239 §6)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")
