"""What a page says where its visitor does not look: console, uncaught errors, and where its requests go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page, Request, WebSocket

JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.")
_UPGRADE = r"WebSocket connection to 'ws://[\w.:]+/demo(\?token=[\w-]+)?' failed: "
_REQUEST = r"Failed to load resource: "

# What Chromium itself says, and no page can prevent.
REFUSED_UPGRADE_401 = _UPGRADE + "HTTP Authentication failed; no valid credentials available"
REFUSED_UPGRADE_503 = _UPGRADE + "Error during WebSocket handshake: Unexpected response code: 503"
UPGRADE_TO_NOBODY = _UPGRADE + r"Error in connection establishment: net::ERR_CONNECTION_\w+"
REQUEST_TO_NOBODY = _REQUEST + r"net::ERR_(CONNECTION_\w+|EMPTY_RESPONSE)"
REQUEST_OFFLINE = _REQUEST + r"net::ERR_INTERNET_DISCONNECTED"


def failed_request(status: int) -> str:
    """Return what Chromium says about a request that was answered with ``status``."""
    return _REQUEST + rf"the server responded with a status of {status} \(.*\)"


class Console:
    """Listens to ``page``, whose own address is ``url``, from now on."""

    def __init__(self, page: Page, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._allowed: list[str] = []
        self._lines: list[tuple[str, str]] = []
        self._errors: list[str] = []
        self.addresses: list[str] = []
        page.on("console", self._on_line)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("request", self._on_request)
        page.on("websocket", self._on_socket)

    def allow(self, *lines: str) -> None:
        """Let lines be that match one of these patterns, as far as they are the browser's and say what one provoked."""
        self._allowed += lines

    def _on_line(self, line: ConsoleMessage) -> None:
        self._lines.append((line.type, line.text))

    def _on_request(self, request: Request) -> None:
        self.addresses.append(request.url.removeprefix("blob:"))  # what a page has made itself has its address

    def _on_socket(self, socket: WebSocket) -> None:
        self.addresses.append(socket.url)

    def count(self, path: str) -> int:
        """Return how many requests and sockets went to ``path``."""
        return sum(urlsplit(address).path == path for address in self.addresses)

    def assert_clean(self) -> None:
        """Fail for what should not have been, and begin anew: nothing is allowed any more."""
        lines, errors, allowed, addresses = self._lines, self._errors, self._allowed, self.addresses
        self._lines, self._errors, self._allowed, self.addresses = [], [], [], []
        assert not errors, f"nobody caught this: {errors}"
        reports = [text for kind, text in lines if kind in ("error", "warning")]
        surprises = [text for text in reports if not any(re.fullmatch(pattern, text) for pattern in allowed)]
        assert not surprises, f"nothing is wrong that would belong into the console: {surprises}"
        leaks = [text for _, text in lines if JWT.search(text)]
        assert not leaks, f"a JWT is nobody's business but the server's: {leaks}"
        strangers = {address for address in addresses if urlsplit(address).netloc != self._host}
        assert not strangers, f"nothing comes from elsewhere, and nothing goes there: {strangers}"
