"""Metrics of the tagging server, in the Prometheus text format."""

import time
from collections.abc import Callable

from polytag.serving.web.http import (
    ASGIApp,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Message,
    ProcessCollector,
    Receive,
    Scope,
    Send,
    generate_latest,
)

SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Upper bounds of the buckets of the latency histogram, in seconds."""


class Metrics:
    """The metrics of one app, in a separate registry.

    Args:
        waiting: function that returns the number of waiting photos.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("polytag_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "polytag_request_seconds",
            "Seconds from the headers of a request to the end of the response.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.photos = Counter(
            "polytag_photos",
            "Photos by outcome (tagged or unreadable).",
            ("outcome",),
            registry=self.registry,
        )
        self.batch = Histogram(
            "polytag_batch_photos", "Photos per call to a model.", buckets=(1, 2, 4, 8), registry=self.registry
        )
        Gauge("polytag_waiting_photos", "Photos waiting in the queue.", registry=self.registry).set_function(waiting)

    def text(self) -> bytes:
        """Return the current values in the Prometheus text format."""
        return generate_latest(self.registry)


class Measure:
    """ASGI middleware that counts and times all requests, including refused ones.

    Requests on connections beyond the limits do not reach the app, so their answer needs this middleware as well.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            # Clients can request any number of unknown paths, so all unknown paths are counted under one name. Refused
            # requests have no route either.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)
