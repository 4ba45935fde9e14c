"""Serve the first Python block of a README: ``python serve_snippet.py README.md``; prints the port it listens on.

It is copied next to an installed package and run there, so it imports nothing of this folder. It ends with its standard
input.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

SECRET = "a secret of 32 bytes or more for HS256"

# What the snippet takes for granted in "the Tornado application you already have". One with imports of its own is fine.
AROUND = """
from tornado.web import Application
from tornado.websocket import WebSocketHandler
from tornado_wsauth import JWTVerifier, TokenHandler, WebSocketAuthMixin, WSAuth
"""


def application(readme: str) -> Any:
    """Return the application that the snippet makes, called ``app``, or by ``make_app()``."""
    snippet = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[0]
    names: dict[str, Any] = {"SECRET": SECRET, "__name__": "readme"}
    exec(AROUND, names)
    exec(snippet, names)
    return names["app"] if "app" in names else names["make_app"]()


async def main(readme: str) -> None:
    server = application(readme).listen(0, "127.0.0.1")
    (listening, *_) = server._sockets.values()
    print(listening.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text(encoding="utf-8")))
