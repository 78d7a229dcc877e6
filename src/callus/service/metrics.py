"""What Prometheus is told: how much, how long, how often; nothing of whom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from callus.service.jobs import ENDED
from callus.service.tables import Job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from callus.service.database import Database

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The service's own registry, so that two services in one process do not mix. Threads may share it."""

    def __init__(self, database: Database) -> None:
        """Open it.

        Args:
            database: whose jobs are counted when somebody asks.
        """
        self._database = database
        self._registry = CollectorRegistry()
        self._jobs = Gauge("callus_jobs", "Jobs by kind and state.", ["kind", "state"], registry=self._registry)
        self._answers = Counter("callus_answers", "Answers by level.", ["level"], registry=self._registry)
        self._took = Histogram(
            "callus_answer_seconds", "What an answer takes.", buckets=_SECONDS, registry=self._registry
        )
        self._requests = Counter(
            "callus_http_requests", "Requests.", ["method", "route", "status"], registry=self._registry
        )
        self._http = Histogram(
            "callus_http_seconds", "To a response's first byte.", ["route"], buckets=_SECONDS, registry=self._registry
        )

    def answered(self, level: str, seconds: float) -> None:
        """Count an answer."""
        self._answers.labels(level).inc()
        self._took.observe(seconds)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request, by its route's pattern."""
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._http.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        with self._database.reading() as session:
            counts = session.execute(
                sa.select(Job.kind, Job.state, sa.func.count())
                .where(Job.state.not_in(ENDED))
                .group_by(Job.kind, Job.state)
            ).all()
        self._jobs.clear()
        for kind in ("identify", "deliver"):
            for state in ("waiting", "taken", "stuck"):
                self._jobs.labels(kind, state).set(0)
        for kind, state, count in counts:
            self._jobs.labels(kind, state).set(count)
        return generate_latest(self._registry)


class Counting:
    """Counts an application's requests."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        """Put it around one."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, told = time.perf_counter(), False

        async def count(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start" and not told:
                told = True
                route = getattr(scope.get("route"), "path_format", None) or "other"
                self._metrics.requested(scope["method"], route, message["status"], time.perf_counter() - begun)
            await send(message)

        await self._app(scope, receive, count)
