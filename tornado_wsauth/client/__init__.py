"""The client, for services and tests: a WebSocket that authenticates itself, and does so again when it breaks.

::

    async with connect("wss://app.example/ws/chat", token_url="https://app.example/ws/token", jwt=get_jwt) as chat:
        await chat.send("hello")
        async for message in chat:
            print(message)

The public names. `reactions`, `errors` and `backoff` know nothing of each other's users; `connection` is where it all
comes together; `terminal` is ``python -m tornado_wsauth connect``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tornado_wsauth.backoff import Seams
from tornado_wsauth.client.connection import Connection as Connection
from tornado_wsauth.client.credentials import Credentials, GetJWT, GetToken
from tornado_wsauth.client.errors import LoggedOut as LoggedOut
from tornado_wsauth.client.errors import Refused as Refused
from tornado_wsauth.client.errors import Stopped as Stopped
from tornado_wsauth.client.errors import TimedOut as TimedOut
from tornado_wsauth.client.errors import TryLater as TryLater
from tornado_wsauth.client.options import Options, SSLOptions, checked_token_url, socket_url
from tornado_wsauth.client.reactions import Close as Close
from tornado_wsauth.client.reactions import Reaction as Reaction
from tornado_wsauth.client.reactions import State as State
from tornado_wsauth.client.reactions import Step as Step
from tornado_wsauth.client.reactions import describe_close as describe_close
from tornado_wsauth.client.requests import token_from
from tornado_wsauth.errors import ConfigurationError

__all__ = [
    "Close",
    "Connection",
    "LoggedOut",
    "Reaction",
    "Refused",
    "State",
    "Step",
    "Stopped",
    "TimedOut",
    "TryLater",
    "connect",
    "describe_close",
]


def connect(
    url: str,
    *,
    jwt: str | GetJWT,
    token_url: str | None = None,
    get_token: GetToken | None = None,
    token_param: str = "token",
    subprotocols: Sequence[str] | None = None,
    origin: str | None = None,
    timeout: float = 10.0,
    retries: int | None = None,
    retry_interval: float = 1.0,
    max_retry_interval: float = 30.0,
    max_queue: int = 1000,
    max_message_size: int = 10 * 1024 * 1024,
    ssl_options: SSLOptions = None,
    on_state: Callable[[State], object] | None = None,
    on_close: Callable[[Close], object] | None = None,
    on_step: Callable[[Step], object] | None = None,
    decide: Callable[[Close], Reaction | None] | None = None,
    _seams: Seams | None = None,
) -> Connection:
    """Return a connection that begins when it is awaited or entered: both are done at the server's ``auth_ok``.

    ::

        async with connect(url, token_url=…, jwt=get_jwt) as connection: …
        connection = await connect(url, token_url=…, jwt=get_jwt)       # and connection.close() at the end

    Both raise `Stopped` if the connection stops before. Raises `ConfigurationError` at once for a wrong option.

    :arg url: The socket, ``ws://`` or ``wss://``, without a token; ``http://`` and ``https://`` are taken for these.
    :arg jwt: A function, sync or async, that returns a fresh JWT: called for each attempt and each renewal, and nothing
        it returns is kept. It may raise `LoggedOut` or `TryLater`. Or a JWT; the connection then ends with it.
    :arg token_url: Where a token is POSTed for, with the JWT as Bearer. 401 is `LoggedOut`, 429 and 503 `TryLater`.
    :arg get_token: Instead of ``token_url``, a function, sync or async, that takes the JWT and returns a new token.
    :arg token_param: The query argument that the token goes into.
    :arg subprotocols: What to offer the server; `Connection.subprotocol` is what it chose.
    :arg origin: The ``Origin`` to send, as a browser would, where the server has ``allowed_origins`` without None among
        them; such as ``"https://app.example"``.
    :arg timeout: Seconds that each step may take: the JWT, the token, the upgrade, the answer to the JWT.
    :arg retries: How many attempts in a row may fail and be followed by another one; ``auth_ok`` starts the count
        again. None for any number.
    :arg retry_interval: Seconds: the first wait is a random time up to this one, each further one up to twice as long.
    :arg max_retry_interval: Seconds: no wait is longer, but for a server's ``Retry-After``.
    :arg max_queue: How many messages wait for `Connection.recv` at most; then the socket is read no further. That goes
        for pings, too: who receives nothing for longer than the server waits for an answer, loses the connection.
    :arg max_message_size: Bytes; a larger message breaks the connection (1006).
    :arg ssl_options: An `ssl.SSLContext`, or a dict as in Tornado, for the socket and for ``token_url``.
    :arg on_state: Called with each new state. This and the next three are plain functions, and return at once.
    :arg on_close: Called with a `Close` when an attempt or a connection has ended.
    :arg on_step: Called with each step as it begins.
    :arg decide: Called with a `Close` to have the last word: ``"stop"``, ``"retry"``, or None for what it says already.
    """
    if (token_url is None) == (get_token is None):
        what = "neither token_url nor get_token is given" if token_url is None else "token_url and get_token are given"
        raise ConfigurationError(f"connect(): {what}; give one of them")
    if get_token is not None and not callable(get_token):
        raise ConfigurationError("connect(): get_token is no function; give one that takes the JWT and returns a token")
    if isinstance(subprotocols, str):
        raise ConfigurationError(f"connect(): subprotocols={subprotocols!r}; write a list, [{subprotocols!r}]")
    seams = Seams() if _seams is None else _seams
    options = Options(
        url=socket_url(url),
        token_param=token_param,
        subprotocols=None if subprotocols is None else list(subprotocols),
        origin=origin,
        timeout=timeout,
        retries=retries,
        retry_interval=retry_interval,
        max_retry_interval=max_retry_interval,
        max_queue=max_queue,
        max_bytes=max_message_size,
        ssl_options=ssl_options,
        on_state=on_state,
        on_close=on_close,
        on_step=on_step,
        decide=decide,
        seams=seams,
    )
    source = get_token or token_from(checked_token_url(token_url), timeout, ssl_options, origin)
    return Connection(options, Credentials(jwt, source, timeout, seams))
