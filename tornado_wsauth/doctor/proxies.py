"""Findings about whom the application believes when it is told where a request comes from."""

from __future__ import annotations

from collections.abc import Iterator

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.specimen import BELIEVED, CLAIMED, PEER, proxied_request
from tornado_wsauth.doctor.subject import Policy, Subject

_OVERWRITE = (
    "let the proxy overwrite X-Real-IP and X-Forwarded-For, and listen where only the proxy reaches the process"
)


def xheaders_without_proxies(subject: Subject) -> Iterator[Finding]:
    """A server that believes anybody about who he is."""
    server = subject.server
    if server is not None and server.xheaders and not server.trusted_downstream:
        yield Finding(
            "xheaders-without-proxies",
            "warning",
            "HTTPServer(xheaders=True)",
            "believes the X-Real-Ip, X-Forwarded-For and X-Forwarded-Proto of whoever connects; which proxies it may "
            "believe is not said",
            f"{_OVERWRITE}; then list its address in HTTPServer(trusted_downstream=[…]), or accept this with "
            "--ignore xheaders-without-proxies",
        )


def xheaders_unknown(subject: Subject) -> Iterator[Finding]:
    """Whether headers are believed is the server's to say, and there is none here."""
    if subject.server is None and subject.guarded:
        yield Finding(
            "xheaders-unknown",
            "note",
            "HTTPServer(xheaders=…)",
            "whether the server believes X-Real-Ip and X-Forwarded-For cannot be seen in an Application",
            f"name the HTTPServer instead, as module:server, or a function that returns it; and {_OVERWRITE}",
        )


def forgeable_address(subject: Subject) -> Iterator[Finding]:
    """Tokens are bound to an address that the client chooses."""
    for policy in _bound_to_addresses(subject):
        if _address(policy) == CLAIMED:
            yield Finding(
                "forgeable-address",
                "warning",
                policy.at("client_address=…"),
                "reads the address from a header, from whoever sends it: a client can write what it likes there, and "
                "tokens are bound to it",
                "use client_address=lambda request: request.remote_ip with HTTPServer(xheaders=True), and "
                f"{_OVERWRITE}",
            )


def address_of_proxy(subject: Subject) -> Iterator[Finding]:
    """Tokens are bound to the address of the proxy, which all clients share."""
    if subject.server is None or not subject.server.xheaders:
        return
    for policy in _bound_to_addresses(subject):
        if _address(policy) == PEER:
            yield Finding(
                "address-of-proxy",
                "warning",
                policy.at('bind_tokens=["address"]'),
                "the server is behind a proxy (xheaders=True), and tokens are bound to the address of the TCP peer: "
                "that is the proxy's, the same for all clients",
                "add client_address=lambda request: request.remote_ip",
            )


def address_of_peer(subject: Subject) -> Iterator[Finding]:
    """Tokens are bound to what remote_ip says, and whether that means anything is the server's to say."""
    if subject.server is not None and subject.server.xheaders:
        return
    for policy in _bound_to_addresses(subject):
        if _address(policy) == BELIEVED:
            known = "the server does not (xheaders is off)" if subject.server else "that cannot be seen from here"
            yield Finding(
                "remote-ip-without-xheaders",
                "note" if subject.server is None else "warning",
                policy.at("client_address=…"),
                f"request.remote_ip is the client's only where the server reads the proxy's headers; {known}",
                f"behind a proxy: HTTPServer(app, xheaders=True), and {_OVERWRITE}; without one: leave client_address "
                "out",
            )


def _bound_to_addresses(subject: Subject) -> list[Policy]:
    return [policy for policy in subject.policies if "address" in policy.auth.bind_tokens]


def _address(policy: Policy) -> str | None:
    """Return which of three addresses ``client_address`` takes for the client's; None if it takes a fourth."""
    try:
        return policy.auth.client_address(proxied_request())
    except Exception:  # it is the application's, and may want more of a request than this one has
        return None
