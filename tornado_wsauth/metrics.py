"""Prometheus' numbers: `Metrics` counts what a `WSAuth` does, `MetricsHandler` shows it. The extra ``metrics``.

Applications import it by name, and only then is ``prometheus_client`` loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from time import perf_counter
from typing import get_args

from tornado.web import RequestHandler

from tornado_wsauth.auth import find_auth
from tornado_wsauth.errors import CloseCode, ConfigurationError, TokenRejection
from tornado_wsauth.fanout import FanOut, Slow
from tornado_wsauth.observer import Audience, Observer, Service, State

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import REGISTRY, Collector
except ModuleNotFoundError as _missing:
    raise ImportError(
        'tornado_wsauth.metrics needs prometheus_client: pip install "tornado_wsauth[metrics]"', name=_missing.name
    ) from _missing

__all__ = ["Metrics", "MetricsHandler"]

_STORE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_HANDSHAKE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_CODES = {*map(int, CloseCode), 1000, 1003, 1007, 1009, 1010}
"""The close codes that are told apart: a client may send any, and each would be a time series (RFC 6455 §7.4)."""


class Metrics(Observer):
    """Counts what a `WSAuth` does, for Prometheus: ``WSAuth(metrics=Metrics())``.

    ``registry``: where the numbers are registered; left out, `prometheus_client`'s own, which other libraries use as
    well. ``namespace`` begins every name; two `WSAuth` objects under one registry need two.

    No label ever holds a user id, a token or an address. ``docs/operations.md`` lists the metrics. Each process counts
    for itself, and is scraped for itself. Raises `ConfigurationError` for a registry that has these names already.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, namespace: str = "wsauth") -> None:
        if not (isinstance(namespace, str) and namespace.isascii() and namespace.isidentifier()):
            raise ConfigurationError(f"Metrics(namespace={namespace!r}): must be a plain name; 'wsauth' is the default")
        self.registry = registry
        self._upgraded_at: dict[object, float] = {}  # on the performance counter, until the first JWT is settled
        try:
            self._register(namespace)
        except ValueError as error:
            raise ConfigurationError(
                f"Metrics(namespace={namespace!r}): the registry has metrics of these names, of another Metrics;"
                " give each WSAuth its own namespace, or its own CollectorRegistry()"
            ) from error

    def _register(self, namespace: str) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"{namespace}_{name}", text, registry=self.registry)

        # labels() takes as long as all that comes after it, and there is as little to keep as there are series.
        def counters(name: str, text: str, *labels: str) -> Callable[..., Counter]:
            return cache(Counter(f"{namespace}_{name}", text, labels, registry=self.registry).labels)

        self._issued = counter("tokens_issued_total", "Connection tokens issued.")
        self._refused = counters("token_requests_refused_total", "Requests for a token that were refused.", "reason")
        self._redeemed = counters("token_redeems_total", "Tokens redeemed, by what the store said.", "result")
        about = "Clients let in, or renewed, and clients turned away at whichever step, and why."
        self._authentications = counters("authentications_total", about, "result", "reason")
        self._authenticating = Histogram(
            f"{namespace}_authentication_seconds",
            "From the 101 until the first JWT was accepted.",
            buckets=_HANDSHAKE_BUCKETS,
            registry=self.registry,
        )
        self._closes = counters("closes_total", "Connections that ended, by close code.", "code")
        self._broadcasts = counters("broadcasts_total", "Messages to many, by whom they were for.", "audience")
        self._deliveries = counter("deliveries_total", "Connections that such messages were handed to or queued for.")
        self._drops = counters("slow_reader_drops_total", "Messages that came to a reader too slow for it.", "policy")
        self._errors = {
            service: counters(f"{service}_errors_total", f"Calls that the {name} did not answer.", "operation")
            for service, name in _SERVICES.items()
        }
        self._seconds = {service: self._histograms(namespace, service, name) for service, name in _SERVICES.items()}
        self._gaps = counter("backplane_gaps_total", "Times that messages of other processes may have been lost.")
        self._begin_at_zero()
        self._now = _Now(namespace)
        self.registry.register(self._now)

    def _histograms(self, namespace: str, service: Service, name: str) -> Callable[..., Histogram]:
        about = f"How long the {name} took to answer."
        histogram = Histogram(
            f"{namespace}_{service}_seconds", about, ["operation"], buckets=_STORE_BUCKETS, registry=self.registry
        )
        return cache(histogram.labels)

    def _begin_at_zero(self) -> None:
        """Make the series that alerts are about: Prometheus sees no increase in one that its first event brings."""
        for result in ("accepted", *get_args(TokenRejection), "error"):
            self._redeemed(result)
        for reason in _ALARMING:
            self._authentications("refused", reason)
        for code in CloseCode:
            self._closes(str(int(code)))
        for policy in get_args(Slow):
            self._drops(policy)
        for service, operations in _OPERATIONS.items():
            for operation in operations:
                self._errors[service](operation)

    def attach(self, look: Callable[[], State]) -> None:
        if self._now.look is not None:
            raise ConfigurationError("WSAuth(metrics=…): this Metrics is another WSAuth's; give each its own")
        self._now.look = look

    def token_issued(self) -> None:
        self._issued.inc()

    def token_refused(self, reason: str) -> None:
        self._refused(reason).inc()

    def token_redeemed(self, result: str) -> None:
        self._redeemed(result).inc()

    def upgraded(self, connection: object) -> None:
        self._upgraded_at[connection] = perf_counter()

    def recorded(self, connection: object, event: str, reason: str, code: int | None) -> None:
        upgraded_at = self._upgraded_at.pop(connection, None)
        match event:
            case "accepted":
                self._authentications(event, reason).inc()
                if upgraded_at is not None:
                    self._authenticating.observe(perf_counter() - upgraded_at)
                return
            case "refused":
                self._authentications(event, reason).inc()
                if code is not None and code < 1000:  # an HTTP status: there was no connection
                    return
        self._closes("none" if code is None else str(code) if code in _CODES else "other").inc()

    def broadcast(self, audience: Audience, fan_out: FanOut) -> None:
        self._broadcasts(audience).inc()
        self._deliveries.inc(fan_out.sent)

    def dropped(self, policy: Slow) -> None:
        self._drops(policy).inc()

    def answered(self, service: Service, operation: str, seconds: float, *, failed: bool) -> None:
        self._seconds[service](operation).observe(seconds)
        if failed:
            self._errors[service](operation).inc()

    def gap(self) -> None:
        self._gaps.inc()


