"""What must hold for every input of the parsers that strangers reach. Each property takes bytes and asserts.

`tests.fuzz.__main__` feeds them what atheris finds, `tests.test_fuzz_parsers` what Hypothesis makes up. Where an input
has several parts, its first bytes choose among the shapes it is given in.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import logging
import string
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, unquote_plus

from tornado.escape import parse_qs_bytes
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPServerRequest, RequestStartLine

from tests.fuzz.json_reader import NotJSON, read
from tests.jwt_factory import NOW, SECRET, at_once, b64, forge, sign, verifier
from tornado_wsauth.errors import AuthError
from tornado_wsauth.gate import parse_first_message
from tornado_wsauth.handshake import TOKEN, Refused, redeem
from tornado_wsauth.redaction import RedactTokens, take_query_argument
from tornado_wsauth.tokens import TokenRecord, is_well_formed

MAX_FIRST_MESSAGE = 1000  # characters
DEEP = 200  # nested deeper than this, it depends on the stack whether Python's json reads a text
CANARY = "CANARY-" + "c" * 29 + "-CANARY"
ALPHABET = frozenset(string.ascii_letters + string.digits + "-_")
FLAGS = 8  # bytes at the beginning of an input that choose shapes


# The first message


def first_message(data: bytes) -> None:
    """The gate takes exactly the JWT of the one message that the protocol allows, and never raises."""
    assert parse_first_message(data, MAX_FIRST_MESSAGE) is None, "a binary message"
    message = data.decode("utf-8", "replace")
    got = parse_first_message(message, MAX_FIRST_MESSAGE)
    assert got is None or (type(got) is str and got and all(ord(character) < 128 for character in got))
    if message.count("[") + message.count("{") > DEEP:
        return
    assert got == _jwt_of(message), f"the gate says {got!r}, another reader {_jwt_of(message)!r}"
    if got is not None:
        frame = json.loads(message)
        assert (frame["type"], frame["token"]) == ("jwt", got)


def _jwt_of(message: str) -> str | None:
    try:
        frame = read(message)
    except NotJSON:
        return None
    if len(message) > MAX_FIRST_MESSAGE or type(frame) is not dict or frame.get("type") != "jwt":
        return None
    jwt = frame.get("token")
    return jwt if type(jwt) is str and 0 < len(jwt) == len(jwt.encode("utf-8", "surrogatepass")) else None


# The connection token


def query_token(data: bytes) -> None:
    """A token is taken out of a request without a trace, the rest of which stays; only a good one is redeemed."""
    values = _taken(data.decode("latin1"))
    _redeemed_if_good(values)
    _redeemed_if_good([data])

    flags, around = data[:FLAGS], data[FLAGS:].decode("latin1")
    if "CANARY" in unquote_plus(around, "latin1"):
        return  # an argument of another name may hold what it likes
    before, _, after = around.partition("\n")
    query = f"{before}&{_percent_encoded('token', flags[:4])}={_percent_encoded(CANARY, flags[4:])}&{after}"
    assert CANARY.encode() in _taken(query)


def _taken(query: str) -> list[bytes]:
    """Take the token out of a request and check everything about it but the values, which are returned."""
    try:
        request = _request(f"/ws?{query}")
    except HTTPInputError:
        return []  # Tornado answers this one itself
    before = copy.deepcopy(request.arguments)
    values = take_query_argument(request, "token")
    assert values == before.pop("token", [])
    assert request.arguments == request.query_arguments == before
    assert parse_qs_bytes(request.query, keep_blank_values=True) == before
    assert request.path == "/ws"
    assert request.uri == ("/ws?" + request.query if request.query else "/ws")
    assert take_query_argument(request, "token") == []
    if "CANARY" not in repr(before):
        known = "\n".join([repr(request), request.full_url(), repr(vars(request))])
        assert "CANARY" not in unquote_plus(known, "latin1"), known
    return values


def _redeemed_if_good(values: list[bytes]) -> None:
    asked: list[str] = []

    async def redeem_token(token: str, *, spender: str | None) -> TokenRecord:
        asked.append(token)
        return TokenRecord("alice", 0, 1)

    auth = SimpleNamespace(redeem_token=redeem_token, max_connections_per_user=None, bind_tokens=())
    admission: Any = SimpleNamespace(auth=auth, handler=SimpleNamespace(request=_request("/ws")))
    good = len(values) == 1 and len(values[0]) == 43 and all(chr(byte) in ALPHABET for byte in values[0])
    try:
        outcome: object = at_once(redeem(admission, values))
    except Refused as refused:
        outcome = refused.answer, refused.reason
    if good:
        assert (outcome, asked) == ("alice", [values[0].decode()])
    else:
        assert (outcome, asked) == ((TOKEN, "token_malformed" if values else "token_missing"), [])
    for value in values:
        assert is_well_formed(value.decode("latin1")) == (len(value) == 43 and ALPHABET.issuperset(map(chr, value)))


def _request(uri: str) -> HTTPServerRequest:
    connection: Any = SimpleNamespace(context=SimpleNamespace(remote_ip="192.0.2.1", protocol="http"))
    headers = HTTPHeaders({"Host": "app.example"})
    return HTTPServerRequest(
        headers=headers, connection=connection, start_line=RequestStartLine("GET", uri, "HTTP/1.1")
    )


def _percent_encoded(text: str, flags: bytes) -> str:
    """Return ``text`` with those letters percent-encoded that the bits of ``flags``, repeated, choose."""
    flags = flags or b"\0"
    written = []
    for place, letter in enumerate(text):
        bits = flags[place // 8 % len(flags)] >> place % 8
        hexadecimal = f"%{ord(letter):02x}" if place % 2 else f"%{ord(letter):02X}"
        written.append(hexadecimal if bits & 1 else letter)
    return "".join(written)


# The logging filter

_redact = RedactTokens()
_redact.add("token")


def logged_token(data: bytes) -> None:
    """Whatever is logged around it and however it is percent-encoded, no token comes out of the filter."""
    flags, around = data[:FLAGS], data[FLAGS:].decode("latin1")
    if "CANARY" in unquote(around):
        return
    before, _, after = around.partition("\n")
    argument = f"{_percent_encoded('token', flags[:4])}={_percent_encoded(CANARY, flags[4:])}"
    # What follows a token in a URI is the next argument or the fragment, or the URI ends.
    for uri in (f"/x?{argument}", f"/{before}?{argument}&{after}", f"/?{before}&{argument}#{after}"):
        error = ValueError(uri)
        for msg, args, exc_info in (
            ("404 GET %s (%s)", (uri, around), None),
            ("Uncaught exception\n%r", (SimpleNamespace(uri=uri),), (ValueError, error, None)),
            (uri, (), None),
        ):
            record = logging.LogRecord("tornado.access", logging.WARNING, "x.py", 1, msg, args, exc_info)
            assert _redact.filter(record), "a record was swallowed"
            written = logging.Formatter().format(record)
            assert "CANARY" not in unquote(written), written
            assert "[redacted]" in written
        broken = logging.LogRecord("tornado.access", logging.WARNING, "x.py", 1, "%d", (uri,), None)
        assert _redact.filter(broken), "a record was swallowed that its handler is to complain about"


# The JWT

_verifier = verifier()


def hostile_jwt(data: bytes) -> None:
    """`JWTVerifier.verify` raises `AuthError` alone, and returns claims only that were signed and are complete.

    An odd first byte says that what follows is a header and a payload, apart by a NUL, to be rightly signed.
    """
    rest = data[1:]
    if data[:1] and data[0] & 1:
        header, _, payload = rest.partition(b"\0")
        token = forge(header, payload)
    else:
        token = rest.decode("latin1")
    claims, error = _verified(token)
    if error is not None:
        assert type(error) is AuthError
        assert error.reason in ("jwt_invalid", "jwt_expired")
        assert error.__context__ is None
        return
    header_text, payload_text, signature_text = token.split(".")
    signing_input = f"{header_text}.{payload_text}".encode()
    # One text alone stands for these bytes: a second spelling would be a second token.
    assert signature_text == b64(hmac.digest(SECRET.encode(), signing_input, hashlib.sha256))
    assert [b64(_decoded(segment)) for segment in (header_text, payload_text)] == [header_text, payload_text]
    header_members = json.loads(_decoded(header_text))
    assert header_members["alg"] == "HS256"
    assert not header_members.keys() & {"crit", "b64", "jku", "jwk", "x5u", "x5c"}
    assert claims == json.loads(_decoded(payload_text))
    assert (isinstance(claims["sub"], str) and claims["sub"]) or type(claims["sub"]) is int
    assert NOW < claims["exp"] < float("inf")
    assert "aud" not in claims or claims["aud"] is None


def _verified(token: str) -> tuple[dict[str, Any], AuthError | None]:
    try:
        return at_once(_verifier.verify(token)), None
    except AuthError as error:
        return {}, error


def _decoded(segment: str) -> bytes:
    return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)


def _respelled(token: str) -> str:
    """Return ``token`` with another last letter that stands for the same bits of the signature."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


