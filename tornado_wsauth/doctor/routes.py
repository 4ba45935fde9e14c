"""Which handlers an application routes to, found by reading its rules. `subject` imports this module."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.routing import DefaultHostMatches, HostMatches, PathMatches, Rule, RuleRouter
from tornado.web import Application, RequestHandler


@dataclass(frozen=True, slots=True)
class Route:
    """One handler, and how a request gets to it. ``host`` and ``matcher`` are None where any host or path does."""

    application: Application
    handler: type[RequestHandler]
    matcher: PathMatches | None = None
    host: str | None = None
    """A regular expression."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        """The path as it was written; ``*`` for any."""
        return "*" if self.matcher is None else self.matcher.regex.pattern.removesuffix("$")

    @property
    def where(self) -> str:
        """The route as a person would name it: ``/ws/chat (Chat)``."""
        host = "" if self.host is None else f" on {self.host.removesuffix('$')}"
        return f"{self.pattern}{host} ({self.handler.__qualname__})"

    @property
    def path(self) -> str | None:
        """A path that leads there; None if none is found."""
        if self.matcher is None:
            return "/"
        try:
            path = self.matcher.reverse(*["1"] * self.matcher.regex.groups)
        except (ValueError, TypeError, AssertionError):  # too complicated to be turned round, as Tornado finds
            return None
        return path if path is not None and self.matcher.regex.match(path) else None


@dataclass(slots=True)
class Routing:
    """What the rules lead to. ``opaque``: names of what only knows when it is asked where a request goes."""

    routes: list[Route] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Way:
    """How we have got to a rule's target."""

    application: Application | None = None
    matcher: PathMatches | None = None
    host: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    above: tuple[object, ...] = ()

    def through(self, rule: Rule) -> _Way:
        matcher, host = self.matcher, self.host
        if isinstance(rule.matcher, PathMatches):
            matcher = rule.matcher  # a nested path is matched whole, not what the outer one left of it
        elif isinstance(rule.matcher, (HostMatches, DefaultHostMatches)):
            host = rule.matcher.host_pattern.pattern
        return _Way(self.application, matcher, host, rule.target_kwargs or {}, self.above)


def find_routes(root: object) -> Routing:
    """Walk the rules of an `Application` or a router, through nested ones and hosts, in the order they are asked."""
    routing, seen = Routing(), set()
    for found in _walk(root, _Way()):
        if isinstance(found, str):
            if found not in routing.opaque:
                routing.opaque.append(found)
        # With a default host, Tornado keeps the rules of every host twice.
        elif (key := (id(found.application), found.handler, found.pattern, found.host)) not in seen:
            seen.add(key)
            routing.routes.append(found)
    return routing


def _walk(target: object, way: _Way) -> Iterator[Route | str]:
    if any(target is one for one in way.above):
        return  # a router that leads to itself
    above = (*way.above, target)
    if isinstance(target, Application):
        inside = _Way(target, way.matcher, way.host, {}, above)
        yield from _walk(target.default_router, inside)
    elif isinstance(target, RuleRouter):
        inside = _Way(way.application, way.matcher, way.host, {}, above)
        for rule in target.rules:
            yield from _walk(rule.target, inside.through(rule))
    elif inspect.isclass(target) and issubclass(target, RequestHandler) and way.application is not None:
        yield Route(way.application, target, way.matcher, way.host, way.kwargs)
    else:
        yield getattr(target, "__qualname__", None) or type(target).__qualname__