_SERVICES: dict[Service, str] = {"store": "token store", "backplane": "backplane"}
_OPERATIONS: dict[Service, tuple[str, ...]] = {
    "store": ("start", "issue", "look", "redeem", "revoke", "check"),
    "backplane": ("start", "publish", "announce", "peers", "claim"),
}
_ALARMING = ("auth_timeout", "backplane_unavailable", "internal", "store_unavailable", "too_many_pending")
"""Reasons for which nobody is refused while all is well."""


class _Now(Collector):
    """The gauges: how things stand when Prometheus asks."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.look: Callable[[], State] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        state = None if self.look is None else self.look()
        connections = GaugeMetricFamily(f"{self._namespace}_connections", "Connections, by state.", labels=["state"])
        buffered = GaugeMetricFamily(f"{self._namespace}_buffered_bytes", "Bytes that wait for slow readers.")
        draining = GaugeMetricFamily(f"{self._namespace}_draining", "1 while the process ends its connections.")
        connected = GaugeMetricFamily(
            f"{self._namespace}_backplane_connected", "1 while messages of the other processes arrive."
        )
        if state is not None:
            for name in ("handshaking", "authenticating", "open", "closing"):
                connections.add_metric([name], getattr(state, name))
            buffered.add_metric([], state.buffered_bytes)
            draining.add_metric([], state.draining)
            if state.connected is not None:
                connected.add_metric([], state.connected)
        yield from (connections, buffered, draining, connected)


class MetricsHandler(RequestHandler):
    """``(r"/metrics", MetricsHandler)``: what Prometheus scrapes, in the format it asks for.

    It shows everything in the registry of ``WSAuth(metrics=…)``, to anybody who may ask: let only Prometheus reach it,
    on a port of its own or by the proxy's rules. The class attribute ``wsauth_setting`` names the application setting
    that holds the `WSAuth`. Raises `ConfigurationError`, answered with 500, where that has no `Metrics`.
    """

    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "HEAD")

    def get(self) -> None:
        metrics = find_auth(self.settings, type(self)).metrics
        if not isinstance(metrics, Metrics):
            raise ConfigurationError(f"WSAuth(metrics={metrics!r}): MetricsHandler needs a Metrics there")
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.set_header("Cache-Control", "no-store")
        self.finish(encode(metrics.registry))

    def head(self) -> None:
        self.get()
