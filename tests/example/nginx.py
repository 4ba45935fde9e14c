"""A real nginx with the configuration that the example ships, in front of two servers of the test's own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from tests.fanout import self_signed
from tests.mongod import NO_SKIP_VARIABLE
from tests.support import RawClient, Response, jwt_message, make_auth, make_jwt
from tornado_wsauth import MemoryTokenStore, TokenHandler, WSAuth

SHIPPED = Path(__file__).parents[2] / "example_app" / "deploy" / "nginx.conf"
HOST = "app.example"
START_TIMEOUT = 10.0  # seconds


def require_nginx() -> str:
    """Return the path of ``nginx``; skip the test where there is none, or fail it where nothing may be skipped."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")  # where Debian has it, for root alone
    if binary is None:
        missing = "no nginx on the PATH: install it (Debian: apt-get install nginx-light)"
        if os.environ.get(NO_SKIP_VARIABLE):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return binary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nginx:
    """One nginx. ``changes`` are made to the shipped file beside those that no test can do without."""

    def __init__(self, folder: Path, upstreams: tuple[str, str], changes: dict[str, str]) -> None:
        self.folder = folder
        self.port, self.plain_port = free_port(), free_port()
        self.logs = folder / "logs"
        self.logs.mkdir()
        (folder / "certificate.pem").write_bytes(self_signed())
        self.tls = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        self.tls.check_hostname = False  # it is one for 127.0.0.1
        self._configuration = folder / "nginx.conf"
        self._configuration.write_text(self._substitute(upstreams, changes))
        self._process: subprocess.Popen[bytes] | None = None

    def _substitute(self, upstreams: tuple[str, str], changes: dict[str, str]) -> str:
        temporary = "".join(
            f" {kind}_temp_path {self.folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = SHIPPED.read_text()
        for old, new in {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",  # pytest's folders are nobody else's to enter
            "/run/nginx.pid": str(self.folder / "nginx.pid"),
            "/var/log/nginx": str(self.logs),
            "/etc/nginx/tls/fullchain.pem": str(self.folder / "certificate.pem"),
            "/etc/nginx/tls/privkey.pem": str(self.folder / "certificate.pem"),
            "http {": f"http {{{temporary}",
            "listen 80": f"listen 127.0.0.1:{self.plain_port}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "server 127.0.0.1:8001": f"server {upstreams[0]}",
            "server 127.0.0.1:8002": f"server {upstreams[1]}",
            "worker_rlimit_nofile 200000;": "",  # more than a test may have
            "worker_connections 65536;": "worker_connections 256;",
            **changes,
        }.items():
            assert old in text, f"{old} is not in {SHIPPED.name}"
            text = text.replace(old, new)
        return text

    def check(self) -> str:
        """Return what ``nginx -t`` says, its status included."""
        done = subprocess.run([*self._command(), "-t"], capture_output=True, text=True, timeout=20)
        return f"{done.stderr}status {done.returncode}"

    def start(self) -> None:
        self._process = subprocess.Popen([*self._command(), "-g", "daemon off;"], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.plain_port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "nginx ended"
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.01)
            else:
                return

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; with ``SIGQUIT``, once the last connection has ended, and is in the log."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def _command(self) -> list[str]:
        return [require_nginx(), "-p", str(self.folder), "-c", str(self._configuration), "-e", str(self.logs / "start")]


class Upstream:
    """One process of the application, as good as: an application of its own on a port of its own."""

    def __init__(self, handler: type, tokens: MemoryTokenStore, options: dict[str, Any]) -> None:
        self.auth: WSAuth = make_auth(tokens=tokens, **options)
        app = Application(
            [(r"/ws/token", TokenHandler), (r"/demo", handler)], wsauth=self.auth, websocket_ping_interval=30
        )
        self._server = HTTPServer(app, xheaders=True)
        bound, self.port = bind_unused_port()
        self._server.add_socket(bound)

    async def close(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


class Behind:
    """The application behind nginx, and what a client in front of it does."""

    def __init__(self, nginx: Nginx, upstreams: list[Upstream]) -> None:
        self.nginx = nginx
        self.upstreams = upstreams
        self._clients: list[RawClient] = []

    async def dial(self, *, tls: bool = True, name: str = HOST) -> RawClient:
        """Connect to nginx; nothing is sent yet."""
        port, context, server_name = self.nginx.plain_port, None, None
        if tls:
            port, context, server_name = self.nginx.port, self.nginx.tls, name
        streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_name)
        self._clients.append(RawClient(*streams))
        return self._clients[-1]

    async def post_token(self, user: str = "alice", **headers: str) -> Response:
        client = await self.dial()
        client.send(post_request(Authorization=f"Bearer {make_jwt(user)}", **headers))
        return await client.read_response()

    async def token(self, user: str = "alice") -> str:
        return await self.upstreams[0].auth.issue_token(user)

    async def upgrade(self, token: str, *, path: str = "/demo", **headers: str) -> tuple[RawClient, Response]:
        client = await self.dial()
        return client, await client.upgrade(f"{path}?token={token}", **{"Host": HOST, **headers})

    async def enter(self, token: str, user: str = "alice") -> RawClient:
        """Go through the whole handshake."""
        client, response = await self.upgrade(token)
        assert response.status == 101, response
        client.send_text(jwt_message(make_jwt(user)))
        assert (await client.read_json())["type"] == "auth_ok"
        return client

    async def logged(self) -> str:
        """Let all clients leave and nginx end; return what is in its logs."""
        for client in self._clients:
            client.abort()
        await asyncio.to_thread(self.nginx.stop, signal.SIGQUIT)
        return "".join(path.read_text() for path in self.nginx.logs.iterdir())

    async def close(self) -> None:
        for client in self._clients:
            client.abort()
        for upstream in self.upstreams:
            await upstream.auth.close(grace=0)
            await upstream.close()
        self.nginx.stop()


def post_request(**headers: str) -> bytes:
    """Return a request for a token."""
    fields = {"Host": HOST, "Content-Length": "0", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return "\r\n".join(
        ["POST /ws/token HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items()), "", ""]
    ).encode()


def directives(name: str) -> list[str]:
    """Return what follows ``name`` in the shipped file, for each time it stands there."""
    without_comments = re.sub(r"(^|\s)#.*", "", SHIPPED.read_text())
    return re.findall(rf"(?m)^\s*{name}\s+([^;]+);", without_comments)
