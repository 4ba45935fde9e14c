"""What reads the blocks that are neither Python nor shell: each language is checked by a program or library that would
have to read it anyway. A language that stands in no table here is unknown, and a page must not use it.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import yaml

from tests.docs.blocks import Block, PageError

TIMEOUT = 30.0  # seconds
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
START_LINE = re.compile(r"^([A-Z]+ /\S* HTTP/1\.1|HTTP/1\.1 \d{3} [\w ]+)$")


def check(block: Block) -> None:
    """Check a block by what reads its language. Raises `PageError`."""
    try:
        LANGUAGES[block.language](block.code)
    except PageError:
        raise
    except Exception as error:
        raise block.wrong(f"{block.language}: {error}") from error


def _output(code: str) -> None:
    """Output, or wire traffic: for eyes alone."""


def _yaml(code: str) -> None:
    for document in yaml.safe_load_all(code):
        if not isinstance(document, (dict, list)):
            raise ValueError(f"is a {type(document).__name__}, and no configuration")


def _ini(code: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(code)


def _http(code: str) -> None:
    head, _, body = code.partition("\n\n")
    start, *fields = head.strip().split("\n")
    if not START_LINE.match(start):
        raise ValueError(f"{start!r} is neither a request line nor a status line")
    for field in fields:
        if field != "…" and not re.match(r"^[A-Za-z][\w-]*: \S", field):
            raise ValueError(f"{field!r} is no header field")
    if body.strip().startswith("{"):
        json.loads(body)


def _javascript(code: str) -> None:
    _run_over(code, "page.mjs", [_program("node"), "--check"])


def _jsx(code: str) -> None:
    import tree_sitter_javascript
    from tree_sitter import Language, Node, Parser

    def find_error(node: Node) -> Node | None:
        if node.is_error or node.is_missing:
            return node
        return next(filter(None, map(find_error, node.children)), None) if node.has_error else None

    wrong = find_error(Parser(Language(tree_sitter_javascript.language())).parse(code.encode()).root_node)
    if wrong is not None:
        raise ValueError(f"line {wrong.start_point.row + 1} of the block is no JavaScript: {wrong.text!r:.60}")


class _Balance(HTMLParser):
    """Reads HTML whose elements are all closed, as ours are, and collects its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script" and "src" not in dict(attrs):
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        opened = self.open.pop() if self.open else "nothing"
        if opened != tag:
            raise ValueError(f"</{tag}> in line {self.getpos()[0]} of the block closes <{opened}>")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self.scripts:
            self.scripts[-1] += data


def _html(code: str) -> None:
    parser = _Balance()
    parser.feed(code)
    parser.close()
    left = [tag for tag in parser.open if tag not in {"html", "head", "body", "p", "li"}]
    if left:
        raise ValueError(f"<{left[-1]}> is never closed")
    for script in parser.scripts:
        _javascript(script)


PLACES = (("", ""), ("http {", "}"), ("http { server {", "}}"), ("http { server { location / {", "}}}"))
LISTEN = re.compile(r"(?<!\w)listen\s+(?:[\w.*:\[\]]+:)?\d+(?:\s+(?:ssl|http2|reuseport|default_server))*;")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _nginx(code: str) -> None:
    """Try a piece of configuration where it may stand: as a whole, among servers, in a server, in a location."""
    from tests.fanout import self_signed

    said = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "certificate.pem").write_bytes(self_signed())
        code = re.sub(r"(ssl_certificate(?:_key)?)\s+[^;]+;", rf"\1 {folder}/certificate.pem;", code)
        code = re.sub(r"/(?:var/log/nginx|run)/", f"{folder}/", code)
        for place in PLACES:
            problem = _try_nginx(code, place, folder)
            if problem is None:
                return
            said.append(f"{place[0] or 'as it is'}: {problem}")
    raise ValueError("nginx takes it nowhere\n" + "\n".join(said))


def _try_nginx(code: str, place: tuple[str, str], folder: Path) -> str | None:
    """Return what nginx has against ``code`` in that place; None if nothing. It listens on no port for that."""
    from tests.example.nginx import require_nginx

    text = f"events {{}} {place[0]} {code} {place[1]}" if place[0] else code
    if "client_body_temp_path" not in code:
        paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in TEMPORARY)
        text = re.sub(r"\bhttp\s*\{", f"http {{ {paths}", text, count=1)
    text = re.sub(r"\bserver\s*\{", f"server {{ listen unix:{folder}/socket;", LISTEN.sub("", text), count=1)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = [require_nginx(), "-t", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")]
    command += ["-g", f"pid {folder}/pid;"] if place[0] else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return done.stderr.strip() if done.returncode else None


def _haproxy(code: str) -> None:
    _run_over(code, "haproxy.cfg", [_program("haproxy"), "-c", "-f"])


def _caddy(code: str) -> None:
    _run_over(code, "Caddyfile", [_program("caddy"), "adapt", "--adapter", "caddyfile", "--config"])


def _promql(code: str) -> None:
    import promql_parser

    for query in re.split(r"\n\s*\n", re.sub(r"(?m)^\s*#.*$", "", code)):
        if query.strip():
            promql_parser.parse(query.strip())


def _redis(code: str) -> None:
    """Have a Redis of its own take each command."""
    import redis

    from tests.redis_server import RedisServer

    server = RedisServer()
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for line in filter(None, code.split("\n")):
                client.execute_command(*shlex.split(line))
    finally:
        server.close()


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise FileNotFoundError(f"no {name} on the PATH, and it is what checks this block: install it")
    return found


def _run_over(code: str, file_name: str, command: list[str]) -> None:
    """Run ``command`` over a file with ``code``. Raises `ValueError` with what it says if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, file_name)
        file.write_text(code, encoding="utf-8")
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise ValueError((done.stdout + done.stderr).strip())


LANGUAGES: dict[str, Callable[[str], object]] = {
    "text": _output,
    "console": _output,
    "http": _http,
    "json": json.loads,
    "yaml": _yaml,
    "toml": tomllib.loads,
    "ini": _ini,
    "js": _javascript,
    "javascript": _javascript,
    "jsx": _jsx,
    "html": _html,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
    "promql": _promql,
    "redis": _redis,
}