@dataclass(frozen=True)
class Target:
    """A property, and the inputs to begin with."""

    check: Callable[[bytes], None]
    seeds: list[bytes]


_HEADER, _PAYLOAD = b'{"alg":"HS256","typ":"JWT","kid":"1"}', b'{"sub":"alice","exp":1700000060,"nbf":1}'

TARGETS = {
    "first_message": Target(
        first_message,
        [
            b'{"type":"jwt","token":"a.b.c"}',
            b'{"type":"jwt","token":"a.b.c","more":[1,-2.5e3,true,false,null,{"x":"\\u00e9\\n"}]}',
            b'{"type":"jwt","token":"a","token":"b"}',
            b'{"type":"jwt","token":"\\ud800"}',
            b'{"type":"jwt","token":""}',
            b'{"type":"jwt","other":"a.b.c"}',
            b'{"type":"JWT","token":"a.b.c"}',
            b'["type","jwt","token","a.b.c"]',
            b'{"type":"jwt","token":{"$ne":null}}',
            b'{"type":"jwt","\\u0074oken":"a.b.c"}',
            '{"type":"jwt","token":"é"}'.encode(),
        ],
    ),
    "query_token": Target(
        query_token,
        [
            b"token=" + b"A" * 43,
            b"token=" + b"A" * 44,
            b"token=" + b"A" * 43 + b"%ff",
            b"token=" + b"A" * 43 + b"&token=" + b"B" * 43,
            b"a=1&token=abc&b=x+y%20z",
            b"%74oken=%41&t%6fken=&token",
            b"\x01\0\0\0\xff\x0f\0\0a=%2f%3D%26&&b;c=d\n#e=f?g",
            b"token[$ne]=&token%00=%ff",
        ],
    ),
    "logged_token": Target(
        logged_token, [b"\x01\0\0\0\xff\x0f\0\0a=%2f%3D%26&&b;c=d\n#e=f?g", b"\0" * FLAGS, b"\xff" * FLAGS + b"%\n%"]
    ),
    "hostile_jwt": Target(
        hostile_jwt,
        [
            b"\0" + sign(SECRET, "HS256").encode(),
            b"\0" + sign(SECRET.upper(), "HS256").encode(),
            b"\0" + _respelled(sign(SECRET, "HS256")).encode(),
            b"\0..",
            b"\1" + _HEADER + b"\0" + _PAYLOAD,
            b"\1" + _HEADER + b'\0{"sub":"alice"}',
            b"\1" + _HEADER + b'\0{"sub":"alice","exp":1700000060,"aud":"x"}',
            b"\1" + b'{"alg":"none","crit":["x"],"jku":"x"}\0{"aud":["x"],"iss":1,"iat":1e400,"jti":null}',
        ],
    ),
}
"""The properties by the names that ``python -m tests.fuzz`` knows them by."""
