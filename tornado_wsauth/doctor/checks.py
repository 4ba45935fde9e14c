"""All checks, in the order in which their findings of one level are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from tornado_wsauth.doctor import cors, keys, processes, proxies, routing, servers, sockets
from tornado_wsauth.doctor.findings import LEVELS, Finding
from tornado_wsauth.doctor.subject import Subject

CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    routing.no_guarded_route,
    routing.no_wsauth,
    routing.no_token_route,
    routing.unguarded_route,
    routing.opaque_routing,
    keys.weak_key,
    keys.shared_key,
    keys.same_key_twice,
    sockets.debug,
    sockets.any_origin,
    sockets.no_origin_list,
    sockets.reusable_tokens,
    sockets.expiry_disabled,
    sockets.no_ping_interval,
    sockets.slow_ping_interval,
    sockets.huge_max_message_size,
    sockets.compression_with_broadcasts,
    processes.memory_store,
    processes.memory_backplane,
    processes.no_backplane,
    proxies.xheaders_without_proxies,
    proxies.xheaders_unknown,
    proxies.forgeable_address,
    proxies.address_of_proxy,
    proxies.address_of_peer,
)
"""Those that only read."""

QUESTIONS: tuple[Callable[[Subject], Awaitable[list[Finding]]], ...] = (cors.wildcard_cors, servers.look_at_servers)
"""Those that ask the application, or its servers."""


async def examine(subject: Subject) -> list[Finding]:
    """Return what all checks find, the worst first."""
    findings = [finding for check in CHECKS for finding in check(subject)]
    for ask in QUESTIONS:
        findings += await ask(subject)
    return sorted(findings, key=lambda finding: -LEVELS.index(finding.level))
