"""Findings about the WebSockets themselves: pings, sizes, compression, origins, how long sessions last."""

from __future__ import annotations

from collections.abc import Iterator

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.specimen import admits_anybody, compresses, message_bytes, ping_seconds
from tornado_wsauth.doctor.subject import Subject, named

PROXY_TIMEOUT = 60
"""Seconds of silence after which proxies end a connection, unless told otherwise: nginx, HAProxy's usual, AWS, …"""

TORNADOS_MESSAGE_SIZE = 10 * 2**20
"""Bytes; what Tornado reads unless told otherwise."""


def no_ping_interval(subject: Subject) -> Iterator[Finding]:
    """Connections whose other end has vanished stay."""
    routes = [route for route in subject.guarded if ping_seconds(route) == 0]
    if routes:
        yield Finding(
            "no-ping-interval",
            "warning",
            "Application(websocket_ping_interval=…)",
            f"clients of {named(routes)} are never pinged: one that vanishes without a word stays connected until its "
            "JWT expires, counts against its user's limit, and a proxy cuts off whoever is silent",
            "set websocket_ping_interval=30",
        )


def slow_ping_interval(subject: Subject) -> Iterator[Finding]:
    """Pings that come later than a proxy's patience ends."""
    for route in subject.guarded:
        seconds = ping_seconds(route)
        if seconds is not None and seconds >= PROXY_TIMEOUT:
            yield Finding(
                "slow-ping-interval",
                "warning",
                "Application(websocket_ping_interval=…)",
                f"clients of {route.where} are pinged every {seconds:g} s; proxies end a connection that is silent for "
                f"{PROXY_TIMEOUT} s",
                "set websocket_ping_interval=30, or anything shorter than the timeout of the proxy",
            )


def huge_max_message_size(subject: Subject) -> Iterator[Finding]:
    """One message may take a lot of memory."""
    for route in subject.guarded:
        size = message_bytes(route)
        if size is not None and size > TORNADOS_MESSAGE_SIZE:
            yield Finding(
                "huge-max-message-size",
                "warning",
                "Application(websocket_max_message_size=…)",
                f"each client of {route.where} may make the process hold a message of {size / 2**20:.0f} MiB",
                "set websocket_max_message_size to what your messages need, in bytes; send large files over HTTP",
            )


def compression_with_broadcasts(subject: Subject) -> Iterator[Finding]:
    """Compression makes each broadcast cost as much as a loop of messages."""
    routes = [route for route in subject.guarded if compresses(route)]
    if routes:
        yield Finding(
            "compression-with-broadcasts",
            "warning",
            f"get_compression_options() of {named(routes)}",
            "a broadcast is compressed anew for each client, instead of framed once for all; and what is secret can be "
            "guessed by its length where an attacker's text is compressed with it (as BREACH does)",
            "return None from get_compression_options(), and compress large payloads yourself; if you never broadcast "
            "and no secret meets foreign text, accept it with --ignore compression-with-broadcasts",
        )


def any_origin(subject: Subject) -> Iterator[Finding]:
    """Pages of any site may connect."""
    for policy in subject.policies:
        routes = [route for route in subject.guarded_by(policy.auth) if admits_anybody(route)]
        if policy.auth.allowed_origins is None and routes:
            yield Finding(
                "any-origin",
                "warning",
                f"check_origin() of {named(routes)}",
                "pages of any site may connect; the token and the JWT are then all that keeps them out",
                f'list your origins, {policy.at("allowed_origins=[…]")} such as "https://app.example": check_origin() '
                "is not asked then",
            )


def no_origin_list(subject: Subject) -> Iterator[Finding]:
    """Nobody has said which origins may connect."""
    for policy in subject.policies:
        routes = subject.guarded_by(policy.auth)
        if policy.auth.allowed_origins is None and routes and not any(map(admits_anybody, routes)):
            yield Finding(
                "no-origin-list",
                "note",
                policy.at("allowed_origins=…"),
                f"the check_origin() of each handler decides which pages may connect to {named(routes)}: by default "
                "those of the Host that the request names, as the proxy passes it on",
                'list them, allowed_origins=["https://app.example"]; the list holds for the token route, too',
            )


def expiry_disabled(subject: Subject) -> Iterator[Finding]:
    """Connections outlive their JWT."""
    for policy in subject.policies:
        if not policy.auth.lifetimes.ends_sessions:
            yield Finding(
                "expiry-disabled",
                "warning",
                policy.at("enforce_expiry=False"),
                "a connection goes on for ever after its JWT has expired, and nothing else ends it",
                "leave enforce_expiry out, and let clients renew (ours do); or give still_valid=, which is asked about "
                "each session",
            )


def reusable_tokens(subject: Subject) -> Iterator[Finding]:
    """A token that was seen in a log opens another connection."""
    for policy in subject.policies:
        if not policy.auth.single_use:
            yield Finding(
                "reusable-tokens",
                "warning",
                policy.at("single_use=False"),
                f"a token can be redeemed again for {policy.auth.token_ttl:g} s, by whoever reads it in a log",
                "leave single_use out; a client that reconnects fetches a new token",
            )


def debug(subject: Subject) -> Iterator[Finding]:
    """The settings of a developer's machine."""
    for application in subject.applications:
        found = [name for name in ("debug", "autoreload", "serve_traceback") if application.settings.get(name)]
        if found:
            found = found[:1] if found[0] == "debug" else found
            yield Finding(
                "debug",
                "error",
                f"Application({', '.join(f'{name}=True' for name in found)})",
                "answers show tracebacks, or the process restarts when a file changes, and cuts every connection off",
                "set it on the developer's machine alone, such as by an environment variable",
            )
