"""``python -m example_app``: runs `example_app.app` until SIGINT or SIGTERM. ``--help`` lists the options."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from tornado.log import enable_pretty_logging
from tornado.netutil import bind_sockets

from example_app.accounts import ALGORITHM
from example_app.build import BuildError, ensure_page
from example_app.engine import Engine, make_engine
from example_app.serving import Server
from example_app.terminal import StartError, one_line_for_errors, say
from tornado_wsauth import ConfigurationError, JWTVerifier

MOST_PROCESSES = 64

Sockets = Sequence[socket.socket]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}; --help lists the options", status=2)


def main() -> None:
    """Run until a signal comes, then exit with status 0; say so in one line and exit with 1 or 2 if that fails."""
    with one_line_for_errors():
        options = _read_options()
        enable_pretty_logging()
        _build_page()
        with _bound(options.port, options.address) as sockets:
            if options.processes == 1:
                asyncio.run(_server(options, sockets).serve(functools.partial(_welcome, options, sockets)))
            else:
                _serve_in_processes(options, sockets)


def _welcome(options: argparse.Namespace, sockets: Sockets, engine: Engine) -> None:
    say(f"Open {_url(sockets[0])} in a browser. Tokens are kept {engine.where}; Ctrl+C stops.")
    _say_where_metrics_are(options)


def _serve_in_processes(options: argparse.Namespace, sockets: Sockets) -> None:
    from example_app.processes import Family  # Windows cannot fork

    def work(number: int, ready: Callable[[], None]) -> None:
        asyncio.run(_server(options, sockets, number).serve(lambda _: ready()))

    family = Family(options.processes, work, grace=options.grace)
    family.start()
    pids = ", ".join(map(str, family.pids))
    where = "Redis" if options.redis_url else "MongoDB"
    say(f"Open {_url(sockets[0])} in a browser. {options.processes} processes ({pids}) share {where}; Ctrl+C stops.")
    _say_where_metrics_are(options)
    family.wait()


def _say_where_metrics_are(options: argparse.Namespace) -> None:
    first, last = options.metrics_port, options.metrics_port + options.processes - 1
    if first:
        others = f", and so on up to port {last}" if last > first else ""
        say(f"For Prometheus: http://127.0.0.1:{first}/metrics{others}.")


def _server(options: argparse.Namespace, sockets: Sockets, process: int = 1) -> Server:
    engine = functools.partial(make_engine, redis_url=options.redis_url, mongodb_uri=options.mongodb_uri)
    return Server(
        sockets,
        engine,
        options.grace,
        options.jwt_secret,
        process,
        options.processes,
        options.behind_proxy,
        options.metrics_port,
    )


def _read_options() -> argparse.Namespace:
    parser = Parser(prog="python -m example_app", allow_abbrev=False, description="The reference application.")
    add = parser.add_argument
    add("--port", default=8888, type=int, help="port to listen on (8888); 0 takes any free one")
    add("--address", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--processes", default=1, type=int, metavar="N", help="how many serve (1); they share Redis or MongoDB")
    add("--redis-url", metavar="URL", help="keep tokens, logins and keys in this Redis: redis://localhost")
    add("--mongodb-uri", metavar="URI", help="or in this MongoDB, a replica set: mongodb://localhost/example")
    add("--grace", default=5, type=float, metavar="SECONDS", help="how long a stopped server lets its clients go (5)")
    add(
        "--metrics-port",
        default=0,
        type=int,
        metavar="PORT",
        help="serve /metrics to this machine on this port, and on the next ones for further processes (nowhere)",
    )
    add("--behind-proxy", action="store_true", help="believe the headers of a proxy, such as deploy/nginx.conf's")
    add(
        "--jwt-secret",
        metavar="SECRET",
        help="what the first JWTs are signed with, at least 32 bytes, unless Redis or MongoDB has a key already; left "
        "out, a new random one",
    )
    options = parser.parse_args()
    for is_wrong, advice in _faults(options):
        if is_wrong:
            raise StartError(advice, status=2)
    if options.jwt_secret is not None:
        try:
            JWTVerifier(options.jwt_secret, [ALGORITHM])
        except ConfigurationError as error:
            raise StartError(f"--jwt-secret: {error}", status=2) from error
    return options


def _faults(options: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    """Yield what may be wrong, whether it is, and what to do about it."""
    port, grace, processes = options.port, options.grace, f"--processes={options.processes}"
    yield not 0 <= port <= 65535, f"--port={port}: a port is a number from 0 to 65535"
    yield not 0 <= grace < 3600, f"--grace={grace}: seconds, from 0 to an hour; 5 is the default"
    yield not 1 <= options.processes <= MOST_PROCESSES, f"{processes}: a number from 1 to {MOST_PROCESSES}"
    ports, last = options.metrics_port, 65536 - options.processes
    yield not 0 <= ports <= last, f"--metrics-port={ports}: a port from 1 to {last}, 9101 for example; 0 for none"
    yield options.redis_url and options.mongodb_uri, "--redis-url and --mongodb-uri: choose one of them"
    if options.processes > 1:
        is_alone = not options.redis_url and not options.mongodb_uri
        yield (
            is_alone,
            f"{processes}: they need something to share; add --redis-url=redis://localhost, or --mongodb-uri",
        )
        yield not hasattr(os, "fork"), f"{processes}: this system cannot fork; start one for each --port instead"


def _build_page() -> None:
    try:
        ensure_page()
    except BuildError as error:
        raise StartError(str(error)) from error


@contextlib.contextmanager
def _bound(port: int, address: str) -> Iterator[Sockets]:
    try:
        sockets = bind_sockets(port, address)
    except OSError as error:
        raise StartError(
            f"cannot listen on {address}, port {port}: {error}; "
            f"choose another port with --port=8889, or any free one with --port=0"
        ) from error
    try:
        yield sockets
    finally:
        for listening in sockets:
            listening.close()


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listened on, but no place to go to
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # before the signal handlers are there
        main()
