"""The page and its files, as ``npm run build`` leaves them in ``frontend/dist/``."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from tornado.web import StaticFileHandler

PAGE = Path(__file__).parent / "frontend" / "dist"

# Windows may have "text/plain" for it in its registry, and with nosniff a browser then runs no script at all.
mimetypes.add_type("text/javascript", ".js")


class Page(StaticFileHandler):
    """Serves them with headers that leave a stranger's script, style or frame nothing to do there."""

    async def get(self, path: str, include_body: bool = True) -> None:
        if not (Path(self.root) / "index.html").is_file():
            self.set_status(503)
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish("The page is not built yet. Run: cd example_app/frontend && npm ci && npm run build\n")
            return
        await super().get(path, include_body)

    def set_default_headers(self) -> None:
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "no-referrer")

    def set_extra_headers(self, path: str) -> None:
        # Names of assets have a digest of their content in them; all else is asked for again, so that an edit shows.
        is_asset = path.startswith("assets/")
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if is_asset else "no-cache")
