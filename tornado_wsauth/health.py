"""`HealthHandler`: the HTTP route that a load balancer or an orchestrator asks whether to send clients here."""

from __future__ import annotations

from tornado.web import RequestHandler

from tornado_wsauth.auth import find_auth


class HealthHandler(RequestHandler):
    """Two routes in one: ``(r"/health/(live|ready)", HealthHandler)``.

    ``live`` answers 200 ``{"status": "ok"}`` for as long as the event loop turns: restart a process that does not.

    ``ready`` answers the same while clients can be served, and else 503
    ``{"status": "unavailable", "reasons": ["store_unavailable"]}``: send it no new ones. The reasons are ``draining``
    (`WSAuth.close` was called), ``store_unavailable`` (the token store does not answer) and ``backplane_unavailable``
    (messages of the other processes do not arrive). The store is asked at most once a second, however many ask.

    Anybody may ask; the answers hold nothing about anybody, and why something is unavailable is in the log. The class
    attribute ``wsauth_setting`` names the application setting that holds the `WSAuth`.
    """

    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "HEAD")

    async def get(self, question: str = "ready") -> None:
        reasons = [] if question == "live" else await find_auth(self.settings, type(self)).readiness.reasons()
        self.set_header("Cache-Control", "no-store")
        if not reasons:
            self.finish({"status": "ok"})
            return
        self.set_status(503)
        self.finish({"status": "unavailable", "reasons": reasons})

    async def head(self, question: str = "ready") -> None:
        await self.get(question)
