"""What a connection token can be bound to: the origin, the path or the address it was issued for.

`auth` checks the option, `token_handler` says what a token is issued for, `handshake` where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from tornado.httputil import HTTPServerRequest

from tornado_wsauth import wire
from tornado_wsauth.errors import ConfigurationError

Bond = Literal["origin", "path", "address"]

BONDS: tuple[Bond, ...] = get_args(Bond)

KEY = "wsauth_bound_to"
"""Where a token's context says what it is bound to."""

ClientAddress = Callable[[HTTPServerRequest], str]


def peer_address(request: HTTPServerRequest) -> str:
    """Return the address at the other end of the TCP connection: the proxy's, behind a proxy.

    ``request.remote_ip`` would be what a header says as soon as ``xheaders`` is on, and a client can send one.
    """
    return wire.peer_address(request)


def place(
    bonds: Iterable[Bond], request: HTTPServerRequest, path: str | None, client_address: ClientAddress
) -> dict[str, str | None]:
    """Return where ``request`` comes from and goes to, as far as ``bonds`` are concerned.

    Raises `ConfigurationError` when ``client_address`` returns something other than text, as which all are alike.
    """

    def address() -> str:
        found: object = client_address(request)
        if not isinstance(found, str):
            raise ConfigurationError(f"WSAuth(client_address=…) returned {found!r}: it must return a str")
        return found

    known: dict[str, Callable[[], str | None]] = {
        "origin": lambda: request.headers.get("Origin"),
        "path": lambda: path,
        "address": address,
    }
    return {bond: known[bond]() for bond in bonds}


def broken_bonds(context: Mapping[str, Any] | None, found: Mapping[str, str | None]) -> list[str]:
    """Return in what a token of this ``context`` is used elsewhere than ``found``. One that is not bound is nowhere."""
    bound_to = (context or {}).get(KEY)
    if not isinstance(bound_to, Mapping):
        return list(found)
    return [bond for bond, value in found.items() if bond not in bound_to or bound_to[bond] != value]
